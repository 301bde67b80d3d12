"""The broker's state: what no client can see from outside, and what takes too long to wait for."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.properties import encode_properties
from crew_tx.broker._errors import ReplyError
from crew_tx.broker._messages import ENTRY_SIZE
from crew_tx.broker._model import Broker
from tests.broker.clients import ModelClient

#: Bytes of a message without properties beside its body.
BESIDE = ENTRY_SIZE + len(encode_properties({}))


class ModelTestCase(SynchronousTestCase):
    """Tests with a broker that takes 10,000 bytes, and a client."""

    def setUp(self) -> None:
        self.alarms: list[bool] = []
        self.broker = Broker(memory_limit=10_000, on_alarm=self.alarms.append)
        self.vhost = self.broker.vhosts["/"]
        self.client = ModelClient(self.vhost)


class BytesTests(ModelTestCase):
    """What the broker holds."""

    def test_a_message_counts_in_each_queue_until_it_is_settled(self) -> None:
        self.client.queue("a")
        self.client.publish("a", b"x" * 10)
        self.client.consume("a")
        self.assertEqual(self.broker.bytes, 10 + BESIDE)
        self.client.channel.ack(1, False, 0)
        self.assertEqual(self.broker.bytes, 0)

    def test_what_needs_no_acknowledgement_does_not_count(self) -> None:
        self.client.queue("a")
        self.client.consume("a", no_ack=True)
        self.client.publish("a", b"x" * 10)
        self.assertEqual(self.broker.bytes, 0)

    def test_what_is_handed_back_counts_once(self) -> None:
        self.client.queue("a")
        self.client.publish("a", b"x" * 10)
        self.client.consume("a")
        self.client.channel.close(0)
        self.assertEqual(self.broker.bytes, 10 + BESIDE)

    def test_purged_deleted_or_expired_it_counts_no_more(self) -> None:
        for end in (
            lambda: self.vhost.purge_queue("a", self.client),
            lambda: self.vhost.delete_queue("a", self.client),
            lambda: self.broker.wake(5),
        ):
            self.client.queue("a")
            self.client.publish("a", b"x" * 10, expiration="4000")
            self.assertEqual(self.broker.bytes, 10 + BESIDE + len(b"\x044000"))
            end()
            self.assertEqual(self.broker.bytes, 0)

    def test_what_a_deleted_queue_had_delivered_counts_until_it_is_settled(self) -> None:
        self.client.queue("a")
        self.client.publish("a", b"x" * 10)
        self.client.consume("a")
        self.vhost.delete_queue("a", self.client)
        self.assertEqual(self.broker.bytes, 10 + BESIDE)
        self.client.channel.close(0)
        self.assertEqual(self.broker.bytes, 0)

    def test_a_dropped_head_counts_no_more(self) -> None:
        self.client.queue("a", x_max_length=1)
        for _ in range(3):
            self.client.publish("a", b"x" * 10)
        self.assertEqual(self.broker.bytes, 10 + BESIDE)

    def test_properties_and_the_message_itself_count_as_well(self) -> None:
        """Many small messages take more than their bodies; a queue's limit counts these alone."""
        self.client.queue("a", x_max_length_bytes=20)
        for _ in range(3):
            self.client.publish("a", b"x" * 10, headers={"h": "y" * 100})
        encoded = len(encode_properties({"headers": {"h": "y" * 100}}))
        self.assertEqual(self.broker.bytes, 2 * (10 + encoded + ENTRY_SIZE))
        self.assertEqual(self.vhost.queues["a"].ready_bytes, 20)


class AlarmTests(ModelTestCase):
    """When publishers are blocked."""

    def fill(self, size: int) -> None:
        """Put a message into a queue that takes so much."""
        self.client.queue("a")
        self.client.publish("a", b"x" * (size - BESIDE))

    def test_past_the_limit_and_until_it_is_well_below(self) -> None:
        self.fill(6000)
        self.fill(4001)
        self.assertEqual((self.alarms, self.broker.alarm), ([True], "memory"))
        self.client.consume("a")
        self.client.channel.ack(2, False, 0)
        self.assertEqual((self.alarms, self.broker.alarm), ([True, False], None))

    def test_a_little_below_the_limit_it_stays(self) -> None:
        self.fill(8001)
        self.fill(2000)
        self.client.consume("a")
        self.client.channel.ack(2, False, 0)
        self.assertEqual((self.broker.bytes, self.broker.alarm), (8001, "memory"))

    def test_what_was_raised_by_hand_the_bytes_do_not_end(self) -> None:
        self.broker.raise_alarm("memory")
        self.fill(10_001)
        self.vhost.purge_queue("a", self.client)
        self.assertEqual((self.alarms, self.broker.alarms), ([True], ("memory",)))
        self.broker.clear_alarm("memory")
        self.assertEqual((self.alarms, self.broker.alarms), ([True, False], ()))

    def test_what_the_bytes_raised_a_hand_does_not_end(self) -> None:
        self.fill(10_001)
        self.broker.clear_alarm("memory")
        self.assertEqual(self.broker.alarm, "memory")

    def test_two_resources_are_one_alarm_to_clients(self) -> None:
        self.broker.raise_alarm("disk")
        self.broker.raise_alarm("memory")
        self.assertEqual((self.broker.alarm, self.broker.alarms), ("disk", ("disk", "memory")))
        self.broker.clear_alarm("disk")
        self.broker.clear_alarm("memory")
        self.assertEqual(self.alarms, [True, False])


