"""
A table of deadlines, apart from whatever acts on them.

A heap with lazy removal: setting and clearing cost the same with ten and with
a hundred thousand entries, and the heap is rebuilt before what was cleared
outweighs what is left, so a long limit that never comes due costs nothing.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_SLACK = 64


class Deadlines(Generic[K]):
    """When each key is due, in seconds of whatever clock its user reads."""

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, key: K) -> bool:
        return key in self._due

    def set(self, key: K, when: float) -> None:
        """Make a key due at ``when``, in place of any deadline that it had."""
        if self._due.get(key) == when:
            return
        # Put in anew, so that the table is in the order of setting, which a rebuild keeps.
        self._due.pop(key, None)
        self._due[key] = when
        self._count += 1
        # The count keeps keys themselves from being compared.
        heappush(self._heap, (when, self._count, key))
        if len(self._heap) > 2 * len(self._due) + _SLACK:
            self._rebuild()

    def clear(self, key: K) -> None:
        """Forget a key, known or not."""
        self._due.pop(key, None)

    def earliest(self) -> float | None:
        """When the first key is due; None if there is none."""
        heap = self._heap
        while heap:
            when, _, key = heap[0]
            if self._due.get(key) == when:
                return when
            heappop(heap)
        return None

    def overdue(self, now: float) -> list[K]:
        """The keys due by ``now``, earliest first; they are forgotten."""
        keys = []
        while (when := self.earliest()) is not None and when <= now:
            key = heappop(self._heap)[2]
            del self._due[key]
            keys.append(key)
        return keys

    def _rebuild(self) -> None:
        """One entry a key: one that was cleared and set to the same again has left more."""
        self._heap = [(when, count, key) for count, (key, when) in enumerate(self._due.items())]
        self._count = len(self._heap)
        heapify(self._heap)
