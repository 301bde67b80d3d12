"""Publish and subscribe, on a reactor in memory, with a broker that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogLevel, capturedLogs

from crew_tx.codec import LARGE
from crew_tx.errors import (
    AccessRefusedError,
    ClientStoppedError,
    ConnectionLostError,
    EncodeError,
    InvalidArgumentError,
    MessageTooLargeError,
    NotFoundError,
    OutboxFullError,
    PreconditionFailedError,
)
from crew_tx.message import Event, event_properties
from crew_tx.pubsub import Missed, Subscription, TaskPublisher
from tests.amqp.peer import Peer, Sent
from tests.clients import ClientTestCase
from tests.roles import CODEC

#: Seconds in which acks that wait for one another have left.
_ACKED = 0.05


class PublishTests(ClientTestCase):
    """Out."""

    def test_what_is_written(self) -> None:
        """To the topic exchange, by its channel; without anybody there it is no error."""
        self.connect()
        published = self.client.publish("news.rain", {"mm": 3}, headers={"place": "here"})
        [sent] = self.published()
        fields = sent.fields
        self.assertEqual(
            (fields["exchange"], fields["routing_key"], fields["mandatory"]), ("crew.pubsub", "news.rain", 0)
        )
        properties = sent.properties or {}
        self.assertEqual((properties["type"], properties["delivery_mode"]), ("crew.event", 2))
        self.assertEqual(properties["headers"], {"crew-publisher": self.client.client_id, "place": "here"})
        self.assertEqual(CODEC.decode(sent.body or b"", properties["content_type"]), {"mm": 3})
        self.assertNoResult(published)
        self.confirm(self.channel, 1)
        self.assertIsNone(self.successResultOf(published))

    def test_options(self) -> None:
        """Transient, in another content type; each event has an id of its own."""
        self.connect()
        for _ in range(2):
            self.client.publish("a", "text", persistent=False, serializer="json").addErrback(_dropped)
        first, second = (sent.properties or {} for sent in self.published())
        self.assertEqual((first["delivery_mode"], first["content_type"]), (1, "application/json"))
        self.assertNotEqual(first["message_id"], second["message_id"])

    def test_wrong_arguments(self) -> None:
        """Nothing is sent."""
        self.connect(max_message_size=1000)
        for channel, data, options, kind in (
            ("news.*", None, {}, InvalidArgumentError),
            ("", None, {}, InvalidArgumentError),
            ("a", None, {"headers": {"crew-mine": 1}}, InvalidArgumentError),
            ("a", object(), {}, EncodeError),
            ("a", b"x" * 2000, {"compress": False}, MessageTooLargeError),
        ):
            self.failureResultOf(self.client.publish(channel, data, **options), kind)
        self.assertEqual(self.published(), [])

    def test_it_waits_for_a_connection(self) -> None:
        """As a call does."""
        published = self.client.publish("a", 1)
        self.connect()
        self.confirm(self.channel, 1)
        self.successResultOf(published)

    def test_a_cancelled_one_is_not_sent(self) -> None:
        """Unless it was written already."""
        published = self.client.publish("a", 1)
        published.cancel()
        self.failureResultOf(published, CancelledError)
        self.connect()
        self.assertEqual(self.published(), [])

    def test_the_connection_is_lost_before_the_confirm(self) -> None:
        """Nobody knows whether the broker has it."""
        self.connect()
        published = self.client.publish("a", 1)
        self.peer.lose()
        self.assertTrue(self.failureResultOf(published, ConnectionLostError).value.maybe_sent)

    def test_a_large_body_is_encoded_in_a_thread(self) -> None:
        """One that is cancelled meanwhile is not sent; an error there is the Deferred's."""
        self.connect()
        large = b"x" * (LARGE + 1)
        published, cancelled = self.client.publish("a", large), self.client.publish("a", large)
        wrong = self.client.publish("a", [large, object()])
        self.assertEqual(self.published(), [])
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        while self.reactor.threads.waiting:
            self.reactor.threads.step()
        [sent] = self.published()
        self.assertEqual(_body(sent), large)
        self.confirm(self.channel, 1)
        self.successResultOf(published)
        self.failureResultOf(wrong, EncodeError)

    def test_an_error_that_nobody_expects_ends_it_too(self) -> None:
        """A Deferred that never fires is the worst."""
        self.connect()
        self.patch(self.client._events._codec, "encode", _raise(ZeroDivisionError()))
        self.failureResultOf(self.client.publish("a", 1), ZeroDivisionError)

    def test_a_closed_client_refuses(self) -> None:
        """Also what was in a thread while it closed."""
        self.connect()
        published = self.client.publish("a", b"x" * (LARGE + 1))
        self.close(self.client)
        self.reactor.threads.step()
        self.failureResultOf(published, ClientStoppedError)
        self.failureResultOf(self.client.publish("a"), ClientStoppedError)


