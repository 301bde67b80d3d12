"""
Publish and subscribe: every subscriber of a channel gets every event.

Out: :class:`~crew_tx.rpc.events.EventPublisher`. In: each
:class:`~crew_tx.rpc.subscription.Subscription` has a queue and an AMQP channel
of its own, so that one that is slow, or fails, holds up itself alone; all of a
client's are its :class:`Subscriptions`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, get_args

from twisted.internet.defer import Deferred, FirstError, fail, gatherResults
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from crew_tx.amqp.errors import Closed, translated
from crew_tx.amqp.protocol import AMQClient
from crew_tx.codec import Codec
from crew_tx.errors import (
    AccessRefusedError,
    CrewError,
    InvalidArgumentError,
    NotFoundError,
    PreconditionFailedError,
)
from crew_tx.message import Event
from crew_tx.rpc.events import EventPublisher, ReadyEvent
from crew_tx.rpc.replies import InThread
from crew_tx.rpc.subscription import Callback, Missed, Overflow, Subscription
from crew_tx.tasks.interfaces import IPublisher
from crew_tx.topology import check_name, check_pattern

__all__ = ["Event", "EventPublisher", "Missed", "Overflow", "Subscription", "Subscriptions", "TaskPublisher"]

#: Events that may wait for a subscriber in this process.
BUFFER = 1000
_MOST_BUFFERED = 65_535
#: What the broker would say of a subscription again and again.
_REFUSALS = (AccessRefusedError, NotFoundError, PreconditionFailedError)


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
