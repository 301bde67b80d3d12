"""Tests of what a worker and a task's process send each other."""

from __future__ import annotations

from math import inf, nan
from struct import pack
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.codec import Encoded
from crew_tx.message import Answer, Call
from crew_tx.tasks.processes.frames import LONGEST_HEAD, Frame, FrameError, FrameReader, write_frame
from crew_tx.tasks.processes.messages import (
    Start,
    TaskEvent,
    read_answer,
    read_call,
    read_event,
    read_failed,
    read_start,
    write_answer,
    write_call,
    write_event,
    write_start,
)

CALL = Call(
    "task", "id", b"body", "text/plain", "gzip", "client", 1000, 2000, 3, 4, False, 5, {"a": [1]}, True
)
ANSWER = Answer("id", b"body", "text/plain", "gzip", "raised", "w", 0.5, False, {"a": {"b": b"c"}})
EVENT = TaskEvent("news", Encoded(b"body", "text/plain", None), {"a": 1}, False)


def read(data: bytes) -> Frame:
    (frame,) = FrameReader(1000).feed(data)
    return frame


class FrameTests(SynchronousTestCase):
    def test_frames_are_cut_out_of_the_stream_wherever_it_was_cut(self) -> None:
        """Byte by byte, and all at once."""
        data = write_frame("one", {"a": 1}, b"x" * 10) + write_frame("two", {})
        expected = [Frame("one", {"a": 1}, b"x" * 10), Frame("two", {}, b"")]
        self.assertEqual(FrameReader(10).feed(data), expected)
        reader = FrameReader(10)
        self.assertEqual([frame for byte in data for frame in reader.feed(bytes([byte]))], expected)

    def test_what_is_too_large_is_refused_before_it_came(self) -> None:
        """By its lengths alone."""
        for lengths in ((LONGEST_HEAD + 1, 0), (1, 11)):
            self.assertRaises(FrameError, FrameReader(10).feed, pack("!II", *lengths))

    def test_what_is_no_frame_is_refused(self) -> None:
        """A head that is no CBOR, no map, or says no kind."""
        for head in (b"\xff", b"\x01", b"\xa0", b"\xa1\x64kind\x01"):
            self.assertRaises(FrameError, FrameReader(10).feed, pack("!II", len(head), 0) + head)


class MessageTests(SynchronousTestCase):
    def broken(self, frame: bytes, reader: Any, *arguments: Any, **wrong: Any) -> None:
        """Assert that a frame is refused with one thing changed."""
        good = read(frame)
        self.assertRaises(FrameError, reader, good._replace(head={**good.head, **wrong}), *arguments)

    def test_calls_answers_events_and_the_start_come_as_they_went(self) -> None:
        """All fields."""
        self.assertEqual(read_call(read(write_call(CALL, 1.5))), (CALL, 1.5))
        self.assertEqual(read_answer(read(write_answer(ANSWER)), CALL, "w"), ANSWER)
        self.assertEqual(read_event(read(write_event(EVENT))), EVENT)
        start = Start("w", 1000, True, {"counter": 1}, ["/a"])
        self.assertEqual(read_start(read(write_start(start))), start)

    def test_settings_that_cannot_be_sent_are_left_out(self) -> None:
        """And those that are too large together."""
        settings = {"a": object(), "b": 1, "c": "x" * 100_000, "d": "x" * 100_000, "e": 2}
        start = read_start(read(write_start(Start("w", 1000, False, settings, []))))
        self.assertEqual(list(start.settings), ["b", "c", "e"])

    def test_another_frame_than_is_due_is_refused(self) -> None:
        """At the child's side."""
        self.assertRaises(FrameError, read_start, Frame("call", {}, b""))
        self.assertRaises(FrameError, read_call, Frame("start", {}, b""))

    def test_answers_are_checked(self) -> None:
        """Each field that a task could have written."""
        frame = write_answer(ANSWER)
        for wrong in (
            {"call_id": "other"},
            {"error": "odd"},
            {"error": 1},
            {"elapsed": -1.0},
            {"elapsed": nan},
            {"elapsed": inf},
            {"elapsed": "1"},
            {"content_type": ""},
            {"content_type": "x" * 256},
            {"content_type": None},
            {"content_encoding": 1},
            {"headers": []},
            {"headers": {"CC": ["a"]}},
            {"headers": {1: 1}},
        ):
            self.broken(frame, read_answer, CALL, "w", **wrong)

    def test_events_are_checked(self) -> None:
        """As answers are."""
        for wrong in (
            {"channel": 1},
            {"channel": "x" * 256},
            {"channel": "#"},
            {"persistent": 1},
            {"headers": {"x-a": 1}},
        ):
            self.broken(write_event(EVENT), read_event, **wrong)

    def test_a_reason_is_bounded(self) -> None:
        """And may be missing."""
        self.assertEqual(len(read_failed(Frame("failed", {"reason": "x" * 100_000}, b""))), 20_000)
        self.assertIn("doesn't say", read_failed(Frame("failed", {"reason": 1}, b"")))
