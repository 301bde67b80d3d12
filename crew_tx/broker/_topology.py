"""
Exchanges, queues and bindings of a virtual host: declared, compared, deleted.

Pure: time is an argument, in seconds since 1970.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from crew_tx.broker._arguments import (
    Arguments,
    check_same_arguments,
    check_same_queue_arguments,
    check_text_argument,
    read_queue_arguments,
)
from crew_tx.broker._errors import (
    ReplyError,
    default_exchange,
    inequivalent,
    locked,
    no_exchange,
    no_queue,
    reserved,
)
from crew_tx.broker._exchanges import ROUTERS, Binding, Exchange, check_match
from crew_tx.broker._messages import Message, Reason
from crew_tx.broker._queue_kinds import KINDS
from crew_tx.broker._queues import Queue
from crew_tx.deadlines import Deadlines

_RESERVED = "amq."
_ALTERNATE = "alternate-exchange"
_STANDARD_EXCHANGES = {
    "": "direct",
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.headers": "headers",
    "amq.match": "headers",
    "amq.rabbitmq.trace": "topic",
    "amq.topic": "topic",
}
#: Nobody publishes to it, and here nothing does.
_INTERNAL = "amq.rabbitmq.trace"


class Topology:
    """
    What a virtual host has.

    :param on_bytes: called with how many bytes of messages more, or fewer, it holds.
    :param on_dead: called with a queue, a message that it gives up, why, and when.
    """

    def __init__(
        self,
        name: str,
        on_bytes: Callable[[int], None],
        on_dead: Callable[[Queue, Message, Reason, float], None],
    ) -> None:
        self.name = name
        self.exchanges = {
            exchange: Exchange(exchange, kind, internal=exchange == _INTERNAL)
            for exchange, kind in _STANDARD_EXCHANGES.items()
        }
        self.queues: dict[str, Queue] = {}
        self._on_bytes = on_bytes
        self._on_dead = on_dead
        self._deadlines: Deadlines[Queue] = Deadlines()

    # -- exchanges ---------------------------------------------------------------------

    def exchange(self, name: str) -> Exchange:
        """:raises ReplyError: 404 if there is no such exchange."""
        exchange = self.exchanges.get(name)
        if exchange is None:
            raise no_exchange(name, self.name)
        return exchange

    def declare_exchange(
        self,
        name: str,
        kind: str,
        *,
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Arguments | None = None,
    ) -> None:
        """
        exchange.declare.

        :raises ReplyError: 403, 404, 406, or 503 for an unknown type.
        """
        if passive:
            if not name:
                raise default_exchange()
            self.exchange(name)
            return
        if kind not in ROUTERS:
            raise ReplyError(503, f"unknown exchange type '{kind}'")
        if not name:
            raise default_exchange()
        existing = self.exchanges.get(name)
        if existing is None:
            if name.startswith(_RESERVED):
                raise reserved("exchange", name)
            check_text_argument(arguments or {}, _ALTERNATE, f"exchange '{name}' in vhost '{self.name}'")
            self.exchanges[name] = Exchange(
                name, kind, durable=durable, auto_delete=auto_delete, internal=internal, arguments=arguments
            )
            return
        self._check_same_exchange(existing, kind, durable, auto_delete, internal, arguments or {})

    def _check_same_exchange(
        self,
        existing: Exchange,
        kind: str,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        arguments: Arguments,
    ) -> None:
        name = existing.name
        for argument, received, current in (
            ("type", kind, existing.kind),
            ("durable", durable, existing.durable),
            ("auto_delete", auto_delete, existing.auto_delete),
            ("internal", internal, existing.internal),
        ):
            if received != current:
                raise inequivalent(argument, "exchange", name, self.name, _shown(received), _shown(current))
        check_same_arguments([_ALTERNATE], arguments, existing.arguments, "exchange", name, self.name)

    def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """
        exchange.delete; one that isn't there is deleted, too.

        :raises ReplyError: 403, or 406 if it is in use.
        """
        if not name:
            raise default_exchange()
        if name.startswith(_RESERVED):
            raise ReplyError(403, f"deletion of system exchange '{name}' in vhost '{self.name}' not allowed")
        exchange = self.exchanges.get(name)
        if exchange is None:
            return
        if if_unused and not exchange.is_unused:
            raise ReplyError(406, f"exchange '{name}' in vhost '{self.name}' in use")
        self._remove_exchange(exchange)

    def _remove_exchange(self, exchange: Exchange) -> None:
        del self.exchanges[exchange.name]
        for source in list(exchange.sources):
            source.unbind_target(exchange)
            self._end_exchange(source)
        for binding in exchange.bindings:
            binding.target.sources.discard(exchange)

    def _end_exchange(self, exchange: Exchange) -> None:
        if exchange.is_over and self.exchanges.get(exchange.name) is exchange:
            self._remove_exchange(exchange)

    @staticmethod
    def _forget_source(target: Queue | Exchange, source: Exchange) -> None:
        if all(binding.target is not target for binding in source.bindings):
            target.sources.discard(source)

    # -- bindings -----------------------------------------------------------------------

    def bind(
        self, target: Queue | Exchange, exchange: str, routing_key: str, arguments: Arguments | None = None
    ) -> None:
        """
        queue.bind and exchange.bind.

        :raises ReplyError: 403, 404, or 406 for an ``x-match`` that means nothing.
        """
        source, binding = self._binding(target, exchange, routing_key, arguments)
        source.bind(binding)
        target.sources.add(source)

    def unbind(
        self,
        target: Queue | Exchange | None,
        exchange: str,
        routing_key: str,
        arguments: Arguments | None = None,
    ) -> None:
        """
        queue.unbind and exchange.unbind; a binding that isn't there is no error, nor a missing end of it.

        :raises ReplyError: 403.
        """
        if not exchange or (target is not None and not target.name):
            raise default_exchange()
        source = self.exchanges.get(exchange)
        if source is None or target is None:
            return
        if source.unbind(Binding(target, routing_key, _frozen(arguments or {}))):
            self._forget_source(target, source)
            self._end_exchange(source)

    def source(self, name: str) -> Exchange:
        """
        An exchange, for something to be bound to.

        :raises ReplyError: 403 for the default exchange, 404 if there is no such exchange.
        """
        if not name:
            raise default_exchange()
        return self.exchange(name)

    def _binding(
        self, target: Queue | Exchange, exchange: str, routing_key: str, arguments: Arguments | None
    ) -> tuple[Exchange, Binding]:
        source = self.source(exchange)
        arguments = arguments or {}
        if source.kind == "headers":
            check_match(arguments)
        return source, Binding(target, routing_key, _frozen(arguments))

    # -- queues --------------------------------------------------------------------------

    def queue(self, name: str, connection: object) -> Queue:
        """
        A queue, for a connection to use.

        :raises ReplyError: 404, or 405 if it is another connection's own.
        """
        queue = self.queues.get(name)
        if queue is None:
            raise no_queue(name, self.name)
        if queue.owner is not None and queue.owner is not connection:
            raise locked(name, self.name)
        return queue

    def declare_queue(
        self,
        name: str,
        connection: object,
        now: float,
        *,
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Arguments | None = None,
    ) -> Queue:
        """
        queue.declare; without a name the broker makes one.

        :raises ReplyError: 403, 404, 405 or 406.
        """
        if passive:
            queue = self.queue(name, connection)
            queue.used = now
            self.watch(queue)
            return queue
        if name.startswith(_RESERVED):
            raise reserved("queue", name)
        given = arguments or {}
        existing = self.queues.get(name) if name else None
        if existing is not None:
            self._check_same_queue(existing, connection, durable, exclusive, auto_delete, given)
            existing.used = now
            self.watch(existing)
            return existing
        read = read_queue_arguments(
            given, name, self.name, durable=durable, exclusive=exclusive, auto_delete=auto_delete
        )
        name = name or f"amq.gen-{secrets.token_urlsafe(16)}"
        queue = self.queues[name] = KINDS[read.kind](
            name,
            durable=durable,
            exclusive=exclusive,
            auto_delete=auto_delete,
            arguments=read,
            owner=connection if exclusive else None,
            now=now,
            on_dead=self._on_dead,
            on_bytes=self._on_bytes,
        )
        self.watch(queue)
        return queue

    def _check_same_queue(
        self,
        queue: Queue,
        connection: object,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: Arguments,
    ) -> None:
        if queue.owner is not (connection if exclusive else None):
            raise locked(queue.name, self.name)
        for argument, received, current in (
            ("durable", durable, queue.durable),
            ("auto_delete", auto_delete, queue.auto_delete),
        ):
            if received != current:
                raise inequivalent(
                    argument, "queue", queue.name, self.name, _shown(received), _shown(current)
                )
        check_same_queue_arguments(arguments, queue.arguments.given, queue.name, self.name)

    def delete_queue(
        self, name: str, connection: object, *, if_unused: bool = False, if_empty: bool = False
    ) -> int:
        """
        queue.delete; one that isn't there is deleted, too.

        :returns: how many messages were ready in it.
        :raises ReplyError: 405, or 406 if it is in use or not empty.
        """
        if name not in self.queues:
            return 0
        queue = self.queue(name, connection)
        if if_empty and len(queue):
            raise ReplyError(406, f"queue '{name}' in vhost '{self.name}' not empty")
        if if_unused and queue.consumers:
            raise ReplyError(406, f"queue '{name}' in vhost '{self.name}' in use")
        return self._remove_queue(queue)

    def delete_exclusive_queues(self, connection: object) -> None:
        """A connection is gone, and its exclusive queues with it."""
        for queue in [queue for queue in self.queues.values() if queue.owner is connection]:
            self._remove_queue(queue)

    def _remove_queue(self, queue: Queue) -> int:
        count = queue.purge()
        queue.deleted = True
        del self.queues[queue.name]
        self._deadlines.clear(queue)
        for source in list(queue.sources):
            source.unbind_target(queue)
            self._end_exchange(source)
        consumers, queue.consumers = queue.consumers, []
        for consumer in consumers:
            consumer.channel.cancelled(consumer)
        return count

    def purge_queue(self, name: str, connection: object) -> int:
        """
        queue.purge.

        :returns: how many messages were ready.
        :raises ReplyError: 404 or 405.
        """
        return self.queue(name, connection).purge()

    # -- time ------------------------------------------------------------------------------------

    def watch(self, queue: Queue) -> None:
        """Look at a queue when its head expires, or it does."""
        moments = [moment for moment in (queue.wakes, queue.expires_at()) if moment is not None]
        if queue.deleted or not moments:
            self._deadlines.clear(queue)
        else:
            self._deadlines.set(queue, min(moments))


def _frozen(arguments: Arguments) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((name, _hashable(value)) for name, value in arguments.items()))


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return _frozen(value)
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _shown(value: object) -> str:
    return f"'{str(value).lower() if isinstance(value, bool) else value}'"
