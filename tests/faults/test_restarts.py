"""What becomes of calls when the broker restarts, a connection is gone for long, or a reply queue is."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from crew_tx import Client, ConnectionLostError, RemoteError, ReplyLostError
from crew_tx.testing import CrewHarness
from crew_tx.worker import Task, context

_QUEUE = "crew.tasks.count"


class RestartTestCase(SynchronousTestCase):
    """
    Tests with a client and a worker.

    :ivar runs: the calls that the task has run, in order.
    """

    def setUp(self) -> None:
        self.runs: list[str] = []

        @Task("count")
        def count(req: int) -> int:
            self.runs.append(context.request.id)
            return req + 1

        self.count = count
        self.harness = CrewHarness(count).install(self)
        self.broker = self.harness.broker

    @property
    def client(self) -> Client:
        """The client."""
        return self.harness.client

    def call(self, number: Any = 1, **options: Any) -> Deferred[Any]:
        """A call that is on its way as far as it comes."""
        called: Deferred[Any] = self.client.call("count", number, **{"expiration": 60, **options})
        self.harness.flush()
        return called

    def stop_worker(self) -> None:
        """Let calls wait in their queue."""
        self.harness.result(self.harness.worker.stopService())

    def connected_again(self) -> None:
        """Time goes by until all are."""
        self.harness.advance(10)
        self.assertTrue(self.client.status().connected)

    def drop_confirms(self) -> None:
        """What the client sends arrives; it hears nothing of it before its connection is cut."""
        self.harness.connection().server.stall()

    def is_empty(self) -> None:
        """No queue has anything left, once answers are acknowledged."""
        self.harness.advance(1)
        counts = [self.broker.queue(name) for name in self.broker.queues]
        self.assertEqual([each for each in counts if each.ready or each.unacknowledged], [])


class BrokerTests(RestartTestCase):
    """The broker restarts; its queues are durable, and calls and replies are persistent."""

    def test_calls_in_their_queue(self) -> None:
        """They are there again, and are answered by a worker that comes then."""
        self.stop_worker()
        calls = [self.call(number) for number in range(3)]
        self.broker.restart()
        self.connected_again()
        self.harness.new_worker(self.count)
        self.assertEqual([self.harness.result(call) for call in calls], [1, 2, 3])
        self.assertEqual(len(self.runs), 3)
        self.is_empty()

    def test_calls_that_run(self) -> None:
        """They end where they run; their worker gets them again, and does not run them again."""
        self.harness.hold("count")
        calls = [self.call(number) for number in range(3)]
        self.broker.restart()
        self.connected_again()
        self.assertEqual(self.broker.queue(_QUEUE).unacknowledged, 3)
        self.harness.release()
        self.assertEqual([self.harness.result(call) for call in calls], [1, 2, 3])
        self.assertEqual(len(self.runs), 3)
        self.is_empty()

    def test_calls_that_ended_while_it_was_down(self) -> None:
        """Their worker keeps the answers, and takes them out of the queue without running them."""
        self.harness.hold("count")
        calls = [self.call(number) for number in range(3)]
        self.broker.stop()
        self.harness.release()
        self.harness.advance(5)
        self.assertEqual(len(self.runs), 3)
        self.broker.start()
        self.connected_again()
        self.assertEqual([self.harness.result(call) for call in calls], [1, 2, 3])
        self.assertEqual(len(self.runs), 3)
        self.is_empty()

    def test_a_worker_that_is_stopped_while_it_is_down(self) -> None:
        """It does not wait for it, and says what it gives up; what was not acknowledged others run."""
        self.harness.hold("count")
        call = self.call()
        self.broker.stop()
        self.harness.release()
        stopped = self.harness.worker.stopService()
        with capturedLogs() as logs:
            self.harness.advance(6)
        self.harness.result(stopped)
        self.assertEqual([log["count"] for log in logs if "given up" in log["log_format"]], [1])
        self.broker.start()
        self.harness.new_worker(self.count)
        self.connected_again()
        self.assertEqual((self.harness.result(call), len(self.runs)), (2, 2))

    def test_answers_that_were_not_confirmed(self) -> None:
        """They are sent again, and the second ones are dropped."""
        self.harness.connection().server.stall()
        self.harness.hold("count")
        call = self.call()
        self.harness.connection(self.harness.worker).server.stall()
        self.harness.release()
        self.assertEqual((len(self.runs), self.broker.queue(_QUEUE).unacknowledged), (1, 0))
        self.broker.restart()
        self.connected_again()
        self.assertEqual(self.harness.result(call), 2)
        self.harness.advance(1)
        self.assertEqual((len(self.runs), self.client.status().duplicate_replies), (1, 1))
        self.is_empty()

    def test_calls_that_were_not_confirmed(self) -> None:
        """They are sent again; their worker runs them once, wherever they are by then."""
        for hold in (False, True):
            self.runs.clear()
            if hold:
                self.harness.hold("count")
            self.drop_confirms()
            call = self.call()
            self.assertEqual(self.client.status().unconfirmed, 1)
            self.broker.restart()
            self.connected_again()
            self.harness.release()
            self.assertEqual(self.harness.result(call), 2)
            self.harness.advance(1)
            self.assertEqual((len(self.runs), self.client.status().unconfirmed), (1, 0))
            self.is_empty()

    def test_transient_calls(self) -> None:
        """They fail at once, where the broker had them; a late reply is counted, and dropped."""
        self.harness.hold("count")
        confirmed = self.call(persistent=False)
        self.broker.restart()
        self.assertTrue(self.failureResultOf(confirmed, ConnectionLostError).value.maybe_sent)
        self.harness.release()
        self.connected_again()
        self.assertEqual((len(self.runs), self.client.status().late_replies), (1, 1))
        self.is_empty()

    def test_transient_calls_that_were_not_confirmed(self) -> None:
        """They are sent again as others are."""
        self.stop_worker()
        self.drop_confirms()
        call = self.call(persistent=False)
        self.broker.restart()
        self.assertNoResult(call)
        self.connected_again()
        self.harness.new_worker(self.count)
        self.assertEqual((self.harness.result(call), len(self.runs)), (2, 1))
        self.is_empty()

    def test_more_than_can_wait_to_be_sent(self) -> None:
        """What was not confirmed has its room; the order is that of the calls."""
        harness = CrewHarness(self.count, worker={"threads": 1}).install(self)
        publisher = harness.client._publisher
        harness.connection().server.stall()
        lost = [harness.client.call("count", number) for number in range(5)]
        harness.flush()
        harness.connection().cut()
        publisher._max_waiting = 3
        waiting = [harness.client.call("count", number) for number in range(5, 8)]
        harness.advance(10)
        self.assertEqual([harness.result(call) for call in lost + waiting], list(range(1, 9)))
        self.assertEqual(len(self.runs), 8)


class AwayTests(RestartTestCase):
    """A connection is gone for long."""

    def test_until_the_calls_time_is_up(self) -> None:
        """What was not confirmed may have run; the caller is told so when there is a connection again."""
        self.stop_worker()
        self.drop_confirms()
        call = self.call(expiration=60, timeout=30)
        self.broker.stop()
        self.harness.advance(70)
        self.assertNoResult(call)
        self.broker.start()
        self.harness.advance(10)
        self.assertTrue(self.failureResultOf(call, ConnectionLostError).value.maybe_sent)

    def test_until_nothing_would_be_heard_any_more(self) -> None:
        """Its deadline ends it."""
        self.stop_worker()
        self.drop_confirms()
        call = self.call(expiration=60, timeout=30)
        self.broker.stop()
        self.harness.advance(91)
        self.assertNoResult(call)
        self.harness.advance(2)
        self.assertTrue(self.failureResultOf(call, ConnectionLostError).value.maybe_sent)

    def test_again_and_again(self) -> None:
        """Each connection ends before it confirms; the worker that it comes to runs it once."""
        self.stop_worker()
        self.drop_confirms()
        call = self.call(expiration=3600)
        for _ in range(5):
            self.harness.connection().cut()
            self.broker.freeze()
            self.harness.advance(5)
            wire = self.harness.connection()
            self.broker.thaw()
            # Past the handshake, the call is written and gets no confirm.
            while not self.client.status().unconfirmed:
                wire.pump()
            wire.server.stall()
            self.harness.flush()
            self.assertNoResult(call)
        self.harness.connection().cut()
        self.connected_again()
        self.assertEqual(self.broker.queue(_QUEUE).ready, 7)
        self.harness.new_worker(self.count)
        self.assertEqual((self.harness.result(call), len(self.runs)), (2, 1))
        self.is_empty()


class ReplyQueueTests(RestartTestCase):
    """The reply queue is gone when the client comes back, or goes while it is there."""

    def away(self) -> str:
        """Cut the client off, and keep it off. :returns: its reply queue."""
        self.broker.refuse_connections()
        self.harness.connection().cut()
        return f"crew.reply.{self.client.client_id}"

    def test_one_that_expires(self) -> None:
        """What was confirmed is lost, what was not is sent again under the new id, and answered."""
        self.stop_worker()
        confirmed = self.call(1, expiration=3600)
        self.drop_confirms()
        unconfirmed = self.call(2, expiration=3600)
        queue = self.away()
        self.harness.advance(590)
        self.assertIn(queue, self.broker.queues)
        self.harness.advance(20)
        self.assertNotIn(queue, self.broker.queues)
        self.assertNoResult(confirmed)
        self.broker.accept_connections()
        self.connected_again()
        self.failureResultOf(confirmed, ReplyLostError)
        self.assertNotEqual(queue, f"crew.reply.{self.client.client_id}")
        self.assertIn(f"crew.reply.{self.client.client_id}", self.broker.queues)
        self.harness.new_worker(self.count)
        self.assertEqual(self.harness.result(unconfirmed), 3)
        self.assertEqual(self.harness.result(self.call(3)), 4)

    def test_one_that_is_deleted(self) -> None:
        """As an operator may do it: the same."""
        self.stop_worker()
        confirmed = self.call()
        self.broker.delete(self.away())
        self.broker.accept_connections()
        self.connected_again()
        self.failureResultOf(confirmed, ReplyLostError)

    def test_calls_that_waited_for_the_connection(self) -> None:
        """They have not been sent yet: they are answered by the new queue."""
        self.broker.delete(self.away())
        waiting = [self.call(1), self.call(2, require_worker=True), self.call(3, headers={"a": "b"})]
        large = self.call(b"x" * 200_000)
        self.broker.accept_connections()
        self.connected_again()
        self.assertEqual([self.harness.result(call) for call in waiting], [2, 3, 4])
        # It was encoded in a thread; the task has no use for it.
        self.failureResultOf(large, RemoteError)

    def test_calls_by_those_who_hear_of_it(self) -> None:
        """Who is told that an answer is lost may call again at once."""
        self.stop_worker()
        again: list[Deferred[Any]] = []
        lost = self.call()
        lost.addErrback(lambda failure: again.append(self.client.call("count", 5)))
        self.broker.delete(f"crew.reply.{self.client.client_id}")
        self.harness.flush()
        [call] = again
        self.harness.new_worker(self.count)
        self.connected_again()
        self.assertEqual(self.harness.result(call), 6)

    def test_events_and_commands_go_on(self) -> None:
        """Workers answer to the new queue."""
        self.broker.delete(self.away())
        self.broker.accept_connections()
        self.connected_again()
        asked = self.client.control("ping", timeout=1)
        self.harness.advance(2)
        [answer] = self.harness.result(asked)
        self.assertEqual(answer["wid"], self.harness.worker.worker_id)

    def test_a_client_that_was_closed_begins_anew(self) -> None:
        """That is no loss."""
        before = self.client.client_id
        self.harness.result(self.client.close())
        connecting = self.client.connect()
        self.harness.advance(1)
        self.harness.result(connecting)
        self.assertEqual((self.client.client_id, self.harness.result(self.call())), (before, 2))


class OnceTests(RestartTestCase):
    """A worker that gets a call again, which it has or had, does not run it again."""

    def redelivered(self) -> None:
        """The worker's connection is cut, and there again."""
        self.harness.connection(self.harness.worker).cut()
        self.connected_again()

    def test_one_that_runs(self) -> None:
        """Its answer takes the second delivery out of the queue."""
        self.harness.hold("count")
        call = self.call()
        for _ in range(3):
            self.redelivered()
            self.assertEqual(self.broker.queue(_QUEUE).unacknowledged, 1)
        self.harness.release()
        self.assertEqual((self.harness.result(call), len(self.runs)), (2, 1))
        self.is_empty()

    def test_one_that_waits_for_a_thread(self) -> None:
        """It keeps its place."""
        self.harness.hold("count")
        calls = [self.call(number) for number in range(9)]
        self.redelivered()
        self.harness.release()
        self.assertEqual([self.harness.result(call) for call in calls], list(range(1, 10)))
        self.assertEqual((len(self.runs), len(set(self.runs))), (9, 9))
        self.is_empty()

    def test_one_that_it_has_answered(self) -> None:
        """The ack is lost with its connection: the call comes again, and is only acknowledged."""
        self.harness.hold("count")
        call = self.call()
        self.harness.connection(self.harness.worker).stall()
        self.harness.release()
        self.assertEqual(len(self.runs), 1)
        self.redelivered()
        self.assertEqual((self.harness.result(call), len(self.runs)), (2, 1))
        self.is_empty()

    def test_one_that_comes_twice_by_one_connection(self) -> None:
        """A caller that was cut off has sent it again: it is answered once."""
        self.harness.hold("count")
        self.drop_confirms()
        call = self.call()
        self.harness.connection().cut()
        self.connected_again()
        self.assertEqual(self.broker.queue(_QUEUE).unacknowledged, 1)
        self.harness.release()
        self.assertEqual((self.harness.result(call), len(self.runs)), (2, 1))
        self.assertEqual(self.client.status().duplicate_replies, 0)
        self.is_empty()

    def test_an_id_of_another_caller_is_another_call(self) -> None:
        """Ids are the callers' own."""
        other = self.harness.new_client()
        self.harness.hold("count")
        calls = [client.call("count", 1, call_id="mine") for client in (self.client, other)]
        self.harness.flush()
        self.redelivered()
        self.harness.release()
        self.assertEqual([self.harness.result(call) for call in calls], [2, 2])
        self.assertEqual(self.runs, ["mine", "mine"])
        self.is_empty()

    def test_another_worker_runs_it(self) -> None:
        """It can't know; the caller drops the second reply, and counts it."""
        self.harness.hold("count")
        call = self.call()
        self.broker.freeze()
        self.harness.connection(self.harness.worker).cut()
        self.broker.thaw()
        self.harness.new_worker(self.count)
        self.harness.advance(1)
        self.harness.release()
        self.harness.advance(10)
        self.assertEqual((self.harness.result(call), len(self.runs)), (2, 2))
        self.assertEqual(self.client.status().duplicate_replies, 1)
        self.is_empty()
