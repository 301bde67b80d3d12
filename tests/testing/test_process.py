"""Tests of crew_tx.testing._process."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
)
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThreadPool
from zope.interface.verify import verifyObject

from crew_tx.testing._process import Process
from crew_tx.testing.memory import LOOPBACK
from tests.testing.test_memory import MemoryTestCase, Recorder


class ProcessTests(MemoryTestCase):
    """One program of several on a reactor."""

    def setUp(self) -> None:
        super().setUp()
        self.process = Process(self.reactor)
        self.called: list[object] = []

    def connect(self) -> Any:
        """A protocol of the program's that is connected."""
        endpoint = TCP4ClientEndpoint(self.process, LOOPBACK, 5672)
        connecting = endpoint.connect(Factory.forProtocol(Recorder))
        self.reactor.flush()
        return self.successResultOf(connecting)

    def test_it_is_a_reactor(self) -> None:
        """With the time and the network of the one that all share."""
        for interface in (IReactorTCP, IReactorTime, IReactorFromThreads, IReactorPluggableNameResolver):
            verifyObject(interface, self.process)
        self.process.callLater(2, self.called.append, "later")
        self.process.callFromThread(self.called.append, "soon")
        in_thread = deferToThreadPool(self.process, self.process.getThreadPool(), lambda: "in a thread")
        in_thread.addCallback(self.called.append)
        self.reactor.advance(2)
        self.assertEqual(self.called, ["soon", "in a thread", "later"])
        self.assertEqual(self.process.seconds(), 2)
        self.assertIs(self.process.nameResolver, self.reactor.nameResolver)
        resolver = self.reactor.nameResolver
        self.assertIs(self.process.installNameResolver(resolver), resolver)
        self.assertIn(self.process.listenTCP(0, Factory()).getHost().port, self.reactor.ports)

    def test_it_knows_its_own_calls_and_connections(self) -> None:
        """And not those of others."""
        mine = self.process.callLater(1, self.called.append, 1)
        other = self.reactor.callLater(1, self.called.append, 2)
        self.assertEqual(self.process.getDelayedCalls(), [mine])
        self.connect()
        TCP4ClientEndpoint(self.reactor, LOOPBACK, 5672).connect(Factory.forProtocol(Recorder))
        self.reactor.flush()
        self.assertEqual((len(self.reactor.wires), self.process.wires), (2, self.reactor.wires[:1]))
        self.process.wires[0].cut()
        self.assertEqual(self.process.wires, [])
        other.cancel()

    def test_a_killed_program_runs_no_more(self) -> None:
        """It is told nothing, others go on, and who was connected to it finds the connection lost."""
        client = self.connect()
        self.process.callLater(1, self.called.append, "delayed")
        self.process.callFromThread(self.called.append, "soon")
        self.reactor.callLater(1, self.called.append, "other")
        self.process.kill()
        self.process.callLater(1, self.called.append, "after")
        connecting = TCP4ClientEndpoint(self.process, LOOPBACK, 5672).connect(Factory.forProtocol(Recorder))
        self.reactor.advance(60)
        self.assertEqual(self.called, ["other"])
        self.assertEqual((client.reasons, self.servers[0].reasons), ([], [ConnectionLost]))
        self.assertNoResult(connecting)
        self.assertEqual((len(self.servers), self.reactor.getDelayedCalls()), (1, []))
        self.assertFalse(self.process.alive)

    def test_a_connection_of_which_one_end_is_told(self) -> None:
        """A killed program does not hear of it later; it is not the program's any more either."""
        frozen, again = self.connect(), self.connect()
        wire = self.process.wires[0]
        wire.freeze()
        self.servers[0].transport.abortConnection()
        self.reactor.flush()
        self.assertEqual((wire.connected, len(self.process.wires)), (False, 1))
        self.connect()
        self.process.kill()
        wire.cut()
        self.reactor.flush()
        self.assertEqual((frozen.reasons, again.reasons), ([], []))
