"""Tests of crew_tx.testing.broker: each fault, and what a client makes of it."""

from __future__ import annotations

from typing import Any

from crew_tx import (
    BrokerBlockedError,
    ConnectionLostError,
    ExpirationError,
    PublishNackedError,
    ReplyLostError,
)
from crew_tx.errors import AuthenticationError
from crew_tx.testing import QueueCounts
from crew_tx.testing.broker import HarnessBroker
from tests.testing import tasks
from tests.testing.test_harness import HarnessTestCase

QUEUE = "crew.tasks.add"
DATA = {"x": 1, "y": 2}


class BrokerTestCase(HarnessTestCase):
    """Tests with a client, a worker that adds, and their broker."""

    def setUp(self) -> None:
        self.start(tasks.add)

    @property
    def broker(self) -> HarnessBroker:
        """The broker."""
        return self.harness.broker

    def works(self) -> None:
        """A call is answered."""
        self.assertEqual(self.result(self.call("add", DATA)), 3)

    def send(self, count: int = 1, **options: Any) -> None:
        """Messages that wait for a worker."""
        for _ in range(count):
            self.result(self.harness.client.send("add", DATA, **options))

    def stop_worker(self) -> None:
        """Let what is sent wait."""
        self.result(self.harness.worker.stopService())


class QueueTests(BrokerTestCase):
    """What a test can see, and do to queues."""

    def test_a_queue_is_counted(self) -> None:
        """What waits, what was delivered, and who consumes."""
        self.harness.hold("add")
        self.send(2)
        self.assertEqual(self.broker.queue(QUEUE), QueueCounts(QUEUE, 0, 2, 1))
        self.harness.release()
        self.stop_worker()
        self.send(3)
        self.assertEqual(self.broker.queue(QUEUE), QueueCounts(QUEUE, 3, 0, 0))
        self.assertIn(QUEUE, self.broker.queues)

    def test_a_queue_that_is_not_there_is_said(self) -> None:
        """With those that are."""
        for look in (self.broker.queue, self.broker.expire, self.broker.purge, self.broker.delete):
            with self.assertRaisesRegex(LookupError, "crew.tasks.add"):
                look("add")

    def test_a_queue_can_be_expired_now(self) -> None:
        """Its dead letters go where they always go."""
        self.stop_worker()
        waiting = self.call("add", DATA)
        self.send(2)
        self.assertEqual(self.broker.expire(QUEUE), 3)
        with self.assertRaises(ExpirationError) as caught:
            self.result(waiting)
        self.assertEqual(caught.exception.reason, "expired")
        self.assertEqual(self.broker.queue("crew.dead").ready, 2)

    def test_a_queue_can_be_purged(self) -> None:
        """Nobody is told."""
        self.stop_worker()
        self.send(2)
        self.assertEqual(self.broker.purge(QUEUE), 2)
        self.assertEqual((self.broker.queue(QUEUE).ready, self.broker.queue("crew.dead").ready), (0, 0))

    def test_a_queue_can_be_deleted(self) -> None:
        """A worker declares its own anew."""
        self.broker.delete(QUEUE)
        self.harness.flush()
        self.assertNotIn(QUEUE, self.broker.queues)
        self.harness.advance(10)
        self.works()

    def test_a_deleted_reply_queue_fails_what_waits_for_it(self) -> None:
        """And the client has another one after that."""
        self.harness.hold("add")
        waiting = self.call("add", DATA)
        self.harness.flush()
        self.broker.delete(f"crew.reply.{self.harness.client.client_id}")
        with self.assertRaises(ReplyLostError):
            self.result(waiting)
        self.harness.release()
        self.harness.advance(10)
        self.works()


class MessageTests(BrokerTestCase):
    """Publications that go wrong."""

    def test_the_next_publications_are_nacked(self) -> None:
        """So many of them, and then no more; they are not routed."""
        self.broker.nack(2)
        for _ in range(2):
            with self.assertRaises(PublishNackedError):
                self.result(self.call("add", DATA))
        self.works()
        self.assertEqual(self.harness.worker.status().processed, 1)

    def test_replies_can_be_nacked(self) -> None:
        """A call whose reply was refused ends all the same."""
        self.broker.nack(exchange="crew.replies")
        waiting = self.call("add", DATA, expiration=10)
        self.harness.advance(60)
        self.assertTrue(waiting.called)
        waiting.addErrback(lambda failure: failure.trap(ExpirationError))
        self.works()

    def test_an_alarm_blocks_who_publishes(self) -> None:
        """Whether that is memory or disk, and until it is cleared."""
        for resource in ("memory", "disk"):
            self.broker.raise_alarm(resource)
            self.send()
            self.assertIn(resource, str(self.harness.client.status().blocked))
            waiting = self.call("add", DATA)
            self.harness.advance(25)
            self.assertNoResult(waiting)
            self.broker.clear_alarm(resource)
            self.assertEqual(self.result(waiting), 3)

    def test_a_long_alarm_fails_what_waits(self) -> None:
        """After the publish timeout."""
        self.broker.raise_alarm()
        self.send()
        waiting = self.call("add", DATA)
        self.harness.advance(31)
        self.assertFalse(self.failureResultOf(waiting, BrokerBlockedError).value.maybe_sent)
        self.broker.clear_alarm()
        self.works()


