"""
The latest events of a channel, numbered, so that a client can go on where it was.

An id is ``EPOCH-NUMBER``: the epoch is one subscription's, and numbers begin
anew with the next one, so that a client that comes back after its end is told
that it may have missed something.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_ID = re.compile(r"([0-9a-f]{8})-([0-9]{1,15})")


@dataclass(frozen=True, slots=True)
class Item:
    """
    An event, or a gap where events were missed.

    :ivar number: its place, from 1.
    :ivar value: what clients are given of it.
    :ivar text: the same as JSON; None where JSON can't hold it.
    :ivar is_gap: whether it says that events were missed.
    """

    number: int
    value: dict[str, Any]
    text: bytes | None
    is_gap: bool = False


class EventBuffer:
    """
    Keeps so many events, and so many bytes of them; the oldest go first.

    :param epoch: eight hexadecimal digits.
    """

    def __init__(self, epoch: str, most: int, most_bytes: int) -> None:
        self._epoch = epoch
        self._most = most
        self._most_bytes = most_bytes
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self.last = 0

    def __len__(self) -> int:
        return len(self._items)

    def next_id(self) -> str:
        """The id of what is added next."""
        return self.id_of(self.last + 1)

    def id_of(self, number: int) -> str:
        """The id by which a client goes on behind a number."""
        return f"{self._epoch}-{number}"

    def add(self, value: dict[str, Any], text: bytes | None, size: int, *, is_gap: bool = False) -> None:
        """
        Add what came.

        :param size: its bytes, for the limit.
        """
        self.last += 1
        self._items.append((Item(self.last, value, text, is_gap), size))
        self._bytes += size
        # The latest one stays, however large it is: it is there for those who wait for it.
        while len(self._items) > self._most or (self._bytes > self._most_bytes and len(self._items) > 1):
            self._bytes -= self._items.popleft()[1]

    def cursor(self, last_id: str | None) -> tuple[int, bool]:
        """
        Where a client goes on.

        :param last_id: the last id that it has; None if it has none yet.
        :returns: the number behind which it goes on, and whether it may have missed events before.
        """
        if not last_id:
            return self.last, False
        found = _ID.fullmatch(last_id)
        if found is None or found[1] != self._epoch or int(found[2]) > self.last:
            return self._before_first, True
        return int(found[2]), False

    def missed(self, number: int) -> int:
        """How many behind a number are there no more."""
        return max(0, self._before_first - number)

    def behind(self, number: int) -> Iterator[Item]:
        """What is there behind a number, in order."""
        # From the end: who waits is behind by a few.
        count = min(len(self._items), self.last - number)
        for index in range(len(self._items) - count, len(self._items)):
            yield self._items[index][0]

    @property
    def _before_first(self) -> int:
        return self.last - len(self._items)