class TaskPublisherTests(ClientTestCase):
    """``context.pubsub``, in whatever thread a task runs."""

    def setUp(self) -> None:
        super().setUp()
        self.publisher = TaskPublisher(self.reactor, self.client._events)

    def test_it_publishes_and_goes_on(self) -> None:
        """By the reactor."""
        self.connect()
        self.publisher.publish("a", 1, persistent=False, headers={"h": 2})
        [sent] = self.published()
        self.assertEqual((sent.fields["routing_key"], _body(sent)), ("a", 1))
        self.assertEqual((sent.properties or {})["headers"]["h"], 2)

    def test_what_is_wrong_is_raised_there(self) -> None:
        """In the task."""
        self.assertRaises(InvalidArgumentError, self.publisher.publish, "a.*")
        self.assertRaises(EncodeError, self.publisher.publish, "a", object())

    def test_what_becomes_of_it_later_is_logged(self) -> None:
        """Nobody waits for it."""
        self.patch(self.client._publisher, "publish", _raise(OutboxFullError(1, 2)))
        with capturedLogs() as logs:
            self.publisher.publish("a", 1)
        [event] = [each for each in logs if each["log_level"] is LogLevel.warn]
        self.assertEqual(event["channel"], "a")


class SubscribeTestCase(ClientTestCase):
    """
    Tests with subscribers.

    :ivar had: what their callbacks had.
    :ivar missed: what they were told of.
    """

    def setUp(self) -> None:
        super().setUp()
        self.had: list[Any] = []
        self.missed: list[Missed] = []
        self.tags_of: dict[int, int] = {}

    def subscribe(self, channel: str = "news", callback: Any = None, **options: Any) -> Subscription:
        """A subscription that the broker has."""
        options.setdefault("on_missed", self.missed.append)
        subscribed = self.client.subscribe(channel, callback or self.had.append, **options)
        self.peer.settle()
        subscription = self.successResultOf(subscribed)
        self.consumed()
        return subscription

    def consumed(self) -> list[Sent]:
        """What the client sent; notes the subscriber's queue and channel."""
        sent = self.peer.read()
        for each in sent:
            if each.name == "basic.consume" and each.fields["queue"].startswith("crew.sub."):
                self.queue, self.on = each.fields["queue"], each.channel
                self.tags_of[self.on] = 0
        return sent

    def event(self, data: Any = None, channel: str = "news", **properties: Any) -> None:
        """An event comes."""
        self.tags_of[self.on] = tag = self.tags_of[self.on] + 1
        encoded = CODEC.encode(data, None, False)
        known = event_properties("e1", "client-1", encoded.content_type, None, 7, {"h": 1}, True)
        self.peer.send_content(
            self.on,
            "basic.deliver",
            encoded.body,
            {**known, **properties},
            consumer_tag=self.tags[self.queue],
            delivery_tag=tag,
            exchange="crew.pubsub",
            routing_key=channel,
        )

    def events(self, *data: Any) -> None:
        for each in data:
            self.event(each)

    def acked(self) -> list[tuple[int, bool]]:
        """The acks of events that left since the last time."""
        self.reactor.advance(_ACKED)
        return [
            (sent.fields["delivery_tag"], bool(sent.fields["multiple"]))
            for sent in self.peer.read()
            if sent.name == "basic.ack" and sent.channel == self.on
        ]

    def logged(self, act: Callable[[], object]) -> list[str]:
        """The levels of what is logged."""
        with capturedLogs() as logs:
            act()
        return [str(event["log_level"].name) for event in logs if "log_level" in event]


class Slow:
    """A subscriber that takes as long as the test wants."""

    def __init__(self) -> None:
        self.had: list[Any] = []
        self.waiting: list[Deferred[None]] = []

    async def __call__(self, data: Any) -> None:
        self.had.append(data)
        self.waiting.append(Deferred())
        await self.waiting[-1]

    def done(self, outcome: Any = None) -> None:
        """It is through with the oldest."""
        waiting = self.waiting.pop(0)
        if isinstance(outcome, Exception):
            waiting.errback(outcome)
        else:
            waiting.callback(None)


