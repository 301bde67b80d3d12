"""The embedded broker's factory and service: who may come, what time brings, and the end."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from crew_tx.amqp import methods
from crew_tx.broker import Broker, BrokerFactory, BrokerService
from crew_tx.broker.status import BrokerStatus, ConnectionStatus, QueueStatus
from tests.broker.visitors import Visitor

ADDRESS = IPv4Address("TCP", "127.0.0.1", 40_000)


@implementer(IListeningPort)
class Port:
    """What listens; it takes as long to stop as the test likes."""

    def __init__(self, factory: Any) -> None:
        self.factory = factory
        self.stopping: Deferred[None] | None = None

    def startListening(self) -> None:
        """It does."""

    def stopListening(self) -> Deferred[None]:
        self.factory.doStop()
        self.stopping = Deferred()
        return self.stopping

    def getHost(self) -> IPv4Address:
        return ADDRESS


@implementer(IStreamServerEndpoint)
class Endpoint:
    """
    Where to listen.

    :ivar ports: one for each time that somebody listened.
    :ivar error: why nobody can.
    """

    def __init__(self) -> None:
        self.ports: list[Port] = []
        self.error: Exception | None = None

    def listen(self, protocolFactory: Any) -> Deferred[Any]:
        if self.error is not None:
            return fail(self.error)
        protocolFactory.doStart()
        self.ports.append(Port(protocolFactory))
        return succeed(self.ports[-1])


class FactoryTestCase(SynchronousTestCase):
    """A factory on a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.broker = Broker()
        self.factory = BrokerFactory(self.clock, self.broker)

    def client(self, **options: Any) -> Visitor:
        return Visitor(self.factory).log_in(**options)

    def wakes(self) -> list[float]:
        """When the factory looks at the broker next."""
        return [call.getTime() for call in self.clock.getDelayedCalls()]


class ConnectionsTests(FactoryTestCase):
    """How many may come."""

    def test_one_too_many_is_turned_away(self) -> None:
        """That is said once, until there was room in between."""
        self.factory = BrokerFactory(self.clock, self.broker, max_connections=2)
        visitors = [Visitor(self.factory), Visitor(self.factory)]
        for _ in range(2):
            with capturedLogs() as events:
                for _ in range(3):
                    self.assertIsNone(self.factory.buildProtocol(ADDRESS))
            self.assertEqual([LogLevel.warn], [event["log_level"] for event in events])
            visitors.pop().leave()
            visitors.append(Visitor(self.factory))

    def test_they_are_named_by_their_addresses(self) -> None:
        """Whatever kind that is."""
        names = []
        for address in (ADDRESS, UNIXAddress(b"/a"), None):
            protocol = self.factory.buildProtocol(address)
            assert protocol is not None
            names.append(protocol.session.name)
        self.assertEqual(["127.0.0.1:40000", str(UNIXAddress(b"/a")), "in memory"], names)

    def test_they_are_told_the_limits_that_were_given(self) -> None:
        """The heartbeat is proposed; a body over the size ends its channel."""
        self.factory = BrokerFactory(self.clock, self.broker, heartbeat=7, max_message_size=10)
        visitor = Visitor(self.factory)
        visitor.start("guest", "guest")
        self.assertEqual(("connection.tune", (2047, 131_072, 7)), visitor.methods()[-1])
        client = self.client()
        client.publish("q", bytes(11))
        [(name, (code, *_))] = client.methods()
        self.assertEqual(("channel.close", 406), (name, code))


class TimeTests(FactoryTestCase):
    """What time brings, others see."""

    def test_what_expires_is_seen_by_whoever_waits_for_it(self) -> None:
        """A dead letter goes to another client, which says nothing itself."""
        client, waiting = self.client(), self.client()
        waiting.declare("dead")
        waiting.consume("dead")
        client.declare("q", x_dead_letter_exchange="", x_dead_letter_routing_key="dead")
        client.publish("q", b"late", expiration="1500")
        waiting.names()
        self.clock.advance(1.4)
        self.assertEqual([], waiting.bodies())
        self.clock.advance(0.1)
        self.assertEqual([b"late"], waiting.bodies())

    def test_the_earliest_moment_counts(self) -> None:
        """One timer, which is moved to the front where that is due, and never back."""
        client = self.client()
        for seconds, expected in ((20, 20), (30, 20), (10, 10)):
            client.declare(f"q{seconds}", x_expires=seconds * 1000)
            self.assertEqual([expected], self.wakes())
        self.clock.advance(10)
        self.assertEqual(({"q20", "q30"}, [20]), (set(self.broker.vhosts["/"].queues), self.wakes()))

    def test_a_moment_that_has_gone_is_not_waited_for_twice(self) -> None:
        """A read does not move a timer that is early enough; when it fires for nothing it is set anew."""
        client = self.client()
        client.declare("q10", x_expires=10_000)
        client.declare("q20", x_expires=20_000)
        [call] = self.clock.getDelayedCalls()
        client.send(1, methods.QUEUE_DELETE, 0, "q10", False, False, False)
        self.assertEqual([call], self.clock.getDelayedCalls())
        self.clock.advance(10)
        self.assertEqual([20], self.wakes())

    def test_a_timer_that_is_a_rounding_early_counts(self) -> None:
        """Else it would be set again and again, for a moment that the clock does not reach."""
        self.clock.advance(0.3)
        client = self.client()
        client.declare("q", x_expires=100)
        [call] = self.clock.getDelayedCalls()
        call.func()
        self.assertEqual({}, self.broker.vhosts["/"].queues)
        call.cancel()

    def test_what_is_due_already_does_not_wait_for_the_clock(self) -> None:
        """It is done in the reactor's next turn."""
        self.broker.vhosts["/"].declare_queue("q", None, -5.0, arguments={"x-expires": 1000})
        self.factory.changed()
        self.assertEqual([0], self.wakes())
        self.clock.advance(0)
        self.assertEqual(({}, []), (self.broker.vhosts["/"].queues, self.wakes()))

    def test_a_mistake_is_logged_and_the_next_moment_comes(self) -> None:
        """Nobody's connection ends for it."""
        client = self.client()
        for seconds in (1, 2):
            client.declare(f"q{seconds}", x_expires=seconds * 1000)
        patch = self.patch(self.broker.vhosts["/"], "_remove_queue", lambda *arguments: 1 / 0)
        self.clock.advance(1)
        patch.restore()
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.clock.advance(1)
        self.assertEqual(["q1"], list(self.broker.vhosts["/"].queues))
        self.assertEqual([client.protocol], self.factory.connections)


