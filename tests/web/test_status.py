"""The status page's files, who may look, and orders."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

from crew_tx.web.access import Credentials, read_credentials
from crew_tx.web.operators import TOKEN, Operators
from tests.web import tasks
from tests.web.support import JSON, Answer, GatewayTestCase

SECRET = "follow-the-white-rabbit"
CREDENTIALS = Credentials(
    read_credentials(f"op:{SECRET}\nguest:knock-knock-neo-0000\n", "tokens"),
    read_credentials(f"op:{SECRET}\n", "users"),
)
OPERATOR = {"Authorization": f"Bearer {SECRET}"}
GUEST = {"Authorization": "Bearer knock-knock-neo-0000"}
BASIC = {"Authorization": f"Basic {b64encode(f'op:{SECRET}'.encode()).decode()}"}
NO_WORKER = f"worker-{'0' * 32}"


class PageTests(GatewayTestCase):
    """``/status``, and ``/`` for browsers."""

    def test_the_page_is_for_everybody_and_says_which_credentials_there_are(self) -> None:
        """It says nothing else by itself."""
        self.begin()
        answer = self.get("/status")
        self.assertEqual((200, "text/html; charset=utf-8"), (answer.status, answer.headers["content-type"]))
        self.assertIn(b'data-asks=""', answer.body)
        self.assertEqual(answer.body, self.get("/status/").body)

    def test_with_credentials_it_asks_for_them(self) -> None:
        """And is there without one, as nothing else is."""
        self.begin(credentials=CREDENTIALS, operators=("op",))
        self.assertIn(b'data-asks="token password"', self.get("/status").body)
        self.assertEqual(401, self.get("/overview").status)

    def test_all_that_it_names_is_there(self) -> None:
        """Scripts, their imports, and the style; nothing is from elsewhere."""
        self.begin()
        page = self.get("/status").body.decode()
        self.assertNotIn("http://", page.replace("http://www.w3.org/2000/svg", ""))
        kinds = {"page.css": "text/css"}
        names = [
            "page.css",
            "page.js",
            "gateway.js",
            "stream.js",
            "overview.js",
            "worker.js",
            "table.js",
            "format.js",
        ]
        for name in names:
            answer = self.get(f"/status/{name}")
            kind = kinds.get(name, "text/javascript")
            self.assertEqual((200, f"{kind}; charset=utf-8"), (answer.status, answer.headers["content-type"]))
            self.assertNotIn(b"@ASKS@", answer.body)
        self.assert_problem(404, self.get("/status/page.py"))
        self.assert_problem(404, self.get("/status/..%2Fstatus.py"))
        self.assert_problem(404, self.get("/status/page.js/"))

    def test_it_may_load_and_run_its_own_alone(self) -> None:
        """No script in a text, no frame round it."""
        self.begin()
        headers = self.get("/status").headers
        policy = headers["content-security-policy"]
        for words in (
            "default-src 'none'",
            "script-src 'self';",
            "style-src 'self';",
            "frame-ancestors 'none'",
        ):
            self.assertIn(words, policy)
        self.assertEqual("nosniff", headers["x-content-type-options"])
        page = self.get("/status").body
        for words in (b" style=", b" onclick=", b"<script>"):
            self.assertNotIn(words, page)

    def test_browsers_get_it_at_the_root(self) -> None:
        """Others get JSON there."""
        self.begin()
        self.assertIn(b"<!doctype html>", self.get("/", Accept="text/html,*/*;q=0.8").body)
        self.assertEqual({"tasks": []}, self.get("/").value)

    def test_it_can_be_left_out(self) -> None:
        """All of it."""
        self.begin(shows_status=False)
        for path in ("/status", "/status/page.js", "/overview", "/overview/events", "/overview/dead"):
            self.assert_problem(404, self.get(path))


class OverviewTestCase(GatewayTestCase):
    """A gateway with an operator and a guest."""

    tasks = tasks.ALL

    def setUp(self) -> None:
        self.begin(credentials=CREDENTIALS, operators=("op",))
        self.worker = self.harness.worker

    def look(self, path: str = "/overview", **headers: str) -> Answer:
        return self.request("GET", path, b"", OPERATOR | headers)

    @property
    def token(self) -> str:
        token: str = self.look("/overview/token").value["token"]
        return token

    def order(self, path: str, value: Any, headers: dict[str, str] | None = None) -> Answer:
        """Give an order, as an operator with the token."""
        given = OPERATOR | {TOKEN: self.token} if headers is None else headers
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return self.request("POST", f"/overview/{path}", body, {**JSON, **given})

    def pause(self, headers: dict[str, str] | None = None) -> Answer:
        return self.order("order", {"command": "pause", "worker": self.worker.worker_id}, headers)


class RightsTests(OverviewTestCase):
    """Who may look, and who may give orders."""

    def test_operators_look_and_others_do_not(self) -> None:
        """401 for nobody, 403 for others, which says what would change it."""
        self.assertEqual(200, self.look().status)
        self.assertEqual(200, self.request("GET", "/overview", b"", BASIC).status)
        for path in (
            "/overview",
            "/overview/events",
            "/overview/token",
            "/overview/dead",
            "/overview/worker/x",
        ):
            self.assertEqual(401, self.get(path).status)
            self.assert_problem(403, self.request("GET", path, b"", GUEST), "--operator")

    def test_an_order_needs_both(self) -> None:
        """The credential of an operator and the token; then it is obeyed."""
        token = {TOKEN: self.token}
        self.assertEqual(401, self.pause({}).status)
        self.assertEqual(401, self.pause(token).status)
        self.assert_problem(403, self.pause(GUEST), "only operators")
        self.assert_problem(403, self.pause(GUEST | token), "only operators")
        self.assert_problem(403, self.pause(OPERATOR), TOKEN)
        self.assert_problem(403, self.pause(BASIC), TOKEN)
        self.assert_problem(403, self.pause(OPERATOR | {TOKEN: self.token[:-1]}), TOKEN)
        self.assert_problem(403, self.pause(OPERATOR | {TOKEN: "\xe9"}), TOKEN)
        self.harness.advance(1)
        self.assertFalse(self.worker.status().paused)
        for well in (OPERATOR, BASIC):
            self.worker.resume()
            answer = self.pause(well | token)
            self.assertEqual((200, {"paused": True}), (answer.status, answer.value))
            self.assertTrue(self.worker.status().paused)

    def test_another_sites_page_gives_none(self) -> None:
        """Not with the browser's password, and not with a token that it can't have."""
        well = BASIC | {TOKEN: self.token}
        for foreign in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            self.assert_problem(403, self.pause(well | foreign), "other sites")
        self.assertFalse(self.worker.status().paused)
        own = {"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"}
        self.assertEqual(200, self.pause(well | own).status)

    def test_the_token_is_another_ones_each_time_a_gateway_starts(self) -> None:
        """It can't be guessed."""
        self.assertGreaterEqual(len(self.token), 32)
        other = Operators(("op",), any_credential=True)
        self.assertNotEqual(self.token, other.token)


