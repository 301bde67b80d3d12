"""HTTP requests and responses as values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import DecodeError
from crew_tx.web.exchange import (
    HTTPRequest,
    HTTPResponse,
    end_to_end,
    is_field,
    request_from,
    request_map,
    response_from,
    response_map,
    unambiguous,
)

REQUEST = HTTPRequest(
    "POST",
    "/a%20b",
    "c=d",
    "https",
    "HTTP/1.1",
    (("Host", "h"), ("Cookie", "a=1"), ("Cookie", "b=2")),
    b"\x00body",
    ("h", 443),
    ("10.0.0.1", 50_000),
)
RESPONSE = HTTPResponse(404, "Not Found", (("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")), b"\xff")


class MapTests(SynchronousTestCase):
    """There and back."""

    def test_they_come_back_as_they_were(self) -> None:
        """Both of them, headers in their order."""
        self.assertEqual(REQUEST, request_from(request_map(REQUEST)))
        self.assertEqual(RESPONSE, response_from(response_map(RESPONSE)))

    def test_what_is_wrong_is_named(self) -> None:
        """In a request."""
        good = request_map(REQUEST)
        for change, word in (
            ({"method": "GET /"}, "method"),
            ({"method": None}, "method"),
            ({"scheme": "file"}, "scheme"),
            ({"protocol": "HTTP/9"}, "protocol"),
            ({"path": b"/"}, "path"),
            ({"headers": {}}, "headers"),
            ({"headers": [["a"]]}, "header"),
            ({"headers": [["a", "b\r\nc: d"]]}, "header"),
            ({"body": "text"}, "body"),
            ({"server": ["h", "80"]}, "server"),
            ({"client": None}, "client"),
            ({"more": True}, "parts"),
        ):
            error = self.assertRaises(DecodeError, request_from, {**good, **change})
            self.assertIn(word, str(error))

    def test_what_is_wrong_is_named_in_a_response(self) -> None:
        """Likewise."""
        good = response_map(RESPONSE)
        for change, word in (
            ({"status": "200"}, "status"),
            ({"status": 99}, "status"),
            ({"status": True}, "status"),
            ({"reason": "OK\r\nSet-Cookie: x"}, "reason"),
            ({"headers": [["Set-Cookie", "a\nb"]]}, "header"),
            ({"body": None}, "body"),
            ({"more": 0}, "parts"),
        ):
            error = self.assertRaises(DecodeError, response_from, {**good, **change})
            self.assertIn(word, str(error))

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.recursive(st.none() | st.text() | st.integers() | st.binary(), st.lists) | st.just({}))
    def test_anything_else_is_refused(self, value: Any) -> None:
        """With a DecodeError."""
        self.assertRaises(DecodeError, request_from, value)
        self.assertRaises(DecodeError, response_from, value)


class FieldTests(SynchronousTestCase):
    """Headers."""

    def test_those_of_one_connection_stay_there(self) -> None:
        """And those that it names."""
        fields = [
            ("Connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "websocket"),
            ("TE", "trailers"),
            ("Keep-Alive", "5"),
            ("Proxy-Authorization", "x"),
            ("Accept", "*/*"),
        ]
        self.assertEqual((("Accept", "*/*"),), end_to_end(fields))

    def test_what_could_be_taken_for_something_else_is_left_out(self) -> None:
        """X_Forwarded_For is X-Forwarded-For to an application."""
        fields = [
            ("X_Forwarded_For", "1"),
            ("X-Forwarded-For", "2"),
            ("a b", "3"),
            ("A", "\x00"),
            ("TE", "x"),
        ]
        self.assertEqual([("X-Forwarded-For", "2")], list(unambiguous(fields)))

    def test_names_and_values_are_those_of_http(self) -> None:
        """No line ends in them above all."""
        for name, value in (("A", ""), ("a-b", "\t ~"), ("A", "\xe9"), ("A!", "x")):
            self.assertTrue(is_field(name, value), (name, value))
        for name, value in (
            ("", "x"),
            ("A:", "x"),
            ("A", "\r"),
            ("A", "x\ny"),
            ("A", "\u20ac"),
            ("\xe9", "x"),
        ):
            self.assertFalse(is_field(name, value), (name, value))

    def test_a_request_is_frozen(self) -> None:
        """It is a value."""
        self.assertNotEqual(REQUEST, replace(REQUEST, body=b""))
