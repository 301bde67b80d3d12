"""
A connection in memory: two transports, and what lies between them.

What a program writes stays at its end until the reactor is flushed, and then
arrives at the other, unless the wire is cut, stalled, slow or frozen. The ends
behave as Twisted's TCP transports do: a program that closes is told so at once,
and the other one when it has read what came before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IPushProducer, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from crew_tx.testing._time import MemoryTime

LOOPBACK = "127.0.0.1"

#: Bytes on their way past which a producer is paused, and an end can't close.
_BUFFER = 65_536


@implementer(ITCPTransport, IPushProducer)
class MemoryTransport:
    """
    One end of a wire: the transport of a protocol.

    :ivar protocol: whose transport it is.
    :ivar connected: False once the protocol was told of the end.
    :ivar written: bytes that have arrived at the other end.
    """

    def __init__(self, wire: Wire, host: IPv4Address, peer: IPv4Address) -> None:
        self.protocol: Any = None
        self.connected = True
        self.disconnecting = False
        self.written = 0
        self.on_lost: Callable[[Failure], object] = lambda reason: None
        self._wire = wire
        self._host = host
        self._peer = peer
        self._out: deque[tuple[float, bytes]] = deque()
        self._waiting = 0
        self._reading = True
        self._aborting = False
        self._half_closed: bool | None = None
        # What the other end is told when it has read everything; None while this one is there.
        self._farewell: Exception | None = None
        self._cut_after: int | None = None
        self._stalled = False
        self._delay = 0.0
        self._wake: IDelayedCall | None = None
        self._producer: Any = None
        self._streaming = False
        self._producer_paused = False

    # -- for the protocol ----------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Bytes for the other end; after the end they are dropped."""
        if not isinstance(data, bytes):
            raise TypeError(f"a transport takes bytes, not {type(data).__name__}")
        if not data or not self.connected or self.disconnecting or self._half_closed is not None:
            return
        self._out.append((self._wire.time.now + self._delay, data))
        self._waiting += len(data)
        self._wire.wake()
        if self._streaming and not self._producer_paused and self._waiting > _BUFFER:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """The same, joined."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """End, once all is written and no producer is registered."""
        self.disconnecting = True
        self._wire.wake()

    def abortConnection(self) -> None:
        """End now; what is on its way is lost, and the other end finds the connection lost."""
        self.disconnecting = self._aborting = True
        self._wire.wake()

    def loseWriteConnection(self) -> None:
        """Write no more, but read on."""
        if self._half_closed is None:
            self._half_closed = False
            self._wire.wake()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """:raises RuntimeError: if there is one already."""
        if self._producer is not None:
            raise RuntimeError(f"{self._producer} is registered already, before {producer}")
        if not self.connected:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        self._producer_paused = False
        self._wire.wake()

    def unregisterProducer(self) -> None:
        """It is through."""
        self._producer = None
        self._streaming = False
        self._wire.wake()

    def pauseProducing(self) -> None:
        """Read nothing for now, and so notice nothing."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Read on."""
        if not self.disconnecting:
            self._reading = True
            self._wire.wake()

    def stopProducing(self) -> None:
        """The same as :meth:`loseConnection`."""
        self.loseConnection()

    def getHost(self) -> IPv4Address:
        """This end's address."""
        return self._host

    def getPeer(self) -> IPv4Address:
        """The other end's."""
        return self._peer

    def getTcpNoDelay(self) -> bool:
        """Nothing is held back."""
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """There is nothing to hold back."""

    def getTcpKeepAlive(self) -> bool:
        """Nothing dies in silence here."""
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """The same."""

    # -- for tests -------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Bytes that were written here and have not arrived."""
        return self._waiting

    def cut_after(self, size: int) -> None:
        """Cut the wire when so many more bytes have gone this way; what is behind them is lost."""
        self._cut_after = size

    def stall(self) -> None:
        """Let what is written here wait, while the other direction goes on."""
        self._stalled = True

    def flow(self) -> None:
        """End a :meth:`stall`."""
        self._stalled = False
        self._wire.wake()

    def delay(self, seconds: float) -> None:
        """Let what is written here from now on arrive so many seconds later."""
        self._delay = seconds

    # -- for the wire ------------------------------------------------------------------------

    def leave(self) -> bool:
        """
        End here, if the protocol wants to and nothing holds it.

        :returns: whether it did.
        """
        if not self.connected or not self.disconnecting:
            return False
        if self._aborting:
            self.discard()
            self._farewell = ConnectionLost()
            self.lost(ConnectionAborted())
            return True
        if self._producer is not None or self._waiting > _BUFFER:
            return False
        self._farewell = ConnectionDone()
        self.lost(ConnectionDone())
        return True

    def move(self, other: MemoryTransport) -> bool:
        """
        Let what was written here arrive at the other end, and then the news of this one's end.

        :returns: whether anything did.
        """
        moved = False
        if self._out and other.notices:
            data = self._take()
            if data:
                moved = True
                self._arrive(data, other)
                if self.disconnecting:
                    # It may be what the end waited for.
                    self._wire.wake()
        if self._out or not other.connected or not other.notices:
            return moved
        if self._farewell is not None:
            other.lost(self._farewell)
            return True
        return self._half_close(other) or moved

    def lost(self, reason: Exception) -> None:
        """Tell the protocol of the end, once."""
        if not self.connected:
            return
        self.connected = False
        self.disconnecting = True
        if self._farewell is None:
            self.discard()
        producer, self._producer, self._streaming = self._producer, None, False
        if producer is not None:
            producer.stopProducing()
        failure = Failure(reason)
        self.protocol.connectionLost(failure)
        self.on_lost(failure)

    def vanish(self) -> None:
        """The program at this end is gone: only the other end is told of it."""
        if self.connected:
            self.connected = False
            self.discard()
            self._farewell = ConnectionLost()
            self._wire.wake()

    def discard(self) -> None:
        """Drop what has not arrived."""
        self._out.clear()
        self._waiting = 0
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    @property
    def notices(self) -> bool:
        """Whether it reads; an end that is gone swallows all."""
        return self._reading or not self.connected

    def _take(self) -> bytes:
        """What may arrive now."""
        if self._stalled:
            return b""
        parts, now = [], self._wire.time.now
        while self._out and self._out[0][0] <= now:
            parts.append(self._out.popleft()[1])
        if self._out and self._wake is None:
            self._wake = self._wire.time.callLater(self._out[0][0] - now, self._woken)
        data = b"".join(parts)
        self._waiting -= len(data)
        return data

    def _woken(self) -> None:
        self._wake = None
        self._wire.wake()

    def _arrive(self, data: bytes, other: MemoryTransport) -> None:
        limit = self._cut_after
        if limit is not None:
            data = data[:limit]
            self._cut_after = limit - len(data)
        self.written += len(data)
        if other.connected and data:
            other.protocol.dataReceived(data)
        if self._cut_after == 0:
            self._wire.cut()
        if self._producer is not None:
            self._relieve()

    def _half_close(self, other: MemoryTransport) -> bool:
        if self._half_closed is not False:
            return False
        self._half_closed = True
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.writeConnectionLost()
        if IHalfCloseableProtocol.providedBy(other.protocol):
            other.protocol.readConnectionLost()
        else:
            other.loseConnection()
        return True

    def _relieve(self) -> None:
        """All is out: a producer that was paused may go on, and one that is pulled is asked for more."""
        if self._waiting:
            return
        if self._producer_paused:
            self._producer_paused = False
            self._producer.resumeProducing()
        elif not self._streaming:
            self._wire.wake()

    def pull(self) -> bool:
        """
        Ask a producer that is pulled for more.

        :returns: whether it is time for that.
        """
        if self._waiting or not self.connected:
            return False
        self._producer.resumeProducing()
        return True

    @property
    def is_pulled(self) -> bool:
        """Whether it has a producer that writes when it is asked."""
        return self._producer is not None and not self._streaming


