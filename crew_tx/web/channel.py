"""
HTTP connections that are not waited for, and requests that are looked at before their bodies are read.

twisted.web bounds the head of a request, and closes a connection on which
nothing comes; one that brings a byte now and then it would keep. Here a whole
request has to come in time, and what its head says against it is told before
its body comes. And no client is answered faster than it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers
from twisted.web.server import Request

from crew_tx.web.access import NOBODY, Principal
from crew_tx.web.gate import Head
from crew_tx.web.problems import MISTAKE, Problem
from crew_tx.web.responses import send_problem

#: Seconds in which a client whose body is not wanted may read why; what it sends is dropped meanwhile.
LINGER = 1.0
MAX_HEADERS = 100
MAX_HEAD = 16 * 1024

_SECURITY_HEADERS = (
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Content-Security-Policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-Frame-Options", b"DENY"),
    (b"Cache-Control", b"no-store"),
)


class PacedChannel(HTTPChannel):
    """
    One connection, on which nothing is answered before the client has read what came before.

    twisted.web answers all that it has of requests, and reads on, while its answers pile up unread.
    """

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        """What comes while a request is answered is kept, and too much of it is not read."""
        super().dataReceived(data)
        # twisted.web leaves that out where an answer waits to be read.
        kept = self._dataBuffer
        if kept and self._handlingRequest and sum(map(len, kept)) > self._optimisticEagerReadSize:
            self._networkProducer.pauseProducing()

    def requestDone(self, request: Any) -> None:
        """It is answered; the next one has its turn when that is read."""
        self.paused = self._waitingForTransport
        super().requestDone(request)
        if self.paused and self.persistent:
            self._networkProducer.pauseProducing()

    def resumeProducing(self) -> None:
        """What was written is read."""
        super().resumeProducing()
        if self.paused:
            self.paused = False
            super().dataReceived(b"")


class GatewayChannel(PacedChannel):
    """One connection of a client."""

    maxHeaders = MAX_HEADERS
    totalHeadersSize = MAX_HEAD

    site: Any
    _reading: IDelayedCall | None = None
    _has_begun = False
    _is_last = False
    _is_over = False

    def connectionMade(self) -> None:
        super().connectionMade()
        self._read_in_time()

    def dataReceived(self, data: bytes) -> None:
        if self._is_over:
            return
        if self._is_last and not self._has_begun:
            self._read_in_time()
        self._has_begun = True
        super().dataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        """One line is longer than all of a head may be."""
        self.refuse(Problem(431, f"the head of a request has {MAX_HEAD} bytes here at the most"))

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """Whether there may be another request, as far as the head of this one goes."""
        return bool(super().checkPersistence(request, version)) and not self._is_last

    def allContentReceived(self) -> None:
        """A request has come; it takes as long as it takes to answer it."""
        # A body may come with the head that it was refused for: its connection ends all the same.
        if not self._is_over:
            self._stop_reading()
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """It is answered, and the next one may come."""
        self._has_begun = False
        self._read_in_time()
        super().requestDone(request)

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:
        """The head of a response, in one piece: twisted.web writes it in forty, which takes longer."""
        # Before Twisted 24.7 they come as pairs.
        pairs = headers if isinstance(headers, list) else _pairs(headers)
        lines = [b"%s %s %s" % (version, code, reason), *(b"%s: %s" % pair for pair in pairs)]
        self.transport.write(b"\r\n".join([*lines, b"", b""]))

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._is_over = True
        self._stop_reading()
        super().connectionLost(reason)
        self.site.disconnected(self)

    def stop(self) -> None:
        """Close when the request under way is answered; where there is none, one has a moment to come."""
        self._is_last = True
        if self.requests:
            self.persistent = False
        else:
            self._read_in_time(LINGER)

    def drop(self) -> None:
        """Close, answered or not."""
        self.transport.abortConnection()

    def give_up(self, seconds: float = LINGER) -> None:
        """Leave a client what has been written for it, for a while, and want nothing more from it."""
        self._is_over = True
        self._stop_reading()
        self.setTimeout(None)
        self._reading = self.callLater(seconds, self._abort)

    def refuse(self, problem: Problem, method: bytes = b"", path: bytes | None = None) -> None:
        """
        Answer a request whose body has not come, and want nothing more from this client.

        :param path: None where not even that has come.
        """
        self.site.refused(problem, method, path)
        self.transport.write(_written(problem))
        # Closed at once, what it still sends would be answered by a reset, and it would not read why.
        self.give_up()

    def _read_in_time(self, seconds: float | None = None) -> None:
        self._stop_reading()
        self._reading = self.callLater(seconds or self.site.limits.read_timeout, self._too_slow)

    def _stop_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()

    def _too_slow(self) -> None:
        self._reading = None
        if self._has_begun and not self.paused:
            self.refuse(Problem(408, f"a request has {self.site.limits.read_timeout:g} s to come in"))
        else:
            # What was answered before has as long again to be read.
            self.give_up(self.site.limits.read_timeout)
            self.loseConnection()

    def _abort(self) -> None:
        self._reading = None
        self.transport.abortConnection()


class GatewayRequest(Request):
    """
    A request.

    :ivar principal: who asks.
    :ivar work: what goes on for it, where that may go on without its client; it is under way as long.
    """

    channel: Any
    site: Any
    principal: Principal = NOBODY
    work: Deferred[Any] | None = None
    _problem: Problem | None = None
    _is_refused = False
    _received = 0
    _content_types: Sequence[bytes] = ()

    def gotLength(self, length: int | None) -> None:
        """Its head has come."""
        limits = self.channel.site.limits
        # One that does not say how long it is goes into a file, as a long one does.
        super().gotLength(limits.max_body if length is None else length)
        admitted = self.channel.site.admit(self._head(length))
        # Else twisted.web would read forms, and nobody here wants them read.
        self._content_types = self.requestHeaders.getRawHeaders(b"Content-Type", [])
        self.requestHeaders.removeHeader(b"Content-Type")
        if isinstance(admitted, Principal):
            self.principal = admitted
        elif length == 0:
            self._problem = admitted
        else:
            self._refuse(admitted)

    def handleContentChunk(self, data: bytes) -> None:
        """More of its body has come."""
        if self._is_refused:
            return
        self._received += len(data)
        if self._received > self.channel.site.limits.max_body:
            self._refuse(self.channel.site.gate.too_large())
            return
        super().handleContentChunk(data)

    def process(self) -> None:
        """All of it has come."""
        if self._content_types:
            self.requestHeaders.setRawHeaders(b"Content-Type", self._content_types)
        if not self._is_refused:
            super().process()

    def render(self, resource: Any) -> None:
        """Answer, if there is room for one more."""
        self.responseHeaders.removeHeader("Server")
        part = self.site.part_of(self.path)
        if part is None or not part.is_foreign:
            self._set_headers()
        self.site.watch(self, part, lambda: self._answer(resource, part is not None and part.is_brief))

    def _answer(self, resource: Any, is_brief: bool) -> None:
        if self._problem is None and not is_brief:
            self._problem = self._enter()
        if self._problem is None:
            super().render(resource)
        else:
            send_problem(self, self._problem)

    def write(self, data: bytes) -> None:
        """Its response; the last one of a connection says that it is, so that nobody asks there again."""
        if not self.startedWriting and self.channel is not None and not self.channel.persistent:
            self.setHeader(b"Connection", b"close")
        super().write(data)

    def processingFailed(self, reason: Failure) -> Failure:
        """A mistake of ours: it is logged, and the client learns no more than that."""
        self._log.failure("a mistake while a request was answered", failure=reason)
        if self.startedWriting:
            self.loseConnection()
        else:
            send_problem(self, MISTAKE)
        return reason

    def _head(self, length: int | None) -> Head:
        # Public names are given to it when its body has come, which is too late here.
        command, uri = self.channel._command, self.channel._path
        origins, fetch_sites = self._texts(b"Origin"), self._texts(b"Sec-Fetch-Site")
        return Head(
            command.decode("latin-1"),
            uri.partition(b"?")[0],
            length,
            self._texts(b"Host"),
            self._texts(b"Authorization"),
            origins[-1] if origins else None,
            fetch_sites[-1] if fetch_sites else None,
        )

    def _texts(self, name: bytes) -> tuple[str, ...]:
        """All headers of a name; what is no UTF-8 in them is nothing that counts here."""
        values = self.requestHeaders.getRawHeaders(name)
        return tuple(value.decode("utf-8", "replace") for value in values) if values else ()

    def _refuse(self, problem: Problem) -> None:
        self._is_refused = True
        # Else it would be told to go on.
        self.requestHeaders.removeHeader("Expect")
        self.channel.refuse(problem, self.channel._command, self.channel._path.partition(b"?")[0])

    def _set_headers(self) -> None:
        for name, value in _SECURITY_HEADERS:
            self.setHeader(name, value)

    def _enter(self) -> Problem | None:
        client = self.principal.name or f"@{getattr(self.client, 'host', '')}"
        problem: Problem | None = self.site.admission.enter(client)
        if problem is None:
            self.notifyFinish().addBoth(self._leave, self.site.admission, client)
        return problem

    def _leave(self, _: object, admission: Any, client: str) -> None:
        if self.work is None or self.work.called:
            admission.leave(client)
        else:
            self.work.addBoth(lambda _: admission.leave(client))


def _pairs(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, values in headers.getAllRawHeaders() for value in values]


def _written(problem: Problem) -> bytes:
    """A whole response, for a client that is read no further."""
    headers = [
        *(f"{name}: {value}" for name, value in problem.all_headers),
        f"Content-Length: {len(problem.body)}",
        "Connection: close",
    ]
    head = "\r\n".join([f"HTTP/1.1 {problem.status} {problem.title}", *headers, "", ""])
    return head.encode("latin-1") + problem.body
