"""
What txamqp's own tests promise of its classes holds for ours.

On its own test transport, :class:`txamqp.testing.AMQPump`, which hands frames
over as objects: a program whose tests use it can go on doing so.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from txamqp.client import AlreadyFiredError, ChannelClosed, Closed, ConnectionClosed
from txamqp.connection import Frame, Heartbeat
from txamqp.content import Content
from txamqp.queue import Closed as QueueClosed
from txamqp.queue import Empty
from txamqp.spec import load as load_by_path
from txamqp.testing import AMQPump

from crew_tx.amqp import AMQChannel, AMQClient, AMQFactory, TwistedDelegate, frames
from crew_tx.amqp.spec import SPEC_PATH, load

HEARTBEAT = 5


class PumpTestCase(SynchronousTestCase):
    """Tests with a client on a pump."""

    spec = load()

    def setUp(self) -> None:
        self.clock = Clock()
        self.client = AMQClient(TwistedDelegate(), "/", self.spec, heartbeat=HEARTBEAT, clock=self.clock)
        self.pump = AMQPump()
        self.pump.connect(self.client)
        self.addCleanup(self._check_nothing_is_left)

    def _check_nothing_is_left(self) -> None:
        self.pump.loseConnection()
        self.assertEqual(self.clock.getDelayedCalls(), [], "a delayed call is left")

    def channel(self, number: int = 1) -> Any:
        return self.successResultOf(self.client.channel(number))

    def server(self, number: int = 1) -> Any:
        """The broker's side of a channel."""
        return self.pump.channel(number)

    def sent(self, number: int = 1) -> list[str]:
        """The names of the methods that were sent on a channel."""
        frames = self.pump.outgoing.pop(number, [])
        return [frame.payload.method.name for frame in frames]