class AlarmTests(SynchronousTestCase):
    """Who hears of an alarm."""

    def test_whoever_listened_before_still_does(self) -> None:
        """The factory does not take its place."""
        heard: list[bool] = []
        broker = Broker(on_alarm=heard.append)
        BrokerFactory(Clock(), broker)
        with capturedLogs() as events:
            broker.raise_alarm("disk")
            broker.clear_alarm("disk")
        self.assertEqual([True, False], heard)
        self.assertEqual([LogLevel.warn, LogLevel.info], [event["log_level"] for event in events])


class ServiceTests(SynchronousTestCase):
    """A broker that listens."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = Endpoint()
        self.service = BrokerService(self.clock, self.endpoint, max_message_size=1000, heartbeat=9)
        self.addCleanup(lambda: self.assertEqual([], self.clock.getDelayedCalls()))

    def client(self) -> Visitor:
        return Visitor(self.service.factory).log_in()

    def stopped(self) -> Deferred[None]:
        """Stop; the port is closed at once."""
        stopped = self.service.stopService()
        for port in self.endpoint.ports:
            assert port.stopping is not None
            if not port.stopping.called:
                port.stopping.callback(None)
        return stopped

    def test_it_listens_once_however_often_it_is_asked(self) -> None:
        """By its start, or before; so that who needs the port may ask."""
        port = self.successResultOf(self.service.listen())
        self.service.startService()
        self.assertIs(port, self.successResultOf(self.service.listen()))
        self.assertEqual([port], self.endpoint.ports)
        self.successResultOf(self.stopped())

    def test_it_can_start_again(self) -> None:
        """What it holds is there, and what time brings goes on."""
        self.service.startService()
        client = self.client()
        client.declare("q", x_expires=5000)
        stopped = self.stopped()
        client.leave()
        self.successResultOf(stopped)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.service.startService()
        self.assertEqual(2, len(self.endpoint.ports))
        self.clock.advance(5)
        self.assertEqual((), self.service.status().queues)
        self.successResultOf(self.stopped())

    def test_where_it_can_not_listen_somebody_is_told(self) -> None:
        """The log, if there is nobody else."""
        error = self.endpoint.error = CannotListenError("127.0.0.1", 1, OSError())
        self.service.startService()
        self.assertEqual([error], [each.value for each in self.flushLoggedErrors(CannotListenError)])
        told: list[Exception] = []
        BrokerService(self.clock, self.endpoint, on_fatal=told.append).startService()
        self.assertEqual([error], told)

    def test_its_stop_waits_for_the_port_and_for_the_clients(self) -> None:
        """Who agrees, and who is cut."""
        self.service.startService()
        clients = [self.client(), self.client()]
        stopped = self.service.stopService()
        [port] = self.endpoint.ports
        self.assertEqual([], clients[0].names())
        assert port.stopping is not None
        port.stopping.callback(None)
        self.assertEqual([["connection.close"]] * 2, [client.names() for client in clients])
        clients[0].leave()
        self.assertNoResult(stopped)
        self.clock.advance(3)
        self.assertTrue(clients[1].transport.aborted)
        clients[1].leave()
        self.successResultOf(stopped)

    def test_its_status_is_all_there_is_to_see(self) -> None:
        """Plain values; and it stays as it was."""
        client = self.client()
        self.addCleanup(client.leave)
        client.declare("q", x_queue_type="classic")
        for _ in range(4):
            client.publish("q", b"body")
        client.send(1, methods.BASIC_QOS, 0, 2, False)
        client.consume("q", no_ack=False)
        client.ack(1)
        status = self.service.status()
        held = status.bytes
        self.assertLessEqual(12, held)
        self.assertEqual(
            BrokerStatus(
                connections=(ConnectionStatus("127.0.0.1:50000", "guest", "/", "running", 1, False, False),),
                queues=(QueueStatus("/", "q", "classic", ready=1, unacked=2, consumers=1, ready_bytes=4),),
                bytes=held,
                memory_limit=256 * 1024 * 1024,
                alarms=(),
                published=4,
                delivered=3,
                acked=1,
            ),
            status,
        )
        self.assertEqual(1, status.channels)
        client.ack(2)
        self.assertEqual(1, status.acked)

    def test_one_who_is_not_yet_in_has_no_user_and_no_virtual_host(self) -> None:
        """An alarm shows, too."""
        visitor = Visitor(self.service.factory)
        self.addCleanup(visitor.leave)
        self.service.broker.raise_alarm("disk")
        status = self.service.status()
        self.assertEqual(("disk",), status.alarms)
        [connection] = status.connections
        self.assertEqual(
            (None, None, "header", 0),
            (connection.user, connection.vhost, connection.state, connection.channels),
        )
