"""
A reactor whose clock a test moves, and whose network is memory.

Programs connect and listen as ever; a :class:`~crew_tx.testing._wire.Wire` is
what lies between two of them. Nothing moves but in :meth:`MemoryReactor.flush`
and :meth:`MemoryReactor.advance`: so a test decides what has arrived, and runs
the same each time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import (
    CannotListenError,
    ConnectionRefusedError,
    NotConnectingError,
    TimeoutError,
    UserError,
)
from twisted.internet.interfaces import (
    IConnector,
    IDelayedCall,
    IHostnameResolver,
    IListeningPort,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from crew_tx.testing._time import MemoryTime
from crew_tx.testing._wire import LOOPBACK, Wire

__all__ = ["LOOPBACK", "MemoryReactor", "Wire"]

_FIRST_PORT = 50_000
_LAST_PORT = 65_535
#: Rounds of a flush that never gets quiet: two programs that answer each other for ever.
_MOST_ROUNDS = 100_000

ACCEPTS, REFUSES, IGNORES = "accepts", "refuses", "ignores"


@implementer(IListeningPort)
class MemoryPort:
    """
    What listens.

    :ivar mode: what it does with a connection: ``accepts``, ``refuses``, or
        ``ignores``, as a host that is down.
    :ivar frozen: whether connections are made and then nothing moves.
    """

    def __init__(self, reactor: MemoryReactor, port: int, factory: Any) -> None:
        self.factory = factory
        self.mode = ACCEPTS
        self.frozen = False
        self._reactor = reactor
        self._port = port

    def startListening(self) -> None:
        """
        Listen.

        :raises CannotListenError: if something does already.
        """
        if self._reactor.ports.setdefault(self._port, self) is not self:
            raise CannotListenError(LOOPBACK, self._port, OSError("the port is taken"))
        self.factory.doStart()

    def stopListening(self) -> Deferred[None]:
        """Listen no more; connections that are there stay."""
        if self._reactor.ports.pop(self._port, None) is not None:
            self.factory.doStop()
        return succeed(None)

    def answer(self) -> Any:
        """The protocol of a connection that is being made; None to refuse it."""
        if self.mode != ACCEPTS:
            return None
        return self.factory.buildProtocol(IPv4Address("TCP", LOOPBACK, self._reactor.next_port))

    def getHost(self) -> IPv4Address:
        """Where."""
        return IPv4Address("TCP", LOOPBACK, self._port)


@implementer(IConnector)
class MemoryConnector:
    """
    A connection that is being made, and the one that came of it.

    :ivar wire: that one; None until then.
    """

    def __init__(self, reactor: MemoryReactor, port: int, factory: Any, timeout: float) -> None:
        self.wire: Wire | None = None
        self._reactor = reactor
        self._port = port
        self._factory = factory
        self._timeout = timeout
        self._call: IDelayedCall | None = None

    def connect(self) -> None:
        """Begin."""
        self.wire = None
        self._factory.doStart()
        self._factory.startedConnecting(self)
        self._call = self._reactor.callLater(0, self._try)

    def stopConnecting(self) -> None:
        """:raises NotConnectingError: if there is nothing to stop."""
        if self._call is None:
            raise NotConnectingError("there is no attempt to connect")
        self._call.cancel()
        self._failed(UserError())

    def disconnect(self) -> None:
        """Stop connecting, or end the connection."""
        if self.wire is None:
            self.stopConnecting()
        else:
            self.wire.client.loseConnection()

    def getDestination(self) -> IPv4Address:
        """Where it goes to."""
        return IPv4Address("TCP", LOOPBACK, self._port)

    def _try(self) -> None:
        port = self._reactor.ports.get(self._port)
        if port is not None and port.mode == IGNORES:
            self._call = self._reactor.callLater(self._timeout, self._failed, TimeoutError())
            return
        server = None if port is None else port.answer()
        if port is None or server is None:
            self._failed(ConnectionRefusedError())
            return
        self._call = None
        client = self._factory.buildProtocol(self.getDestination())
        wire = self.wire = self._reactor.join(client, server, self._port)
        wire.frozen = port.frozen
        wire.client.on_lost = self._lost
        server.makeConnection(wire.server)
        client.makeConnection(wire.client)

    def _failed(self, reason: Exception) -> None:
        self._call = None
        self._factory.clientConnectionFailed(self, Failure(reason))
        self._factory.doStop()

    def _lost(self, reason: Failure) -> None:
        self._factory.clientConnectionLost(self, reason)
        self._factory.doStop()


class InlineThreads:
    """The reactor's thread pool, without a thread: a function runs when the reactor is flushed."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock

    def callInThreadWithCallback(self, on_result: Any, function: Any, *args: Any, **kwargs: Any) -> None:
        """Run a function, and tell of its outcome."""
        self._clock.callLater(0, self._run, on_result, function, args, kwargs)

    def callInThread(self, function: Any, *args: Any, **kwargs: Any) -> None:
        """Run a function."""
        self.callInThreadWithCallback(None, function, *args, **kwargs)

    @staticmethod
    def _run(on_result: Any, function: Any, args: Any, kwargs: Any) -> None:
        try:
            success, result = True, function(*args, **kwargs)
        except BaseException:
            success, result = False, Failure()
        if on_result is not None:
            on_result(success, result)


