"""A worker's consumers: one for each task queue, begun and ended together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from twisted.internet.defer import Deferred, DeferredList, DeferredLock

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.delivery import Delivery
from crew_tx.amqp.errors import translated
from crew_tx.errors import AccessRefusedError
from crew_tx.message import Call
from crew_tx.rpc.answers import TakenDelivery
from crew_tx.rpc.settlement import Settlements
from crew_tx.topology import task_queue_name


class IReception(Protocol):
    """What takes calls."""

    def check(self, delivery: Delivery, taken: TakenDelivery) -> Call | None:
        """Read a delivery. :returns: its call; None of what is settled, or will be."""

    def received(self, call: Call, taken: TakenDelivery) -> None:
        """Take a call."""


#: Takes the channel, and the name of a queue whose consumer the broker ended.
QueueGone = Callable[[AMQChannel, str], object]


class Intake:
    """
    Takes deliveries from task queues.

    :param queues: their names, without ``crew.tasks.``.
    :param reception: checks each delivery, and takes its call; what one read brings is all
        checked before any is taken.
    :param queue_gone: called when the broker ended a consumer.
    :param beside: another one that has the same channel: they settle together,
        and change consumers by turns.
    """

    def __init__(
        self,
        channel: AMQChannel,
        queues: list[str],
        reception: IReception,
        queue_gone: QueueGone,
        beside: Intake | None = None,
    ) -> None:
        self.channel = channel
        self._queues = queues
        self._reception = reception
        self._queue_gone = queue_gone
        self._tags: list[str] = []
        self.consuming = False
        self._settlements: Settlements = Settlements(channel) if beside is None else beside._settlements
        self._turn: DeferredLock = DeferredLock() if beside is None else beside._turn
        #: A context manager: acks of deliveries that are settled inside leave at its end.
        self.together = self._settlements.together

    async def begin(self, prefetch: int) -> None:
        """
        Consume from every queue; consumers that are there give way to new ones.

        :param prefetch: how many unsettled calls the broker sends to each.
        :raises AccessRefusedError: if the user may not.
        :raises txamqp.client.Closed: if the channel ends otherwise.
        """
        self.consuming = True
        old = self._tags.copy()
        await self._turn.run(self._consume_all, prefetch)
        for tag in old:
            await self._cancel(tag)
        if not self.consuming:
            await self.end()

    def _consume_all(self, prefetch: int) -> Deferred[None]:
        return Deferred.fromCoroutine(self._begin_consumers(prefetch))

    async def _begin_consumers(self, prefetch: int) -> None:
        # It counts for the consumers that come after it alone.
        await self.channel.basic_qos(prefetch_count=prefetch)
        for queue in self._queues:
            name = task_queue_name(queue)
            tag = await self._consume(name)
            # Not before: end() may have begun another list meanwhile.
            self._tags.append(tag)

    async def _cancel(self, tag: str) -> None:
        """End one consumer, unless :meth:`end` has done so meanwhile."""
        if tag in self._tags:
            self._tags.remove(tag)
            await self.channel.cancel(tag)

    async def _consume(self, queue: str) -> str:
        try:
            return await self.channel.consume_together(
                queue, self._check, self._take, on_cancelled=partial(self._gone, queue)
            )
        except Exception as error:
            refused = translated(error, f"consuming from {queue}")
            raise (refused if isinstance(refused, AccessRefusedError) else error) from None

    def end(self) -> Deferred[None]:
        """Stop consuming: a Deferred that fires when no more deliveries will come."""
        self.consuming = False
        tags, self._tags = self._tags, []
        if self.channel.closed:
            tags = []
        cancels = DeferredList([self.channel.cancel(tag) for tag in tags], consumeErrors=True)
        return cancels.addCallback(lambda _: None)

    def _check(self, delivery: Delivery) -> tuple[Call, TakenDelivery] | None:
        tag = delivery.delivery_tag
        self._settlements.taken(tag)
        taken = TakenDelivery(self.channel, tag, self._settlements, delivery.properties)
        call = self._reception.check(delivery, taken)
        return None if call is None else (call, taken)

    def _take(self, delivery: Delivery, checked: tuple[Call, TakenDelivery] | None) -> None:
        if checked is not None:
            self._reception.received(*checked)

    def _gone(self, queue: str, tag: str) -> None:
        if tag in self._tags:
            self._tags.remove(tag)
            self._queue_gone(self.channel, queue)
