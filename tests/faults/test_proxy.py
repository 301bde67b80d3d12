"""The proxy that connections are broken by; a server that sends back what it gets stands for the broker."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.faults.proxy import HOST, Proxy
from tests.faults.support import pause, until

_PATIENCE = 10.0


class Echo(Protocol):
    """The server's side. :ivar got: all that came, on any connection."""

    got = b""

    def dataReceived(self, data: bytes) -> None:
        Echo.got += data
        self.transport.write(data)  # type: ignore[union-attr]


class Caller(Protocol):
    """The program's side."""

    def __init__(self) -> None:
        self.got = b""
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)


class ProxyTests(TestCase):
    """On loopback, in this process."""

    timeout = 60

    def setUp(self) -> None:
        Echo.got = b""
        server = reactor.listenTCP(0, Factory.forProtocol(Echo), interface=HOST)  # type: ignore[attr-defined]
        self.addCleanup(server.stopListening)
        self.proxy = Proxy(f"amqp://guest:guest@{HOST}:{server.getHost().port}/%2F?heartbeat=2")
        self.addCleanup(self.proxy.close)

    async def connect(self) -> Any:
        """Connect by way of it; the connection ends with the test."""
        port = int(self.proxy.url.rpartition(":")[2].partition("/")[0])
        endpoint = TCP4ClientEndpoint(reactor, HOST, port)
        caller: Any = await endpoint.connect(Factory.forProtocol(Caller))
        self.addCleanup(lambda: caller.ended)
        self.addCleanup(caller.transport.abortConnection)
        return caller

    async def test_all_passes(self) -> None:
        """Both ways, and is counted; the rest of the URL is the broker's."""
        self.assertTrue(self.proxy.url.startswith("amqp://guest:guest@127.0.0.1:"))
        self.assertTrue(self.proxy.url.endswith("/%2F?heartbeat=2"))
        caller = await self.connect()
        caller.transport.write(b"x" * 100_000)
        await until(lambda: len(caller.got) == 100_000, _PATIENCE, "the echo")
        self.assertEqual(self.proxy.counts, {"program": 100_000, "broker": 100_000})
        self.proxy.cut()
        await caller.ended

    async def test_a_cut_after_what_the_program_sends(self) -> None:
        """The broker has so many bytes, and no more; the next connection is whole."""
        self.proxy.cut_next_after("program", 3)
        caller = await self.connect()
        caller.transport.write(b"abcdef")
        await caller.ended
        await until(lambda: Echo.got, _PATIENCE, "what may pass")
        self.assertEqual((Echo.got, self.proxy.cuts), (b"abc", 1))
        again = await self.connect()
        again.transport.write(b"abcdef")
        await until(lambda: again.got == b"abcdef", _PATIENCE, "the echo")

    async def test_a_cut_after_what_the_broker_sends(self) -> None:
        """Here the program has so many."""
        self.proxy.cut_next_after("broker", 4)
        caller = await self.connect()
        caller.transport.write(b"abcdef")
        await caller.ended
        self.assertEqual((caller.got, self.proxy.cuts), (b"abcd", 1))

    async def test_a_cut_before_all(self) -> None:
        """Nothing has passed."""
        self.proxy.cut_next_after("broker", 0)
        caller = await self.connect()
        await caller.ended
        self.assertEqual((caller.got, Echo.got), (b"", b""))

    async def test_a_stall(self) -> None:
        """Nothing passes, on connections that come then neither, until it goes on."""
        first = await self.connect()
        self.proxy.stall()
        second = await self.connect()
        for caller in (first, second):
            caller.transport.write(b"abc")
        await pause(0.2)
        self.assertEqual((first.got, second.got), (b"", b""))
        self.proxy.go_on()
        await until(lambda: first.got == second.got == b"abc", _PATIENCE, "the echoes")

    async def test_it_is_slow(self) -> None:
        """What is behind the first read waits for its time."""
        self.proxy.slow(1000)
        caller = await self.connect()
        begun = time.monotonic()
        caller.transport.write(b"x" * 400)
        await until(lambda: len(caller.got) == 400, _PATIENCE, "the first echo")
        caller.transport.write(b"x")
        await until(lambda: len(caller.got) == 401, _PATIENCE, "the second echo")
        self.assertGreater(time.monotonic() - begun, 0.39)

    async def test_a_program_that_leaves(self) -> None:
        """The broker sees it, too."""
        caller = await self.connect()
        caller.transport.write(b"abc")
        await until(lambda: caller.got, _PATIENCE, "the echo")
        caller.transport.loseConnection()
        await caller.ended
        await until(lambda: not self.proxy.connections, _PATIENCE, "the end")
