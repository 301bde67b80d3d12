"""
Log lines, as text or as JSON.

What comes from the wire may be in them: so control characters are escaped,
lines after an event's first begin with a tab, and long texts are cut. JSON is
one flat object a line: ``time``, ``level``, ``logger``, ``message``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from io import TextIOWrapper
from typing import IO, Any

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    formatTime,
    globalLogBeginner,
)

#: Characters of a text that are kept from its head and from its tail, which in tracebacks says most.
_HEAD, _TAIL = 6_000, 2_000


def log_observer(stream: IO[str], settings: Mapping[str, Any]) -> ILogObserver:
    """
    What writes events to a stream.

    :param settings: the values of ``logging`` and ``log-format``.
    """
    level = LogLevelFilterPredicate(defaultLogLevel=LogLevel.levelWithName(settings["logging"]))
    return FilteringLogObserver(file_log_observer(stream, settings), [level])


def file_log_observer(stream: IO[str], settings: Mapping[str, Any]) -> FileLogObserver:
    """What writes events of all levels to a stream, in the format of the setting ``log-format``."""
    return FileLogObserver(stream, as_json if settings["log-format"] == "json" else as_text)


def begin_logging(settings: Mapping[str, Any]) -> None:
    """Log to stdout from now on; what is printed there and to stderr is logged, too."""
    stream = sys.stdout
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    globalLogBeginner.beginLoggingTo([log_observer(stream, settings)])


def as_text(event: LogEvent) -> str | None:
    """An event as a line, and more of them for its traceback; None if it has no text."""
    text = _text_of(event)
    time = formatTime(event.get("log_time"))
    return f"{time} [{_logger_of(event)}#{_level_of(event)}] {text}\n" if text else None


def as_json(event: LogEvent) -> str | None:
    """An event as a line of JSON; None if it has no text."""
    text = _text_of(event)
    if not text:
        return None
    line = {
        "time": formatTime(event.get("log_time")),
        "level": _level_of(event),
        "logger": _logger_of(event),
        "message": text.replace("\n\t", "\n"),
    }
    return f"{json.dumps(line)}\n"


def escaped(text: str) -> str:
    """A text without control characters but for the newlines, each of which has a tab behind it."""
    text = cut(text.strip("\n"))
    return "\n\t".join(_escaped_line(line) for line in text.split("\n"))


def _text_of(event: LogEvent) -> str:
    return escaped(eventAsText(event, includeTimestamp=False, includeSystem=False))


def _logger_of(event: LogEvent) -> str:
    return _escaped_line(str(event.get("log_namespace", "-"))[:200])


def _level_of(event: LogEvent) -> str:
    level = event.get("log_level")
    return "-" if level is None else str(level.name)


def cut(text: str, head: int = _HEAD, tail: int = _TAIL) -> str:
    """A text, without its middle where that is too long."""
    if len(text) <= head + tail:
        return text
    return f"{text[:head]}... {len(text) - head - tail} characters ...{text[len(text) - tail :]}"


def _escaped_line(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(
        each if each.isprintable() or each == "\t" else each.encode("unicode_escape").decode()
        for each in line
    )
