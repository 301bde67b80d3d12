"""
How many keys of a CBOR body may share a hash.

Texts, bytes and times are hashed with a secret of the process, and of other
numbers only a few dozen have any one hash. But big integers, decimals, UUIDs
and arrays with the same hash can be made without number. A map of them takes
time with the square of its size: one of 16 MiB would hold the interpreter for
hours. So a body may have only so many of them as keys of maps or as members
of sets, and this pass, which follows how the heads nest, counts them.
"""

from __future__ import annotations

from typing import Final

from crew_tx.codec._cbor_heads import (
    ARRAY,
    ENDLESS,
    MAP,
    MAX_LEVELS,
    SIMPLE,
    STEPS,
    TAG,
    split_head,
)
from crew_tx.codec._failures import UnreadableError

#: Keys, and members of sets, that are neither text, bytes, numbers of 64 bits nor times.
ODD_KEYS: Final = 1000
SET_TAG: Final = 258
TOO_MANY: Final = (
    f"it has more than {ODD_KEYS} keys of dicts, or members of sets, that are neither text, bytes, "
    "times nor numbers of 64 bits"
)

_TIMES: Final = frozenset({0, 1, 100, 1004})
_UNTAGGED: Final = -1


def check_keys(body: bytes) -> None:
    """
    Count the odd keys of a body whose heads were checked.

    :raises UnreadableError: where there are too many.
    """
    if len(body) > 2 * ODD_KEYS and count_odd_keys(body) > ODD_KEYS:
        raise UnreadableError(TOO_MANY)


def count_odd_keys(body: bytes) -> int:
    """Count a body's keys and members whose hashes anyone can work out."""
    position, odd, tag = 0, 0, _UNTAGGED
    kind, left = ARRAY, 1
    outer: list[tuple[int, int]] = []
    while position < len(body):
        while not left and outer:
            kind, left = outer.pop()
        first = body[position]
        if STEPS[first] and first >> 5 not in (ARRAY, MAP):
            position += STEPS[first]
            left -= tag == _UNTAGGED
            tag = _UNTAGGED
            continue
        major, argument, length = split_head(body, position)
        position += length
        if major == SIMPLE:
            left = 0
            continue
        if tag == _UNTAGGED:
            odd += _is_odd(major, argument) and (kind == SET_TAG or (kind == MAP and not left % 2))
            left -= 1
        if major in (ARRAY, MAP) or argument == ENDLESS:
            outer.append((kind, left))
            kind, left = (tag if tag == SET_TAG else major), (2 * argument if major == MAP else argument)
            _check_levels(len(outer))
        elif major != TAG:
            position += argument
        tag = argument if major == TAG else _UNTAGGED
    return odd


def _check_levels(levels: int) -> None:
    if levels > MAX_LEVELS:
        raise UnreadableError("it is nested too deeply")


def _is_odd(major: int, argument: int) -> bool:
    return major in (ARRAY, MAP) or (major == TAG and argument not in _TIMES)
