"""Replies to encoded properties, by template or not: the bytes are the same."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.properties import encode_properties
from crew_tx.amqp.publisher import LONGEST_PROPERTIES
from crew_tx.errors import EncodeError
from crew_tx.message import Answer, answer_properties
from crew_tx.rpc.encoding import encoded_answer

_ANSWER = Answer("c1", b"body", "application/cbor", worker="w", elapsed=0.5)

#: For each field that a template has, another value.
_OTHERS: dict[str, Any] = {
    "call_id": "c2",
    "content_type": "text/plain",
    "content_encoding": "gzip",
    "error": "raised",
    "worker": None,
    "elapsed": 0.25,
    "persistent": False,
    "headers": {"colour": "red"},
}


class AnswerTests(SynchronousTestCase):
    """Replies."""

    def test_each_field_makes_a_difference(self) -> None:
        """One reply's template never serves for another that differs in what it holds."""
        for name, value in _OTHERS.items():
            for answer in (_ANSWER, _ANSWER._replace(**{name: value})):
                self.assertEqual(encoded_answer(answer), encode_properties(answer_properties(answer)), name)

    def test_all_fields_of_an_answer_are_looked_at(self) -> None:
        """But for the body, which is no property."""
        self.assertEqual(set(_OTHERS), set(Answer._fields) - {"body"})

    def test_headers_that_cannot_be_sent_are_refused(self) -> None:
        """Too large, for which the broker would close the connection, or of a type that AMQP doesn't have."""
        for headers, words in (
            ({"large": "x" * LONGEST_PROPERTIES}, "65536"),
            ({"colour": object()}, "colour"),
        ):
            with self.assertRaisesRegex(EncodeError, words):
                encoded_answer(_ANSWER._replace(headers=headers))
        encoded_answer(_ANSWER._replace(headers={"large": "x" * (LONGEST_PROPERTIES - 1000)}))
