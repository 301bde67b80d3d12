"""
What a status page shows: looked at while somebody looks, and not otherwise.

Each look asks the broker for the depths of queues, and all workers at once. A
worker that does not answer two looks in a row has left, and so nothing here
grows. When the broker is away the last look stands, and says how old it is.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, FirstError, TimeoutError, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from crew_tx.amqp.inspection import Depth
from crew_tx.client import Client
from crew_tx.errors import ConnectionLostError, CrewError
from crew_tx.topology import DEAD
from crew_tx.web.problems import RETRY_AFTER, ProblemError
from crew_tx.web.worker_facts import Answer, WorkerFacts, errors_of, worker_id_of

#: Seconds between two looks, for which answers are gathered, and that the broker has to answer.
INTERVAL = 1.0
GATHER = 0.6
ANSWERS = 2.0
#: Looks without an answer after which a worker has left.
_PATIENCE = 2
#: Looks between two questions for what changes rarely.
_RARELY = 5

MOST_LISTENERS = 100
MOST_WORKERS = 500
MOST_ACTIVE = 500
MOST_QUEUES = 100
MOST_ERRORS = 50

Snapshot = dict[str, Any]
LookIntoQueue = Callable[[str], Awaitable[Depth | None]]


class Listener(Protocol):
    """Somebody who looks."""

    def told(self, encoded: bytes) -> None:
        """There is a new snapshot, as JSON on one line."""

    def ended(self) -> None:
        """There will be no more."""


class Overview:
    """
    Looks at workers and queues again and again, while there are listeners.

    :param client: asks workers.
    :param depth: gives the depth of a queue; None if there is no such queue.
        Its errors say why it can't be known.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, client: Client, depth: LookIntoQueue) -> None:
        self._clock = clock
        self._client = client
        self._depth = depth
        self._listeners: list[Listener] = []
        self._workers: dict[str, WorkerFacts] = {}
        self._more_workers = 0
        self._queues: list[Answer] = []
        self._more_queues = 0
        self._dead: int | None = None
        self._errors: list[Answer] = []
        self._looks = 0
        self._looked: float | None = None
        self._problem: str | None = None
        self._is_looking = False
        self._is_over = False
        self._next: IDelayedCall | None = None

    def listen(self, listener: Listener) -> None:
        """
        Tell somebody of each look, and at once of the last one.

        :raises ProblemError: 503, if too many look already, or it is stopped.
        """
        if self._is_over:
            raise ProblemError(503, "the gateway stops", retry_after=RETRY_AFTER)
        if len(self._listeners) >= MOST_LISTENERS:
            raise ProblemError(503, f"{MOST_LISTENERS} look at this already; close a page", retry_after=5)
        self._listeners.append(listener)
        listener.told(self._encoded())
        if not self._is_looking and self._next is None:
            for worker in self._workers.values():
                worker.rest()
            self._begin_look()

    def leave(self, listener: Listener) -> None:
        """Tell this one no more; nothing happens where it was not told."""
        if listener in self._listeners:
            self._listeners.remove(listener)
        if not self._listeners:
            self._rest()

    def stop(self) -> None:
        """Tell nobody any more."""
        self._is_over = True
        listeners, self._listeners = self._listeners, []
        self._rest()
        for listener in listeners:
            listener.ended()

    def snapshot(self) -> Snapshot:
        """
        What there was at the last look.

        ``age`` is how many seconds ago that was, None where there was none;
        ``problem`` says why there is none since; ``more`` counts what is left out.
        """
        status = self._client.status()
        now = self._clock.seconds()
        active = [call for worker in self._workers.values() for call in worker.active]
        return {
            "time": now,
            "age": None if self._looked is None else max(0.0, now - self._looked),
            "problem": self._problem,
            "connected": status.connected,
            "broker": status.broker,
            "workers": [worker.told() for _, worker in sorted(self._workers.items())],
            "active": sorted(active, key=lambda call: -call["seconds"])[:MOST_ACTIVE],
            "queues": self._queues,
            "dead": self._dead,
            "errors": self._errors,
            "more": {
                "workers": self._more_workers,
                "active": max(0, len(active) - MOST_ACTIVE),
                "queues": self._more_queues,
            },
        }

    def _encoded(self) -> bytes:
        # Line ends and lone surrogates of others' texts are escaped so.
        return json.dumps(self.snapshot(), allow_nan=False).encode()

    # -- again and again -----------------------------------------------------------------

    def _rest(self) -> None:
        """Look no more; a look under way ends by itself."""
        waiting, self._next = self._next, None
        if waiting is not None:
            waiting.cancel()

    def _begin_look(self) -> None:
        self._next = None
        self._is_looking = True
        looked = Deferred.fromCoroutine(self._look())
        looked.addErrback(self._failed).addCallback(self._end_look, self._clock.seconds())
        looked.addErrback(lambda failure: self.log.failure("a snapshot could not be told", failure))

    def _end_look(self, _: object, begun: float) -> None:
        self._is_looking = False
        if not self._listeners:
            return
        self._next = self._clock.callLater(
            max(0.0, begun + INTERVAL - self._clock.seconds()), self._begin_look
        )
        # Once for all of them.
        encoded = self._encoded()
        for listener in list(self._listeners):
            listener.told(encoded)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CrewError):
            self._problem = failure.getErrorMessage()
        elif failure.check(TimeoutError):
            self._problem = f"the broker did not answer within {ANSWERS:g} s"
        else:
            self._problem = "looking failed; the gateway's log has more"
            self.log.failure("a look at workers and queues failed", failure)

    # -- a look --------------------------------------------------------------------------

    async def _look(self) -> None:
        if not self._client.status().connected:
            raise ConnectionLostError("there is no connection to the broker")
        # A broker that does not answer looks like one without workers: so it has to show that it does.
        dead = await self._depth_in_time(DEAD)
        wants_tasks = self._looks % _RARELY == 0 or any(
            worker.queues is None for worker in self._workers.values()
        )
        self._looks += 1
        stats, active, errors, *tasks = await self._ask("stats", "active", "errors", *["tasks"] * wants_tasks)
        self._note(stats, active, [answer for answers in tasks for answer in answers])
        await self._look_into_queues()
        self._errors = _latest(errors)
        self._dead = None if dead is None else dead.messages
        self._looked = self._clock.seconds()
        self._problem = None

    async def _ask(self, *names: str) -> list[list[Answer]]:
        """All at once, since each takes as long as it may; the answers to each name."""
        asked = [self._client.control(name, timeout=GATHER) for name in names]
        try:
            gathered = await gatherResults(asked, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        return [[answer for answer in each if "error" not in answer] for each in gathered]

    def _note(self, stats: list[Answer], active: list[Answer], tasks: list[Answer]) -> None:
        heard = {worker_id: answer for answer in stats if (worker_id := worker_id_of(answer)) is not None}
        for worker in self._workers.values():
            worker.silent += 1
        for worker_id, answer in heard.items():
            if worker_id in self._workers or len(self._workers) < MOST_WORKERS:
                worker = self._workers.setdefault(worker_id, WorkerFacts(worker_id))
                worker.silent = 0
                worker.note(answer, self._clock.seconds())
        for worker, answer in self._known(active):
            worker.note_active(answer)
        for worker, answer in self._known(tasks):
            worker.note_tasks(answer)
        self._workers = {name: each for name, each in self._workers.items() if each.silent < _PATIENCE}
        self._more_workers = len(heard.keys() - self._workers.keys())

    def _known(self, answers: list[Answer]) -> list[tuple[WorkerFacts, Answer]]:
        found = ((self._workers.get(worker_id_of(answer) or ""), answer) for answer in answers)
        return [(worker, answer) for worker, answer in found if worker is not None]

    async def _look_into_queues(self) -> None:
        names = {name for worker in self._workers.values() for name in worker.queues or ()}
        # Those of workers that have left: what waits there waits for somebody.
        names.update(each["queue"] for each in self._queues if each["messages"])
        depths = [await self._depth_in_time(name) for name in sorted(names)[:MOST_QUEUES]]
        self._queues = [
            {"queue": each.queue, "messages": each.messages, "consumers": each.consumers}
            for each in depths
            if each is not None
        ]
        self._more_queues = max(0, len(names) - MOST_QUEUES)

    def _depth_in_time(self, queue: str) -> Deferred[Depth | None]:
        looked: Deferred[Depth | None] = Deferred.fromCoroutine(_awaited(self._depth(queue)))
        return looked.addTimeout(ANSWERS, self._clock)


async def _awaited(depth: Awaitable[Depth | None]) -> Depth | None:
    return await depth


def _latest(answers: list[Answer]) -> list[Answer]:
    """The latest errors of all workers."""
    errors = [error for answer in answers if worker_id_of(answer) for error in errors_of(answer)]
    return sorted(errors, key=lambda error: -error["time"])[:MOST_ERRORS]