class TimeTests(ModelTestCase):
    """What is due, and when."""

    def test_nothing_is_due_where_nothing_ends(self) -> None:
        self.client.queue("a")
        self.client.publish("a")
        self.assertIs(self.broker.next_wake(), None)

    def test_the_head_of_a_queue(self) -> None:
        self.client.queue("a", x_message_ttl=5000)
        self.client.publish("a")
        self.client.now = 2
        self.client.publish("a")
        self.assertEqual(self.broker.next_wake(), 5)
        self.broker.wake(5)
        self.assertEqual((self.broker.next_wake(), len(self.vhost.queues["a"])), (7, 1))

    def test_a_queue_is_watched_once(self) -> None:
        """However many messages it has, or is looked at."""
        self.client.queue("a", x_message_ttl=5000)
        for _ in range(500):
            self.client.publish("a")
        self.assertEqual(len(self.vhost._deadlines._heap), 1)

    def test_an_unused_queue(self) -> None:
        self.client.queue("a", x_expires=5000)
        self.client.now = 3
        self.assertIs(self.client.got("a"), None)
        self.assertEqual(self.broker.next_wake(), 8)
        self.broker.wake(7.9)
        self.assertIn("a", self.vhost.queues)
        self.broker.wake(8)
        self.assertNotIn("a", self.vhost.queues)
        self.assertIs(self.broker.next_wake(), None)

    def test_a_consumed_queue_is_not_due(self) -> None:
        self.client.queue("a", x_expires=5000)
        self.client.consume("a")
        self.assertIs(self.broker.next_wake(), None)
        self.vhost.cancel(self.client.channel, "tag", 20)
        self.assertEqual(self.broker.next_wake(), 25)

    def test_what_was_delivered_is_not_due(self) -> None:
        self.client.queue("a")
        self.client.publish("a", expiration="5000")
        self.client.consume("a")
        self.assertIs(self.broker.next_wake(), None)


class DeadLetterTests(ModelTestCase):
    """Dead letters that bring about others."""

    def test_a_chain_may_be_longer_than_the_stack_is_deep(self) -> None:
        self.client.queue("0")
        for number in range(1, 400):
            self.client.queue(
                str(number),
                x_max_length=0,
                x_dead_letter_exchange="",
                x_dead_letter_routing_key=str(number - 1),
            )
        self.client.publish("399")
        letter = self.client.got("0")
        assert letter is not None
        self.assertEqual(len(letter.headers["x-death"]), 399)

    def test_a_refusal_in_the_middle_does_not_stop_the_next_letter(self) -> None:
        self.client.queue("full", x_max_length=0, x_overflow="reject-publish")
        self.client.queue("dead")
        exchange = "letters"
        self.vhost.declare_exchange(exchange, "fanout")
        for name in ("full", "dead"):
            self.vhost.bind(self.vhost.queues[name], exchange, "")
        self.client.queue("a", x_max_length=0, x_dead_letter_exchange=exchange)
        for body in (b"1", b"2"):
            self.client.publish("a", body)
        self.assertEqual([self.client.got("dead").body for _ in range(2)], [b"1", b"2"])  # type: ignore[union-attr]


class TopologyTests(ModelTestCase):
    """Exchanges that go with what was bound to them."""

    def test_auto_delete_exchanges_in_a_chain_go_one_after_the_other(self) -> None:
        for name in ("first", "second"):
            self.vhost.declare_exchange(name, "fanout", auto_delete=True)
        self.vhost.bind(self.vhost.exchanges["second"], "first", "")
        queue = self.client.queue("a")
        self.vhost.bind(queue, "second", "")
        self.vhost.delete_queue("a", self.client)
        self.assertNotIn("second", self.vhost.exchanges)
        self.assertNotIn("first", self.vhost.exchanges)

    def test_a_deleted_exchange_is_forgotten_by_its_queues(self) -> None:
        self.vhost.declare_exchange("first", "fanout")
        queue = self.client.queue("a")
        self.vhost.bind(queue, "first", "")
        self.vhost.delete_exchange("first")
        self.assertEqual(queue.sources, set())

    def test_a_queue_that_is_bound_twice_keeps_its_source_until_the_last(self) -> None:
        self.vhost.declare_exchange("first", "direct")
        queue = self.client.queue("a")
        for key in ("x", "y"):
            self.vhost.bind(queue, "first", key)
        self.vhost.unbind(queue, "first", "x")
        self.assertEqual(queue.sources, {self.vhost.exchanges["first"]})
        self.vhost.unbind(queue, "first", "y")
        self.assertEqual(queue.sources, set())

    def test_another_connection_may_not_declare_an_exclusive_queue(self) -> None:
        self.client.queue("a", exclusive=True)
        error = self.assertRaises(ReplyError, ModelClient(self.vhost).queue, "a", exclusive=True)
        self.assertEqual(error.code, 405)

    def test_exclusive_queues_go_with_their_connection_alone(self) -> None:
        self.client.queue("own", exclusive=True)
        self.client.queue("shared")
        self.vhost.delete_exclusive_queues(self.client)
        self.assertEqual(list(self.vhost.queues), ["shared"])


class UserTests(ModelTestCase):
    """Who may log in."""

    def test_names_and_passwords(self) -> None:
        broker = Broker({"me": "pässword"})
        self.assertTrue(broker.is_user("me", "pässword"))
        for name, password in (("me", "password"), ("me", ""), ("guest", "guest"), ("", "")):
            self.assertFalse(broker.is_user(name, password))