class OpenGatewayTests(GatewayTestCase):
    """A gateway without credentials."""

    tasks = tasks.ALL

    def test_everybody_looks_and_nobody_gives_orders(self) -> None:
        """It says what would change that."""
        self.begin()
        self.assertEqual({"may_order": False, "token": None}, self.get("/overview/token").value)
        value = {"command": "pause", "worker": self.harness.worker.worker_id}
        for headers in ({}, {"Crew_Token": "None"}, {"Crew_Token": ""}):
            answer = self.post("/overview/order", value, **headers)
            self.assert_problem(403, answer, "--tokens or --users, and --operator")
        self.assertFalse(self.harness.worker.status().paused)

    def test_credentials_without_operators_let_nobody_look(self) -> None:
        """Whoever may call a task need not see who else does."""
        self.begin(credentials=CREDENTIALS)
        self.assert_problem(403, self.request("GET", "/overview", b"", OPERATOR), "--operator")


class OrderTests(OverviewTestCase):
    """What orders do, and which are none."""

    def give(self, command: str, **more: Any) -> Answer:
        return self.order("order", {"command": command, "worker": self.worker.worker_id, **more})

    def test_pause_resume_and_drain(self) -> None:
        """They are obeyed."""
        self.assertEqual({"paused": True}, self.give("pause").value)
        self.assertTrue(self.worker.status().paused)
        self.assertEqual({"paused": False}, self.give("resume").value)
        self.assertFalse(self.worker.status().paused)
        asked: list[str] = []
        self.worker._on_asked = asked.append
        self.assertEqual({"draining": True}, self.give("drain").value)
        self.harness.advance(1)
        self.assertEqual(["drain"], asked)

    def test_a_call_is_cancelled(self) -> None:
        """Its caller is told; one that is not there is told so."""
        self.harness.hold("echo")
        call: Deferred[Any] = self.harness.client.call("echo", timeout=60, call_id="c-1")
        self.harness.flush()
        self.assertEqual({"cancelled": True}, self.give("cancel", id="c-1").value)
        self.assertIn("cancelled on its worker", str(self.failureResultOf(call).value))
        self.assertEqual({"cancelled": False}, self.give("cancel", id="c-1").value)
        self.harness.release()

    def test_a_worker_that_does_not_allow_it_says_so(self) -> None:
        """With how it would."""
        self.worker = self.harness.new_worker(tasks.echo, allowed=["look"])
        self.assert_problem(409, self.give("drain"), "--deny-steer")

    def test_a_worker_that_is_not_there(self) -> None:
        """404, and at once where the broker knows it; to look at it is no fault."""
        self.worker = self.harness.new_worker(tasks.echo)
        self.harness.kill(self.worker)
        self.assert_problem(404, self.give("pause"), "may have left")
        value = self.look(f"/overview/worker/{NO_WORKER}").value
        self.assertEqual({"wid": NO_WORKER, "stacks": None, "tasks": None}, value)

    def test_an_order_is_for_one_worker(self) -> None:
        """A name may be that of many, of a service or of a task."""
        for name in ("worker", "echo", "", "*", None, 5, ["x"], {}, "@" + NO_WORKER, "x" * 500 + NO_WORKER):
            answer = self.order("order", {"command": "pause", "worker": name})
            self.assert_problem(422, answer, "id of a worker")
        self.assertFalse(self.worker.status().paused)

    def test_what_is_no_order(self) -> None:
        """422, 413 and 415; a worker's other commands are not given from here."""
        for command in ("kill", "eval", "threads", "", None, ["drain"], {}):
            self.assert_problem(
                422, self.order("order", {"command": command, "worker": self.worker.worker_id})
            )
        for call_id in (None, 5, {}):
            self.assert_problem(422, self.give("cancel", id=call_id), "id")
        for body in (b"", b"[]", b"{", b"[" * 4096, b"\xff", b"null"):
            self.assert_problem(422, self.order("order", body))
        self.assert_problem(413, self.order("order", b" " * 5000))
        headers = OPERATOR | {TOKEN: self.token, "Content-Type": "text/plain"}
        self.assert_problem(415, self.request("POST", "/overview/order", b"{}", headers))
        headers["Content-Type"] = "application/json; charset=utf-8"
        self.assert_problem(422, self.request("POST", "/overview/order", b"{}", headers))
        self.assert_problem(404, self.order("other", {}))
        self.assert_problem(405, self.request("PUT", "/overview/order", b"{}", headers))

    def test_orders_are_logged(self) -> None:
        """Who gave which, on one line."""
        said: list[str] = []
        globalLogPublisher.addObserver(seen := lambda event: said.append(str(event.get("order"))))
        self.addCleanup(globalLogPublisher.removeObserver, seen)
        self.order("order", {"command": "pause\nx", "worker": "\u2028" * 600})
        (line,) = [text for text in said if "pause" in text]
        self.assertTrue(line.isascii() and "\n" not in line and len(line) < 5000, line)