class BeginTests(SubscribeTestCase):
    """Coming to a queue of its own."""

    def begun(self, **options: Any) -> dict[str, Sent]:
        """What is asked of the broker, by name."""
        subscribed = self.client.subscribe("news.*", self.had.append, **options)
        self.assertNoResult(subscribed)
        self.peer.settle()
        self.successResultOf(subscribed)
        return {sent.name: sent for sent in self.peer.read()}

    def test_a_queue_that_ends_with_the_connection(self) -> None:
        """Bounded on the broker and here, on a channel of its own."""
        self.connect()
        sent = self.begun(buffer=10)
        declared = sent["queue.declare"].fields
        self.assertEqual(
            (bool(declared["durable"]), bool(declared["exclusive"]), bool(declared["auto_delete"])),
            (False, True, True),
        )
        self.assertEqual(declared["arguments"]["x-max-length"], 100_000)
        bound = sent["queue.bind"].fields
        self.assertEqual((bound["exchange"], bound["routing_key"]), ("crew.pubsub", "news.*"))
        self.assertEqual(sent["basic.qos"].fields["prefetch_count"], 10)
        self.assertFalse(sent["basic.consume"].fields["no_ack"])
        self.assertNotEqual(sent["basic.consume"].channel, self.channel)

    def test_dropping_needs_no_acks(self) -> None:
        """Nothing holds the broker back."""
        self.connect()
        sent = self.begun(overflow="drop")
        self.assertNotIn("basic.qos", sent)
        self.assertTrue(sent["basic.consume"].fields["no_ack"])

    def test_a_durable_one(self) -> None:
        """Its queue keeps events while nobody is there, for a week."""
        self.connect()
        declared = self.begun(durable="mine", overflow="drop")["queue.declare"].fields
        self.assertEqual((declared["queue"], bool(declared["durable"])), ("crew.sub.mine", True))
        self.assertFalse(declared["exclusive"] or declared["auto_delete"])
        self.assertEqual(declared["arguments"]["x-expires"], 7 * 24 * 3600 * 1000)

    def test_before_there_is_a_connection(self) -> None:
        """It waits for one."""
        subscribed = self.client.subscribe("news", self.had.append)
        self.assertNoResult(subscribed)
        self.client.connect()
        self.accept()
        self.successResultOf(subscribed)
        self.consumed()
        self.event(1)
        self.assertEqual((self.had, self.missed), ([1], []))

    def test_while_others_begin(self) -> None:
        """Each begins once."""
        first = self.client.subscribe("a", self.had.append)
        later: list[Deferred[Subscription]] = []

        def change(peer: Peer) -> None:
            def bound(sent: Sent) -> None:
                if sent.fields["routing_key"] == "a":
                    later.append(self.client.subscribe("b", self.had.append))
                peer.send(sent.channel, "queue.bind-ok")

            peer.answers["queue.bind"] = bound

        self.client.connect()
        sent = self.accept(change).read()
        for each in (first, *later):
            self.successResultOf(each)
        keys = [each.fields["routing_key"] for each in sent if each.name == "queue.bind"]
        self.assertEqual((keys.count("a"), keys.count("b")), (1, 1))

    def test_wrong_arguments(self) -> None:
        """Named in the error."""
        for options, word in (
            ({"channel": ""}, "1 to 200"),
            ({"durable": "a.*"}, "durable"),
            ({"buffer": 0}, "buffer"),
            ({"buffer": True}, "buffer"),
            ({"buffer": 65_536}, "buffer"),
            ({"overflow": "burst"}, "overflow"),
        ):
            arguments: dict[str, Any] = {"channel": "a", **options}
            subscribed = self.client.subscribe(arguments.pop("channel"), self.had.append, **arguments)
            self.assertIn(word, str(self.failureResultOf(subscribed, InvalidArgumentError).value))

    def test_a_client_that_is_closed_before(self) -> None:
        """Its reason is the Deferred's."""
        subscribed = self.client.subscribe("news", self.had.append)
        self.client.connect().addErrback(_dropped)
        self.reactor.tcpClients.clear()
        self.close(self.client)
        self.failureResultOf(subscribed, ClientStoppedError)

    def test_the_connection_is_lost_meanwhile(self) -> None:
        """The next one serves; nothing can have been missed by one that had nothing yet."""
        self.connect()
        self.peer.lose_at("queue.bind")
        subscribed = self.client.subscribe("news", self.had.append, on_missed=self.missed.append)
        self.peer.settle()
        self.assertNoResult(subscribed)
        self.advance(5)
        self.accept()
        self.successResultOf(subscribed)
        self.assertEqual(self.missed, [])

    def test_a_refusal_ends_the_connection(self) -> None:
        """Which is made anew, until the broker lets it."""
        self.connect()
        self.peer.refuse("queue.declare", 405, "locked")
        subscribed = self.client.subscribe("news", self.had.append)
        self.peer.settle()
        self.assertFalse(self.client.status().connected)
        self.advance(5)
        self.accept()
        self.successResultOf(subscribed)

    def test_many_begin_at_once(self) -> None:
        """The time that a connection has to get ready is enough for any number of them."""
        subscribed = [self.client.subscribe(f"news.{number}", self.had.append) for number in range(50)]
        held: list[Sent] = []
        self.client.connect()
        peer = self.accept(lambda peer: peer.answers.update({"queue.bind": self._held_if_news(held)}))
        self.assertEqual(len(held), 50)
        for sent in held:
            peer.send(sent.channel, "queue.bind-ok")
        peer.settle()
        self.assertEqual(len({self.successResultOf(each) for each in subscribed}), 50)
        self.assertTrue(self.client.status().connected)

    def _held_if_news(self, held: list[Sent]) -> Callable[[Sent], None]:
        def bind(sent: Sent) -> None:
            if sent.fields["routing_key"].startswith("news."):
                held.append(sent)
            else:
                self.peer.send(sent.channel, "queue.bind-ok")

        return bind

    def test_one_that_ends_the_attempt(self) -> None:
        """What may pass is tried again with the next connection, all of them together."""
        subscribed = [self.client.subscribe(channel, self.had.append) for channel in ("a", "b")]
        self.client.connect()

        def locked(peer: Peer) -> None:
            peer.answers["basic.qos"] = lambda sent: peer.send(
                sent.channel, "channel.close", reply_code=405, reply_text="locked"
            )

        self.accept(locked)
        self.assertFalse(self.client.status().connected)
        for each in subscribed:
            self.assertNoResult(each)
        self.peer.settle()
        self.advance(5)
        self.accept()
        for each in subscribed:
            self.successResultOf(each)


