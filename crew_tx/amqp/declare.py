"""
Declaring exchanges, queues and bindings.

What exists is left alone: each is declared passively first, on a scratch
channel, and actively only where that gave a 404. So a user needs the right to
configure only what really has to be made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from txamqp.client import ChannelClosed, Closed

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.errors import translated
from crew_tx.amqp.protocol import AMQClient
from crew_tx.errors import AccessRefusedError, AMQPError, NotFoundError, PreconditionFailedError
from crew_tx.topology import DEAD_BINDING, DEAD_QUEUE, EXCHANGES, Binding, Exchange, Queue

_NOT_FOUND = 404

_Declare = Callable[[AMQChannel, bool], "Deferred[Any]"]


class Declarer:
    """Declares on channels of its own; ``close`` ends them."""

    def __init__(self, client: AMQClient) -> None:
        self._client = client
        self._channel: AMQChannel | None = None

    async def topology(self) -> None:
        """
        Declare what all roles share: the exchanges, and the queue of dead letters nobody fetches.

        :raises AMQPError: if something is missing and may not be made.
        """
        await self.exchanges(EXCHANGES)
        is_new = await self.existing_queue(DEAD_QUEUE)
        try:
            # Also where it was there: who made it may have been cut off before this, and nobody can ask.
            await self.bind([DEAD_BINDING])
        except (AccessRefusedError, NotFoundError):
            # Who may not leaves it to others, as all that was there; so does who sees it deleted just now.
            if is_new:
                raise

    async def exchanges(self, exchanges: Iterable[Exchange]) -> None:
        """:raises AMQPError: if one is missing and may not be made, or exists with another type."""
        for exchange in exchanges:
            await self._ensure(f"exchange {exchange.name}", _exchange(exchange))

    async def queue(self, queue: Queue) -> None:
        """
        Declare a queue with its arguments, whether or not it exists.

        :raises PreconditionFailedError: if it exists with other arguments.
        """
        try:
            await _queue(queue)(await self._scratch(), False)
        except Closed as error:
            raise _queue_error(queue, translated(error, f"declaring the queue {queue.name}")) from None

    async def has_queue(self, name: str) -> bool:
        """
        Whether there is a queue of that name, on a node that is up.

        :raises AMQPError: if the broker says neither.
        """
        try:
            await (await self._scratch()).queue_declare(queue=name, passive=True)
        except ChannelClosed as error:
            if error.args[0].reply_code == _NOT_FOUND:
                return False
            raise translated(error, f"looking for the queue {name}") from None
        except Closed as error:
            raise translated(error, f"looking for the queue {name}") from None
        return True

    async def existing_queue(self, queue: Queue) -> bool:
        """
        Declare a queue only if there is none of its name, whatever arguments that has.

        :returns: whether it was made.
        """
        return await self._ensure(f"queue {queue.name}", _queue(queue))

    async def bind(self, bindings: Iterable[Binding]) -> None:
        """:raises AMQPError: if the user may not."""
        for binding in bindings:
            channel = await self._scratch()
            try:
                await _bind(channel, binding)
            except Closed as error:
                raise translated(error, f"binding {binding.queue} to {binding.exchange}") from None

    async def close(self) -> None:
        """End the scratch channel."""
        channel, self._channel = self._channel, None
        if channel is not None and not channel.closed:
            try:
                await channel.channel_close(reply_code=200)
            except Closed as error:
                raise translated(error, "closing a channel") from None

    async def _scratch(self) -> AMQChannel:
        if self._channel is None or self._channel.closed:
            try:
                self._channel = await self._client.open_channel()
            except Closed as error:
                raise translated(error, "opening a channel") from None
        return self._channel

    async def _ensure(self, what: str, declare: _Declare) -> bool:
        try:
            await declare(await self._scratch(), True)
            return False
        except ChannelClosed as error:
            if error.args[0].reply_code != _NOT_FOUND:
                raise translated(error, f"looking for the {what}") from None
        except Closed as error:
            raise translated(error, f"looking for the {what}") from None
        try:
            await declare(await self._scratch(), False)
        except Closed as error:
            raise _missing_error(translated(error, f"declaring the {what}")) from None
        return True


async def declare_bound(channel: AMQChannel, queue: Queue, bindings: Iterable[Binding]) -> None:
    """
    Declare a queue of one's own, and bind it, by the channel that will consume from it.

    :raises txamqp.client.Closed: if the channel ends.
    """
    await _queue(queue)(channel, False)
    for binding in bindings:
        await _bind(channel, binding)


def _bind(channel: AMQChannel, binding: Binding) -> Deferred[Any]:
    bound: Deferred[Any] = channel.queue_bind(
        queue=binding.queue, exchange=binding.exchange, routing_key=binding.routing_key
    )
    return bound


def _exchange(exchange: Exchange) -> _Declare:
    return lambda channel, passive: channel.exchange_declare(
        exchange=exchange.name,
        type=exchange.type,
        durable=exchange.durable,
        passive=passive,
        arguments=exchange.arguments,
    )


def _queue(queue: Queue) -> _Declare:
    return lambda channel, passive: channel.queue_declare(
        queue=queue.name,
        durable=queue.durable,
        exclusive=queue.exclusive,
        auto_delete=queue.auto_delete,
        passive=passive,
        arguments=queue.arguments,
    )


def _missing_error(error: Exception) -> Exception:
    """Of what is not there and can't be made."""
    if isinstance(error, AccessRefusedError):
        return AccessRefusedError(
            f"{error}; it is missing, and a user who may make it has to run 'crew init'",
            reply_code=error.reply_code,
            reply_text=error.reply_text,
        )
    if isinstance(error, NotFoundError):
        # It is there, on a node of a cluster that is down: that passes.
        return AMQPError(str(error), reply_code=error.reply_code, reply_text=error.reply_text)
    return error


def _queue_error(queue: Queue, error: Exception) -> Exception:
    if isinstance(error, PreconditionFailedError):
        return PreconditionFailedError(
            f"the queue {queue.name} exists with other arguments; use the --queue-type that it was "
            f"made with, give the task another queue=, or delete it when it is empty "
            f"(rabbitmqctl delete_queue {queue.name}): {error.reply_text}",
            reply_code=error.reply_code,
            reply_text=error.reply_text,
        )
    if isinstance(error, NotFoundError):
        return AMQPError(
            f"the queue {queue.name} can't be declared now: {error.reply_text}",
            reply_code=error.reply_code,
            reply_text=error.reply_text,
        )
    return error
