"""Tests of crew_tx.testing.stepped."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from crew_tx.errors import TimeLimitExceeded
from crew_tx.tasks.interfaces import IThreads, Job
from crew_tx.testing.stepped import SteppedThreads
from tests.tasks.jobs import RecordingJob


class SteppedThreadsTests(SynchronousTestCase):
    """Threads that run what the test steps."""

    def setUp(self) -> None:
        self.finished: list[tuple[Job, Any]] = []
        self.threads = SteppedThreads()
        self.threads(lambda job, outcome: self.finished.append((job, outcome)))
        self.threads.add("stepped-1")

    def test_they_provide_the_interface_of_threads(self) -> None:
        """As the real ones do."""
        verifyObject(IThreads, self.threads)

    def test_jobs_run_in_the_order_in_which_they_were_given(self) -> None:
        """One a step, and then there are none."""
        jobs = [RecordingJob(), RecordingJob()]
        for job in jobs:
            self.threads.give(job)
        self.assertEqual(self.finished, [])
        self.assertTrue(self.threads.step())
        self.assertEqual(self.finished, [(jobs[0], "done")])
        self.assertTrue(self.threads.step())
        self.assertEqual(self.finished, [(jobs[0], "done"), (jobs[1], "done")])
        self.assertFalse(self.threads.step())

    def test_one_job_can_be_stepped_before_the_others(self) -> None:
        """The test decides what ends first."""
        jobs = [RecordingJob(), RecordingJob()]
        for job in jobs:
            self.threads.give(job)
        self.threads.step(jobs[1])
        self.assertEqual(self.finished, [(jobs[1], "done")])
        self.assertEqual(self.threads.jobs, [jobs[0]])

    def test_all_jobs_are_stepped_with_those_that_come_meanwhile(self) -> None:
        """A job that gives another is followed by it."""
        second = RecordingJob()
        self.threads.give(RecordingJob(lambda: self.threads.give(second)))
        self.assertEqual(self.threads.step_all(), 2)
        self.assertIs(self.finished[1][0], second)

    def test_an_interrupted_job_is_not_run(self) -> None:
        """It ends as if it had been hit at its first step; a second interrupt is refused."""
        ran: list[int] = []
        job = RecordingJob(lambda: ran.append(1))
        self.threads.give(job)
        self.assertEqual(self.threads.interrupt(job), "stepped-1")
        self.assertIsNone(self.threads.interrupt(job))
        self.threads.step()
        self.assertIsInstance(self.finished[0][1], TimeLimitExceeded)
        self.assertEqual(ran, [])
        self.assertIsNone(self.threads.interrupt(job))

    def test_held_jobs_are_left_alone(self) -> None:
        """Those behind them run as far as there are threads."""
        held = {"task": False}
        threads = SteppedThreads(held)
        threads(lambda job, outcome: self.finished.append((job, outcome)))
        threads.add("stepped-1")
        first, second = RecordingJob(), RecordingJob()
        second.describe = lambda: ("other", "")  # type: ignore[method-assign]
        threads.give(first)
        threads.give(second)
        self.assertFalse(threads.step_free())
        threads.add("stepped-2")
        self.assertTrue(threads.step_free())
        self.assertEqual(self.finished, [(second, "done")])
        self.assertFalse(threads.step_free())
        held.clear()
        self.assertTrue(threads.step_free())
        self.assertEqual(self.finished[1:], [(first, "done")])

    def test_an_interrupt_ends_a_held_job(self) -> None:
        """Unless not even that is to end it."""
        for stuck in (False, True):
            threads = SteppedThreads({"task": stuck})
            threads(lambda job, outcome: self.finished.append((job, outcome)))
            threads.add("stepped-1")
            job = RecordingJob()
            threads.give(job)
            threads.interrupt(job)
            self.assertEqual(threads.step_free(), not stuck)
        [(_, outcome)] = self.finished
        self.assertIsInstance(outcome, TimeLimitExceeded)

    def test_what_was_given_runs_when_the_threads_are_removed(self) -> None:
        """A thread ends when it finds nothing more."""
        job = RecordingJob()
        self.threads.give(job)
        self.threads.remove()
        self.assertTrue(self.threads.step_free())
        self.assertEqual(self.finished, [(job, "done")])
