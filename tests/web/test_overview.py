"""What is seen of workers and queues, by the real client, workers and broker, on a clock."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from crew_tx.errors import CrewError
from crew_tx.web import overview
from crew_tx.web.overview import Overview
from crew_tx.web.problems import ProblemError
from crew_tx.worker import Task
from tests.web import tasks
from tests.web.support import GatewayTestCase

HOSTILE = "<script>alert(1)</script>"


@Task(HOSTILE)
def hostile(req: Any) -> None:
    """A task with a name that a page should not believe."""


@Task("later", queue="shared")
def later(req: Any) -> None:
    """A task in a queue of another name."""


class Looker:
    """
    A listener.

    :ivar seen: the snapshots that it was told.
    :ivar ends: how often it was told that there are no more.
    """

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.ends = 0

    def told(self, encoded: bytes) -> None:
        assert b"\n" not in encoded
        self.seen.append(json.loads(encoded))

    def ended(self) -> None:
        self.ends += 1


class OverviewTestCase(GatewayTestCase):
    """A gateway's overview with somebody who looks."""

    tasks = tasks.ALL

    def setUp(self) -> None:
        self.begin()
        self.looker = Looker()
        self.overview = self.gateway.overview

    def listen(self, seconds: float = 1.0) -> dict[str, Any]:
        """Begin to look, and let some time go by."""
        self.overview.listen(self.looker)
        self.addCleanup(self.overview.leave, self.looker)
        return self.after(seconds)

    def after(self, seconds: float) -> dict[str, Any]:
        """What is told last when so many seconds have gone by, in steps, as time does."""
        for _ in range(round(seconds * 10)):
            self.harness.advance(0.1)
        return self.looker.seen[-1]

    def workers(self, snapshot: dict[str, Any]) -> list[str]:
        return [worker["wid"] for worker in snapshot["workers"]]

    def call(self, task_id: str, data: Any = None, **options: Any) -> Deferred[Any]:
        called: Deferred[Any] = self.harness.client.call(task_id, data, **options)
        called.addErrback(lambda failure: failure.trap(CrewError) and None)
        self.harness.flush()
        return called


class WorkerTests(OverviewTestCase):
    """Workers that come and go."""

    def test_a_worker_is_seen_within_a_second(self) -> None:
        """With what it says of itself."""
        told = self.listen(0.7)
        self.assertEqual([self.harness.worker.worker_id], self.workers(told))
        (worker,) = told["workers"]
        self.assertEqual(
            (8, 0, False, False), (worker["threads"], worker["busy"], worker["paused"], worker["silent"])
        )
        self.assertEqual((None, True), (told["problem"], told["connected"]))
        self.assertNotIn("guest:guest", told["broker"])

    def test_one_that_joins_is_seen_at_the_next_look(self) -> None:
        """Within two seconds at the worst, and its queues a look later."""
        self.listen(2.3)
        joined = self.harness.new_worker(hostile)
        self.assertIn(joined.worker_id, self.workers(self.after(1.7)))
        queues = [each["queue"] for each in self.after(0.8)["queues"]]
        self.assertIn(f"crew.tasks.{HOSTILE}", queues)

    def test_one_that_is_killed_leaves_within_three_seconds(self) -> None:
        """Whenever that is between two looks; before that it is told to be silent."""
        self.listen(1.0)
        for moment in range(10):
            killed = self.harness.new_worker(hostile)
            told = self.after(2.0 + 0.1 * moment)
            self.assertIn(killed.worker_id, self.workers(told))
            self.harness.kill(killed)
            told = self.after(3.0)
            self.assertEqual([self.harness.worker.worker_id], self.workers(told), moment)
        silent = [each["silent"] for told in self.looker.seen for each in told["workers"]]
        self.assertIn(True, silent)

    def test_one_that_misses_a_look_stays(self) -> None:
        """It may only have been busy."""
        self.listen(2.0)
        self.harness.connection(self.harness.worker).server.stall()
        self.after(1.0)
        self.harness.connection(self.harness.worker).server.flow()
        self.after(3.0)
        seen = [len(told["workers"]) for told in self.looker.seen[2:]]
        self.assertEqual({1}, set(seen))

    def test_nothing_grows_with_workers_that_come_and_go(self) -> None:
        """All that is kept is of those that are there."""
        self.listen(1.0)
        sizes = []
        for _ in range(4):
            self.harness.kill(self.harness.new_worker(hostile))
            told = self.after(5.0)
            sizes.append((len(told["workers"]), len(told["queues"]), len(self.overview._workers)))
        self.assertEqual(1, len(set(sizes)), sizes)

    def test_so_many_workers_are_told_and_the_others_counted(self) -> None:
        """The bound is a number, not memory."""
        self.patch(overview, "MOST_WORKERS", 2)
        for _ in range(2):
            self.harness.new_worker(hostile)
        told = self.listen()
        self.assertEqual((2, 1), (len(told["workers"]), told["more"]["workers"]))


