"""
One subscriber: its queue and its AMQP channel, over all connections of its client.

A delivery -> a bounded buffer -> the callback, one event at a time and in order.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from uuid import uuid4

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.declare import declare_bound
from crew_tx.amqp.delivery import Delivery
from crew_tx.amqp.protocol import AMQClient
from crew_tx.codec import Codec
from crew_tx.errors import ConnectionLostError, CrewError, DecodeError
from crew_tx.message import event_from
from crew_tx.rpc.replies import BatchedAcks, InThread
from crew_tx.topology import Queue, durable_subscription_queue, subscription_binding, subscription_queue

Callback = Callable[..., object]
Overflow = Literal["pause", "drop"]

#: Below that, acks that wait for one another would hold up the broker.
_SMALL_BUFFER = 256


@dataclass(frozen=True, slots=True)
class Missed:
    """
    Tells a subscriber that there were events that it does not get.

    :ivar channel: what it is subscribed to.
    :ivar reason: ``reconnected``: whatever was published while there was no
        connection; ``overflow``: they came faster than it took them.
    :ivar count: how many; None where nobody can know.
    """

    channel: str
    reason: Literal["reconnected", "overflow"]
    count: int | None = None


class SubscriptionOwner(Protocol):
    """
    What a subscription asks of those that it is one of.

    :ivar codec: reads events.
    :ivar in_thread: calls a function in a thread of the reactor's pool.
    """

    clock: IReactorTime
    codec: Codec
    in_thread: InThread

    def forget(self, subscription: Subscription) -> None:
        """It is cancelled."""

    def delete(self, subscription: Subscription) -> Deferred[None]:
        """Delete its queue as soon as there is a connection."""


class Subscription:
    """
    One subscriber of a channel, or of all channels that match a pattern.

    :ivar channel: what it is subscribed to.
    :ivar received: events that its callback had.
    :ivar dropped: events that were dropped here since it was too slow.
    :ivar failed: events that its callback raised at, or that could not be read.
    :ivar cancelled: whether it has ended: it was cancelled or refused, or the client was stopped.
    :ivar is_beginning: whether the broker is being asked for it.
    """

    log = Logger()

    def __init__(
        self,
        owner: SubscriptionOwner,
        channel: str,
        callback: Callback,
        *,
        durable: str | None,
        buffer: int,
        overflow: Overflow,
        on_missed: Callable[[Missed], object] | None,
    ) -> None:
        self.channel = channel
        self.received = 0
        self.dropped = 0
        self.failed = 0
        self._owner = owner
        self._callback = callback
        self._wants_event = _takes_two(callback)
        self._durable = durable
        self._buffer = buffer
        self._overflow = overflow
        self._on_missed = on_missed
        self._id = uuid4().hex
        self._connections = 0
        self._amqp: AMQChannel | None = None
        self._tag = ""
        self._may_miss = False
        self._stopped: CrewError | None = None
        self._acks: BatchedAcks | None = None
        self._waiting: deque[Delivery] = deque()
        self._busy = False
        self._missed = 0
        self._deletes = False
        self.cancelled = False
        self.is_beginning = False

    @property
    def waiting(self) -> int:
        """Events that wait here for its callback."""
        return len(self._waiting)

    def cancel(self, *, delete: bool = False) -> Deferred[None]:
        """
        Get no more events.

        :param delete: whether to delete the queue of a durable subscription, too;
            without a connection that is done by the next one.
        :returns: a Deferred that fires when the broker has ended it. It doesn't
            fail without ``delete``; with it it errbacks with the reason if the
            broker refuses to delete the queue, or refused the subscription, and
            with :class:`ClientStoppedError` if the client is closed before it is deleted.
        """
        deletes = delete and self._durable is not None and not self._deletes
        if deletes and self._stopped is not None:
            return fail(self._stopped)
        if self.cancelled and not deletes:
            return succeed(None)
        if not self.cancelled:
            self.cancelled = True
            self._waiting.clear()
            self._owner.forget(self)
        if deletes:
            self._deletes = True
            return self._owner.delete(self)
        return Deferred.fromCoroutine(self._end()).addErrback(lambda _: None)

    # -- the connection ----------------------------------------------------------------

    async def begin(self, client: AMQClient) -> None:
        """
        Consume by a new connection.

        :raises txamqp.client.Closed: if the channel ends.
        """
        self.is_beginning = True
        try:
            await self._consume(client)
        finally:
            self.is_beginning = False
        if self.cancelled:
            # While the broker was asked for it.
            await self._end()

    async def _consume(self, client: AMQClient) -> None:
        self._connections += 1
        queue = self._queue()
        channel = await client.open_channel()
        # A refusal is this subscription's own; what ends the channel later must not leave it deaf.
        channel.is_expendable = True
        await declare_bound(channel, queue, [subscription_binding(queue.name, self.channel)])
        if self._overflow == "pause":
            await channel.basic_qos(prefetch_count=self._buffer)
        self._acks = BatchedAcks(self._owner.clock, channel) if self._acknowledges else None
        if self._may_miss:
            self._tell(Missed(self.channel, "reconnected"))
        self._tag = await channel.consume(
            queue.name,
            self._delivered,
            no_ack=not self._acknowledges,
            on_cancelled=lambda tag: self._queue_gone(client, queue.name),
        )
        channel.is_expendable = False
        self._amqp = channel
        # Of what is published while the connection is lost.
        self._may_miss = self._durable is None

    async def delete(self, client: AMQClient) -> None:
        """
        End it, and delete its queue.

        :raises txamqp.client.Closed: if the broker refuses it, or the connection ends.
        """
        await self._end()
        channel = await client.open_channel()
        channel.is_expendable = True
        await channel.queue_delete(queue=self._queue().name)
        await channel.channel_close(reply_code=200)

    def stop(self, error: CrewError) -> None:
        """It ends without being asked: the client is stopped, or the broker refused it."""
        self.cancelled = True
        self._stopped = error
        self._amqp = None
        self._waiting.clear()
        if self._acks is not None:
            # What was handled must not come again. What is being handled is told of when it is through.
            self._acks.flush()

    def lost(self) -> None:
        """The connection has ended: what waits here is of no queue any more."""
        self._amqp = None
        if self._acks is not None:
            self._acks.stop()
            self._acks = None
            # The broker gives it to us again.
            self._waiting.clear()

    def _queue(self) -> Queue:
        if self._durable is not None:
            return durable_subscription_queue(self._durable)
        return subscription_queue(self._id, self._connections)

    @property
    def _acknowledges(self) -> bool:
        """Only where the broker has to hold back, or to keep, anything."""
        return self._overflow == "pause" or self._durable is not None

    def _queue_gone(self, client: AMQClient, queue: str) -> None:
        """Declare it anew with a new connection: a subscriber must not go deaf in silence."""
        self._may_miss = True
        self.log.warn("the queue {queue} was deleted: connecting anew to declare it", queue=queue)
        client.fail(ConnectionLostError(f"the queue {queue} was deleted"))

    async def _end(self) -> None:
        channel, self._amqp = self._amqp, None
        if channel is None or channel.closed:
            return
        await channel.cancel(self._tag)
        if self._acks is not None:
            self._acks.flush()
            self._acks = None
        await channel.channel_close(reply_code=200)

    # -- events ------------------------------------------------------------------------

    def _delivered(self, delivery: Delivery) -> None:
        if self.cancelled:
            return
        if not self._busy:
            self._take(delivery)
            return
        self._waiting.append(delivery)
        if self._overflow == "drop" and len(self._waiting) > self._buffer:
            # It is acknowledged with the next one that is handed over: acks go in order.
            self._waiting.popleft()
            self.dropped += 1
            self._missed += 1

    def _take(self, delivery: Delivery | None) -> None:
        """Hand over one event after the other, until one of them takes its time."""
        while delivery is not None and not self.cancelled:
            if self._missed:
                missed, self._missed = self._missed, 0
                self._tell(Missed(self.channel, "overflow", missed))
            # The next connection has other acks, and tags that begin at 1 again.
            acks = self._acks
            handling = self._handle(delivery)
            if handling is not None:
                handling.addErrback(self._callback_failed)
                if not _is_through(handling):
                    self._busy = True
                    handling.addCallback(self._handled, delivery, acks)
                    return
            self._settled(delivery, acks)
            delivery = self._waiting.popleft() if self._waiting else None

    def _handled(self, result: object, delivery: Delivery, acks: BatchedAcks | None) -> None:
        self._busy = False
        self._settled(delivery, acks)
        self._take(self._waiting.popleft() if self._waiting else None)

    def _handle(self, delivery: Delivery) -> Deferred[Any] | None:
        """:returns: a Deferred if it takes its time."""
        properties = delivery.properties
        arguments = (delivery.body, properties.get("content_type"), properties.get("content_encoding"))
        codec = self._owner.codec
        if codec.is_large(delivery.body, properties.get("content_encoding")):
            return self._owner.in_thread(codec.decode, *arguments).addCallback(self._call, delivery)
        try:
            return self._call(codec.decode(*arguments), delivery)
        except Exception:
            self._callback_failed(Failure())
            return None

    def _call(self, data: Any, delivery: Delivery) -> Deferred[Any] | None:
        if self.cancelled:
            # While its body was decoded in a thread.
            return None
        self.received += 1
        if self._wants_event:
            event = event_from(delivery.routing_key, delivery.properties, data, delivery.redelivered)
            result = self._callback(data, event)
        else:
            result = self._callback(data)
        if inspect.iscoroutine(result):
            return Deferred.fromCoroutine(result)
        return result if isinstance(result, Deferred) else None

    def _settled(self, delivery: Delivery, acks: BatchedAcks | None) -> None:
        if acks is None or acks is not self._acks:
            return
        acks.add(delivery.delivery_tag)
        if self._buffer < _SMALL_BUFFER or self.cancelled:
            # The broker sends no more until it knows; or there may be no later.
            acks.flush()

    def _callback_failed(self, failure: Failure) -> None:
        self.failed += 1
        if failure.check(DecodeError):
            self.log.warn("an event can't be read: {error}", error=failure.getErrorMessage())
        else:
            self.log.failure("a subscriber's callback failed", failure)

    def _tell(self, missed: Missed) -> None:
        if self._on_missed is None:
            self.log.info(
                "the subscriber of {channel} may have missed events: {reason}",
                channel=missed.channel,
                reason=missed.reason,
            )
            return
        try:
            self._on_missed(missed)
        except Exception:
            self.log.failure("what a subscriber does about missed events failed")


def _takes_two(callback: Callback) -> bool:
    """Whether a callback takes the event beside its data."""
    try:
        parameters = inspect.signature(callback).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return len(required) > 1


def _is_through(handling: Deferred[Any]) -> bool:
    """Whether it has fired already, and waits for no other."""
    return handling.called and not handling.paused
