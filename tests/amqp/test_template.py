"""Templates make, byte for byte, what the encoder of properties makes."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.properties import decode_properties, encode_properties
from crew_tx.amqp.template import CallTemplate, ReplyTemplate
from crew_tx.errors import EncodeError
from crew_tx.message import Answer, Call, Properties, answer_properties, call_properties

_short = st.text(max_size=20)
_ids = st.text(min_size=1, max_size=60) | st.sampled_from(["x" * 255, "é" * 127, "日" * 85])
_optional = st.none() | st.text(min_size=1, max_size=20)
_calls = st.builds(
    Call,
    task_id=_short,
    call_id=_ids,
    body=st.just(b""),
    content_type=_short,
    content_encoding=_optional,
    reply_to=_optional,
    expiration=st.integers(1, 315_360_000_000),
    timeout=st.integers(1, 315_360_000_000),
    attempt=st.integers(1, 1000),
    priority=st.integers(0, 255),
    persistent=st.booleans(),
    timestamp=st.integers(0, 2**64 - 1),
    headers=st.dictionaries(_short, st.integers(-5, 5) | _short, max_size=2),
)
#: Seconds that went by: no clock gives one that isn't finite, and no header can have it.
_seconds = st.floats(allow_nan=False, allow_infinity=False)
_answers = st.builds(
    Answer,
    call_id=_ids,
    body=st.just(b""),
    content_type=_short,
    content_encoding=_optional,
    error=st.sampled_from([None, "raised", "timeout", "expired", "unknown-task"]),
    worker=_optional,
    elapsed=_seconds,
    persistent=st.booleans(),
    headers=st.dictionaries(_short, st.integers(-5, 5) | _short, max_size=2),
)
_quickly = settings(deadline=None, derandomize=True)


def _decoded(encoded: bytes) -> Properties:
    return decode_properties(encoded, 0, len(encoded))


class CallTemplateTests(SynchronousTestCase):
    """Calls, of which ids and time differ."""

    @_quickly
    @given(_calls, _ids, st.integers(0, 2**64 - 1))
    def test_it_makes_what_the_encoder_makes(self, call: Call, call_id: str, timestamp: int) -> None:
        """For every other call that differs in these only."""
        template = CallTemplate(call_properties(call))
        other = call._replace(call_id=call_id, timestamp=timestamp)
        self.assertEqual(template.fill(call_id, timestamp), encode_properties(call_properties(other)))

    def test_it_may_have_properties_that_calls_do_not_have(self) -> None:
        """A user id, say, or none of what isn't needed."""
        for more in ({"user_id": "guest"}, {"type": None}, {"priority": None, "headers": None}):
            properties = call_properties(Call("sum", "first", b"", "a/b", reply_to="c")) | more
            template = CallTemplate(properties)
            other = properties | {"correlation_id": "c1", "message_id": "c1", "timestamp": 7}
            self.assertEqual(template.fill("c1", 7), encode_properties(other))

    def test_it_is_filled_more_than_once(self) -> None:
        """Nothing of one message is left in the next."""
        template = CallTemplate(call_properties(Call("sum", "", b"", "a/b")))
        for call_id in ("long" * 20, "c", "é"):
            filled = _decoded(template.fill(call_id, 1))
            self.assertEqual((filled["correlation_id"], filled["message_id"]), (call_id, call_id))

    def test_what_cannot_be_written_is_refused_when_it_is_made(self) -> None:
        """With the property's name."""
        call = Call("sum", "c1", b"", "x" * 256)
        with self.assertRaisesRegex(EncodeError, "content_type"):
            CallTemplate(call_properties(call))
        with self.assertRaisesRegex(EncodeError, "headers"):
            CallTemplate(call_properties(call._replace(content_type="a/b", headers={"a": object()})))


class ReplyTemplateTests(SynchronousTestCase):
    """Replies, of which ids and the time that the task ran differ."""

    @_quickly
    @given(_answers, _ids, _seconds)
    def test_it_makes_what_the_encoder_makes(self, answer: Answer, call_id: str, elapsed: float) -> None:
        """For every other reply that differs in these only."""
        template = ReplyTemplate(answer_properties(answer))
        other = answer._replace(call_id=call_id, elapsed=elapsed)
        self.assertEqual(template.fill(call_id, elapsed), encode_properties(answer_properties(other)))

    def test_an_id_that_is_no_utf_8_goes_back_as_it_came(self) -> None:
        """It is the caller's, in whatever language."""
        properties: dict[str, Any] = answer_properties(Answer("", b"", "a/b"))
        came = _decoded(encode_properties({"correlation_id": b"\xff\xfe".decode("utf-8", "surrogateescape")}))
        filled = ReplyTemplate(properties).fill(came["correlation_id"], 0.5)
        self.assertEqual(filled.count(b"\x02\xff\xfe"), 2)
        other = Answer(came["correlation_id"], b"", "a/b", elapsed=0.5)
        self.assertEqual(filled, encode_properties(answer_properties(other)))

    def test_what_cannot_be_written_is_refused_when_it_is_made(self) -> None:
        """With the property's name."""
        with self.assertRaisesRegex(EncodeError, "content_type"):
            ReplyTemplate(answer_properties(Answer("c1", b"", "x" * 256)))
