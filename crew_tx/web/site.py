"""
The parts of a gateway as one site.

A part is a resource under the first segment of its paths. The gate has let a
request in before its part is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from crew_tx.interfaces import IRequestTracing
from crew_tx.web.access import Principal
from crew_tx.web.channel import LINGER, GatewayChannel, GatewayRequest
from crew_tx.web.gate import Gate, Head
from crew_tx.web.limits import Admission, Limits
from crew_tx.web.problems import Problem, no_such
from crew_tx.web.responses import send_problem
from crew_tx.web.traffic import OTHERS, Traffic, route_of
from crew_tx.web.watched import count_request, render_traced

_log = Logger()

#: The path of a part that has all paths that no other has.
ANYWHERE = "*"
#: Of all connections: where there are no more than these, one that was full has room again.
_ROOM = 0.9


@dataclass(frozen=True, slots=True)
class Part:
    """
    One part of the site.

    :ivar path: the first segment of its paths; empty for ``/`` itself; or :data:`ANYWHERE`.
    :ivar resource: twisted.web's.
    :ivar is_open: whether it is for everybody, credential or not.
    :ivar is_brief: whether it takes no body and is answered at once, and so has room whatever else is
        under way.
    :ivar is_foreign: whether it minds its own affairs: its responses have their own
        headers and none of ours, and what other sites may do is for it to say.
    """

    path: str
    resource: Any
    is_open: bool = False
    is_foreign: bool = False
    is_brief: bool = False

    @property
    def route(self) -> str:
        """What its requests count as."""
        return route_of(self.path, self.is_foreign)


class Nothing(Resource):
    """What there is in all other places."""

    isLeaf = True

    def render(self, request: Any) -> int:
        """404, whatever the method."""
        send_problem(request, no_such("path").problem)
        return NOT_DONE_YET


class _Root(Resource):
    """
    Where paths begin.

    :ivar rest: what all others are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rest: Resource = Nothing()

    def getChild(self, path: bytes, request: Any) -> Resource:
        return self.rest


class GatewaySite(Site):
    """
    What connections are made for.

    :param reactor: its clock is the connections'.
    :param parts: what there is; of two with one path the first one counts.
    :ivar traffic: counts requests; None where nobody asks for that.
    :ivar tracing: makes spans of them; None where nobody asks for that.
    """

    noisy = False
    protocol: Any = GatewayChannel

    def __init__(self, reactor: Any, parts: Iterable[Part], gate: Gate, limits: Limits) -> None:
        # The channel has a time limit of its own, which is not put off by each byte.
        super().__init__(_Root(), requestFactory=GatewayRequest, timeout=None, reactor=reactor)
        self.gate = gate
        self.limits = limits
        self.admission = Admission(limits.max_requests, limits.max_client_requests)
        self.connections: set[GatewayChannel] = set()
        self.traffic: Traffic | None = None
        self.tracing: IRequestTracing | None = None
        self._parts: dict[bytes, Part] = {}
        self._is_full = False
        self._clock = reactor
        self._idle: Deferred[None] | None = None
        self._gone: Deferred[None] | None = None
        for part in parts:
            self.add(part)

    def add(self, part: Part) -> None:
        """Have one more part, unless there is one in its place."""
        path = part.path.encode()
        if path in self._parts:
            return
        self._parts[path] = part
        if part.path == ANYWHERE:
            self.resource.rest = part.resource
        else:
            self.resource.putChild(path, part.resource)

    def part_of(self, path: bytes) -> Part | None:
        """
        The part that a path is of, as it came.

        Its first segment is read as twisted.web reads it to find the resource: else one written with
        percent signs would be let in as one part is, and answered by another.
        """
        segment = unquote_to_bytes(path[1:].partition(b"/")[0])
        return self._parts.get(segment) or self._parts.get(ANYWHERE.encode())

    def watch(self, request: Any, part: Part | None, render: Callable[[], None]) -> None:
        """
        Have a request answered, and what becomes of it counted and traced, where somebody asks for that.

        :param render: has it answered, now or later.
        """
        if self.traffic is not None:
            route = OTHERS if part is None else part.route
            count_request(request, self.traffic.routes[route], self._clock)
        if self.tracing is None:
            render()
        else:
            path = None if part is None or part.path == ANYWHERE else part.path
            render_traced(self.tracing, request, path, render)

    def refused(self, problem: Problem, method: bytes, path: bytes | None) -> None:
        """
        A request was refused that had not come whole.

        :param path: None where not even that had come.
        """
        if self.traffic is not None:
            part = None if path is None else self.part_of(path)
            self.traffic.routes[OTHERS if part is None else part.route].count(method, problem.status)

    def admit(self, head: Head) -> Principal | Problem:
        """Who asks, or what is wrong."""
        part = self.part_of(head.path)
        if part is None:
            return self.gate.admit(head)
        if part.is_brief and head.length != 0:
            # Some are for everybody, and nobody should keep us busy by what is not wanted.
            return Problem(413, "a request for this has no body")
        return self.gate.admit(head, is_open=part.is_open, is_foreign=part.is_foreign)

    def buildProtocol(self, addr: IAddress) -> Any:  # type: ignore[override]
        if len(self.connections) >= self.limits.max_connections:
            self._refuse()
            return None
        channel: Any = super().buildProtocol(addr)
        self.connections.add(channel)
        return channel

    def disconnected(self, channel: GatewayChannel) -> None:
        """A connection has ended."""
        self.connections.discard(channel)
        if len(self.connections) < self.limits.max_connections * _ROOM:
            self._is_full = False
        self._look_whether_idle()
        self._look_whether_gone()

    def stop(self) -> None:
        """Answer what is under way or on its way, and nothing after that."""
        for channel in list(self.connections):
            channel.stop()

    def idle(self, seconds: float) -> Deferred[None]:
        """A Deferred that fires when all that was asked is answered and read, or after so many seconds."""
        idle: Deferred[None] = Deferred()
        self._idle = idle
        self.admission.on_idle = self._look_whether_idle
        self._look_whether_idle()
        return idle.addTimeout(seconds, self._clock, lambda result, _: None)

    def drop_all(self) -> Deferred[None]:
        """
        Let go of all connections.

        :returns: a Deferred that fires when they are gone. Those whose request is answered have a moment to
            read that.
        """
        for channel in list(self.connections):
            if channel.requests:
                channel.drop()
        gone: Deferred[None] = Deferred()
        self._gone = gone
        self._look_whether_gone()
        return gone.addTimeout(LINGER, self._clock, self._drop_the_rest)

    def _drop_the_rest(self, result: object, seconds: float) -> None:
        for channel in list(self.connections):
            channel.drop()

    def _look_whether_idle(self) -> None:
        is_idle = not self.admission.total and not self.connections
        if self._idle is not None and not self._idle.called and is_idle:
            self._idle.callback(None)

    def _look_whether_gone(self) -> None:
        if self._gone is not None and not self._gone.called and not self.connections:
            self._gone.callback(None)

    def log(self, request: Any) -> None:
        """Nothing: a line for each request is for the proxy before us."""

    def _refuse(self) -> None:
        """Say it once, and not each time that one connection makes room for one other."""
        if not self._is_full:
            self._is_full = True
            _log.warn(
                "{count} connections are there, which is the limit: further ones are closed",
                count=self.limits.max_connections,
            )
