"""Answers and dead letters, as the errors that they stand for."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import (
    CrewError,
    ExpirationError,
    PoisonError,
    QueueFullError,
    RejectedError,
    RemoteError,
    TaskTimeoutError,
    UnknownTaskError,
)
from crew_tx.message import Answer, DeadLetter
from crew_tx.rpc.outcome import answer_error, dead_letter_error

_BODY = {"type": "ValueError", "message": "no", "traceback": "Traceback ..."}


class DeadLetterTests(SynchronousTestCase):
    """What the broker's reasons mean."""

    def test_expired(self) -> None:
        """With all that the broker wrote of it."""
        error = dead_letter_error(DeadLetter("c1", "expired", "crew.tasks.sum", 1.5, 5.0))
        assert isinstance(error, ExpirationError)
        self.assertEqual(
            (error.reason, error.expiration, error.queue, error.time), ("expired", 1.5, "crew.tasks.sum", 5.0)
        )
        self.assertIn("(queue crew.tasks.sum)", str(error))

    def test_the_others(self) -> None:
        """Pushed out, delivered too often, rejected."""
        for reason, kind in (
            ("maxlen", QueueFullError),
            ("delivery_limit", PoisonError),
            ("rejected", RejectedError),
        ):
            error: Any = dead_letter_error(DeadLetter("c1", reason, "q", None, None))
            self.assertIs(type(error), kind)
            self.assertEqual((error.reason, error.queue), (reason, "q"))
            self.assertIn("(queue q)", str(error))

    def test_a_reason_of_tomorrow(self) -> None:
        """It counts as rejected, and is named."""
        error: Any = dead_letter_error(DeadLetter("c1", "moonshine", None, None, None))
        self.assertIs(type(error), RejectedError)
        self.assertEqual((error.reason, error.queue), ("moonshine", None))
        self.assertIn("moonshine", str(error))
        self.assertNotIn("queue", str(error))


class AnswerTests(SynchronousTestCase):
    """What a worker's errors mean."""

    def error(self, kind: str, body: object = _BODY) -> CrewError:
        """The error of an answer of that kind."""
        return answer_error(Answer("c1", b"", "a/b", error=kind, worker="w"), body)  # type: ignore[arg-type]

    def test_raised(self) -> None:
        """The remote exception as data: never an object of its class."""
        error = self.error("raised")
        assert isinstance(error, RemoteError)
        self.assertEqual(
            (error.type, error.message, error.traceback, error.worker),
            ("ValueError", "no", "Traceback ...", "w"),
        )

    def test_over_its_time_limit(self) -> None:
        """With the worker's words."""
        error = self.error("timeout")
        assert isinstance(error, TaskTimeoutError)
        self.assertEqual((str(error), error.worker), ("no", "w"))

    def test_an_unknown_task(self) -> None:
        """With the worker's words."""
        error = self.error("unknown-task")
        assert isinstance(error, UnknownTaskError)
        self.assertEqual((str(error), error.worker), ("no", "w"))

    def test_held_too_long(self) -> None:
        """The worker never started it: it expired."""
        error = self.error("expired")
        assert isinstance(error, ExpirationError)
        self.assertEqual((str(error), error.reason), ("no", "held"))

    def test_a_kind_of_tomorrow_was_raised(self) -> None:
        """A newer worker may know more kinds than this caller."""
        for kind in ("undecodable", "moonshine"):
            self.assertIs(type(self.error(kind)), RemoteError)

    def test_a_body_that_is_no_such_map_has_no_words(self) -> None:
        """It is an error all the same."""
        for body in (None, "no", [], {}, {"type": 5, "message": None, "traceback": b"x"}):
            error = self.error("raised", body)
            assert isinstance(error, RemoteError)
            self.assertEqual((error.type, error.message, error.traceback), ("", "", ""))
