"""
Threads that run nothing by themselves.

The twin of ``crew_tx.tasks.threads`` for tests: jobs wait until the test steps,
and then run there and then, in the test's own thread. So a test decides what
finishes first, and a job that must never end is one that is never stepped.
Where only some tasks are to be late, those are held, and all others stepped.
"""

from __future__ import annotations

from collections.abc import Mapping

from zope.interface import implementer

from crew_tx.errors import TimeLimitExceeded
from crew_tx.tasks.interfaces import Finished, IThreads, Job


@implementer(IThreads)
class SteppedThreads:
    """
    A pool's threads, in place of ``start_threads_factory(reactor)``.

    :param held: tasks that :meth:`step_free` leaves alone, by id; with whether
        not even an interrupt ends them.
    :ivar jobs: the jobs that were given and not stepped yet, the oldest first.
    :ivar names: of all threads that were added, those included that were removed.
    :ivar living: how many threads there are.
    """

    def __init__(self, held: Mapping[str, bool] | None = None) -> None:
        self.jobs: list[Job] = []
        self.names: list[str] = []
        self.living = 0
        self._interrupted: list[Job] = []
        self._held = {} if held is None else held
        self._finished: Finished | None = None

    def __call__(self, finished: Finished) -> IThreads:
        """Become the threads of a pool."""
        self._finished = finished
        return self

    def add(self, name: str) -> None:
        """Count one thread more."""
        self.names.append(name)
        self.living += 1

    def remove(self) -> None:
        """Count one thread less."""
        self.living -= 1

    def give(self, job: Job) -> None:
        """Hold a job until it is stepped."""
        self.jobs.append(job)

    def recall(self, job: Job) -> bool:
        """Keep a job from running when it is stepped; as many count as begun as there are threads."""
        if not _among(job, self.jobs[self.living :]) or _among(job, self._interrupted):
            return False
        self._interrupted.append(job)
        return True

    def runs_in(self, job: Job) -> str:
        """The last thread's name, for a job that counts as begun."""
        return self.names[-1] if _among(job, self.jobs[: self.living]) else ""

    def interrupt(self, job: Job) -> str | None:
        """Keep a job from running when it is stepped."""
        if not _among(job, self.jobs) or _among(job, self._interrupted):
            return None
        self._interrupted.append(job)
        return self.names[-1]

    def step(self, job: Job | None = None) -> bool:
        """
        Run a job and hand its outcome over.

        One that was interrupted isn't run: its outcome is a ``TimeLimitExceeded``.

        :param job: which; the oldest by default.
        :returns: False if there is none.
        """
        if not self.jobs or self._finished is None:
            return False
        chosen = self.jobs[0] if job is None else job
        self.jobs = _without(chosen, self.jobs)
        interrupted = _among(chosen, self._interrupted)
        self._interrupted = _without(chosen, self._interrupted)
        self._finished(chosen, TimeLimitExceeded() if interrupted else chosen.run())
        return True

    def step_all(self) -> int:
        """
        Run jobs until there are none, those included that are given meanwhile.

        :returns: how many there were.
        """
        count = 0
        while self.step():
            count += 1
        return count

    def step_free(self) -> bool:
        """
        Run the oldest job that has a thread and is not held.

        :returns: False if there is none.
        """
        if not self.jobs:
            return False
        # Even the last thread to end runs what was given before.
        begun = self.jobs[: max(1, self.living)]
        free = next((job for job in begun if not self._is_held(job)), None)
        return free is not None and self.step(free)

    def _is_held(self, job: Job) -> bool:
        stays = self._held.get(job.describe()[0])
        return stays is not None and (stays or not _among(job, self._interrupted))


def _among(job: Job, jobs: list[Job]) -> bool:
    return any(one is job for one in jobs)


def _without(job: Job, jobs: list[Job]) -> list[Job]:
    return [one for one in jobs if one is not job]
