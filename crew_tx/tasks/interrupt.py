"""
Raising an exception inside another thread, without ever hitting the wrong job.

CPython lets one thread leave an exception with another, which raises it the
next time that it enters a function, comes back from a call or jumps back. So
the exception lands *later*: by then the thread may be past the job that was
meant. Two rules keep it in its place.

1. Who has the say over a job is settled by taking a token, and taking an entry
   out of a set or a dict is atomic. A job has one token for its beginning, and
   from then on one for its end. Of a thread that would begin it and a reactor
   that would interrupt it, one takes the first; of a thread that is through
   with it and a reactor that would interrupt it, one takes the second. Only the
   reactor that took the second one sends an exception, so a job gets one at most.
2. A thread that finds its second token gone knows that an exception was, or is
   about to be, sent. It waits for that, and goes on only when none can be
   pending any more. To be sure of it, it sends itself another, which takes the
   place of the first if that is still pending, and waits for it to land.
   (Clearing a pending one leaves some versions of CPython looking for it ever
   after, which costs time.)

There is no lock: an exception that landed while the thread held one would leave
it locked, and the reactor behind it. As long as nobody interrupts, a job costs
four steps of a set and a dict.
"""

from __future__ import annotations

import ctypes
from threading import get_ident
from time import sleep

from crew_tx.errors import TimeLimitExceeded
from crew_tx.tasks.interfaces import Job

_raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in_thread.argtypes = (ctypes.c_ulong, ctypes.py_object)
_raise_in_thread.restype = ctypes.c_int

_MOMENT = 0.0001


class Runner:
    """
    A thread, seen from here; made in that thread.

    :ivar hit: whether an exception was sent to it and may not have landed.
    """

    __slots__ = ("hit", "ident", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ident = get_ident()
        self.hit = False


class InterruptGate:
    """The way of jobs into and out of any number of threads."""

    __slots__ = ("_beginning", "_ending")

    def __init__(self) -> None:
        self._beginning: set[int] = set()
        self._ending: dict[int, Runner] = {}

    def admit(self, job: Job) -> None:
        """Announce a job; called on the reactor, before any thread can see it."""
        self._beginning.add(id(job))

    def recall(self, job: Job) -> bool:
        """
        Keep a job from beginning.

        Called on the reactor.

        :returns: False if it has begun.
        """
        try:
            self._beginning.remove(id(job))
        except KeyError:
            return False
        return True

    def runs_in(self, job: Job) -> str:
        """The name of the thread that a job runs in; empty if none does, or it was interrupted."""
        key = id(job)
        runner = None if key in self._beginning else self._ending.get(key)
        return "" if runner is None else runner.name

    def interrupt(self, job: Job) -> str | None:
        """
        Raise ``TimeLimitExceeded`` inside a job, or keep it from beginning.

        Called on the reactor.

        :returns: the name of the thread that it runs in, empty if it didn't
            begin; None if it is through, or was interrupted before.
        """
        if self.recall(job):
            return ""
        key = id(job)
        runner = self._ending.pop(key, None)
        if runner is None:
            return None
        _raise_in_thread(runner.ident, TimeLimitExceeded)
        runner.hit = True
        return runner.name

    def run(self, job: Job, runner: Runner) -> object:
        """
        Run a job; called in the thread.

        :returns: its outcome, or the exception that got out of it. No
            exception gets out of here, and none is pending afterwards.
        """
        key = id(job)
        # Before the other token is taken: the reactor must find one of the two.
        self._ending[key] = runner
        outcome: object
        try:
            outcome = job.run() if self._begins(key) else TimeLimitExceeded()
        except BaseException as exception:
            outcome = exception
        while True:
            try:
                if self._ending.pop(key, None) is None:
                    self._flush(runner)
                return outcome
            except TimeLimitExceeded:
                # It landed on the way out, and nothing else will: so this goes round once.
                continue

    def _begins(self, key: int) -> bool:
        try:
            self._beginning.remove(key)
        except KeyError:
            return False
        return True

    @staticmethod
    def _flush(runner: Runner) -> None:
        while not runner.hit:
            sleep(_MOMENT)
        try:
            _raise_in_thread(runner.ident, TimeLimitExceeded)
            while True:
                sleep(_MOMENT)
        except TimeLimitExceeded:
            runner.hit = False
