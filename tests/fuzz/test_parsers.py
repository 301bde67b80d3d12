"""The frame parser, on any bytes in any pieces."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.frames import FrameParser
from crew_tx.errors import ProtocolError
from tests.fuzz.inputs import BROKER_CONVERSATION, CLIENT_CONVERSATIONS, Inputs

_GOOD = [*CLIENT_CONVERSATIONS, BROKER_CONVERSATION]
_CODES = (501, 502, 540)


def parsed(chunks: list[bytes], **options: Any) -> tuple[list[Any], int | None]:
    """All frames up to the first bad one, and the code that it is refused with."""
    parser, found = FrameParser(**options), []
    try:
        for chunk in chunks:
            found += parser.feed(chunk)
    except ProtocolError as error:
        return found, error.reply_code
    return found, None


class ParserTests(SynchronousTestCase):
    """Nothing but frames and :class:`ProtocolError` comes out, and the same however it is cut up."""

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(st.binary(max_size=300), st.integers(1, 20))
    def test_any_bytes(self, data: bytes, size: int) -> None:
        self.check(data, size)

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(st.integers(0, 2**32), st.sampled_from(_GOOD), st.integers(1, 200))
    def test_changed_conversations(self, seed: int, good: list[bytes], size: int) -> None:
        self.check(Inputs(Random(seed)).conversation(good), size)

    def check(self, data: bytes, size: int) -> None:
        """Parse at once and in pieces."""
        frames, code = parsed([data])
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        self.assertEqual(repr(parsed(pieces)), repr((frames, code)))
        self.assertIn(code, (None, *_CODES))
        _, joined_code = parsed([data], join_content=True)
        self.assertEqual(joined_code, code)
