"""One channel: methods and answers, consumers, publishing and confirms."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from txamqp.client import ChannelClosed, Closed
from txamqp.connection import Body, Frame, Header, Method
from txamqp.content import Content
from txamqp.queue import Closed as QueueClosed
from txamqp.queue import Empty

from crew_tx.amqp import methods
from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.delivery import Delivery, Returned
from crew_tx.amqp.properties import encode_properties
from crew_tx.amqp.spec import methods as spec_methods
from crew_tx.errors import CallerError, EncodeError
from tests.amqp.peer import Peer, PeerTestCase, packed, packed_content

PROPERTIES = {"content_type": "text/plain", "priority": 3}


class ChannelTestCase(PeerTestCase):
    """Tests with one open channel."""

    frame_max = 131_072

    def setUp(self) -> None:
        super().setUp()
        self.peer: Peer = self.log_in(frame_max=self.frame_max)
        self.channel: AMQChannel = self.open_channel(self.peer)

    def deliver(self, body: bytes = b"", tag: str = "tag", channel: int = 1, number: int = 1) -> bytes:
        """A delivery's frames."""
        return packed_content(channel, "basic.deliver", body, consumer_tag=tag, delivery_tag=number)

    def code_at_the_end(self, data: bytes) -> int:
        """With which code the client ends the connection."""
        self.peer.feed(data)
        code: int = self.peer.one("connection.close").fields["reply_code"]
        return code


class MethodsTests(ChannelTestCase):
    """Requests, and the answers that belong to them."""

    def test_answers_go_to_their_requests_in_order(self) -> None:
        """Several may be on their way."""
        declared = [self.channel.queue_declare(queue=name) for name in ("a", "b", "c")]
        self.peer.settle()
        self.assertEqual([self.successResultOf(each).queue for each in declared], ["a", "b", "c"])

    def test_a_method_without_an_answer_is_done_at_once(self) -> None:
        """Whether it never has one or wants none."""
        self.assertIsNone(self.successResultOf(self.channel.basic_ack(delivery_tag=1)))
        self.assertIsNone(self.successResultOf(self.channel.queue_delete(queue="q", nowait=True)))

    def test_a_message_can_be_fetched(self) -> None:
        """Its answer has content, which is no returned message; where there is none, it says so."""
        self.channel.on_return = self.fail
        got = self.channel.basic_get(queue="q")
        self.peer.send_content(1, "basic.get-ok", b"body", PROPERTIES, message_count=4)
        message = self.successResultOf(got)
        self.assertEqual((message.message_count, message.content.body), (4, b"body"))
        self.assertEqual(message.content["content-type"], "text/plain")
        got = self.channel.basic_get(queue="q")
        self.peer.send(1, "basic.get-empty")
        self.assertEqual(self.successResultOf(got).method.name, "get-empty")

    def test_an_argument_that_cannot_be_encoded_is_an_error(self) -> None:
        """Nothing is written."""
        self.peer.link.take()
        declared = self.channel.queue_declare(queue="q" * 256)
        self.assertIn("queue.declare", str(self.failureResultOf(declared, EncodeError).value))
        self.assertEqual(self.peer.link.writes, [])

    def test_content_has_no_children(self) -> None:
        """AMQP 0-9-1 dropped them."""
        content = Content(b"", children=[Content(b"")])
        self.failureResultOf(self.channel.basic_publish(content=content), EncodeError)

    def test_a_body_may_be_any_octets_or_text(self) -> None:
        """Or nothing."""
        for body in (b"x", bytearray(b"x"), memoryview(b"x"), "x"):
            self.channel.basic_publish(content=Content(body))
            self.assertEqual(self.peer.one("basic.publish").body, b"x")
        self.channel.basic_publish(routing_key="k")
        self.assertEqual(self.peer.one("basic.publish").body, b"")

    def test_an_answer_that_nobody_asked_for_ends_the_connection(self) -> None:
        """None at all, or another."""
        self.channel.queue_declare(queue="q").addErrback(lambda _: None)
        self.assertEqual(self.code_at_the_end(packed(1, "queue.bind-ok")), 503)

    def test_a_cancelled_request_keeps_its_place(self) -> None:
        """Until its answer has come; it may be the last."""
        cancelled = self.channel.queue_declare(queue="a")
        cancelled.cancel()
        self.failureResultOf(cancelled)
        self.peer.settle()
        self.assertFalse(self.channel.closed)

    def test_a_timed_out_request_does_not_disturb_the_end(self) -> None:
        """It has failed already."""
        late = self.channel.queue_declare(queue="a").addTimeout(1, self.clock)
        self.clock.advance(1)
        self.failureResultOf(late)
        self.peer.lose()

    def test_a_method_longer_than_a_frame_is_an_error(self) -> None:
        """The broker would end the connection; one that fills a frame goes."""
        self.peer.link.take()
        self.channel.queue_declare(arguments={"k": ""}, nowait=True)
        room = 131_072 - len(self.peer.link.take())
        declared = self.channel.queue_declare(arguments={"k": "x" * (room + 1)}, nowait=True)
        self.failureResultOf(declared, EncodeError)
        self.assertEqual(self.peer.link.writes, [])
        self.channel.queue_declare(arguments={"k": "x" * room}, nowait=True)
        self.assertEqual(len(self.peer.link.take()), 131_072)