class WorkTests(OverviewTestCase):
    """What workers do."""

    def test_rates_and_waiting_times(self) -> None:
        """Of all calls that ended between two looks."""
        told = self.listen(1.7)
        self.assertEqual(0.0, told["workers"][0]["rate"])
        for _ in range(12):
            self.call("echo")
        (worker,) = self.after(1.0)["workers"]
        self.assertAlmostEqual(12.0, worker["rate"], delta=2)
        self.assertEqual((12, 0.0), (worker["processed"], worker["wait"]))
        self.assertEqual(0.0, self.after(1.0)["workers"][0]["rate"])

    def test_a_rate_is_of_now_and_not_of_the_time_when_nobody_looked(self) -> None:
        """It is known at the second look again."""
        self.listen(3.0)
        self.overview.leave(self.looker)
        for _ in range(12):
            self.call("echo")
        self.harness.advance(60)
        self.overview.listen(self.looker)
        self.assertIsNone(self.after(0.9)["workers"][0]["rate"])
        self.assertEqual(0.0, self.after(1.0)["workers"][0]["rate"])

    def test_what_runs_and_what_is_stuck(self) -> None:
        """The longest first."""
        self.harness.hold("echo")
        self.harness.hold("broken", stuck=True)
        self.call("broken", timeout=1)
        self.harness.advance(0.5)
        self.call("echo", timeout=600)
        told = self.listen(10.0)
        self.assertEqual(
            [("broken", True), ("echo", False)], [(call["task"], call["stuck"]) for call in told["active"]]
        )
        self.assertGreater(told["active"][0]["seconds"], told["active"][1]["seconds"])
        self.assertEqual(1, told["workers"][0]["stuck"])
        self.harness.release()
        self.assertEqual([], self.after(2.0)["active"])

    def test_errors_are_the_latest_of_all_workers(self) -> None:
        """With what they say."""
        self.call("broken", "x")
        self.harness.advance(1)
        self.call("broken", "y")
        told = self.listen()
        self.assertEqual(
            [("LookupError", "no y", "raised"), ("LookupError", "no x", "raised")],
            [(error["type"], error["message"], error["kind"]) for error in told["errors"]],
        )

    def test_hostile_names_are_texts(self) -> None:
        """They are told as they are, on one line, and it is for the page to show them as text."""
        worker = self.harness.new_worker(hostile)
        self.harness.hold(HOSTILE)
        self.call(HOSTILE, timeout=600)
        told = self.listen(2.0)
        self.assertEqual(
            [(HOSTILE, worker.worker_id)], [(call["task"], call["wid"]) for call in told["active"]]
        )
        self.assertIn(f"crew.tasks.{HOSTILE}", [queue["queue"] for queue in told["queues"]])
        self.harness.release()


class QueueTests(OverviewTestCase):
    """Queues, and dead letters."""

    def queue(self, told: dict[str, Any], name: str) -> tuple[int, int] | None:
        found = [each for each in told["queues"] if each["queue"] == f"crew.tasks.{name}"]
        return (found[0]["messages"], found[0]["consumers"]) if found else None

    def test_depths_and_consumers(self) -> None:
        """Of the queues that tasks are in, whatever they are called."""
        self.harness.new_worker(later)
        told = self.listen()
        self.assertEqual(((0, 1), (0, 1)), (self.queue(told, "echo"), self.queue(told, "shared")))
        self.assertIsNone(self.queue(told, "later"))

    def test_what_waits_is_told_when_its_workers_have_left(self) -> None:
        """It waits for somebody; when it is gone, the queue is of no concern any more."""
        worker = self.harness.new_worker(later)
        self.listen(2.0)
        worker.pause()
        self.harness.flush()
        self.call("later", expiration=20)
        self.assertEqual((1, 0), self.queue(self.after(2.0), "shared"))
        self.harness.kill(worker)
        self.assertEqual((1, 0), self.queue(self.after(6.0), "shared"))
        self.assertIsNone(self.queue(self.after(20.0), "shared"))

    def test_dead_letters_are_counted(self) -> None:
        """Those that nobody waits for."""
        self.harness.worker.pause()
        self.harness.result(self.harness.client.send("echo", 1, expiration=1))
        self.assertEqual(0, self.listen(0.8)["dead"])
        self.assertEqual(1, self.after(3.0)["dead"])

    def test_so_many_queues_are_looked_into(self) -> None:
        """The others are counted."""
        self.patch(overview, "MOST_QUEUES", 1)
        told = self.listen()
        self.assertEqual((1, 3), (len(told["queues"]), told["more"]["queues"]))


