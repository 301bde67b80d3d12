"""A WSGI application as a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any
from wsgiref.validate import validator

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import InvalidArgumentError, MessageTooLargeError, RemoteError
from crew_tx.testing import CrewHarness
from crew_tx.web.exchange import HTTPResponse, request_map, response_from
from crew_tx.web.wsgi import environ, respond, site_task_id, wsgi_task
from tests.web.test_exchange import REQUEST

Start = Callable[..., Callable[[bytes], None]]

GET = replace(REQUEST, method="GET", body=b"", headers=(("Host", "h"), ("Accept", "*/*")))


def application(given: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    """Tells what it was asked."""
    body = given["wsgi.input"].read(int(given.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Path", given["PATH_INFO"])])
    return [given["REQUEST_METHOD"].encode(), b" ", body]


class RespondTests(SynchronousTestCase):
    """Applications, and what they answer."""

    def respond(self, answering: Callable[..., Iterable[bytes]], limit: int = 1000) -> HTTPResponse:
        return respond(answering, GET, limit)

    def test_a_conforming_application_sees_a_conforming_server(self) -> None:
        """By the standard library's own validator, which raises where either is not."""
        for request in (GET, replace(REQUEST, headers=(("Content-Type", "text/plain"),))):
            response = respond(validator(application), request, 1000)
            self.assertEqual((200, "OK"), (response.status, response.reason), response.body)

    def test_its_response_is_collected(self) -> None:
        """Status, headers and body."""
        response = respond(application, REQUEST, 1000)
        fields = (("Content-Type", "text/plain"), ("X-Path", "/a b"))
        self.assertEqual(HTTPResponse(200, "OK", fields, b"POST \x00body"), response)

    def test_it_may_write_and_then_give_more(self) -> None:
        """In that order."""

        def writes(given: Any, start: Start) -> Iterable[bytes]:
            write = start("201 Created", [])
            write(b"a")
            return [b"b", b"", b"c"]

        self.assertEqual((201, b"abc"), (self.respond(writes).status, self.respond(writes).body))

    def test_it_may_start_when_its_first_bytes_are_asked_for(self) -> None:
        """As generators do."""

        def generates(given: Any, start: Start) -> Iterable[bytes]:
            yield b""
            start("200 OK", [])
            yield b"late"

        self.assertEqual(b"late", self.respond(generates).body)

    def test_what_it_gives_is_closed(self) -> None:
        """Also after an error."""
        closed = []

        class Chunks(list[bytes]):
            def close(self) -> None:
                closed.append(True)

        def well(given: Any, start: Start) -> Iterable[bytes]:
            start("200 OK", [])
            return Chunks([b"a"])

        def ill(given: Any, start: Start) -> Iterable[bytes]:
            return Chunks([b"a"])

        self.assertEqual(200, self.respond(well).status)
        self.assertEqual(500, self.respond(ill).status)
        self.flushLoggedErrors(RuntimeError)
        self.assertEqual([True, True], closed)

    def test_it_may_begin_again_after_an_error(self) -> None:
        """With exc_info, and not without."""

        def again(given: Any, start: Start) -> Iterable[bytes]:
            start("200 OK", [("A", "1")])
            try:
                raise KeyError("x")
            except KeyError as error:
                start("500 Oh", [("B", "2")], (KeyError, error, None))
            return [b"sorry"]

        def twice(given: Any, start: Start) -> Iterable[bytes]:
            start("200 OK", [])
            start("200 OK", [])
            return []

        response = self.respond(again)
        self.assertEqual((500, "Oh", (("B", "2"),)), (response.status, response.reason, response.headers))
        self.assertEqual(500, self.respond(twice).status)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_what_came_before_the_error_is_no_part_of_it(self) -> None:
        """It was another response's."""

        def halfway(given: Any, start: Start) -> Iterable[bytes]:
            start("200 OK", [])
            yield b"half of it"
            start("500 Oh", [], (KeyError, KeyError("x"), None))
            yield b"sorry"

        response = self.respond(halfway)
        self.assertEqual((500, b"sorry"), (response.status, response.body))

    def test_what_it_raises_is_a_500_and_in_the_log(self) -> None:
        """With nothing of the error in the response."""

        def fails(given: Any, start: Start) -> Iterable[bytes]:
            raise ValueError("a secret")

        response = self.respond(fails)
        self.assertEqual((500, "Internal Server Error"), (response.status, response.reason))
        self.assertNotIn(b"secret", response.body)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_what_it_may_not_answer_is_a_500_too(self) -> None:
        """A header with a line end would be two."""

        def answering(status: str, headers: list[tuple[str, str]], *body: Any) -> Callable[..., Any]:
            def answers(given: Any, start: Start) -> Iterable[Any]:
                start(status, headers)
                return body

            return answers

        for wrong in (
            answering("200 OK", [("A", "x\r\nSet-Cookie: y")]),
            answering("200 OK\r\nA: b", []),
            answering("OK", []),
            answering("200 OK", [], "text"),
            lambda given, start: [b"no start"],
            lambda given, start: [],
        ):
            self.assertEqual(500, self.respond(wrong).status)
        self.assertEqual(6, len(self.flushLoggedErrors(ValueError, TypeError, RuntimeError)))

    def test_headers_of_its_connection_are_dropped(self) -> None:
        """There is none."""

        def answers(given: Any, start: Start) -> Iterable[bytes]:
            start("200 OK", [("Connection", "close"), ("Transfer-Encoding", "chunked"), ("A", "b")])
            return []

        self.assertEqual((("A", "b"),), self.respond(answers).headers)

    def test_a_response_has_a_limit(self) -> None:
        """Past it nothing more is asked for."""
        asked = []

        def endless(given: Any, start: Start) -> Iterable[bytes]:
            start("200 OK", [])
            while True:
                asked.append(1)
                yield b"x" * 400

        error = self.assertRaises(MessageTooLargeError, self.respond, endless)
        self.assertEqual((3, 1200, 1000), (len(asked), error.size, error.limit))

    def test_what_it_says_of_errors_is_logged(self) -> None:
        """Line by line."""
        lines: list[str] = []
        self.patch(
            respond.__globals__["_log"].__class__,
            "warn",
            lambda self, form, **values: lines.append(values["line"]),
        )

        def tells(given: Any, start: Start) -> Iterable[bytes]:
            given["wsgi.errors"].write("one\ntwo\n")
            given["wsgi.errors"].writelines(["three\n"])
            given["wsgi.errors"].flush()
            start("200 OK", [])
            return []

        self.respond(tells)
        self.assertEqual(["one", "two", "three"], lines)