class RefusedTests(SubscribeTestCase):
    """What the broker refuses is that subscription's alone."""

    def refusing(self, step: str, code: int) -> Callable[[Peer], None]:
        """Changes a peer: it refuses a step of one durable subscription, and no other."""

        def change(peer: Peer) -> None:
            usual = peer.answers.get(step, peer._respond)

            def answer(sent: Sent) -> None:
                if sent.fields["queue"] != "crew.sub.refused":
                    usual(sent)
                    return
                peer.send(sent.channel, "channel.close", reply_code=code, reply_text="no")

            peer.answers[step] = answer

        return change

    def test_on_a_connection_that_is_ready(self) -> None:
        """Its Deferred says why, and the connection stays."""
        self.connect()
        for step in ("queue.declare", "queue.bind", "basic.consume"):
            for code, kind in (
                (403, AccessRefusedError),
                (404, NotFoundError),
                (406, PreconditionFailedError),
            ):
                usual = self.peer.answers.get(step)
                self.refusing(step, code)(self.peer)
                subscribed = self.client.subscribe("news", self.had.append, durable="refused")
                self.peer.settle()
                self.assertIn("news", str(self.failureResultOf(subscribed, kind).value))
                self.assertTrue(self.client.status().connected, step)
                self.assertEqual(len(self.client._subscriptions), 0)
                self.peer.answers[step] = usual or self.peer._respond
        self.subscribe()
        self.event(1)
        self.assertEqual(self.had, [1])

    def test_while_a_connection_gets_ready(self) -> None:
        """The client connects, and the others begin."""
        refused = self.client.subscribe("a", self.had.append, durable="refused")
        other = self.client.subscribe("b", self.had.append)
        self.client.connect()
        self.accept(self.refusing("queue.declare", 406))
        self.failureResultOf(refused, PreconditionFailedError)
        self.successResultOf(other)
        self.assertTrue(self.client.status().connected)
        declared = [
            sent.fields["queue"]
            for sent in self.reconnect(self.refusing("queue.declare", 406)).read()
            if sent.name == "queue.declare"
        ]
        self.assertNotIn("crew.sub.refused", declared)

    def test_after_it_had_begun(self) -> None:
        """It is logged, and ends."""
        self.connect()
        subscription = self.subscribe(durable="refused")
        levels = self.logged(lambda: self.reconnect(self.refusing("queue.declare", 403)))
        self.assertIn("error", levels)
        self.assertTrue(self.client.status().connected)
        self.assertEqual((subscription.cancelled, len(self.client._subscriptions)), (True, 0))
        self.successResultOf(subscription.cancel())

    def test_one_that_is_cancelled_meanwhile(self) -> None:
        """Nobody waits for the refusal."""
        self.connect()
        self.refusing("queue.declare", 403)(self.peer)
        subscribed = self.client.subscribe("news", self.had.append, durable="refused")
        subscribed.cancel()
        self.failureResultOf(subscribed, CancelledError)
        self.assertNotIn("error", self.logged(self.peer.settle))
        self.assertTrue(self.client.status().connected)

    def test_a_channel_that_the_broker_closes_later(self) -> None:
        """A subscriber must not go deaf: the connection is made anew."""
        self.connect()
        self.subscribe(durable="mine")
        self.peer.send(self.on, "channel.close", reply_code=406, reply_text="no ack came in time")
        self.peer.settle()
        self.assertFalse(self.client.status().connected)
        self.advance(5)
        self.accept()
        self.consumed()
        self.event(1)
        self.assertEqual(self.had, [1])


