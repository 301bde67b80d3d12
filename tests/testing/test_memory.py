"""Tests of crew_tx.testing.memory, and of the wires in it."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import (
    CannotListenError,
    ConnectingCancelledError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    NotConnectingError,
    TimeoutError,
)
from twisted.internet.interfaces import (
    IConnector,
    IHalfCloseableProtocol,
    IListeningPort,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from crew_tx.testing import MemoryReactor, Wire, memory
from crew_tx.testing.memory import IGNORES, LOOPBACK, REFUSES, MemoryConnector, MemoryPort


class Recorder(Protocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.received = b""
        self.reasons: list[type[BaseException]] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure | None = None) -> None:
        assert reason is not None and reason.type is not None
        self.reasons.append(reason.type)


@implementer(IHalfCloseableProtocol)
class HalfRecorder(Recorder):
    """Goes on when one direction has ended."""

    half: str = ""

    def readConnectionLost(self) -> None:
        self.half += "read"

    def writeConnectionLost(self) -> None:
        self.half += "write"


class Producer:
    """Counts what it is asked for."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class PulledProducer(Producer):
    """Writes three times, each when it is asked."""

    def __init__(self, transport: Any) -> None:
        super().__init__()
        self.transport = transport

    def resumeProducing(self) -> None:
        super().resumeProducing()
        self.transport.write(b"x")
        if len(self.told) == 3:
            self.transport.unregisterProducer()


class MemoryTestCase(SynchronousTestCase):
    """Two protocols, and the wire between them."""

    protocol: type[Recorder] = Recorder

    def setUp(self) -> None:
        self.reactor = MemoryReactor()
        self.servers: list[Any] = []
        self.port = self.reactor.listenTCP(5672, Factory.forProtocol(self.serve))

    def serve(self) -> Recorder:
        """The server's protocol."""
        self.servers.append(self.protocol())
        return self.servers[-1]

    def connect(self) -> Any:
        """A client's protocol that is connected."""
        endpoint = TCP4ClientEndpoint(self.reactor, LOOPBACK, 5672)
        connecting = endpoint.connect(Factory.forProtocol(self.protocol))
        self.reactor.flush()
        return self.successResultOf(connecting)

    def pair(self) -> tuple[Any, Any, Wire]:
        """Client, server and wire."""
        client = self.connect()
        return client, self.servers[-1], self.reactor.wires[-1]