class EnvironTests(SynchronousTestCase):
    """What an application is told."""

    def test_the_request_as_cgi_has_it(self) -> None:
        """The path decoded, as bytes in Latin-1."""
        found = environ(replace(REQUEST, path="/%C3%A9%2F?".replace("?", ""), query="a=%20"))
        expected = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/\xc3\xa9/",
            "QUERY_STRING": "a=%20",
            "SCRIPT_NAME": "",
            "SERVER_NAME": "h",
            "SERVER_PORT": "443",
            "REMOTE_ADDR": "10.0.0.1",
            "CONTENT_LENGTH": "5",
            "wsgi.url_scheme": "https",
            "HTTP_COOKIE": "a=1; b=2",
        }
        self.assertEqual(expected, {name: found.get(name) for name in expected})

    def test_bytes_that_came_as_they_are_stay_so(self) -> None:
        """Some clients send them; they are not encoded once more."""
        self.assertEqual("/\xe9", environ(replace(REQUEST, path="/\xe9"))["PATH_INFO"])

    def test_several_headers_of_a_name_are_joined(self) -> None:
        """With a comma."""
        found = environ(replace(REQUEST, headers=(("X-A", "1"), ("x-a", "2"), ("Content-Type", "t/x"))))
        self.assertEqual(("1,2", "t/x"), (found["HTTP_X_A"], found["CONTENT_TYPE"]))
        self.assertNotIn("HTTP_CONTENT_TYPE", found)

    def test_the_length_is_the_bodys(self) -> None:
        """Whatever a header says."""
        found = environ(replace(REQUEST, headers=(("Content-Length", "7"),)))
        self.assertEqual("5", found["CONTENT_LENGTH"])
        self.assertNotIn("CONTENT_LENGTH", environ(GET))


class TaskTests(SynchronousTestCase):
    """Through the queue."""

    def test_a_request_is_answered(self) -> None:
        """By the task of its site."""
        harness = CrewHarness()
        self.addCleanup(harness.close)
        task = wsgi_task(application, "shop", 1024 * 1024)
        self.assertEqual(("wsgi.shop", "wsgi.shop"), (task.task_id, task.queue))
        harness.new_worker(task.function)
        called = harness.client.call(site_task_id("shop"), request_map(REQUEST))
        harness.flush()
        self.assertEqual(b"POST \x00body", response_from(self.successResultOf(called)).body)

    def test_what_is_no_request_is_an_error(self) -> None:
        """And the application hears nothing of it."""
        harness = CrewHarness()
        self.addCleanup(harness.close)
        harness.new_worker(wsgi_task(application, "shop", 1024 * 1024).function)
        called = harness.client.call("wsgi.shop", {"method": "GET"})
        harness.flush()
        self.assertEqual("crew_tx.errors.DecodeError", self.failureResultOf(called, RemoteError).value.type)

    def test_a_site_has_a_name(self) -> None:
        """Such as services have."""
        self.assertRaises(InvalidArgumentError, site_task_id, "a*")
