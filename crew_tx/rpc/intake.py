"""A worker's consumers: one for each task queue, begun and ended together."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.delivery import Delivery
from crew_tx.rpc.answers import TakenDelivery
from crew_tx.topology import task_queue_name


class Intake:
    """
    Takes deliveries from task queues.

    :param queues: their names, without ``crew.tasks.``.
    :param received: called with each delivery and what settles it.
    :param queue_gone: called when the broker ended a consumer, since its queue is gone.
    """

    log = Logger()

    def __init__(
        self,
        channel: AMQChannel,
        queues: list[str],
        received: Callable[[Delivery, TakenDelivery], object],
        queue_gone: Callable[[], object],
    ) -> None:
        self.channel = channel
        self._queues = queues
        self._received = received
        self._queue_gone = queue_gone
        self._tags: list[str] = []
        self.consuming = False

    async def begin(self) -> None:
        """
        Consume from every queue.

        :raises txamqp.client.Closed: if the broker refuses.
        """
        self.consuming = True
        for queue in self._queues:
            name = task_queue_name(queue)
            self._tags.append(await self.channel.consume(name, self._delivered, on_cancelled=self._gone))

    def end(self) -> Deferred[None]:
        """Stop consuming: a Deferred that fires when no more deliveries will come."""
        self.consuming = False
        tags, self._tags = self._tags, []
        if self.channel.closed:
            tags = []
        cancels = DeferredList([self.channel.cancel(tag) for tag in tags], consumeErrors=True)
        return cancels.addCallback(lambda _: None)

    def _delivered(self, delivery: Delivery) -> None:
        self._received(delivery, TakenDelivery(self.channel, delivery.delivery_tag))

    def _gone(self, tag: str) -> None:
        if tag in self._tags:
            self._queue_gone()
