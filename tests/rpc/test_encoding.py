"""Calls and replies to encoded properties, by template or not: the bytes are the same."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.properties import encode_properties
from crew_tx.amqp.publisher import LONGEST_PROPERTIES
from crew_tx.errors import EncodeError
from crew_tx.message import Answer, Call, answer_properties, call_properties
from crew_tx.rpc.encoding import encoded_answer, encoded_call

_CALL = Call("sum", "c1", b"body", "application/cbor", reply_to="client-1", timestamp=5)
_ANSWER = Answer("c1", b"body", "application/cbor", worker="w", elapsed=0.5)

#: For each field that a template has, another value.
_OTHER_CALLS: dict[str, Any] = {
    "task_id": "other",
    "call_id": "c2",
    "content_type": "text/plain",
    "content_encoding": "gzip",
    "reply_to": None,
    "expiration": 7,
    "timeout": 8,
    "attempt": 2,
    "priority": 255,
    "persistent": False,
    "timestamp": 6,
    "headers": {"colour": "red"},
}
_OTHER_ANSWERS: dict[str, Any] = {
    "call_id": "c2",
    "content_type": "text/plain",
    "content_encoding": "gzip",
    "error": "raised",
    "worker": None,
    "elapsed": 0.25,
    "persistent": False,
    "headers": {"colour": "red"},
}


class CallTests(SynchronousTestCase):
    """Calls."""

    def test_each_field_makes_a_difference(self) -> None:
        """One call's template never serves for another that differs in what it holds."""
        for name, value in _OTHER_CALLS.items():
            for call in (_CALL, _CALL._replace(**{name: value})):
                self.assertEqual(encoded_call(call), encode_properties(call_properties(call)), name)

    def test_all_fields_of_a_call_are_looked_at(self) -> None:
        """Body and delivery aside, which are no properties."""
        self.assertEqual(set(_OTHER_CALLS), set(Call._fields) - {"body", "redelivered"})

    def test_headers_that_are_too_large_are_refused(self) -> None:
        """Over frame_max they would close the connection."""
        call = _CALL._replace(headers={"large": "x" * LONGEST_PROPERTIES})
        with self.assertRaisesRegex(EncodeError, "65536"):
            encoded_call(call)
        encoded_call(_CALL._replace(headers={"large": "x" * (LONGEST_PROPERTIES - 1000)}))

    def test_a_header_that_cannot_be_written_is_named(self) -> None:
        """Whatever it holds."""
        with self.assertRaisesRegex(EncodeError, "colour"):
            encoded_call(_CALL._replace(headers={"colour": object()}))


class AnswerTests(SynchronousTestCase):
    """Replies."""

    def test_each_field_makes_a_difference(self) -> None:
        """One reply's template never serves for another that differs in what it holds."""
        for name, value in _OTHER_ANSWERS.items():
            for answer in (_ANSWER, _ANSWER._replace(**{name: value})):
                self.assertEqual(encoded_answer(answer), encode_properties(answer_properties(answer)), name)

    def test_all_fields_of_an_answer_are_looked_at(self) -> None:
        """But for the body."""
        self.assertEqual(set(_OTHER_ANSWERS), set(Answer._fields) - {"body"})

    def test_headers_that_cannot_be_sent_are_refused(self) -> None:
        """Too large, or of a type that AMQP doesn't have."""
        for headers in ({"large": "x" * LONGEST_PROPERTIES}, {"colour": object()}):
            self.assertRaises(EncodeError, encoded_answer, _ANSWER._replace(headers=headers))
