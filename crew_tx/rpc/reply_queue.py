"""
A client's reply queue: made by its first connection, found again by the next ones, deleted in the end.

It outlives connections, and a restart of the broker. Where it is gone all the
same, expired or on a node that is dead, answers to it are lost: the client goes
on with another, under another id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.declare import Declarer
from crew_tx.amqp.delivery import Delivery
from crew_tx.amqp.errors import translated
from crew_tx.amqp.protocol import AMQClient
from crew_tx.errors import CrewError, ReplyLostError
from crew_tx.rpc.replies import BatchedAcks
from crew_tx.topology import QueueType, reply_bindings, reply_queue

_DELETE_TIMEOUT = 3.0


class ReplyQueue:
    """
    :param clock: an ``IReactorTime``.
    :param read: called with each delivery; what one read brings is all read before any is received.
    :param received: called with what was made of it, unless that is None; the delivery is
        acknowledged after that.
    :param gone: called with the error when the queue is gone, and the answers with it.
    :param renew: called for another client id then.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        client_id: str,
        queue_type: QueueType,
        read: Callable[[Delivery], Any],
        received: Callable[[Any], object],
        gone: Callable[[CrewError], object],
        renew: Callable[[], str],
    ) -> None:
        self._clock = clock
        self._queue_type = queue_type
        self._queue = reply_queue(client_id, queue_type)
        self._bindings = reply_bindings(client_id)
        self._read = read
        self._received = received
        self._gone = gone
        self._renew = renew
        self._is_made = False
        self._channel: AMQChannel | None = None
        self._acks: BatchedAcks | None = None

    async def consume(self, client: AMQClient) -> AMQChannel:
        """
        Declare on a new connection what must exist, and consume.

        :returns: the channel that replies come by, in confirm mode: calls go out by it.
        """
        declarer = Declarer(client)
        await declarer.topology()
        if self._is_made and not await declarer.has_queue(self._queue.name):
            self._begin_anew()
        await declarer.queue(self._queue)
        await declarer.bind(self._bindings)
        self._is_made = True
        await declarer.close()
        channel = await client.open_channel()
        await channel.confirm_select()
        await self._consume(client, channel)
        self._channel = channel
        return channel

    def _begin_anew(self) -> None:
        error = self._error()
        self._is_made = False
        client_id = self._renew()
        self._queue = reply_queue(client_id, self._queue_type)
        self._bindings = reply_bindings(client_id)
        self.log.warn("{error}; the client is {client_id} now", error=str(error), client_id=client_id)
        self._gone(error)

    def _error(self) -> CrewError:
        return ReplyLostError(f"the reply queue {self._queue.name} is gone, and the answers with it")

    def lost(self) -> None:
        """The connection has ended: nothing can be acknowledged any more."""
        self._channel = None
        if self._acks is not None:
            self._acks.stop()

    async def delete(self) -> None:
        """Acknowledge what came, and delete the queue, unless the broker takes too long over it."""
        channel, self._channel = self._channel, None
        if self._acks is not None:
            self._acks.flush()
        if channel is not None and not channel.closed:
            deleted: Deferred[Any] = channel.queue_delete(queue=self._queue.name)
            await deleted.addTimeout(_DELETE_TIMEOUT, self._clock).addErrback(self._not_deleted)
        self._is_made = False

    async def _consume(self, client: AMQClient, channel: AMQChannel) -> None:
        self._acks = acks = BatchedAcks(self._clock, channel)

        def received(delivery: Delivery, message: Any) -> None:
            if message is not None:
                self._received(message)
            acks.add(delivery.delivery_tag)

        await channel.consume_together(
            self._queue.name, self._read, received, on_cancelled=lambda tag: self._cancelled(client)
        )

    def _cancelled(self, client: AMQClient) -> None:
        if self._channel is None:
            # By its deletion, which is ours.
            return
        error = self._error()
        # First, so that nobody who hears of it calls again by this connection.
        client.fail(error)
        self._gone(error)

    def _not_deleted(self, failure: Failure) -> None:
        self.log.warn(
            "the reply queue {queue} was not deleted, and expires by itself: {reason}",
            queue=self._queue.name,
            reason=str(translated(failure)),
        )
