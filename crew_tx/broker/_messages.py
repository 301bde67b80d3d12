"""Messages as the broker holds them, and what it writes into those that it dead-letters."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Literal

from crew_tx.amqp.properties import encode_properties
from crew_tx.broker._arguments import erlang_type
from crew_tx.broker._errors import ReplyError

Properties = dict[str, Any]
Reason = Literal["expired", "rejected", "maxlen", "delivery_limit"]

_PERSISTENT = 2
_MODES = (1, _PERSISTENT)
_COPIES = ("CC", "BCC")
#: Milliseconds.
LONGEST_EXPIRATION = 315_360_000_000
_NUMBER = re.compile("[+-]?[0-9]+")


class Message:
    """
    A message, shared by all the queues that it was routed to; nothing of it changes.

    :ivar properties: decoded, under names with underscores.
    :ivar encoded: the same as they came on the wire, and leave on it.
    :ivar hidden: the routing keys that were in the header ``BCC``; a dead letter is sent to them again.
    """

    __slots__ = ("body", "encoded", "exchange", "hidden", "properties", "routing_key")

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        properties: Properties,
        body: bytes,
        encoded: bytes | None = None,
        hidden: tuple[str, ...] = (),
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.properties = properties
        self.body = body
        self.encoded = encode_properties(properties) if encoded is None else encoded
        self.hidden = hidden

    @property
    def headers(self) -> dict[str, Any]:
        """The headers; empty where there are none."""
        return self.properties.get("headers") or {}

    @property
    def persistent(self) -> bool:
        """Whether a durable queue keeps it over a restart."""
        return self.properties.get("delivery_mode") == _PERSISTENT

    @property
    def routing_keys(self) -> list[str]:
        """The routing key, and those of the header ``CC``."""
        return [self.routing_key, *_keys(self.headers.get("CC"))]

    def with_headers(self, headers: dict[str, Any]) -> Message:
        """The same with other headers."""
        properties = {**self.properties, "headers": headers}
        return Message(self.exchange, self.routing_key, properties, self.body, hidden=self.hidden)

    def with_hidden_copies(self) -> Message:
        """The same with the keys of the header ``BCC`` put away: nobody is told of them."""
        headers = dict(self.headers)
        hidden = tuple(_keys(headers.pop("BCC")))
        properties = {**self.properties, "headers": headers}
        return Message(self.exchange, self.routing_key, properties, self.body, hidden=hidden)


#: Bytes that a message in a queue takes beside its body and its encoded properties.
ENTRY_SIZE = 1024


class Entry:
    """
    A message in one queue.

    :ivar position: where it stands in its queue; a message that comes back has it again.
    :ivar priority: 0 where the queue has none.
    :ivar expires: when it does; None for never.
    :ivar redelivered: whether a consumer had it before.
    :ivar returns: how often it came back, as quorum queues count.
    :ivar size: bytes of its body, which is what a queue's limit counts.
    :ivar held: bytes that it takes here, about: its properties and its place in the queue, too.
    """

    __slots__ = ("expires", "held", "message", "position", "priority", "redelivered", "returns", "size")

    def __init__(self, message: Message, position: int, priority: int, expires: float | None) -> None:
        self.message = message
        self.position = position
        self.priority = priority
        self.expires = expires
        self.redelivered = False
        self.returns = 0
        self.size = len(message.body)
        self.held = self.size + len(message.encoded) + ENTRY_SIZE

    def __lt__(self, other: Entry) -> bool:
        """Whether it is delivered before another: higher priorities first, then the older."""
        return (-self.priority, self.position) < (-other.priority, other.position)


def _keys(value: object) -> list[str]:
    return [key for key in value if isinstance(key, str)] if isinstance(value, list) else []


def check_properties(properties: Properties) -> list[str]:
    """
    Check what the broker itself reads of a message.

    :returns: the routing keys in the headers ``CC`` and ``BCC``.
    :raises ReplyError: 406, naming what means nothing.
    """
    expiration = properties.get("expiration")
    if expiration is not None and (wrong := _wrong_expiration(expiration)) is not None:
        raise ReplyError(406, f"invalid expiration '{expiration}': {wrong}")
    if properties.get("delivery_mode", _PERSISTENT) not in _MODES:
        raise _invalid(f"{{delivery_mode_unknown,{properties['delivery_mode']}}}")
    headers = properties.get("headers")
    return [key for name in _COPIES for key in _copies(headers, name)] if headers else []


def _copies(headers: dict[str, Any], name: str) -> list[str]:
    value = headers.get(name, [])
    if isinstance(value, list):
        return _keys(value)
    raise _invalid(f'{{unacceptable_type_in_header,"{name}",{erlang_type(value)}}}')


def _wrong_expiration(expiration: str) -> str | None:
    """What is wrong with it, in RabbitMQ's words."""
    number = _NUMBER.match(expiration)
    if number is None:
        return "no_integer"
    value, rest = int(number[0]), expiration[number.end() :]
    if rest:
        return f'{{leftover_string,"{rest}"}}'
    if value < 0:
        return f"{{value_negative,{value}}}"
    return f"{{value_too_large,{value}}}" if value > LONGEST_EXPIRATION else None


