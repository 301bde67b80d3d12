"""A gateway in memory, and clients that speak HTTP to it in bytes."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.uri import parse_all
from crew_tx.testing import CrewHarness
from crew_tx.web.access import Exposed
from crew_tx.web.limits import Limits
from crew_tx.web.service import Gateway

PORT = 8080
JSON = {"Content-Type": "application/json"}


class Answer(NamedTuple):
    """
    A response.

    :ivar headers: by their names in lower case.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        """Its body, as JSON."""
        return json.loads(self.body)


class Visitor(Protocol):
    """
    A client of HTTP.

    :ivar received: all bytes that have come and were not taken.
    :ivar is_gone: whether the connection has ended.
    """

    def __init__(self) -> None:
        self.received = b""
        self.is_gone = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.is_gone = True

    def answers(self) -> list[Answer]:
        """Take all whole responses that have come."""
        found = []
        while (answer := self._answer()) is not None:
            found.append(answer)
        return found

    def _answer(self) -> Answer | None:
        head, separator, rest = self.received.partition(b"\r\n\r\n")
        if not separator:
            return None
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return None
        self.received = rest[length:]
        return Answer(int(status.split()[1]), headers, rest[:length])


class Visits(ClientFactory):
    """Makes no noise about it."""

    noisy = False
    protocol: Any
    clientConnectionFailed: Any


class GatewayTestCase(SynchronousTestCase):
    """
    A test with a gateway, a broker and a worker in memory.

    :cvar tasks: what the worker has.
    :ivar limits: change them before :meth:`begin`.
    """

    tasks: tuple[Any, ...] = ()
    exposed = Exposed(("*",), ("*",))

    def begin(self, limits: Limits | None = None, **options: Any) -> Gateway:
        """Start it all; the options are :class:`Gateway`'s."""
        self.harness = CrewHarness(*self.tasks).install(self)
        exposed = options.pop("exposed", self.exposed)
        self.gateway = Gateway(
            self.harness.clock, parse_all(self.harness.url), exposed, limits=limits or Limits(), **options
        )
        self.gateway.startService()
        endpoint = serverFromString(self.harness.clock, f"tcp:{PORT}:interface=127.0.0.1")
        self.harness.result(self.gateway.listen(endpoint))
        self.addCleanup(self.end)
        self.visitors: list[Visitor] = []
        return self.gateway

    def end(self) -> None:
        """Stop the gateway, which has some seconds for that."""
        for visitor in self.visitors:
            if not visitor.is_gone:
                visitor.transport.abortConnection()  # type: ignore[union-attr,attr-defined]
        self.harness.flush()
        if self.gateway.running:
            stopped = self.gateway.stopService()
            self.harness.flush()
            self.harness.advance(5)
            self.harness.result(stopped)

    def visit(self) -> Visitor:
        """Connect one more client."""
        visitor = Visitor()
        factory = Visits()
        factory.protocol = lambda: visitor
        factory.clientConnectionFailed = lambda connector, reason: visitor.connectionLost()
        self.harness.clock.connectTCP("127.0.0.1", PORT, factory)
        self.harness.flush()
        self.visitors.append(visitor)
        return visitor

    def send(self, data: bytes, visitor: Visitor | None = None) -> Visitor:
        """Send bytes as they are."""
        visitor = visitor or self.visit()
        assert visitor.transport is not None
        visitor.transport.write(data)
        self.harness.flush()
        return visitor

    def begin_request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Visitor:
        """Send a request, and don't wait for its answer."""
        named = {"Host": f"127.0.0.1:{PORT}", **(headers or {})}
        if body or method == "POST":
            named.setdefault("Content-Length", str(len(body)))
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items()), "", ""]
        return self.send("\r\n".join(lines).encode() + body)

    def request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        """Send a request, and take its answer, which has to be there without any time going by."""
        (answer,) = self.begin_request(method, path, body, headers).answers()
        return answer

    def post(self, path: str, value: Any = None, **headers: str) -> Answer:
        """Post a value as JSON; the headers' names have ``_`` for ``-``."""
        return self.request("POST", path, json.dumps(value).encode(), self.named(headers))

    def get(self, path: str, **headers: str) -> Answer:
        """Get something."""
        return self.request(
            "GET", path, b"", {name.replace("_", "-"): each for name, each in headers.items()}
        )

    def named(self, headers: dict[str, str]) -> dict[str, str]:
        """Headers of a request with JSON."""
        return {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}

    def assert_problem(self, status: int, answer: Answer, *words: str) -> None:
        """Assert that an answer is a problem document, and that its detail has these words."""
        self.assertEqual(
            (status, "application/problem+json"), (answer.status, answer.headers["content-type"])
        )
        self.assertEqual(status, answer.value["status"])
        for word in words:
            self.assertIn(word, answer.value["detail"])
