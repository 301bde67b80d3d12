"""
Real threads: the one file that makes them.

They are daemon threads of our own, since Twisted's pool would hold up the end
of the reactor for one that is stuck. All take their jobs from one queue: a
thread that is through with a job takes the next without waiting for the
reactor, and for short jobs most threads need not be woken at all (measured
against a queue for each thread: four times as many jobs a second). Outcomes
cross back to the reactor in one place and many at a time: there is at most one
wake of the reactor for all that has come together until it is served.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from queue import SimpleQueue
from threading import Thread

from twisted.internet.interfaces import IReactorFromThreads
from zope.interface import implementer

from crew_tx.tasks.interfaces import CreateThreads, Finished, IThreads, Job
from crew_tx.tasks.interrupt import InterruptGate, Runner


@implementer(IThreads)
class RealThreads:
    """
    Daemon threads.

    :param reactor: an ``IReactorFromThreads``.
    :param finished: called on the reactor with each job and its outcome.
    :param together: makes a context manager, inside which those outcomes are
        handed over that came together.
    """

    def __init__(
        self,
        reactor: IReactorFromThreads,
        finished: Finished,
        together: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._reactor = reactor
        self._together = together
        self._finished = finished
        self._gate = InterruptGate()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._outcomes: deque[tuple[Job, object]] = deque()
        self._woken = False
        self.interrupt = self._gate.interrupt
        self.recall = self._gate.recall
        self.runs_in = self._gate.runs_in

    def add(self, name: str) -> None:
        """Start one more thread."""
        Thread(target=self._main, args=(name,), name=name, daemon=True).start()

    def remove(self) -> None:
        """End one thread, the first that finds no more jobs given before."""
        self._jobs.put(None)

    def give(self, job: Job) -> None:
        """Let a thread run a job."""
        self._gate.admit(job)
        self._jobs.put(job)

    def _main(self, name: str) -> None:
        """What each thread does, from its start to its end."""
        runner = Runner(name)
        get, run, put = self._jobs.get, self._gate.run, self._put
        while (job := get()) is not None:
            put(job, run(job, runner))
            # So that an idle thread keeps no message alive.
            del job

    def _put(self, job: Job, outcome: object) -> None:
        """Hand an outcome over; called in the thread."""
        self._outcomes.append((job, outcome))
        # Here it is appended first and looked at second, in _take it is the other way
        # round: so an outcome is seen by the call that is under way, or makes one.
        if not self._woken:
            self._woken = True
            self._reactor.callFromThread(self._take)

    def _take(self) -> None:
        self._woken = False
        outcomes, finished = self._outcomes, self._finished
        with self._together():
            for _ in range(len(outcomes)):
                job, outcome = outcomes.popleft()
                finished(job, outcome)


def start_threads_factory(
    reactor: IReactorFromThreads, together: Callable[[], AbstractContextManager[object]] = nullcontext
) -> CreateThreads:
    """What makes real threads for a pool; ``together`` as of :class:`RealThreads`."""

    def create_threads(finished: Finished) -> IThreads:
        return RealThreads(reactor, finished, together)

    return create_threads
