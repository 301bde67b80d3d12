"""``crew map``: one task for many items."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import IO, Any, Protocol

from crew_tx.cli.crew.exits import FAILED, OK, facts_of
from crew_tx.cli.crew.items import Reader, array_of, lines_of, open_items
from crew_tx.cli.crew.output import Output
from crew_tx.cli.crew.pace import Pace
from crew_tx.cli.crew.session import Session
from crew_tx.cli.crew.text import json_text
from crew_tx.errors import CrewError
from crew_tx.mapreduce import Items

#: Seconds between two looks at how far it is.
_INTERVAL = 0.1


async def map_items(session: Session) -> int:
    """Print a line for each item."""
    items, total = await _items(session)
    meter = Meter(make_gauge(session.output, total), session.reactor.seconds, total)
    printer = ResultPrinter(session.output, with_items=session.arguments.with_items)
    try:
        async with session.client() as client:
            results = client.map(
                session.arguments.task, items, progress=meter.progress, **_options(session.arguments)
            )
            async for item, result in results.items():
                printer.print(item, result)
    finally:
        meter.stop()
    return printer.ended()


async def _items(session: Session) -> tuple[Items, int | None]:
    """The items, and how many there are, if that is known."""
    file, where = open_items(session.arguments.items)
    reader = Reader(file, session.reactor.callFromThread)
    if not session.arguments.json_array:
        return lines_of(reader, where), None
    array = array_of(await reader.all(), where)
    return array, len(array)


def _options(arguments: Any) -> dict[str, Any]:
    return {
        "window": arguments.window,
        "ordered": not arguments.unordered,
        "retries": arguments.retries,
        "retry_pause": arguments.retry_pause,
        "stragglers": arguments.stragglers,
        "errors": arguments.errors,
        "timeout": arguments.timeout,
        "expiration": arguments.expiration,
        "priority": arguments.priority,
        "serializer": arguments.serializer,
    }


class ResultPrinter:
    """
    Prints results; an error in the place of one as what programs are told of it.

    :param with_items: whether each is a map, that has the item beside the value or the error.
    """

    def __init__(self, output: Output, *, with_items: bool = False) -> None:
        self._output = output
        self._with_items = with_items
        self._count = self._failed = 0

    def print(self, item: Any, result: Any) -> None:
        """Print one line."""
        self._count += 1
        is_error = isinstance(result, Exception)
        self._failed += is_error
        facts = _error_facts(result) if is_error else {"value": result}
        if self._with_items:
            facts = {"item": item, **facts}
        self._output.event(facts, json_text(facts if is_error or self._with_items else result))

    def ended(self) -> int:
        """:returns: the exit code."""
        if self._failed:
            self._output.note(f"{self._failed} of {self._count} failed")
        return FAILED if self._failed else OK


def _error_facts(error: Exception) -> dict[str, object]:
    if isinstance(error, CrewError):
        return facts_of(error)
    return {"error": type(error).__name__, "message": str(error)}


class Gauge(Protocol):
    """Shows people how far it is."""

    def show(self, done: int, note: str) -> None:
        """Show it, in the place of what was shown before."""

    def stop(self) -> None:
        """Let what is shown last stand."""


class NoGauge:
    """For those who would not see it."""

    def show(self, done: int, note: str) -> None:
        """Nothing is shown."""

    def stop(self) -> None:
        """Nothing was."""


class Counter:
    """A line of plain text that is written over."""

    def __init__(self, stream: IO[str], total: int | None) -> None:
        self._stream = stream
        self._of = "" if total is None else f" of {total}"

    def show(self, done: int, note: str) -> None:
        # To the line's end, so that nothing of a longer one is left.
        self._stream.write(f"\r{done}{self._of} done{note and ', '}{note}\x1b[K")
        self._stream.flush()

    def stop(self) -> None:
        self._stream.write("\n")


def make_gauge(output: Output, total: int | None) -> Gauge:
    """One where only standard error is a terminal: results on one are seen themselves, and in its way."""
    stream = output.error_stream
    if output.is_terminal or not stream.isatty():
        return NoGauge()
    try:
        from crew_tx.cli.crew.drawing import Bar
    except ImportError:
        return Counter(stream, total)
    return Bar(stream, total)


class Meter:
    """
    Moves a gauge, not more often than people look.

    :param seconds: the time.
    :param total: how much there is, if that is known.
    """

    def __init__(self, gauge: Gauge, seconds: Callable[[], float], total: int | None) -> None:
        self._gauge = gauge
        self._pace = Pace(seconds(), total)
        self._seconds = seconds
        self._shown = -math.inf
        self._done = 0

    def progress(self, done: int, begun: int) -> None:
        """So many items are done, of those that were begun."""
        self._done = done
        now = self._seconds()
        if now - self._shown >= _INTERVAL:
            self._shown = now
            self._pace.look(now, done)
            self._gauge.show(done, ", ".join(filter(None, (f"{begun - done} out", self._pace.text()))))

    def stop(self) -> None:
        """It has ended."""
        self._gauge.show(self._done, "")
        self._gauge.stop()
