"""Log lines."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

from twisted.logger import LogEvent, Logger, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.cli.logs import as_json, as_text, escaped, log_observer


def event(message: str, level: str = "info", **fields: Any) -> LogEvent:
    """An event as a logger would make it."""
    events: list[LogEvent] = []
    log = Logger(namespace="crew_tx.test", observer=events.append)  # type: ignore[arg-type]
    log.emit(LogLevel.levelWithName(level), message, **fields)
    return {**events[0], "log_time": 0.0}


def failure() -> Failure:
    """One with a traceback."""
    try:
        raise ValueError("evil\x1b[31m\nline")
    except ValueError:
        return Failure()


class TextTests(SynchronousTestCase):
    """For people."""

    def test_an_event_is_a_line(self) -> None:
        """With time, logger and level."""
        text = as_text(event("{a} and é", a=1))
        assert text is not None
        time, rest = text.split(" ", 1)
        self.assertRegex(time, r"^(1970-01-01|1969-12-31)T\d\d:\d\d:\d\d[+-]\d{4}$")
        self.assertEqual("[crew_tx.test#info] 1 and é\n", rest)

    def test_an_event_without_text_is_none(self) -> None:
        """Such as statistics that others emit."""
        self.assertIsNone(as_text(event("")))
        self.assertIsNone(as_json(event("")))

    def test_a_traceback_follows_in_lines_that_begin_with_a_tab(self) -> None:
        """So nothing in it can pass for another event."""
        text = as_text(event("broken", "critical", log_failure=failure()))
        assert text is not None
        first, *rest = text.removesuffix("\n").split("\n")
        self.assertTrue(first.endswith("[crew_tx.test#critical] broken"))
        self.assertIn(r"	builtins.ValueError: evil\x1b[31m", rest)
        self.assertTrue(all(line.startswith("\t") for line in rest), rest)


class EscapedTests(SynchronousTestCase):
    """What comes from the wire."""

    def test_control_characters_are_escaped(self) -> None:
        """Also those that begin a line in some terminals; tabs and letters stay."""
        self.assertEqual(
            r"a	é\x1b[2J\r\x00\x7f\x85\u2028\udcff\u202e",
            escaped("a\té\x1b[2J\r\0\x7f\x85\u2028\udcff\u202e"),
        )

    def test_lines_after_the_first_begin_with_a_tab(self) -> None:
        """Empty ones at the ends are dropped."""
        self.assertEqual("a\n\t\n\tb", escaped("\na\n\nb\n"))

    def test_a_long_text_is_cut_in_its_middle(self) -> None:
        """Its end says most, in a traceback."""
        text = escaped("a" * 10_000 + "b" * 10_000)
        self.assertEqual(f"{'a' * 6000}... 12000 characters ...{'b' * 2000}", text)
        self.assertEqual("c" * 8000, escaped("c" * 8000))


class JSONTests(SynchronousTestCase):
    """For programs."""

    def test_an_event_is_a_flat_object_in_one_line(self) -> None:
        """Tracebacks included."""
        text = as_json(event("é {a}", "warn", a="x\ny", log_failure=failure()))
        assert text is not None
        self.assertEqual(1, text.count("\n"))
        self.assertTrue(text.isascii())
        line = json.loads(text)
        self.assertEqual({"time", "level", "logger", "message"}, set(line))
        self.assertEqual(("warn", "crew_tx.test"), (line["level"], line["logger"]))
        self.assertTrue(line["message"].startswith("é x\ny\nTraceback"), line["message"])


class ObserverTests(SynchronousTestCase):
    """What a worker's log is written by."""

    def test_it_has_a_level_and_a_format(self) -> None:
        """Those of the settings."""
        for log_format, first in (("text", "1"), ("json", "{")):
            stream = StringIO()
            observer = log_observer(stream, {"logging": "warn", "log-format": log_format})
            for level in ("debug", "info", "warn", "error"):
                observer(event("x", level))
            lines = stream.getvalue().splitlines()
            self.assertEqual([first, first], [line[0] for line in lines])
            self.assertIn("warn", lines[0])
            self.assertIn("error", lines[1])
