"""Acks of one channel's deliveries: those that come together leave as few as they can be."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from crew_tx.amqp.channel import AMQChannel


class Settlements:
    """
    Follows which deliveries of a channel are settled, in the order in which they came.

    An ack for ``multiple`` settles all up to its tag, so it serves for as many
    as are answered without a gap; those behind a gap have an ack each.
    """

    def __init__(self, channel: AMQChannel) -> None:
        self._channel = channel
        self._unsettled: deque[int] = deque()
        self._settled: set[int] = set()
        self._batch: list[int] | None = None

    def taken(self, delivery_tag: int) -> None:
        """A delivery came; their tags only grow."""
        self._unsettled.append(delivery_tag)

    def ack(self, delivery_tag: int) -> None:
        """It is answered: acknowledged at once, or with all the others of :meth:`together`."""
        if self._batch is not None:
            self._batch.append(delivery_tag)
            return
        self._settle(delivery_tag)
        self._channel.ack(delivery_tag)

    def nack(self, delivery_tag: int, requeue: bool) -> None:
        """It goes back, or to the dead letters."""
        self._settle(delivery_tag)
        self._channel.nack(delivery_tag, requeue=requeue)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Hold the acks back until the end of the block."""
        self._batch = []
        try:
            yield
        finally:
            batch, self._batch = self._batch, None
            self._ack_all(batch)

    def _ack_all(self, delivery_tags: list[int]) -> None:
        end = 0
        for delivery_tag in delivery_tags:
            end = self._settle(delivery_tag) or end
        # Of those that are acked here, since the broker knows no others any more.
        covered = [delivery_tag for delivery_tag in delivery_tags if delivery_tag <= end]
        if covered:
            self._channel.ack(max(covered), multiple=len(covered) > 1)
        for delivery_tag in delivery_tags:
            if delivery_tag > end:
                self._channel.ack(delivery_tag)

    def _settle(self, delivery_tag: int) -> int:
        """:returns: the last delivery before the first unsettled one; 0 if that is the same as before."""
        unsettled, settled = self._unsettled, self._settled
        settled.add(delivery_tag)
        last = 0
        while unsettled and unsettled[0] in settled:
            last = unsettled.popleft()
            settled.discard(last)
        return last
