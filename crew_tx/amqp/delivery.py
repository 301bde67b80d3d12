"""What arrives with content, as values."""

from __future__ import annotations

from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, fail
from txamqp.queue import Closed, TimeoutDeferredQueue

from crew_tx.message import Properties


class Delivery(NamedTuple):
    """A message that the broker delivered to a consumer (basic.deliver)."""

    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    properties: Properties
    body: bytes


class Returned(NamedTuple):
    """A mandatory message that no queue would take (basic.return)."""

    reply_code: int
    reply_text: str
    exchange: str
    routing_key: str
    properties: Properties
    body: bytes


class ConsumerQueue(TimeoutDeferredQueue):
    """
    txamqp's queue of deliveries, with an end.

    Once closed it hands out nothing more: a delivery's tag is dead with its
    channel, so whoever got it could neither ack nor trust it.
    """

    def __init__(self, clock: object = None) -> None:
        super().__init__(clock=clock)
        self.closed = False

    def get(self, timeout: float | None = None) -> Deferred[Any]:
        """A Deferred of the next message; errbacks with txamqp's ``Empty`` or ``Closed``."""
        return fail(Closed()) if self.closed else super().get(timeout)

    def put(self, item: object) -> None:
        """Hand a message to the first who waits; dropped once closed."""
        if not self.closed:
            super().put(item)

    def close(self) -> None:
        """Fail all who wait, and all who will."""
        self.closed = True
        self.pending.clear()
        while self.waiting:
            self.waiting.pop(0).callback(TimeoutDeferredQueue.END)


class BoundedQueue(ConsumerQueue):
    """A consumer queue that drops its oldest message when it is full."""

    def __init__(self, limit: int, clock: object = None) -> None:
        super().__init__(clock=clock)
        self._limit = limit
        self.dropped = 0

    def put(self, item: object) -> None:
        if len(self.pending) >= self._limit:
            self.pending.pop(0)
            self.dropped += 1
        super().put(item)
