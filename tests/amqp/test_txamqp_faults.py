"""
What is broken in txamqp 0.8.2 works here.

Each test holds for our classes, and is shown to fail with txamqp's own, on the
same bytes: see the last class.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from unittest import TestResult

import txamqp.client
import txamqp.endpoint
import txamqp.factory
import txamqp.protocol
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from txamqp.client import ChannelClosed, Closed
from txamqp.content import Content
from txamqp.queue import Closed as QueueClosed
from txamqp.spec import load_string

from crew_tx.amqp import AMQClient, AMQEndpoint, AMQFactory, TwistedDelegate
from crew_tx.amqp.spec import SPEC_PATH, load
from tests.amqp import captured
from tests.amqp.peer import Link, Peer, PeerTestCase, Sent, packed, packed_content
from tests.warned import pass_over


class Library(NamedTuple):
    """One of the two that are compared."""

    client: Callable[..., Any]
    delegate: Callable[[], Any]
    factory: Callable[..., Any]
    endpoint: Any


OURS = Library(AMQClient, TwistedDelegate, AMQFactory, AMQEndpoint)
PLAIN = Library(
    txamqp.protocol.AMQClient,
    txamqp.client.TwistedDelegate,
    txamqp.factory.AMQFactory,
    txamqp.endpoint.AMQEndpoint,
)

#: As the protocol's own specification spells it.
NO_WAIT_SPEC = load_string(
    Path(SPEC_PATH).read_bytes().replace(b'name="nowait"', b'name="no-wait"'), "no-wait.xml"
)

#: Every type of value that RabbitMQ has in a table: octets, and what they say.
TABLE_VALUES: list[tuple[bytes, object]] = [
    (b"t\x01", True),
    (b"b\xff", -1),
    (b"B\xff", 255),
    (b"s\xff\xfe", -2),
    (b"u\xff\xfe", 65_534),
    (b"I\xff\xff\xff\xfd", -3),
    (b"i\xff\xff\xff\xfd", 4_294_967_293),
    (b"l" + b"\xff" * 8, -1),
    (b"L\x00\x00\x00\x00\x00\x00\x00\x05", 5),
    (b"f\x3f\x00\x00\x00", 0.5),
    (b"d\x3f\xe0\x00\x00\x00\x00\x00\x00", 0.5),
    (b"D\x02\x00\x00\x00\x7b", Decimal("1.23")),
    (b"S\x00\x00\x00\x02\xc3\xa9", "é"),
    (b"A\x00\x00\x00\x04t\x00t\x01", [False, True]),
    (b"T\x00\x00\x00\x00\x00\x00\x00\x00", datetime(1970, 1, 1, tzinfo=UTC)),
    (b"F\x00\x00\x00\x04\x01kt\x01", {"k": True}),
    (b"V", None),
    (b"x\x00\x00\x00\x01\xff", b"\xff"),
]

#: What can be put into a table, and comes back as it was.
WRITABLE_VALUES = [True, None, -1, 2**31, -(2**63), 0.5, b"\xff", {"k": "v"}, ["a", 1], "é"]


class LibraryTestCase(PeerTestCase):
    """Tests of one library; ours, if nothing else is said."""

    library = OURS

    def new_client(self, heartbeat: int = 0, spec: Any = None) -> Any:
        """A client of the library that isn't connected."""
        return self.library.client(
            self.library.delegate(), "/", spec or load(), heartbeat=heartbeat, clock=self.clock
        )

    def ready(self, **tune: int) -> tuple[Peer, Any]:
        """A peer whose client is logged in and has channel 1 open."""
        peer = self.log_in(**tune)
        return peer, self.open_channel(peer)

    def consuming(self, tag: str = "tag") -> tuple[Peer, Any, Any]:
        """The same with a consumer, and its queue."""
        peer, channel = self.ready()
        self.answered(peer, channel.basic_consume(queue="q", consumer_tag=tag))
        peer.read()
        return peer, channel, self.successResultOf(peer.client.queue(tag))

    def deliver(self, peer: Peer, body: bytes, channel: int = 1, **more: Any) -> None:
        """Deliver a message to the consumer."""
        peer.send_content(channel, "basic.deliver", body, consumer_tag="tag", **more)

    def published(self, peer: Peer) -> Sent:
        """The one message that was published."""
        return peer.one("basic.publish")