class EventTests(SubscribeTestCase):
    """What callbacks get."""

    def test_events_come_in_order_and_are_acknowledged(self) -> None:
        """Many acks in one."""
        self.connect()
        subscription = self.subscribe()
        self.events(1, 2, 3)
        self.assertEqual(self.had, [1, 2, 3])
        self.assertEqual(self.acked(), [(3, True)])
        self.assertEqual((subscription.received, subscription.waiting), (3, 0))

    def test_a_small_buffer_is_told_of_at_once(self) -> None:
        """The broker waits for each ack."""
        self.connect()
        self.subscribe(buffer=1)
        self.event(1)
        acks = [sent for sent in self.peer.read() if sent.name == "basic.ack"]
        self.assertEqual([sent.fields["delivery_tag"] for sent in acks], [1])

    def test_a_callback_of_two_arguments_gets_the_event(self) -> None:
        """With the channel that it was published to; defaults don't count as arguments."""
        self.connect()
        self.subscribe("news.*", lambda data, event: self.had.append((data, event)))
        self.event(1, "news.rain")
        event = Event("news.rain", 1, "e1", {"h": 1}, "client-1", 7, False)
        self.assertEqual(self.had, [(1, event)])
        self.subscribe(callback=lambda data, other="own": self.had.append(other))
        self.event(2)
        self.assertEqual(self.had[1:], ["own"])

    def test_a_callback_that_fails(self) -> None:
        """Is logged and counted; the next event comes all the same."""
        self.connect()
        slow = Slow()
        for callback in (_raise(ValueError()), slow):
            subscription = self.subscribe(callback=callback)
            self.event(1)
            if callback is slow:
                slow.done(ValueError())
            self.assertEqual((subscription.failed, subscription.received), (1, 1))
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
            self.event(2)
            self.assertEqual(subscription.received, 2)
            self.flushLoggedErrors(ValueError)
        slow.done()

    def test_an_event_that_cannot_be_read(self) -> None:
        """Is a warning, not an error of the callback's."""
        self.connect()
        subscription = self.subscribe()
        self.assertEqual(self.logged(lambda: self.event(1, content_type="application/none")), ["warn"])
        self.assertEqual((subscription.failed, subscription.received, self.had), (1, 0, []))
        self.event(2)
        self.assertEqual(self.had, [2])
        self.assertEqual(self.acked(), [(2, True)])

    def test_a_large_body_is_decoded_in_a_thread(self) -> None:
        """Those behind it wait for it; what can't be read there is a warning, too."""
        self.connect()
        subscription = self.subscribe()
        large = b"x" * (LARGE + 1)
        self.events(large, 2)
        self.assertEqual((self.had, subscription.waiting), ([], 1))
        self.reactor.threads.step()
        self.assertEqual(self.had, [large, 2])
        self.event(large, content_type="application/none")
        self.assertEqual(self.logged(self.reactor.threads.step), ["warn"])
        self.assertEqual(subscription.failed, 1)

    def test_one_that_is_cancelled_while_a_body_is_decoded(self) -> None:
        """It gets no more."""
        self.connect()
        subscription = self.subscribe()
        self.event(b"x" * (LARGE + 1))
        subscription.cancel()
        self.reactor.threads.step()
        self.assertEqual((self.had, subscription.received), ([], 0))


