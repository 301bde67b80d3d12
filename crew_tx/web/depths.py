"""How much is in the queues of tasks, looked up once a second at the most."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from crew_tx.amqp.inspection import Depth
from crew_tx.errors import CrewError
from crew_tx.topology import task_queue_name

#: Seconds for which what was seen is good enough.
FRESH = 1.0
#: Seconds that a look may take; a call does not wait longer for it.
_LOOK_TIMEOUT = 2.0
_MOST_KEPT = 1000

Look = Callable[[str], Awaitable[Depth | None]]


class Depths:
    """
    Looks into the queues of tasks.

    A task has a queue of its own name, and a service's method that of the
    service. A task with another queue can't be told from here: it has no depth.

    :param look: asks the broker for the depth of a queue.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, look: Look) -> None:
        self._clock = clock
        self._look = look
        self._seen: dict[str, tuple[float, Depth | None]] = {}
        self._is_failing = False
        self._looking: dict[str, list[Deferred[Depth | None]]] = {}

    def of_task(self, task_id: str) -> Deferred[Depth | None] | Depth | None:
        """The depth of its queue; None where it isn't known. A Deferred only where it has to be looked up."""
        seen = self._seen.get(task_id)
        if seen is not None and self._clock.seconds() - seen[0] < FRESH:
            return seen[1]
        waiting: Deferred[Depth | None] = Deferred()
        # Those that come meanwhile wait for the same look.
        if task_id in self._looking:
            self._looking[task_id].append(waiting)
        else:
            self._looking[task_id] = [waiting]
            looked = Deferred.fromCoroutine(self._of_task(task_id))
            looked.addTimeout(_LOOK_TIMEOUT, self._clock)
            looked.addCallbacks(self._known, self._unknown)
            looked.addCallback(self._found, task_id)
        return waiting

    async def _of_task(self, task_id: str) -> Depth | None:
        depth = await self._look(task_queue_name(task_id))
        service = task_id.rpartition(".")[0]
        if depth is None and service:
            depth = await self._look(task_queue_name(service))
        return depth

    def _known(self, depth: Depth | None) -> Depth | None:
        self._is_failing = False
        return depth

    def _found(self, depth: Depth | None, task_id: str) -> None:
        if len(self._seen) >= _MOST_KEPT:
            self._seen.clear()
        self._seen[task_id] = (self._clock.seconds(), depth)
        for waiting in self._looking.pop(task_id):
            # One that nobody waits for any more was cancelled.
            if not waiting.called:
                waiting.callback(depth)

    def _unknown(self, failure: Failure) -> None:
        # Said once, and not for each call.
        if not self._is_failing:
            self._is_failing = True
            error = failure.value
            reason = str(error) if isinstance(error, CrewError) else type(error).__name__
            self.log.warn("queues can't be looked into: {reason}", reason=reason)
