"""A TCP proxy between a program and its broker, which counts bytes, and cuts, stalls and slows them."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

HOST = "127.0.0.1"

#: Who sends the bytes that are meant.
End = Literal["program", "broker"]
ENDS: tuple[End, End] = ("program", "broker")


class Proxy:
    """
    Listens on a port of its own, and connects to a broker for each connection that comes.

    :param url: the broker's.
    :ivar cuts: how many connections were cut where they were to be.
    """

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._links: list[_Link] = []
        self._limit: tuple[End, int] | None = None
        self._rate = 0.0
        self._is_stalled = False
        self.cuts = 0
        self._counts = dict.fromkeys(ENDS, 0)
        self._port: Any = reactor.listenTCP(0, _Accepting(self), interface=HOST)  # type: ignore[attr-defined]

    @property
    def url(self) -> str:
        """The broker's URL, by way of this."""
        login = self._parts.netloc.rpartition("@")[0]
        return urlunsplit(self._parts._replace(netloc=f"{login}@{HOST}:{self._port.getHost().port}"))

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._links)

    @property
    def counts(self) -> dict[End, int]:
        """The bytes of each end that have passed by the latest connection."""
        return self._counts

    def cut(self) -> None:
        """End all connections now, without a word."""
        for link in list(self._links):
            link.cut()

    def cut_next_after(self, end: End, size: int) -> None:
        """Let so many bytes of one end pass on the connection that comes next, and end it behind them."""
        self._limit = end, size

    def stall(self) -> None:
        """Read nothing any more of what connections bring, those that come included."""
        self._is_stalled = True
        for link in self._links:
            link.stall()

    def go_on(self) -> None:
        """After :meth:`stall`."""
        self._is_stalled = False
        for link in self._links:
            link.go_on()

    def slow(self, rate: float) -> None:
        """
        Let only so much through, each way, by connections that come from now on.

        :param rate: bytes a second; 0 for all there are.
        """
        self._rate = rate

    def close(self) -> Deferred[Any]:
        """A Deferred that fires when it listens no more; its connections are cut."""
        self.cut()
        return maybeDeferred(self._port.stopListening)

    def accepted(self, side: _Side) -> None:
        """A program has connected."""
        limit, self._limit = self._limit, None
        link = _Link(self, side, limit, self._rate)
        self._links.append(link)
        self._counts = link.counts
        if self._is_stalled:
            link.stall()
        endpoint = TCP4ClientEndpoint(reactor, self._parts.hostname, self._parts.port, timeout=5)  # type: ignore[arg-type]
        endpoint.connect(Factory.forProtocol(_Side)).addCallbacks(link.joined, lambda _: link.cut())

    def ended(self, link: _Link) -> None:
        """Both sides of a connection are ending."""
        self._links.remove(link)


class _Side(Protocol):
    """What the proxy has of one end."""

    link: _Link | None = None
    end: End

    def dataReceived(self, data: bytes) -> None:
        if self.link is not None:
            self.link.received(self, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.link is not None:
            self.link.lost(self)


class _Accepting(Factory):
    """Makes the program's side of each connection."""

    protocol = _Side
    noisy = False

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    def buildProtocol(self, addr: Any) -> Protocol:
        side = _Accepted(self._proxy)
        side.factory = self
        return side


class _Accepted(_Side):
    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    def connectionMade(self) -> None:
        self._proxy.accepted(self)


class _Link:
    """One connection by way of the proxy."""

    def __init__(self, proxy: Proxy, program: _Side, limit: tuple[End, int] | None, rate: float) -> None:
        self._proxy = proxy
        self._limit = limit
        self._rate = rate
        self._is_stalled = self._is_over = False
        self._waits: dict[End, IDelayedCall] = {}
        self._sides: dict[End, Any] = {"program": program}
        self.counts: dict[End, int] = dict.fromkeys(ENDS, 0)
        program.end, program.link = "program", self
        # Nothing is read before there is somebody to give it to.
        self._sides["program"].transport.pauseProducing()

    def joined(self, broker: Any) -> None:
        """The broker has taken the connection."""
        if self._is_over:
            broker.transport.abortConnection()
            return
        broker.end, broker.link = "broker", self
        self._sides["broker"] = broker
        for side in self._sides.values():
            side.transport.setTcpNoDelay(True)
        if self._is_stalled:
            self.stall()
        else:
            self._sides["program"].transport.resumeProducing()
        self._cut_if_due()

    def received(self, side: _Side, data: bytes) -> None:
        """Pass on what may pass."""
        if self._limit is not None and self._limit[0] == side.end:
            data = data[: self._limit[1] - self.counts[side.end]]
        self.counts[side.end] += len(data)
        self._other(side).transport.write(data)
        self._cut_if_due()
        if self._rate and not self._is_over:
            self._wait(side, len(data) / self._rate)

    def lost(self, side: _Side) -> None:
        """One end is gone: the other follows, when it has what was for it."""
        if not self._is_over:
            other = self._sides.get("broker" if side.end == "program" else "program")
            self._over()
            if other is not None:
                other.transport.loseConnection()

    def cut(self) -> None:
        """End it now."""
        self._over()
        for side in self._sides.values():
            side.transport.abortConnection()

    def stall(self) -> None:
        """Read nothing."""
        self._is_stalled = True
        for side in self._sides.values():
            side.transport.pauseProducing()

    def go_on(self) -> None:
        """Read again."""
        self._is_stalled = False
        if "broker" in self._sides:
            for side in self._sides.values():
                side.transport.resumeProducing()

    def _cut_if_due(self) -> None:
        if self._limit is None or self.counts[self._limit[0]] < self._limit[1]:
            return
        end = self._limit[0]
        sender = self._sides[end]
        self._proxy.cuts += 1
        self._over()
        # What may pass arrives first.
        self._other(sender).transport.loseConnection()
        sender.transport.abortConnection()

    def _other(self, side: _Side) -> Any:
        return self._sides["broker" if side.end == "program" else "program"]

    def _wait(self, side: Any, seconds: float) -> None:
        side.transport.pauseProducing()
        self._waits[side.end] = reactor.callLater(seconds, self._waited, side)  # type: ignore[attr-defined]

    def _waited(self, side: Any) -> None:
        del self._waits[side.end]
        if not self._is_stalled:
            side.transport.resumeProducing()

    def _over(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        for call in self._waits.values():
            call.cancel()
        self._waits.clear()
        self._proxy.ended(self)
