"""Tests of crew_tx.tasks.processes.pool: on a clock, with processes that only note what they are told."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import InvalidArgumentError, TaskProcessDiedError
from crew_tx.message import Answer, Call
from crew_tx.tasks.processes.frames import Frame, FrameError, FrameReader, write_frame
from crew_tx.tasks.processes.messages import FAILED, READY, TaskEvent, read_call, write_answer, write_event
from crew_tx.tasks.processes.pool import Listener, ProcessPool


def frame_of(data: bytes) -> Frame:
    """What somebody wrote."""
    (frame,) = FrameReader(1000).feed(data)
    return frame


class FakeChild:
    """A process that does nothing by itself."""

    def __init__(self, pid: int, listener: Listener) -> None:
        self.pid = pid
        self.listener = listener
        self.calls: list[str] = []
        self.closed = self.killed = False

    def send(self, frame: bytes) -> None:
        self.calls.append(read_call(frame_of(frame))[0].call_id)

    def close(self) -> None:
        self.closed = True

    def kill(self) -> None:
        self.killed = True

    def says(self, data: bytes) -> None:
        """It writes a frame."""
        self.listener.received(frame_of(data))

    def answers(self, call_id: str | None = None) -> None:
        """It is through with a call, the last one by default."""
        self.says(write_answer(Answer(call_id or self.calls[-1], b"1", "application/json", elapsed=0.5)))


class FakeJob:
    """A job that keeps its outcomes."""

    def __init__(self, name: str = "job", headers: dict[str, Any] | None = None) -> None:
        self.call = Call("task", name, b"", "application/json", headers=headers or {})
        self.time_left = 5.0
        self.outcomes: list[Any] = []

    def run(self) -> object:
        raise AssertionError("it is for a process")

    def finished(self, outcome: Any) -> None:
        self.outcomes.append(outcome)

    def describe(self) -> tuple[str, str]:
        return "task", self.call.call_id


class PoolTestCase(SynchronousTestCase):
    """A pool and its processes."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.children: list[FakeChild] = []
        self.log: list[Any] = []
        self.refusal: Exception | None = None
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def pool(self, size: int = 2, *, ready: bool = True, **options: Any) -> ProcessPool:
        """A pool that has begun; its first process is ready unless told otherwise."""
        pool = ProcessPool(
            self.clock,
            self.spawn,
            worker_id="w",
            size=size,
            on_idle=lambda: self.log.append("idle"),
            on_event=self.log.append,
            **options,
        )
        self.addCleanup(pool.stop)
        pool.begin()
        if ready:
            self.children[0].says(write_frame(READY, {}))
            self.log.clear()
        return pool

    def spawn(self, listener: Listener) -> FakeChild:
        if self.refusal is not None:
            raise self.refusal
        child = FakeChild(100 + len(self.children), listener)
        self.children.append(child)
        return child

    def started(self, pool: ProcessPool, name: str = "job") -> FakeJob:
        job = FakeJob(name)
        pool.start(job)
        return job

    def ready(self, *numbers: int) -> None:
        for number in numbers:
            self.children[number].says(write_frame(READY, {}))


