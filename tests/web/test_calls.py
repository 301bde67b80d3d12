"""``POST /call/TASK``, through a gateway, a broker and a worker in memory."""

from __future__ import annotations

import cbor2

from crew_tx.web.access import Exposed
from crew_tx.web.limits import Limits
from tests.web import tasks
from tests.web.support import JSON, GatewayTestCase

CBOR = "application/cbor"


class CallTests(GatewayTestCase):
    """Calls that are waited for."""

    tasks = tasks.ALL

    def test_a_call_is_answered_with_the_tasks_value(self) -> None:
        """As JSON, as it was asked."""
        self.begin()
        answer = self.post("/call/echo", {"x": [1, "ä"]})
        self.assertEqual((200, {"x": [1, "ä"]}), (answer.status, answer.value))
        self.assertEqual("application/json", answer.headers["content-type"])
        self.assertIn("crew-elapsed", answer.headers)

    def test_an_empty_body_is_no_request(self) -> None:
        """The task is given None."""
        self.begin()
        self.assertEqual(b"null", self.request("POST", "/call/echo", b"", JSON).body)

    def test_cbor_in_and_out(self) -> None:
        """By the content type, and by Accept."""
        self.begin()
        answer = self.request("POST", "/call/echo", cbor2.dumps({"b": b"\x00"}), {"Content-Type": CBOR})
        self.assertEqual({"b": b"\x00"}, cbor2.loads(answer.body))
        answer = self.post("/call/echo", 7, Accept=CBOR)
        self.assertEqual((CBOR, 7), (answer.headers["content-type"], cbor2.loads(answer.body)))

    def test_what_json_cant_hold_comes_as_cbor_or_not_at_all(self) -> None:
        """CBOR unless Accept says otherwise."""
        self.begin()
        answer = self.post("/call/bytes")
        self.assertEqual((CBOR, b"\x00\xff"), (answer.headers["content-type"], cbor2.loads(answer.body)))
        self.assert_problem(406, self.post("/call/bytes", Accept="application/json"), "application/cbor")
        self.assert_problem(406, self.post("/call/bytes", Accept="text/html"), "application/json")

    def test_content_types_that_a_form_can_send_are_refused(self) -> None:
        """And none at all, which a script of another site can send, too."""
        self.begin()
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"):
            self.assert_problem(415, self.request("POST", "/call/echo", b"1", {"Content-Type": kind}))
        self.assert_problem(415, self.request("POST", "/call/echo", b""), "Content-Type")

    def test_a_body_that_cant_be_read_is_422(self) -> None:
        """With the reason, and none of its bytes."""
        self.begin()
        answer = self.request("POST", "/call/echo", b'{"secret', JSON)
        self.assert_problem(422, answer, "malformed")
        self.assertNotIn(b"secret", answer.body)

    def test_a_task_that_raised_is_500_without_its_traceback(self) -> None:
        """The type and the text are for the client."""
        self.begin()
        answer = self.post("/call/broken", "rabbit")
        self.assert_problem(500, answer, "no rabbit")
        self.assertEqual(("RemoteError", "LookupError"), (answer.value["error"], answer.value["exception"]))
        self.assertNotIn("traceback", answer.value)

    def test_tracebacks_are_shown_where_that_is_allowed(self) -> None:
        """As a member of the document."""
        self.begin(show_tracebacks=True)
        self.assertIn("raise LookupError", self.post("/call/broken", 1).value["traceback"])

    def test_what_is_not_exposed_is_as_what_is_unknown(self) -> None:
        """Byte for byte, but for the date."""
        self.begin(exposed=Exposed(("echo", "nobody.*")))
        hidden, unknown, never = (
            self.post("/call/broken"),
            self.post("/call/other"),
            self.post("/call/nobody.has"),
        )
        for answer in (hidden, unknown, never):
            self.assert_problem(404, answer, "no such task")
        self.assertEqual(hidden.body, unknown.body)
        self.assertEqual(hidden.body, never.body)

    def test_other_methods_are_told_which_one_it_is(self) -> None:
        """By Allow."""
        self.begin()
        answer = self.get("/call/echo")
        self.assert_problem(405, answer)
        self.assertEqual("POST", answer.headers["allow"])

    def test_options_are_bounded(self) -> None:
        """And one that isn't known is no option."""
        self.begin(Limits(max_wait=10))
        for text, words in (
            ("priority=256", "from 0 to 255"),
            ("priority=1.5", "whole number"),
            ("timeout=11", "from 0.001 to 10"),
            ("timeout=0", "from 0.001"),
            ("expiration=inf", "expiration"),
            ("persistent=no", "priority, expiration, timeout"),
            ("timeout=1&timeout=2", "once"),
        ):
            self.assert_problem(400, self.post(f"/call/echo?{text}"), words)
        self.assertEqual(200, self.post("/call/echo?priority=255&timeout=10&expiration=0.5").status)

    def test_over_its_time_it_is_504(self) -> None:
        """The time that the client said, by the query or by Prefer."""
        self.begin()
        self.harness.hold("echo")
        for path, headers in (("/call/echo?timeout=2", {}), ("/call/echo", {"Prefer": "wait=2"})):
            visitor = self.begin_request("POST", path, b"1", {**JSON, **headers})
            self.harness.advance(1.9)
            self.assertEqual([], visitor.answers())
            self.harness.advance(0.2)
            (answer,) = visitor.answers()
            self.assert_problem(504, answer)
            self.assertEqual("TaskTimeoutError", answer.value["error"])

    def test_nobody_to_run_it_is_503(self) -> None:
        """At once, when its queue has no consumer; with the time to try again."""
        self.begin()
        self.harness.result(self.harness.worker.stopService())
        answer = self.post("/call/echo", 1)
        self.assert_problem(503, answer)
        self.assertEqual(("NoWorkersError", "1"), (answer.value["error"], answer.headers["retry-after"]))

    def test_no_broker_is_503(self) -> None:
        """When the call has waited for it as long as a message may."""
        self.begin()
        self.harness.broker.stop()
        self.harness.flush()
        visitor = self.begin_request("POST", "/call/echo", b"1", JSON)
        self.harness.advance(40)
        (answer,) = visitor.answers()
        self.assert_problem(503, answer)
        self.assertNotIn("5672", answer.value["detail"])
        self.harness.broker.start()
        self.harness.advance(10)

    def test_past_the_queues_depth_it_is_429(self) -> None:
        """What waits is looked up once a second."""
        self.begin(Limits(max_queue=2))
        self.harness.result(self.harness.worker.stopService())
        for _ in range(2):
            self.harness.result(self.harness.client.send("echo"))
        answer = self.post("/call/echo", 1)
        self.assert_problem(429, answer, "2 calls wait")
        self.assertEqual("1", answer.headers["retry-after"])

    def test_a_queue_that_is_not_there_leaves_the_others_to_be_looked_into(self) -> None:
        """The broker closes a channel for it, and nothing more."""
        self.begin(Limits(max_queue=1))
        self.harness.result(self.harness.worker.stopService())
        self.harness.result(self.harness.client.send("echo"))
        self.assert_problem(404, self.post("/call/never", 1))
        self.assert_problem(429, self.post("/call/echo", 1))

    def test_a_client_that_goes_away_cancels_its_call(self) -> None:
        """The worker is told, and its slot is free."""
        self.begin()
        self.harness.hold("echo")
        visitor = self.begin_request("POST", "/call/echo", b"1", JSON)
        self.assertEqual(1, self.gateway.client.status().pending)
        self.assertEqual(1, self.gateway.site.admission.total)
        visitor.transport.abortConnection()  # type: ignore[union-attr,attr-defined]
        self.harness.flush()
        self.assertEqual(0, self.gateway.client.status().pending)
        self.assertEqual(0, self.gateway.site.admission.total)

    def test_large_bodies_are_read_and_written_in_a_thread(self) -> None:
        """The memory reactor's, which does so when it is flushed."""
        self.begin()
        text = "x" * 300_000
        self.assertEqual(text, self.post("/call/echo", text).value)
        location = self.post("/call/echo", text, Prefer="respond-async").headers["location"]
        self.assertEqual(text, self.get(location).value)

    def test_an_answer_that_is_too_large_is_502(self) -> None:
        """It is not the request's fault. JSON needs more for this text than CBOR does."""
        self.begin(Limits(max_body=1000))
        body = cbor2.dumps("\x00" * 900)
        headers = {"Content-Type": CBOR, "Accept": "application/json"}
        self.assert_problem(502, self.request("POST", "/call/echo", body, headers), "over 1000 bytes")

    def test_looks_that_take_too_long_leave_nothing_open(self) -> None:
        """However slow a broker is, and for how long."""
        self.begin()
        self.assertEqual(1, self.post("/call/echo", 1).value)
        looking = self.gateway._looking.client
        assert looking is not None
        channels = len(looking.channels)
        for _ in range(3):
            self.harness.advance(1.1)
            self.harness.broker.freeze()
            visitor = self.begin_request("POST", "/call/echo", b"1", JSON)
            self.harness.advance(2.1)
            self.harness.broker.thaw()
            self.harness.flush()
            self.assertEqual(1, visitor.answers()[0].value)
            self.harness.advance(1.1)
            self.assertEqual(1, self.post("/call/echo", 1).value)
        self.assertIs(looking, self.gateway._looking.client)
        self.assertEqual(channels, len(looking.channels))

    def test_headers_of_the_reply_are_passed_on_where_http_can_have_them(self) -> None:
        """None of them can break out of its line."""
        self.begin()
        answer = self.post("/call/headers")
        own = {name: value for name, value in answer.headers.items() if name.startswith("crew-reply")}
        self.assertEqual({"crew-reply-rows": "3"}, own)
        self.assertNotIn("set-cookie", answer.headers)

    def test_security_headers_are_on_every_answer(self) -> None:
        """Good or bad."""
        self.begin()
        for answer in (self.post("/call/echo"), self.get("/nothing"), self.post("/call/nothing")):
            self.assertEqual("nosniff", answer.headers["x-content-type-options"])
            self.assertIn("default-src 'none'", answer.headers["content-security-policy"])
            self.assertNotIn("server", answer.headers)
            self.assertNotIn("access-control-allow-origin", answer.headers)


