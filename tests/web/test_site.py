"""The parts of a gateway."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.web.resource import Resource

from crew_tx.web.channel import LINGER
from crew_tx.web.responses import Endpoint
from crew_tx.web.site import Part
from tests.web import tasks
from tests.web.support import JSON, GatewayTestCase
from tests.web.test_hostile import BEARER, CREDENTIALS


class Plain(Resource):
    """Says where it is."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        """Its text."""
        return b"plain"


class Broken(Resource):
    """A mistake."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        """Raise."""
        raise LookupError("rabbit")


class EndpointTests(GatewayTestCase):
    """Coroutines that answer."""

    def test_one_that_is_cancelled_by_itself_is_answered(self) -> None:
        """A client that is there is never left without a word."""
        self.begin()
        never: Deferred[Any] = Deferred()

        async def wait(request: Any) -> Any:
            return await never

        self.gateway.site.add(Part("never", Endpoint({b"GET": wait})))
        visitor = self.begin_request("GET", "/never")
        never.cancel()
        self.harness.flush()
        (answer,) = visitor.answers()
        self.assert_problem(500, answer)
        self.assertEqual(1, len(self.flushLoggedErrors(CancelledError)))


class PartTests(GatewayTestCase):
    """What is served under a path."""

    def test_a_part_can_be_added(self) -> None:
        """By one line; the headers are the gateway's."""
        self.begin(credentials=CREDENTIALS)
        self.gateway.site.add(Part("plain", Plain()))
        self.assert_problem(401, self.get("/plain"))
        for path in ("/plain", "/plain/more?x=y"):
            answer = self.get(path, Authorization=BEARER)
            self.assertEqual(b"plain", answer.body)
            self.assertEqual("nosniff", answer.headers["x-content-type-options"])

    def test_an_open_part_is_for_everybody(self) -> None:
        """And only that."""
        self.begin(credentials=CREDENTIALS)
        self.gateway.site.add(Part("plain", Plain(), is_open=True))
        for path in ("/plain", "/%70lain"):
            self.assertEqual(b"plain", self.get(path).body)
        for path in ("/plainz", "/x/plain", "//plain", "/plain%2F..", "/%2570lain"):
            self.assert_problem(401, self.get(path))

    def test_a_foreign_part_has_its_own_headers(self) -> None:
        """None of the gateway's are in its way."""
        self.begin()
        self.gateway.site.add(Part("app", Plain(), is_foreign=True))
        self.assertNotIn("content-security-policy", self.get("/app").headers)

    def test_what_is_there_is_not_replaced(self) -> None:
        """The first one counts."""
        self.begin()
        self.gateway.site.add(Part("call", Plain()))
        self.assertEqual(405, self.get("/call/echo").status)

    def test_a_mistake_of_a_part_is_500_and_logged(self) -> None:
        """The client learns nothing of it."""
        self.begin()
        self.gateway.site.add(Part("broken", Broken()))
        answer = self.get("/broken")
        self.assert_problem(500, answer, "its log has more")
        self.assertNotIn(b"rabbit", answer.body)
        self.assertEqual(1, len(self.flushLoggedErrors(LookupError)))
        self.assertEqual(0, self.gateway.site.admission.total)


class StopTests(GatewayTestCase):
    """What connections are told when the gateway stops."""

    tasks = tasks.ALL

    def test_the_last_response_of_a_connection_says_so(self) -> None:
        """Else its client would ask once more, of nobody."""
        self.begin()
        self.harness.hold("echo")
        visitor = self.begin_request("POST", "/call/echo", b"1", JSON)
        self.gateway.stopService()
        self.harness.release()
        (answer,) = visitor.answers()
        self.assertEqual((200, "close"), (answer.status, answer.headers["connection"]))
        self.assertTrue(visitor.is_gone)
        self.harness.advance(2)

    def test_so_does_that_to_a_request_that_was_on_its_way(self) -> None:
        """Its head had begun to come."""
        self.begin()
        visitor = self.send(b"GET / HTTP/1.1\r\n")
        self.gateway.stopService()
        self.send(b"Host: 127.0.0.1\r\n\r\n" * 2, visitor)
        (answer,) = visitor.answers()
        self.assertEqual((200, "close"), (answer.status, answer.headers["connection"]))
        self.assertTrue(visitor.is_gone)
        self.harness.advance(2)

    def test_so_does_that_to_one_that_was_sent_when_it_stopped(self) -> None:
        """On a connection that was kept; a moment later it is closed."""
        self.begin()
        visitor, silent = self.visit(), self.visit()
        stopped = self.gateway.stopService()
        self.harness.advance(LINGER / 2)
        self.send(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n", visitor)
        self.harness.advance(LINGER)
        self.assertEqual([False, True], [each.is_gone for each in (visitor, silent)])
        self.send(b"\r\n", visitor)
        (answer,) = visitor.answers()
        self.assertEqual((200, "close"), (answer.status, answer.headers["connection"]))
        self.harness.result(stopped)

    def test_an_answer_is_read_to_its_end(self) -> None:
        """In the time that requests have."""
        self.begin()
        body = b'"%s"' % (b"x" * 500_000)
        visitor = self.visit()
        visitor.transport.pauseProducing()  # type: ignore[union-attr,attr-defined]
        head = b"POST /call/echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        self.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body, visitor)
        stopped = self.gateway.stopService()
        self.harness.advance(5)
        self.assertNoResult(stopped)
        visitor.transport.resumeProducing()  # type: ignore[union-attr,attr-defined]
        self.harness.flush()
        (answer,) = visitor.answers()
        self.assertEqual(body, answer.body)
        self.harness.result(stopped)
