"""Suspects: their order; and, by the runner, that a call that kills its workers takes no other with it."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any
from unittest.mock import patch

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.codec import Codec
from crew_tx.message import Answer, Call, check_headers
from crew_tx.tasks import runner as runner_module
from crew_tx.tasks.attempt import Attempt
from crew_tx.tasks.context import Settings
from crew_tx.tasks.pool import ThreadPool
from crew_tx.tasks.registry import Registry, Task
from crew_tx.tasks.runner import TaskRunner
from crew_tx.tasks.suspects import GATHER, Suspects
from crew_tx.testing.stepped import SteppedThreads
from crew_tx.topology import DELIVERY_LIMIT, SUSPECT_FROM

_CODEC = Codec()
_CALLS = 100
_PREFETCH = 10
_WORKERS = 2


class SuspectsTests(SynchronousTestCase):
    """What is held, and in which order it goes."""

    def setUp(self) -> None:
        self.suspects: Suspects[str] = Suspects("w")

    def push(self, deliveries: int, *names: str) -> None:
        for name in names:
            self.suspects.push(deliveries, name, name)

    def test_those_that_became_suspects_just_now_go_first(self) -> None:
        """On each worker."""
        for number in range(20):
            self.suspects = Suspects(f"w{number}")
            for count in (9, 4, 3, 5, 7):
                self.push(count, str(count))
            self.assertEqual(self.suspects.drain()[0], "3")

    def test_each_of_the_others_comes_first_on_some_worker(self) -> None:
        """However often each was delivered."""
        firsts = set()
        for number in range(60):
            self.suspects = Suspects(f"w{number}")
            for count in (9, 4, 8, 5):
                self.push(count, str(count))
            firsts.add(self.suspects.begin())
        self.assertEqual(firsts, {"4", "5", "8", "9"})

    def test_the_order_is_each_workers_own(self) -> None:
        """And the same one each time."""
        names = [f"c{number}" for number in range(6)]
        orders = []
        for worker in ("w1", "w1", "w2", "w3"):
            self.suspects = Suspects(worker)
            self.push(2, *names)
            orders.append(tuple(self.suspects.drain()))
        self.assertEqual(orders[0], orders[1])
        self.assertEqual(len(set(orders)), 3)
        self.assertEqual({tuple(sorted(order)) for order in orders}, {tuple(names)})

    def test_one_is_present_while_it_waits_and_while_it_runs(self) -> None:
        """Until it has ended."""
        self.assertFalse(self.suspects.present)
        self.push(2, "a")
        self.assertEqual((self.suspects.present, len(self.suspects), list(self.suspects)), (True, 1, ["a"]))
        self.assertEqual(self.suspects.begin(), "a")
        self.assertEqual((self.suspects.present, len(self.suspects)), (True, 0))
        self.suspects.ended()
        self.assertFalse(self.suspects.present)

    def test_one_is_removed(self) -> None:
        """Once."""
        self.push(2, "a", "b")
        self.assertEqual((self.suspects.remove("a"), self.suspects.remove("a")), (True, False))
        self.assertTrue(self.suspects.present)
        self.suspects.remove("b")
        self.assertFalse(self.suspects.present)

    def test_nothing_is_there(self) -> None:
        """It says so."""
        self.assertRaises(IndexError, self.suspects.begin)
        self.assertEqual(self.suspects.drain(), [])
        self.assertFalse(self.suspects.present)


@Task("work")
def work(req: Any) -> None:
    """Any task."""


class Queue:
    """
    A quorum queue.

    :ivar waiting: the numbers of calls, the next one first.
    :ivar deliveries: how often each was delivered and came back.
    """

    def __init__(self) -> None:
        self.waiting = deque(range(_CALLS))
        self.deliveries = [0] * _CALLS
        self.poison: set[int] = set()

    def take_back(self, numbers: list[int]) -> None:
        """A connection was lost that held these: each has one delivery more."""
        for number in sorted(numbers, reverse=True):
            self.deliveries[number] += 1
            if self.deliveries[number] > DELIVERY_LIMIT:
                self.poison.add(number)
            else:
                self.waiting.appendleft(number)


class Process:
    """A worker of that queue, by the real runner."""

    def __init__(self, name: str, queue: Queue) -> None:
        self._queue = queue
        self._threads = SteppedThreads()
        self._clock = clock = Clock()
        pool = ThreadPool(clock, self._threads, size=8, on_idle=lambda: self.runner.start_held())
        self.runner = TaskRunner(
            clock,
            Registry([work.__crew_task__]),  # type: ignore[attr-defined]
            _CODEC,
            pool,
            self._answered,
            worker_id=name,
            settings=Settings(),
            check_headers=check_headers,
            in_thread=lambda function, *arguments: self.fail(),
        )
        self.has: dict[int, None] = {}

    def fail(self) -> Any:
        raise AssertionError("nothing here is large")

    def fill(self) -> None:
        """The broker sends what it may."""
        queue = self._queue
        while queue.waiting and len(self.has) < _PREFETCH:
            number = queue.waiting.popleft()
            self.has[number] = None
            encoded = _CODEC.encode(number, None)
            call = Call("work", f"call {number}", encoded.body, encoded.content_type, reply_to="c")
            self.runner.take(call._replace(deliveries=queue.deliveries[number]), number)
        self._clock.advance(GATHER)

    def runs(self) -> set[int]:
        """What it runs now."""
        return {int(job.describe()[1].split()[1]) for job in self._threads.jobs}

    def end_one(self, random: Random) -> None:
        """One of the calls that run ends; which one is chance."""
        self._threads.step(random.choice(self._threads.jobs))

    def _answered(self, attempt: Attempt, answer: Answer) -> None:
        number: Any = attempt.delivery
        del self.has[number]


class DeathTests(SynchronousTestCase):
    """Calls that kill each worker as soon as they run, among a hundred, and two workers at a time."""

    def simulate(self, seed: int, guilty: set[int]) -> Queue:
        """Go on until the queue is empty."""
        random = Random(seed)
        queue = Queue()
        made = 0
        processes: list[Process] = []
        while queue.waiting or any(process.has for process in processes):
            while len(processes) < _WORKERS:
                made += 1
                processes.append(Process(f"worker-{seed}-{made}", queue))
            process = random.choice(processes)
            process.fill()
            if process.runs() & guilty:
                processes.remove(process)
                queue.take_back(list(process.has))
            elif process.runs():
                process.end_one(random)
        return queue

    def test_the_guilty_alone_reach_the_limit(self) -> None:
        """One or two of them; and no innocent call comes near it."""
        worst = 0
        for seed in range(100):
            random = Random(seed)
            guilty = set(random.sample(range(_CALLS), 1 + seed % 2))
            queue = self.simulate(seed, guilty)
            self.assertEqual(queue.poison, guilty)
            innocent = set(range(_CALLS)) - guilty
            worst = max(worst, *(queue.deliveries[number] for number in innocent))
        self.assertLess(worst, DELIVERY_LIMIT)
        self.assertGreaterEqual(worst, SUSPECT_FROM)

    def test_without_suspects_it_takes_others_with_it(self) -> None:
        """The proof that the above can fail."""
        with patch.object(runner_module, "SUSPECT_FROM", 1000):
            lost = [len(self.simulate(seed, {50}).poison) for seed in range(5)]
        self.assertGreater(max(lost), 1)
