"""
Queues: what waits, who consumes, and what ends a message's wait.

Pure: time is an argument, in seconds. A queue tells its virtual host of dead
letters and of its own end by the two callbacks that it is made with.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from crew_tx.broker._arguments import QueueArguments
from crew_tx.broker._messages import Entry, Message, Reason

if TYPE_CHECKING:
    from crew_tx.broker._channels import Consumer
    from crew_tx.broker._exchanges import Exchange

OnDead = Callable[["Queue", Message, Reason, float], None]
OnBytes = Callable[[int], None]


class Queue:
    """
    What classic and quorum queues have in common.

    :param owner: the connection that an exclusive queue belongs to, else None.
    :param on_dead: called with a message that is to be dead-lettered, and why.
    :param on_bytes: called with how many bytes more, or fewer, it holds.
    :ivar sources: the exchanges that are bound to it.
    :ivar used: when it was used last, for ``x-expires``.
    :ivar wakes: when its head expires, so that somebody looks at it then.
    """

    kind = ""

    def __init__(
        self,
        name: str,
        *,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: QueueArguments,
        owner: object,
        now: float,
        on_dead: OnDead,
        on_bytes: OnBytes,
    ) -> None:
        self.name = name
        self.durable = durable
        self.exclusive = exclusive
        self.auto_delete = auto_delete
        self.arguments = arguments
        self.owner = owner
        self.used = now
        self.wakes: float | None = None
        self.deleted = False
        self.unacked = 0
        self.consumers: list[Consumer] = []
        self.sources: set[Exchange] = set()
        self._ring: deque[Consumer] = deque()
        self._had_consumers = False
        self._last = 0
        self._bytes = 0
        self._on_dead = on_dead
        self._on_bytes = on_bytes

    # -- what kinds of queues differ in ----------------------------------------------

    @abstractmethod
    def __len__(self) -> int:
        """How many messages are ready."""

    @abstractmethod
    def _head(self) -> Entry | None:
        """What is delivered next."""

    @abstractmethod
    def _pop(self) -> Entry:
        """Take the head out."""

    @abstractmethod
    def _push(self, entry: Entry) -> None:
        """Put a new message in."""

    @abstractmethod
    def _put_back(self, entry: Entry) -> None:
        """Put one in that was delivered."""

    @abstractmethod
    def _clear(self) -> None:
        """Forget all that is ready."""

    @abstractmethod
    def _priority(self, message: Message) -> int:
        """A message's priority here."""

    # -- in --------------------------------------------------------------------------

    @property
    def ready_bytes(self) -> int:
        """The bytes of the bodies that are ready."""
        return self._bytes

    def publish(self, message: Message, now: float) -> bool:
        """
        Take a message.

        :returns: False if the queue is full and refuses it.
        """
        arguments = self.arguments
        if arguments.rejects and self._would_overflow(len(message.body)):
            if arguments.overflow == "reject-publish-dlx":
                self._on_dead(self, message, "maxlen", now)
            return False
        self._last += 1
        entry = Entry(message, self._last, self._priority(message), self._expires(message, now))
        self._enqueue(entry, now)
        return True

    def _enqueue(self, entry: Entry, now: float) -> None:
        consumer = None if len(self) else self._next_consumer()
        if consumer is not None:
            consumer.deliver(entry)
            return
        self._add(entry)
        dropped = self._drop_surplus(now)
        if dropped or len(self) == 1:
            self.drop_expired(now)

    def requeue(self, entries: list[Entry], now: float) -> None:
        """Take back what was delivered and not acknowledged."""
        for entry in entries:
            entry.redelivered = True
            if self._may_return(entry, now):
                self._put_back(entry)
                self._count(entry.size)
        self._drop_surplus(now)
        self.drop_expired(now)
        self.dispatch(now)

    def _may_return(self, entry: Entry, now: float) -> bool:
        """Whether it may be delivered once more."""
        return True

    def dead_letter(self, entry: Entry, reason: Reason, now: float) -> None:
        """It is out of the queue, and goes where its dead letters go."""
        self._on_dead(self, entry.message, reason, now)

    # -- out -------------------------------------------------------------------------

    def dispatch(self, now: float) -> None:
        """Deliver what is ready, to one consumer after the other, as far as they take more."""
        while len(self):
            consumer = self._next_consumer()
            if consumer is None:
                return
            consumer.deliver(self._fetch(now))

    def get(self, now: float) -> Entry | None:
        """Take the next message without consuming."""
        self.used = now
        return self._fetch(now) if len(self) else None

    def hold(self, entry: Entry) -> None:
        """It is delivered, and counts until it is settled."""
        self.unacked += 1
        self._on_bytes(entry.size)

    def release(self, entry: Entry) -> None:
        """It is settled."""
        self.unacked -= 1
        self._on_bytes(-entry.size)

    def purge(self) -> int:
        """
        Forget all that is ready.

        :returns: how many there were.
        """
        count = len(self)
        self._count(-self._bytes)
        self._clear()
        return count

    def _fetch(self, now: float) -> Entry:
        entry = self._take()
        self.drop_expired(now)
        return entry

    def _add(self, entry: Entry) -> None:
        self._push(entry)
        self._count(entry.size)

    def _take(self) -> Entry:
        entry = self._pop()
        self._count(-entry.size)
        return entry

    def _count(self, size: int) -> None:
        self._bytes += size
        self._on_bytes(size)

    # -- consumers ---------------------------------------------------------------------

    def add_consumer(self, consumer: Consumer, now: float) -> None:
        """Deliver to one more."""
        self._had_consumers = True
        self.consumers.append(consumer)
        self._ring.append(consumer)
        self.dispatch(now)

    def remove_consumer(self, consumer: Consumer, now: float) -> None:
        """Deliver to one no more."""
        self.consumers.remove(consumer)
        self._ring.remove(consumer)
        self.used = now

    @property
    def is_over(self) -> bool:
        """Whether its last consumer is gone, and it goes with it."""
        return self.auto_delete and self._had_consumers and not self.consumers

    @property
    def has_exclusive_consumer(self) -> bool:
        """Whether nobody else may consume."""
        return any(consumer.exclusive for consumer in self.consumers)

    def _next_consumer(self) -> Consumer | None:
        """The one whose turn it is, of those that take more."""
        ring = self._ring
        for _ in range(len(ring)):
            consumer = ring[0]
            ring.rotate(-1)
            if consumer.takes_more:
                return consumer
        return None

    # -- limits and time -----------------------------------------------------------------

    def expires_at(self) -> float | None:
        """When it is deleted since nobody uses it; None for never, or not now."""
        unused = self.arguments.expires
        return None if unused is None or self.consumers else self.used + unused

    def drop_expired(self, now: float) -> None:
        """Take expired messages off the head; one that expires behind another has to wait."""
        while (head := self._head()) is not None and head.expires is not None and head.expires <= now:
            self.dead_letter(self._take(), "expired", now)
        self.wakes = None if head is None else head.expires

    def _expires(self, message: Message, now: float) -> float | None:
        own = message.properties.get("expiration")
        limits = [limit for limit in (self.arguments.message_ttl, _seconds(own)) if limit is not None]
        return now + min(limits) if limits else None

    def _would_overflow(self, size: int) -> bool:
        arguments = self.arguments
        return _over(len(self) + 1, arguments.max_length) or _over(self._bytes + size, arguments.max_bytes)

    def _drop_surplus(self, now: float) -> bool:
        """:returns: whether anything was dropped, from the head, to make room."""
        arguments, dropped = self.arguments, False
        if arguments.rejects:
            return False
        while len(self) and (
            _over(len(self), arguments.max_length) or _over(self._bytes, arguments.max_bytes)
        ):
            self.dead_letter(self._take(), "maxlen", now)
            dropped = True
        return dropped


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

    _put_back = _push

    def _clear(self) -> None:
        self._ready.clear()

    def _priority(self, message: Message) -> int:
        most = self.arguments.max_priority
        return 0 if most is None else min(message.properties.get("priority") or 0, most)


class QuorumQueue(Queue):
    """In the order in which they came; what comes back goes first, and is counted."""

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

    def _put_back(self, entry: Entry) -> None:
        self._back.append(entry)

    def _clear(self) -> None:
        self._ready.clear()
        self._back.clear()

    def _priority(self, message: Message) -> int:
        return 0

    def _may_return(self, entry: Entry, now: float) -> bool:
        entry.returns += 1
        limit = self.arguments.delivery_limit
        if limit is not None and entry.returns > limit:
            self.dead_letter(entry, "delivery_limit", now)
            return False
        entry.message = entry.message.with_headers(
            {**entry.message.headers, "x-delivery-count": entry.returns}
        )
        return True


KINDS: dict[str, type[Queue]] = {"classic": ClassicQueue, "quorum": QuorumQueue}


def _seconds(expiration: str | None) -> float | None:
    return None if expiration is None else int(expiration) / 1000


def _over(size: int, limit: int | None) -> bool:
    return limit is not None and size > limit
