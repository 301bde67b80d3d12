"""HTTP as nobody should speak it, byte by byte, and what the gateway says to it."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode

from twisted.logger import capturedLogs

from crew_tx.web.access import Credentials, Exposed, allowed_hosts
from crew_tx.web.channel import LINGER
from crew_tx.web.limits import Limits
from tests.web import tasks
from tests.web.support import JSON, GatewayTestCase, Visitor

HOST = b"Host: 127.0.0.1\r\n"
POST = b"POST /call/echo HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
TOKEN, PASSWORD = "follow-the-white-rabbit", "knock-knock-neo-knock"


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


CREDENTIALS = Credentials(
    {"neo": digest(TOKEN), "smith": digest("me-me-me-me-me-me")}, {"trinity": digest(PASSWORD)}
)
BEARER = f"Bearer {TOKEN}"


class HostileTestCase(GatewayTestCase):
    """What these tests ask."""

    tasks = tasks.ALL

    def assert_refused(self, visitor: Visitor, status: int) -> None:
        """Assert that it had one answer, and that its connection is closed soon after."""
        self.assertTrue(visitor.received.startswith(b"HTTP/1.1 %d " % status), visitor.received[:100])
        self.harness.advance(LINGER + 0.1)
        self.assertTrue(visitor.is_gone)
        self.assert_goes_on()

    def assert_goes_on(self) -> None:
        """Assert that others are served."""
        self.assertEqual(5, self.post("/call/echo", 5).value)
        self.assertEqual(0, self.gateway.site.admission.total)


class SizeTests(HostileTestCase):
    """Too much of anything."""

    def test_a_body_that_says_it_is_too_large_is_not_read(self) -> None:
        """The answer comes before it."""
        self.begin(Limits(max_body=1000))
        self.assert_refused(self.send(POST + b"Content-Length: 1001\r\n\r\n"), 413)

    def test_nor_is_it_told_to_go_on(self) -> None:
        """Where it asked first."""
        self.begin(Limits(max_body=1000))
        visitor = self.send(POST + b"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
        self.assertNotIn(b"100 Continue", visitor.received)
        self.assert_refused(visitor, 413)

    def test_one_that_may_come_is_told_to_go_on(self) -> None:
        """And is answered."""
        self.begin()
        visitor = self.send(POST + b"Content-Length: 1\r\nExpect: 100-continue\r\n\r\n")
        self.assertEqual(b"HTTP/1.1 100 Continue\r\n\r\n", visitor.received)
        self.send(b"7", visitor)
        self.assertIn(b"200 OK", visitor.received)

    def test_a_body_that_turns_out_to_be_too_large_is_read_no_further(self) -> None:
        """It comes in chunks, and does not say how long it is."""
        self.begin(Limits(max_body=1000))
        visitor = self.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        self.send(b"258\r\n" + b"1" * 600 + b"\r\n", visitor)
        self.assertEqual(b"", visitor.received)
        self.send(b"258\r\n" + b"1" * 600 + b"\r\n", visitor)
        self.assert_refused(visitor, 413)

    def test_what_comes_after_a_refusal_is_dropped(self) -> None:
        """A request that hides in it is none."""
        self.begin(Limits(max_body=1000))
        visitor = self.send(POST + b"Content-Length: 2000\r\n\r\n" + POST + b"Content-Length: 1\r\n\r\n1" * 9)
        self.assertEqual(1, visitor.received.count(b"HTTP/1.1"))
        self.assert_refused(visitor, 413)

    def test_nor_does_its_end_keep_the_connection(self) -> None:
        """A body that comes in one piece with a head that is refused."""
        self.begin(Limits(max_body=1000))
        self.assert_refused(self.send(POST + b"Content-Length: 1001\r\n\r\n" + b"1" * 1001), 413)
        chunk = b"3e9\r\n" + b"1" * 1001 + b"\r\n0\r\n\r\n"
        self.assert_refused(self.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk), 413)
        self.assert_refused(
            self.send(b"GET /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\n1"), 413
        )

    def test_a_head_that_is_too_long_is_refused(self) -> None:
        """Its line, one header, all headers, or their number."""
        self.begin()
        for head in (
            b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n" + HOST,
            b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 20_000 + b"\r\n",
            b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X%d: %s\r\n" % (n, b"x" * 900) for n in range(20)),
            b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X%d: 1\r\n" % n for n in range(101)),
        ):
            visitor = self.send(head + b"\r\n")
            self.assertNotIn(b"200", visitor.received[:20])
            self.harness.advance(20)
            self.assertTrue(visitor.is_gone, (head[:60], visitor.received))
        self.assert_goes_on()

    def test_a_deep_body_is_422(self) -> None:
        """And ends nothing."""
        self.begin()
        deep = b"[" * 100_000
        self.assert_problem(422, self.request("POST", "/call/echo", deep, JSON), "deep")
        head = self.begin_request("POST", "/call/echo", deep, JSON).received
        self.assertTrue(head.startswith(b"HTTP/1.1 422 Unprocessable "), head[:60])
        deep = b"\x81" * 100_000
        self.assert_problem(
            422, self.request("POST", "/call/echo", deep, {"Content-Type": "application/cbor"})
        )
        self.assert_goes_on()

    def test_there_are_so_many_connections(self) -> None:
        """Further ones are closed as they come."""
        self.begin(Limits(max_connections=2))
        first, second, third = (self.visit() for _ in range(3))
        self.assertEqual([False, False, True], [each.is_gone for each in (first, second, third)])
        first.transport.loseConnection()  # type: ignore[union-attr]
        second.transport.loseConnection()  # type: ignore[union-attr]
        self.harness.flush()
        self.assert_goes_on()

    def test_that_they_are_too_many_is_said_once(self) -> None:
        """While they come and go, and again where there was room in between."""
        self.begin(Limits(max_connections=20))
        held = [self.visit() for _ in range(20)]
        with capturedLogs() as logs:
            for _ in range(5):
                self.assertTrue(self.visit().is_gone)
                held.pop().transport.loseConnection()  # type: ignore[union-attr]
                self.harness.flush()
                held.append(self.visit())
            self.assertEqual(1, len(logs))
            for visitor in held[:5]:
                visitor.transport.loseConnection()  # type: ignore[union-attr]
            self.harness.flush()
            for _ in range(6):
                self.visit()
        self.assertEqual(2, len(logs))

    def test_there_are_so_many_requests(self) -> None:
        """Of one client, and of all."""
        for limits, status in ((Limits(max_client_requests=2), 429), (Limits(max_requests=2), 503)):
            self.begin(limits)
            self.harness.hold("echo")
            waiting = [self.begin_request("POST", "/call/echo", b"1", JSON) for _ in range(2)]
            answer = self.post("/call/echo", 1)
            self.assert_problem(status, answer)
            self.assertEqual("1", answer.headers["retry-after"])
            self.harness.release()
            self.assertEqual([200, 200], [each.answers()[0].status for each in waiting])
            self.assert_goes_on()
            self.end()


class SlowTests(HostileTestCase):
    """Clients that take their time."""

    def drip(self, data: bytes, seconds: float) -> Visitor:
        """Send a byte a second."""
        visitor = self.visit()
        for at in range(int(seconds)):
            if visitor.is_gone:
                break
            self.send(data[at : at + 1], visitor)
            self.harness.advance(1)
        return visitor

    def test_a_head_that_does_not_come_in_time(self) -> None:
        """However regularly its bytes come."""
        self.begin(Limits(read_timeout=20))
        visitor = self.drip(b"GET / HTTP/1.1\r\nX: " + b"x" * 100, 19)
        self.assertEqual(b"", visitor.received)
        self.assert_refused(self.drip(b"GET / HTTP/1.1\r\nX: " + b"x" * 100, 21), 408)

    def test_what_comes_after_the_time_is_dropped(self) -> None:
        """It is not taken for the rest of the request, nor for another one."""
        self.begin(Limits(read_timeout=20))
        visitor = self.send(POST)
        self.harness.advance(20)
        self.send(b"Content-Length: 1\r\n\r\n1" + POST + b"Content-Length: 1\r\n\r\n2", visitor)
        self.assertEqual(0, self.gateway.client.status().calls)
        self.assertEqual(1, visitor.received.count(b"HTTP/1.1"))
        self.assert_refused(visitor, 408)

    def test_a_body_that_does_not_come_in_time(self) -> None:
        """The time is that of the whole request."""
        self.begin(Limits(read_timeout=20))
        visitor = self.send(POST + b"Content-Length: 100\r\n\r\n")
        for _ in range(21):
            self.send(b"1", visitor) if not visitor.is_gone else None
            self.harness.advance(1)
        self.assertTrue(visitor.received.startswith(b"HTTP/1.1 408 "))
        self.assert_goes_on()

    def test_nothing_at_all(self) -> None:
        """Is closed without a word, also between two requests."""
        self.begin(Limits(read_timeout=20))
        silent, kept = self.visit(), self.begin_request("GET", "/")
        self.assertEqual(200, kept.answers()[0].status)
        self.harness.advance(21)
        self.assertEqual(
            [(True, b""), (True, b"")], [(each.is_gone, each.received) for each in (silent, kept)]
        )

    def test_an_answer_that_is_not_read(self) -> None:
        """Is dropped after twice the time, and its connection with it."""
        self.begin(Limits(read_timeout=20))
        visitor = self.visit()
        visitor.transport.pauseProducing()  # type: ignore[union-attr,attr-defined]
        body = b'"%s"' % (b"x" * 500_000)
        self.send(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body, visitor)
        self.assertEqual(1, len(self.gateway.site.connections))
        self.harness.advance(39)
        self.assertEqual(1, len(self.gateway.site.connections))
        self.harness.advance(2)
        self.assertEqual(0, len(self.gateway.site.connections))

    def test_answers_that_are_not_read_are_not_made(self) -> None:
        """However many are asked for, and in how many pieces: they wait for those before them."""
        self.begin()
        page = self.get("/status/page.js").body
        visitor = self.visit()
        visitor.transport.pauseProducing()  # type: ignore[union-attr,attr-defined]
        for _ in range(20):
            self.send((b"GET /status/page.js HTTP/1.1\r\n" + HOST + b"\r\n") * 10, visitor)
        self.assertLess(self.harness.clock.wires[-1].server.waiting, 100_000)
        visitor.transport.resumeProducing()  # type: ignore[union-attr,attr-defined]
        self.harness.flush()
        self.assertEqual([page] * 200, [answer.body for answer in visitor.answers()])

    def test_an_unread_one_is_the_last(self) -> None:
        """Where it is not read in time, the requests behind it are dropped with it."""
        self.begin(Limits(read_timeout=20))
        visitor = self.visit()
        visitor.transport.pauseProducing()  # type: ignore[union-attr,attr-defined]
        body = b'"%s"' % (b"x" * 500_000)
        self.send((POST + b"Content-Length: %d\r\n\r\n" % len(body) + body) * 2, visitor)
        self.harness.advance(41)
        self.assertEqual(1, self.gateway.client.status().calls)
        self.assertEqual(0, len(self.gateway.site.connections))

    def test_what_is_sent_behind_an_unread_stream_is_not_kept(self) -> None:
        """It stays on the client's side of the connection."""
        self.begin()
        visitor = self.visit()
        self.send(b"GET /subscribe/a HTTP/1.1\r\n" + HOST + b"Accept: text/event-stream\r\n\r\n", visitor)
        visitor.transport.pauseProducing()  # type: ignore[union-attr,attr-defined]
        self.harness.result(self.harness.client.publish("a", "x" * 100_000))
        for _ in range(100):
            self.send(b"x" * 10_000, visitor)
        self.assertGreater(visitor.transport.waiting, 900_000)  # type: ignore[union-attr,attr-defined]

    def test_an_answer_may_take_longer(self) -> None:
        """Only what the client does is timed."""
        self.begin(Limits(read_timeout=20))
        self.harness.hold("echo")
        visitor = self.begin_request("POST", "/call/echo", b"1", JSON)
        self.harness.advance(50)
        self.harness.release()
        self.assertEqual(200, visitor.answers()[0].status)