class WorkerTests(OverviewTestCase):
    """``/overview/worker/ID``."""

    def test_what_it_runs_and_its_tasks(self) -> None:
        """With stacks, where a thread has one."""
        self.harness.hold("echo")
        self.harness.client.call("echo", timeout=60, call_id="c-1").addErrback(lambda failure: None)
        self.harness.flush()
        value = self.look(f"/overview/worker/{self.worker.worker_id}").value
        self.assertEqual(self.worker.worker_id, value["wid"])
        self.assertEqual(
            [("echo", "c-1", False)], [(each["task"], each["id"], each["stuck"]) for each in value["stacks"]]
        )
        self.assertEqual({"echo", "bytes", "broken", "headers"}, set(value["tasks"]))
        self.harness.release()

    def test_odd_names_are_refused(self) -> None:
        """None of them is a worker's."""
        for name in ("worker", "%00", "%FF", "*", "%23", "x" * 300):
            self.assert_problem(422, self.look(f"/overview/worker/{name}"))
        self.assert_problem(404, self.look("/overview/worker"))
        self.assert_problem(404, self.look(f"/overview/worker/{NO_WORKER}/x"))


class DeadLetterTests(OverviewTestCase):
    """``/overview/dead`` and ``/overview/requeue``."""

    def die(self, *call_ids: str) -> None:
        """Let calls expire that nobody waits for."""
        self.worker.pause()
        self.harness.flush()
        for call_id in call_ids:
            self.harness.result(self.harness.client.send("echo", 1, expiration=1, call_id=call_id))
        self.harness.advance(3)

    def dead(self) -> list[str]:
        answer = self.look("/overview/dead")
        return [letter["id"] for letter in answer.value["letters"]]

    def channels(self) -> int:
        client = self.gateway._looking.client
        assert client is not None
        return len(client.channels)

    def test_they_are_shown_and_stay(self) -> None:
        """With what became of them."""
        self.die("a", "b")
        value = self.look("/overview/dead").value
        self.assertEqual(["a", "b"], [letter["id"] for letter in value["letters"]])
        self.assertEqual(
            ("echo", "expired", 0),
            (value["letters"][0]["task"], value["letters"][0]["reason"], value["left"]),
        )
        self.assertEqual(["a", "b"], self.dead())

    def test_one_is_sent_again(self) -> None:
        """The others stay."""
        self.die("a", "b", "c")
        self.worker.resume()
        answer = self.order("requeue", {"id": "b"})
        self.assertEqual({"requeued": 1, "failed": 0, "left": 0}, answer.value)
        self.assertEqual(["a", "c"], self.dead())
        self.harness.advance(1)
        self.assertEqual(1, self.worker.status().processed)

    def test_all_are_sent_again(self) -> None:
        """And run."""
        self.die("a", "b")
        self.worker.resume()
        self.assertEqual(2, self.order("requeue", {}).value["requeued"])
        self.assertEqual([], self.dead())
        self.harness.advance(1)
        self.assertEqual(2, self.worker.status().processed)

    def test_no_channel_is_left_behind(self) -> None:
        """The connection is the gateway's own, and stays."""
        self.die("a")
        self.dead()
        before = self.channels()
        for _ in range(5):
            self.order("requeue", {"id": "other"})
            self.dead()
        self.assertEqual(before, self.channels())
        self.assertEqual(["a"], self.dead())

    def test_a_client_that_goes_away_ends_nothing_half_way(self) -> None:
        """What was begun is done, and the next may ask."""
        self.die("a", "b")
        headers = OPERATOR | {TOKEN: self.token}
        wires = list(self.harness.clock.wires)
        for wire in wires:
            wire.server.stall()
        visitor = self.begin_request("POST", "/overview/requeue", b"{}", {**JSON, **headers})
        visitor.transport.abortConnection()  # type: ignore[union-attr,attr-defined]
        self.harness.flush()
        self.assertEqual(0, self.gateway.site.admission.total)
        self.assert_problem(409, self.order("requeue", {}, headers), "already")
        for wire in wires:
            wire.server.flow()
        self.harness.flush()
        self.assertEqual([], self.dead())

    def test_one_at_a_time(self) -> None:
        """Two would see half of them each."""
        self.die("a")
        letters = self.gateway.site._parts[b"overview"].resource._letters
        letters._is_busy = True
        self.assert_problem(409, self.look("/overview/dead"), "already")
        self.assert_problem(409, self.order("requeue", {}), "already")

    def test_without_a_broker_it_says_so(self) -> None:
        """503, and when to try again."""
        token = self.token
        self.harness.broker.stop()
        self.harness.advance(1)
        self.assert_problem(503, self.look("/overview/dead"), "no connection")
        answer = self.order("requeue", {}, OPERATOR | {TOKEN: token})
        self.assert_problem(503, answer, "no connection")
        self.harness.broker.start()
        self.harness.advance(10)

    def test_an_id_is_a_text(self) -> None:
        """Else all of them would be sent."""
        for call_id in (5, [], False):
            self.assert_problem(422, self.order("requeue", {"id": call_id}))