class ServingTests(PoolTestCase):
    def test_one_process_is_warm_before_the_first_call(self) -> None:
        """And one more than calls need from then on, at most one more than the size."""
        pool = self.pool()
        self.assertEqual(len(self.children), 1)
        self.started(pool)
        self.assertEqual(len(self.children), 2)
        self.ready(1)
        self.started(pool, "second")
        self.assertEqual(len(self.children), 3)
        self.assertEqual([child.calls for child in self.children], [["job"], ["second"], []])

    def test_an_answer_is_handed_over_before_there_is_room(self) -> None:
        """And the process is used again."""
        pool = self.pool(1)
        job = self.started(pool)
        self.assertEqual((pool.idle, pool.thread_of(job)), (0, "process 100"))
        self.children[0].answers()
        self.assertEqual(job.outcomes, [Answer("job", b"1", "application/json", None, None, "w", 0.5, True)])
        self.assertEqual((self.log, pool.idle, pool.thread_of(job)), (["idle"], 1, ""))
        self.started(pool, "next")
        self.assertEqual(self.children[0].calls, ["job", "next"])

    def test_jobs_wait_for_a_process_to_start(self) -> None:
        """Those can be taken back."""
        pool = self.pool(ready=False)
        first, second = self.started(pool, "first"), self.started(pool, "second")
        self.assertEqual((pool.waiting, pool.idle, self.log), (2, 0, []))
        self.assertRaises(RuntimeError, pool.start, FakeJob())
        self.assertTrue(pool.withdraw(first))
        self.assertFalse(pool.withdraw(first))
        self.ready(0)
        self.assertEqual(self.children[0].calls, ["second"])
        self.assertFalse(pool.withdraw(second))
        self.assertEqual((pool.recall(), pool.waiting), ([], 0))

    def test_a_process_that_has_started_is_room(self) -> None:
        """Unless calls wait for as many as there may be."""
        pool = self.pool(ready=False)
        jobs = [self.started(pool, name) for name in ("first", "second")]
        self.ready(0)
        self.assertEqual(self.log, [])
        pool.withdraw(jobs[1])
        self.log.clear()
        self.ready(1)
        self.assertEqual((self.log, pool.idle), (["idle"], 1))

    def test_a_process_is_let_go_after_so_many_calls(self) -> None:
        """And killed where it does not end by itself."""
        pool = self.pool(1, process_calls=2)
        for name in ("first", "second"):
            self.started(pool, name)
            self.children[0].answers()
        self.assertEqual((self.children[0].closed, self.children[0].killed), (True, False))
        self.ready(1)
        self.started(pool, "third")
        self.assertEqual(self.children[1].calls, ["third"])
        self.clock.advance(5)
        self.assertTrue(self.children[0].killed)

    def test_events_are_handed_on(self) -> None:
        """As long as a task runs."""
        pool = self.pool()
        event = TaskEvent("news", ("x", "text/plain", None), {"a": 1}, True)  # type: ignore[arg-type]
        event = event._replace(encoded=(b"x", "text/plain", None))  # type: ignore[arg-type]
        self.started(pool)
        self.children[0].says(write_event(event))
        self.assertEqual(self.log, [event])

    def test_a_call_that_cannot_be_sent_is_answered_for(self) -> None:
        """Its headers hold what CBOR can't; the process serves the next."""
        pool = self.pool()
        job = FakeJob(headers={"a": object()})
        pool.start(job)
        self.assertEqual([type(outcome).__name__ for outcome in job.outcomes], ["EncodeError"])
        self.started(pool)
        self.assertEqual(self.children[0].calls, ["job"])

    def test_numbers_are_checked(self) -> None:
        """From one on."""
        for options in ({"size": 0}, {"size": True}, {"size": 1, "process_calls": 0}):
            self.assertRaises(
                InvalidArgumentError, ProcessPool, self.clock, self.spawn, worker_id="w", **options
            )

    def test_its_status(self) -> None:
        """Who runs what."""
        pool = self.pool()
        self.started(pool)
        status = pool.status()
        self.assertEqual((status.size, status.idle, status.busy), (2, 1, 1))
        found = [(each.pid, each.state, each.call_id) for each in status.processes]
        self.assertEqual(found, [(100, "busy", "job"), (101, "starting", "")])


