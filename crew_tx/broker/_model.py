"""
The broker's state, and every change that a client can make to it.

Pure: no reactor, no clock, no bytes of the wire; time is an argument, in
seconds since 1970. What a client is told goes through the output of its
channels. What is to happen later, expiry, happens in :meth:`Broker.wake`,
which is due at :meth:`Broker.next_wake`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hmac import compare_digest
from typing import Any

from crew_tx.broker._arguments import (
    SAME_QUEUE_ARGUMENTS,
    Arguments,
    check_same_arguments,
    read_queue_arguments,
)
from crew_tx.broker._channels import Channel, Consumer
from crew_tx.broker._errors import (
    ReplyError,
    default_exchange,
    inequivalent,
    locked,
    no_exchange,
    no_queue,
    reserved,
)
from crew_tx.broker._exchanges import MATCH, ROUTERS, Binding, Exchange, is_match
from crew_tx.broker._messages import Entry, Message, Reason, copies, dead_lettered, has_cycled
from crew_tx.broker._queues import KINDS, Queue
from crew_tx.deadlines import Deadlines

DEFAULT_USERS = {"guest": "guest"}
DEFAULT_VHOST = "/"

_RESERVED = "amq."
_STANDARD_EXCHANGES = {
    "": "direct",
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.headers": "headers",
    "amq.match": "headers",
    "amq.topic": "topic",
}
_LONGEST_EXPIRATION = 315_360_000_000


class Published:
    """
    What became of a message.

    :ivar routed: whether any queue was to have it; else a mandatory one is returned.
    :ivar taken: whether all of those took it; else its publisher gets a basic.nack.
    """

    __slots__ = ("routed", "taken")

    def __init__(self, routed: bool, taken: bool) -> None:
        self.routed = routed
        self.taken = taken


class VirtualHost:
    """
    Exchanges, queues and bindings of one virtual host.

    :param on_bytes: called with how many bytes of messages more, or fewer, it holds.
    """

    def __init__(self, name: str, on_bytes: Callable[[int], None]) -> None:
        self.name = name
        self.exchanges = {
            exchange: Exchange(exchange, kind) for exchange, kind in _STANDARD_EXCHANGES.items()
        }
        self.queues: dict[str, Queue] = {}
        self._on_bytes = on_bytes
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
            raise ReplyError(503, f"invalid exchange type '{kind}'")
        existing = self.exchanges.get(name)
        if not name:
            raise default_exchange()
        if existing is None:
            if name.startswith(_RESERVED):
                raise reserved("exchange", name)
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
                raise inequivalent(
                    argument, "exchange", name, self.name, f"'{_shown(received)}'", f"'{_shown(current)}'"
                )
        check_same_arguments(
            ("alternate-exchange",), arguments, existing.arguments, "exchange", name, self.name
        )

    def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """
        exchange.delete; one that isn't there is deleted, too.

        :raises ReplyError: 403, or 406 if it is in use.
        """
        if not name:
            raise default_exchange()
        if name.startswith(_RESERVED):
            raise reserved("exchange", name)
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
            self._forget_source(binding.target, exchange)

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
        self, target: Queue | Exchange, exchange: str, routing_key: str, arguments: Arguments | None = None
    ) -> None:
        """
        queue.unbind and exchange.unbind; a binding that isn't there is no error.

        :raises ReplyError: 403 or 404.
        """
        source, binding = self._binding(target, exchange, routing_key, arguments)
        if source.unbind(binding):
            self._forget_source(target, source)
            self._end_exchange(source)

    def _binding(
        self, target: Queue | Exchange, exchange: str, routing_key: str, arguments: Arguments | None
    ) -> tuple[Exchange, Binding]:
        if not exchange:
            raise default_exchange()
        source = self.exchange(exchange)
        arguments = arguments or {}
        if source.kind == "headers" and not is_match(arguments.get(MATCH, "all")):
            raise ReplyError(
                406,
                f"Invalid x-match field value {arguments[MATCH]!r}; expected all or any",
            )
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
        existing = self.queues.get(name) if name else None
        if existing is None and name.startswith(_RESERVED):
            raise reserved("queue", name)
        name = name or f"amq.gen-{secrets.token_urlsafe(16)}"
        given = arguments or {}
        read = read_queue_arguments(
            given, name, self.name, durable=durable, exclusive=exclusive, auto_delete=auto_delete
        )
        if existing is not None:
            self._check_same_queue(existing, connection, durable, exclusive, auto_delete, given)
            existing.used = now
            self.watch(existing)
            return existing
        queue = self.queues[name] = KINDS[read.kind](
            name,
            durable=durable,
            exclusive=exclusive,
            auto_delete=auto_delete,
            arguments=read,
            owner=connection if exclusive else None,
            now=now,
            on_dead=self._dead,
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
        for argument, received, current in (
            ("durable", durable, queue.durable),
            ("auto_delete", auto_delete, queue.auto_delete),
        ):
            if received != current:
                raise inequivalent(
                    argument,
                    "queue",
                    queue.name,
                    self.name,
                    f"'{_shown(received)}'",
                    f"'{_shown(current)}'",
                )
        if queue.owner is not (connection if exclusive else None):
            raise locked(queue.name, self.name)
        check_same_arguments(
            SAME_QUEUE_ARGUMENTS, arguments, queue.arguments.given, "queue", queue.name, self.name
        )

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
        if if_unused and queue.consumers:
            raise ReplyError(406, f"queue '{name}' in vhost '{self.name}' in use")
        if if_empty and len(queue):
            raise ReplyError(406, f"queue '{name}' in vhost '{self.name}' is not empty")
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

    # -- publishing ------------------------------------------------------------------------

    def publish(self, message: Message, now: float) -> Published:
        """
        basic.publish.

        :raises ReplyError: 404, 403 for an internal exchange, 406 for an expiration or copies
            that mean nothing.
        """
        exchange = self.exchange(message.exchange)
        if exchange.internal:
            raise ReplyError(
                403, f"cannot publish to internal exchange '{exchange.name}' in vhost '{self.name}'"
            )
        headers = message.properties.get("headers")
        keys = [message.routing_key]
        _check_expiration(message.properties.get("expiration"))
        if headers:
            for name in ("CC", "BCC"):
                more = copies(headers, name)
                if more is None:
                    raise ReplyError(406, f"invalid '{name}' header: it is not a list of routing keys")
                keys += more
            if "BCC" in headers:
                message = message.with_headers({k: v for k, v in headers.items() if k != "BCC"})
        queues = self._route(exchange, keys, headers or {})
        taken = True
        for queue in queues:
            taken = queue.publish(message, now) and taken
            self.watch(queue)
        return Published(bool(queues), taken)

    def _route(self, exchange: Exchange, keys: list[str], headers: dict[str, Any]) -> list[Queue]:
        """Every queue once, in the order in which they are found."""
        if not exchange.name:
            queues = [self.queues.get(key) for key in keys]
            return list(dict.fromkeys(queue for queue in queues if queue is not None))
        found: dict[Queue, None] = {}
        seen, todo = {exchange}, [exchange]
        for source in todo:
            matched = False
            for binding in source.matching(keys, headers):
                matched = True
                if isinstance(binding.target, Exchange):
                    _add(binding.target, seen, todo)
                else:
                    found[binding.target] = None
            alternate = None if matched or source.alternate is None else self.exchanges.get(source.alternate)
            if alternate is not None:
                _add(alternate, seen, todo)
        return list(found)

    def _dead(self, queue: Queue, message: Message, reason: Reason, now: float) -> None:
        """A dead letter goes on, once and without anybody to tell, if its exchange is there."""
        arguments = queue.arguments
        if arguments.dead_letter_exchange is None:
            return
        exchange = self.exchanges.get(arguments.dead_letter_exchange)
        if exchange is None:
            return
        letter = dead_lettered(
            message, queue.name, reason, now, exchange.name, arguments.dead_letter_routing_key
        )
        for target in self._route(exchange, letter.routing_keys, letter.headers):
            if reason == "rejected" or not has_cycled(letter, target.name):
                target.publish(letter, now)
                self.watch(target)

    # -- consuming ---------------------------------------------------------------------------

    def consume(self, consumer: Consumer, now: float) -> None:
        """Let a queue deliver to a consumer that its channel has registered."""
        consumer.queue.add_consumer(consumer, now)
        self.watch(consumer.queue)

    def cancel(self, channel: Channel, tag: str, now: float) -> None:
        """basic.cancel; a tag that isn't there is no error."""
        consumer = channel.consumers.pop(tag, None)
        if consumer is not None:
            consumer.queue.remove_consumer(consumer, now)
            self.consumer_gone(consumer.queue, now)

    def consumer_gone(self, queue: Queue, now: float) -> None:
        """A queue has lost a consumer: perhaps it ends with it."""
        if queue.is_over and not queue.deleted:
            self._remove_queue(queue)
        else:
            self.dispatch(queue, now)

    def get(self, queue: Queue, now: float) -> Entry | None:
        """basic.get; None from an empty queue."""
        entry = queue.get(now)
        self.watch(queue)
        return entry

    def dispatch(self, queue: Queue, now: float) -> None:
        """Deliver what a queue has to consumers that take more."""
        if not queue.deleted:
            queue.dispatch(now)
            self.watch(queue)

    # -- time ------------------------------------------------------------------------------------

    def watch(self, queue: Queue) -> None:
        """Look at a queue when its head expires, or it does."""
        moments = [moment for moment in (queue.wakes, queue.expires_at()) if moment is not None]
        if queue.deleted or not moments:
            self._deadlines.clear(queue)
        else:
            self._deadlines.set(queue, min(moments))

    def next_wake(self) -> float | None:
        """When :meth:`wake` has something to do; None for never."""
        return self._deadlines.earliest()

    def wake(self, now: float) -> None:
        """Do what has become due."""
        for queue in self._deadlines.overdue(now):
            if queue.deleted:
                continue
            expires = queue.expires_at()
            if expires is not None and expires <= now:
                self._remove_queue(queue)
                continue
            queue.drop_expired(now)
            self.dispatch(queue, now)