class ReactorTests(MemoryTestCase):
    """Time, calls and connections."""

    def test_it_provides_the_interfaces_of_a_reactor(self) -> None:
        """As far as programs here need them."""
        for interface in (IReactorTCP, IReactorTime, IReactorFromThreads, IReactorPluggableNameResolver):
            verifyObject(interface, self.reactor)
        verifyObject(IListeningPort, self.port)
        verifyObject(IConnector, MemoryConnector(self.reactor, 1, ClientFactory(), 1))
        verifyObject(ITCPTransport, self.connect().transport)

    def test_nothing_moves_by_itself(self) -> None:
        """What is written arrives in a flush, and in order."""
        client, server, _ = self.pair()
        client.transport.write(b"a")
        client.transport.writeSequence([b"b", b"c"])
        self.assertEqual(server.received, b"")
        self.reactor.flush()
        self.assertEqual(server.received, b"abc")

    def test_time_goes_by_call_by_call(self) -> None:
        """What a call sets off has arrived before the next one is made."""
        client, server, _ = self.pair()
        seen: list[tuple[float, bytes]] = []
        self.reactor.callLater(1, client.transport.write, b"a")
        self.reactor.callLater(1.5, lambda: seen.append((self.reactor.seconds(), server.received)))
        self.reactor.advance(60)
        self.assertEqual(seen, [(1.5, b"a")])
        self.assertEqual(self.reactor.seconds(), 60)
        self.reactor.pump([1, 2])
        self.assertEqual(self.reactor.seconds(), 63)

    def test_programs_that_answer_each_other_for_ever_are_noticed(self) -> None:
        """Instead of a test that hangs."""

        def again() -> None:
            self.reactor.callLater(0, again)

        again()
        self.patch(memory, "_MOST_ROUNDS", 50)
        with self.assertRaisesRegex(RuntimeError, "for ever"):
            self.reactor.flush()

    def test_blocking_functions_run_in_a_flush(self) -> None:
        """There is no thread; what they raise errbacks."""
        value = deferToThreadPool(self.reactor, self.reactor.getThreadPool(), lambda x: x + 1, 2)
        error = deferToThreadPool(self.reactor, self.reactor.getThreadPool(), lambda: 1 / 0)
        self.assertNoResult(value)
        self.reactor.flush()
        self.assertEqual(self.successResultOf(value), 3)
        self.failureResultOf(error, ZeroDivisionError)
        ran: list[int] = []
        self.reactor.getThreadPool().callInThread(ran.append, 1)
        self.reactor.flush()
        self.assertEqual(ran, [1])

    def test_steppers_work_in_each_round(self) -> None:
        """Until there is nothing more to do."""
        todo = [1, 2, 3]
        self.reactor.add_stepper(lambda: bool(todo and todo.pop()))
        self.reactor.flush()
        self.assertEqual(todo, [])

    def test_every_host_is_this_one(self) -> None:
        """A program may connect by name."""
        connecting = HostnameEndpoint(self.reactor, "broker.example", 5672).connect(
            Factory.forProtocol(Recorder)
        )
        self.reactor.advance(1)
        self.assertIsInstance(self.successResultOf(connecting), Recorder)
        before = self.reactor.nameResolver
        self.assertIs(self.reactor.installNameResolver(before), before)

    def test_many_delayed_calls_cost_little(self) -> None:
        """A day with a heartbeat a second, among ten thousand calls that are not due."""
        for _ in range(10_000):
            self.reactor.callLater(1_000_000, self.fail)
        beats = [0]

        def beat() -> None:
            beats[0] += 1
            self.reactor.callLater(1, beat)

        beat()
        begun = time.process_time()
        self.reactor.advance(86_400)
        self.assertEqual(beats, [86_401])
        self.assertLess(time.process_time() - begun, 3)


class PortTests(MemoryTestCase):
    """Listening and connecting."""

    def test_a_port_is_taken_once(self) -> None:
        """Until nobody listens there any more; 0 is any free one."""
        self.assertRaises(CannotListenError, self.reactor.listenTCP, 5672, Factory())
        ports = {self.reactor.listenTCP(0, Factory()).getHost().port for _ in range(3)}
        self.assertEqual(len(ports | {5672}), 4)
        self.successResultOf(self.port.stopListening())
        self.successResultOf(self.port.stopListening())
        self.port.startListening()
        self.assertEqual(self.port.getHost().port, 5672)

    def test_where_nobody_listens_a_connection_is_refused(self) -> None:
        """Or where it is told to refuse."""
        for change in (lambda: setattr(self.port, "mode", REFUSES), self.port.stopListening):
            change()
            connecting = TCP4ClientEndpoint(self.reactor, LOOPBACK, 5672).connect(
                Factory.forProtocol(Recorder)
            )
            self.reactor.flush()
            self.failureResultOf(connecting, ConnectionRefusedError)
        self.assertEqual(self.reactor.wires, [])

    def test_a_host_that_is_down_lets_the_connection_time_out(self) -> None:
        """After the time that the client gives it."""
        self.port.mode = IGNORES
        endpoint = TCP4ClientEndpoint(self.reactor, LOOPBACK, 5672, timeout=7)
        connecting = endpoint.connect(Factory.forProtocol(Recorder))
        self.reactor.advance(6.9)
        self.assertNoResult(connecting)
        self.reactor.advance(0.2)
        self.failureResultOf(connecting, TimeoutError)

    def test_an_attempt_can_be_given_up(self) -> None:
        """Nothing of it is left."""
        connecting = TCP4ClientEndpoint(self.reactor, LOOPBACK, 5672).connect(Factory.forProtocol(Recorder))
        connecting.cancel()
        self.failureResultOf(connecting, ConnectingCancelledError)
        self.reactor.flush()
        self.assertEqual((self.reactor.getDelayedCalls(), self.servers), ([], []))

    def test_a_connector_ends_what_it_has_made(self) -> None:
        """Its factory is told of everything."""
        told: list[str] = []

        class Telling(ClientFactory):
            protocol = Recorder

            def startedConnecting(self, connector: Any) -> None:
                told.append("started")

            def clientConnectionLost(self, connector: Any, reason: Failure) -> None:
                told.append("lost")

            def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
                told.append("failed")

        connector = self.reactor.connectTCP(LOOPBACK, 5672, Telling())
        self.assertEqual(connector.getDestination().port, 5672)
        self.reactor.flush()
        self.assertRaises(NotConnectingError, connector.stopConnecting)
        connector.disconnect()
        self.reactor.flush()
        self.reactor.connectTCP(LOOPBACK, 5672, Telling()).disconnect()
        self.assertEqual(told, ["started", "lost", "started", "failed"])

    def test_a_frozen_port_accepts_and_says_nothing(self) -> None:
        """As a program that hangs, whose kernel goes on."""
        self.port.frozen = True
        client, server, wire = self.pair()
        client.transport.write(b"a")
        self.reactor.flush()
        self.assertEqual(server.received, b"")
        wire.thaw()
        self.reactor.flush()
        self.assertEqual(server.received, b"a")


