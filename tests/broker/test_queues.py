"""Queues: who is next, and what is."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.broker._model import Broker
from tests.broker.clients import ModelClient


class QueueTestCase(SynchronousTestCase):
    """Tests with two clients."""

    def setUp(self) -> None:
        vhost = Broker().vhosts["/"]
        self.one, self.other = ModelClient(vhost), ModelClient(vhost)

    def publish(self, *bodies: bytes) -> None:
        """Into the queue ``a``."""
        for body in bodies:
            self.one.publish("a", body)


class TurnTests(QueueTestCase):
    """Which consumer is delivered to."""

    def test_in_turn(self) -> None:
        self.one.queue("a")
        for client in (self.one, self.other):
            client.consume("a")
        self.publish(b"1", b"2", b"3")
        self.assertEqual((self.one.told, self.other.told), ([b"1", b"3"], [b"2"]))

    def test_by_priority_whoever_came_first(self) -> None:
        self.one.queue("a")
        self.one.consume("a", x_priority=1)
        self.other.channel.qos(1, False, 0)
        self.other.consume("a", x_priority=7)
        self.publish(b"1", b"2")
        self.assertEqual((self.other.told, self.one.told), ([b"1"], [b"2"]))

    def test_a_priority_that_nobody_has_any_more(self) -> None:
        self.one.queue("a")
        self.one.consume("a")
        self.other.consume("a", x_priority=7)
        self.other.channel.close(0)
        self.publish(b"1")
        self.assertEqual(self.one.told, [b"1"])

    def test_one_that_has_enough_goes_on_when_it_has_settled(self) -> None:
        self.one.queue("a")
        self.one.channel.qos(1, False, 0)
        self.one.consume("a")
        self.publish(b"1", b"2")
        self.assertEqual(self.one.told, [b"1"])
        self.one.channel.ack(1, False, 0)
        self.assertEqual(self.one.told, [b"1", b"2"])

    def test_what_is_settled_in_one_queue_lets_another_go_on_where_the_prefetch_is_shared(self) -> None:
        self.one.queue("a")
        self.one.queue("b")
        self.one.channel.qos(1, True, 0)
        self.one.consume("a", "first")
        self.one.consume("b", "second")
        self.publish(b"1")
        self.one.publish("b", b"2")
        self.assertEqual(self.one.told, [b"1"])
        self.one.channel.ack(1, False, 0)
        self.assertEqual(self.one.told, [b"1", b"2"])

    def test_a_single_active_consumer_hands_over(self) -> None:
        self.one.queue("a", x_single_active_consumer=True)
        for client in (self.one, self.other):
            client.consume("a")
        self.publish(b"1")
        self.one.channel.close(0)
        self.assertEqual((self.one.told, self.other.told), ([b"1"], [b"1"]))


class OrderTests(QueueTestCase):
    """Which message is delivered."""

    def test_a_classic_queue_keeps_places(self) -> None:
        self.one.queue("a")
        self.publish(b"1", b"2", b"3")
        self.one.consume("a")
        self.one.channel.close(0)
        self.assertEqual(self.one.vhost.queues["a"].take_all()[0].message.body, b"1")

    def test_an_expired_head_goes_before_the_next_is_delivered(self) -> None:
        self.one.queue("a", x_message_ttl=1000)
        self.publish(b"1")
        self.one.now = 5
        self.one.publish("a", b"2")
        message = self.one.got("a")
        assert message is not None
        self.assertEqual(message.body, b"2")

    def test_a_quorum_queue_counts_what_comes_back(self) -> None:
        self.one.queue("a", durable=True, x_queue_type="quorum", x_delivery_limit=1)
        self.publish(b"1")
        self.one.consume("a")
        self.one.channel.reject(1, False, True, 0)
        self.assertEqual(self.one.told, [b"1", b"1"])
        self.one.channel.reject(2, False, True, 0)
        self.assertEqual((self.one.told, len(self.one.vhost.queues["a"])), ([b"1", b"1"], 0))

    def test_bytes_follow_what_is_ready(self) -> None:
        queue = self.one.queue("a")
        self.publish(b"12", b"3")
        self.assertEqual(queue.ready_bytes, 3)
        self.one.got("a")
        self.assertEqual(queue.ready_bytes, 1)
        self.assertEqual((queue.purge(), queue.ready_bytes), (1, 0))
