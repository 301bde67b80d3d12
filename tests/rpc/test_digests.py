"""What is signed, to the octet: other languages have to come to the same."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from crew_tx.amqp.properties import decode_properties, encode_properties
from crew_tx.message import Answer, Call, Headers, answer_from, call_from, call_properties
from crew_tx.rpc.digests import (
    ANSWER_FIELDS,
    CALL_FIELDS,
    LARGE_BODY,
    body_digest,
    call_head,
    call_rest,
    cancel_head,
    command_head,
    plain_reference,
    reply_head,
    reply_rest,
    sent_call_fields,
)
from crew_tx.rpc.encoding import AnswerSigner
from crew_tx.rpc.plan import signed_call
from crew_tx.signing import SigningKeys

KEYS = SigningKeys({"2026-11": bytes(range(32))})
PAGE = Path(__file__).resolve().parents[2] / "docs" / "wire.md"
CALL = Call(
    "greet", "c1", b'{"name": "Trinity"}', "application/json", None, "other-1", 10_000, 5000, priority=0
)
ANSWER = Answer("c1", b'"Hello, Trinity."', "application/json", None, None, "worker-1", 0.25)


class ExampleTests(SynchronousTestCase):
    """The example of the page on the wire format."""

    def test_it_is_what_clients_and_workers_sign(self) -> None:
        """A program without crew_tx makes the same, which another test runs."""
        if not PAGE.is_file():
            raise SkipTest("the tests do not run from the repository")
        page = PAGE.read_text()
        _, signature = signed_call(CALL, CALL.body, KEYS, 1_764_000_000)
        self.assertIn(f"\ncrew-signature: {signature.decode()}\n", page)
        signer = AnswerSigner(KEYS)
        encoded = signer.properties(ANSWER, signature)
        properties = decode_properties(encoded, 0, len(encoded))
        self.assertIn(f"\ncrew-signature: {properties['headers']['crew-signature']}\n", page)


def sent(call: Call) -> bytes:
    """What is signed of a call that goes out."""
    head = call_head(5, "crew.tasks", call.task_id, call.task_id, sent_call_fields(call))
    return head + call_rest(b"stamp", call.headers, call.call_id, call.body)


def came(
    call: Call, exchange: str = "crew.tasks", routing_key: str = "greet", stamp: bytes = b"stamp"
) -> bytes:
    """What is signed of a call as it comes."""
    head = call_head(len(stamp), exchange, routing_key, call.task_id, call[CALL_FIELDS])
    return head + call_rest(stamp, call.headers, call.call_id, call.body)


class FieldTests(SynchronousTestCase):
    """What is signed of messages."""

    def received(self, call: Call) -> bytes:
        """What is signed of a call as it comes off the wire."""
        encoded = encode_properties(call_properties(call))
        properties = decode_properties(encoded, 0, len(encoded))
        return came(call_from(properties, call.body), routing_key=call.task_id)

    def test_both_sides_make_the_same_of_a_call(self) -> None:
        """Its priority has fewer steps on the wire."""
        for call in (
            CALL,
            CALL._replace(priority=255, persistent=False, reply_to=None, content_encoding="gzip"),
            CALL._replace(task_id="\u00e9", attempt=3),
            CALL._replace(headers={"a": (1, bytearray(b"x"))}),
        ):
            self.assertEqual(sent(call), self.received(call))

    def test_the_order_of_headers_does_not_count(self) -> None:
        """At no depth: a broker may change it."""
        one: Headers = {"a": 1, "b": {"c": [{"d": 1, "e": 2}], "f": 3}}
        other = OrderedDict([("b", {"f": 3, "c": [{"e": 2, "d": 1}]}), ("a", 1)])
        self.assertEqual(sent(CALL._replace(headers=one)), sent(CALL._replace(headers=other)))

    def test_no_two_of_anything_are_alike(self) -> None:
        """Nor can what is in one field pass for what is in another."""
        calls = [
            CALL,
            CALL._replace(content_encoding=""),
            CALL._replace(content_type="application/jso", content_encoding="n"),
            CALL._replace(headers={"a": 1}),
            CALL._replace(headers={"a": "1"}),
            CALL._replace(headers={"a": True}),
            CALL._replace(headers={"a": 1.0}),
            CALL._replace(headers={"a": None}),
            CALL._replace(headers={"a": [1]}),
            CALL._replace(headers={"a": b"1"}),
        ]
        signed = [sent(call) for call in calls]
        signed += [came(CALL, "crew.workers"), came(CALL, routing_key="greet2"), came(CALL, stamp=b"stampx")]
        properties = {"content_type": "a", "reply_to": "r", "expiration": "1"}
        signed.append(command_head(5, "crew.control", "mgt", properties))
        signed.append(cancel_head(5, "crew.workers", "mgt", "r"))
        self.assertEqual(len(signed), len(set(signed)))
        rests = {
            call_rest(stamp, {}, call_id, body)
            for stamp, call_id, body in [
                (b"k 1", "c", b"x"),
                (b"k 1", "cx", b""),
                (b"k 2", "c", b"x"),
                (b"k 1", "", b"x"),
            ]
        }
        self.assertEqual(4, len(rests))

    def test_of_a_large_body_there_is_a_digest(self) -> None:
        """It can't pass for that digest, nor for a body of another size."""
        large = bytes(LARGE_BODY + 1)
        made = call_rest(b"stamp", {}, "c", large)
        self.assertTrue(made.endswith((LARGE_BODY + 1).to_bytes(4, "big") + body_digest(large)))
        self.assertEqual(made, call_rest(b"stamp", {}, "c", large, body_digest(large)))
        self.assertNotEqual(made, call_rest(b"stamp", {}, "c", body_digest(large)))
        self.assertTrue(call_rest(b"stamp", {}, "c", large[1:]).endswith(large[1:]))
        reply = reply_rest(ANSWER._replace(body=large), b"call")
        self.assertTrue(reply.endswith((LARGE_BODY + 1).to_bytes(4, "big") + body_digest(large)))

    def test_a_reply_is_for_one_call(self) -> None:
        """Of the same fields."""
        self.assertNotEqual(reply_rest(ANSWER, b"1" * 32), reply_rest(ANSWER, b"2" * 32))
        self.assertNotEqual(plain_reference(b"a", b"b"), plain_reference(b"a", b"c"))

    def test_odd_values_are_no_text(self) -> None:
        """They are refused, and not made one."""
        answer = answer_from({"correlation_id": "c", "headers": {"crew-error": 7}, "type": "crew.error"}, b"")
        numbers = reply_head(answer[ANSWER_FIELDS], True)
        texts = reply_head(answer._replace(error="raised")[ANSWER_FIELDS], True)
        self.assertNotEqual(numbers, texts)
        odd = answer_from({"correlation_id": "c", "headers": {"crew-error": [7]}, "type": "crew.error"}, b"")
        self.assertRaises(TypeError, reply_head, odd[ANSWER_FIELDS], True)
        self.assertRaises(TypeError, command_head, 5, "e", "k", {"content_type": 1.5})
