"""What a forked worker prints, in its supervisor's log."""

from __future__ import annotations

import json
from typing import Any

from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.cli.relay import LONGEST_LINE, Lines, LoggedLine, Relay, logged_line


class LinesTests(SynchronousTestCase):
    """Bytes become lines."""

    def lines(self, *pieces: bytes) -> list[bytes]:
        received: list[bytes] = []
        lines = Lines(received.append)
        for piece in pieces:
            lines.feed(piece)
        return received

    def test_lines_come_whole_however_they_are_cut(self) -> None:
        """Empty ones are dropped, and one that has not ended waits."""
        self.assertEqual([b"ab", b"c", b"d"], self.lines(b"a", b"b\nc", b"\n\nd\ne"))

    def test_the_end_makes_a_line_of_what_waits(self) -> None:
        """A process may die inside a line."""
        received: list[bytes] = []
        lines = Lines(received.append)
        lines.feed(b"a")
        lines.end()
        lines.end()
        self.assertEqual([b"a"], received)

    def test_a_long_line_is_cut(self) -> None:
        """And what follows it is whole again."""
        first, second = self.lines(b"x" * LONGEST_LINE, b"x" * LONGEST_LINE, b"x\ny\n")
        self.assertEqual((LONGEST_LINE, b"y"), (len(first), second))


class LoggedLineTests(SynchronousTestCase):
    """JSON lines."""

    def test_our_own_are_read(self) -> None:
        """Other keys are passed over."""
        line = {"time": "t", "level": "warn", "logger": "a", "message": "é"}
        self.assertEqual(LoggedLine("warn", "a", "é"), logged_line(json.dumps(line).encode()))

    def test_others_are_not(self) -> None:
        """Tasks print what they like."""
        for line in (b"x", b"{", b"{}", b"[1]", b'{"level": 1, "logger": "a", "message": "b"}', b"{\xff}"):
            self.assertIsNone(logged_line(line), line)
        self.assertIsNone(logged_line(b'{"a":' * 100_000))


class RelayTests(SynchronousTestCase):
    """One process's lines."""

    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.relay = Relay("fork-1")

    def logged(self) -> list[tuple[str, str, str | None]]:
        return [(each["log_level"].name, each["log_namespace"], formatEvent(each)) for each in self.events]

    def line(self, **fields: Any) -> bytes:
        return json.dumps({"level": "info", "logger": "a.b", "message": "m", **fields}).encode() + b"\n"

    def test_its_log_keeps_levels_and_loggers(self) -> None:
        """With its name in front."""
        self.relay.out_received(self.line(level="warn") + self.line(level="none", message="{x}"))
        self.assertEqual([("warn", "a.b", "[fork-1] m"), ("info", "a.b", "[fork-1] {x}")], self.logged())

    def test_what_else_it_prints_is_logged_line_by_line(self) -> None:
        """Escaped; on stderr it is an error."""
        self.relay.out_received(b"hello {x}\x1b\n")
        self.relay.err_received(b"ouch \xff\n")
        self.assertEqual(
            [
                ("info", "crew_tx.cli.relay", "[fork-1] hello {x}\\x1b"),
                ("error", "crew_tx.cli.relay", "[fork-1] ouch \\xff"),
            ],
            self.logged(),
        )

    def test_its_last_words_are_its_last_critical_message(self) -> None:
        """They say why it ended."""
        self.relay.out_received(self.line(level="critical", message="why") + self.line())
        self.assertEqual("why", self.relay.last_words)

    def test_lines_that_have_not_ended_are_logged_at_the_end(self) -> None:
        """Of both streams."""
        self.relay.out_received(b"a")
        self.relay.err_received(b"b")
        self.assertEqual([], self.logged())
        self.relay.end()
        self.assertEqual(["[fork-1] a", "[fork-1] b"], [text for _, _, text in self.logged()])
