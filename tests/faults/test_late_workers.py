"""Calls that are cancelled while none of their workers is there: none runs when one begins."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from crew_tx import Client, ExpirationError, UnroutableError
from crew_tx.errors import DuplicateCallIdError
from crew_tx.rpc.announcement import LISTENS
from crew_tx.rpc.recent import CANCELLED_SECONDS
from crew_tx.testing import CrewHarness
from crew_tx.worker import Task


class LateWorkerTestCase(SynchronousTestCase):
    """
    Tests with a client, and a task whose worker has left.

    :ivar runs: what the task has been given, in order.
    """

    queue_type = "classic"

    def setUp(self) -> None:
        self.runs: list[Any] = []

        @Task("work")
        def work(req: Any) -> Any:
            self.runs.append(req)
            return req

        self.work = work
        options = {"queue_type": self.queue_type}
        self.harness = CrewHarness(work, worker=options).install(self)
        self.harness.result(self.harness.worker.stopService())

    @property
    def client(self) -> Client:
        return self.harness.client

    def call(self, req: Any = None, **options: Any) -> Deferred[Any]:
        called: Deferred[Any] = self.client.call("work", req, **options)
        self.harness.flush()
        return called

    def cancel(self, *calls: Deferred[Any]) -> None:
        for call in calls:
            call.cancel()
            self.failureResultOf(call, CancelledError)
        self.harness.flush()

    def begin_worker(self, seconds: float = 1) -> Any:
        """A worker begins, and has taken by then what there is."""
        worker = self.harness.new_worker(self.work, queue_type=self.queue_type)
        self.harness.advance(seconds)
        self.assertTrue(worker.status().connected)
        return worker

    def listeners(self) -> list[str]:
        """The queues by which clients hear of workers."""
        return [name for name in self.harness.broker.queues if name.startswith("crew.sub.hello-")]

    def is_empty(self) -> None:
        counts = self.harness.broker.queue("crew.tasks.work")
        self.assertEqual((0, 0), (counts.ready, counts.unacknowledged))


class LateWorkerTests(LateWorkerTestCase):
    """With classic queues."""

    def test_none_runs(self) -> None:
        """Others do, and all leave the queue."""
        calls = [self.call(number) for number in range(20)]
        self.cancel(*calls[:18])
        self.begin_worker()
        self.assertEqual([18, 19], sorted(self.runs))
        self.assertEqual([18, 19], [self.harness.result(call) for call in calls[18:]])
        self.is_empty()

    def test_none_runs_after_a_restart_of_the_broker(self) -> None:
        """The client listens again."""
        self.cancel(*[self.call(number) for number in range(20)])
        self.harness.broker.restart()
        self.harness.advance(10)
        self.assertEqual(1, len(self.listeners()))
        self.begin_worker()
        self.assertEqual([], self.runs)
        self.is_empty()

    def test_calls_that_are_cancelled_without_a_connection(self) -> None:
        """They are remembered; the next connection listens."""
        calls = [self.call(number) for number in range(20)]
        self.harness.connection().cut()
        self.cancel(*calls)
        self.harness.advance(10)
        self.begin_worker()
        self.assertEqual([], self.runs)
        self.is_empty()

    def test_a_worker_that_begins_before_the_client_listens(self) -> None:
        """It is told as soon as that does, and what it runs is interrupted."""
        call = self.call(1)
        self.harness.connection().cut()
        self.cancel(call)
        self.harness.hold("work")
        worker = self.harness.new_worker(self.work)
        self.assertEqual(1, worker.status().in_progress)
        self.harness.advance(10)
        self.assertEqual((0, 0), (worker.status().in_progress, worker.status().processed))
        self.harness.release()
        self.assertEqual([], self.runs)

    def test_a_worker_waits_for_what_it_is_told(self) -> None:
        """A moment, where anybody listens; where nobody does it takes calls at once."""
        call = self.call(1)
        worker = self.harness.new_worker(self.work)
        self.assertEqual(1, self.harness.result(call))
        self.harness.result(worker.stopService())
        self.cancel(self.call(2))
        worker = self.harness.new_worker(self.work)
        self.assertFalse(worker.status().connected)
        self.harness.advance(LISTENS)
        self.assertTrue(worker.status().connected)
        self.assertEqual([1], self.runs)

    def test_an_alarm_does_not_keep_a_worker_from_its_calls(self) -> None:
        """It blocks the connection by which a worker announces itself; the next takes calls."""
        call = self.call(1)
        self.harness.broker.raise_alarm()
        worker = self.begin_worker(10)
        self.assertEqual([1], self.runs)
        self.harness.broker.clear_alarm()
        self.assertEqual(1, self.harness.result(call))
        self.harness.connection(worker).cut()
        self.cancel(self.call(2))
        self.harness.advance(10)
        # It announces itself again, and is told.
        self.assertEqual([1], self.runs)

    def test_no_call_is_made_anew_by_the_same_id(self) -> None:
        """A worker would drop it, for a day after it has heard of the one that was cancelled."""
        self.cancel(self.call(1, call_id="same", expiration=7200))
        self.harness.advance(3600)
        self.begin_worker()
        self.harness.advance(CANCELLED_SECONDS)
        error = self.failureResultOf(self.call(1, call_id="same"), DuplicateCallIdError).value
        self.assertIn("was cancelled or given up", str(error))
        self.assertEqual([], self.runs)
        self.harness.advance(2 * 3600)
        self.assertEqual(2, self.harness.result(self.call(2, call_id="same")))

    def test_other_tasks_workers_are_not_waited_for(self) -> None:
        """They announce themselves, and are told nothing."""
        self.cancel(self.call(1))
        # Once it listens it tells those that began just before.
        self.harness.advance(1)

        @Task("other")
        def other(req: Any) -> Any:
            return req

        sent = self.told(lambda: self.harness.new_worker(other))
        self.assertEqual([], sent)
        self.assertEqual(["work"], self.told(self.begin_worker))

    def test_what_is_expired_is_forgotten(self) -> None:
        """No worker can get it."""
        self.cancel(self.call(1, expiration=5))
        self.harness.advance(5)
        self.assertEqual([], self.told(self.begin_worker))
        self.assertEqual([], self.runs)

    def test_a_call_that_nothing_was_heard_of_is_expired(self) -> None:
        """Nobody listens for its sake."""
        call = self.call(1, expiration=2, timeout=1)
        self.harness.broker.purge("crew.tasks.work")
        self.harness.advance(10)
        self.failureResultOf(call, ExpirationError)
        self.assertEqual([], self.listeners())

    def test_a_call_that_came_back_needs_no_memory(self) -> None:
        """Nobody can get it; the client hears that after it was cancelled."""
        self.harness.broker.delete("crew.tasks.work")
        call: Deferred[Any] = self.client.call("work", 1)
        call.cancel()
        self.failureResultOf(call, CancelledError)
        self.harness.flush()
        self.assertEqual([], self.told(self.begin_worker))
        with self.assertRaises(UnroutableError):
            self.harness.result(self.client.call("nobody"))

    def test_nobody_listens_who_has_cancelled_nothing(self) -> None:
        """Nor has a call that was not written been cancelled."""
        self.assertEqual([], self.listeners())
        self.harness.broker.stop()
        self.harness.flush()
        self.cancel(self.call(1))
        self.harness.broker.start()
        self.harness.advance(10)
        self.assertEqual([], self.listeners())
        self.begin_worker()
        self.assertEqual([], self.runs)

    def test_a_queue_that_was_deleted_is_made_again(self) -> None:
        """By the next call that is cancelled."""
        self.cancel(self.call(1))
        [queue] = self.listeners()
        self.harness.broker.delete(queue)
        self.harness.flush()
        self.cancel(self.call(2))
        self.begin_worker()
        self.assertEqual([], self.runs)

    def told(self, begin: Any) -> list[str]:
        """The tasks whose workers are told of cancelled calls while something goes on."""
        sent: list[str] = []
        tell = self.client._publisher.publish

        def publish(message: Any) -> None:
            if message.exchange == "crew.workers":
                sent.append(message.routing_key)
            tell(message)

        self.patch(self.client._publisher, "publish", publish)
        begin()
        self.harness.advance(1)
        self.client._publisher.publish = tell  # type: ignore[method-assign]
        return sent


class QuorumTests(LateWorkerTestCase):
    """With quorum queues."""

    queue_type = "quorum"

    def test_none_runs_after_a_restart_of_the_broker(self) -> None:
        """As with classic ones."""
        calls = [self.call(number) for number in range(20)]
        self.cancel(*calls[:18])
        self.harness.broker.restart()
        self.harness.advance(10)
        self.begin_worker()
        self.assertEqual([18, 19], sorted(self.runs))
        self.assertEqual([18, 19], [self.harness.result(call) for call in calls[18:]])
        self.is_empty()
