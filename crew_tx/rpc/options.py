"""What a caller may ask for with a call, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from crew_tx.errors import InvalidArgumentError
from crew_tx.message import LONGEST_EXPIRATION, Headers, check_headers
from crew_tx.topology import HIGHEST_PRIORITY, LONGEST_SHORT_STRING

DEFAULT_EXPIRATION = 86_400.0

#: The fields of :class:`CallOptions` in their order, without the headers: as
#: they are given, and quickly put together.
GivenOptions = tuple[int, float, float | None, bool, str | None, str | bool | None, bool]


class CallOptions(NamedTuple):
    """
    The keyword arguments of ``Client.call`` that calls may have in common.

    :ivar expiration: seconds that it may wait in the queue.
    :ivar timeout: seconds that it may run; None for ``expiration``.
    """

    priority: int = 0
    expiration: float = DEFAULT_EXPIRATION
    timeout: float | None = None
    persistent: bool = True
    serializer: str | None = None
    compress: str | bool | None = None
    require_worker: bool = False
    headers: Headers | None = None

    @property
    def runs(self) -> float:
        """Seconds that it may run."""
        return self.expiration if self.timeout is None else self.timeout

    def check(self) -> None:
        """:raises InvalidArgumentError: naming the argument and what it may be."""
        if not _is_whole(self.priority) or not 0 <= self.priority <= HIGHEST_PRIORITY:
            raise InvalidArgumentError(f"priority is a whole number from 0 to 255, not {self.priority!r}")
        _check_seconds("expiration", self.expiration)
        if self.timeout is not None:
            _check_seconds("timeout", self.timeout)
        if self.serializer is not None and not isinstance(self.serializer, str):
            raise InvalidArgumentError(f"serializer is a str, not {type(self.serializer).__name__}")
        if self.headers:
            if not isinstance(self.headers, Mapping):
                raise InvalidArgumentError(f"headers is a dict, not {type(self.headers).__name__}")
            check_headers(self.headers)


def checked_call_id(call_id: str) -> str:
    """
    An id of the caller's choosing.

    :raises InvalidArgumentError: if it can't be a message's.
    """
    try:
        size = len(call_id.encode()) if isinstance(call_id, str) else 0
    except UnicodeEncodeError:
        raise InvalidArgumentError("call_id is valid Unicode: it has a lone surrogate") from None
    if not 0 < size <= LONGEST_SHORT_STRING:
        raise InvalidArgumentError(f"call_id is a str of 1 to {LONGEST_SHORT_STRING} bytes")
    return call_id


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_seconds(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidArgumentError(f"{name} is a number of seconds, not {value!r}")
    # Whole milliseconds go over the wire, and 0 of them would expire at once.
    if not 0.001 <= value <= LONGEST_EXPIRATION:
        raise InvalidArgumentError(f"{name} is from 0.001 to {LONGEST_EXPIRATION} seconds, not {value!r}")
