"""
Properties that are alike from message to message, encoded once.

A program's calls to one task differ in their ids and their time, a worker's
replies in their ids and how long the task ran. All else is packed when the
first of them is sent. The order is AMQP's: content type and encoding, headers,
delivery mode, priority, correlation id, reply-to, expiration, message id,
timestamp, type, user id, app id.
"""

from __future__ import annotations

from struct import Struct

from crew_tx.amqp.properties import encode_properties
from crew_tx.message import Properties

_HEADERS = ("content_type", "content_encoding", "headers")
_DELIVERY = ("delivery_mode", "priority")
_REPLY = ("reply_to", "expiration")
_PROGRAM = ("type", "user_id", "app_id")

_FLAGS_SIZE = 2
_TABLE_SIZE = 4
_timestamp = Struct("!Q")
_double = Struct("!d")


class CallTemplate:
    """
    :param properties: of one call; its correlation id and its message id are the same.
    :raises EncodeError: naming the property that can't be written.
    """

    __slots__ = ("_after", "_before", "_between")

    def __init__(self, properties: Properties) -> None:
        flags = encode_properties(properties)[:_FLAGS_SIZE]
        self._before = flags + _encoded(properties, *_HEADERS, *_DELIVERY)
        self._between = _encoded(properties, *_REPLY)
        self._after = _encoded(properties, *_PROGRAM)

    def fill(self, call_id: str, timestamp: int) -> bytes:
        """The properties of another call; its id has 255 bytes of UTF-8 at most."""
        name = call_id.encode()
        name = bytes((len(name),)) + name
        return b"".join((self._before, name, self._between, name, _timestamp.pack(timestamp), self._after))


class SignedCallTemplate:
    """
    :param properties: as of :class:`CallTemplate`; the last of its headers is a text.
    :param size: the octets of that text, which is ASCII.
    :raises EncodeError: naming the property that can't be written.
    """

    __slots__ = ("_after", "_before", "_between", "_delivery")

    def __init__(self, properties: Properties, size: int) -> None:
        flags = encode_properties(properties)[:_FLAGS_SIZE]
        self._before = flags + _encoded(properties, *_HEADERS)[:-size]
        self._delivery = _encoded(properties, *_DELIVERY)
        self._between = _encoded(properties, *_REPLY)
        self._after = _encoded(properties, *_PROGRAM)

    def fill(self, call_id: str, timestamp: int, signature: bytes) -> bytes:
        """The properties of another call; its id has 255 bytes of UTF-8 at most."""
        name = call_id.encode()
        name = bytes((len(name),)) + name
        return b"".join(
            (
                self._before,
                signature,
                self._delivery,
                name,
                self._between,
                name,
                _timestamp.pack(timestamp),
                self._after,
            )
        )


class ReplyTemplate:
    """
    :param properties: of one reply; the last of its headers is a float.
    :raises EncodeError: naming the property that can't be written.
    """

    __slots__ = ("_after", "_before", "_between")

    def __init__(self, properties: Properties) -> None:
        flags = encode_properties(properties)[:_FLAGS_SIZE]
        headers = _encoded(properties, *_HEADERS)
        self._before = flags + headers[: -_double.size]
        self._between = _encoded(properties, *_DELIVERY)
        self._after = _encoded(properties, *_PROGRAM)

    def fill(self, call_id: str, elapsed: float) -> bytes:
        """The properties of another reply; its call's id has 255 bytes of UTF-8 at most."""
        name = call_id.encode("utf-8", "surrogateescape")
        name = bytes((len(name),)) + name
        return b"".join((self._before, _double.pack(elapsed), self._between, name, name, self._after))


class SignedReplyTemplate:
    """
    :param properties: of one reply; the last two of its headers are a float and a text.
    :param size: the octets of that text, which is ASCII.
    :raises EncodeError: naming the property that can't be written.
    """

    __slots__ = ("_after", "_before", "_between", "_name")

    def __init__(self, properties: Properties, size: int) -> None:
        flags = encode_properties(properties)[:_FLAGS_SIZE]
        headers = _encoded(properties, *_HEADERS)[:-size]
        name, text = list(properties["headers"].items())[-1]
        #: What stands between the float and the text.
        self._name = _encoded({"headers": {name: text}}, "headers")[_TABLE_SIZE:-size]
        self._before = flags + headers[: -len(self._name) - _double.size]
        self._between = _encoded(properties, *_DELIVERY)
        self._after = _encoded(properties, *_PROGRAM)

    def fill(self, call_id: str, elapsed: float, signature: bytes) -> bytes:
        """The properties of another reply; its call's id has 255 bytes of UTF-8 at most."""
        name = call_id.encode("utf-8", "surrogateescape")
        name = bytes((len(name),)) + name
        return b"".join(
            (
                self._before,
                _double.pack(elapsed),
                self._name,
                signature,
                self._between,
                name,
                name,
                self._after,
            )
        )


def _encoded(properties: Properties, *names: str) -> bytes:
    present = {name: properties[name] for name in names if name in properties}
    return encode_properties(present)[_FLAGS_SIZE:]