class EndTests(MemoryTestCase):
    """How a connection ends."""

    def test_closing_delivers_what_was_written(self) -> None:
        """Both ends are told that it was closed, and nothing is written after that."""
        client, server, wire = self.pair()
        client.transport.write(b"last")
        client.transport.loseConnection()
        client.transport.write(b"too late")
        self.reactor.flush()
        self.assertEqual((server.received, server.reasons), (b"last", [ConnectionDone]))
        self.assertEqual(client.reasons, [ConnectionDone])
        self.assertTrue(wire.is_over)
        self.assertEqual(self.reactor.wires, [])

    def test_aborting_loses_it(self) -> None:
        """Not there and then: the protocol is told in the next flush."""
        client, server, _ = self.pair()
        client.transport.write(b"last")
        client.transport.abortConnection()
        self.assertEqual(client.reasons, [])
        self.reactor.flush()
        self.assertEqual((server.received, server.reasons), (b"", [ConnectionLost]))
        self.assertEqual(client.reasons, [ConnectionAborted])

    def test_an_end_is_told_once(self) -> None:
        """Whatever else happens to it."""
        client, server, wire = self.pair()
        wire.cut()
        wire.cut()
        client.transport.abortConnection()
        server.transport.loseConnection()
        self.reactor.flush()
        self.assertEqual((client.reasons, server.reasons), ([ConnectionLost], [ConnectionLost]))

    def test_a_producer_keeps_it_open(self) -> None:
        """Until it is through."""
        client, server, _ = self.pair()
        client.transport.registerProducer(Producer(), True)
        client.transport.loseConnection()
        self.reactor.flush()
        self.assertEqual(client.reasons, [])
        client.transport.unregisterProducer()
        self.reactor.flush()
        self.assertEqual((client.reasons, server.reasons), ([ConnectionDone], [ConnectionDone]))

    def test_who_does_not_read_notices_no_end(self) -> None:
        """The other one is through with it meanwhile."""
        client, server, _ = self.pair()
        server.transport.pauseProducing()
        client.transport.write(b"a")
        client.transport.loseConnection()
        self.reactor.flush()
        self.assertEqual((client.reasons, server.reasons, server.received), ([ConnectionDone], [], b""))
        server.transport.resumeProducing()
        self.reactor.flush()
        self.assertEqual((server.reasons, server.received), ([ConnectionDone], b"a"))

    def test_more_than_a_buffer_keeps_it_open(self) -> None:
        """As the kernel's buffers would not take it."""
        client, server, wire = self.pair()
        server.transport.pauseProducing()
        client.transport.write(b"x" * 70_000)
        client.transport.loseConnection()
        self.reactor.flush()
        self.assertEqual((client.reasons, client.transport.waiting), ([], 70_000))
        wire.cut()
        self.assertEqual((client.reasons, client.transport.waiting), ([ConnectionLost], 0))

    def test_a_half_closed_connection_goes_on_the_other_way(self) -> None:
        """With protocols that can do with it."""
        self.protocol = HalfRecorder
        client, server, _ = self.pair()
        client.transport.write(b"question")
        client.transport.loseWriteConnection()
        client.transport.write(b"dropped")
        server.transport.write(b"answer")
        self.reactor.flush()
        self.assertEqual((server.received, client.received), (b"question", b"answer"))
        self.assertEqual((server.half, client.half), ("read", "write"))
        self.assertEqual(client.reasons, [])

    def test_a_protocol_that_knows_nothing_of_halves_ends(self) -> None:
        """When the other one has closed its half."""
        client, server, _ = self.pair()
        client.transport.loseWriteConnection()
        self.reactor.flush()
        self.assertEqual((client.reasons, server.reasons), ([ConnectionDone], [ConnectionDone]))

    def test_a_program_that_is_gone_is_told_nothing(self) -> None:
        """Only the other end is."""
        client, server, wire = self.pair()
        client.transport.write(b"lost")
        wire.client.vanish()
        self.reactor.flush()
        self.assertEqual((client.reasons, server.reasons, server.received), ([], [ConnectionLost], b""))
        self.assertEqual(self.reactor.wires, [])


