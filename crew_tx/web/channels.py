"""
Channels that clients listen to: one subscription each, whatever the number of clients.

A subscription outlives its last client by a while, so that one that asks again
and again misses nothing in between.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from crew_tx.client import Client
from crew_tx.message import Event
from crew_tx.pubsub import Missed, Subscription
from crew_tx.web.bodies import CBOR, JSON, Bodies
from crew_tx.web.event_buffer import EventBuffer
from crew_tx.web.limits import Limits
from crew_tx.web.problems import RETRY_AFTER, ProblemError

#: Seconds that a subscription outlives its last client.
LINGER = 60.0
#: Seconds in which the broker has to have it.
_SUBSCRIBE_TIMEOUT = 5.0
_GAP_SIZE = 100


class Channel:
    """
    One channel.

    :ivar buffer: its latest events.
    :ivar is_over: whether there come no more.
    """

    def __init__(self, name: str, bodies: Bodies, limits: Limits) -> None:
        self.name = name
        self.buffer = EventBuffer(secrets.token_hex(4), limits.max_events, limits.max_event_bytes)
        self.listeners: set[Callable[[], object]] = set()
        self.is_over = False
        self.subscription: Deferred[Any] | None = None
        self.subscribed: Subscription | None = None
        self.lingering: IDelayedCall | None = None
        self._bodies = bodies
        self._waiting: list[Deferred[None]] = []

    @property
    def is_refused(self) -> bool:
        """Whether the broker had the subscription, and would not have it again after a reconnect."""
        return self.subscribed is not None and self.subscribed.cancelled

    def linger_no_more(self) -> None:
        """It does not end because nobody listens."""
        lingering, self.lingering = self.lingering, None
        if lingering is not None and lingering.active():
            lingering.cancel()

    def ready(self, clock: IReactorTime) -> Deferred[None]:
        """
        A Deferred that fires when the broker has the subscription.

        It errbacks with what the broker says, and with a 503 where that takes too long.
        """
        if self.subscribed is not None:
            return succeed(None)
        waiting: Deferred[None] = Deferred(lambda it: self._waiting.remove(it))
        self._waiting.append(waiting)
        return waiting.addTimeout(_SUBSCRIBE_TIMEOUT, clock, _too_late)

    def settled(self, subscription: Subscription) -> None:
        """The broker has it."""
        self.subscribed = subscription
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def failed(self, failure: Failure) -> None:
        """The broker will not have it."""
        self.is_over = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(failure)
        self._tell()

    async def received(self, data: Any, event: Event) -> None:
        """An event has come. The next one waits until this one is written."""
        value = {"id": self.buffer.next_id(), "channel": event.channel, "time": event.time, "data": data}
        try:
            encoded = await self._bodies.encode(value, (JSON,))
            self.buffer.add(value, encoded.body, len(encoded.body))
        except ProblemError:
            await self._received_as_cbor(value)
        self._tell()

    async def _received_as_cbor(self, value: dict[str, Any]) -> None:
        """JSON has no form for it; CBOR, in which it came, has one."""
        try:
            self.buffer.add(value, None, len((await self._bodies.encode(value, (CBOR,))).body))
        except ProblemError:
            # With what stands around it, it is larger than any response may be.
            self.missed(Missed(self.name, "overflow", 1))

    def missed(self, missed: Missed) -> None:
        """Events were missed between the broker and here."""
        value = {"id": self.buffer.next_id(), "channel": self.name, "missed": missed.count}
        self.buffer.add(value, None, _GAP_SIZE, is_gap=True)
        self._tell()

    def end(self) -> None:
        """There come no more."""
        self.is_over = True
        if self.subscription is not None and self.subscribed is None:
            self.subscription.cancel()
        if self.subscribed is not None:
            self.subscribed.cancel()
        self._tell()

    def _tell(self) -> None:
        for listener in list(self.listeners):
            listener()


class Channels:
    """
    The channels that are listened to.

    :param client: subscribes.
    """

    def __init__(self, clock: IReactorTime, client: Client, bodies: Bodies, limits: Limits) -> None:
        self.clock = clock
        self._client = client
        self._bodies = bodies
        self._limits = limits
        self._channels: dict[str, Channel] = {}
        self._is_over = False

    def __len__(self) -> int:
        return len(self._channels)

    @property
    def listeners(self) -> int:
        """How many listen to them."""
        return sum(len(channel.listeners) for channel in self._channels.values())

    def listen(self, name: str, listener: Callable[[], object]) -> Channel:
        """
        Listen to a channel, until :meth:`leave`.

        :param listener: called when there is more in its buffer, or it is over.
        :raises ProblemError: 503, if there are too many, or it is stopped.
        """
        if self._is_over:
            raise _stopping()
        channel = self._channels.get(name)
        if channel is not None and channel.is_refused:
            self._end(channel)
            channel = None
        channel = channel or self._subscribe(name)
        channel.linger_no_more()
        channel.listeners.add(listener)
        return channel

    def leave(self, channel: Channel, listener: Callable[[], object]) -> None:
        """Listen no more."""
        channel.listeners.discard(listener)
        if not channel.listeners and not channel.is_over and channel.lingering is None:
            channel.lingering = self.clock.callLater(LINGER, self._end, channel)

    def stop(self) -> None:
        """Listen to nothing any more."""
        self._is_over = True
        for channel in list(self._channels.values()):
            self._end(channel)

    def _subscribe(self, name: str) -> Channel:
        self._make_room()
        channel = self._channels[name] = Channel(name, self._bodies, self._limits)
        subscription = self._client.subscribe(
            name,
            channel.received,
            buffer=self._limits.max_events,
            overflow="drop",
            on_missed=channel.missed,
        )
        channel.subscription = subscription
        subscription.addCallbacks(channel.settled, self._refused, errbackArgs=(channel,))
        return channel

    def _refused(self, failure: Failure, channel: Channel) -> None:
        channel.linger_no_more()
        if self._channels.get(channel.name) is channel:
            del self._channels[channel.name]
        if failure.check(CancelledError):
            # By us: those who wait for it are not gone.
            failure = Failure(_stopping())
        channel.failed(failure)

    def _make_room(self) -> None:
        if len(self._channels) < self._limits.max_channels:
            return
        idle = next((each for each in self._channels.values() if not each.listeners), None)
        if idle is None:
            raise ProblemError(503, "too many channels are listened to just now", retry_after=RETRY_AFTER)
        self._end(idle)

    def _end(self, channel: Channel) -> None:
        channel.linger_no_more()
        self._channels.pop(channel.name, None)
        channel.end()


def _stopping() -> ProblemError:
    return ProblemError(503, "the gateway stops", retry_after=RETRY_AFTER)


def _too_late(result: object, seconds: float) -> None:
    raise ProblemError(503, "the broker is not there to subscribe", retry_after=RETRY_AFTER)