class SlowTests(SubscribeTestCase):
    """Callbacks that take their time."""

    def test_the_next_comes_when_it_is_through(self) -> None:
        """And only then is the last one acknowledged."""
        self.connect()
        slow = Slow()
        subscription = self.subscribe(callback=slow)
        self.events(1, 2)
        self.assertEqual((slow.had, subscription.waiting, self.acked()), ([1], 1, []))
        slow.done()
        self.assertEqual((slow.had, self.acked()), ([1, 2], [(1, True)]))
        slow.done()
        self.assertEqual(self.acked(), [(2, True)])

    def test_it_holds_up_nobody_else(self) -> None:
        """Each has a queue and a channel of its own."""
        self.connect()
        self.subscribe(callback=Slow())
        self.events(1, 2)
        self.subscribe()
        self.events(1, 2)
        self.assertEqual(self.had, [1, 2])

    def test_thousands_that_wait_and_are_quick(self) -> None:
        """An async callback may be through at once: the stack does not grow by it."""
        self.connect()
        gate: Deferred[None] = Deferred()

        async def callback(data: int) -> None:
            self.had.append(data)
            if data == 0:
                await gate

        self.subscribe(callback=callback, buffer=5000)
        self.events(*range(5000))
        gate.callback(None)
        self.assertEqual(self.had, list(range(5000)))

    def test_dropping_the_oldest(self) -> None:
        """The subscriber is told how many, before the next one comes."""
        self.connect()
        slow = Slow()
        subscription = self.subscribe(callback=slow, overflow="drop", buffer=2)
        self.events(1, 2, 3, 4, 5)
        self.assertEqual((subscription.dropped, subscription.waiting, self.missed), (2, 2, []))
        slow.done()
        self.assertEqual((slow.had, self.missed), ([1, 4], [Missed("news", "overflow", 2)]))
        slow.done()
        self.assertEqual((slow.had, len(self.missed)), ([1, 4, 5], 1))
        self.assertEqual(self.acked(), [])

    def test_dropping_keeps_the_order_of_acks(self) -> None:
        """A broker closes the channel for an ack of what was acknowledged before."""
        self.connect()
        slow = Slow()
        self.subscribe(callback=slow, overflow="drop", buffer=1, durable="mine")
        self.events(1, 2, 3)
        self.assertEqual(self.acked(), [])
        slow.done()
        self.assertEqual(self.acked(), [(1, True)])
        slow.done()
        self.assertEqual((slow.had, self.acked()), ([1, 3], [(3, True)]))

    def test_what_is_done_about_missed_events_may_fail(self) -> None:
        """It is logged, and events go on; without anything to do it is logged as well."""
        self.connect()
        for on_missed in (_raise(ValueError()), None):
            slow = Slow()
            self.subscribe(callback=slow, overflow="drop", buffer=1, on_missed=on_missed)
            self.events(1, 2, 3)
            levels = self.logged(slow.done)
            self.assertEqual(levels, ["info"] if on_missed is None else ["critical"])
            self.assertEqual(slow.had, [1, 3])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class ReconnectTests(SubscribeTestCase):
    """Over several connections."""

    def test_it_goes_on_and_says_so(self) -> None:
        """With another queue, since the last one's ghost may be there."""
        self.connect()
        self.subscribe()
        before = self.queue
        self.reconnect()
        self.consumed()
        self.assertNotEqual(self.queue, before)
        self.assertEqual(self.missed, [Missed("news", "reconnected")])
        self.event(1)
        self.assertEqual(self.had, [1])

    def test_a_durable_one_missed_nothing(self) -> None:
        """Its queue kept what came meanwhile."""
        self.connect()
        self.subscribe(durable="mine")
        self.reconnect()
        self.consumed()
        self.assertEqual((self.queue, self.missed), ("crew.sub.mine", []))

    def test_what_waits_comes_again(self) -> None:
        """The broker has it still: so it is forgotten here."""
        self.connect()
        slow = Slow()
        subscription = self.subscribe(callback=slow, durable="mine")
        self.events(1, 2)
        self.peer.lose()
        self.assertEqual(subscription.waiting, 0)
        slow.done()
        self.assertEqual(slow.had, [1])

    def test_without_acks_what_waits_is_kept(self) -> None:
        """The broker has it no more."""
        self.connect()
        slow = Slow()
        self.subscribe(callback=slow, overflow="drop")
        self.events(1, 2)
        self.peer.lose()
        slow.done()
        self.assertEqual(slow.had, [1, 2])
        self.advance(5)
        self.accept()

    def test_an_event_of_the_last_connection_is_not_acknowledged_by_this(self) -> None:
        """Its number means another event there, or none."""
        self.connect()
        slow = Slow()
        self.subscribe(callback=slow)
        self.events(1, 2, 3)
        for _ in range(2):
            slow.done()
        self.reconnect()
        self.consumed()
        self.event("new")
        slow.done()
        self.assertEqual((slow.had, self.acked()), ([1, 2, 3, "new"], []))
        slow.done()
        self.assertEqual(self.acked(), [(1, True)])

    def test_a_queue_that_is_deleted(self) -> None:
        """It connects anew; events were missed, by a durable one as well."""
        self.connect()
        for durable in (None, "mine"):
            self.missed.clear()
            subscription = self.subscribe(durable=durable)
            self.assertEqual(self.logged(lambda: self.cancel(self.queue, self.on))[0], "warn")
            self.peer.settle()
            self.assertFalse(self.client.status().connected)
            self.advance(5)
            self.accept()
            self.consumed()
            self.assertEqual(self.missed, [Missed("news", "reconnected")])
            subscription.cancel()
            self.peer.settle()


