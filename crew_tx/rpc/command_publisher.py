"""
Sending commands, by a channel of their own.

The broker closes the channel of one that the user may not send, and calls must not end
with that. It is opened for the first command, and again where it was closed. One
command is out at a time: what is refused is that, and no other.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.errors import translated
from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.publisher import PUBLISH_TIMEOUT, Publication, Publisher
from crew_tx.errors import CrewError

MAX_WAITING = 10_000


class CommandPublisher(Publisher):
    """
    A client's second publisher, which looks after its channel itself.

    :param clock: an ``IReactorTime``.
    :param publish_timeout: seconds that a command may wait to be written, and then to be confirmed.
    """

    def __init__(self, clock: IReactorTime, publish_timeout: float = PUBLISH_TIMEOUT) -> None:
        super().__init__(clock, publish_timeout=publish_timeout, max_unconfirmed=1, max_waiting=MAX_WAITING)
        self._client: AMQClient | None = None
        self._is_begun = False
        self._is_heard = False

    def connected(self, client: AMQClient) -> None:
        """There is a new connection: what waits goes by it."""
        self._client = client
        self._is_begun = self._is_heard = False
        self._begin()

    def publish(self, publication: Publication) -> None:
        """
        Send a command, or let it wait for a channel.

        :raises OutboxFullError: if too much waits already.
        """
        super().publish(publication)
        self._begin()

    def attach(self, channel: AMQChannel) -> None:
        """Publish on this channel from now on."""
        super().attach(channel)
        channel.on_closed = _both(channel.on_closed, self._closed)

    def stop(self, error: CrewError) -> None:
        """Fail all that waits or is unconfirmed, and leave no delayed call."""
        self._client = None
        super().stop(error)

    @property
    def _connection(self) -> AMQClient | None:
        """Also while there is no channel."""
        return None if self._client is None or self._client.closed else self._client

    def _follow_flow(self, client: AMQClient) -> None:
        """Beside another publisher of the connection."""
        if not self._is_heard:
            self._is_heard = True
            client.on_flow = _both(client.on_flow, self._flow_changed)

    def _begin(self) -> None:
        client = self._client
        if client is None or client.closed or self._is_begun or not self.waiting:
            return
        self._is_begun = True
        Deferred.fromCoroutine(self._open_channel(client)).addErrback(self._not_opened, client)

    async def _open_channel(self, client: AMQClient) -> None:
        channel = await client.open_channel()
        channel.is_expendable = True
        await channel.confirm_select()
        if client is self._client:
            self.attach(channel)

    def _closed(self, reason: object) -> None:
        """What waits behind one that was refused may be allowed."""
        self._is_begun = False
        self._begin()

    def _not_opened(self, failure: Failure, client: AMQClient) -> None:
        # What waits goes by the next connection, if this one has ended.
        if client is self._client and not client.closed:
            self._is_begun = False
            super().stop(translated(failure, "opening a channel for commands"))


def _both(first: Callable[..., object] | None, second: Callable[..., object] | None) -> Callable[..., object]:
    """One callback in place of two."""

    def call(*arguments: object) -> None:
        for each in (first, second):
            if each is not None:
                each(*arguments)

    return call
