"""The paths of tornado-celery, with the bodies that its README documents."""

from __future__ import annotations

from typing import Any

from twisted.web.resource import Resource

from crew_tx.web.access import Exposed
from tests.web import tasks
from tests.web.support import JSON, GatewayTestCase


class ApplyTests(GatewayTestCase):
    """``/apply/`` and ``/apply-async/``."""

    tasks = tasks.ALL

    def applied(self, body: dict[str, Any], path: str = "/apply/echo/") -> dict[str, Any]:
        answer = self.post(path, body)
        self.assertEqual(200, answer.status, answer.body)
        value: dict[str, Any] = answer.value
        return value

    def test_a_task_is_executed_and_its_result_comes(self) -> None:
        """With its id and its state."""
        self.begin()
        applied = self.applied({"args": ["hello"]})
        self.assertEqual({"task-id", "state", "result"}, set(applied))
        self.assertEqual(("SUCCESS", "hello"), (applied["state"], applied["result"]))

    def test_a_request_is_made_of_the_arguments(self) -> None:
        """One alone, several as a list, and keywords as a map."""
        self.begin()
        for body, request in (
            ({}, None),
            ({"args": []}, None),
            ({"args": [3]}, 3),
            ({"args": [None]}, None),
            ({"args": [1, 2]}, [1, 2]),
            ({"kwargs": {"a": 1}}, {"a": 1}),
        ):
            self.assertEqual(request, self.applied(body)["result"])

    def test_other_bodies_are_422(self) -> None:
        """Said in words."""
        self.begin()
        for body in ([1], {"args": 1}, {"kwargs": []}, {"args": [1], "kwargs": {"a": 1}}, {"eta": 1}):
            self.assert_problem(422, self.post("/apply/echo/", body))
        self.assert_problem(400, self.post("/apply/echo/", {"timeout": -1}), "timeout")
        self.assert_problem(422, self.post("/apply/echo/", {"expires": [5]}), "expires is a number")

    def test_over_its_timeout_it_is_revoked(self) -> None:
        """As documented, with no result."""
        self.begin()
        self.harness.hold("echo")
        visitor = self.begin_request("POST", "/apply/echo/", b'{"args":[5],"timeout":1}', JSON)
        self.harness.advance(1.1)
        (answer,) = visitor.answers()
        self.assertEqual({"task-id", "state"}, set(answer.value))
        self.assertEqual("REVOKED", answer.value["state"])

    def test_a_task_that_raised_has_failed(self) -> None:
        """In Celery's words, without its traceback."""
        self.begin()
        applied = self.applied({"args": ["x"]}, "/apply/broken/")
        self.assertEqual(("FAILURE", "LookupError: no x"), (applied["state"], applied["result"]))
        self.assertNotIn("traceback", applied)

    def test_what_is_not_there_is_404(self) -> None:
        """Not exposed, or unknown, or not a path of it."""
        self.begin(exposed=Exposed(("echo", "never")))
        for path in ("/apply/broken/", "/apply/never/", "/apply/", "/apply/echo/x/", "/apply-async/broken/"):
            self.assert_problem(404, self.post(path, {}))

    def test_nobody_to_run_it_is_503(self) -> None:
        """Not the task's failure. What is asked for later waits."""
        self.begin()
        self.harness.result(self.harness.worker.stopService())
        answer = self.post("/apply/echo/", {})
        self.assert_problem(503, answer)
        self.assertEqual("1", answer.headers["retry-after"])
        self.assertEqual("PENDING", self.applied({}, "/apply-async/echo/")["state"])

    def test_who_goes_away_cancels(self) -> None:
        """And nothing is kept."""
        self.begin()
        self.harness.hold("echo")
        visitor = self.begin_request("POST", "/apply/echo/", b"{}", JSON)
        self.assertEqual(1, self.gateway.client.status().pending)
        visitor.transport.abortConnection()  # type: ignore[union-attr,attr-defined]
        self.harness.flush()
        self.assertEqual((0, 0), (self.gateway.client.status().pending, len(self.gateway.results)))
        self.harness.release()

    def test_it_is_asked_for_later(self) -> None:
        """By its id, pending and done."""
        self.begin()
        self.harness.hold("echo")
        applied = self.applied({"args": ["hello"]}, "/apply-async/echo/")
        self.assertEqual({"task-id": applied["task-id"], "state": "PENDING"}, applied)
        path = f"/tasks/result/{applied['task-id']}/"
        self.assertEqual(applied, self.get(path).value)
        self.harness.release()
        self.assertEqual({**applied, "state": "SUCCESS", "result": "hello"}, self.get(path).value)

    def test_it_is_revoked(self) -> None:
        """By DELETE, as its source has it, or by POST."""
        self.begin()
        self.harness.hold("echo")
        for method in ("DELETE", "POST"):
            task_id = self.applied({}, "/apply-async/echo/")["task-id"]
            answer = self.request(method, f"/tasks/revoke/{task_id}/", b"{}", JSON)
            self.assertEqual({"task-id": task_id}, answer.value)
            self.assertEqual(0, self.gateway.client.status().pending)
            self.assert_problem(404, self.get(f"/tasks/result/{task_id}/"))
        self.assert_problem(404, self.get("/tasks/revoke/"))
        self.assert_problem(404, self.get("/tasks/other/x/"))


class FrontTests(GatewayTestCase):
    """``/``."""

    def test_it_names_the_tasks_that_are_named(self) -> None:
        """Patterns are not for clients to know."""
        self.begin(exposed=Exposed(("echo", "secret.*", "a?")))
        self.assertEqual({"tasks": ["echo"]}, self.get("/").value)
        self.assert_problem(406, self.get("/", Accept="image/png"))

    def test_a_browser_gets_the_page_where_there_is_one(self) -> None:
        """Programs get the names still."""

        class Page(Resource):
            def render_GET(self, request: Any) -> bytes:
                return b"<p>Wake up, Neo.</p>"

        self.begin()
        self.gateway.front.page = Page()
        browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
        self.assertEqual(b"<p>Wake up, Neo.</p>", self.get("/", Accept=browser).body)
        for accept in ("*/*", "application/json", "application/json, text/html;q=0.5"):
            self.assertEqual({"tasks": []}, self.get("/", Accept=accept).value)