class FaultTests(LibraryTestCase):
    """A test or more for each numbered fault."""

    # -- 1 ---------------------------------------------------------------------------

    def test_01_an_argument_that_cannot_be_encoded_is_an_error_to_the_caller(self) -> None:
        """Its Deferred fails at once."""
        _, channel = self.ready()
        self.failureResultOf(channel.queue_declare(queue=object()))

    def test_01_what_follows_an_encode_error_is_sent(self) -> None:
        """The next method is written, and answered."""
        peer, channel = self.ready()
        channel.queue_declare(queue=object()).addErrback(lambda _: None)
        declared = self.answered(peer, channel.queue_declare(queue="next"))
        self.assertEqual(declared.queue, "next")

    # -- 2 ---------------------------------------------------------------------------

    def test_02_a_body_with_non_ascii_text_arrives(self) -> None:
        """As bytes, whatever they would mean."""
        peer, _, queue = self.consuming()
        self.deliver(peer, "é".encode())
        self.assertEqual(self.successResultOf(queue.get()).content.body, "é".encode())

    def test_02_a_body_is_bytes_even_where_it_is_text(self) -> None:
        """The type does not depend on what is in it."""
        peer, _, queue = self.consuming()
        self.deliver(peer, b"text")
        self.assertEqual(self.successResultOf(queue.get()).content.body, b"text")

    def test_02_a_body_with_non_ascii_text_does_not_stall_other_channels(self) -> None:
        """The broker's methods on other channels are heeded, the connection's close too."""
        peer, _, _ = self.consuming()
        other = self.open_channel(peer, 2)
        self.deliver(peer, "é".encode())
        peer.send(2, "channel.close", reply_code=404)
        self.assertTrue(other.closed)
        peer.send(0, "connection.close", reply_code=320)
        self.assertTrue(peer.client.closed)

    # -- 3 ---------------------------------------------------------------------------

    def test_03_a_body_of_text_and_other_bytes_keeps_its_first_frame(self) -> None:
        """Text first."""
        peer, _, queue = self.consuming()
        peer.feed(
            packed_content(1, "basic.deliver", b"abcd\xff\xfe\xfd\xfc", frame_max=12, consumer_tag="tag")
        )
        self.assertEqual(self.successResultOf(queue.get()).content.body, b"abcd\xff\xfe\xfd\xfc")

    def test_03_a_body_of_other_bytes_and_text_leaves_the_connection_open(self) -> None:
        """Text last."""
        peer, _, queue = self.consuming()
        peer.feed(
            packed_content(1, "basic.deliver", b"\xff\xfe\xfd\xfcabcd", frame_max=12, consumer_tag="tag")
        )
        self.assertFalse(peer.client.closed)
        self.assertEqual(self.successResultOf(queue.get()).content.body, b"\xff\xfe\xfd\xfcabcd")

    # -- 4 ---------------------------------------------------------------------------

    def test_04_a_non_ascii_name_is_sent_whole(self) -> None:
        """A short string's size counts its bytes."""
        peer, channel = self.ready()
        channel.queue_declare(queue="Schlüssel").addErrback(lambda _: None)
        self.assertEqual(peer.one("queue.declare").fields["queue"], "Schlüssel")

    def test_04_a_non_ascii_header_is_sent_whole(self) -> None:
        """Name and value."""
        peer, channel = self.ready()
        channel.basic_publish(content=Content(b"", properties={"headers": {"clé": "naïf"}}))
        self.assertEqual(self.published(peer).properties, {"headers": {"clé": "naïf"}})

    def test_04_a_non_ascii_password_is_sent_whole(self) -> None:
        """A long string's size counts its bytes."""
        peer = self.connect()
        peer.client.authenticate("jürgen", "motté", mechanism="PLAIN").addErrback(lambda _: None)
        peer.greet()
        self.assertEqual(peer.one("connection.start-ok").fields["response"], "\0jürgen\0motté")

    # -- 5 ---------------------------------------------------------------------------

    def test_05_a_body_given_as_text_is_sent_whole(self) -> None:
        """Its size is that of its UTF-8."""
        peer, channel = self.ready()
        channel.basic_publish(content=Content("é"))
        self.assertEqual(self.published(peer).body, "é".encode())

    def test_05_a_long_body_given_as_text_is_cut_into_frames_by_its_bytes(self) -> None:
        """No frame is over the limit agreed on."""
        peer, channel = self.ready(frame_max=4096)
        channel.basic_publish(content=Content("é" * 4000))
        sizes = [int.from_bytes(write[3:7], "big") + 8 for write in peer.link.writes]
        self.assertLessEqual(max(sizes), 4096)
        self.assertEqual(self.published(peer).body, ("é" * 4000).encode())

    # -- 6 ---------------------------------------------------------------------------

    def test_06_a_bad_property_leaves_nothing_of_the_message_on_the_wire(self) -> None:
        """The caller hears of it instead."""
        peer, channel = self.ready()
        published = channel.basic_publish(content=Content(b"x", properties={"priority": "high"}))
        self.failureResultOf(published)
        self.assertEqual(peer.link.take(), b"")

    def test_06_after_a_bad_property_the_next_message_goes_out(self) -> None:
        """The connection is as it was."""
        peer, channel = self.ready()
        channel.basic_publish(content=Content(b"x", properties={"priority": "high"})).addErrback(
            lambda _: None
        )
        channel.basic_publish(content=Content(b"next"))
        self.assertEqual(self.published(peer).body, b"next")

    # -- 7 ---------------------------------------------------------------------------

    def test_07_a_queue_that_is_asked_for_after_the_loss_is_closed(self) -> None:
        """Its ``get`` fails."""
        peer = self.log_in()
        peer.lose()
        queue = self.successResultOf(peer.client.queue("tag"))
        self.failureResultOf(queue.get(), QueueClosed)

    def test_07_a_channel_that_is_asked_for_after_the_loss_is_closed(self) -> None:
        """Its methods fail."""
        peer = self.log_in()
        peer.lose()
        channel = self.successResultOf(peer.client.channel(1))
        self.failureResultOf(channel.channel_open(), Closed)

    def test_07_the_queue_of_returned_messages_ends_with_the_connection(self) -> None:
        """Who waits hears of it."""
        peer = self.log_in()
        waiting = peer.client.basic_return_queue.get()
        peer.lose()
        self.failureResultOf(waiting, QueueClosed)

    # -- 8 ---------------------------------------------------------------------------

    def test_08_a_channel_that_the_broker_closes_ends_its_consumers(self) -> None:
        """Who waits for a message hears of it."""
        peer, _, queue = self.consuming()
        waiting = queue.get()
        peer.send(1, "channel.close", reply_code=406)
        self.failureResultOf(waiting, QueueClosed)

    def test_08_a_channel_that_the_broker_closes_frees_its_number(self) -> None:
        """The number can be opened again."""
        peer, channel = self.ready()
        peer.send(1, "channel.close", reply_code=404)
        again = self.successResultOf(peer.client.channel(1))
        self.assertIsNot(again, channel)
        self.answered(peer, again.channel_open())

    def test_08_a_channel_that_we_close_says_that_it_is_closed(self) -> None:
        """And takes no more methods."""
        peer, channel = self.ready()
        self.answered(peer, channel.channel_close())
        self.assertTrue(channel.closed)
        self.failureResultOf(channel.queue_declare(queue="q"), ChannelClosed)

    # -- 9 ---------------------------------------------------------------------------

    def test_09_a_method_without_an_answer_returns_at_once(self) -> None:
        """Also where the specification spells it ``no-wait``."""
        peer = self.log_in(self.new_client(spec=NO_WAIT_SPEC))
        channel = self.open_channel(peer)
        self.assertIsNone(self.successResultOf(channel.queue_declare(queue="q", no_wait=True)))

    # -- 10 --------------------------------------------------------------------------

    def test_10_consumers_of_two_channels_may_have_the_same_tag(self) -> None:
        """Each gets what is delivered on its own channel."""
        peer, first, _ = self.consuming()
        second = self.open_channel(peer, 2)
        self.answered(peer, second.basic_consume(queue="q", consumer_tag="tag"))
        self.deliver(peer, b"one", channel=1)
        self.deliver(peer, b"two", channel=2)
        for channel, body in ((second, b"two"), (first, b"one")):
            message = self.successResultOf(self._consumer_queue(channel).get())
            self.assertEqual(_as_bytes(message.content.body), body)

    def _consumer_queue(self, channel: Any) -> Any:
        if self.library is OURS:
            return channel.consumer_queue("tag")
        return self.successResultOf(channel.client.queue("tag"))

    # -- 11 --------------------------------------------------------------------------

    def test_11_a_cancelled_method_does_not_give_its_answer_to_the_next(self) -> None:
        """The answer that comes for it is dropped."""
        peer, channel = self.ready()
        cancelled = channel.queue_declare(queue="cancelled")
        following = channel.queue_declare(queue="following")
        cancelled.addErrback(lambda _: None)
        cancelled.cancel()
        self.assertEqual(self.answered(peer, following).queue, "following")

    # -- 12 --------------------------------------------------------------------------

    def test_12_no_limit_of_a_frame_does_not_lose_the_body(self) -> None:
        """A frame_max of 0 means that there is none."""
        peer, channel = self.ready(frame_max=0)
        channel.basic_publish(content=Content(b"a body"))
        self.assertEqual(self.published(peer).body, b"a body")

    # -- 13 --------------------------------------------------------------------------

    def test_13_a_dead_letter_is_delivered(self) -> None:
        """As RabbitMQ sends it, with an array, times and a 64-bit count in ``x-death``."""
        peer, _, queue = self.consuming("capture")
        peer.feed(captured.DELIVER + captured.DEAD_LETTER_HEADER + captured.DEAD_LETTER_BODY)
        headers = self.successResultOf(queue.get()).content["headers"]
        self.assertEqual(headers["x-death"][0]["count"], 1)
        self.assertEqual(headers["x-death"][0]["reason"], "expired")

    def test_13_every_type_of_table_value_is_read(self) -> None:
        """Each in the broker's properties, since those are a table as well."""
        for octets, expected in TABLE_VALUES:
            table = b"\x01k" + octets
            start = packed(0, "connection.start", version_minor=9, mechanisms="PLAIN", locales="en_US")
            empty = b"\x00\x09" + b"\x00\x00\x00\x00"
            payload = start[7:-1].replace(empty, b"\x00\x09" + len(table).to_bytes(4, "big") + table, 1)
            found = self._server_properties(start[:3] + len(payload).to_bytes(4, "big") + payload + b"\xce")
            self.assertEqual(found, {"k": expected})
            self.assertIs(type(found["k"]), type(expected))

    def _server_properties(self, start: bytes) -> dict[str, Any]:
        seen: list[Any] = []
        client = self.new_client()
        client.delegate.connection_start = lambda channel, message: seen.append(message.server_properties)
        self.connect(client).feed(start)
        [properties] = seen
        assert isinstance(properties, dict)
        return properties

    # -- 14 --------------------------------------------------------------------------

    def test_14_every_type_of_python_value_is_written(self) -> None:
        """As what it is."""
        for value in WRITABLE_VALUES:
            peer, channel = self.ready()
            channel.queue_declare(queue="q", arguments={"k": value}).addErrback(lambda _: None)
            found = peer.one("queue.declare").fields["arguments"]
            self.assertEqual(found, {"k": value})
            self.assertIs(type(found["k"]), type(value))

    def test_14_an_integer_is_read_with_its_sign(self) -> None:
        """``I`` is signed on RabbitMQ."""
        peer, _, queue = self.consuming()
        peer.send_content(1, "basic.deliver", b"", {"headers": {"k": -1}}, consumer_tag="tag")
        self.assertEqual(self.successResultOf(queue.get()).content["headers"], {"k": -1})

    # -- 15 --------------------------------------------------------------------------

    def _assert_taken(self, channel: int, name: str, **fields: Any) -> Peer:
        peer, _ = self.ready()
        peer.send(channel, name, **fields)
        peer.settle()
        self.assertFalse(peer.client.closed)
        return peer

    def test_15_a_confirm_leaves_the_connection_open(self) -> None:
        """Basic.ack from the broker."""
        self._assert_taken(1, "basic.ack", delivery_tag=1)

    def test_15_a_negative_confirm_leaves_the_connection_open(self) -> None:
        """Basic.nack from the broker."""
        self._assert_taken(1, "basic.nack", delivery_tag=1)

    def test_15_a_cancelled_consumer_leaves_the_connection_open(self) -> None:
        """Basic.cancel from the broker."""
        self._assert_taken(1, "basic.cancel", consumer_tag="tag", nowait=True)

    def test_15_an_alarm_leaves_the_connection_open(self) -> None:
        """Connection.blocked, and unblocked."""
        peer = self._assert_taken(0, "connection.blocked", reason="low on memory")
        peer.send(0, "connection.unblocked")
        self.assertFalse(peer.client.closed)

    def test_15_a_challenge_has_a_reason_in_the_end(self) -> None:
        """Connection.secure can't be answered: whoever logs in hears why."""
        peer = self.connect()
        logged_in = peer.client.authenticate("guest", "guest")
        peer.greet()
        peer.send(0, "connection.secure", challenge="more")
        self.assertIn("challenge", str(self.refused(peer, logged_in, Closed)))

    # -- 16 --------------------------------------------------------------------------

    def test_16_a_factory_needs_no_specification_file(self) -> None:
        """Ours comes with the package, RabbitMQ's extensions in it."""
        client = self.library.factory(clock=self.clock).buildProtocol(IPv4Address("TCP", "127.0.0.1", 5672))
        channel = self.successResultOf(client.channel(1))
        for name in (
            "confirm_select",
            "basic_nack",
            "exchange_bind",
            "exchange_unbind",
            "connection_update_secret",
        ):
            self.assertTrue(callable(getattr(channel, name)))
        methods = client.spec.classes.byname
        self.assertIn("blocked", methods["connection"].methods.byname)
        self.assertIn("unblocked", methods["connection"].methods.byname)
        recover = methods["basic"].methods.byname["recover"]
        self.assertEqual([answer.name for answer in recover.responses], ["recover-ok"])

    # -- 17 --------------------------------------------------------------------------

    def test_17_the_broker_is_told_what_the_client_can_do(self) -> None:
        """It sends notices and reasons only to clients that announce them."""
        peer = self.connect()
        peer.client.authenticate("guest", "guest").addErrback(lambda _: None)
        peer.greet()
        capabilities = peer.one("connection.start-ok").fields["client_properties"]["capabilities"]
        for name in (
            "consumer_cancel_notify",
            "connection.blocked",
            "publisher_confirms",
            "basic.nack",
            "authentication_failure_close",
        ):
            self.assertIs(capabilities[name], True)

    # -- 18 --------------------------------------------------------------------------

    def _tuned(self, ours: int = 0, **tune: int) -> tuple[Peer, dict[str, Any]]:
        peer = self.connect(self.new_client(ours), **tune)
        peer.client.authenticate("guest", "guest")
        peer.greet()
        peer.settle()
        return peer, peer.one("connection.tune-ok").fields

    def test_18_no_interval_of_ones_own_takes_the_brokers(self) -> None:
        """Heartbeats are on where the broker wants them."""
        self.assertEqual(self._tuned(heartbeat=60)[1]["heartbeat"], 60)

    def test_18_the_shorter_interval_holds(self) -> None:
        """Whoever proposed it."""
        self.assertEqual(self._tuned(20, heartbeat=10)[1]["heartbeat"], 10)

    def test_18_limits_beyond_ours_are_not_repeated(self) -> None:
        """A frame of a gigabyte is not agreed to."""
        _, agreed = self._tuned(frame_max=2**30, channel_max=65_535)
        self.assertEqual((agreed["frame_max"], agreed["channel_max"]), (131_072, 2047))

    def test_18_heartbeats_go_out_at_half_time(self) -> None:
        """One in each half of an interval without anything else."""
        peer, _ = self._tuned(10, heartbeat=10)
        self.clock.advance(5)
        peer.read()
        for _ in range(3):
            self.clock.advance(5)
            self.assertEqual(peer.names(), ["heartbeat"])
            peer.feed(b"\x08\x00\x00\x00\x00\x00\x00\xce")

    def test_18_a_silent_broker_is_dead_after_two_intervals(self) -> None:
        """The connection is aborted."""
        peer, _ = self._tuned(10, heartbeat=10)
        self.clock.pump([4.9] * 4 + [0.5])
        self.assertTrue(peer.link.aborted)

    # -- 19 --------------------------------------------------------------------------

    def _connected_by(self, uri: str) -> tuple[MemoryReactorClock, Any, Link]:
        reactor: Any = MemoryReactorClock()
        endpoint = self.library.endpoint.from_uri(reactor, uri)
        factory = OURS.factory(clock=self.clock)
        factory.protocol = self._protocol
        endpoint.connect(factory).addErrback(lambda _: None)
        protocol = reactor.tcpClients[0][2].buildProtocol(None)
        link = Link()
        protocol.makeConnection(link)
        self.addCleanup(protocol.connectionLost, Failure(ConnectionLost()))
        return reactor, protocol, link

    def _protocol(self, delegate: object, **more: Any) -> Any:
        client = self.library.client(self.library.delegate(), **more)
        self.clients = [*getattr(self, "clients", []), client]
        return client

    def test_19_amqps_is_never_clear_text(self) -> None:
        """The first that is written is a TLS handshake."""
        _, _, link = self._connected_by("amqps://me:pw@127.0.0.1/")
        self.assertEqual(link.take()[:2], b"\x16\x03")

    def test_19_user_password_and_virtual_host_are_percent_decoded(self) -> None:
        """As RabbitMQ's URI specification has it."""
        self._connected_by("amqp://a%40b:p%2Fw@127.0.0.1/v%2Fh?auth_mechanism=PLAIN")
        self.assertEqual(self.clients[0].response, "\0a@b\0p/w")
        self.assertEqual(self.clients[0].vhost, "v/h")

    def test_19_no_path_is_the_default_virtual_host(self) -> None:
        """A URL that ends behind the port."""
        self._connected_by("amqp://me:pw@127.0.0.1:5672")
        self.assertEqual(self.clients[0].vhost, "/")

    def test_19_an_at_sign_in_a_password_is_part_of_it(self) -> None:
        """The last one ends it."""
        self._connected_by("amqp://me:p@w@127.0.0.1/?auth_mechanism=PLAIN")
        self.assertEqual(self.clients[0].response, "\0me\0p@w")

    def test_19_external_is_a_way_to_log_in(self) -> None:
        """The TLS certificate says who it is."""
        peer = self.connect()
        peer.client.authenticate("", "", mechanism="EXTERNAL").addErrback(lambda _: None)
        peer.greet(mechanisms="PLAIN EXTERNAL")
        start_ok = peer.one("connection.start-ok").fields
        self.assertEqual((start_ok["mechanism"], start_ok["response"]), ("EXTERNAL", ""))

    # -- 20 --------------------------------------------------------------------------

    def test_20_a_frame_over_the_limit_ends_the_connection_in_order(self) -> None:
        """The broker is told why."""
        peer, _ = self.ready()
        peer.feed(b"\x03\x00\x01" + (200_000).to_bytes(4, "big") + b"x" * 200_000)
        self.assertEqual(peer.one("connection.close").fields["reply_code"], 501)

    def test_20_a_frame_over_the_limit_is_not_waited_for(self) -> None:
        """Its head is enough."""
        peer, _ = self.ready()
        peer.feed(b"\x03\x00\x01" + (2**31).to_bytes(4, "big") + b"x")
        self.assertTrue(peer.client.closed)

    # -- 21 --------------------------------------------------------------------------

    def test_21_a_frame_that_comes_unasked_ends_the_connection(self) -> None:
        """It doesn't vanish."""
        peer, _ = self.ready()
        peer.feed(b"\x03\x00\x01\x00\x00\x00\x01x\xce")
        self.assertEqual(peer.one("connection.close").fields["reply_code"], 505)

    def test_21_returned_messages_that_nobody_fetches_are_bounded(self) -> None:
        """The oldest make room."""
        peer, _ = self.ready()
        for number in range(1100):
            peer.send_content(1, "basic.return", b"%d" % number)
        self.assertLessEqual(len(peer.client.basic_return_queue.pending), 1000)
        last = peer.client.basic_return_queue.pending[-1]
        self.assertEqual(_as_bytes(last.content.body), b"1099")

    def test_21_a_close_that_the_broker_forestalls_succeeds(self) -> None:
        """No error, and no delayed call."""
        peer = self.log_in()
        closed = peer.client.close(within=5)
        peer.lose()
        self.assertIsNone(self.successResultOf(closed))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_21_a_client_can_be_closed_before_it_is_connected(self) -> None:
        """There is nothing to tell anybody."""
        client = self.new_client()
        self.assertIsNone(self.successResultOf(client.close()))
        self.assertTrue(client.closed)

    def test_21_nothing_is_handed_out_after_the_end(self) -> None:
        """A delivery's tag is dead then."""
        peer, _, queue = self.consuming()
        self.deliver(peer, b"late")
        peer.lose()
        self.failureResultOf(queue.get(), QueueClosed)

    # -- 22 --------------------------------------------------------------------------

    def test_22_properties_may_be_named_in_python(self) -> None:
        """With underscores, as well as with the specification's hyphens."""
        peer, channel = self.ready()
        properties = {"delivery_mode": 2, "content-type": "text/plain"}
        channel.basic_publish(content=Content(b"", properties=properties))
        self.assertEqual(self.published(peer).properties, {"delivery_mode": 2, "content_type": "text/plain"})

    def test_22_a_correlation_id_is_text_whatever_is_in_it(self) -> None:
        """Bytes that aren't UTF-8 make no other type of it."""
        peer, _, queue = self.consuming()
        properties = {"correlation_id": b"\xff".decode("utf-8", "surrogateescape")}
        peer.send_content(1, "basic.deliver", b"", properties, consumer_tag="tag")
        found = self.successResultOf(queue.get()).content["correlation-id"]
        self.assertIsInstance(found, str)
        self.assertEqual(found.encode("utf-8", "surrogateescape"), b"\xff")


