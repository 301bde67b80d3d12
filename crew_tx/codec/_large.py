"""Whether coding something takes long enough to be done in a thread."""

from __future__ import annotations

from typing import Any, Final

#: Bodies over this many bytes are coded in a thread.
LARGE: Final = 128 * 1024

_CONTAINERS: Final[frozenset[type]] = frozenset({list, tuple, set, frozenset, dict})
#: The bytes that a unit of each one's length makes in a body, roughly.
_WEIGHTS: Final[dict[type, int]] = dict.fromkeys((bytes, bytearray, str), 1) | dict.fromkeys(_CONTAINERS, 16)
#: Only containers of so few items are looked into.
_FEW: Final = 16


def is_large(value: Any, content_encoding: str | None = None) -> bool:
    """
    Guess whether coding a value, or a body, should be done in a thread.

    A glance, no deeper than the items of a small container. A compressed body
    is always large, since its size says nothing about what it inflates to.

    :param value: a value to write, or a body to read.
    :param content_encoding: a body's, as its message has it.
    """
    if content_encoding and content_encoding != "identity":
        return True
    kind = type(value)
    if kind not in _WEIGHTS:
        return False
    size = len(value)
    if size * _WEIGHTS[kind] > LARGE:
        return True
    if size > _FEW or kind not in _CONTAINERS:
        return False
    for item in value.values() if kind is dict else value:
        if type(item) in _WEIGHTS and len(item) * _WEIGHTS[type(item)] > LARGE:
            return True
    return False
