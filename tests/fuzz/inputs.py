"""
What is sent to parsers and sessions: good conversations, and what a seeded random makes of them.

The same seed makes the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from txamqp.spec import pythonize

from crew_tx.amqp import frames, methods
from crew_tx.amqp.properties import encode_properties
from crew_tx.amqp.spec import methods as spec_methods
from crew_tx.errors import EncodeError
from tests.amqp import captured

_HEAD = 7
_BASIC = 60
_LONGEST = 65_536

CAPABILITIES = {
    "capabilities": {"authentication_failure_close": True, "consumer_cancel_notify": True, "basic.nack": True}
}
START_OK = (CAPABILITIES, "PLAIN", "\0guest\0guest", "en_US")


def method(channel: int, method_id: int, *arguments: Any) -> bytes:
    """A method's frame."""
    return frames.pack_method(channel, method_id, arguments)


def content(channel: int, body: bytes, **properties: Any) -> bytes:
    """The frames that follow a method with content."""
    encoded = encode_properties(properties)
    return b"".join(frames.pack_content(channel, _BASIC, encoded, body, frames.DEFAULT_MAX_FRAME_SIZE))


def publish(channel: int, exchange: str, key: str, body: bytes, **properties: Any) -> bytes:
    """A message."""
    head = method(channel, methods.BASIC_PUBLISH, 0, exchange, key, True, False)
    return head + content(channel, body, **properties)


#: A client's frames up to an open connection.
HANDSHAKE = [
    method(0, methods.CONNECTION_START_OK, *START_OK),
    method(0, methods.CONNECTION_TUNE_OK, 2047, 131_072, 60),
    method(0, methods.CONNECTION_OPEN, "/", "", False),
]
_QUORUM = {"x-queue-type": "quorum"}
_LETTERED = {
    "x-dead-letter-exchange": "amq.fanout",
    "x-max-length": 2,
    "x-max-priority": 4,
    "x-message-ttl": 60_000,
}
#: What well-behaved clients send once the connection is open.
CLIENT_CONVERSATIONS = [
    [
        method(1, methods.CHANNEL_OPEN, ""),
        method(1, methods.CONFIRM_SELECT, False),
        method(1, methods.QUEUE_DECLARE, 0, "fuzz.a", False, True, False, False, False, _LETTERED),
        method(1, methods.QUEUE_DECLARE, 0, "fuzz.b", False, True, False, False, False, {}),
        method(1, methods.QUEUE_BIND, 0, "fuzz.b", "amq.fanout", "key", False, {}),
        *(publish(1, "", "fuzz.a", b"body" * n, priority=n, headers={"CC": ["fuzz.b"]}) for n in range(4)),
        method(1, methods.BASIC_GET, 0, "fuzz.b", False),
        method(1, methods.BASIC_NACK, 1, False, True),
        method(1, methods.QUEUE_PURGE, 0, "fuzz.b", False),
        method(1, methods.CHANNEL_CLOSE, 200, "", 0, 0),
        method(0, methods.CONNECTION_CLOSE, 200, "", 0, 0),
    ],
    [
        method(1, methods.CHANNEL_OPEN, ""),
        method(2, methods.CHANNEL_OPEN, ""),
        method(1, methods.EXCHANGE_DECLARE, 0, "fuzz.x", "topic", False, True, False, False, False, {}),
        method(1, methods.QUEUE_DECLARE, 0, "", False, False, True, True, False, {"x-expires": 1000}),
        method(1, methods.QUEUE_BIND, 0, "", "fuzz.x", "#.a.*", False, {}),
        method(1, methods.BASIC_QOS, 0, 2, False),
        method(1, methods.BASIC_CONSUME, 0, "", "tag", False, False, False, False, {}),
        *(publish(2, "fuzz.x", "b.a.c", b"x", expiration="1000") for _ in range(3)),
        method(1, methods.BASIC_ACK, 2, True),
        method(1, methods.BASIC_REJECT, 3, True),
        method(1, methods.CHANNEL_FLOW, False),
        method(1, methods.BASIC_RECOVER, True),
        method(1, methods.BASIC_CANCEL, "tag", False),
        frames.pack_heartbeat(),
    ],
    [
        method(1, methods.CHANNEL_OPEN, ""),
        method(1, methods.EXCHANGE_DECLARE, 0, "fuzz.h", "headers", False, False, True, False, False, {}),
        method(1, methods.EXCHANGE_BIND, 0, "amq.direct", "fuzz.h", "", False, {"x-match": "any", "a": 1}),
        method(1, methods.EXCHANGE_UNBIND, 0, "amq.direct", "fuzz.h", "", False, {"x-match": "any", "a": 1}),
        method(1, methods.QUEUE_DECLARE, 0, "fuzz.q", False, True, False, False, False, _QUORUM),
        publish(1, "", "fuzz.q", b"y" * 500, delivery_mode=2, user_id="guest", timestamp=1),
        method(1, methods.BASIC_CONSUME, 0, "fuzz.q", "", False, True, True, True, {}),
        method(1, methods.QUEUE_DELETE, 0, "fuzz.q", False, False, False),
    ],
]
#: What a broker sends once the connection is open, as RabbitMQ sent it.
BROKER_CONVERSATION = [
    captured.CHANNEL_OPEN_OK,
    captured.CONFIRM_SELECT_OK,
    captured.QUEUE_DECLARE_OK,
    captured.CONSUME_OK,
    captured.ACK,
    captured.DELIVER,
    captured.DEAD_LETTER_HEADER,
    captured.DEAD_LETTER_BODY,
    captured.RETURN,
    captured.RETURN_HEADER,
    captured.RETURN_BODY,
    captured.HEARTBEAT,
    captured.CANCEL,
    captured.QUEUE_DELETE_OK,
    captured.CHANNEL_CLOSE,
    captured.CONNECTION_CLOSE,
]

