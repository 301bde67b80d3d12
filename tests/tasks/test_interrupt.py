"""Tests of crew_tx.tasks.interrupt, with real threads: there is no other way to know."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from queue import SimpleQueue
from random import Random
from threading import Event, Lock, Thread
from time import perf_counter, sleep
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import TimeLimitExceeded
from crew_tx.tasks import interrupt
from crew_tx.tasks.interrupt import InterruptGate, Runner
from tests.tasks.jobs import PATIENCE, RecordingJob


class Bench:
    """A thread that takes jobs through a gate; the test is its reactor."""

    def __init__(self) -> None:
        self.gate = InterruptGate()
        self.jobs: SimpleQueue[RecordingJob | None] = SimpleQueue()
        self.outcomes: SimpleQueue[Any] = SimpleQueue()
        self.thread = Thread(target=self._main, daemon=True)
        self.thread.start()

    def _main(self) -> None:
        runner = Runner("bench")
        while (job := self.jobs.get()) is not None:
            self.outcomes.put(self.gate.run(job, runner))

    def give(self, run: Callable[[], object]) -> RecordingJob:
        job = RecordingJob(run)
        self.gate.admit(job)
        self.jobs.put(job)
        return job

    def outcome(self) -> Any:
        return self.outcomes.get(timeout=PATIENCE)

    def end(self) -> None:
        self.jobs.put(None)
        self.thread.join(PATIENCE)


class InterruptGateTests(SynchronousTestCase):
    """An interrupt ends the job that is meant, and no other."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.addCleanup(self.bench.end)

    def assert_unharmed(self) -> None:
        """The thread runs another job to its end."""
        self.bench.give(lambda: sum(range(100_000)))
        self.assertEqual(self.bench.outcome(), sum(range(100_000)))

    def test_a_loop_without_end_is_ended(self) -> None:
        """``while True: pass`` ends by TimeLimitExceeded, a SystemExit."""
        begun = Event()

        def run() -> None:
            begun.set()
            while True:
                pass

        job = self.bench.give(run)
        self.assertTrue(begun.wait(PATIENCE))
        self.assertEqual(self.bench.gate.interrupt(job), "bench")
        outcome = self.bench.outcome()
        self.assertIsInstance(outcome, TimeLimitExceeded)
        self.assertIsInstance(outcome, SystemExit)
        self.assert_unharmed()

    def test_the_thread_of_a_job(self) -> None:
        """Before it begins and after its end it has none."""
        begun, go_on = Event(), Event()
        job = self.bench.give(lambda: (begun.set(), go_on.wait(PATIENCE)))
        behind = self.bench.give(lambda: None)
        self.assertTrue(begun.wait(PATIENCE))
        gate = self.bench.gate
        self.assertEqual((gate.runs_in(job), gate.runs_in(behind)), ("bench", ""))
        go_on.set()
        for _ in range(2):
            self.bench.outcome()
        self.assertEqual((gate.runs_in(job), gate.runs_in(behind)), ("", ""))

    def test_a_job_that_did_not_begin_is_not_run(self) -> None:
        """It ends as if it had been interrupted at its first step."""
        held = Event()
        ran: list[int] = []
        self.bench.give(held.wait)
        job = self.bench.give(lambda: ran.append(1))
        self.assertEqual(self.bench.gate.interrupt(job), "")
        held.set()
        self.assertIs(self.bench.outcome(), True)
        self.assertIsInstance(self.bench.outcome(), TimeLimitExceeded)
        self.assertEqual(ran, [])
        self.assert_unharmed()

    def test_a_job_that_is_through_can_not_be_interrupted(self) -> None:
        """The thread's next job would be hit instead."""
        job = self.bench.give(lambda: 1)
        self.bench.outcome()
        self.assertIsNone(self.bench.gate.interrupt(job))
        self.assert_unharmed()

    def test_a_job_is_interrupted_once(self) -> None:
        """A second interrupt, at whatever stage, is refused."""
        begun, held = Event(), Lock()
        held.acquire()

        def run() -> None:
            begun.set()
            held.acquire()

        job = self.bench.give(run)
        self.assertTrue(begun.wait(PATIENCE))
        self.assertEqual(self.bench.gate.interrupt(job), "bench")
        self.assertIsNone(self.bench.gate.interrupt(job))
        held.release()
        self.assertIsInstance(self.bench.outcome(), TimeLimitExceeded)
        self.assertIsNone(self.bench.gate.interrupt(job))

    def test_an_exception_that_lands_as_the_job_ends_is_its_outcome(self) -> None:
        """A job that is one call into C can't be hit before it comes back."""
        held = Lock()
        held.acquire()
        job = self.bench.give(held.acquire)
        # The thread gets its turn: such a job can't say that it has begun.
        Event().wait(0.05)
        while self.bench.gate.interrupt(job) != "bench":
            # It did not begin: this one is spent, so take another.
            self.assertIsInstance(self.bench.outcome(), TimeLimitExceeded)
            job = self.bench.give(held.acquire)
            Event().wait(0.05)
        held.release()
        self.assertIsInstance(self.bench.outcome(), TimeLimitExceeded)
        self.assert_unharmed()

    def test_a_job_may_swallow_it(self) -> None:
        """Then its outcome is its own, and nothing is left for the next."""
        begun, held = Event(), Lock()
        held.acquire()

        def run() -> str:
            try:
                begun.set()
                held.acquire()
            except SystemExit:
                return "swallowed"
            return "missed"

        job = self.bench.give(run)
        self.assertTrue(begun.wait(PATIENCE))
        self.bench.gate.interrupt(job)
        held.release()
        self.assertEqual(self.bench.outcome(), "swallowed")
        self.assert_unharmed()

    def test_a_thread_waits_for_an_exception_that_is_on_its_way(self) -> None:
        """A job that is through before it was sent keeps its outcome, and it lands before the next."""
        begun, held, waiting = Event(), Lock(), Event()
        held.acquire()
        send = interrupt._raise_in_thread

        def send_late(ident: int, kind: type[BaseException]) -> object:
            if ident == self.bench.thread.ident and not waiting.is_set():
                held.release()
                waiting.wait(PATIENCE)
            return send(ident, kind)

        def sleep_and_tell(seconds: float) -> None:
            waiting.set()
            sleep(seconds)

        self.patch(interrupt, "_raise_in_thread", send_late)
        self.patch(interrupt, "sleep", sleep_and_tell)

        def run() -> str:
            begun.set()
            held.acquire()
            return "through"

        job = self.bench.give(run)
        self.assertTrue(begun.wait(PATIENCE))
        self.assertEqual(self.bench.gate.interrupt(job), "bench")
        self.assertEqual(self.bench.outcome(), "through")
        self.assert_unharmed()

    def test_what_a_job_raises_is_its_outcome(self) -> None:
        """No exception ends the thread."""
        for error in (ValueError("no"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()):

            def run(error: BaseException = error) -> None:
                raise error

            self.bench.give(run)
            self.assertIs(self.bench.outcome(), error)
        self.assert_unharmed()

    def test_no_stray_interrupt_hits_the_next_job(self) -> None:
        """Thousands of jobs end around the moment of their interrupt, an innocent one behind each."""
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(2e-5)
        random = Random(1)
        endings: Counter[tuple[str | None, bool]] = Counter()
        for number in range(1000):
            begun = Event()
            job = self.bench.give(_spinner(random.uniform(0, 300e-6), number, begun.set))
            self.bench.give(_spinner(20e-6, -number))
            if random.random() < 0.95:
                self.assertTrue(begun.wait(PATIENCE))
            _spinner(random.uniform(0, 300e-6), 0)()
            told = self.bench.gate.interrupt(job)
            first, second = self.bench.outcome(), self.bench.outcome()
            hit = isinstance(first, TimeLimitExceeded)
            self.assertTrue(hit or first == number)
            self.assertEqual(second, -number)
            endings[told, hit] += 1
        self.assertNotIn((None, True), endings)
        # All of it has happened: refused at the door, hit on the way, through before.
        for ending in (("", True), ("bench", True), (None, False)):
            self.assertIn(ending, endings)


def _spinner(seconds: float, result: int, begun: Callable[[], object] = int) -> Callable[[], int]:
    def run() -> int:
        begun()
        end = perf_counter() + seconds
        while perf_counter() < end:
            pass
        return result

    return run
