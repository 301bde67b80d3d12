"""Tests of crew_tx.tasks.threads, with real threads."""

from __future__ import annotations

import threading
import weakref
from threading import Event

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from crew_tx.errors import TimeLimitExceeded
from crew_tx.tasks.interfaces import IThreads, Job
from crew_tx.tasks.threads import RealThreads, start_threads_factory
from tests.tasks.jobs import PATIENCE, Crossings, RecordingJob


def _hand_over(job: Job, outcome: object) -> None:
    job.finished(outcome)


class RealThreadsTests(SynchronousTestCase):
    """Threads that take jobs from one queue and hand outcomes to the reactor."""

    def setUp(self) -> None:
        self.crossings = Crossings()
        self.threads = RealThreads(self.crossings, _hand_over)

    def add(self, count: int, name: str) -> list[threading.Thread]:
        """Add threads that are removed after the test."""
        for _ in range(count):
            self.threads.add(name)
            self.addCleanup(self.threads.remove)
        return [thread for thread in threading.enumerate() if thread.name == name]

    def test_they_provide_their_interface(self) -> None:
        """The pool relies on no more than that."""
        verifyObject(IThreads, self.threads)
        verifyObject(IThreads, start_threads_factory(self.crossings)(_hand_over))

    def test_a_job_runs_in_a_thread_and_finishes_in_the_reactor(self) -> None:
        """What run returns, there, is what finished is called with, here."""
        self.add(1, "elsewhere")
        job = RecordingJob(lambda: threading.current_thread().name)
        self.threads.give(job)
        self.assertEqual(self.crossings.serve_until(job), "elsewhere")

    def test_jobs_run_side_by_side(self) -> None:
        """As many as there are threads."""
        self.add(3, "side")
        barrier = threading.Barrier(3)
        jobs = [RecordingJob(lambda: barrier.wait(PATIENCE) >= 0) for _ in range(3)]
        for job in jobs:
            self.threads.give(job)
        self.assertEqual([self.crossings.serve_until(job) for job in jobs], [True] * 3)

    def test_the_threads_are_daemons(self) -> None:
        """A stuck one doesn't hold up the end of the process."""
        self.assertEqual([thread.daemon for thread in self.add(2, "daemon")], [True, True])

    def test_a_removed_thread_ends(self) -> None:
        """After the jobs that were given before."""
        self.threads.add("leaving")
        thread = next(thread for thread in threading.enumerate() if thread.name == "leaving")
        job = RecordingJob()
        self.threads.give(job)
        self.threads.remove()
        self.assertEqual(self.crossings.serve_until(job), "done")
        thread.join(PATIENCE)
        self.assertFalse(thread.is_alive())

    def test_outcomes_that_come_together_cross_together(self) -> None:
        """One wake of the reactor serves all outcomes until it is served."""
        self.add(1, "batch")
        jobs = [RecordingJob() for _ in range(50)]
        last = Event()
        for job in jobs:
            self.threads.give(job)
        self.threads.give(RecordingJob(last.set))
        self.assertTrue(last.wait(PATIENCE))
        self.assertEqual(self.crossings.count, 1)
        self.crossings.serve()
        self.assertEqual([job.outcomes for job in jobs], [["done"]] * 50)

    def test_no_outcome_is_left_behind(self) -> None:
        """However outcomes and wakes of the reactor interleave."""
        self.add(4, "many")
        jobs = [RecordingJob(name=str(number)) for number in range(5000)]
        for job in jobs:
            self.threads.give(job)
        for job in jobs:
            self.crossings.serve_until(job)
        self.assertEqual({len(job.outcomes) for job in jobs}, {1})

    def test_an_interrupted_job_ends(self) -> None:
        """Its outcome is the exception."""
        self.add(1, "interrupted")
        begun = Event()

        def run() -> None:
            begun.set()
            while True:
                pass

        job = RecordingJob(run)
        self.threads.give(job)
        self.assertTrue(begun.wait(PATIENCE))
        self.assertEqual(self.threads.interrupt(job), "interrupted")
        self.assertIsInstance(self.crossings.serve_until(job), TimeLimitExceeded)

    def test_an_idle_thread_keeps_no_job_alive(self) -> None:
        """A job holds a message, and that may be large."""
        self.add(1, "idle")
        gone = Event()
        job = RecordingJob()
        reference = weakref.ref(job, lambda _: gone.set())
        self.threads.give(job)
        self.crossings.serve_until(job)
        del job
        self.assertTrue(gone.wait(PATIENCE))
        self.assertIsNone(reference())
