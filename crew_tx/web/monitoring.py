"""
What those who watch a process ask it: ``/metrics``, ``/healthz``, ``/readyz``.

``/healthz`` says that the process serves requests at all; ``/readyz`` that it
does what it is for. Neither asks the broker anything, so they are cheap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

from twisted.web import server
from twisted.web.http import Request
from twisted.web.resource import Resource

from crew_tx.status import ClientStatus
from crew_tx.web.channel import PacedChannel
from crew_tx.web.problems import Problem
from crew_tx.web.responses import send_problem
from crew_tx.web.traffic import GatewayStatus

#: Whether it is ready, and how it is, in a line.
Look = Callable[[], tuple[bool, str]]

_TEXT = b"text/plain; charset=utf-8"
_IDLE_TIMEOUT = 30


class IExposition(Protocol):
    """What ``/metrics`` says."""

    content_type: bytes

    def text(self) -> bytes:
        """It all, as it stands now."""


class IGatewayExposition(IExposition, Protocol):
    """What ``/metrics`` says of a gateway."""

    def add_gateway(self, status: Callable[[], GatewayStatus]) -> None:
        """Tell of a gateway."""

    def add_client(self, status: Callable[[], ClientStatus]) -> None:
        """Tell of a client."""


class _Page(Resource):
    """What can be read, and nothing else."""

    isLeaf = True

    def render(self, request: Request) -> bytes | int:
        """405 for all that is not reading."""
        if request.method in (b"GET", b"HEAD"):
            return cast("bytes | int", super().render(request))
        send_problem(request, Problem(405, "this takes GET and HEAD", headers=(("Allow", "GET, HEAD"),)))
        return server.NOT_DONE_YET


class HealthResource(_Page):
    """``/healthz``: whoever reads this knows all there is to know."""

    def render_GET(self, request: Request) -> bytes:
        return _answer(request, 200, "ok")


class ReadinessResource(_Page):
    """``/readyz``: 503 while it can't work."""

    def __init__(self, look: Look) -> None:
        super().__init__()
        self._look = look

    def render_GET(self, request: Request) -> bytes:
        ready, text = self._look()
        return _answer(request, 200 if ready else 503, text)


class MetricsResource(_Page):
    """``/metrics``."""

    def __init__(self, exposition: IExposition) -> None:
        super().__init__()
        self._exposition = exposition

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"content-type", self._exposition.content_type)
        return self._exposition.text()


def monitoring_resources(look: Look, exposition: IExposition | None) -> dict[str, Resource]:
    """
    What there is, by the paths' first segment.

    :param exposition: None where there are no metrics; then ``/metrics`` is not there.
    """
    found: dict[str, Resource] = {"healthz": HealthResource(), "readyz": ReadinessResource(look)}
    if exposition is not None:
        found["metrics"] = MetricsResource(exposition)
    return found


def monitoring_site(look: Look, exposition: IExposition | None) -> server.Site:
    """A site that serves nothing else."""
    root = Resource()
    for path, resource in monitoring_resources(look, exposition).items():
        root.putChild(path.encode(), resource)
    return _QuietSite(root, requestFactory=_Request, timeout=_IDLE_TIMEOUT)


class _Request(server.Request):
    """One whose body nobody wants: it is dropped as it comes."""

    def gotLength(self, length: int | None) -> None:
        super().gotLength(0)

    def handleContentChunk(self, data: bytes) -> None:
        pass


class _QuietSite(server.Site):
    """Logs no line for each of many requests that are all alike."""

    noisy = False
    protocol: Any = PacedChannel

    def log(self, request: Request) -> None:
        pass


def _answer(request: Request, status: int, text: str) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", _TEXT)
    request.setHeader(b"cache-control", b"no-store")
    return f"{text}\n".encode()