def _invalid(wrong: str) -> ReplyError:
    return ReplyError(406, f"invalid message: {wrong}")


def dead_lettered(
    message: Message, queue: str, reason: Reason, now: float, exchange: str, routing_key: str | None
) -> Message:
    """
    What is published to the dead letter exchange: RabbitMQ's ``x-death`` tells of it.

    :param now: seconds since 1970.
    :param routing_key: the queue's dead letter routing key; None to keep the message's own keys.
    """
    headers = dict(message.headers)
    properties = {**message.properties, "headers": headers}
    headers["x-death"] = _deaths(message, queue, reason, int(now))
    if "x-first-death-reason" not in headers:
        headers["x-first-death-reason"] = reason
        headers["x-first-death-queue"] = queue
        headers["x-first-death-exchange"] = message.exchange
    properties.pop("expiration", None)
    if routing_key is None:
        return Message(exchange, message.routing_key, properties, message.body, hidden=message.hidden)
    # The copies' keys belong to the key that is replaced.
    headers.pop("CC", None)
    return Message(exchange, routing_key, properties, message.body)


def has_cycled(message: Message, queue: str) -> bool:
    """
    Whether a dead letter comes back to a queue without anybody having rejected it on the way.

    RabbitMQ drops such a message: it would go round for ever.
    """
    deaths = _earlier(message)
    if not deaths:
        return False
    place = next((place for place, death in enumerate(deaths) if death.get("queue") == queue), None)
    return place is not None and all(death.get("reason") != "rejected" for death in deaths[: place + 1])


def _earlier(message: Message) -> list[dict[str, Any]]:
    deaths = message.headers.get("x-death")
    return [death for death in deaths if isinstance(death, dict)] if isinstance(deaths, list) else []


def _deaths(message: Message, queue: str, reason: Reason, now: int) -> list[dict[str, Any]]:
    """The latest first; one entry for each queue and reason."""
    # RabbitMQ 3.10 turns the earlier ones round each time.
    earlier = _earlier(message)[::-1]
    same = next((d for d in earlier if d.get("queue") == queue and d.get("reason") == reason), None)
    if same is not None:
        count = same.get("count", 0)
        again = {**same, "count": count + 1 if isinstance(count, int) else 1}
        return [again, *(death for death in earlier if death is not same)]
    death: dict[str, Any] = {
        "count": 1,
        "reason": reason,
        "queue": queue,
        "time": datetime.fromtimestamp(now, UTC),
        "exchange": message.exchange,
        "routing-keys": message.routing_keys,
    }
    expiration = message.properties.get("expiration")
    if expiration is not None:
        death["original-expiration"] = expiration
    return [death, *earlier]
