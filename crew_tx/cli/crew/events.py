"""``crew publish`` and ``crew subscribe``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from twisted.internet.defer import Deferred

from crew_tx.cli.crew.data import read_data
from crew_tx.cli.crew.exits import OK
from crew_tx.cli.crew.output import Output
from crew_tx.cli.crew.session import Session
from crew_tx.cli.crew.text import cell, json_text
from crew_tx.pubsub import Event, Missed


async def publish(session: Session) -> int:
    """Hand an event to the broker."""
    arguments = session.arguments
    data = read_data(arguments.data, arguments.serializer)
    async with session.client() as client:
        await client.publish(
            arguments.channel,
            data,
            headers=dict(arguments.header) or None,
            serializer=arguments.serializer,
            persistent=not arguments.transient,
        )
    session.output.text("published", {"published": arguments.channel})
    return OK


async def subscribe(session: Session) -> int:
    """Print events, until so many came, or whoever reads them has had enough."""
    arguments = session.arguments
    printer = EventPrinter(session.output, arguments.count)
    async with session.client() as client:
        await client.subscribe(arguments.channel, printer.received, on_missed=printer.missed)
        if arguments.verbose:
            session.output.note(f"subscribed to {arguments.channel}")
        await printer.done
    return OK


class EventPrinter:
    """
    Prints events as they come.

    :param count: how many; None for no end.
    :ivar done: a Deferred that fires after the last; errbacks if they can't be printed.
    """

    def __init__(self, output: Output, count: int | None) -> None:
        self._output = output
        self._left = count
        self.done: Deferred[None] = Deferred()

    def received(self, data: Any, event: Event) -> None:
        """An event came."""
        if self.done.called:
            return
        try:
            self._output.event(asdict(event), f"{cell(event.channel)} {json_text(data)}")
        except Exception:
            self.done.errback()
            return
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self.done.callback(None)

    def missed(self, missed: Missed) -> None:
        """Events were, or may have been, missed."""
        count = "events" if missed.count is None else f"{missed.count} events"
        self._output.note(f"{count} may have been missed: {missed.reason}")
