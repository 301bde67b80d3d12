"""
The thread pool's decisions: it owns no lock and makes no thread.

Everything here runs on the reactor. Threads are made when a job first needs
one, not at the start: a worker of async tasks alone never has any, and
``twistd`` forks into the background after services are made, which threads
would not survive. A thread is as good as another: which of them takes a job is
not decided here.

A job that is interrupted has a grace period to end in. After that its thread is
quarantined: it no longer counts, and another is made in its place. When its job
ends after all, there is one thread too many, and one of them ends.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from crew_tx.errors import InvalidArgumentError
from crew_tx.status import PoolStatus, StuckThread
from crew_tx.tasks.interfaces import CreateThreads, Job
from crew_tx.timer import DeadlineTimer


def _nothing() -> None:
    """The callback of who wants none."""


class ThreadPool:
    """
    Runs jobs in threads, one a thread.

    :param clock: an ``IReactorTime``.
    :param create_threads: makes its threads: ``start_threads_factory(reactor)``,
        or ``SteppedThreads()`` in tests.
    :param size: how many jobs run at once.
    :param max_stuck: how many threads may be quarantined at once; twice the size by default.
    :param grace: the seconds that an interrupted job has to end in.
    :param on_too_many_stuck: called once, when more than ``max_stuck`` are quarantined.
    :param on_idle: called whenever there is room for another job again.
    :param name: what the names of its threads begin with.
    :ivar ahead: how many jobs may be given that no thread can begin at once. Where
        they are short, a thread that need not wait for the next one does far more
        of them (measured: a third less CPU for each); :meth:`recall` takes them back.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        create_threads: CreateThreads,
        *,
        size: int = 8,
        max_stuck: int | None = None,
        grace: float = 5.0,
        on_too_many_stuck: Callable[[], object] = _nothing,
        on_idle: Callable[[], object] = _nothing,
        name: str = "crew",
    ) -> None:
        _check_size(size)
        self._clock = clock
        self._size = size
        self._max_stuck = max_stuck
        self._grace_period = grace
        self._on_too_many_stuck = on_too_many_stuck
        self._on_idle = on_idle
        self._name = name
        self.ahead = 0
        self._living = 0
        self._made = 0
        self._replaced = 0
        self._overflowed = False
        self._stopped = False
        # By id: a job need not be hashable.
        self._jobs: dict[int, Job] = {}
        self._recalled: dict[int, Job] = {}
        self._stuck: dict[int, Job] = {}
        self._interrupted: dict[int, tuple[str, float]] = {}
        self._grace: DeadlineTimer[int] = DeadlineTimer(clock, self._quarantine)
        self._threads = create_threads(self._finished)

    @property
    def idle(self) -> int:
        """How many more jobs can be started now."""
        return 0 if self._stopped else max(0, self._size + self.ahead - len(self._jobs))

    @property
    def free(self) -> int:
        """How many threads have no job at all."""
        return 0 if self._stopped else max(0, self._size - len(self._jobs))

    @property
    def waiting(self) -> int:
        """How many jobs were given and have no thread yet."""
        return max(0, len(self._jobs) - self._size)

    def start(self, job: Job) -> None:
        """
        Run a job in a thread.

        :raises RuntimeError: if no thread is idle, or the pool is stopped.
        """
        jobs = self._jobs
        if len(jobs) >= self._size + self.ahead or self._stopped:
            raise RuntimeError("the pool has no idle thread: look at its idle before you start a job")
        jobs[id(job)] = job
        if self._living < self._size and len(jobs) > self._living:
            self._add_thread()
        self._threads.give(job)

    def recall(self) -> list[Job]:
        """
        Take back the jobs that no thread has begun.

        :returns: those; they are not run, and not finished.
        """
        return [job for job in list(self._jobs.values()) if self.withdraw(job)]

    def withdraw(self, job: Job) -> bool:
        """
        Take one job back, as :meth:`recall` does.

        :returns: False if a thread has begun it, or it was taken back before.
        """
        if id(job) not in self._jobs or not self._threads.recall(job):
            return False
        self._drop(job)
        return True

    def interrupt(self, job: Job) -> bool:
        """
        Raise ``TimeLimitExceeded`` inside a job, and quarantine its thread if it goes on.

        :returns: False if the job doesn't run, is through, or was interrupted before.
        """
        key = id(job)
        thread = self._threads.interrupt(job) if key in self._jobs else None
        if thread is None:
            return False
        if not thread:
            self._drop(job)
            return True
        self._interrupted[key] = (thread, self._clock.seconds())
        self._grace.set(key, self._grace_period)
        return True

    def thread_of(self, job: Job) -> str:
        """The name of the thread that a job runs in, stuck ones included; empty if it has none."""
        interrupted = self._interrupted.get(id(job))
        return self._threads.runs_in(job) if interrupted is None else interrupted[0]

    @property
    def stuck(self) -> list[Job]:
        """The jobs whose threads are quarantined."""
        return list(self._stuck.values())

    def resize(self, size: int) -> None:
        """Run that many jobs at once from now on; running ones are left alone."""
        _check_size(size)
        grown = size > self._size
        self._size = size
        self._remove_threads(self._living - size)
        if grown and not self._stopped:
            self._on_idle()

    def stop(self) -> None:
        """
        Start nothing more, and end the idle threads.

        Busy ones end with their jobs, whose outcomes are still delivered; they
        are daemons, so the process need not wait for them.
        """
        self._stopped = True
        self._grace.stop()
        self._remove_threads(self._living)

    def status(self) -> PoolStatus:
        """A snapshot."""
        now = self._clock.seconds()
        stuck = []
        for key, job in self._stuck.items():
            thread, since = self._interrupted[key]
            stuck.append(StuckThread(thread, *job.describe(), now - since))
        busy = min(len(self._jobs), self._size)
        return PoolStatus(
            self._size, 0 if self._stopped else self._size - busy, busy, tuple(stuck), self._replaced
        )

    def _drop(self, job: Job) -> None:
        """It doesn't run any more; what its thread makes of that comes yet."""
        self._recalled[id(job)] = self._jobs.pop(id(job))

    def _add_thread(self) -> None:
        self._living += 1
        self._made += 1
        self._threads.add(f"{self._name}-{self._made}")

    def _remove_threads(self, count: int) -> None:
        for _ in range(count):
            self._living -= 1
            self._threads.remove()

    def _finished(self, job: Job, outcome: object) -> None:
        if self._recalled and self._recalled.pop(id(job), None) is not None:
            # Its thread is free now, and ran nothing whose end would tell of it.
            self._tell(self._on_idle)
            return
        if self._interrupted:
            self._forget_interrupted(id(job))
        self._jobs.pop(id(job), None)
        self._tell(job.finished, outcome)
        self._tell(self._on_idle)

    def _forget_interrupted(self, key: int) -> None:
        self._interrupted.pop(key, None)
        self._grace.clear(key)
        if self._stuck.pop(key, None) is not None:
            # Its thread takes jobs again, and there is one in its place: so one ends.
            self._threads.remove()

    def _quarantine(self, key: int) -> None:
        job = self._stuck[key] = self._jobs.pop(key)
        self._living -= 1
        self._replaced += 1
        if len(self._jobs) > self._living:
            self._add_thread()
        task_id, call_id = job.describe()
        self._log.warn(
            "{thread} does not end: task {task_id!r}, call {call_id!r}; {stuck} threads are stuck",
            thread=self._interrupted[key][0],
            task_id=task_id,
            call_id=call_id,
            stuck=len(self._stuck),
        )
        if len(self._stuck) > self._stuck_limit() and not self._overflowed:
            self._overflowed = True
            self._tell(self._on_too_many_stuck)
        self._tell(self._on_idle)

    def _tell(self, listener: Callable[..., object], *arguments: object) -> None:
        """Call back; what a listener raises must not cost others their outcomes."""
        try:
            listener(*arguments)
        except BaseException:
            self._log.failure("A callback of the thread pool failed")

    def _stuck_limit(self) -> int:
        return 2 * self._size if self._max_stuck is None else self._max_stuck


def _check_size(size: int) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InvalidArgumentError(f"the number of threads is a whole number from 1, not {size!r}")