class ClosingTests(PumpTestCase):
    """The end of a connection, from either side."""

    def test_the_brokers_close_is_answered_and_obeyed(self) -> None:
        """The client, its channels and their pending methods are over."""
        pending = self.channel().basic_consume(queue="q")
        self.server(0).connection_close(reply_code=320)
        self.assertEqual(self.sent(0), ["close-ok"])
        self.assertTrue(self.client.closed)
        self.assertTrue(self.channel(0).closed)
        self.assertIsInstance(self.failureResultOf(pending).value, ConnectionClosed)

    def test_a_close_is_at_once(self) -> None:
        """Unless it is given time."""
        self.assertIsNone(self.successResultOf(self.client.close()))
        self.assertTrue(self.client.closed)
        self.assertEqual(self.pump.outgoing, {})

    def test_a_close_that_is_given_time_waits_for_the_answer(self) -> None:
        """No delayed call is left of it."""
        closed = self.client.close(within=1)
        self.assertEqual(self.sent(0), ["close"])
        self.assertFalse(self.client.closed)
        self.server(0).connection_close_ok()
        self.assertIsNone(self.successResultOf(closed))
        self.assertTrue(self.client.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_close_that_is_given_time_waits_no_longer(self) -> None:
        """It succeeds all the same."""
        closed = self.client.close(within=1)
        self.clock.advance(1)
        self.assertIsNone(self.successResultOf(closed))
        self.assertTrue(self.client.closed)

    def test_a_close_ends_channels_and_queues(self) -> None:
        """Methods fail with txamqp's errors, queues with theirs."""
        waiting = self.successResultOf(self.client.queue("tag")).get()
        channel = self.channel()
        self.client.close()
        self.failureResultOf(channel.basic_consume(queue="q"), Closed)
        self.failureResultOf(waiting, QueueClosed)

    def test_the_transports_end_is_the_reason(self) -> None:
        """Inside txamqp's error."""
        pending = self.channel().basic_consume(queue="q")
        self.pump.abortConnection()
        error = self.failureResultOf(pending, Closed).value
        self.assertIsInstance(error.args[0].value, ConnectionLost)
        self.assertTrue(self.client.closed)

    def test_the_end_is_an_event(self) -> None:
        """Fired once."""
        ended = self.client.disconnected.wait()
        self.client.close()
        self.assertTrue(self.successResultOf(ended))
        self.assertRaises(AlreadyFiredError, self.client.disconnected.fire)

    def test_a_silent_broker_is_aborted(self) -> None:
        """After as many intervals as the class says."""
        self.client.started.fire()
        pending = self.channel().basic_consume(queue="q")
        self.clock.advance(HEARTBEAT * self.client.MAX_UNSEEN_HEARTBEAT)
        self.assertTrue(self.pump.aborted)
        self.failureResultOf(pending, Closed)

    def test_a_frame_of_any_kind_is_a_sign_of_life(self) -> None:
        """On the pump, too."""
        for _ in range(10):
            self.clock.advance(HEARTBEAT)
            self.server(1).channel_flow(active=True)
        self.assertFalse(self.pump.aborted)


class LoggingInTests(PumpTestCase):
    """The handshake, with fields that the pump left out."""

    def test_the_handshake_goes_through(self) -> None:
        """What isn't said is no limit."""
        logged_in = self.client.authenticate("guest", "guest")
        self.server(0).connection_start()
        self.server(0).connection_tune()
        self.server(0).connection_open_ok()
        self.assertEqual(self.successResultOf(logged_in).method.name, "open-ok")
        self.assertEqual(self.client.server_properties, {})
        tune_ok = self.pump.outgoing[0][1].payload.args
        self.assertEqual(tune_ok, (self.client.channel_max, self.client.frame_max, HEARTBEAT))
        self.assertEqual((self.client.MAX_LENGTH, self.client.heartbeatInterval), (131_072, HEARTBEAT))


class ChannelTests(PumpTestCase):
    """One channel."""

    def test_the_brokers_close_ends_the_channel(self) -> None:
        """Its pending methods fail with its own error, the connection goes on."""
        pending = self.channel().basic_consume(queue="q")
        self.server().channel_close(reply_code=404)
        self.assertEqual(self.failureResultOf(pending, ChannelClosed).value.args[0].reply_code, 404)
        self.assertEqual(self.sent(), ["consume", "close-ok"])
        self.assertFalse(self.client.closed)

    def test_a_closed_channel_sends_nothing(self) -> None:
        """What ended it is the error."""
        channel = self.channel()
        self.server(0).connection_close(reply_code=320)
        self.pump.outgoing.clear()
        self.failureResultOf(channel.basic_consume(queue="q"), ConnectionClosed)
        self.assertEqual(self.pump.outgoing, {})

    def test_a_message_comes_into_its_consumers_queue(self) -> None:
        """As it was pumped."""
        consuming = self.channel().basic_consume(queue="q")
        self.server().basic_consume_ok(consumer_tag="tag")
        tag = self.successResultOf(consuming).consumer_tag
        waiting = self.successResultOf(self.client.queue(tag)).get(timeout=1)
        for body in (b"bytes", "text"):
            self.server().deliver(body, consumer_tag="tag", delivery_tag=3)
            message = self.successResultOf(waiting)
            self.assertEqual((message.content.body, message.delivery_tag), (body, 3))
            waiting = self.successResultOf(self.client.queue(tag)).get(timeout=1)
        self.clock.advance(1)
        self.failureResultOf(waiting, Empty)

    def test_properties_come_as_they_were_pumped(self) -> None:
        """Named in either way."""
        waiting = self.channel().consumer_queue("tag").get()
        self.pump.pumpMethod(1, "basic", "deliver", consumer_tag="tag")
        self.pump.pumpHeader(1, "basic", 0, 2, **{"content-type": "text/plain", "delivery_mode": 2})
        self.pump.pumpBody(1, b"xy")
        content = self.successResultOf(waiting).content
        self.assertEqual(content.properties, {"content-type": "text/plain", "delivery-mode": 2})
        self.assertEqual(content["content-type"], "text/plain")

    def test_a_published_message_is_seen_frame_by_frame(self) -> None:
        """Method, header and body."""
        content = Content("body", properties={"delivery-mode": 2})
        self.channel().basic_publish(routing_key="k", content=content)
        method, header, body = (frame.payload for frame in self.pump.outgoing[1])
        self.assertEqual((method.method.name, method.args[2]), ("publish", "k"))
        self.assertEqual((header.size, header.properties), (4, {"delivery-mode": 2}))
        self.assertEqual(body.content, "body")

    def test_a_published_message_may_be_long_or_empty(self) -> None:
        """It has as many frames as it needs."""
        for size, count in ((0, 2), (1, 3), (200_000, 4)):
            self.channel().basic_publish(content=Content(b"x" * size))
            self.assertEqual(len(self.pump.outgoing.pop(1)), count)

    def test_arguments_may_be_given_by_place(self) -> None:
        """In the order of txamqp's specification, ticket first."""
        self.channel().exchange_declare(0, "name", "direct", False, True, False, False, True, {"k": 1})
        [frame] = self.pump.outgoing[1]
        expected = (0, "name", "direct", False, True, False, False, True, {"k": 1})
        self.assertEqual(frame.payload.args, expected)

    def test_a_frame_that_comes_unasked_ends_the_connection(self) -> None:
        """As it does from the wire."""
        self.channel()
        self.pump.pumpBody(1, b"x")
        self.assertTrue(self.client.closed)
        self.assertEqual(self.sent(0), ["close"])

    def test_a_returned_message_comes_into_the_clients_queue(self) -> None:
        """With its content."""
        self.channel()
        waiting = self.client.basic_return_queue.get()
        self.pump.pumpMethod(1, "basic", "return", reply_code=312)
        self.pump.pumpHeader(1, "basic", 0, 1)
        self.pump.pumpBody(1, b"x")
        message = self.successResultOf(waiting)
        self.assertEqual((message.reply_code, message.content.body), (312, b"x"))


class OtherSpecificationTests(ChannelTests):
    """The same with a specification that the program loaded itself."""

    spec = load_by_path(SPEC_PATH)


class FactoryTests(SynchronousTestCase):
    """What the factory builds."""

    def test_a_client_has_defaults(self) -> None:
        """Virtual host, specification, no heartbeat."""
        client = AMQFactory(clock=Clock()).buildProtocol(None)
        self.assertIsInstance(client, AMQClient)
        self.assertEqual((client.vhost, client.spec.file, client.heartbeatInterval), ("/", SPEC_PATH, 0))

    def test_a_client_has_what_the_factory_was_told(self) -> None:
        """An interval runs from the start."""
        clock = Clock()
        factory = AMQFactory(clock=clock)
        factory.set_vhost("v")
        factory.set_heartbeat(1)
        client = factory.buildProtocol(None)
        self.assertEqual((client.vhost, client.heartbeatInterval), ("v", 1))
        self.assertEqual(len(clock.getDelayedCalls()), 1)

    def test_each_client_has_a_delegate_of_its_own(self) -> None:
        """It holds the client."""
        factory = AMQFactory(clock=Clock())
        one, other = factory.buildProtocol(None), factory.buildProtocol(None)
        self.assertIsNot(one.delegate, other.delegate)
        self.assertIs(one.delegate.client, one)


class DelegateTests(PumpTestCase):
    """A delegate of a program's own."""

    def test_a_subclass_may_handle_a_method_itself(self) -> None:
        """And leave the others to us."""
        seen: list[Any] = []

        class Delegate(TwistedDelegate):
            def connection_start(self, ch: Any, msg: Any) -> None:
                seen.append(msg.server_properties)
                super().connection_start(ch, msg)

        client = AMQClient(Delegate(), "/", self.spec, clock=self.clock)
        pump = AMQPump()
        pump.connect(client)
        client.authenticate("guest", "guest").addErrback(lambda _: None)
        pump.channel(0).connection_start(server_properties={"product": "x"})
        self.assertEqual(seen, [{"product": "x"}])
        self.assertEqual(pump.outgoing[0][0].payload.method.name, "start-ok")

    def test_a_subclass_hears_of_every_sign_of_life(self) -> None:
        """By the method that txamqp calls for each frame that it reads."""
        heard: list[bool] = []

        class Client(AMQClient):
            def reschedule_check_heartbeat(self) -> None:
                super().reschedule_check_heartbeat()
                heard.append(True)

        client = Client(TwistedDelegate(), "/", self.spec, heartbeat=HEARTBEAT, clock=self.clock)
        pump = AMQPump()
        pump.connect(client)
        pump.channel(0).connection_blocked(reason="low on memory")
        self.assertEqual(heard, [True])
        client.dataReceived(frames.pack_heartbeat())
        self.assertEqual(heard, [True, True])
        pump.loseConnection()

    def test_a_frame_may_be_sent_by_itself(self) -> None:
        """As txamqp's own classes make them."""
        self.client.send_frame(Frame(0, Heartbeat()))
        self.assertIsInstance(self.pump.outgoing[0][0].payload, Heartbeat)

    def test_a_subclass_may_have_channels_of_its_own(self) -> None:
        """By ``channelClass``."""

        class Channel(AMQChannel):
            """With nothing of its own."""

        class Client(AMQClient):
            channelClass = Channel

        client = Client(TwistedDelegate(), "/", self.spec, clock=self.clock)
        self.assertIsInstance(self.successResultOf(client.channel(1)), Channel)