class Broker:
    """
    Users, virtual hosts, and how much they hold.

    :param users: passwords by name; ``guest`` with ``guest`` by default.
    :param vhosts: the names of the virtual hosts.
    :param memory_limit: bytes of messages past which publishers are blocked.
    :param on_alarm: called with whether there is an alarm now, when that changes.
    """

    def __init__(
        self,
        users: dict[str, str] | None = None,
        vhosts: tuple[str, ...] = (DEFAULT_VHOST,),
        *,
        memory_limit: int = 256 * 1024 * 1024,
        on_alarm: Callable[[bool], object] = lambda is_on: None,
    ) -> None:
        self._users = dict(DEFAULT_USERS if users is None else users)
        self.vhosts = {name: VirtualHost(name, self._count) for name in vhosts}
        self.memory_limit = memory_limit
        self.on_alarm = on_alarm
        self.bytes = 0
        self._raised: set[str] = set()

    def is_user(self, name: str, password: str) -> bool:
        """Whether a user has that password."""
        known = self._users.get(name)
        return known is not None and compare_digest(known.encode(), password.encode())

    @property
    def alarm(self) -> str | None:
        """Why publishers are blocked: ``memory`` or ``disk``; None if they aren't."""
        return min(self._raised, default=None)

    def raise_alarm(self, resource: str) -> None:
        """Block publishers; ``resource`` is what clients are told to be low."""
        self._change_alarms(self._raised | {resource})

    def clear_alarm(self, resource: str) -> None:
        """The opposite."""
        self._change_alarms(self._raised - {resource})

    def _change_alarms(self, raised: set[str]) -> None:
        changed = bool(raised) is not bool(self._raised)
        self._raised = raised
        if changed:
            self.on_alarm(bool(raised))

    def _count(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.memory_limit:
            if "memory" not in self._raised:
                self.raise_alarm("memory")
        elif self._raised and self.bytes <= self.memory_limit * _CLEAR_AT and "memory" in self._raised:
            self.clear_alarm("memory")

    def next_wake(self) -> float | None:
        """When :meth:`wake` has something to do; None for never."""
        moments = [vhost.next_wake() for vhost in self.vhosts.values()]
        return min((moment for moment in moments if moment is not None), default=None)

    def wake(self, now: float) -> None:
        """Do what has become due."""
        for vhost in self.vhosts.values():
            vhost.wake(now)


#: Of the limit, where an alarm ends that began at the limit: so it doesn't come and go.
_CLEAR_AT = 0.8


def _add(exchange: Exchange, seen: set[Exchange], todo: list[Exchange]) -> None:
    if exchange not in seen:
        seen.add(exchange)
        todo.append(exchange)


def _frozen(arguments: Arguments) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((name, _hashable(value)) for name, value in arguments.items()))


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return _frozen(value)
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_expiration(expiration: str | None) -> None:
    if expiration is None:
        return
    if not expiration.isdecimal() or not expiration.isascii() or int(expiration) > _LONGEST_EXPIRATION:
        raise ReplyError(406, f"invalid expiration '{expiration}'")
