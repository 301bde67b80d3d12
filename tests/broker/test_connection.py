"""One connection to the embedded broker: its time limits, its bounds, and its end."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp import frames, methods
from crew_tx.broker import Broker, BrokerFactory, _model
from crew_tx.broker._connection import CLOSE_TIMEOUT, HANDSHAKE_TIMEOUT, MOST_WAITING, SHUTDOWN_TIMEOUT
from crew_tx.broker._messages import ENTRY_SIZE
from crew_tx.broker._outgoing import READ_TIMEOUT
from tests.broker.visitors import Visitor

KIB = 1024
#: A body of so many bytes is a message that takes 64 KiB: the rest is its properties, and itself.
BODY = 64 * KIB - ENTRY_SIZE - 2


class ConnectionTestCase(SynchronousTestCase):
    """A broker on a clock, and visitors."""

    memory_limit = 256 * KIB

    def setUp(self) -> None:
        self.clock = Clock()
        self.broker = Broker(memory_limit=self.memory_limit)
        self.factory = BrokerFactory(self.clock, self.broker)
        self.addCleanup(self._check_nothing_is_left)

    def visitor(self, port: int = 50_000) -> Visitor:
        """One who has not said anything yet."""
        return Visitor(self.factory, port)

    def client(self, **options: Any) -> Visitor:
        """One who has logged in, and has channel 1."""
        return self.visitor().log_in(**options)

    def queue(self, name: str = "q") -> Any:
        return self.broker.vhosts["/"].queues[name]

    def logged(self, function: Any, *arguments: object) -> list[str]:
        """What is logged while a function is called, without tracebacks."""
        with capturedLogs() as events:
            function(*arguments)
        return [event["log_format"].format(**event) for event in events if event["log_level"] is not None]

    def _check_nothing_is_left(self) -> None:
        for protocol in list(self.factory.connections):
            protocol.connectionLost()
        self.factory.stopFactory()
        self.assertEqual([], self.clock.getDelayedCalls())


class HandshakeTests(ConnectionTestCase):
    """Who takes long to log in."""

    def test_one_who_does_not_log_in_is_cut_in_time(self) -> None:
        """However far he has come."""
        for begin in (lambda each: None, lambda each: each.start("guest", "guest")):
            visitor = self.visitor()
            begin(visitor)
            self.clock.advance(HANDSHAKE_TIMEOUT - 0.1)
            self.assertFalse(visitor.transport.aborted)
            said = self.logged(self.clock.advance, 0.2)
            self.assertTrue(visitor.transport.aborted)
            self.assertEqual(["the client 127.0.0.1:50000 did not log in within 10 s"], said)
            visitor.leave()

    def test_one_who_has_logged_in_may_stay(self) -> None:
        """For as long as he likes, where no heartbeats are agreed on."""
        client = self.client()
        self.clock.advance(1_000_000)
        self.assertFalse(client.transport.aborted)
        self.assertTrue(client.transport.no_delay)

    def test_one_who_is_refused_is_told_in_the_log_too(self) -> None:
        """Once, and without the password; whether he can be told himself or not."""
        for capabilities in ({"authentication_failure_close": True}, {}):
            visitor = self.visitor()
            said = self.logged(lambda each=visitor, can=capabilities: each.start("guest", "secret", can))
            self.assertEqual(1, len(said))
            self.assertIn("127.0.0.1:50000 was refused: ACCESS_REFUSED - Login was refused", said[0])
            self.assertNotIn("secret", said[0])
            visitor.leave()

    def test_no_control_characters_get_into_the_log(self) -> None:
        """A name may have some."""
        visitor = self.visitor()
        visitor.start("guest", "guest")
        visitor.send(0, methods.CONNECTION_TUNE_OK, 2047, 131_072, 0)
        [said] = self.logged(lambda: visitor.send(0, methods.CONNECTION_OPEN, "a\n\x1b", "", False))
        self.assertIn("vhost a\\n\\x1b not found", said)


class HeartbeatTests(ConnectionTestCase):
    """Silence, either way."""

    def test_the_silence_of_the_broker_is_filled(self) -> None:
        """At half the interval that was agreed on."""
        client = self.client(heartbeat=10)
        self.clock.advance(5)
        client.feed(frames.pack_heartbeat())
        self.clock.advance(5)
        self.assertEqual(["heartbeat"], client.names())

    def test_a_client_that_is_silent_for_two_intervals_is_cut(self) -> None:
        """Whatever it says counts as life."""
        client = self.client(heartbeat=10)
        self.clock.pump([5, 5, 5])
        client.declare("q")
        self.clock.pump([5, 5, 5])
        self.assertFalse(client.transport.aborted)
        said = self.logged(self.clock.pump, [5, 0.1])
        self.assertTrue(client.transport.aborted)
        self.assertEqual(["the client 127.0.0.1:50000 was silent for too long"], said)

    def test_a_client_that_is_not_read_is_not_silent(self) -> None:
        """Under an alarm; and when that is over it has two intervals again."""
        client = self.client(heartbeat=10)
        client.declare("q")
        self.broker.raise_alarm("disk")
        client.publish("q", b"")
        client.names()
        self.clock.pump([5] * 20)
        self.assertFalse(client.transport.aborted)
        self.assertIn("heartbeat", client.names())
        self.broker.clear_alarm("disk")
        self.clock.pump([5, 5, 5])
        self.assertFalse(client.transport.aborted)
        self.clock.advance(5)
        self.assertTrue(client.transport.aborted)


class AlarmTests(ConnectionTestCase):
    """More messages than there is memory for."""

    def published_until_it_waits(self, publisher: Visitor, most: int = 5000) -> int:
        """Publish 64 KiB again and again; how often, until the publisher is not read any more."""
        publisher.declare("q")
        publisher.names()
        for count in range(1, most):
            publisher.publish("q", bytes(BODY))
            if not publisher.transport.is_read:
                return count
        raise AssertionError("it is read for ever")

    def test_a_publisher_waits_until_enough_is_taken(self) -> None:
        """It is not read, since it can't be told; what it had sent is in the queue."""
        publisher, consumer = self.client(capabilities={}), self.client()
        with capturedLogs() as events:
            held = self.published_until_it_waits(publisher)
        self.assertEqual(([LogLevel.warn], []), ([event["log_level"] for event in events], publisher.names()))
        self.assertEqual((6, 6), (held, len(self.queue())))
        consumer.consume("q", no_ack=False)
        self.assertFalse(publisher.transport.is_read)
        for tag in range(1, held + 1):
            consumer.ack(tag)
        self.assertTrue(publisher.transport.is_read)

    def test_one_that_can_be_told_is_told_and_read_as_long_as_there_is_a_reserve(self) -> None:
        """What it acknowledges makes room. One that does not listen spends the reserve, and no more."""
        publisher, consumer = self.client(), self.client()
        reserve = 4
        self.patch(_model, "RESERVE", reserve * 64 * KIB)
        held = self.published_until_it_waits(publisher)
        self.assertEqual([("connection.blocked", ("low on memory",))], publisher.methods())
        self.assertEqual(4 + reserve + 1, held)
        consumer.consume("q", no_ack=False)
        consumer.ack(held, multiple=True)
        self.assertTrue(publisher.transport.is_read)
        self.assertEqual(["connection.unblocked"], publisher.names())

    def test_one_that_answers_is_not_held_up(self) -> None:
        """As long as it has published no more than it was delivered: its answers come before its acks."""
        publisher, worker = self.client(), self.client()
        worker.declare("answers")
        publisher.declare("q")
        for _ in range(5):
            publisher.publish("q", bytes(BODY))
        worker.consume("q", no_ack=False)
        worker.names()
        for _ in range(5):
            worker.publish("answers", b"")
            self.assertEqual([], worker.names())
        worker.publish("answers", b"")
        self.assertEqual(["connection.blocked"], worker.names())

    def test_one_that_has_to_acknowledge_is_read_past_the_reserve(self) -> None:
        """Its acks come behind its answers: and when it has none to give, it waits for the next delivery."""
        self.patch(_model, "RESERVE", 0)
        publisher, worker = self.client(), self.client()
        worker.declare("answers")
        publisher.declare("q")
        worker.send(1, methods.BASIC_QOS, 0, 2, False)
        worker.consume("q", no_ack=False)
        worker.names()
        for _ in range(6):
            publisher.publish("q", bytes(BODY))
        self.assertFalse(publisher.transport.is_read)
        for tag in range(1, 7):
            worker.publish("answers", b"")
            self.assertTrue(worker.transport.is_read)
            worker.ack(tag)
        self.assertNotIn("connection.blocked", worker.names())
        self.assertIsNone(self.broker.alarm)
        self.assertTrue(publisher.transport.is_read)

    def test_one_that_was_not_read_is_read_when_something_is_delivered_to_it(self) -> None:
        """It has to acknowledge that."""
        self.patch(_model, "RESERVE", 0)
        worker = self.client(capabilities={})
        worker.declare("mine")
        worker.consume("mine", no_ack=False)
        worker.declare("answers")
        self.client().consume("answers")
        early = self.client()
        self.assertEqual(6, self.published_until_it_waits(self.client()))
        worker.publish("answers", b"")
        self.assertFalse(worker.transport.is_read)
        early.publish("mine", b"")
        self.assertTrue(worker.transport.is_read)
        worker.ack(1)
        self.assertFalse(worker.transport.is_read)

    def test_an_alarm_of_somebody_elses_leaves_no_reserve(self) -> None:
        """Acknowledgements would not end it."""
        client = self.client()
        client.declare("q")
        client.consume("q", no_ack=False)
        client.publish("q", b"")
        self.broker.raise_alarm("disk")
        client.publish("q", b"")
        self.assertFalse(client.transport.is_read)

    def test_one_who_does_not_publish_is_read(self) -> None:
        """Else nothing would ever be acknowledged."""
        client = self.client()
        client.declare("q")
        self.broker.raise_alarm("disk")
        client.consume("q")
        self.assertTrue(client.transport.is_read)