@implementer(IHostnameResolver)
class LoopbackResolver:
    """Every host is this one."""

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """Tell the receiver of the one address, at once."""
        resolutionReceiver.resolutionBegan(self)
        resolutionReceiver.addressResolved(IPv4Address("TCP", LOOPBACK, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolutionReceiver


@implementer(IReactorTCP, IReactorTime, IReactorFromThreads, IReactorPluggableNameResolver)
class MemoryReactor(MemoryTime):
    """
    A reactor without sockets, threads or time of its own.

    :ivar wires: the connections that there are, the oldest first.
    :ivar ports: what listens, by port.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wires: list[Wire] = []
        self.ports: dict[int, MemoryPort] = {}
        self.nameResolver: IHostnameResolver = LoopbackResolver()
        self._threads = InlineThreads(self)
        self._calls: deque[Callable[[], object]] = deque()
        self._steppers: list[Callable[[], bool]] = []
        self._awake: dict[Wire, None] = {}
        self._connections = 0

    # -- what programs use ---------------------------------------------------------------------

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> MemoryPort:
        """
        Listen; at a free port, if it is 0.

        :raises CannotListenError: if the port is taken.
        """
        listening = MemoryPort(self, port or max(self.ports, default=_FIRST_PORT - 1) + 1, factory)
        listening.startListening()
        return listening

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> MemoryConnector:
        """Connect; whatever the host, it is this one."""
        connector = MemoryConnector(self, port, factory, timeout)
        connector.connect()
        return connector

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """Use another resolver. :returns: the one before."""
        before, self.nameResolver = self.nameResolver, resolver
        return before

    def callFromThread(self, callable: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Call a function when the reactor is flushed."""
        self._calls.append(lambda: callable(*args, **kwargs))

    def getThreadPool(self) -> InlineThreads:
        """What runs blocking functions; there is no thread in it."""
        return self._threads

    def addSystemEventTrigger(self, phase: str, eventType: str, callable: Any, *args: Any, **kw: Any) -> None:
        """Nothing starts or ends this reactor."""

    # -- what tests use ----------------------------------------------------------------------------

    def flush(self) -> None:
        """
        Let everything arrive that is on its way, and what follows from it, until all is quiet.

        :raises RuntimeError: if it never is.
        """
        for _ in range(_MOST_ROUNDS):
            if not self._round():
                return
        raise RuntimeError("the programs never got quiet: they answer each other for ever")

    def advance(self, amount: float) -> None:
        """Let seconds go by: every delayed call at its time, and what follows from it."""
        end = self.now + amount
        self.flush()
        while (due := self.next_due()) is not None and due <= end:
            self.now = max(self.now, due)
            self.flush()
        self.now = end

    def pump(self, timings: Iterable[float]) -> None:
        """Let these seconds go by, one after the other."""
        for amount in timings:
            self.advance(amount)

    def add_stepper(self, step: Callable[[], bool]) -> None:
        """
        Have a function called in each round of a flush.

        :param step: does a bit of work, and says whether there was any.
        """
        self._steppers.append(step)

    # -- for connections ---------------------------------------------------------------------------

    @property
    def next_port(self) -> int:
        """The port that the next connection comes from."""
        return _FIRST_PORT + self._connections % (_LAST_PORT - _FIRST_PORT + 1)

    def join(self, client: Any, server: Any, port: int) -> Wire:
        """Lay a wire between two protocols, which don't know of it yet."""
        near, far = IPv4Address("TCP", LOOPBACK, self.next_port), IPv4Address("TCP", LOOPBACK, port)
        wire = Wire(self, near, far, self._wake)
        wire.client.protocol, wire.server.protocol = client, server
        self._connections += 1
        self.wires.append(wire)
        return wire

    def _wake(self, wire: Wire) -> None:
        self._awake[wire] = None

    def _round(self) -> bool:
        worked = self._pump_wires()
        while self._calls:
            worked = True
            self._calls.popleft()()
        for step in self._steppers:
            worked = step() or worked
        return self.call_due() or worked

    def _pump_wires(self) -> bool:
        awake, self._awake = self._awake, {}
        worked = False
        for wire in awake:
            worked = wire.pump() or worked
            if wire.is_over and wire in self.wires:
                wire.discard()
                self.wires.remove(wire)
        return worked
