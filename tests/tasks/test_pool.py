"""Tests of crew_tx.tasks.pool: on a clock and stepped threads, but for the last few."""

from __future__ import annotations

import threading
from threading import Event
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import InvalidArgumentError, TimeLimitExceeded
from crew_tx.status import PoolStatus, StuckThread
from crew_tx.tasks.pool import ThreadPool
from crew_tx.tasks.threads import start_threads_factory
from crew_tx.testing.stepped import SteppedThreads
from tests.tasks.jobs import PATIENCE, Crossings, RecordingJob


class PoolTests(SynchronousTestCase):
    """What the pool decides."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.threads = SteppedThreads()
        self.calls: list[str] = []
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def pool(self, size: int = 2, **options: Any) -> ThreadPool:
        """A pool that notes its callbacks, and is stopped after the test."""
        pool = ThreadPool(
            self.clock,
            self.threads,
            size=size,
            on_idle=lambda: self.calls.append("idle"),
            on_too_many_stuck=lambda: self.calls.append("too many stuck"),
            **options,
        )
        self.addCleanup(pool.stop)
        return pool

    def started(self, pool: ThreadPool, name: str = "job") -> RecordingJob:
        """A job that the pool started."""
        job = RecordingJob(name=name)
        pool.start(job)
        return job

    def stuck(self, pool: ThreadPool, name: str = "job") -> RecordingJob:
        """A job whose thread was quarantined."""
        job = self.started(pool, name)
        pool.interrupt(job)
        self.clock.advance(5)
        return job

    def test_a_job_is_run_and_finished(self) -> None:
        """Once, with what it returned."""
        job = self.started(self.pool())
        self.assertEqual(job.outcomes, [])
        self.threads.step()
        self.assertEqual(job.outcomes, ["done"])

    def test_idle_counts_what_can_be_started(self) -> None:
        """From the size down to none, and up again."""
        pool = self.pool()
        self.assertEqual(pool.idle, 2)
        self.started(pool)
        self.assertEqual(pool.idle, 1)
        self.started(pool)
        self.assertEqual(pool.idle, 0)
        self.threads.step()
        self.assertEqual(pool.idle, 1)

    def test_the_thread_of_a_job(self) -> None:
        """While it runs, and while it is stuck; a job that waits or is through has none."""
        pool = self.pool(1)
        pool.ahead = 1
        job, waiting = self.started(pool), self.started(pool)
        self.assertEqual((pool.thread_of(job), pool.thread_of(waiting)), ("crew-1", ""))
        self.assertEqual(pool.stuck, [])
        pool.interrupt(job)
        self.assertEqual(pool.thread_of(job), "crew-1")
        self.clock.advance(5)
        self.assertEqual((pool.stuck, pool.thread_of(job)), ([job], "crew-1"))
        self.threads.step(job)
        self.assertEqual((pool.stuck, pool.thread_of(job)), ([], ""))

    def test_a_full_pool_refuses(self) -> None:
        """Its user looks at idle first."""
        pool = self.pool(1)
        self.started(pool)
        self.assertRaises(RuntimeError, pool.start, RecordingJob())

    def test_threads_are_made_when_they_are_needed(self) -> None:
        """And used again before another is made."""
        pool = self.pool()
        self.assertEqual(self.threads.names, [])
        for _ in range(3):
            self.started(pool)
            self.threads.step()
        self.assertEqual(self.threads.names, ["crew-1"])
        self.started(pool)
        self.started(pool)
        self.assertEqual(self.threads.names, ["crew-1", "crew-2"])

    def test_it_tells_when_there_is_room_after_the_outcome(self) -> None:
        """So that the outcome is handled before another job is started."""
        pool = self.pool()
        job = self.started(pool)
        job.finished = lambda outcome: self.calls.append("finished")  # type: ignore[method-assign]
        self.threads.step()
        self.assertEqual(self.calls, ["finished", "idle"])

    def test_a_job_can_be_started_where_one_finished(self) -> None:
        """The thread is free by the time that finished is called."""
        pool = self.pool(1)
        job, second = self.started(pool), RecordingJob()
        job.finished = lambda outcome: pool.start(second)  # type: ignore[method-assign]
        self.threads.step_all()
        self.assertEqual(second.outcomes, ["done"])

    def test_a_listener_that_raises_costs_nobody_his_outcome(self) -> None:
        """It is logged, and the room is told of all the same."""
        pool = self.pool()
        job = self.started(pool)
        job.finished = lambda outcome: [].pop()  # type: ignore[method-assign]
        self.threads.step()
        self.assertEqual(self.calls, ["idle"])
        self.assertEqual(pool.idle, 2)
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 1)

    def test_an_interrupted_job_that_ends_in_time_frees_its_thread(self) -> None:
        """Nothing is replaced."""
        pool = self.pool()
        job = self.started(pool)
        self.assertTrue(pool.interrupt(job))
        self.clock.advance(4.9)
        self.threads.step()
        self.assertIsInstance(job.outcomes[0], TimeLimitExceeded)
        self.clock.advance(1)
        self.assertEqual(pool.status(), PoolStatus(size=2, idle=2, busy=0))

    def test_interrupting_twice_does_not_prolong_the_grace(self) -> None:
        """The second is refused, and so is one of a job that doesn't run."""
        pool = self.pool()
        job = self.started(pool)
        pool.interrupt(job)
        self.clock.advance(3)
        self.assertFalse(pool.interrupt(job))
        self.clock.advance(2)
        self.assertEqual(len(pool.status().stuck), 1)
        self.assertFalse(pool.interrupt(job))
        self.assertFalse(pool.interrupt(RecordingJob()))
        self.threads.step()
        self.assertFalse(pool.interrupt(job))

    def test_a_job_that_does_not_end_is_quarantined(self) -> None:
        """It is named in status, and its place is free."""
        pool = self.pool(1)
        self.stuck(pool, "call-1")
        self.clock.advance(2)
        stuck = StuckThread(name="crew-1", task_id="task", call_id="call-1", seconds=7)
        self.assertEqual(pool.status(), PoolStatus(size=1, idle=1, busy=0, stuck=(stuck,), replaced=1))
        self.assertEqual(self.calls, ["idle"])
        job = self.started(pool)
        self.assertEqual(self.threads.names, ["crew-1", "crew-2"])
        self.threads.step(job)
        self.assertEqual(job.outcomes, ["done"])

    def test_a_job_that_no_thread_has_begun_is_withdrawn(self) -> None:
        """It is neither run nor finished; one that was begun goes on."""
        pool = self.pool(size=1)
        pool.ahead = 1
        begun, waiting = self.started(pool, "begun"), self.started(pool, "waiting")
        self.assertEqual([pool.withdraw(job) for job in (begun, waiting, waiting)], [False, True, False])
        self.assertEqual((pool.waiting, pool.idle), (0, 1))
        self.threads.step_all()
        self.assertEqual((begun.outcomes, waiting.outcomes), (["done"], []))
        self.assertEqual(self.calls, ["idle", "idle"])
        self.assertEqual([pool.withdraw(begun), pool.withdraw(RecordingJob())], [False, False])

    def test_a_quarantined_thread_that_ends_after_all_leaves(self) -> None:
        """Its outcome is delivered, and there is one thread less."""
        pool = self.pool(1)
        job = self.stuck(pool)
        self.started(pool)
        self.assertEqual(self.threads.living, 2)
        self.threads.step(job)
        self.assertEqual(len(job.outcomes), 1)
        self.assertEqual(self.threads.living, 1)
        self.assertEqual(pool.status(), PoolStatus(size=1, idle=0, busy=1, stuck=(), replaced=1))

    def test_too_many_stuck_threads_are_told_of_once(self) -> None:
        """When there is one more than the limit."""
        pool = self.pool(max_stuck=1)
        self.stuck(pool)
        self.assertNotIn("too many stuck", self.calls)
        self.stuck(pool)
        self.stuck(pool)
        self.assertEqual(self.calls.count("too many stuck"), 1)

    def test_by_default_twice_the_size_may_be_stuck(self) -> None:
        """The fifth is too many for a pool of two."""
        pool = self.pool(2)
        for _ in range(4):
            self.stuck(pool)
        self.assertNotIn("too many stuck", self.calls)
        self.stuck(pool)
        self.assertIn("too many stuck", self.calls)

    def test_a_smaller_pool_ends_threads(self) -> None:
        """Running jobs are left alone, and none is started until there is room."""
        pool = self.pool(3)
        for _ in range(3):
            self.started(pool)
        pool.resize(1)
        self.assertEqual(self.threads.living, 1)
        self.assertEqual(pool.idle, 0)
        self.threads.step()
        self.threads.step()
        self.assertEqual(pool.idle, 0)
        self.threads.step()
        self.assertEqual(pool.idle, 1)

    def test_a_larger_pool_has_room_at_once(self) -> None:
        """And says so; threads are made when they are needed."""
        pool = self.pool(1)
        self.started(pool)
        pool.resize(2)
        self.assertEqual(self.calls, ["idle"])
        self.started(pool)
        self.assertEqual(self.threads.living, 2)

    def test_the_size_is_a_positive_whole_number(self) -> None:
        """At first and later."""
        for size in (0, -1, 1.5, True, "8"):
            self.assertRaises(InvalidArgumentError, self.pool, size)
            self.assertRaises(InvalidArgumentError, self.pool().resize, size)

    def test_a_stopped_pool_starts_nothing_and_ends_its_threads(self) -> None:
        """Outcomes of what still ran are delivered."""
        pool = self.pool()
        job = self.started(pool)
        pool.interrupt(job)
        pool.stop()
        self.assertEqual(self.threads.living, 0)
        self.assertEqual(pool.idle, 0)
        self.assertRaises(RuntimeError, pool.start, RecordingJob())
        self.threads.step()
        self.assertEqual(len(job.outcomes), 1)

    def test_stopping_twice_is_stopping_once(self) -> None:
        """No thread is removed that isn't there."""
        pool = self.pool()
        self.started(pool)
        pool.stop()
        pool.stop()
        self.assertEqual(self.threads.living, 0)