class FaultTests(MemoryTestCase):
    """What a test can do to a wire."""

    def test_it_is_cut_after_so_many_bytes(self) -> None:
        """Either way; what is behind them is lost."""
        for end, other in (("client", "server"), ("server", "client")):
            client, server, wire = self.pair()
            protocols = {"client": client, "server": server}
            getattr(wire, end).cut_after(5)
            protocols[end].transport.write(b"abc")
            self.reactor.flush()
            self.assertEqual(protocols[other].received, b"abc")
            protocols[end].transport.write(b"defg")
            self.reactor.flush()
            self.assertEqual(protocols[other].received, b"abcde")
            self.assertEqual((client.reasons, server.reasons), ([ConnectionLost], [ConnectionLost]))
            self.assertEqual(getattr(wire, end).written, 5)

    def test_a_whole_wire_is_cut_by_what_the_client_sends(self) -> None:
        """``cut_after`` of the wire; just so many bytes are enough."""
        client, server, wire = self.pair()
        wire.cut_after(3)
        server.transport.write(b"not counted")
        client.transport.write(b"abc")
        self.reactor.flush()
        self.assertEqual((server.received, client.reasons), (b"abc", [ConnectionLost]))

    def test_a_frozen_wire_moves_nothing(self) -> None:
        """Neither end notices, and each can leave by itself."""
        client, server, wire = self.pair()
        wire.freeze()
        client.transport.write(b"a")
        server.transport.write(b"b")
        self.reactor.advance(3600)
        self.assertEqual((server.received, client.received), (b"", b""))
        client.transport.loseConnection()
        self.reactor.flush()
        self.assertEqual((client.reasons, server.reasons), ([ConnectionDone], []))
        wire.thaw()
        self.reactor.flush()
        self.assertEqual((server.received, server.reasons), (b"a", [ConnectionDone]))

    def test_one_direction_can_stall(self) -> None:
        """And flow again; the other goes on."""
        client, server, wire = self.pair()
        wire.stall()
        client.transport.write(b"a")
        server.transport.write(b"b")
        self.reactor.flush()
        self.assertEqual((server.received, client.received), (b"", b"b"))
        wire.flow()
        self.reactor.flush()
        self.assertEqual(server.received, b"a")

    def test_a_slow_wire_delays_each_byte(self) -> None:
        """And keeps their order when it gets fast again."""
        client, server, wire = self.pair()
        wire.delay(5)
        client.transport.write(b"a")
        self.reactor.advance(2)
        wire.delay(0)
        client.transport.write(b"b")
        client.transport.loseConnection()
        self.reactor.advance(2.9)
        self.assertEqual((server.received, server.reasons), (b"", []))
        self.reactor.advance(0.2)
        self.assertEqual((server.received, server.reasons), (b"ab", [ConnectionDone]))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_slow_wire_that_is_cut_leaves_no_delayed_call(self) -> None:
        """What was on its way is lost."""
        client, server, wire = self.pair()
        wire.delay(5)
        client.transport.write(b"a")
        self.reactor.flush()
        wire.cut()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.reactor.advance(10)
        self.assertEqual(server.received, b"")

    def test_a_slow_wire_whose_ends_have_left_leaves_none_either(self) -> None:
        """One after the other, with bytes on their way."""
        client, server, wire = self.pair()
        wire.delay(5)
        client.transport.write(b"a")
        client.transport.loseConnection()
        self.reactor.flush()
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        server.transport.loseConnection()
        self.reactor.flush()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertTrue(wire.is_over)

    def test_it_says_what_it_is(self) -> None:
        """With both of its addresses."""
        client, server, wire = self.pair()
        self.assertEqual(str(wire), "a connection from 127.0.0.1:50000 to 127.0.0.1:5672")
        self.assertEqual(client.transport.getHost(), server.transport.getPeer())
        self.assertEqual(client.transport.getPeer(), server.transport.getHost())