class PublishingTests(ChannelTestCase):
    """The quick way."""

    frame_max = 8192

    def publish(self, body: bytes = b"", **properties: Any) -> int:
        return self.channel.publish("exchange", "key", encode_properties(properties), body, mandatory=True)

    def test_a_message_goes_out_whole(self) -> None:
        """In one write."""
        self.peer.link.take()
        self.publish(b"body", **PROPERTIES)
        self.assertEqual(len(self.peer.link.writes), 1)
        sent = self.peer.one("basic.publish")
        self.assertEqual((sent.fields["exchange"], sent.fields["routing_key"]), ("exchange", "key"))
        self.assertIs(sent.fields["mandatory"], True)
        self.assertEqual((sent.properties, sent.body), (PROPERTIES, b"body"))

    def test_a_body_may_have_any_size(self) -> None:
        """Nothing, one frame, just more, and many."""
        for size in (0, 1, 8184, 8185, 100_000):
            self.publish(b"x" * size)
            self.assertEqual(self.peer.one("basic.publish").body, b"x" * size)

    def test_messages_are_numbered_from_one(self) -> None:
        """Whichever way they are published; as the broker counts them."""
        self.channel.confirm_select().addErrback(lambda _: None)
        self.assertEqual([self.publish(), self.publish()], [1, 2])
        self.channel.basic_publish(content=Content(b""))
        self.assertEqual(self.publish(), 4)

    def test_the_broker_counts_from_confirm_select_on(self) -> None:
        """What was published before has no number there."""
        self.publish()
        self.channel.confirm_select().addErrback(lambda _: None)
        self.assertEqual(self.publish(), 1)

    def test_properties_that_fill_a_frame_go(self) -> None:
        """Frame, head and end octet have 8192 bytes."""
        self.publish(headers={"k": "x" * 8159})
        self.assertEqual(len(_frames(self.peer.link.take())[-1]), 8192)

    def test_properties_that_do_not_fit_into_a_frame_are_an_error(self) -> None:
        """The broker would end the connection; the message has no number."""
        self.peer.link.take()
        with self.assertRaises(EncodeError):
            self.publish(headers={"k": "x" * 8160})
        content = Content(b"", properties={"headers": {"k": "x" * 8160}})
        self.failureResultOf(self.channel.basic_publish(content=content), EncodeError)
        self.assertEqual(self.peer.link.writes, [])
        self.assertEqual(self.publish(), 1)

    def test_a_closed_channel_publishes_nothing(self) -> None:
        """Its end says why."""
        self.peer.send(1, "channel.close", reply_code=404)
        with self.assertRaises(ChannelClosed):
            self.publish()

    def test_confirms_come_as_they_are(self) -> None:
        """Number, whether it stands for all before it, and whether it was taken."""
        confirms: list[tuple[int, bool, bool]] = []
        self.channel.on_confirm = lambda *confirm: confirms.append(confirm)
        self.peer.send(1, "basic.ack", delivery_tag=2, multiple=True)
        self.peer.send(1, "basic.nack", delivery_tag=3)
        self.assertEqual(confirms, [(2, True, True), (3, False, False)])

    def test_a_returned_message_comes_whole(self) -> None:
        """On the channel that it was published on."""
        returned: list[Returned] = []
        self.channel.on_return = returned.append
        fields = {"reply_code": 312, "reply_text": "NO_ROUTE", "exchange": "x", "routing_key": "k"}
        self.peer.send_content(1, "basic.return", b"body", {"message_id": "1"}, **fields)
        self.assertEqual(returned, [Returned(312, "NO_ROUTE", "x", "k", {"message_id": "1"}, b"body")])
        self.assertEqual(self.peer.client.basic_return_queue.pending, [])

    def test_returned_messages_can_be_fetched_txamqps_way(self) -> None:
        """From the client's queue."""
        self.peer.send_content(1, "basic.return", b"body", reply_code=312)
        message = self.successResultOf(self.peer.client.basic_return_queue.get())
        self.assertEqual((message.reply_code, message.content.body), (312, b"body"))


