"""
Calls that a client has given up, and that may be in their queues yet.

Workers are told. Of calls that are given up together they hear of the youngest first:
a worker that interrupts one has room for the next in its queue, which was made later
as a rule, and has to know by then that nobody waits for that either.

A worker that begins later has heard of none: it announces itself, and is told then,
for as long as the calls could wait for it.

Workers remember what they were told: another call of the same id would be dropped, so
there is none for as long.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from crew_tx.amqp.protocol import AMQClient
from crew_tx.errors import DuplicateCallIdError
from crew_tx.rpc.hello_queue import HelloQueue
from crew_tx.rpc.recent import CANCELLED_SECONDS, RecentCalls
from crew_tx.timer import DeadlineTimer

MOST = 10_000
#: Seconds after an announcement: workers begin many at a time, and one word is for all of them.
_AFTER = 0.02
#: Calls that are told of at a time, between which others have their turn.
_AT_A_TIME = 500
#: Seconds that a word to workers may be on its way.
_ON_ITS_WAY = 3600.0

#: A call's id, and the client id that its answer would go to.
_Key = tuple[str, str]


class CancelledCalls:
    """
    A bounded memory of cancelled calls.

    :param clock: an ``IReactorTime``.
    :param unique: what no other client has in its queues' names.
    :param tell: called with task id, call id and client id, to tell the workers of the task.
    """

    def __init__(self, clock: IReactorTime, unique: str, tell: Callable[[str, str, str], object]) -> None:
        self._clock = clock
        self._tell = tell
        self._unique = unique
        self._told = RecentCalls(clock, CANCELLED_SECONDS + _ON_ITS_WAY)
        self._tasks: OrderedDict[_Key, str] = OrderedDict()
        self._deadlines: DeadlineTimer[_Key] = DeadlineTimer(clock, self._forget)
        self._together: list[tuple[float, tuple[str, str, str]]] = []
        self._telling_together: IDelayedCall | None = None
        self._due: dict[_Key, None] = {}
        self._telling: IDelayedCall | None = None
        self._queue = HelloQueue(unique, lambda: self._begun([]), self._begun)

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task_id: str, call_id: str, reply_to: str, made: float, expiration: float) -> None:
        """
        Tell workers of a call that is given up, and remember it; of too many, the oldest is forgotten.

        :param made: when it was made.
        :param expiration: seconds that it may wait in its queue from then.
        """
        self._note(call_id, reply_to)
        self._together.append((made, (task_id, call_id, reply_to)))
        if self._telling_together is None:
            self._telling_together = self._clock.callLater(0, self._tell_together)
        left = made + expiration - self._clock.seconds()
        if left > 0:
            self._remember(task_id, (call_id, reply_to), left)

    def _remember(self, task_id: str, key: _Key, seconds: float) -> None:
        self._tasks[key] = task_id
        self._deadlines.set(key, seconds)
        if len(self._tasks) > MOST:
            self.forget(*next(iter(self._tasks)))
        self._queue.listen()

    def check(self, call_id: str, reply_to: str) -> None:
        """:raises DuplicateCallIdError: if workers may remember that a call of that id was given up."""
        if (call_id, reply_to) in self._tasks or self._told.has(call_id, reply_to):
            raise DuplicateCallIdError(call_id, was_given_up=True)

    def _note(self, call_id: str, reply_to: str) -> None:
        # The client gives none of its own ids twice.
        if not call_id.startswith(self._unique):
            self._told.add(call_id, reply_to)

    def forget(self, call_id: str, reply_to: str) -> None:
        """A call is in no queue; whether or not it is known."""
        self._deadlines.clear((call_id, reply_to))
        self._forget((call_id, reply_to))

    def connected(self, client: AMQClient) -> None:
        """There is a new connection: listen by it, if there is anything to tell."""
        self._queue.connected(client)
        if self._tasks:
            self._queue.listen()

    def lost(self) -> None:
        """The connection has ended."""
        self._queue.lost()

    def stop(self) -> None:
        """Tell what is not told yet, forget all, and leave no delayed call."""
        if self._telling_together is not None:
            self._telling_together.cancel()
            self._tell_together()
        self._queue.lost()
        self._deadlines.stop()
        self._tasks.clear()
        self._due.clear()
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None

    def _tell_together(self) -> None:
        self._telling_together = None
        together, self._together = self._together, []
        together.sort(key=lambda each: each[0])
        for _, cancelled in reversed(together):
            self._tell(*cancelled)

    def _forget(self, key: _Key) -> None:
        self._tasks.pop(key, None)

    def _begun(self, task_ids: list[str]) -> None:
        """Workers of some tasks, or of any, may have begun without having heard of what is cancelled."""
        tasks = set(task_ids)
        self._due.update((key, None) for key, task_id in self._tasks.items() if not tasks or task_id in tasks)
        if self._due and self._telling is None:
            self._telling = self._clock.callLater(_AFTER, self._tell_some)

    def _tell_some(self) -> None:
        for key in list(islice(self._due, _AT_A_TIME)):
            del self._due[key]
            task_id = self._tasks.get(key)
            if task_id is not None:
                self._note(*key)
                self._tell(task_id, *key)
        self._telling = self._clock.callLater(0, self._tell_some) if self._due else None