#: What comes before.
GREETING = [captured.CONNECTION_START, captured.CONNECTION_TUNE, captured.CONNECTION_OPEN_OK]

#: Names that are there, and some that are not, or not in UTF-8.
_NAMES = (
    *("", "fuzz.a", "fuzz.b", "fuzz.q", "fuzz.x", "fuzz.h", "amq.fanout", "amq.none"),
    *("tag", "\udcff\udcfe", "#.*.#", "\0"),
)
_NUMBERS = (0, 1, 2, 3, 255, 256, 65_535, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
_ARGUMENT_NAMES = (
    *("x-max-priority", "x-max-length", "x-max-length-bytes", "x-expires", "x-message-ttl", "x-overflow"),
    *("x-queue-type", "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-delivery-limit"),
    *("alternate-exchange", "x-match", "x-death", "CC", "BCC", "capabilities", "x-delivery-count", "a"),
)


class Inputs:
    """
    :param random: what decides.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self._broken: list[Callable[[list[bytes]], list[bytes]]] = [
            self._swap,
            self._repeat,
            self._leave_out,
            self._other_channel,
            self._other_size,
            self._other_octets,
            self._cut,
            self._insert_method,
            self._insert_method,
            self._insert_content,
            self._insert_noise,
        ]

    def conversation(self, good: list[bytes]) -> bytes:
        """A good conversation, changed in up to five places."""
        changed = list(good)
        for _ in range(self.random.randint(1, 5)):
            changed = self.random.choice(self._broken)(changed)
        return b"".join(changed)[:_LONGEST]

    def chunks(self, data: bytes) -> list[bytes]:
        """The same in reads of any size."""
        size = self.random.choice([1, 7, 8, 50, 1000, _LONGEST])
        return [data[start : start + size] for start in range(0, len(data), size)]

    # -- what can be wrong -------------------------------------------------------------------

    def _place(self, parts: list[bytes]) -> int:
        return self.random.randrange(len(parts)) if parts else 0

    def _swap(self, parts: list[bytes]) -> list[bytes]:
        one, other = self._place(parts), self._place(parts)
        if parts:
            parts[one], parts[other] = parts[other], parts[one]
        return parts

    def _repeat(self, parts: list[bytes]) -> list[bytes]:
        place = self._place(parts)
        return parts[:place] + parts[place : place + 3] * self.random.randint(1, 5) + parts[place:]

    def _leave_out(self, parts: list[bytes]) -> list[bytes]:
        place = self._place(parts)
        return parts[:place] + parts[place + 1 :]

    def _changed(self, parts: list[bytes], change: Callable[[bytearray], object]) -> list[bytes]:
        place = self._place(parts)
        if parts and len(parts[place]) > _HEAD:
            changed = bytearray(parts[place])
            change(changed)
            parts[place] = bytes(changed)
        return parts

    def _other_channel(self, parts: list[bytes]) -> list[bytes]:
        channel = self.random.choice([0, 1, 2, 3, 2047, 2048, 65_535])
        return self._changed(parts, lambda part: part.__setitem__(slice(1, 3), channel.to_bytes(2, "big")))

    def _other_size(self, parts: list[bytes]) -> list[bytes]:
        size = self.random.choice([0, 1, 3, 4, 12, 14, 131_064, 131_065, 2**32 - 1])
        return self._changed(parts, lambda part: part.__setitem__(slice(3, 7), size.to_bytes(4, "big")))

    def _other_octets(self, parts: list[bytes]) -> list[bytes]:
        def change(part: bytearray) -> None:
            for _ in range(self.random.randint(1, 4)):
                place = self.random.randrange(len(part))
                part[place] = self.random.choice([0, 1, 0x7F, 0x80, 0xCE, 0xFF, self.random.randrange(256)])

        return self._changed(parts, change)

    def _cut(self, parts: list[bytes]) -> list[bytes]:
        place = self._place(parts)
        if parts:
            parts[place] = parts[place][: self.random.randrange(len(parts[place]) + 1)]
        return parts

    def _insert(self, parts: list[bytes], new: bytes) -> list[bytes]:
        place = self._place(parts)
        return [*parts[:place], new, *parts[place:]]

    def _insert_noise(self, parts: list[bytes]) -> list[bytes]:
        return self._insert(parts, self.random.randbytes(self.random.randrange(40)))

    def _insert_content(self, parts: list[bytes]) -> list[bytes]:
        name = self.random.choice(_NAMES)
        return self._insert(parts, _encoded(lambda: self._publication(name)))

    def _publication(self, name: str) -> bytes:
        properties = {
            "headers": self._table(),
            "expiration": self.random.choice(["0", "1", "1000", "-1", "", "x", "9" * 200, "\u0663"]),
            "priority": self.random.randrange(256),
        }
        chosen = {key: value for key, value in properties.items() if self.random.random() < 0.5}
        head = method(1, methods.BASIC_PUBLISH, 0, self.random.choice(["", name]), name, True, False)
        return head + content(1, self.random.randbytes(self.random.choice([0, 1, 20])), **chosen)

    def _insert_method(self, parts: list[bytes]) -> list[bytes]:
        return self._insert(parts, _encoded(self._any_method))

    def _any_method(self) -> bytes:
        number, any_method = self.random.choice(sorted(spec_methods().items()))
        arguments = [self._value(field.type, pythonize(field.name)) for field in any_method.fields]
        return method(self.random.choice([0, 1, 1, 1, 2, 3]), number, *arguments)

    def _value(self, kind: str, name: str) -> Any:
        if kind == "bit":
            return self.random.random() < 0.3
        if kind == "shortstr":
            kinds = ("direct", "topic", "headers", "fanout", "none")
            return self.random.choice(kinds if name == "type" else _NAMES)
        if kind == "longstr":
            return self.random.choice(["", "\0guest\0guest", "\0\0", b"\xff\0\xff\0\xff"])
        if kind == "table":
            return self._table()
        bits = {"octet": 8, "short": 16, "long": 32, "longlong": 64, "timestamp": 64}[kind]
        return self.random.choice(_NUMBERS) % 2**bits

    def _table(self, depth: int = 0) -> dict[str, Any]:
        names = self.random.choices(_ARGUMENT_NAMES, k=self.random.randrange(4))
        return {name: self._table_value(depth) for name in names}

    def _table_value(self, depth: int) -> Any:
        simple: list[Any] = [
            *(0, 1, -1, 2, 255, 256, 2**31, 2**63 - 1, -(2**63), True, False, None, 1.5, float("nan")),
            *("", "quorum", "classic", "stream", "drop-head", "reject-publish", "amq.fanout", "any", "all"),
            *(b"\xff\xfe", "fuzz.a", "\udcff", "all-with-x"),
        ]
        if depth < 3 and self.random.random() < 0.3:
            deaths = [{"queue": "fuzz.a", "reason": "expired", "count": self.random.choice(simple)}]
            nested: list[Any] = [deaths, [self._table_value(depth + 1)], self._table(depth + 1)]
            return self.random.choice(nested)
        return self.random.choice(simple)


def _encoded(make: Callable[[], bytes]) -> bytes:
    """What can't be written isn't sent."""
    try:
        return make()
    except EncodeError:
        return b""