class ConsumingTests(ChannelTestCase):
    """Consumers by callback."""

    def setUp(self) -> None:
        super().setUp()
        self.delivered: list[Delivery] = []
        self.ended: list[str] = []

    def consume(self, queue: str = "q", **more: Any) -> str:
        started = self.channel.consume(queue, self.delivered.append, on_cancelled=self.ended.append, **more)
        tag: str = self.answered(self.peer, started)
        return tag

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.delivered]

    def test_a_delivery_comes_whole(self) -> None:
        """With all that the broker says of it."""
        tag = self.consume()
        fields = {"delivery_tag": 7, "redelivered": True, "exchange": "x", "routing_key": "k"}
        self.peer.send_content(1, "basic.deliver", b"body", PROPERTIES, consumer_tag=tag, **fields)
        self.assertEqual(self.delivered, [Delivery(tag, 7, True, "x", "k", PROPERTIES, b"body")])
        self.assertEqual(self.channel.consumer_queue(tag).pending, [])

    def test_what_it_asks_for_is_what_it_is_told(self) -> None:
        """Flags and arguments."""
        self.consume(no_ack=True, exclusive=True, arguments={"x-priority": 1})
        fields = self.peer.one("basic.consume").fields
        self.assertEqual((fields["no_ack"], fields["exclusive"]), (True, True))
        self.assertEqual(fields["arguments"], {"x-priority": 1})

    def test_a_message_may_come_with_the_answer(self) -> None:
        """In one read."""
        started = self.channel.consume("q", self.delivered.append)
        self.peer.feed(packed(1, "basic.consume-ok", consumer_tag="t") + self.deliver(b"first", "t"))
        self.assertEqual(self.successResultOf(started), "t")
        self.assertEqual(self.bodies, [b"first"])

    def test_each_consumer_has_its_own(self) -> None:
        """By tag."""
        other: list[Delivery] = []
        tag = self.consume()
        other_tag = self.answered(self.peer, self.channel.consume("r", other.append))
        self.peer.feed(self.deliver(b"one", other_tag) + self.deliver(b"two", tag))
        self.assertEqual(([delivery.body for delivery in other], self.bodies), ([b"one"], [b"two"]))

    def test_bodies_of_two_channels_may_be_mixed(self) -> None:
        """Frame by frame."""
        self.open_channel(self.peer, 2).on_return = lambda returned: self.ended.append(returned.body.decode())
        tag = self.consume()
        one = packed_content(1, "basic.deliver", b"a" * 20, frame_max=18, consumer_tag=tag)
        two = packed_content(2, "basic.return", b"b" * 20, frame_max=18)
        for pair in zip(_frames(one), _frames(two), strict=True):
            self.peer.feed(b"".join(pair))
        self.assertEqual((self.bodies, self.ended), ([b"a" * 20], ["b" * 20]))

    def test_a_mistake_of_a_callback_stays_its_own(self) -> None:
        """It is logged, and the next message comes."""

        def fail(delivery: Delivery) -> None:
            self.delivered.append(delivery)
            raise ZeroDivisionError

        tag = self.answered(self.peer, self.channel.consume("q", fail))
        self.peer.feed(self.deliver(b"one", tag) + self.deliver(b"two", tag))
        self.assertEqual(self.bodies, [b"one", b"two"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_a_consumer_that_the_broker_ends_hears_of_it(self) -> None:
        """Once; the broker's question is answered."""
        tag = self.consume()
        self.peer.read()
        self.peer.send(1, "basic.cancel", consumer_tag=tag)
        self.peer.send(1, "basic.cancel", consumer_tag=tag, nowait=True)
        self.assertEqual(self.ended, [tag])
        self.assertEqual(self.peer.one("basic.cancel-ok").fields["consumer_tag"], tag)

    def test_a_mistake_when_a_consumer_ends_stays_its_own(self) -> None:
        """The connection goes on."""

        def fail(tag: str) -> None:
            raise ZeroDivisionError

        tag = self.answered(self.peer, self.channel.consume("q", print, on_cancelled=fail))
        self.peer.send(1, "basic.cancel", consumer_tag=tag)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertFalse(self.peer.client.closed)

    def test_a_consumer_can_be_ended(self) -> None:
        """What comes before the broker's answer is still delivered."""
        tag = self.consume()
        ended = self.channel.cancel(tag)
        self.peer.feed(self.deliver(b"still", tag))
        self.assertIsNone(self.answered(self.peer, ended))
        self.peer.feed(self.deliver(b"too late", tag))
        self.assertEqual((self.bodies, self.ended), ([b"still"], []))

    def test_a_queue_that_is_not_there_is_an_error(self) -> None:
        """The broker closes the channel."""
        self.peer.refuse("basic.consume", 404, "NOT_FOUND - no queue 'q'")
        self.refused(self.peer, self.channel.consume("q", print), ChannelClosed)

    def test_deliveries_are_acknowledged_and_handed_back(self) -> None:
        """By tag, one or all before it."""
        self.channel.ack(3, multiple=True)
        self.channel.nack(4, requeue=False)
        ack, nack = self.peer.read()
        self.assertEqual((ack.name, ack.fields), ("basic.ack", {"delivery_tag": 3, "multiple": True}))
        fields = {"delivery_tag": 4, "multiple": False, "requeue": False}
        self.assertEqual((nack.name, nack.fields), ("basic.nack", fields))

    def test_tags_die_with_their_channel(self) -> None:
        """Nothing is sent for them any more."""
        self.peer.send(1, "channel.close", reply_code=406)
        self.peer.read()
        self.channel.ack(1)
        self.channel.nack(1)
        self.assertEqual(self.peer.link.writes, [])


class ConsumingTogetherTests(ChannelTestCase):
    """
    Consumers whose messages are prepared first.

    :ivar log: what happened, in order.
    """

    def setUp(self) -> None:
        super().setUp()
        self.log: list[object] = []
        self.tag: str = self.consume()

    def consume(self, queue: str = "q") -> str:
        """Another consumer."""
        started = self.channel.consume_together(
            queue, self.prepare, self.hand_over, on_cancelled=lambda tag: self.log.append("cancelled")
        )
        tag: str = self.answered(self.peer, started)
        return tag

    def prepare(self, delivery: Delivery) -> bytes:
        """Numbers are too hard."""
        self.log.append(("prepare", delivery.body))
        if delivery.body.isdigit():
            raise ZeroDivisionError
        return delivery.body + b"!"

    def hand_over(self, delivery: Delivery, prepared: bytes) -> None:
        """A message that was prepared."""
        self.log.append(prepared)
        self.channel.ack(delivery.delivery_tag)
        if delivery.body == b"bad":
            raise ZeroDivisionError
        if delivery.body == b"last":
            self.peer.client.fail(CallerError("enough"))

    def read(self, *bodies: bytes) -> bytes:
        """Messages as the broker sends them."""
        return b"".join(self.deliver(body, self.tag) for body in bodies)

    def test_one_read_is_prepared_as_a_whole(self) -> None:
        """Before the first is handed over; the next read is another."""
        self.peer.feed(self.read(b"a", b"b"))
        self.peer.feed(self.read(b"c"))
        expected = [("prepare", b"a"), ("prepare", b"b"), b"a!", b"b!", ("prepare", b"c"), b"c!"]
        self.assertEqual(self.log, expected)

    def test_confirms_may_come_between(self) -> None:
        """They are about what was published."""
        self.channel.on_confirm = lambda *confirm: self.log.append(confirm)
        ack = packed(1, "basic.ack", delivery_tag=1)
        self.peer.feed(self.read(b"a") + ack + self.read(b"b"))
        expected = [(1, False, True), ("prepare", b"a"), ("prepare", b"b"), b"a!", b"b!"]
        self.assertEqual(self.log, expected)

    def test_all_else_comes_in_its_order(self) -> None:
        """Returns, refused confirms, the end of the consumer, other consumers' messages."""
        self.channel.on_confirm = lambda *confirm: self.log.append(confirm)
        self.channel.on_return = lambda returned: self.log.append(returned.body)
        other = self.answered(
            self.peer, self.channel.consume("r", lambda delivery: self.log.append(delivery.body))
        )
        for data, what in (
            (packed(1, "basic.nack", delivery_tag=1), (1, False, False)),
            (packed_content(1, "basic.return", b"returned"), b"returned"),
            (self.deliver(b"other", other), b"other"),
            (packed(1, "basic.cancel", consumer_tag=self.tag, nowait=True), "cancelled"),
        ):
            self.log.clear()
            self.peer.feed(self.read(b"a") + data)
            self.assertEqual(self.log, [("prepare", b"a"), b"a!", what])

    def test_what_came_before_the_end_is_handed_over(self) -> None:
        """Of the channel, of the connection, or of both by a broker that breaks the rules."""
        for number, data in enumerate(
            (
                packed(1, "channel.close", reply_code=406),
                packed(0, "connection.close", reply_code=320),
                packed(9, "basic.ack", delivery_tag=1),
            )
        ):
            if number:
                self.setUp()
            self.channel.on_closed = lambda reason: self.log.append("closed")
            self.peer.read()
            self.peer.feed(self.read(b"a") + data)
            self.assertEqual(self.log, [("prepare", b"a"), b"a!", "closed"])
            # What it writes goes before what answers the end.
            self.assertEqual(self.peer.names()[0], "basic.ack")
        self.flushLoggedErrors()

    def test_what_came_before_our_own_end_is_handed_over(self) -> None:
        """Another consumer ends the connection in the middle of the read."""
        other = self.open_channel(self.peer, 2)
        tag = self.answered(
            self.peer, other.consume("r", lambda delivery: self.peer.client.fail(CallerError("enough")))
        )
        self.peer.feed(self.read(b"a") + self.deliver(b"other", tag, channel=2) + self.read(b"b"))
        self.assertEqual(self.log, [("prepare", b"a"), b"a!"])

    def test_txamqps_frames_are_reads_of_their_own(self) -> None:
        """As its test transport pumps them."""
        number = methods.BASIC_DELIVER
        method = spec_methods()[number]
        arguments = (self.tag, 1, False, "", "k")
        for payload in (
            Method(method, *arguments),
            Header(method.klass, 0, 1),
            Body(b"a"),
        ):
            self.peer.client.frame_received(Frame(1, payload))
        self.assertEqual(self.log, [("prepare", b"a"), b"a!"])

    def test_once_the_channel_has_ended_nothing_is(self) -> None:
        """Its tags are dead: the broker gives the rest to somebody else."""
        last = [("prepare", b"last"), ("prepare", b"b"), b"last!"]
        self.peer.feed(self.read(b"last", b"b"))
        self.assertEqual(self.log, last)
        for data in (
            packed(1, "basic.cancel-ok", consumer_tag="unasked"),
            packed(1, "channel.close", reply_code=406),
            packed(1, "basic.nack", delivery_tag=1),
            packed_content(1, "basic.return", b"returned"),
            packed(0, "connection.close", reply_code=320),
            packed(9, "basic.ack", delivery_tag=1),
        ):
            self.setUp()
            self.channel.on_confirm = lambda *confirm: self.log.append(confirm)
            self.channel.on_return = self.log.append
            self.peer.read()
            with capturedLogs() as events:
                self.peer.feed(self.read(b"last", b"b") + data)
            self.assertEqual((self.log, self.peer.names(), events), (last, ["basic.ack"], []))

    def test_mistakes_stay_their_own(self) -> None:
        """In both steps."""
        self.peer.feed(self.read(b"1", b"bad", b"c"))
        self.assertEqual(self.log[3:], [b"bad!", b"c!"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)


class ConsumerQueueTests(ChannelTestCase):
    """Consumers txamqp's way."""

    def consume(self, tag: str = "tag", **more: Any) -> Any:
        self.answered(self.peer, self.channel.basic_consume(queue="q", consumer_tag=tag, **more))
        return self.successResultOf(self.peer.client.queue(tag))

    def test_messages_wait_until_they_are_fetched(self) -> None:
        """In their order."""
        queue = self.consume()
        self.peer.feed(self.deliver(b"one") + self.deliver(b"two"))
        bodies = [self.successResultOf(queue.get()).content.body for _ in range(2)]
        self.assertEqual(bodies, [b"one", b"two"])

    def test_who_fetches_may_wait(self) -> None:
        """For a limited time."""
        queue = self.consume()
        waiting, late = queue.get(timeout=5), queue.get(timeout=5)
        self.peer.feed(self.deliver(b"one"))
        self.clock.advance(5)
        self.assertEqual(self.successResultOf(waiting).content.body, b"one")
        self.failureResultOf(late, Empty)

    def test_what_came_before_a_cancel_can_be_fetched_after_it(self) -> None:
        """It was delivered."""
        queue = self.consume()
        self.peer.feed(self.deliver(b"one"))
        self.answered(self.peer, self.channel.basic_cancel(consumer_tag="tag"))
        self.assertEqual(self.successResultOf(queue.get()).content.body, b"one")

    def test_a_consumer_that_the_broker_ends_has_no_more(self) -> None:
        """Who waits hears of it, whether or not a message ever came."""
        waiting = self.consume().get()
        self.peer.send(1, "basic.cancel", consumer_tag="tag", nowait=True)
        self.failureResultOf(waiting, QueueClosed)

    def test_a_consumer_without_an_answer_ends_with_its_channel(self) -> None:
        """It was sent with ``nowait``."""
        waiting = self.consume(nowait=True).get()
        self.peer.send(1, "channel.close", reply_code=404)
        self.failureResultOf(waiting, QueueClosed)

    def test_a_consumer_whose_tag_the_broker_made_ends_with_its_channel(self) -> None:
        """As any other."""
        consuming = self.channel.basic_consume(queue="q")
        tag = self.answered(self.peer, consuming).consumer_tag
        waiting = self.successResultOf(self.peer.client.queue(tag)).get()
        self.assertFalse(self.channel.has_queue(""))
        self.peer.send(1, "channel.close", reply_code=404)
        self.failureResultOf(waiting, QueueClosed)

    def test_a_queue_of_a_closed_channel_is_closed(self) -> None:
        """Also where it is asked for later."""
        self.peer.send(1, "channel.close", reply_code=404)
        self.failureResultOf(self.channel.consumer_queue("tag").get(), QueueClosed)


class EndTests(ChannelTestCase):
    """However the channel ends."""

    def setUp(self) -> None:
        super().setUp()
        self.reasons: list[object] = []
        self.channel.on_closed = self.reasons.append

    def test_the_brokers_close_is_answered(self) -> None:
        """And what waits fails with its reason."""
        declared = self.channel.queue_declare(queue="q")
        self.peer.read()
        self.peer.send(1, "channel.close", reply_code=404, reply_text="NOT_FOUND")
        error = self.failureResultOf(declared, ChannelClosed).value
        self.assertEqual(error.args[0].reply_text, "NOT_FOUND")
        self.assertEqual(self.peer.names(), ["channel.close-ok"])
        self.assertEqual(self.reasons, [error.args[0]])

    def test_our_close_is_over_with_the_answer(self) -> None:
        """Its number is free then."""
        closed = self.channel.channel_close(reply_code=200)
        self.assertFalse(self.channel.closed)
        self.answered(self.peer, closed)
        self.assertTrue(self.channel.closed)
        self.assertEqual(len(self.reasons), 1)
        self.assertIsNot(self.successResultOf(self.peer.client.channel(1)), self.channel)

    def test_what_waits_behind_our_close_fails(self) -> None:
        """The broker never sees it."""
        self.channel.channel_close().addErrback(lambda _: None)
        declared = self.channel.queue_declare(queue="q")
        self.refused(self.peer, declared, ChannelClosed)

    def test_our_close_may_cross_the_brokers(self) -> None:
        """The broker answers ours all the same: the number is not free before."""
        self.channel.channel_close().addErrback(lambda _: None)
        self.peer.read()
        self.peer.send(1, "channel.close", reply_code=406)
        self.assertEqual(self.peer.names(), ["channel.close-ok"])
        other = Deferred.fromCoroutine(self.peer.client.open_channel())
        self.peer.send(1, "channel.close-ok")
        self.assertEqual(self.answered(self.peer, other).id, 2)
        again = Deferred.fromCoroutine(self.peer.client.open_channel())
        self.assertEqual(self.answered(self.peer, again).id, 1)

    def test_a_channel_that_waits_for_that_answer_ends_once(self) -> None:
        """Though the connection is lost before it comes."""
        self.channel.channel_close().addErrback(lambda _: None)
        self.peer.send(1, "channel.close", reply_code=406)
        self.peer.lose()
        self.assertEqual(len(self.reasons), 1)

    def test_the_loss_of_the_connection_ends_it(self) -> None:
        """Once."""
        self.peer.lose()
        self.assertTrue(self.channel.closed)
        self.assertEqual(len(self.reasons), 1)
        self.failureResultOf(self.channel.queue_declare(queue="q"), Closed)

    def test_its_end_is_told_before_its_requests_fail(self) -> None:
        """Who fails then may look for another channel: nobody must think that this one is open."""
        heard: list[int] = []
        declared = self.channel.queue_declare(queue="q")
        declared.addErrback(lambda _: heard.append(len(self.reasons)))
        self.peer.send(1, "channel.close", reply_code=404)
        self.assertEqual(heard, [1])

    def test_a_subclass_hears_of_a_channel_that_failed(self) -> None:
        """As txamqp has it: of the broker's close, not of one's own."""
        failed: list[int] = []
        client = self.peer.client
        client.channel_failed = lambda channel, reason: failed.append(channel.id)
        other = self.open_channel(self.peer, 2)
        self.peer.send(1, "channel.close", reply_code=404)
        self.answered(self.peer, other.channel_close())
        self.assertEqual(failed, [1])


class OrderTests(ChannelTestCase):
    """What may come behind what."""

    def test_more_than_was_announced_ends_the_connection(self) -> None:
        """The body of a message has one size."""
        method, header, _ = _frames(self.deliver(b"x"))
        body = _frames(self.deliver(b"xy"))[2]
        self.assertEqual(self.code_at_the_end(method + header + body), 501)

    def test_a_method_where_content_is_due_ends_the_connection(self) -> None:
        """Also an answer."""
        method = packed(1, "basic.deliver", consumer_tag="tag")
        self.assertEqual(self.code_at_the_end(method + packed(1, "queue.declare-ok")), 505)

    def test_a_message_where_content_is_due_ends_the_connection(self) -> None:
        """All of it in one read."""
        method = packed(1, "basic.deliver", consumer_tag="tag")
        self.assertEqual(self.code_at_the_end(method + self.deliver(b"x")), 505)


def _frames(data: bytes) -> list[bytes]:
    found = []
    while data:
        size = int.from_bytes(data[3:7], "big") + 8
        found.append(data[:size])
        data = data[size:]
    return found
