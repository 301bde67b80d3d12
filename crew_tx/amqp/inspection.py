"""Looking into queues: how much is in them, and what."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from txamqp.client import Closed

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.errors import translated
from crew_tx.amqp.protocol import AMQClient
from crew_tx.errors import NotFoundError
from crew_tx.message import Properties


@dataclass(frozen=True, slots=True)
class Depth:
    """
    How much is in a queue.

    :ivar messages: those that nobody holds unacknowledged.
    """

    queue: str
    messages: int
    consumers: int


@dataclass(frozen=True, slots=True)
class Gotten:
    """
    A message that was taken from a queue, and is still to be acknowledged.

    :ivar left: how many more were in the queue.
    """

    delivery_tag: int
    properties: Properties
    body: bytes
    routing_key: str
    left: int


class Inspector:
    """
    Works on a channel of its own, another one after an error; ``close`` ends it.

    What was taken by it and not acknowledged goes back into its queue then.
    """

    def __init__(self, client: AMQClient) -> None:
        self._client = client
        self._channel: AMQChannel | None = None

    async def depth(self, queue: str) -> Depth | None:
        """
        How much is in a queue; None if there is no such queue.

        :raises CrewError: if the broker refuses, or the connection ends.
        """
        channel = await self._open()
        try:
            ok = await _asked(
                channel.queue_declare(queue=queue, passive=True), f"looking for the queue {queue}"
            )
        except NotFoundError:
            return None
        return Depth(queue, ok.message_count, ok.consumer_count)

    async def get(self, queue: str) -> Gotten | None:
        """
        Take one message; None if the queue is empty.

        :raises CrewError: as :meth:`depth`, also if there is no such queue.
        """
        channel = await self._open()
        got = await _asked(channel.basic_get(queue=queue), f"reading the queue {queue}")
        if got.method.name == "get-empty":
            return None
        return Gotten(
            got.delivery_tag,
            {name.replace("-", "_"): value for name, value in got.content.properties.items()},
            got.content.body,
            got.routing_key,
            got.message_count,
        )

    def ack(self, gotten: Gotten) -> None:
        """Have a message leave its queue."""
        if self._channel is not None:
            self._channel.ack(gotten.delivery_tag)

    async def purge(self, queue: str) -> int:
        """
        Empty a queue.

        :returns: how many messages were in it.
        :raises CrewError: as :meth:`get`.
        """
        channel = await self._open()
        purged = await _asked(channel.queue_purge(queue=queue), f"emptying the queue {queue}")
        return int(purged.message_count)

    async def close(self) -> None:
        """End the channel; nothing happens where the connection has ended."""
        channel, self._channel = self._channel, None
        if channel is not None and not channel.closed:
            await _asked(channel.channel_close(reply_code=200), "closing a channel")

    async def _open(self) -> AMQChannel:
        if self._channel is None or self._channel.closed:
            channel = await _asked(self._client.open_channel(), "opening a channel")
            # A queue that is not there closes it, and nothing else.
            channel.is_expendable = True
            self._channel = channel
        return self._channel


async def _asked(answer: Awaitable[Any], doing: str) -> Any:
    try:
        return await answer
    except Closed as error:
        raise translated(error, doing) from None
