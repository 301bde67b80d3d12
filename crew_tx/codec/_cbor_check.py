"""
What a CBOR body may hold, checked before a decoder makes anything of it.

A body can be cut into its heads without knowing how they nest. So one flat
pass, with no stack to overflow, finds:

- tags that we don't use. Decoders act on many: shared references (28, 29)
  make cycles, 35 compiles a regular expression, 36 parses mail;
- containers that declare more items than the body could have, all together.
  Every item takes a byte at least;
- ``undefined``, other simple values and reserved heads;
- breaks that end nothing, which some decoders hand out as an item. A body in
  which every break ends something has as many of them as it has beginnings.

Whether the heads make one whole value is left to the decoder. Most bodies have
none of the bytes that matter, even inside a text, and need no pass; a few with
large maps or sets need a second one, for their keys.
"""

from __future__ import annotations

import re
from typing import Final

from crew_tx.codec._cbor_heads import ARRAY, BYTES, ENDLESS, MAP, SIMPLE, STEPS, TAG, TEXT, split_head
from crew_tx.codec._cbor_keys import SET_TAG, check_keys
from crew_tx.codec._failures import UnreadableError

#: Date and time (0, 1), big integers (2, 3), decimal (4), UUID (37), date (100, 1004), set (258).
TAGS: Final = frozenset({0, 1, 2, 3, 4, 37, 100, SET_TAG, 1004})
#: A decimal of so many digits is within what ``_DECIMAL`` takes.
DECIMAL_DIGITS: Final = 600

_INTEGER: Final = rb"(?:[\x00-\x17\x20-\x37]|[\x18\x38].|[\x19\x39]..|[\x1a\x3a].{4}|[\x1b\x3b].{8})"
#: A decimal's exponent and digits; of a big integer at most 255 bytes, since
#: making a decimal of it takes time with the square of its length.
_DECIMAL: Final = re.compile(
    rb"\xc4\x82" + _INTEGER + rb"(?:" + _INTEGER + rb"|[\xc2\xc3](?:[\x40-\x57]|\x58.))", re.DOTALL
)

#: The first bytes that can be wrong: containers of 24 items or more, tags, odd simple values, breaks.
_SUSPECTS: Final = bytes(first for first in range(ARRAY << 5, 0x100) if not STEPS[first])


def check_body(body: bytes) -> None:
    """
    Check a body's heads.

    :raises UnreadableError: where it has what no body may have, or is cut short in a string.
    """
    if len(body.translate(None, _SUSPECTS)) != len(body) and _check_heads(body):
        check_keys(body)


def _check_heads(body: bytes) -> bool:
    """Check heads one by one; return whether there are large maps, or sets."""
    position, unended, room, crowded = 0, 0, len(body), False
    while position < len(body):
        step = STEPS[body[position]]
        if step:
            position += step
            continue
        major, argument, length = split_head(body, position)
        crowded = crowded or major == MAP or argument == SET_TAG
        if argument == ENDLESS:
            unended += -1 if major == SIMPLE else 1
        elif major in (BYTES, TEXT):
            position += argument
        elif major in (ARRAY, MAP):
            room -= argument if major == ARRAY else 2 * argument
        else:
            _check_meaning(body, position, major, argument)
        position += length
    if room < 0:
        raise UnreadableError("its containers declare more items than it has bytes")
    if position > len(body) or unended:
        raise UnreadableError("it is cut short, or has a break that ends nothing")
    return crowded


def _check_meaning(body: bytes, position: int, major: int, argument: int) -> None:
    if major != TAG:
        raise UnreadableError("it has undefined, or a simple value without a meaning")
    if argument not in TAGS:
        raise UnreadableError(f"it has the tag {argument}, which is not allowed")
    if argument == 4 and not _DECIMAL.match(body, position):
        raise UnreadableError("it has a decimal of too many digits, or one that is malformed")
