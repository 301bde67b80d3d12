"""
What a forked worker prints, handed on to the log of its supervisor.

Its own log comes as the JSON lines of :mod:`crew_tx.cli.logs`, and keeps its
levels and loggers; whatever else it prints is logged line by line.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.logger import InvalidLogLevelError, Logger, LogLevel

from crew_tx.cli.logs import escaped

#: Bytes of a line; more than any that we write has.
LONGEST_LINE = 256 * 1024


class Lines:
    """
    Splits what comes by newlines, and cuts what is too long.

    :param received: called with each line.
    """

    def __init__(self, received: Callable[[bytes], object]) -> None:
        self._received = received
        self._partial = b""

    def feed(self, data: bytes) -> None:
        """Take more."""
        first, *rest = data.split(b"\n")
        self._keep(first)
        for piece in rest:
            self.end()
            self._keep(piece)

    def end(self) -> None:
        """The line ends here."""
        line, self._partial = self._partial, b""
        if line:
            self._received(line)

    def _keep(self, piece: bytes) -> None:
        self._partial += piece[: LONGEST_LINE - len(self._partial)]


class LoggedLine(NamedTuple):
    """A line of another process's log."""

    level: str
    logger: str
    message: str


def logged_line(line: bytes) -> LoggedLine | None:
    """Read a line of :func:`crew_tx.cli.logs.as_json`; None if it isn't one."""
    if not line.startswith(b"{"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    texts = [value.get(key) for key in ("level", "logger", "message")]
    return LoggedLine(*texts) if all(isinstance(text, str) for text in texts) else None


class Relay:
    """
    Logs what one process prints.

    :param name: what its lines begin with.
    :ivar last_words: the last critical message, which says why it ended.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._out = Lines(lambda line: self._line(line, LogLevel.info))
        self._err = Lines(lambda line: self._line(line, LogLevel.error))
        self.out_received = self._out.feed
        self.err_received = self._err.feed
        self.last_words = ""

    def end(self) -> None:
        """Nothing more comes."""
        self._out.end()
        self._err.end()

    def _line(self, line: bytes, level: Any) -> None:
        logged = logged_line(line)
        if logged is None:
            self._log("crew_tx.cli.relay", level, escaped(line.decode(errors="backslashreplace")))
            return
        if logged.level == LogLevel.critical.name:
            self.last_words = logged.message
        self._log(logged.logger, _level(logged.level), logged.message)

    def _log(self, logger: str, level: Any, text: str) -> None:
        Logger(namespace=logger).emit(level, "[{process}] {text}", process=self._name, text=text)


def _level(name: str) -> Any:
    try:
        return LogLevel.levelWithName(name)
    except InvalidLogLevelError:
        return LogLevel.info
