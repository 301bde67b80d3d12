"""
What is signed of a message: all that its receiver acts on.

Fields are values and not the bytes on the wire, since a broker may write those
anew. Each has its size in front, in four octets; one that is not there has
``ff ff ff ff``. Texts are in UTF-8, numbers in decimal. The body comes last; a
large one gives way to its SHA-256, which a thread makes, with the body's own size in front.
The user's headers are a field table in AMQP's own encoding, by the types
that crew_tx writes, with names in the order of their UTF-8, at every depth;
without any the field is empty.

A reply refers to its call, as its worker saw it: so it is good for that call
alone, as it was sent, and to where that is answered; it needs no clock and has no stamp.
The reference is the call's signature, as the worker's key makes it; where the worker has
not the key, the SHA-256 of the fields.

What many messages begin with is their head: it is made, and hashed, once. The size of the
stamp is in it, where there is a stamp; it is one for all stamps of a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from struct import Struct
from typing import Any

from crew_tx.amqp.table import encode_table
from crew_tx.message import NO_HEADERS, Answer, Call, Headers, Properties
from crew_tx.topology import queue_priority

Field = str | int | None

#: What everything that is signed begins with.
DOMAIN = b"crew-signature-1"
#: Octets of a body past which its SHA-256 is signed.
LARGE_BODY = 128 * 1024
_ABSENT = b"\xff\xff\xff\xff"
_EMPTY = b"\0\0\0\0"
#: Fields of a Call and of an Answer that are alike from one to the next.
CALL_FIELDS = slice(3, 11)
ANSWER_FIELDS = slice(2, 6)

_pack_size = Struct("!I").pack
_pack_end = Struct("!IdI").pack
_sizes = [_pack_size(size) for size in range(1024)]


def sent_call_fields(call: Call) -> Any:
    """The fields of a call that goes out: its priority is the caller's."""
    return call._replace(priority=queue_priority(call.priority))[CALL_FIELDS]


def call_head(stamp: int, exchange: str, routing_key: str, task_id: str, fields: Any) -> bytes:
    """
    The head of a call.

    :param stamp: the size of its stamp.
    :param fields: those of a :class:`Call` from its content type on, by :data:`CALL_FIELDS`.
    """
    content_type, encoding, reply_to, expiration, timeout, attempt, priority, persistent = fields
    return _stamped_head(
        stamp,
        "call",
        exchange,
        routing_key,
        content_type,
        encoding,
        reply_to,
        task_id,
        timeout,
        attempt,
        expiration,
        priority,
        2 if persistent else 1,
    )


def call_rest(
    stamp: bytes, headers: Headers, call_id: str, body: bytes, digest: bytes | None = None
) -> bytes:
    """
    What is signed of a call behind its head.

    :param digest: of a large body, where that is made already.
    :raises EncodeError: if the headers could not be sent by crew_tx.
    """
    name = call_id.encode("utf-8", "surrogateescape")
    size = len(body)
    if size > LARGE_BODY:
        body = digest or body_digest(body)
    table = _headers(headers) if headers else _EMPTY
    return b"".join((stamp, table, _sizes[len(name)], name, _pack_size(size), body))


def body_digest(body: bytes) -> bytes:
    """What is signed in place of a large body."""
    return sha256(body).digest()


def large_digest(body: bytes) -> bytes | None:
    """The same, of a body that is large; None of another, which is signed itself."""
    return body_digest(body) if len(body) > LARGE_BODY else None


def plain_reference(head: bytes, rest: bytes) -> bytes:
    """By what an answer refers to a message that its worker has no key for."""
    return sha256(head + rest).digest()


def reply_head(fields: Any, persistent: bool) -> bytes:
    """
    The head of a reply.

    :param fields: those of an :class:`Answer` from its content type on, by :data:`ANSWER_FIELDS`.
    :raises TypeError: if what came in place of a text is none.
    """
    return _head("reply", *fields, 2 if persistent else 1)


def reply_rest(answer: Answer, reference: bytes, digest: bytes | None = None) -> bytes:
    """
    What is signed of a reply behind its head, of an answer to a command as well.

    :param reference: of what it answers; that tells its id and where it goes, too.
    :param digest: as of :func:`call_rest`.
    :raises EncodeError: if what came as headers could not be sent by crew_tx.
    """
    _, body, _, _, _, _, elapsed, _, headers = answer
    size = len(body)
    end = _pack_end(8, elapsed, size)
    if size > LARGE_BODY:
        body = digest or body_digest(body)
    table = _headers(headers) if headers else _EMPTY
    return b"".join((table, _sizes[len(reference)], reference, end, body))


def command_head(stamp: int, exchange: str, routing_key: str, properties: Properties) -> bytes:
    """:raises TypeError: if a property is no text."""
    names = ("content_type", "content_encoding", "reply_to", "expiration")
    return _stamped_head(stamp, "command", exchange, routing_key, *(properties.get(name) for name in names))


def cancel_head(stamp: int, exchange: str, routing_key: str, reply_to: str) -> bytes:
    """What the cancels of one task's calls by one client have in common."""
    return _stamped_head(stamp, "cancel", exchange, routing_key, reply_to)


def told_rest(stamp: bytes, call_id: str, body: bytes) -> bytes:
    """What is signed of a command or a cancel behind its head; these have no headers."""
    return call_rest(stamp, NO_HEADERS, call_id, body)


def _stamped_head(stamp: int, *fields: Field) -> bytes:
    return _head(*fields) + _pack_size(stamp)


def _head(*fields: Field) -> bytes:
    return b"".join((DOMAIN, *map(_field, fields)))


def _field(value: Field) -> bytes:
    if value is None:
        return _ABSENT
    if isinstance(value, str | int):
        octets = _octets(str(value))
        return _pack_size(len(octets)) + octets
    raise TypeError(f"a text, not a {type(value).__name__}")


def _octets(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")


def _headers(headers: Headers) -> bytes:
    """An encoded table has its size in front."""
    return encode_table(_ordered(headers))


def _ordered(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _ordered(value[name]) for name in sorted(value, key=_octets)}
    if isinstance(value, list | tuple):
        return [_ordered(each) for each in value]
    return value