class CancelTests(SubscribeTestCase):
    """Getting no more."""

    def ends(self, ended: Deferred[None]) -> list[str]:
        """What the broker is asked for until it has ended."""
        self.peer.settle()
        self.assertIsNone(self.successResultOf(ended))
        return self.peer.names()

    def test_its_channel_is_closed(self) -> None:
        """And with it its queue goes; what comes behind is nothing."""
        self.connect()
        subscription = self.subscribe()
        self.event(1)
        ended = subscription.cancel()
        self.assertNoResult(ended)
        self.event(2)
        self.assertEqual(self.ends(ended), ["basic.cancel", "basic.ack", "channel.close"])
        self.assertEqual((self.had, len(self.client._subscriptions)), ([1], 0))
        self.assertEqual(self.ends(subscription.cancel()), [])

    def test_a_durable_queue_is_kept(self) -> None:
        """Unless it is to be deleted."""
        self.connect()
        self.assertNotIn("queue.delete", self.ends(self.subscribe(durable="mine").cancel()))
        self.assertIn("queue.delete", self.ends(self.subscribe(durable="mine").cancel(delete=True)))
        self.assertNotIn("queue.delete", self.ends(self.subscribe().cancel(delete=True)))

    def test_its_queue_may_be_deleted_later(self) -> None:
        """Once it was cancelled, and only once."""
        self.connect()
        subscription = self.subscribe(durable="mine")
        self.assertNotIn("queue.delete", self.ends(subscription.cancel()))
        self.assertIn("queue.delete", self.ends(subscription.cancel(delete=True)))
        self.assertEqual([], self.ends(subscription.cancel(delete=True)))

    def test_while_a_callback_runs(self) -> None:
        """What waits is not begun, and nothing is acknowledged by a channel that is closed."""
        self.connect()
        slow = Slow()
        subscription = self.subscribe(callback=slow)
        self.events(1, 2)
        ended = subscription.cancel()
        self.ends(ended)
        slow.done()
        self.assertEqual((slow.had, self.acked()), ([1], []))

    def test_by_its_own_callback(self) -> None:
        """The events behind are not handed over; that one counts as had."""
        self.connect()
        subscriptions: list[Subscription] = []
        subscriptions.append(
            self.subscribe(callback=lambda data: (self.had.append(data), subscriptions[0].cancel()))
        )
        self.events(1, 2)
        self.assertEqual(self.had, [1])
        self.peer.settle()
        acks = [sent.fields["delivery_tag"] for sent in self.peer.read() if sent.name == "basic.ack"]
        self.assertEqual(acks, [1])

    def test_without_a_connection(self) -> None:
        """There is nothing to ask for, and nothing to begin later."""
        self.connect()
        subscription = self.subscribe()
        self.peer.lose()
        self.successResultOf(subscription.cancel())
        self.advance(5)
        names = [
            sent.fields.get("queue", "") for sent in self.accept().read() if sent.name == "queue.declare"
        ]
        self.assertEqual([name for name in names if name.startswith("crew.sub.")], [])

    def test_before_there_was_a_connection(self) -> None:
        """The Deferred is cancelled, and so is the subscription."""
        subscribed = self.client.subscribe("news", self.had.append)
        subscribed.cancel()
        self.failureResultOf(subscribed, CancelledError)
        self.client.connect()
        binds = [sent.fields["routing_key"] for sent in self.accept().read() if sent.name == "queue.bind"]
        self.assertNotIn("news", binds)

    def test_while_the_broker_is_asked_for_it(self) -> None:
        """It ends as soon as it has begun, and the connection stays."""
        self.connect()
        for step in ("channel.open", "queue.declare", "queue.bind", "basic.qos", "basic.consume"):
            held: list[Sent] = []
            usual = self.peer.answers.get(step, self.peer._respond)
            self.peer.answers[step] = held.append
            subscribed = self.client.subscribe("news", self.had.append)
            self.peer.settle()
            subscribed.cancel()
            self.failureResultOf(subscribed, CancelledError)
            self.peer.answers[step] = usual
            usual(held[0])
            self.peer.settle()
            self.assertEqual(self.peer.names()[-2:], ["basic.cancel", "channel.close"], step)
            self.assertTrue(self.client.status().connected, step)

    def test_what_was_handled_is_acknowledged_before_the_client_closes(self) -> None:
        """A durable subscriber would get it again."""
        self.connect()
        slow = Slow()
        self.subscribe(callback=lambda data: slow(data) if data == 3 else None, durable="mine")
        self.events(1, 2, 3)
        self.close(self.client)
        sent = self.peer.read()
        names = [each.name for each in sent]
        self.assertLess(names.index("basic.ack"), names.index("connection.close"))
        [ack] = [each.fields for each in sent if each.name == "basic.ack"]
        self.assertEqual((ack["delivery_tag"], bool(ack["multiple"])), (2, True))
        slow.done()

    def test_a_callback_that_closes_the_client(self) -> None:
        """The event that it has counts as handled, and those behind it don't."""
        self.connect()
        closed: list[Deferred[None]] = []
        self.subscribe(callback=lambda data: closed.append(self.client.close()), durable="mine")
        self.events(1, 2)
        self.ended(lambda: closed[0])
        acks = [each.fields["delivery_tag"] for each in self.peer.read() if each.name == "basic.ack"]
        self.assertEqual((acks, len(closed)), ([1], 1))

    def test_the_client_is_closed(self) -> None:
        """All end; no event comes from what waits."""
        self.connect()
        slow = Slow()
        subscription = self.subscribe(callback=slow)
        self.events(1, 2)
        self.close(self.client)
        slow.done()
        self.assertEqual((slow.had, subscription.cancelled), ([1], True))
        self.successResultOf(subscription.cancel())


