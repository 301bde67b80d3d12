"""Whether coding something takes long enough to be done in a thread."""

from __future__ import annotations

from typing import Any, Final

#: Bodies over this many bytes are coded in a thread.
LARGE: Final = 128 * 1024

_CONTAINERS: Final[frozenset[type]] = frozenset({list, tuple, set, frozenset, dict})
#: The bytes that a unit of each one's length counts as. An item counts by the time that it takes, not by its
#: size; and so not more than a thousand are ever looked at.
_WEIGHTS: Final[dict[type, int]] = dict.fromkeys((bytes, bytearray, str), 1) | dict.fromkeys(_CONTAINERS, 128)


def is_large(value: Any, content_encoding: str | None = None) -> bool:
    """
    Guess whether coding a value, or a body, should be done in a thread.

    It adds up what is in it, at any depth, until that is large: so a value of
    any size costs no more than a look at a thousand items. The keys of a dict
    don't count. A compressed body is always large, since its size says nothing
    about what it inflates to.

    :param value: a value to write, or a body to read.
    :param content_encoding: a body's, as its message has it.
    """
    if content_encoding and content_encoding != "identity":
        return True
    kind = type(value)
    if kind not in _WEIGHTS:
        return False
    size = len(value) * _WEIGHTS[kind]
    if size > LARGE or kind not in _CONTAINERS:
        return size > LARGE
    # The usual value has no other containers in it, and is done here.
    for item in value.values() if kind is dict else value:
        if type(item) in _WEIGHTS:
            if type(item) in _CONTAINERS:
                return _adds_up_to_large(value)
            size += len(item)
    return size > LARGE


def _adds_up_to_large(value: Any) -> bool:
    """Whether a container is large with all that is in those inside it; one that holds itself is."""
    size = len(value) * _WEIGHTS[type(value)]
    waiting = [value]
    while waiting and size <= LARGE:
        container = waiting.pop()
        for item in container.values() if type(container) is dict else container:
            kind = type(item)
            if kind in _WEIGHTS:
                size += len(item) * _WEIGHTS[kind]
                if kind in _CONTAINERS:
                    waiting.append(item)
    return size > LARGE
