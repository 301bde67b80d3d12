"""
A worker's control queue: what is said to this one worker.

It is bound by the ids of the worker's tasks, which is what a probe finds, and by
arpc's management keys, for commands. Each connection has another, so that a new
queue never races the ghost of the last.
"""

from __future__ import annotations

from collections.abc import Callable

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.declare import declare_bound
from crew_tx.amqp.delivery import Delivery
from crew_tx.rpc.intake import QueueGone
from crew_tx.topology import control_bindings, control_queue


class ControlQueue:
    """
    :param services: names besides the tasks' by which commands may be meant for it.
    :param received: called with each delivery.
    :param gone: called when the broker deleted the queue: no probe finds the
        worker then, though its connection is well.
    """

    def __init__(
        self,
        worker_id: str,
        task_ids: list[str],
        services: list[str],
        received: Callable[[Delivery], object],
        gone: QueueGone,
    ) -> None:
        self._worker_id = worker_id
        self._task_ids = task_ids
        self._services = services
        self._received = received
        self._gone = gone
        self._connections = 0

    async def begin(self, channel: AMQChannel) -> None:
        """
        Make a new connection's queue, and listen to it.

        :raises txamqp.client.Closed: if the channel ends.
        """
        self._connections += 1
        queue = control_queue(self._worker_id, self._connections)
        bindings = control_bindings(queue.name, self._worker_id, self._task_ids, self._services)
        await declare_bound(channel, queue, bindings)
        await channel.consume(
            queue.name,
            self._received,
            no_ack=True,
            on_cancelled=lambda tag: self._gone(channel, queue.name),
        )