class Wire:
    """
    A connection, with its two ends.

    :param time: whose seconds a delay counts.
    :param wakes: called with the wire when it may have something to move.
    :ivar client: the end that connected.
    :ivar server: the end that was connected to.
    :ivar frozen: whether nothing moves, either way; the ends don't notice.
    """

    def __init__(
        self, time: MemoryTime, near: IPv4Address, far: IPv4Address, wakes: Callable[[Wire], object]
    ) -> None:
        self.time = time
        self.client = MemoryTransport(self, near, far)
        self.server = MemoryTransport(self, far, near)
        self.frozen = False
        self._wakes = wakes

    def __str__(self) -> str:
        near, far = self.client.getHost(), self.server.getHost()
        return f"a connection from {near.host}:{near.port} to {far.host}:{far.port}"

    @property
    def connected(self) -> bool:
        """Whether neither end has been told of the end."""
        return self.client.connected and self.server.connected

    @property
    def is_over(self) -> bool:
        """Whether both have."""
        return not self.client.connected and not self.server.connected

    def cut(self) -> None:
        """Cut it: both ends are told that the connection was lost, and what was on its way is."""
        self.discard()
        self.client.lost(ConnectionLost())
        self.server.lost(ConnectionLost())

    def discard(self) -> None:
        """Drop what is on its way, and leave no delayed call."""
        self.client.discard()
        self.server.discard()

    def cut_after(self, size: int) -> None:
        """Cut it when so many more bytes have come from the client."""
        self.client.cut_after(size)

    def freeze(self) -> None:
        """Let nothing through: as a cable that was pulled, or a host that hangs."""
        self.frozen = True

    def thaw(self) -> None:
        """Let through what waits."""
        self.frozen = False
        self.wake()

    def stall(self) -> None:
        """Let what the client writes wait, and what the server writes arrive."""
        self.client.stall()

    def flow(self) -> None:
        """End a :meth:`stall`."""
        self.client.flow()

    def delay(self, seconds: float) -> None:
        """Let what is written from now on, at either end, arrive so many seconds later."""
        self.client.delay(seconds)
        self.server.delay(seconds)

    def wake(self) -> None:
        """There may be something to move."""
        self._wakes(self)

    def pump(self) -> bool:
        """
        Move what can move.

        :returns: whether anything did.
        """
        client, server = self.client, self.server
        moved = False
        for end in (client, server):
            if end.is_pulled and end.pull():
                moved = True
            if end.disconnecting and end.leave():
                moved = True
        if not self.frozen:
            moved = client.move(server) or moved
            moved = server.move(client) or moved
        return moved
