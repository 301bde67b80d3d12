"""A site through the queue: what becomes of its requests."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterable
from typing import Any

from twisted.trial.unittest import SkipTest

import twisted
from crew_tx.codec import Encoded
from crew_tx.web.access import Exposed, allowed_hosts
from crew_tx.web.exchange import HTTPRequest
from crew_tx.web.limits import Limits
from crew_tx.web.wsgi import wsgi_task
from crew_tx.worker import Task
from tests.web.support import GatewayTestCase, Visitor
from tests.web.test_hostile import CREDENTIALS

Start = Callable[..., Callable[[bytes], None]]

SIZE = 256 * 1024
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Application:
    """
    A site.

    :ivar asked: methods and paths of the requests that it had.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.asked.append((environ["REQUEST_METHOD"], path))
        if path == "/large":
            start("200 OK", [])
            return [b"x" * SIZE]
        if path == "/split":
            start("200 OK", [("Content-Length", "1"), ("Connection", "x-own"), ("X-Own", "1")])
            return [b"12345"]
        if path == "/empty":
            start("204 No Content", [("Content-Length", "5"), ("X-Empty", "1")])
            return []
        if path.startswith("/length/"):
            start("200 OK", [("Content-Length", each) for each in path.split("/")[2:]])
            return [b"12345"]
        if path == "/own":
            start("299 Well Enough", [("Date", "then"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
            return [b""]
        seen = {name: value for name, value in environ.items() if isinstance(value, str) and name.isupper()}
        seen["body"] = environ["wsgi.input"].read().decode("latin-1")
        start("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(seen).encode()]


class SiteTestCase(GatewayTestCase):
    """A gateway that serves a site, and nothing else unless it is told so."""

    exposed = Exposed()

    def setUp(self) -> None:
        self.application = Application()
        self.site()

    def site(self, *, workers: int = 1, limits: Limits | None = None, **options: Any) -> None:
        self.begin(limits, site="shop", **options)
        self.serving = wsgi_task(self.application, "shop", SIZE)
        self.worker = self.harness.new_worker(self.serving.function) if workers else None


class RequestTests(SiteTestCase):
    """What an application is asked."""

    def test_every_path_is_the_applications(self) -> None:
        """The first one of all, and those that would be the gateway's."""
        for path in ("/", "/call/task", "/a/b/c", "/results/", "/%2e%2e/etc"):
            self.assertEqual(200, self.get(path).status, path)
        self.assertEqual(
            ["/", "/call/task", "/a/b/c", "/results/", "/../etc"], [p for _, p in self.application.asked]
        )

    def test_it_sees_the_request_as_it_came(self) -> None:
        """Path, query, headers and body."""
        answer = self.request("POST", "/a%20b?c=%20", b"name=x", {**FORM, "X-One": "1", "Cookie": "a=b"})
        seen = answer.value
        expected = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/a b",
            "QUERY_STRING": "c=%20",
            "CONTENT_TYPE": FORM["Content-Type"],
            "CONTENT_LENGTH": "6",
            "HTTP_X_ONE": "1",
            "HTTP_COOKIE": "a=b",
            "HTTP_HOST": "127.0.0.1:8080",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "body": "name=x",
        }
        self.assertEqual(expected, {name: seen.get(name) for name in expected})

    def test_other_names_and_other_sites_are_the_applications_matter(self) -> None:
        """It may be there for them."""
        headers = {
            **FORM,
            "Host": "shop.example",
            "Origin": "https://pay.example",
            "Sec-Fetch-Site": "cross-site",
        }
        self.assertEqual(200, self.request("POST", "/paid", b"a=b", headers).status)

    def test_what_is_no_path_is_not_asked_for(self) -> None:
        """A whole URL, or a host to connect to: that is for a proxy."""
        for target in ("http://evil.example/", "x/y", "evil.example:443"):
            self.assert_problem(400, self.get(target))
        self.assert_problem(400, self.request("CONNECT", "evil.example:443"))
        self.assertEqual([], self.application.asked)

    def test_other_methods(self) -> None:
        """One that has the form of a method is the application's; the others come to no worker."""
        self.assertEqual(200, self.request("VERSION-CONTROL", "/").status)
        for method in ("get", "CONNECT", "X" * 40, "G!T", "-GET"):
            answer = self.request(method, "/")
            self.assert_problem(501, answer)
            self.assertNotIn("server", answer.headers)
        self.assertEqual([("VERSION-CONTROL", "/")], self.application.asked)

    def test_what_is_of_the_connection_stays(self) -> None:
        """And what could be taken for something else."""
        headers = {"TE": "trailers", "X_Forwarded_For": "1.2.3.4", "Proxy-Authorization": "x", "X-A": "1"}
        seen = self.request("GET", "/", b"", headers).value
        names = {name for name in seen if name.startswith("HTTP_")}
        self.assertEqual({"HTTP_HOST", "HTTP_X_A"}, names)

    def test_a_client_can_not_hide_what_a_proxy_has_added(self) -> None:
        """By saying that it is of the connection, too."""
        headers = {"Connection": "keep-alive, X-Forwarded-For, Host", "X-Forwarded-For": "1.2.3.4"}
        seen = self.request("GET", "/", b"", headers).value
        self.assertEqual("1.2.3.4", seen.get("HTTP_X_FORWARDED_FOR"))
        self.assertEqual("127.0.0.1:8080", seen.get("HTTP_HOST"))
        self.assertNotIn("HTTP_CONNECTION", seen)

    def test_where_tasks_are_exposed_their_paths_are_the_gateways(self) -> None:
        """All others are the site's."""
        self.end()
        self.site(exposed=Exposed(("double",)))
        self.assert_problem(405, self.get("/call/double"))
        self.assertEqual(200, self.get("/").status)
        self.assertEqual([("GET", "/")], self.application.asked)

    def test_however_a_path_is_written_it_is_let_in_as_what_it_is_answered_by(self) -> None:
        """A site is for everybody, and the gateway's own paths are not."""
        self.end()
        self.site(exposed=Exposed(("double",)), credentials=CREDENTIALS, hosts=allowed_hosts([]))
        for path in ("/call/double", "/%63all/double", "/%63%61%6c%6C/double"):
            self.assert_problem(401, self.post(path, 1))
            self.assert_problem(421, self.post(path, 1, Host="evil.example"))
        self.assertEqual(200, self.get("/%2563all/double").status)
        self.assertEqual([("GET", "/%63all/double")], self.application.asked)


class ResponseTests(SiteTestCase):
    """What a client is answered."""

    def test_the_length_is_the_bodys(self) -> None:
        """Else the rest would be taken for the next response."""
        answer = self.get("/split")
        self.assertEqual(("5", b"12345"), (answer.headers["content-length"], answer.body))
        self.assertNotIn("x-own", answer.headers)

    def test_status_and_headers_are_the_applications(self) -> None:
        """With its own words, and each header as often as it said it."""
        visitor = self.begin_request("GET", "/own")
        received = visitor.received.decode()
        self.assertTrue(received.startswith("HTTP/1.1 299 Well Enough\r\n"), received)
        self.assertEqual(2, received.count("Set-Cookie: "))
        self.assertEqual(1, received.count("Date: "))
        for ours in ("X-Frame-Options", "Content-Security-Policy", "Server", "Cache-Control"):
            self.assertNotIn(ours, received)

    def test_a_response_without_a_body_has_none(self) -> None:
        """Nor a length of one."""
        answer = self.get("/empty")
        self.assertEqual((204, b"", "1"), (answer.status, answer.body, answer.headers["x-empty"]))
        self.assertNotIn("content-length", answer.headers)

    def test_a_head_request_has_the_head_alone(self) -> None:
        """With the length that the application told, if any."""
        visitor = self.begin_request("HEAD", "/split")
        head, _, body = visitor.received.partition(b"\r\n\r\n")
        self.assertEqual((True, b""), (b"Content-Length: 1" in head, body))

    def test_a_length_that_is_none_is_not_told(self) -> None:
        """Some client or proxy could take it for where the next response begins."""
        for path in ("/length/1/2", "/length/x", "/length/-1", "/length/1,1"):
            self.assertNotIn(b"content-length", self.begin_request("HEAD", path).received.lower(), path)
            self.assertEqual(b"12345", self.get(path).body)
        self.assertIn(b"Content-Length: 7\r\n", self.begin_request("HEAD", "/length/7/7").received)


class LimitTests(SiteTestCase):
    """What does not come to an answer of the application."""

    def test_a_request_that_is_too_large_is_413(self) -> None:
        """By its body, and by its body with its head."""
        self.end()
        self.site(limits=Limits(max_body=SIZE))
        self.assert_problem(413, self.request("POST", "/", b"x" * (SIZE + 1), FORM))
        self.assert_problem(413, self.request("POST", "/", b"x" * SIZE, FORM))
        self.assertEqual([], self.application.asked)

    def test_a_response_that_is_too_large_is_502(self) -> None:
        """And says why."""
        self.assert_problem(502, self.get("/large"), "larger than a message")

    def test_an_error_lets_go_of_the_body(self) -> None:
        """At once, and not when garbage is collected: there may be many, and they are large."""
        if twisted.version.major < 24:
            raise SkipTest("Deferreds of this Twisted keep the frames of errors until garbage is collected")
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        self.assert_problem(502, self.request("POST", "/large", b"x" * 100_000, FORM))
        large = [each for each in gc.get_objects() if isinstance(each, (HTTPRequest, Encoded))]
        self.assertEqual([], [len(each.body) for each in large if len(each.body) >= 100_000])

    def test_without_a_worker_it_is_503(self) -> None:
        """Whether there has never been one, or just not now."""
        assert self.worker is not None
        stopped = self.worker.stopService()
        self.harness.advance(30)
        self.harness.result(stopped)
        self.assert_problem(503, self.get("/"), "no worker serves this site")
        self.end()
        self.site(workers=0)
        self.assert_problem(503, self.get("/"), "no worker serves this site")

    def test_one_that_takes_too_long_is_504(self) -> None:
        """At the longest that anybody waits."""
        self.end()
        self.site(limits=Limits(max_wait=5))
        self.harness.hold("wsgi.shop")
        visitor = self.begin_request("GET", "/")
        self.harness.advance(4.9)
        self.assertEqual([], visitor.answers())
        self.harness.advance(0.2)
        (answer,) = visitor.answers()
        self.assert_problem(504, answer)

    def test_an_answer_that_is_no_response_is_502(self) -> None:
        """Whoever gave it."""
        assert self.worker is not None
        stopped = self.worker.stopService()
        self.harness.advance(30)
        self.harness.result(stopped)

        @Task("wsgi.shop")
        def odd(request: Any) -> Any:
            """Not what it should be."""
            return {"status": 200, "more": False}

        self.harness.new_worker(odd)
        self.assert_problem(502, self.get("/"))


class FaultTests(SiteTestCase):
    """Clients and brokers that go while the application is at it."""

    def begin_held(self, method: str) -> Visitor:
        """A request that the application has, and does not answer."""
        self.harness.hold("wsgi.shop")
        visitor = self.begin_request(method, "/", b"a=b" if method == "POST" else b"", FORM)
        assert self.worker is not None
        self.assertEqual(1, self.worker.status().in_progress)
        return visitor

    def leave(self, visitor: Visitor) -> int:
        """A client goes. :returns: how many requests the application is at then."""
        assert visitor.transport is not None and self.worker is not None
        visitor.transport.abortConnection()  # type: ignore[attr-defined]
        self.harness.flush()
        return self.worker.status().in_progress

    def test_what_changes_nothing_ends_with_its_client(self) -> None:
        """Nobody would read it."""
        self.assertEqual(0, self.leave(self.begin_held("GET")))

    def test_what_may_change_something_goes_on(self) -> None:
        """Half of it may be done."""
        self.assertEqual(1, self.leave(self.begin_held("POST")))
        self.harness.release()
        self.assertEqual([("POST", "/")], self.application.asked)

    def test_and_counts_as_a_request_until_then(self) -> None:
        """Else clients that go at once could have any number of them under way."""
        self.end()
        self.site(limits=Limits(max_client_requests=1))
        self.leave(self.begin_held("POST"))
        self.assert_problem(429, self.request("POST", "/", b"a=b", FORM))
        self.harness.release()
        self.assertEqual(200, self.request("POST", "/", b"a=b", FORM).status)
        self.leave(self.begin_held("GET"))
        self.assertEqual(0, self.gateway.site.admission.total)

    def test_a_gateway_that_stops_waits_for_it(self) -> None:
        """As for those whose clients are there."""
        self.leave(self.begin_held("POST"))
        stopped = self.gateway.stopService()
        self.harness.advance(5)
        self.assertNoResult(stopped)
        self.harness.release()
        self.harness.advance(1.1)
        self.successResultOf(stopped)
        self.assertEqual([("POST", "/")], self.application.asked)

    def test_over_a_restart_of_the_broker_what_changes_nothing_is_asked_again(self) -> None:
        """The client has its answer."""
        visitor = self.begin_held("GET")
        self.harness.broker.restart()
        self.harness.release()
        self.harness.advance(10)
        (answer,) = visitor.answers()
        self.assertEqual(200, answer.status)

    def test_over_a_restart_of_the_broker_what_may_change_something_is_asked_once(self) -> None:
        """And its answer comes as well."""
        visitor = self.begin_held("POST")
        self.harness.broker.restart()
        self.harness.release()
        self.harness.advance(10)
        (answer,) = visitor.answers()
        self.assertEqual((200, [("POST", "/")]), (answer.status, self.application.asked))

    def test_a_worker_that_drains_answers_what_it_has(self) -> None:
        """And another one the rest."""
        visitor = self.begin_held("GET")
        other = self.harness.new_worker(self.serving.function)
        assert self.worker is not None
        stopped = self.worker.stopService()
        self.harness.release()
        self.harness.result(stopped)
        self.assertEqual([200], [answer.status for answer in visitor.answers()])
        self.assertEqual(200, self.get("/").status)
        self.assertEqual(1, other.status().processed)