class EndingTests(PoolTestCase):
    def test_an_interrupt_kills(self) -> None:
        """The job is not heard of again; its place is free when the process is gone."""
        pool = self.pool(1)
        job = self.started(pool)
        self.ready(1)
        self.assertTrue(pool.interrupt(job))
        self.assertFalse(pool.interrupt(job))
        self.assertEqual((self.children[0].killed, pool.idle, self.log), (True, 0, []))
        self.children[0].answers()
        self.children[0].listener.ended("was ended by SIGKILL")
        self.assertEqual((job.outcomes, pool.idle, self.log), ([], 1, ["idle"]))
        self.started(pool, "next")
        self.assertEqual(self.children[1].calls, ["next"])
        self.assertEqual(pool.status().killed, 1)

    def test_an_interrupt_of_a_job_that_waits_takes_it_back(self) -> None:
        """No process is killed for it."""
        pool = self.pool(ready=False)
        job = self.started(pool)
        self.assertTrue(pool.interrupt(job))
        self.ready(0)
        self.assertEqual((self.children[0].calls, self.children[0].killed), ([], False))

    def test_a_process_that_dies_is_answered_for(self) -> None:
        """With how it ended, and another takes its place."""
        pool = self.pool(1)
        job = self.started(pool)
        self.children[0].listener.ended("was ended by SIGSEGV")
        (error,) = job.outcomes
        self.assertIsInstance(error, TaskProcessDiedError)
        self.assertIn("100 was ended by SIGSEGV", str(error))
        self.assertEqual((pool.idle, pool.status().died), (1, 1))
        self.ready(1)
        self.started(pool, "next")
        self.assertEqual(self.children[1].calls, ["next"])

    def test_a_process_that_breaks_the_rules_is_killed(self) -> None:
        """By no frame, one that is not due, or another call's answer."""
        pool = self.pool(5)
        breaks: list[Any] = [
            lambda child: child.listener.broke_rules(FrameError("no")),
            lambda child: child.says(write_frame(READY, {})),
            lambda child: child.answers("another"),
        ]
        for number, broken in enumerate(breaks):
            job = self.started(pool, str(number))
            child = self.children[number]
            self.assertEqual(child.calls, [str(number)])
            self.ready(number + 1)
            broken(child)
            self.assertTrue(child.killed)
            self.assertIn("breaks the rules", str(job.outcomes[0]))
            child.listener.ended("was ended by SIGKILL")
            self.assertEqual(len(job.outcomes), 1)

    def test_stop_kills_all_and_waits(self) -> None:
        """And starts nothing more."""
        pool = self.pool()
        job = self.started(pool)
        stopped = pool.stop()
        self.assertNoResult(stopped)
        self.assertEqual([child.killed for child in self.children], [True, True])
        for child in self.children:
            child.listener.ended("was ended by SIGKILL")
        self.successResultOf(stopped)
        self.assertEqual((job.outcomes, pool.idle, len(self.children)), ([], 0, 2))


class StartingTests(PoolTestCase):
    def test_a_module_that_cannot_be_imported_is_told(self) -> None:
        """To those that wait, and at once to those that come before the next try."""
        pool = self.pool(ready=False)
        waiting = self.started(pool)
        for child in self.children[:2]:
            child.says(write_frame(FAILED, {"reason": "no module"}))
        self.assertIn("no module", str(waiting.outcomes[0]))
        self.assertIn("no module", str(self.started(pool, "next").outcomes[0]))
        self.assertEqual((pool.idle, pool.status().failed), (2, "no module"))

    def test_it_is_tried_again_later_and_later(self) -> None:
        """Up to half a minute, one process at a time; what comes meanwhile waits for the one that starts."""
        pool = self.pool(ready=False)
        delays = []
        for number in range(7):
            self.children[number].says(write_frame(FAILED, {"reason": "no module"}))
            self.children[number].listener.ended("ended with exit code 1")
            begun = self.clock.seconds()
            while len(self.children) == number + 1:
                self.clock.advance(0.5)
            delays.append(self.clock.seconds() - begun)
        self.assertEqual(delays, [1, 2, 4, 8, 16, 30, 30])
        job = self.started(pool)
        self.ready(7)
        self.assertEqual((self.children[7].calls, job.outcomes, pool.status().failed), (["job"], [], ""))
        self.assertEqual(len(self.children), 9)

    def test_a_process_that_does_not_start_in_time_is_killed(self) -> None:
        """That counts as one that can't."""
        pool = self.pool(ready=False)
        self.clock.advance(60)
        self.assertTrue(self.children[0].killed)
        self.assertIn("60 s", pool.status().failed)

    def test_a_process_that_dies_before_its_first_call_is_not_replaced_at_once(self) -> None:
        """As it is for one that dies as it starts."""
        self.pool()
        self.children[0].listener.ended("ended with exit code 0")
        self.assertEqual(len(self.children), 1)
        self.clock.advance(1)
        self.assertEqual(len(self.children), 2)

    def test_a_system_that_has_no_more_processes_is_told(self) -> None:
        """And asked again."""
        self.refusal = OSError("no memory")
        pool = self.pool(ready=False)
        self.assertIn("no memory", str(self.started(pool).outcomes[0]))
        self.refusal = None
        self.clock.advance(1)
        self.assertEqual(len(self.children), 1)

    def test_other_processes_serve_while_one_cannot_start(self) -> None:
        """What waits is not refused for it."""
        pool = self.pool()
        self.started(pool, "first")
        second = self.started(pool, "second")
        self.children[1].says(write_frame(FAILED, {"reason": "no memory"}))
        self.children[2].says(write_frame(FAILED, {"reason": "no memory"}))
        self.assertEqual(second.outcomes, [])
        self.children[0].answers()
        self.assertEqual(self.children[0].calls, ["first", "second"])
