"""Classic and quorum queues: in which order messages leave, and what becomes of those that come back."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import Any

from crew_tx.broker._messages import Entry, Message
from crew_tx.broker._queues import Queue


class ClassicQueue(Queue):
    """By priority, and in the order in which they came; what comes back has its old place."""

    kind = "classic"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ready: list[Entry] = []

    def __len__(self) -> int:
        return len(self._ready)

    def _head(self) -> Entry | None:
        return self._ready[0] if self._ready else None

    def _pop(self) -> Entry:
        return heappop(self._ready)

    def _push(self, entry: Entry) -> None:
        heappush(self._ready, entry)

    def _put_back(self, entry: Entry, asked: bool) -> None:
        self._push(entry)

    def _clear(self) -> None:
        self._ready.clear()

    def _priority(self, message: Message) -> int:
        most = self.arguments.max_priority
        return 0 if most is None else min(message.properties.get("priority") or 0, most)


class QuorumQueue(Queue):
    """
    In the order in which they came; what comes back is counted, and goes first.

    What a client hands back goes last where no limit ends its coming back, as in RabbitMQ.
    """

    kind = "quorum"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ready: deque[Entry] = deque()
        self._back: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._ready) + len(self._back)

    def _head(self) -> Entry | None:
        for entries in (self._back, self._ready):
            if entries:
                return entries[0]
        return None

    def _pop(self) -> Entry:
        return (self._back or self._ready).popleft()

    def _push(self, entry: Entry) -> None:
        self._ready.append(entry)

    def _put_back(self, entry: Entry, asked: bool) -> None:
        (self._ready if self._goes_last(asked) else self._back).append(entry)

    def requeue(self, entries: list[Entry], now: float, asked: bool) -> None:
        if not self._goes_last(asked):
            super().requeue(entries, now, asked)
            return
        # Each as if it were new: the one before may be delivered again by then.
        for entry in entries:
            super().requeue([entry], now, asked)

    def _requeued(self, now: float) -> None:
        # What can be delivered is not too much, here.
        self.drop_expired(now)
        self.dispatch(now)
        super()._requeued(now)

    def _goes_last(self, asked: bool) -> bool:
        return asked and self.arguments.delivery_limit is None

    def _clear(self) -> None:
        self._ready.clear()
        self._back.clear()

    def _priority(self, message: Message) -> int:
        return 0

    def excludes(self, exclusive: bool) -> bool:
        # RabbitMQ does not look at it here.
        return False

    def as_delivered(self, entry: Entry) -> Message:
        # The count is not the message's own: a dead letter leaves without it.
        return _with_count(entry) if entry.returns else entry.message

    def as_got(self, entry: Entry) -> Message:
        return _with_count(entry)

    def _may_return(self, entry: Entry) -> bool:
        entry.returns += 1
        limit = self.arguments.delivery_limit
        return limit is None or entry.returns <= limit


def _with_count(entry: Entry) -> Message:
    return entry.message.with_headers({**entry.message.headers, "x-delivery-count": entry.returns})


KINDS: dict[str, type[Queue]] = {"classic": ClassicQueue, "quorum": QuorumQueue}