class BrokerTests(OverviewTestCase):
    """A broker that is away."""

    def test_what_was_seen_stays_with_its_age_and_is_fresh_again(self) -> None:
        """And why it is old is told in words."""
        fresh = self.listen(2.0)
        self.assertLess(fresh["age"], 0.5)
        self.harness.broker.stop()
        told = self.after(6.0)
        self.assertEqual(self.workers(fresh), self.workers(told))
        self.assertGreater(told["age"], 5.0)
        self.assertEqual(
            (False, "there is no connection to the broker"), (told["connected"], told["problem"])
        )
        self.harness.broker.start()
        told = self.after(15.0)
        self.assertEqual((None, [self.harness.worker.worker_id]), (told["problem"], self.workers(told)))
        self.assertLess(told["age"], 0.5)

    def test_one_that_does_not_answer_is_no_broker_without_workers(self) -> None:
        """It is told that it does not answer, and workers stay."""
        self.listen(2.0)
        for wire in self.harness.clock.wires:
            if wire is not self.harness.connection():
                wire.server.stall()
        told = self.after(5.0)
        self.assertIn("did not answer within 2 s", told["problem"])
        self.assertEqual(1, len(told["workers"]))
        self.assertGreater(told["age"], 2.0)
        for wire in self.harness.clock.wires:
            wire.server.flow()
        self.assertIsNone(self.after(5.0)["problem"])

    def test_before_there_was_a_broker_nothing_was_seen(self) -> None:
        """Its age is none."""
        self.harness.broker.stop()
        self.harness.advance(1)
        told = self.listen()
        self.assertEqual((None, [], None), (told["age"], told["workers"], told["dead"]))


class ListenerTests(OverviewTestCase):
    """Those who look."""

    def looks(self) -> int:
        return self.overview._looks

    def test_nobody_looks_and_nothing_is_asked(self) -> None:
        """Not before, and not after."""
        self.harness.advance(5)
        self.assertEqual(0, self.looks())
        self.listen(2.5)
        self.overview.leave(self.looker)
        self.harness.advance(1)
        looks = self.looks()
        self.harness.advance(20)
        self.assertEqual((looks, None, False), (self.looks(), self.overview._next, self.overview._is_looking))

    def test_one_that_leaves_and_comes_back_makes_no_second_look(self) -> None:
        """The one under way goes on."""
        self.listen(0.3)
        for _ in range(5):
            self.overview.leave(self.looker)
            self.overview.listen(self.looker)
        self.assertEqual(1, self.looks())
        self.after(3.0)
        self.assertLessEqual(self.looks(), 4)

    def test_many_are_told_the_same_and_workers_asked_once(self) -> None:
        """A snapshot is encoded once."""
        encoded: list[bytes] = []
        dump = Overview._encoded
        others = [Looker() for _ in range(5)]
        for other in others:
            self.overview.listen(other)
        self.patch(Overview, "_encoded", lambda self: encoded.append(dump(self)) or encoded[-1])
        for _ in range(9):
            self.harness.advance(0.1)
        self.assertEqual(1, len(encoded))
        self.assertEqual([2] * 5, [len(other.seen) for other in others])
        for other in others:
            self.overview.leave(other)

    def test_so_many_may_look(self) -> None:
        """The next one is told so."""
        self.patch(overview, "MOST_LISTENERS", 1)
        self.listen()
        self.assertRaises(ProblemError, self.overview.listen, Looker())
        self.overview.leave(self.looker)
        self.listen()

    def test_a_stop_ends_them(self) -> None:
        """And a second leave is no fault."""
        self.listen()
        self.overview.stop()
        self.assertEqual((1, None), (self.looker.ends, self.overview._next))
        self.overview.leave(self.looker)
