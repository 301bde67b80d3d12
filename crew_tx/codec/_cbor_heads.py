"""
The heads of CBOR's items (RFC 8949, section 3): a major type and an argument.

What follows a head is a string of as many bytes as the argument says, or items
with heads of their own, or nothing.
"""

from __future__ import annotations

from typing import Final

from crew_tx.codec._failures import UnreadableError

#: Heads inside one another that a body may have, tags included.
MAX_LEVELS: Final = 204

BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = 2, 3, 4, 5, 6, 7

#: The argument of a head without a length, which a break ends. It is even, as
#: the number of keys and values in a map is.
ENDLESS: Final = 1 << 70

_NUMBER: Final = bytes([1] * 24 + [2, 3, 5, 9] + [0] * 4)
_STRING: Final = bytes([*range(1, 25)] + [0] * 8)
_CONTAINER: Final = bytes([1] * 24 + [0] * 8)
_SIMPLE: Final = bytes([0] * 20 + [1, 1, 1, 0, 0, 3, 5, 9] + [0] * 4)
#: For each first byte of a head, the bytes to the next one; 0 where it takes a closer look.
STEPS: Final = _NUMBER * 2 + _STRING * 2 + _CONTAINER * 2 + bytes(32) + _SIMPLE


def split_head(body: bytes, position: int) -> tuple[int, int, int]:
    """
    Take a head apart: its major type, its argument, its length.

    :raises UnreadableError: for one that has no meaning.
    """
    major, argument = divmod(body[position], 32)
    if argument < 24:
        return major, argument, 1
    if argument < 28:
        end = position + 1 + (1 << (argument - 24))
        return major, int.from_bytes(body[position + 1 : end], "big"), end - position
    if argument < 31 or major not in (BYTES, TEXT, ARRAY, MAP, SIMPLE):
        raise UnreadableError("it has a reserved head")
    return major, ENDLESS, 1
