"""
Publish and subscribe: every subscriber of a channel gets every event.

Out: :meth:`EventPublisher.publish` -> the body encoded -> the publisher, whose
confirm fires the Deferred. In: each subscription has a queue and an AMQP
channel of its own: delivery -> a bounded buffer -> the callback, one event at a
time and in order. A subscriber that is slow, or fails, holds up itself alone.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args
from uuid import uuid4

from twisted.internet.defer import Deferred, FirstError, fail, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.delivery import Delivery
from crew_tx.amqp.errors import Closed, translated
from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.publisher import Publisher, encode_message_properties
from crew_tx.codec import Codec, Encoded
from crew_tx.errors import (
    AccessRefusedError,
    ConnectionLostError,
    CrewError,
    DecodeError,
    InvalidArgumentError,
    NotFoundError,
    PreconditionFailedError,
)
from crew_tx.message import NO_HEADERS, Event, Headers, check_headers, event_from, event_properties
from crew_tx.rpc.outgoing import Sent
from crew_tx.rpc.replies import BatchedAcks
from crew_tx.tasks.interfaces import IPublisher
from crew_tx.topology import (
    PUBSUB,
    Queue,
    check_name,
    check_pattern,
    durable_subscription_queue,
    subscription_binding,
    subscription_queue,
)

__all__ = ["Event", "EventPublisher", "Missed", "Subscription", "Subscriptions", "TaskPublisher"]

Callback = Callable[..., object]
Overflow = Literal["pause", "drop"]
#: Calls a function with arguments in some thread; as Twisted's ``deferToThread``.
InThread = Callable[..., "Deferred[Any]"]

#: Events that may wait for a subscriber in this process.
BUFFER = 1000
#: Below that, acks that wait for one another would hold up the broker.
_SMALL_BUFFER = 256
_MOST_BUFFERED = 65_535
#: What the broker would say of a subscription again and again.
_REFUSALS = (AccessRefusedError, NotFoundError, PreconditionFailedError)


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


class ReadyEvent(NamedTuple):
    """An event that is checked and encoded."""

    channel: str
    encoded: Encoded
    headers: Headers
    persistent: bool


class EventPublisher:
    """
    Publishes events.

    :param source: the id of whoever publishes.
    :param check_running: raises a :class:`CrewError` where nothing may be published any more.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        publisher: Publisher,
        codec: Codec,
        in_thread: InThread,
        source: str,
        check_running: Callable[[], object] = lambda: None,
    ) -> None:
        self._clock = clock
        self._publisher = publisher
        self._codec = codec
        self._in_thread = in_thread
        self._source = source
        self._check_running = check_running
        self._unique = uuid4().hex
        self._count = 0

    def publish(
        self,
        channel: str,
        data: Any = None,
        *,
        headers: Headers | None = None,
        serializer: str | None = None,
        compress: str | bool | None = None,
        persistent: bool = True,
    ) -> Deferred[None]:
        """
        Publish an event.

        :param channel: 1 to 200 bytes, without ``*`` and ``#``.
        :param persistent: whether a queue that keeps it for a subscriber
            survives a restart of the broker with it.
        :returns: a Deferred that fires when the broker has it, whether or not
            anybody is subscribed. It errbacks with
            :class:`InvalidArgumentError`, :class:`EncodeError` or
            :class:`MessageTooLargeError` before anything is sent, and as
            ``Client.send`` does after that.
        """
        try:
            self._check_running()
            _check_event(channel, headers)
        except CrewError:
            return fail()
        event = self._event(channel)
        deferred = event.deferred
        assert deferred is not None
        self._encoded(data, serializer, compress).addCallback(
            self._publish, event, headers or NO_HEADERS, persistent
        ).addErrback(_fail, event)
        return deferred

    def ready_event(
        self,
        channel: str,
        data: Any = None,
        *,
        headers: Headers | None = None,
        serializer: str | None = None,
        compress: str | bool | None = None,
        persistent: bool = True,
    ) -> ReadyEvent:
        """
        Check and encode an event, in a thread of any kind.

        :raises InvalidArgumentError: if the channel or a header is wrong.
        :raises EncodeError: if the data can't be encoded.
        :raises MessageTooLargeError: if it is too much.
        """
        _check_event(channel, headers)
        encoded = self._codec.encode(data, serializer, compress)
        return ReadyEvent(channel, encoded, headers or NO_HEADERS, persistent)

    def publish_ready(self, ready: ReadyEvent) -> None:
        """Publish an event, and go on: what the broker makes of it is logged."""
        event = self._event(ready.channel)
        assert event.deferred is not None
        event.deferred.addErrback(self._not_published, ready.channel)
        try:
            self._publish(ready.encoded, event, ready.headers, ready.persistent)
        except CrewError as error:
            event.failed(error)

    def _not_published(self, failure: Failure, channel: str) -> None:
        self.log.warn(
            "an event of a task for {channel} was not published: {error}",
            channel=channel,
            error=failure.getErrorMessage(),
        )

    def _event(self, channel: str) -> Sent:
        self._count += 1
        message_id = f"{self._unique}.{self._count}"
        return Sent(channel, message_id, self._publisher.withdraw, exchange=PUBSUB, mandatory=False)

    def _encoded(self, data: Any, serializer: str | None, compress: str | bool | None) -> Deferred[Encoded]:
        if self._codec.is_large(data):
            return self._in_thread(self._codec.encode, data, serializer, compress)
        return maybeDeferred(self._codec.encode, data, serializer, compress)

    def _publish(self, encoded: Encoded, event: Sent, headers: Headers, persistent: bool) -> None:
        if event.deferred is None:
            # It was cancelled while its body was encoded.
            return
        self._check_running()
        properties = event_properties(
            event.message_id,
            self._source,
            encoded.content_type,
            encoded.content_encoding,
            int(self._clock.seconds()),
            headers,
            persistent,
        )
        event.properties = encode_message_properties(properties)
        event.body = encoded.body
        self._publisher.publish(event)