class LifeTests(BrokerTestCase):
    """A broker that comes and goes."""

    def test_a_restart_keeps_what_is_durable(self) -> None:
        """Persistent messages in durable queues, marked as redelivered; all else is gone."""
        self.stop_worker()
        self.send(2)
        self.send(3, persistent=False)
        transient = [name for name in self.broker.queues if name.startswith("crew.control")]
        self.broker.restart()
        self.assertEqual(self.broker.queue(QUEUE).ready, 2)
        self.assertEqual([name for name in transient if name in self.broker.queues], [])
        self.harness.advance(10)
        self.assertTrue(self.harness.client.status().connected)
        worker = self.harness.new_worker(tasks.add)
        self.assertEqual(worker.status().processed, 2)
        self.works()

    def test_quorum_queues_are_kept(self) -> None:
        """With everything in them."""
        other = self.harness.new_worker(tasks.slow, queue_type="quorum")
        self.result(other.stopService())
        self.result(self.harness.client.send("slow", persistent=False))
        self.broker.restart()
        self.assertEqual(self.broker.queue("crew.tasks.slow").ready, 1)

    def test_what_was_delivered_is_there_again(self) -> None:
        """And another worker has it."""
        self.harness.hold("add")
        self.send()
        self.harness.kill(self.harness.worker)
        self.broker.restart()
        self.assertEqual(self.broker.queue(QUEUE).ready, 1)
        self.harness.release()
        self.assertEqual(self.harness.new_worker(tasks.add).status().processed, 1)

    def test_a_stopped_broker_is_waited_for(self) -> None:
        """Nobody is connected meanwhile; a second stop does nothing."""
        self.broker.stop()
        self.broker.stop()
        self.harness.advance(60)
        self.assertEqual((self.broker.connections, self.harness.client.status().connected), ([], False))
        self.broker.start()
        self.broker.start()
        self.harness.advance(10)
        self.works()

    def test_faults_of_a_stopped_broker_are_refused(self) -> None:
        """They would do nothing."""
        self.broker.stop()
        self.assertRaises(RuntimeError, self.broker.freeze)
        self.broker.start()

    def test_what_expires_while_it_is_down_is_a_dead_letter_then(self) -> None:
        """Its queues go on waiting; one that ends when it isn't used begins anew."""
        self.stop_worker()
        self.send(expiration=30)
        self.broker.stop()
        self.harness.advance(3600)
        replies = f"crew.reply.{self.harness.client.client_id}"
        self.broker.start()
        self.assertIn(replies, self.broker.queues)
        self.harness.advance(1)
        self.assertEqual((self.broker.queue(QUEUE).ready, self.broker.queue("crew.dead").ready), (0, 1))

    def test_a_frozen_broker_is_left_for_dead(self) -> None:
        """After two heartbeats; connections that are made meanwhile come to nothing."""
        self.broker.freeze()
        self.harness.advance(19)
        self.assertTrue(self.harness.client.status().connected)
        self.harness.advance(60)
        self.assertFalse(self.harness.client.status().connected)
        self.broker.thaw()
        self.harness.advance(20)
        self.works()


class ConnectionTests(BrokerTestCase):
    """Connections that are refused, closed and cut."""

    def test_connections_are_cut_and_closed(self) -> None:
        """By the network, or by an operator: calls wait, but for those that a broker may lose."""
        for end in (self.broker.cut_connections, self.broker.close_connections):
            self.harness.hold("add")
            waiting, transient = self.call("add", DATA), self.call("add", DATA, persistent=False)
            self.harness.flush()
            end()
            with self.assertRaises(ConnectionLostError):
                self.result(transient)
            self.assertNoResult(waiting)
            self.harness.release()
            self.harness.advance(10)
            self.assertEqual(self.result(waiting), 3)
            self.works()

    def test_connections_are_refused_or_ignored(self) -> None:
        """Until they are accepted again; those that are there stay."""
        for refuse in (self.broker.refuse_connections, self.broker.ignore_connections):
            refuse()
            client = self.harness.new_client()
            self.harness.advance(60)
            self.assertFalse(client.status().connected)
            self.works()
            self.broker.accept_connections()
            self.harness.advance(20)
            self.assertTrue(client.status().connected)

    def test_logins_are_refused(self) -> None:
        """For good: that client is told so, and a new one may come later."""
        self.broker.refuse_logins()
        client = self.harness.new_client()
        with self.assertRaises(AuthenticationError):
            self.result(client.connect())
        self.broker.accept_logins()
        self.assertTrue(self.harness.new_client().status().connected)