class FlowTests(MemoryTestCase):
    """Producers, and readers that pause."""

    def test_a_reader_that_pauses_gets_nothing(self) -> None:
        """Until it reads on."""
        client, server, _ = self.pair()
        server.transport.pauseProducing()
        client.transport.write(b"a")
        self.reactor.flush()
        self.assertEqual((server.received, client.transport.waiting), (b"", 1))
        server.transport.resumeProducing()
        self.reactor.flush()
        self.assertEqual((server.received, client.transport.waiting), (b"a", 0))

    def test_a_producer_is_paused_by_a_full_buffer(self) -> None:
        """And goes on when it is empty."""
        client, _, wire = self.pair()
        producer = Producer()
        client.transport.registerProducer(producer, True)
        wire.freeze()
        for _ in range(3):
            client.transport.write(b"x" * 40_000)
        self.assertEqual(producer.told, ["pause"])
        wire.thaw()
        self.reactor.flush()
        self.assertEqual(producer.told, ["pause", "resume"])

    def test_a_producer_can_be_pulled(self) -> None:
        """It is asked whenever all is out."""
        client, server, _ = self.pair()
        producer = PulledProducer(client.transport)
        client.transport.registerProducer(producer, False)
        self.reactor.flush()
        self.assertEqual((producer.told, server.received), (["resume"] * 3, b"xxx"))

    def test_there_is_one_producer(self) -> None:
        """A second one is refused, and one that comes too late is stopped."""
        client, _, wire = self.pair()
        first, late = Producer(), Producer()
        client.transport.registerProducer(first, True)
        self.assertRaises(RuntimeError, client.transport.registerProducer, Producer(), True)
        wire.cut()
        client.transport.registerProducer(late, True)
        self.assertEqual((first.told, late.told), (["stop"], ["stop"]))

    def test_a_transport_takes_bytes(self) -> None:
        """As Twisted's own refuse text."""
        client, _, _ = self.pair()
        self.assertRaises(TypeError, client.transport.write, "text")

    def test_it_has_the_options_of_tcp(self) -> None:
        """Which change nothing."""
        transport = self.connect().transport
        transport.setTcpNoDelay(False)
        transport.setTcpKeepAlive(True)
        self.assertEqual((transport.getTcpNoDelay(), transport.getTcpKeepAlive()), (True, False))

    def test_a_consumer_that_stops_ends_the_connection(self) -> None:
        """``stopProducing`` is what proxies call."""
        client, server, _ = self.pair()
        server.transport.stopProducing()
        self.reactor.flush()
        self.assertEqual(client.reasons, [ConnectionDone])


class ServerEndpointTests(SynchronousTestCase):
    """What Twisted's own endpoints make of it."""

    def test_a_server_endpoint_listens(self) -> None:
        """And stops."""
        reactor = MemoryReactor()
        listening: Deferred[Any] = TCP4ServerEndpoint(reactor, 0).listen(Factory())
        port = self.successResultOf(listening)
        self.assertIsInstance(port, MemoryPort)
        port.stopListening()
        self.assertEqual(reactor.ports, {})