@implementer(IPublisher)
class TaskPublisher:
    """
    ``context.pubsub``: publishes from whatever thread a task runs in.

    :ivar waiting: events that the reactor has to publish still, the oldest first.
    """

    def __init__(self, reactor: IReactorFromThreads, events: EventPublisher) -> None:
        self._reactor = reactor
        self._events = events
        self.waiting: deque[ReadyEvent] = deque()

    def publish(self, channel: str, data: Any = None, **options: Any) -> None:
        """
        Publish an event, and go on; the options are those of :meth:`EventPublisher.ready_event`.

        It leaves before the task's answer does.

        :raises CrewError: if it can't be sent as it is.
        """
        self.waiting.append(self._events.ready_event(channel, data, **options))
        self._reactor.callFromThread(self.flush)

    def flush(self) -> None:
        """Publish what waits; called on the reactor, and before each answer."""
        while self.waiting:
            self._events.publish_ready(self.waiting.popleft())


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
        owner: Subscriptions,
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
        deletes = delete and self._durable is not None
        if self.cancelled:
            return fail(self._stopped) if deletes and self._stopped is not None else succeed(None)
        self.cancelled = True
        self._waiting.clear()
        self._owner.forget(self)
        if deletes:
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
        await channel.queue_declare(
            queue=queue.name,
            durable=queue.durable,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
            arguments=queue.arguments,
        )
        binding = subscription_binding(queue.name, self.channel)
        await channel.queue_bind(
            queue=binding.queue, exchange=binding.exchange, routing_key=binding.routing_key
        )
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