class LaterTests(GatewayTestCase):
    """Calls whose answers are kept."""

    tasks = tasks.ALL

    def later(self, path: str = "/call/echo", value: object = 1, prefer: str = "respond-async") -> str:
        """Where to ask for a call's answer."""
        answer = self.post(path, value, Prefer=prefer)
        self.assertEqual((202, "respond-async"), (answer.status, answer.headers["preference-applied"]))
        self.assertEqual(answer.headers["location"], answer.value["location"])
        return answer.headers["location"]

    def test_an_answer_is_kept_and_can_be_asked_for_again(self) -> None:
        """In any content type."""
        self.begin()
        self.harness.hold("echo")
        location = self.later(value={"a": 1})
        self.assertEqual((202, location), (self.get(location).status, self.get(location).headers["location"]))
        self.harness.release()
        for _ in range(2):
            self.assertEqual((200, {"a": 1}), (self.get(location).status, self.get(location).value))
        self.assertEqual({"a": 1}, cbor2.loads(self.get(location, Accept=CBOR).body))

    def test_an_error_is_kept_as_its_problem(self) -> None:
        """With the status that it would have had."""
        self.begin()
        self.assert_problem(500, self.get(self.later("/call/broken", "x")), "no x")

    def test_with_wait_it_is_answered_if_it_is_there_in_time(self) -> None:
        """Both on the call and where it is asked for."""
        self.begin()
        self.assertEqual(b"1", self.post("/call/echo", 1, Prefer="respond-async, wait=5").body)
        self.harness.hold("echo")
        visitor = self.begin_request("POST", "/call/echo", b"2", {**JSON, "Prefer": "respond-async, wait=5"})
        self.harness.advance(5.1)
        (answer,) = visitor.answers()
        self.assertEqual(202, answer.status)
        asking = self.begin_request("GET", answer.value["location"], headers={"Prefer": "wait=5"})
        self.assertEqual([], asking.answers())
        self.harness.release()
        (answer,) = asking.answers()
        self.assertEqual((200, 2), (answer.status, answer.value))

    def test_what_nobody_was_told_of_is_not_kept(self) -> None:
        """The client had its answer, or went away before."""
        self.begin()
        self.assertEqual(1, self.post("/call/echo", 1, Prefer="respond-async, wait=5").value)
        self.assertEqual(0, len(self.gateway.results))
        self.harness.hold("echo")
        visitor = self.begin_request(
            "POST", "/call/echo", b"1", self.named({"Prefer": "respond-async, wait=5"})
        )
        self.assertEqual(1, self.gateway.client.status().pending)
        visitor.transport.abortConnection()  # type: ignore[union-attr,attr-defined]
        self.harness.flush()
        self.assertEqual(0, self.gateway.client.status().pending)
        self.assertEqual(0, len(self.gateway.results))
        self.harness.release()

    def test_it_is_kept_so_long(self) -> None:
        """And then there is nothing of that name."""
        self.begin(Limits(keep=100))
        location = self.later()
        self.harness.advance(99)
        self.assertEqual(200, self.get(location).status)
        self.harness.advance(2)
        self.assert_problem(404, self.get(location), "no such result")
        self.assertEqual(0, len(self.gateway.results))

    def test_so_many_are_kept(self) -> None:
        """The oldest one goes."""
        self.begin(Limits(max_results=2))
        first, second, third = (self.later() for _ in range(3))
        self.assertEqual([404, 200, 200], [self.get(each).status for each in (first, second, third)])

    def test_so_many_bytes_are_kept(self) -> None:
        """Also."""
        self.begin(Limits(max_result_bytes=2500))
        first, second, third = (self.later(value="x" * 1000) for _ in range(3))
        self.assertEqual([404, 200, 200], [self.get(each).status for each in (first, second, third)])

    def test_errors_and_headers_count_as_well(self) -> None:
        """They may be as large as many a result."""
        self.begin(Limits(max_result_bytes=2500))
        first, second, third = (self.later("/call/broken", "x" * 1000) for _ in range(3))
        self.assertEqual([404, 500, 500], [self.get(each).status for each in (first, second, third)])
        last = [self.later("/call/headers") for _ in range(100)][-1]
        self.assertEqual([404, 200], [self.get(each).status for each in (third, last)])

    def test_pending_ones_are_not_forgotten_for_others(self) -> None:
        """Then there is no room."""
        self.begin(Limits(max_results=2))
        self.harness.hold("echo")
        self.later()
        self.later()
        self.assert_problem(503, self.post("/call/echo", 1, Prefer="respond-async"), "no more answers")
        self.harness.release()

    def test_a_client_has_so_many_pending(self) -> None:
        """And is told to wait."""
        self.begin(Limits(max_client_requests=2))
        self.harness.hold("echo")
        self.later()
        self.later()
        self.assert_problem(429, self.post("/call/echo", 1, Prefer="respond-async"), "2 calls of yours")
        self.harness.release()

    def test_deleting_cancels(self) -> None:
        """And forgets."""
        self.begin()
        self.harness.hold("echo")
        location = self.later()
        self.assertEqual(204, self.request("DELETE", location).status)
        self.assertEqual(0, self.gateway.client.status().pending)
        self.assert_problem(404, self.get(location))
        self.assert_problem(404, self.request("DELETE", location))

    def test_who_waits_for_one_that_is_deleted_is_told(self) -> None:
        """It is answered, and not left."""
        self.begin()
        self.harness.hold("echo")
        location = self.later()
        asking = self.begin_request("GET", location, headers={"Prefer": "wait=50"})
        self.request("DELETE", location)
        (answer,) = asking.answers()
        self.assertEqual(404, answer.status)

    def test_a_stop_cancels_what_is_pending(self) -> None:
        """Nothing is left behind."""
        self.begin()
        self.harness.hold("echo")
        self.later()
        self.end()
        self.assertEqual(0, len(self.gateway.results))
