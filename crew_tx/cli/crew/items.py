"""The items of ``crew map``: a line of JSON each, or one array of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from crew_tx.cli.crew.data import STANDARD_INPUT, parse_json
from crew_tx.cli.crew.exits import UsageError
from crew_tx.cli.readers import shown

_STDIN = 0
CallFromThread = Callable[..., object]


def open_items(argument: str) -> tuple[IO[bytes], str]:
    """
    Open what has the items.

    :param argument: a file's path, or ``-`` for standard input.
    :returns: the file, and what to call it.
    :raises UsageError: if it can't be opened.
    """
    if argument == STANDARD_INPUT:
        # One of our own: a thread that still waits for a line has its lock at the program's end.
        return open(_STDIN, "rb", closefd=False), "standard input"
    where = f"the file {shown(argument)}"
    try:
        return open(argument, "rb"), where
    except OSError as error:
        raise UsageError(f"{where} can't be read: {error.strerror}") from None


def array_of(content: bytes, where: str) -> list[Any]:
    """:raises UsageError: if it isn't one array."""
    items = _parsed(content, where)
    if not isinstance(items, list):
        raise UsageError(f"{where} is no JSON array: leave --json-array out if it has one value a line")
    return items


class Reader:
    """
    Reads in a thread of its own, since a pipe may have nothing for a while.

    The thread reads only when it is asked to. It is a daemon: one that waits for
    a pipe keeps no program from its end.

    :param call_from_thread: the reactor's.
    """

    def __init__(self, file: IO[bytes], call_from_thread: CallFromThread) -> None:
        self._file = file
        self._call_from_thread = call_from_thread
        self._wanted: SimpleQueue[tuple[Callable[[], bytes], Deferred[Any]]] = SimpleQueue()
        Thread(target=self._run, name="crew-items", daemon=True).start()

    def line(self) -> Deferred[bytes]:
        """The next line; an empty one after the last. It errbacks with an ``OSError``."""
        return self._read(self._file.readline)

    def all(self) -> Deferred[bytes]:
        """All that there is."""
        return self._read(self._file.read)

    def _read(self, read: Callable[[], bytes]) -> Deferred[bytes]:
        done: Deferred[Any] = Deferred()
        self._wanted.put((read, done))
        return done

    def _run(self) -> None:
        while True:
            read, done = self._wanted.get()
            try:
                outcome: bytes | Failure = read()
            except Exception:
                outcome = Failure()
            # Where nobody waits any more it is dropped.
            self._call_from_thread(done.callback, outcome)


async def lines_of(reader: Reader, where: str) -> AsyncIterator[Any]:
    """
    The values of lines of JSON; empty lines have none.

    :raises UsageError: at a line that isn't JSON, or can't be read.
    """
    number = 0
    while line := await reader.line():
        number += 1
        if line.strip():
            yield _parsed(line, f"line {number} of {where}")


def _parsed(content: bytes, where: str) -> Any:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not UTF-8 text: byte {error.start} isn't") from None
    return parse_json(text, where)