class Subscriptions:
    """
    All subscriptions of one client, over all its connections.

    They begin all at once, so that many do so in the time that a connection has
    to get ready. What the broker refuses costs nothing but that subscription.

    :ivar codec: reads events.
    :ivar in_thread: calls a function in a thread of the reactor's pool.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, codec: Codec, in_thread: InThread) -> None:
        self.clock = clock
        self.codec = codec
        self.in_thread = in_thread
        self._deletions: dict[Subscription, Deferred[None]] = {}
        self._client: AMQClient | None = None
        self._subscriptions: dict[Subscription, Deferred[Subscription] | None] = {}

    def __len__(self) -> int:
        return len(self._subscriptions)

    def subscribe(
        self,
        channel: str,
        callback: Callback,
        *,
        durable: str | None = None,
        buffer: int = BUFFER,
        overflow: Overflow = "pause",
        on_missed: Callable[[Missed], object] | None = None,
    ) -> Deferred[Subscription]:
        """
        Subscribe to a channel; the arguments are those of ``Client.subscribe``.

        :returns: a Deferred of the subscription, which fires when the broker has it.
        """
        try:
            _check(channel, durable, buffer, overflow)
        except CrewError:
            return fail()
        subscription = Subscription(
            self, channel, callback, durable=durable, buffer=buffer, overflow=overflow, on_missed=on_missed
        )
        ready: Deferred[Subscription] = Deferred(lambda _: self._given_up(subscription))
        self._subscriptions[subscription] = ready
        client = self._open_client()
        if client is not None:
            begun = Deferred.fromCoroutine(self._begin(subscription, client))
            begun.addErrback(self._not_begun, client)
        return ready

    def forget(self, subscription: Subscription) -> None:
        """It is cancelled."""
        self._subscriptions.pop(subscription, None)

    def delete(self, subscription: Subscription) -> Deferred[None]:
        """
        Delete the queue of a subscription that is cancelled, as soon as there is a connection.

        :returns: a Deferred that fires when it is deleted; errbacks if the
            broker refuses that, or the client is stopped before.
        """
        deleted = self._deletions[subscription] = Deferred()
        client = self._open_client()
        # One that begins just now would declare it again behind that.
        if client is not None and not subscription.is_beginning:
            Deferred.fromCoroutine(self._delete(subscription, client))
        return deleted

    async def begin(self, client: AMQClient) -> None:
        """
        Consume by a new connection.

        :raises txamqp.client.Closed: if a channel ends, but for a refusal.
        """
        # An attempt that came to nothing before may have left something.
        self.lost()
        subscriptions, deletions = list(self._subscriptions), list(self._deletions)
        # Those that come meanwhile begin by themselves.
        self._client = client
        # First: somebody may have subscribed by the same name since.
        await _all([self._delete(subscription, client) for subscription in deletions])
        await _all([self._begin(subscription, client) for subscription in subscriptions])

    def lost(self) -> None:
        """The connection has ended."""
        self._client = None
        for subscription in self._subscriptions:
            subscription.lost()

    def stop(self, error: CrewError) -> None:
        """End them all: what waits for a subscription, or for a queue to be deleted, errbacks."""
        self._client = None
        subscriptions, self._subscriptions = self._subscriptions, {}
        for subscription, ready in subscriptions.items():
            subscription.stop(error)
            if ready is not None:
                ready.errback(error)
        deletions, self._deletions = self._deletions, {}
        for deleted in deletions.values():
            deleted.errback(error)

    def _open_client(self) -> AMQClient | None:
        return None if self._client is None or self._client.closed else self._client

    async def _begin(self, subscription: Subscription, client: AMQClient) -> None:
        if subscription.cancelled:
            return
        try:
            await subscription.begin(client)
        except Closed as closed:
            error = translated(closed, f"subscribing to {subscription.channel}")
            if client.closed or not isinstance(error, _REFUSALS):
                raise
            self._refused(subscription, error)
        else:
            self._begun(subscription)
        if subscription in self._deletions:
            await self._delete(subscription, client)

    def _begun(self, subscription: Subscription) -> None:
        ready = self._subscriptions.get(subscription)
        if ready is not None:
            self._subscriptions[subscription] = None
            ready.callback(subscription)

    def _refused(self, subscription: Subscription, error: CrewError) -> None:
        if subscription not in self._subscriptions:
            # It was cancelled meanwhile.
            return
        ready = self._subscriptions.pop(subscription)
        subscription.stop(error)
        if ready is not None:
            ready.errback(error)
        else:
            self.log.error("a subscription has ended: {error}", error=str(error))

    async def _delete(self, subscription: Subscription, client: AMQClient) -> None:
        error: CrewError | None = None
        try:
            await subscription.delete(client)
        except (Closed, CrewError) as reason:
            if client.closed:
                # The next connection does it.
                return
            error = translated(reason, f"deleting the queue of {subscription.channel}")
        deleted = self._deletions.pop(subscription, None)
        if deleted is None:
            # The client was stopped meanwhile.
            return
        if error is None:
            deleted.callback(None)
        else:
            deleted.errback(error)

    def _not_begun(self, failure: Failure, client: AMQClient) -> None:
        # With the channel the connection ends, and the next one begins anew.
        if not client.closed:
            client.fail(failure)

    def _given_up(self, subscription: Subscription) -> None:
        self._subscriptions[subscription] = None
        subscription.cancel()


async def _all(coroutines: list[Coroutine[Deferred[Any], Any, None]]) -> None:
    """Run them all at once; raises what the first one raises that fails."""
    try:
        await gatherResults([Deferred.fromCoroutine(each) for each in coroutines], consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()


def _check(channel: str, durable: str | None, buffer: int, overflow: str) -> None:
    check_pattern(channel)
    if durable is not None:
        check_name("durable subscription", durable)
    if isinstance(buffer, bool) or not isinstance(buffer, int) or not 0 < buffer <= _MOST_BUFFERED:
        raise InvalidArgumentError(f"buffer is a number of events from 1 to {_MOST_BUFFERED}, not {buffer!r}")
    if overflow not in get_args(Overflow):
        raise InvalidArgumentError(f"overflow is 'pause' or 'drop', not {overflow!r}")


def _check_event(channel: str, headers: Headers | None) -> None:
    check_name("channel", channel)
    if headers:
        check_headers(headers)


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


def _fail(failure: Failure, event: Sent) -> None:
    # Whatever it is: the publisher's Deferred has to fire.
    error: Any = failure.value
    event.failed(error)
