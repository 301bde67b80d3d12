"""What those who watch a process are answered."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.web.monitoring import monitoring_site
from tests.web.asking import ask


class Exposition:
    """Metrics, as they would be."""

    content_type = b"text/plain; version=0.0.4"

    def text(self) -> bytes:
        return b"crew_worker_connected 1.0\n"


class MonitoringTests(SynchronousTestCase):
    """A site with the three of them."""

    def setUp(self) -> None:
        self.health = (True, "consumes")
        self.site = monitoring_site(lambda: self.health, Exposition())

    def test_a_process_that_answers_is_alive(self) -> None:
        """Whatever else is wrong with it."""
        self.health = (False, "no connection")
        answer = ask(self.site, "/healthz")
        self.assertEqual((200, b"ok\n"), (answer.status, answer.body))

    def test_it_is_ready_while_it_is_well(self) -> None:
        """And says how it is."""
        answer = ask(self.site, "/readyz")
        self.assertEqual((200, b"consumes\n"), (answer.status, answer.body))
        self.health = (False, "no connection to amqp://h")
        answer = ask(self.site, "/readyz")
        self.assertEqual((503, b"no connection to amqp://h\n"), (answer.status, answer.body))
        self.assertEqual("no-store", answer.headers["cache-control"])

    def test_metrics_are_the_expositions(self) -> None:
        """With its content type."""
        answer = ask(self.site, "/metrics")
        self.assertEqual((200, b"crew_worker_connected 1.0\n"), (answer.status, answer.body))
        self.assertEqual("text/plain; version=0.0.4", answer.headers["content-type"])

    def test_without_an_exposition_there_are_no_metrics(self) -> None:
        """The others are there."""
        site = monitoring_site(lambda: self.health, None)
        self.assertEqual([404, 200], [ask(site, "/metrics").status, ask(site, "/healthz").status])

    def test_nothing_else_is_there_and_nothing_can_be_changed(self) -> None:
        """404, and 405."""
        self.assertEqual(404, ask(self.site, "/").status)
        self.assertEqual(405, ask(self.site, "/metrics", "POST").status)


class UnfriendlyTests(SynchronousTestCase):
    """Clients that send what nobody wants, or don't read."""

    def setUp(self) -> None:
        site = monitoring_site(lambda: (True, "consumes"), Exposition())
        site.startFactory()
        self.addCleanup(site.stopFactory)
        self.channel: Any = site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 50_000))
        self.channel.callLater = Clock().callLater
        self.transport = StringTransport()
        self.channel.makeConnection(self.transport)

    def test_a_body_is_kept_nowhere(self) -> None:
        """However long it is: else it would be in a file."""
        self.channel.dataReceived(
            b"POST /metrics HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        self.channel.dataReceived(b"30d40\r\n" + b"x" * 200_000 + b"\r\n")
        (request,) = self.channel.requests
        self.assertIsInstance(request.content, BytesIO)
        self.assertEqual(b"", request.content.read())
        self.channel.dataReceived(b"0\r\n\r\n")
        self.assertIn(b"405", self.transport.value())

    def test_answers_that_are_not_read_are_not_made(self) -> None:
        """Each waits until those before it are read."""
        self.channel.pauseProducing()
        self.channel.dataReceived(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n" * 9)
        self.assertEqual(1, self.transport.value().count(b"200 OK"))
        self.channel.resumeProducing()
        self.assertEqual(9, self.transport.value().count(b"200 OK"))
