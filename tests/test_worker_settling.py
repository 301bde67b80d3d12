"""When a worker's calls are acknowledged, and which run alone: on the harness's clock."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from crew_tx import PoisonError
from crew_tx.errors import TaskCancelledError
from crew_tx.tasks.suspects import GATHER
from crew_tx.testing import CrewHarness
from crew_tx.testing.stepped import SteppedThreads
from crew_tx.topology import DELIVERY_LIMIT
from crew_tx.worker import Task, Worker, context

_QUEUE = "crew.tasks.count"


class SettlingTestCase(SynchronousTestCase):
    """
    Tests with a client and several workers.

    :ivar runs: the calls that the task has run, in order.
    """

    def setUp(self) -> None:
        self.runs: list[str] = []

        @Task("count")
        def count(req: int) -> int:
            self.runs.append(context.request.id)
            return req + 1

        self.count = count
        self.harness = CrewHarness().install(self)
        self.broker = self.harness.broker

    def worker(self, **options: Any) -> Worker:
        """One more worker."""
        return self.harness.new_worker(self.count, **options)

    def call(self, number: int = 1, **options: Any) -> Deferred[Any]:
        """A call that is on its way as far as it comes."""
        called: Deferred[Any] = self.harness.client.call("count", number, **options)
        self.harness.flush()
        return called

    def unacknowledged(self) -> int:
        """Calls that the broker keeps for workers."""
        return self.broker.queue(_QUEUE).unacknowledged


class ConfirmedTests(SettlingTestCase):
    """``ack="confirmed"``: nothing is lost with the worker and its replies."""

    def cut_behind_the_reply(self, ack: str) -> tuple[Worker, Deferred[Any]]:
        """A worker that has answered, and hears of no confirm."""
        worker = self.worker(ack=ack)
        self.harness.hold("count")
        call = self.call()
        self.harness.connection(worker).server.stall()
        self.harness.release()
        self.assertEqual((len(self.runs), worker.status().unconfirmed_replies), (1, 1))
        return worker, call

    def test_the_call_is_kept_until_the_confirm(self) -> None:
        """By the broker; as a rule it goes with the reply."""
        for ack, kept in (("written", 0), ("confirmed", 1)):
            self.runs.clear()
            worker, _ = self.cut_behind_the_reply(ack)
            self.assertEqual(self.unacknowledged(), kept)
            self.harness.kill(worker)

    def test_a_cut_between_the_two_brings_it_again(self) -> None:
        """Its worker does not run it again; it is answered once."""
        worker, call = self.cut_behind_the_reply("confirmed")
        self.harness.connection(worker).cut()
        self.harness.advance(10)
        self.assertEqual((self.harness.result(call), len(self.runs), self.unacknowledged()), (2, 1, 0))
        self.assertEqual(self.broker.queue(_QUEUE).ready, 0)

    def test_a_worker_that_dies_then_is_no_loss(self) -> None:
        """Another one runs it."""
        worker, call = self.cut_behind_the_reply("confirmed")
        self.harness.kill(worker)
        self.worker(ack="confirmed")
        self.harness.advance(1)
        self.assertEqual((self.harness.result(call), len(self.runs), self.unacknowledged()), (2, 2, 0))


class AckTimeoutTests(SettlingTestCase):
    """The broker's ack timeout is over sooner than the task."""

    def held(self, **options: Any) -> tuple[Worker, Deferred[Any]]:
        """A call that runs."""
        worker = self.worker(ack_timeout=5.0, **options)
        self.harness.hold("count")
        return worker, self.call()

    def test_it_is_acknowledged_and_answered(self) -> None:
        """Shortly before."""
        _, call = self.held()
        self.harness.advance(3.9)
        self.assertEqual(self.unacknowledged(), 1)
        self.harness.advance(0.7)
        self.assertEqual(self.unacknowledged(), 0)
        self.assertNoResult(call)
        self.harness.release()
        self.assertEqual((self.harness.result(call), len(self.runs)), (2, 1))

    def test_it_is_answered_by_a_new_connection(self) -> None:
        """It does not come again."""
        worker, call = self.held()
        self.harness.advance(5)
        self.harness.connection(worker).cut()
        self.worker()
        self.harness.advance(10)
        self.assertNoResult(call)
        self.harness.release()
        self.assertEqual((self.harness.result(call), len(self.runs)), (2, 1))

    def test_its_workers_end_waits_for_it(self) -> None:
        """As for all that run."""
        worker, call = self.held()
        self.harness.advance(5)
        stopped = worker.stopService()
        self.harness.flush()
        self.harness.release()
        self.assertEqual(self.harness.result(call), 2)
        self.harness.advance(1)
        self.harness.result(stopped)

    def test_a_worker_that_ends_before_it_says_so(self) -> None:
        """Nobody else has the call any more; what is not acknowledged goes to others without a word."""
        worker, call = self.held(drain=1.0, threads=2)
        self.harness.advance(5)
        other = self.call(5)
        stopped = worker.stopService()
        self.harness.advance(2)
        self.harness.result(stopped)
        error = self.assertRaises(TaskCancelledError, self.harness.result, call)
        self.assertIn("is stopped, and nobody else has the call", str(error))
        self.harness.release()
        self.worker()
        self.assertEqual((self.harness.result(other), self.unacknowledged()), (6, 0))

    def test_by_default_it_is_half_an_hour(self) -> None:
        """Less a minute; and with 0 it is never."""
        self.worker()
        self.worker(ack_timeout=0)
        self.harness.hold("count")
        calls = [self.call(), self.call()]
        self.harness.advance(1735)
        self.assertEqual(self.unacknowledged(), 2)
        self.harness.advance(60)
        self.assertEqual(self.unacknowledged(), 1)
        self.harness.advance(3600)
        self.assertEqual(self.unacknowledged(), 1)
        self.harness.release()
        self.assertEqual([self.harness.result(call) for call in calls], [2, 2])


class PoisonTests(SettlingTestCase):
    """A call that kills its worker as soon as it runs, on a quorum queue."""

    def test_it_takes_no_other_with_it(self) -> None:
        """Ninety-nine of a hundred are answered."""

        @Task("kill", queue="count")
        def kill(req: Any) -> None:
            """It is not run: its worker is killed."""

        declares = self.harness.new_worker(self.count, kill, queue_type="quorum")
        self.harness.result(declares.stopService())
        calls = [self.call(number) for number in range(40)]
        poison = self.harness.client.call("kill")
        calls += [self.call(number) for number in range(40, 99)]
        deaths = 0
        while not (poison.called and all(call.called for call in calls)):
            threads = SteppedThreads()
            worker = self.harness.new_worker(self.count, kill, queue_type="quorum", create_threads=threads)
            if self.dies(threads):
                self.harness.kill(worker)
                deaths += 1
            self.harness.advance(1)
        self.assertEqual([self.harness.result(call) for call in calls], list(range(1, 100)))
        self.failureResultOf(poison, PoisonError)
        self.assertEqual(deaths, DELIVERY_LIMIT + 1)

    def dies(self, threads: SteppedThreads) -> bool:
        """Let a worker's calls end one by one. :returns: whether the poison was among them."""
        self.harness.advance(GATHER)
        while threads.jobs:
            if "kill" in [job.describe()[0] for job in threads.jobs]:
                return True
            threads.step()
            self.harness.advance(GATHER)
        return False
