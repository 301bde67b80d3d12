"""
Queues: what waits, who consumes, and what ends a message's wait.

Pure: time is an argument, in seconds. A queue tells its virtual host of dead
letters and of its own end by the two callbacks that it is made with.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

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
    :param on_bytes: called with how many bytes more, or fewer, it holds, by ``Entry.held``.
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
        self._rings: dict[int, deque[Consumer]] = {}
        self._had_consumers = False
        self._last = 0
        self._bytes = 0
        self._held = 0
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
    def _put_back(self, entry: Entry, asked: bool) -> None:
        """Put one in that was delivered; ``asked`` as in :meth:`requeue`."""

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
            if not consumer.no_ack:
                self._on_bytes(entry.held)
            consumer.deliver(entry)
            return
        self._on_bytes(entry.held)
        self._push(entry)
        self._count(entry)
        dropped = self._drop_surplus(now)
        if dropped or len(self) == 1:
            self.drop_expired(now)

    def _count(self, entry: Entry) -> None:
        """It is ready."""
        self._bytes += entry.size
        self._held += entry.held

    def requeue(self, entries: list[Entry], now: float, asked: bool) -> None:
        """
        Take back what was delivered and not acknowledged.

        :param asked: whether the client has asked for that, and is not just gone.
        """
        for entry in entries:
            entry.redelivered = True
            if self._may_return(entry):
                self._put_back(entry, asked)
                self._count(entry)
            else:
                self._drop(entry, "delivery_limit", now)
        self._requeued(now)

    def _requeued(self, now: float) -> None:
        """There is more in it than before: drop, and deliver."""
        self._drop_surplus(now)
        self.drop_expired(now)
        self.dispatch(now)

    def _may_return(self, entry: Entry) -> bool:
        """Whether it may be delivered once more; else it is a dead letter."""
        return True

    def dead_letter(self, entry: Entry, reason: Reason, now: float) -> None:
        """It is out of the queue, and goes where its dead letters go."""
        self._on_dead(self, entry.message, reason, now)

    def _drop(self, entry: Entry, reason: Reason, now: float) -> None:
        self.forget(entry)
        self.dead_letter(entry, reason, now)

    # -- out -------------------------------------------------------------------------

    def dispatch(self, now: float) -> None:
        """Deliver what is ready, to one consumer after the other, as far as they take more."""
        self._drop_overdue(now)
        while len(self):
            consumer = self._next_consumer()
            if consumer is None:
                return
            entry = self._fetch(now)
            if consumer.no_ack:
                self.forget(entry)
            consumer.deliver(entry)

    def get(self, now: float) -> Entry | None:
        """Take the next message without consuming; its bytes count until it is forgotten."""
        self.used = now
        self._drop_overdue(now)
        return self._fetch(now) if len(self) else None

    def as_delivered(self, entry: Entry) -> Message:
        """The message as consumers are shown it."""
        return entry.message

    def as_got(self, entry: Entry) -> Message:
        """The message as basic.get shows it."""
        return entry.message

    def hold(self, entry: Entry) -> None:
        """It is delivered, and waits to be settled."""
        self.unacked += 1

    def release(self, entry: Entry) -> None:
        """It is settled: to be forgotten, or to come back."""
        self.unacked -= 1

    def forget(self, entry: Entry) -> None:
        """Nobody has it any more: its bytes are free."""
        self._on_bytes(-entry.held)

    def purge(self) -> int:
        """
        Forget all that is ready.

        :returns: how many there were.
        """
        count = len(self)
        self._on_bytes(-self._held)
        self._bytes = self._held = 0
        self._clear()
        return count

    def take_all(self) -> list[Entry]:
        """
        Take out all that is ready: each is to be forgotten, or to be handed to :meth:`requeue`.

        :returns: it, in the order of delivery.
        """
        return [self._take() for _ in range(len(self))]

    def _fetch(self, now: float) -> Entry:
        entry = self._take()
        self.drop_expired(now)
        return entry

    def _take(self) -> Entry:
        entry = self._pop()
        self._bytes -= entry.size
        self._held -= entry.held
        return entry

    # -- consumers ---------------------------------------------------------------------

    def add_consumer(self, consumer: Consumer, now: float) -> None:
        """Deliver to one more."""
        self._had_consumers = True
        self.consumers.append(consumer)
        if consumer.priority in self._rings:
            self._rings[consumer.priority].append(consumer)
        else:
            rings = {**self._rings, consumer.priority: deque([consumer])}
            self._rings = {priority: rings[priority] for priority in sorted(rings, reverse=True)}
        self.dispatch(now)

    def remove_consumer(self, consumer: Consumer, now: float) -> None:
        """Deliver to one no more."""
        self.consumers.remove(consumer)
        ring = self._rings[consumer.priority]
        ring.remove(consumer)
        if not ring:
            del self._rings[consumer.priority]
        self.used = now

    @property
    def is_over(self) -> bool:
        """Whether its last consumer is gone, and it goes with it."""
        return self.auto_delete and self._had_consumers and not self.consumers

    def excludes(self, exclusive: bool) -> bool:
        """Whether one more may not consume, exclusively or not."""
        return any(consumer.exclusive for consumer in self.consumers) or (exclusive and bool(self.consumers))

    def _next_consumer(self) -> Consumer | None:
        """The one whose turn it is, of those with the highest priority that take more."""
        if self.arguments.single_active:
            return self.consumers[0] if self.consumers and self.consumers[0].takes_more else None
        for ring in self._rings.values():
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
            self._drop(self._take(), "expired", now)
        self.wakes = None if head is None else head.expires

    def _drop_overdue(self, now: float) -> None:
        """What should have been dropped, but nobody has looked since."""
        if self.wakes is not None and self.wakes <= now:
            self.drop_expired(now)

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
            self._drop(self._take(), "maxlen", now)
            dropped = True
        return dropped


def _seconds(expiration: str | None) -> float | None:
    return None if expiration is None else int(expiration) / 1000


def _over(size: int, limit: int | None) -> bool:
    return limit is not None and size > limit
