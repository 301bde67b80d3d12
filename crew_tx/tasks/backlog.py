"""
Calls that a worker holds and has not started.

Pure: the highest priority first; at one priority, one item from each queue in
turn, so that a long queue doesn't keep a short one waiting; in a queue, first
come, first served.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Backlog(Generic[T]):
    """What is held, in the order in which it is to be started."""

    def __init__(self) -> None:
        self._levels: dict[int, OrderedDict[str, deque[T]]] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        """Everything that is held, in no order that matters."""
        return (item for level in self._levels.values() for items in level.values() for item in items)

    def push(self, queue: str, priority: int, item: T) -> None:
        """Hold an item."""
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = OrderedDict()
        items = level.get(queue)
        if items is None:
            items = level[queue] = deque()
        items.append(item)
        self._length += 1

    def pop(self) -> T:
        """
        Take the item that is to be started next.

        :raises IndexError: if there is none.
        """
        if not self._length:
            raise IndexError("the backlog is empty")
        priority = max(self._levels)
        level = self._levels[priority]
        queue, items = next(iter(level.items()))
        item = items.popleft()
        self._length -= 1
        level.move_to_end(queue)
        if not items:
            self._drop(priority, queue)
        return item

    def remove(self, item: T) -> bool:
        """
        Take one item out.

        :returns: whether it was there.
        """
        for priority, level in self._levels.items():
            for queue, items in level.items():
                for index, held in enumerate(items):
                    if held is item:
                        del items[index]
                        self._length -= 1
                        if not items:
                            self._drop(priority, queue)
                        return True
        return False

    def drain(self) -> list[T]:
        """Take everything, in the order in which it would have been started."""
        return [self.pop() for _ in range(self._length)]

    def _drop(self, priority: int, queue: str) -> None:
        level = self._levels[priority]
        del level[queue]
        if not level:
            del self._levels[priority]