class RealPoolTests(SynchronousTestCase):
    """The same with real threads, for what stepped ones can't show."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.crossings = Crossings()
        self.pool = ThreadPool(self.clock, start_threads_factory(self.crossings), size=1, name=self.id())
        self.addCleanup(self.pool.stop)

    def living(self) -> list[threading.Thread]:
        """The pool's threads."""
        return [thread for thread in threading.enumerate() if thread.name.startswith(self.id())]

    def test_a_blocked_thread_is_replaced_and_ends_when_it_is_released(self) -> None:
        """One that waits in C for an hour can't be interrupted."""
        begun, released = Event(), Event()

        def run() -> None:
            begun.set()
            released.wait(3600)

        blocked = RecordingJob(run)
        self.pool.start(blocked)
        self.assertTrue(begun.wait(PATIENCE))
        self.pool.interrupt(blocked)
        self.clock.advance(5)
        self.assertEqual(len(self.pool.status().stuck), 1)
        job = RecordingJob()
        self.pool.start(job)
        self.assertEqual(self.crossings.serve_until(job), "done")
        threads = self.living()
        self.assertEqual(len(threads), 2)

        released.set()
        self.assertIsInstance(self.crossings.serve_until(blocked), TimeLimitExceeded)
        self.assertEqual(self.pool.status().stuck, ())
        self.pool.stop()
        for thread in threads:
            thread.join(PATIENCE)
        self.assertEqual(self.living(), [])

    def test_a_loop_without_end_frees_its_thread(self) -> None:
        """The same thread runs the next job."""
        begun = Event()

        def run() -> None:
            begun.set()
            while True:
                pass

        job, second = RecordingJob(run), RecordingJob()
        self.pool.start(job)
        self.assertTrue(begun.wait(PATIENCE))
        self.pool.interrupt(job)
        self.crossings.serve_until(job)
        self.pool.start(second)
        self.assertEqual(self.crossings.serve_until(second), "done")
        self.assertEqual(len(self.living()), 1)
        self.assertEqual(self.pool.status().replaced, 0)