class MalformedTests(HostileTestCase):
    """What is no HTTP, or not quite."""

    def test_what_can_not_be_read_is_400_and_the_end(self) -> None:
        """There is no saying where the next request would begin."""
        self.begin()
        for data in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nBad Name : x\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n",
            POST + b"Content-Length: -1\r\n\r\n1",
            POST + b"Content-Length: +1\r\n\r\n1",
            POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n12",
            POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            POST + b"Transfer-Encoding: gzip\r\n\r\n1",
            POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n1\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
            b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        ):
            visitor = self.send(data)
            self.assertTrue(visitor.received.startswith(b"HTTP/1.1 400 "), (data, visitor.received[:60]))
            self.assertEqual(1, visitor.received.count(b"HTTP/1.1"), data)
            visitor.transport.abortConnection()  # type: ignore[union-attr,attr-defined]
            self.harness.flush()
        self.assert_goes_on()

    def test_headers_that_are_no_utf_8_are_answered(self) -> None:
        """As any other that says nothing that counts."""
        self.begin(credentials=CREDENTIALS)
        post = b"POST /call/echo HTTP/1.1\r\nContent-Length: 1\r\n"
        known = b"Authorization: " + BEARER.encode() + b"\r\n"
        for status, head in (
            (400, b"Host: \xff\xfe\r\n"),
            (401, HOST + b"Authorization: Bearer \xff\r\n"),
            (401, HOST + b"Authorization: Basic \xff\r\n"),
            (403, HOST + known + b"Origin: http://\xff\r\n"),
            (415, HOST + known + b"Content-Type: \xff/json\r\n"),
            (406, HOST + known + b"Content-Type: application/json\r\nAccept: \xff\r\n"),
        ):
            (answer,) = self.send(post + head + b"\r\n1").answers()
            self.assert_problem(status, answer)

    def test_pipelined_requests_are_answered_in_order(self) -> None:
        """One after the other, however they came."""
        self.begin()
        one = b"".join(POST + b"Content-Length: 1\r\n\r\n%d" % number for number in range(9))
        visitor = self.send(one)
        self.assertEqual(list(range(9)), [answer.value for answer in visitor.answers()])

    def test_one_that_goes_away_in_a_pipeline_leaves_nothing(self) -> None:
        """No call of it goes on."""
        self.begin()
        self.harness.hold("echo")
        visitor = self.send((POST + b"Content-Length: 1\r\n\r\n1") * 9)
        self.assertEqual(1, self.gateway.client.status().pending)
        visitor.transport.abortConnection()  # type: ignore[union-attr,attr-defined]
        self.harness.flush()
        self.assertEqual(0, self.gateway.client.status().pending)
        self.harness.release()
        self.assert_goes_on()

    def test_old_and_odd_versions(self) -> None:
        """HTTP/1.0 is answered, and its connection closed."""
        self.begin()
        visitor = self.send(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n")
        self.assertIn(b"200", visitor.received[:20])
        self.assertTrue(visitor.is_gone)

    def test_other_methods(self) -> None:
        """Each is told what there is."""
        self.begin()
        for method in ("PUT", "TRACE", "CONNECT", "OPTIONS", "PROPFIND", "get"):
            self.assertIn(self.request(method, "/call/echo").status, (404, 405), method)
        self.assertEqual((200, b""), self.request("OPTIONS", "*")[::2])
        self.assert_goes_on()


class NameTests(HostileTestCase):
    """Tricks with the names of tasks and channels."""

    def test_paths_have_no_meaning_of_their_own(self) -> None:
        """What names nothing that is exposed is 404."""
        self.begin(exposed=Exposed(("echo",), ("news",)))
        for name in (
            "", "/", "echo/", "echo/x", "./echo", "../call/echo", "%2e%2e", "%2e%2e%2fcall%2fecho", "echo%00",
            "%00", "echo%2F", "%2Fecho", "echo%0d%0aX:%20y", "ech%C0%AF", "%FF", "%ED%A0%80", "ECHO",
            "echo%20", "%E2%80%AEecho", "echo;x", "@echo", "echo%23", "*", "%2A", "e%63ho%7F", "x" * 3000,
        ):  # fmt: skip
            self.assert_problem(404, self.post(f"/call/{name}", 1))
            self.assert_problem(404, self.post(f"/publish/{name}", 1))
            self.assert_problem(404, self.get(f"/subscribe/{name}?timeout=0"))
        self.assertEqual(1, self.post("/call/e%63ho", 1).value)
        self.assertEqual(0, len(self.gateway.channels))

    def test_names_may_have_slashes_and_letters_of_any_kind(self) -> None:
        """Written as a path has them."""
        self.begin(exposed=Exposed(("a/b", "größe")))
        # Nobody has declared them: that is 404 as well, but asked of the broker.
        for name in ("a%2Fb", "gr%C3%B6%C3%9Fe"):
            self.assert_problem(404, self.post(f"/call/{name}", 1))
        self.assertEqual(2, self.gateway.client.status().calls)

    def test_a_query_can_not_be_read(self) -> None:
        """Then it is 400."""
        self.begin()
        many = "&".join(f"a{number}=1" for number in range(50))
        for text in ("priority=%FF", many, "x=\xff"):
            visitor = self.send(
                f"POST /call/echo?{text} HTTP/1.1\r\n".encode("latin-1")
                + POST[26:]
                + b"Content-Length: 1\r\n\r\n1"
            )
            self.assertIn(b" 400 ", visitor.received[:20])


class BrowserTests(HostileTestCase):
    """What a page of another site would have a browser do."""

    def test_a_host_of_another_name_is_refused(self) -> None:
        """A name that somebody has pointed here."""
        self.begin(hosts=allowed_hosts(["crew.local"]))
        for host in (
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8080",
            "[::2]",
            "127.0.0.2",
        ):
            self.assert_problem(421, self.get("/", Host=host))
        for host in ("127.0.0.1", "localhost:8080", "LOCALHOST", "[::1]:80", "crew.local:99"):
            self.assertEqual(200, self.get("/", Host=host).status, host)

    def test_other_origins_change_nothing(self) -> None:
        """Even with the right content type, which they may not send without asking."""
        self.begin()
        for origin in ("http://evil.example", "null", "http://127.0.0.1:81", "http://[::1"):
            self.assert_problem(403, self.post("/call/echo", 1, Origin=origin))
        self.assert_problem(403, self.post("/call/echo", 1, Sec_Fetch_Site="cross-site"))
        self.assertEqual(1, self.post("/call/echo", 1, Origin="http://127.0.0.1:8080").value)
        self.assertEqual(1, self.post("/call/echo", 1, Sec_Fetch_Site="same-origin").value)

    def test_they_are_not_let_in_by_asking_first(self) -> None:
        """No answer to a preflight allows anything."""
        self.begin()
        asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        answer = self.request("OPTIONS", "/call/echo", headers=asked)
        self.assertEqual(405, answer.status)
        self.assertFalse([name for name in answer.headers if name.startswith("access-control")])


class CredentialTests(HostileTestCase):
    """Who may ask."""

    def begin_with(self, **options: object) -> None:
        self.begin(credentials=CREDENTIALS, **options)

    def test_a_credential_is_asked_for(self) -> None:
        """By both schemes; before anything is said about what there is."""
        self.begin_with()
        for answer in (self.get("/"), self.get("/nothing"), self.post("/call/echo", 1)):
            self.assert_problem(401, answer)
            self.assertIn("realm", answer.headers["www-authenticate"])

    def test_wrong_ones_are_none(self) -> None:
        """Whatever is wrong with them."""
        self.begin_with()
        basic = [
            b64encode(text).decode()
            for text in (b"trinity", b"trinity:", b"trinity:x", b"a:\xff", b"neo:" + TOKEN.encode())
        ]
        wrong = ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", TOKEN, f"Basic {TOKEN}", "Bearer " + "x" * 9000]
        for authorization in (
            *wrong,
            *(f"Basic {each}" for each in basic),
            "Basic ===",
            f"Bearer {PASSWORD}",
        ):
            self.assertEqual(401, self.get("/", Authorization=authorization).status, authorization[:50])

    def test_right_ones_let_in(self) -> None:
        """A token, or a name with a password."""
        self.begin_with()
        basic = b64encode(f"trinity:{PASSWORD}".encode()).decode()
        for authorization in (BEARER, f"bearer {TOKEN}", f"Basic {basic}"):
            self.assertEqual(1, self.post("/call/echo", 1, Authorization=authorization).value)

    def test_a_body_is_not_read_from_strangers(self) -> None:
        """They are told before it comes."""
        self.begin_with()
        visitor = self.send(POST + b"Content-Length: 100\r\n\r\n")
        self.assertTrue(visitor.received.startswith(b"HTTP/1.1 401 "))
        self.assertIn(b"WWW-Authenticate: Bearer", visitor.received)
        self.harness.advance(LINGER + 0.1)
        self.assertTrue(visitor.is_gone)

    def test_two_at_once_are_none(self) -> None:
        """Others may have read the other one."""
        self.begin_with()
        head = b"GET / HTTP/1.1\r\n" + HOST + b"Authorization: Bearer x\r\nAuthorization: " + BEARER.encode()
        self.assertIn(b" 401 ", self.send(head + b"\r\n\r\n").received[:20])

    def test_a_result_is_its_owners(self) -> None:
        """To others there is none of that name."""
        self.begin_with()
        answer = self.post("/call/echo", 1, Prefer="respond-async", Authorization=BEARER)
        location = json.loads(answer.body)["location"]
        other = "Bearer me-me-me-me-me-me"
        self.assert_problem(404, self.get(location, Authorization=other))
        self.assert_problem(404, self.request("DELETE", location, headers={"Authorization": other}))
        self.assertEqual(1, self.get(location, Authorization=BEARER).value)

    def test_with_a_token_any_content_type_is_json_to_celerys_paths(self) -> None:
        """As its documented curl sends it; a browser's password does not do."""
        self.begin_with()
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = self.request("POST", "/apply/echo/", b'{"args":[2]}', {**form, "Authorization": BEARER})
        self.assertEqual(2, answer.value["result"])
        basic = "Basic " + b64encode(f"trinity:{PASSWORD}".encode()).decode()
        answer = self.request("POST", "/apply/echo/", b'{"args":[2]}', {**form, "Authorization": basic})
        self.assert_problem(415, answer)