class SlowReaderTests(ConnectionTestCase):
    """A client whose transport is full."""

    memory_limit = 256 * KIB * KIB

    def setUp(self) -> None:
        super().setUp()
        self.publisher = self.client()
        self.slow = self.client()
        for name in ("q", "r"):
            self.publisher.declare(name)

    def publish(self, count: int, size: int = 1, queue: str = "q") -> None:
        for number in range(count):
            self.publisher.publish(queue, bytes([number]) * size)

    def test_nothing_is_delivered_while_it_is_full(self) -> None:
        """Though it consumes without acknowledging; then all comes, in order, none twice."""
        self.slow.consume("q")
        self.slow.transport.fill()
        self.publish(5)
        self.assertEqual(([b"\0"], 4), (self.slow.bodies(), len(self.queue())))
        self.slow.transport.drain(fills=True)
        self.assertEqual(([b"\1"], 3), (self.slow.bodies(), len(self.queue())))
        self.slow.transport.drain()
        self.assertEqual(([b"\2", b"\3", b"\4"], 0), (self.slow.bodies(), len(self.queue())))

    def test_others_get_what_it_does_not_take(self) -> None:
        """A queue goes past it."""
        other = self.client()
        for each in (self.slow, other):
            each.consume("q")
            each.names()
        self.slow.transport.fill()
        self.publish(4)
        self.assertEqual((1, 3), (len(self.slow.bodies()), len(other.bodies())))

    def test_a_full_queue_does_not_fill_its_memory(self) -> None:
        """The transport is asked while one read's outcome is written, not behind it."""
        self.publish(64, 64 * KIB)
        self.slow.transport.fill()
        self.slow.consume("q")
        self.assertLess(len(self.slow.transport.value()), 256 * KIB)
        self.assertLess(60, len(self.queue()))

    def test_a_channel_that_it_opens_then_gets_nothing_either(self) -> None:
        """Nor does one that waits behind another, when that one fills it again."""
        self.slow.transport.fill()
        self.slow.send(2, methods.CHANNEL_OPEN, "")
        self.slow.send(3, methods.CHANNEL_OPEN, "")
        for channel, queue in ((2, "q"), (3, "r")):
            self.slow.consume(queue, channel)
            self.publish(1, queue=queue)
        self.assertEqual([], self.slow.bodies())
        self.slow.transport.drain(fills=True)
        self.publish(1, queue="r")
        self.assertEqual([1, 0, 2], [len(self.slow.bodies()), len(self.queue("q")), len(self.queue("r"))])

    def test_what_it_asks_for_is_answered_up_to_a_bound(self) -> None:
        """Over it, the client is dropped, behind whatever is under way; what it had is for others."""
        self.publish(1, 8 * KIB * KIB)
        self.publish(1, 8 * KIB * KIB, queue="r")
        self.slow.transport.fill()
        gets = 0
        while not (said := self.logged(self._get_again)):
            gets += 1
        size = 8 * KIB * KIB
        self.assertEqual((MOST_WAITING + 16 * KIB * KIB) // size - 1, gets)
        self.assertIn("127.0.0.1:50000 is dropped: ", said[0])
        self.assertFalse(self.slow.transport.aborted)
        self.clock.advance(0)
        self.assertTrue(self.slow.transport.aborted)
        self.slow.leave()
        self.assertEqual(1, len(self.queue("q")))

    def _get_again(self) -> None:
        self.slow.send(1, methods.BASIC_GET, 0, "q", False)
        self.slow.transport.clear()
        self.slow.send(1, methods.BASIC_RECOVER_ASYNC, True)

    def test_one_that_reads_too_little_for_too_long_is_dropped(self) -> None:
        """And nothing is written to it any more."""
        self.slow.consume("q")
        self.slow.transport.fill()
        self.publish(1)
        self.slow.names()
        self.clock.advance(READ_TIMEOUT - 1)
        said = self.logged(self.clock.advance, 1)
        self.assertEqual(["the client 127.0.0.1:50000 is dropped: it has read too little for 60 s"], said)
        self.slow.declare("more")
        self.assertEqual(b"", self.slow.transport.value())
        self.clock.advance(0)
        self.assertTrue(self.slow.transport.aborted)

    def test_one_that_reads_in_time_has_its_time_anew(self) -> None:
        """Each time that it has read all."""
        self.slow.consume("q")
        self.slow.transport.fill()
        self.publish(2)
        for _ in range(2):
            self.clock.advance(READ_TIMEOUT - 1)
            self.slow.transport.drain(fills=True)
        self.clock.advance(READ_TIMEOUT - 1)
        self.assertFalse(self.slow.transport.aborted)

    def test_its_state_shows(self) -> None:
        """In the status."""
        self.slow.consume("q")
        self.slow.transport.fill()
        self.publish(1)
        self.assertEqual([False, True], [each.status().congested for each in self.factory.connections])


class MistakeTests(ConnectionTestCase):
    """Exceptions that should not be."""

    def test_one_costs_its_client_the_connection_and_nobody_else_anything(self) -> None:
        """The client hears 541, and the log has the traceback."""
        client, other = self.client(), self.client()
        other.declare("q")
        other.names()
        self.patch(self.broker.vhosts["/"], "publish", lambda *arguments: 1 / 0)
        client.publish("q", b"")
        [(name, (code, text, *_))] = client.methods()
        self.assertEqual(("connection.close", 541), (name, code))
        self.assertTrue(text.startswith("INTERNAL_ERROR - "), text)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        other.declare("q")
        self.assertEqual(["queue.declare-ok"], other.names())

    def test_a_second_one_while_the_first_is_handled_cuts_it(self) -> None:
        """The state of this client is beyond help."""
        client = self.client()
        self.patch(client.protocol.session, "_frame", lambda *arguments: 1 / 0)
        self.patch(client.protocol.session, "_let_go", lambda *arguments: 1 / 0)
        client.declare("q")
        self.clock.advance(0)
        self.assertTrue(client.transport.aborted)
        client.leave()
        self.assertEqual(3, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual([], self.factory.connections)

    def test_one_while_it_gets_deliveries_again(self) -> None:
        """When its transport has emptied."""
        client = self.client()
        client.transport.fill()
        client.declare("q")
        client.names()
        self.patch(client.protocol.session.channels[1], "congest", lambda *arguments: 1 / 0)
        client.transport.drain()
        self.assertEqual(["connection.close"], client.names())
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


class CloseTests(ConnectionTestCase):
    """The end that one side asks for."""

    def test_a_client_that_closes_is_answered_and_let_go(self) -> None:
        """The transport ends when all is written."""
        client = self.client()
        client.send(0, methods.CONNECTION_CLOSE, 200, "", 0, 0)
        self.assertEqual(["connection.close-ok"], client.names())
        self.assertTrue(client.transport.disconnecting)
        self.assertIsNone(client.transport.producer)

    def test_a_client_that_is_refused_may_agree(self) -> None:
        """Then its transport ends; not before, or the reason could be lost on its way."""
        client = self.client()
        said = self.logged(lambda: client.send(0, methods.BASIC_QOS, 0, 1, False))
        self.assertEqual(["connection.close"], client.names())
        self.assertEqual(1, len(said))
        self.assertFalse(client.transport.disconnecting)
        client.send(0, methods.CONNECTION_CLOSE_OK)
        self.assertTrue(client.transport.disconnecting)

    def test_one_that_does_not_agree_is_cut_in_time(self) -> None:
        """Also one that agrees and whose bytes don't get out."""
        for agrees in (False, True):
            client = self.client()
            client.send(0, methods.BASIC_QOS, 0, 1, False)
            if agrees:
                client.send(0, methods.CONNECTION_CLOSE_OK)
            self.clock.advance(CLOSE_TIMEOUT - 1)
            self.assertFalse(client.transport.aborted)
            self.clock.advance(1)
            self.assertTrue(client.transport.aborted)
            client.leave()

    def test_the_end_of_the_broker_is_told(self) -> None:
        """By 320; who agrees is let go, and who does not is cut in time."""
        first, second = self.client(), self.client()
        for client in (first, second):
            self.assertEqual([], self.logged(client.protocol.shut_down))
            [(name, (code, *_))] = client.methods()
            self.assertEqual(("connection.close", 320), (name, code))
        first.send(0, methods.CONNECTION_CLOSE_OK)
        self.assertTrue(first.transport.disconnecting)
        first.leave()
        self.clock.advance(SHUTDOWN_TIMEOUT)
        self.assertTrue(second.transport.aborted)

    def test_the_end_of_the_broker_shortens_one_that_is_under_way(self) -> None:
        """It does not wait for another's ten seconds."""
        client = self.client()
        client.send(0, methods.BASIC_QOS, 0, 1, False)
        client.protocol.shut_down()
        self.clock.advance(SHUTDOWN_TIMEOUT)
        self.assertTrue(client.transport.aborted)

    def test_one_that_has_said_nothing_is_let_go_at_once(self) -> None:
        """It would not understand."""
        visitor = self.visitor()
        visitor.protocol.shut_down()
        self.assertTrue(visitor.transport.disconnecting)
        self.assertEqual(b"", visitor.transport.value())

    def test_one_that_is_not_read_is_read_again_for_its_end(self) -> None:
        """Else its agreement would wait for the end of the alarm."""
        client = self.client()
        client.declare("q")
        self.broker.raise_alarm("disk")
        client.publish("q", b"")
        self.assertFalse(client.transport.is_read)
        client.protocol.shut_down()
        self.assertTrue(client.transport.is_read)
        client.names()
        self.broker.clear_alarm("disk")
        self.assertEqual([], client.names())

    def test_a_lost_connection_takes_its_own_with_it(self) -> None:
        """What it had not acknowledged is for others."""
        client, other = self.client(), self.client()
        client.declare("q")
        client.consume("q", no_ack=False)
        client.publish("q", b"x")
        self.assertEqual(1, self.queue().unacked)
        client.leave()
        self.assertEqual((0, 1), (self.queue().unacked, len(self.queue())))
        self.assertEqual([other.protocol], self.factory.connections)