class DeleteTests(SubscribeTestCase):
    """Deleting the queue of a durable subscription."""

    def deletes(self) -> list[str]:
        """What is declared and deleted of subscribers, in order."""
        return [
            sent.name
            for sent in self.peer.read()
            if sent.name in ("queue.delete", "queue.declare") and sent.fields["queue"] == "crew.sub.mine"
        ]

    def test_without_a_connection_the_next_one_does_it(self) -> None:
        """In place of declaring it; the one after that does nothing."""
        self.connect()
        subscription = self.subscribe(durable="mine")
        self.peer.lose()
        deleted = subscription.cancel(delete=True)
        self.assertNoResult(deleted)
        self.advance(5)
        self.accept()
        self.assertIsNone(self.successResultOf(deleted))
        self.assertEqual(self.deletes(), ["queue.delete"])
        self.reconnect()
        self.assertEqual(self.deletes(), [])

    def test_one_of_the_same_name_is_declared_behind_that(self) -> None:
        """It would lose its queue otherwise."""
        self.connect()
        subscription = self.subscribe(durable="mine")
        self.peer.lose()
        subscription.cancel(delete=True)
        again = self.client.subscribe("news", self.had.append, durable="mine")
        self.advance(5)
        self.accept()
        self.successResultOf(again)
        self.assertEqual(self.deletes(), ["queue.delete", "queue.declare"])

    def test_the_connection_is_lost_meanwhile(self) -> None:
        """The next one does it."""
        for step in ("basic.cancel", "channel.open", "queue.delete"):
            self.make()
            self.connect()
            subscription = self.subscribe(durable="mine")
            self.peer.lose_at(step)
            deleted = subscription.cancel(delete=True)
            self.peer.settle()
            self.assertNoResult(deleted)
            self.advance(5)
            self.accept()
            self.successResultOf(deleted)
            self.assertEqual(self.deletes(), ["queue.delete"], step)
            self.close(self.client)

    def test_while_it_begins_anew(self) -> None:
        """Deleted before the declaration, the queue would stay."""
        self.connect()
        subscription = self.subscribe(durable="mine")
        held: list[Sent] = []

        def hold(peer: Peer) -> None:
            peer.answers["basic.qos"] = held.append

        peer = self.reconnect(hold)
        deleted = subscription.cancel(delete=True)
        peer.settle()
        self.assertNoResult(deleted)
        peer.send(held[0].channel, "basic.qos-ok")
        peer.settle()
        self.successResultOf(deleted)
        self.assertEqual(self.deletes(), ["queue.declare", "queue.delete"])
        self.assertTrue(self.client.status().connected)

    def test_a_refusal(self) -> None:
        """Is the Deferred's, now or with the next connection; the connection stays."""
        self.connect()
        for connected in (True, False):
            subscription = self.subscribe(durable="mine")
            if connected:
                self.peer.refuse("queue.delete", 403, "no")
                deleted = subscription.cancel(delete=True)
                self.peer.settle()
            else:
                self.peer.lose()
                deleted = subscription.cancel(delete=True)
                self.advance(5)
                self.accept(lambda peer: peer.refuse("queue.delete", 403, "no"))
            self.failureResultOf(deleted, AccessRefusedError)
            self.assertTrue(self.client.status().connected)

    def test_the_client_is_closed_before(self) -> None:
        """Nothing was deleted, and it is said; also to who asks for it after that."""
        self.connect()
        first, second = self.subscribe(durable="mine"), self.subscribe(durable="other")
        self.peer.lose()
        deleted = first.cancel(delete=True)
        self.close(self.client)
        self.failureResultOf(deleted, ClientStoppedError)
        self.failureResultOf(second.cancel(delete=True), ClientStoppedError)
        self.successResultOf(second.cancel())


def _raise(error: Exception) -> Callable[..., Any]:
    def function(*args: Any, **kwargs: Any) -> Any:
        raise error

    return function


def _dropped(failure: object) -> None:
    """An error that the test does not look at."""


def _body(sent: Sent) -> Any:
    properties = sent.properties or {}
    return CODEC.decode(sent.body or b"", properties.get("content_type"), properties.get("content_encoding"))