def _as_bytes(body: str | bytes) -> bytes:
    """Plain txamqp gives text as str: here it may, where that isn't the point."""
    return body.encode() if isinstance(body, str) else body


class SoundTests(LibraryTestCase):
    """What works with either library, by the same means."""

    def test_a_method_is_answered(self) -> None:
        """Its Deferred has the answer."""
        peer, channel = self.ready()
        self.assertEqual(self.answered(peer, channel.queue_declare(queue="q")).queue, "q")

    def test_a_message_is_published(self) -> None:
        """Properties and body."""
        peer, channel = self.ready()
        channel.basic_publish(routing_key="k", content=Content("text", properties={"priority": 3}))
        published = self.published(peer)
        self.assertEqual(published.fields["routing_key"], "k")
        self.assertEqual((published.properties, published.body), ({"priority": 3}, b"text"))

    def test_a_message_is_delivered(self) -> None:
        """Into its consumer's queue."""
        peer, _, queue = self.consuming()
        self.deliver(peer, b"\xff", redelivered=True)
        message = self.successResultOf(queue.get())
        self.assertEqual((message.content.body, message.redelivered), (b"\xff", True))

    def test_the_broker_can_end_a_channel_and_the_connection(self) -> None:
        """Both are told why."""
        peer, channel = self.ready()
        declared = channel.queue_declare(queue="q")
        peer.send(1, "channel.close", reply_code=404)
        self.assertEqual(self.failureResultOf(declared, ChannelClosed).value.args[0].reply_code, 404)
        peer.send(0, "connection.close", reply_code=320)
        self.assertTrue(peer.client.closed)


def _passes_on_plain(tests: type[LibraryTestCase], name: str) -> bool:
    case = type("PlainTests", (tests,), {"library": PLAIN})(name)
    result = TestResult()
    case.run(result)
    return result.wasSuccessful()


class PlainTxamqpTests(SynchronousTestCase):
    """The same tests with txamqp's own classes."""

    def setUp(self) -> None:
        self.addCleanup(pass_over, self, "twisted.internet.defer.returnValue was deprecated")

    def test_what_works_with_plain_txamqp_passes(self) -> None:
        """So it isn't the peer that fails."""
        for name in dir(SoundTests):
            if name.startswith("test_"):
                self.assertTrue(_passes_on_plain(SoundTests, name), name)

    def test_each_fails_with_plain_txamqp(self) -> None:
        """A test that passes there would guard against nothing."""
        names = [name for name in dir(FaultTests) if name.startswith("test_")]
        passing = [name for name in names if _passes_on_plain(FaultTests, name)]
        # What went wrong in its Deferreds is logged when those are collected.
        gc.collect()
        self.flushLoggedErrors()
        self.assertEqual(passing, [])
