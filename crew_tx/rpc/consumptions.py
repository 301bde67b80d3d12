"""
All that a worker consumes: calls for threads, and apart from them calls for processes.

Each kind pauses where no room gets free for it, and the other goes on. Suspects are
of both: while there is one, neither kind has room.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, gatherResults

from crew_tx.amqp.channel import AMQChannel
from crew_tx.rpc.consumption import Consumption
from crew_tx.rpc.intake import Intake


class WaitingCalls(Protocol):
    """The calls of one kind that are not begun."""

    @property
    def held(self) -> int:
        """How many there are."""

    @property
    def has_room(self) -> bool:
        """Whether one more could begin now."""


class Consumptions:
    """
    :param threads: consumes for threads.
    :param for_threads: what waits for one.
    :param start_held: begins what waits, as far as there is room.
    """

    def __init__(
        self, threads: Consumption, for_threads: WaitingCalls, start_held: Callable[[], object]
    ) -> None:
        self._threads = threads
        self._for_threads = for_threads
        self._processes: Consumption | None = None
        self._for_processes = for_threads
        self._start_held = start_held
        self._all = [threads]

    def add_processes(self, processes: Consumption, for_processes: WaitingCalls) -> None:
        """Consume for processes as well."""
        self._processes = processes
        self._for_processes = for_processes
        self._all.append(processes)

    @property
    def intake(self) -> Intake | None:
        """The consumers of the connection that is there; what they take settles together."""
        return self._threads.intake

    @property
    def halted(self) -> bool:
        """Whether they were told to consume nothing."""
        return self._threads.halted

    async def begin(self, channel: AMQChannel) -> None:
        """Consume by a new connection: as :meth:`Consumption.begin`."""
        await self._threads.begin(channel)
        if self._processes is None:
            return
        try:
            await self._processes.begin(channel, self._threads.intake)
        except BaseException:
            # What came for threads meanwhile has tags that are dead.
            self._threads.lost()
            raise

    def lost(self) -> None:
        """The connection is gone."""
        for each in self._all:
            each.lost()

    def end(self) -> Deferred[Any]:
        """End for good: a Deferred that fires when no more deliveries will come."""
        return gatherResults([each.end() for each in self._all])

    def halt(self) -> None:
        """Consume nothing until :meth:`go_on`, and let others have what was not begun."""
        for each in self._all:
            each.halt()

    def go_on(self) -> None:
        """Consume again."""
        for each in self._all:
            each.go_on()

    def hand_back(self, may_go: Callable[[Any], bool] = lambda attempt: True) -> None:
        """Let other workers have what was not begun here."""
        for each in self._all:
            each.hand_back(may_go)

    def follow(self) -> None:
        """The prefetch for threads changed."""
        self._threads.follow()

    def watch(self) -> None:
        """A call was taken: if it waits, see to it that it does not for long."""
        if self._for_threads.held:
            self._threads.watch()
        if self._processes is not None and self._for_processes.held:
            self._processes.watch()

    def thread_free(self) -> None:
        """A thread is free."""
        self._threads.thread_free()
        self._start_held()
        if self._threads.paused and self._for_threads.has_room:
            self._threads.resume()

    def process_free(self) -> None:
        """A process is free."""
        assert self._processes is not None
        self._processes.thread_free()
        self._start_held()
        if self._processes.paused and self._for_processes.has_room:
            self._processes.resume()

    def all_free(self) -> None:
        """Nothing holds up what waits for threads and for processes any more."""
        self.thread_free()
        if self._processes is not None:
            self.process_free()
