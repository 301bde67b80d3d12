"""
The broker's state, and every change that a client can make to it.

Pure: no reactor, no clock, no bytes of the wire; time is an argument, in
seconds since 1970. What a client is told goes through the output of its
channels. What is to happen later, expiry, happens in :meth:`Broker.wake`,
which is due at :meth:`Broker.next_wake`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from hmac import compare_digest
from typing import Any

from crew_tx.broker._channels import Channel, Consumer
from crew_tx.broker._errors import ReplyError
from crew_tx.broker._exchanges import Exchange
from crew_tx.broker._messages import Entry, Message, Reason, check_properties, dead_lettered, has_cycled
from crew_tx.broker._queues import Queue
from crew_tx.broker._topology import Topology

DEFAULT_USERS = {"guest": "guest"}
DEFAULT_VHOST = "/"


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


class VirtualHost(Topology):
    """
    One virtual host: what it has, and what goes through it.

    :param on_bytes: called with how many bytes of messages more, or fewer, it holds.
    :ivar published: how many messages clients have published; ``delivered`` and ``acked`` are the same for
        what went to clients, and came back as settled.
    """

    def __init__(self, name: str, on_bytes: Callable[[int], None]) -> None:
        super().__init__(name, on_bytes, self._dead)
        self.published = self.delivered = self.acked = 0
        self._letters: deque[tuple[Queue, Message, Reason]] = deque()
        self._posts_letters = False

    # -- publishing ------------------------------------------------------------------------

    def publish(self, message: Message, now: float) -> Published:
        """
        basic.publish.

        :raises ReplyError: 404, 403 for an internal exchange, 406 for properties that mean nothing.
        """
        self.published += 1
        exchange = self.exchange(message.exchange)
        if exchange.internal:
            raise ReplyError(
                403, f"cannot publish to internal exchange '{exchange.name}' in vhost '{self.name}'"
            )
        properties = message.properties
        keys = [message.routing_key, *check_properties(properties)]
        headers = properties.get("headers")
        if headers and "BCC" in headers:
            message = message.with_hidden_copies()
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
        """A message died; deaths that its dead letter brings about come after it, however many they are."""
        if queue.arguments.dead_letter_exchange is None:
            return
        self._letters.append((queue, message, reason))
        if not self._posts_letters:
            self._posts_letters = True
            try:
                while self._letters:
                    self._post(*self._letters.popleft(), now)
            finally:
                self._posts_letters = False

    def _post(self, queue: Queue, message: Message, reason: Reason, now: float) -> None:
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
        for target in self._route(exchange, [*letter.routing_keys, *letter.hidden], letter.headers):
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
    :param memory_limit: bytes that messages may take, by ``Entry.held``, before publishers are blocked.
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
        self._is_full = False

    def is_user(self, name: str, password: str) -> bool:
        """Whether a user has that password."""
        known = self._users.get(name)
        return known is not None and compare_digest(known.encode(), password.encode())

    @property
    def alarms(self) -> tuple[str, ...]:
        """All that publishers are blocked for."""
        return tuple(sorted(self._raised | {_MEMORY} if self._is_full else self._raised))

    @property
    def alarm(self) -> str | None:
        """Why publishers are blocked: ``memory`` or ``disk``; None if they aren't."""
        if self._raised or self._is_full:
            return self.alarms[0]
        return None

    @property
    def has_reserve(self) -> bool:
        """
        Whether the alarm is for what the broker holds, and for that alone, and it may hold a little more.

        Who answers calls acknowledges each behind its answer: so answers have to get in, or nothing gets out.
        """
        return self.is_full_alone and self.bytes <= self.memory_limit + RESERVE

    @property
    def is_full_alone(self) -> bool:
        """Whether the alarm is for what the broker holds, and for that alone: so acknowledgements end it."""
        return self._is_full and not self._raised

    def raise_alarm(self, resource: str) -> None:
        """Block publishers; ``resource`` is what clients are told to be low."""
        self._change_alarms(self._raised | {resource}, self._is_full)

    def clear_alarm(self, resource: str) -> None:
        """End what was raised; not the alarm for what the broker holds, which ends by itself."""
        self._change_alarms(self._raised - {resource}, self._is_full)

    def _change_alarms(self, raised: set[str], is_full: bool) -> None:
        was, self._raised, self._is_full = bool(self._raised or self._is_full), raised, is_full
        if bool(raised or is_full) is not was:
            self.on_alarm(not was)

    def _count(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.memory_limit:
            if not self._is_full:
                self._change_alarms(self._raised, True)
        elif self._is_full and self.bytes <= self.memory_limit * _CLEAR_AT:
            self._change_alarms(self._raised, False)

    def next_wake(self) -> float | None:
        """When :meth:`wake` has something to do; None for never."""
        moments = [vhost.next_wake() for vhost in self.vhosts.values()]
        return min((moment for moment in moments if moment is not None), default=None)

    def wake(self, now: float) -> None:
        """Do what has become due."""
        for vhost in self.vhosts.values():
            vhost.wake(now)


_MEMORY = "memory"
#: Of the limit, where an alarm ends that began at the limit: so it doesn't come and go.
_CLEAR_AT = 0.8
#: Bytes over the limit that are for those who make room by them, and for what clients had under way.
RESERVE = 64 * 1024 * 1024


def _add(exchange: Exchange, seen: set[Exchange], todo: list[Exchange]) -> None:
    if exchange not in seen:
        seen.add(exchange)
        todo.append(exchange)
