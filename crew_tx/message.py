"""
The messages of crew_tx, and the only place that maps them to AMQP.

A message is frozen. Its body is bytes: what they mean is the codec's matter.
Properties are a plain dict of AMQP 0-9-1's basic properties under their names
with underscores (``content_type``, ``delivery_mode``); what isn't set is left
out.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, cast

from crew_tx.errors import DecodeError, InvalidArgumentError
from crew_tx.topology import dead_letter_key, queue_priority

Properties = dict[str, Any]
Headers = dict[str, Any]

#: For those that have none: it can't be written to.
NO_HEADERS = cast(Headers, MappingProxyType({}))

CALL = "crew.call"
RESULT = "crew.result"
ERROR = "crew.error"
PROBE = "probe"
CANCEL = "cancel"
EVENT = "crew.event"
COMMAND = "crew.command"
HELLO = "crew.hello"

APP_ID = "crew_tx"

_TASK = "crew-task"
_TIMEOUT = "crew-timeout"
_ATTEMPT = "crew-attempt"
_WORKER = "crew-worker"
_ELAPSED = "crew-elapsed"
_KIND = "crew-error"
_PUBLISHER = "crew-publisher"
SIGNATURE = "crew-signature"
_CC = "CC"
_DELIVERIES = "x-delivery-count"

_TRANSIENT, _PERSISTENT = 1, 2

#: AMQP's longest expiration that RabbitMQ takes, ten years, in seconds.
LONGEST_EXPIRATION = 315_360_000
#: Python refuses to read numbers of thousands of digits.
_MOST_DIGITS = 20

#: Why a worker answered with an error.
ErrorKind = Literal["raised", "timeout", "expired", "unknown-task", "cancelled", "undecodable", "refused"]


class Call(NamedTuple):
    """
    A request to run a task.

    :ivar expiration: milliseconds that it may wait in its queue.
    :ivar timeout: milliseconds that it may run, from when a worker received it.
    :ivar reply_to: the client id to reply to; None for one way.
    :ivar priority: 0 to 255 at the caller, 0 to 10 once it was on the wire.
    :ivar timestamp: seconds since 1970 when it was made, by the caller's clock.
    :ivar headers: the user's own.
    :ivar deliveries: how often its queue had delivered it before; 0 where that doesn't count them.
    """

    task_id: str
    call_id: str
    body: bytes
    content_type: str
    content_encoding: str | None = None
    reply_to: str | None = None
    expiration: int = 86_400_000
    timeout: int = 86_400_000
    attempt: int = 1
    priority: int = 0
    persistent: bool = True
    timestamp: int = 0
    headers: Headers = NO_HEADERS
    redelivered: bool = False
    deliveries: int = 0


class Answer(NamedTuple):
    """
    A worker's reply to a call, on the wire.

    :ivar error: None for a result, else why it is an error.
    :ivar elapsed: seconds that the task ran.
    """

    call_id: str
    body: bytes
    content_type: str
    content_encoding: str | None = None
    error: ErrorKind | None = None
    worker: str | None = None
    elapsed: float = 0.0
    persistent: bool = True
    headers: Headers = NO_HEADERS


@dataclass(frozen=True, slots=True)
class Reply:
    """
    What ``Client.request`` fires with.

    :ivar value: what the task returned.
    :ivar headers: what the task put into ``context.headers``.
    :ivar worker: the id of the worker that answered.
    :ivar elapsed: seconds that the task ran.
    """

    value: Any
    headers: Headers
    worker: str | None
    elapsed: float


@dataclass(frozen=True, slots=True)
class Event:
    """
    What was published, as a subscriber gets it.

    :ivar channel: the channel that it was published to.
    :ivar headers: the publisher's own.
    :ivar publisher: the id of the client or the worker; None where it doesn't say.
    :ivar time: when it was published, in whole seconds since 1970, by the publisher's clock.
    :ivar redelivered: whether a subscriber may have had it before.
    """

    channel: str
    data: Any
    id: str
    headers: Headers
    publisher: str | None
    time: int
    redelivered: bool


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """
    What the broker wrote about a call that it took out of its queue.

    :ivar reason: ``expired``, ``rejected``, ``maxlen`` or ``delivery_limit``.
    :ivar expiration: the seconds that it was allowed to wait, where known.
    :ivar time: when, in seconds since 1970, where known.
    """

    call_id: str
    reason: str
    queue: str | None
    expiration: float | None
    time: float | None


def check_headers(headers: Headers) -> None:
    """
    Refuse the header names that RabbitMQ or crew_tx use themselves.

    ``CC`` and ``BCC`` are routing keys to RabbitMQ: a list of them routes
    copies, anything else closes the channel.

    :raises InvalidArgumentError: naming the header.
    """
    for name in headers:
        if not isinstance(name, str):
            raise InvalidArgumentError(f"a header's name is a str, not {type(name).__name__}")
        if name in ("CC", "BCC") or name.startswith(("crew-", "x-")):
            raise InvalidArgumentError(
                f"the header name {name!r} is taken (so are CC, BCC, crew-* and x-*); choose another"
            )


def call_properties(call: Call) -> Properties:
    """A call's AMQP properties."""
    headers = {_TASK: call.task_id, _TIMEOUT: call.timeout, _ATTEMPT: call.attempt, **call.headers}
    properties: Properties = {
        "content_type": call.content_type,
        "headers": headers,
        "delivery_mode": _PERSISTENT if call.persistent else _TRANSIENT,
        "priority": queue_priority(call.priority),
        "correlation_id": call.call_id,
        "expiration": str(call.expiration),
        "message_id": call.call_id,
        "timestamp": call.timestamp,
        "type": CALL,
        "app_id": APP_ID,
    }
    if call.content_encoding is not None:
        properties["content_encoding"] = call.content_encoding
    if call.reply_to is not None:
        properties["reply_to"] = call.reply_to
        headers[_CC] = [dead_letter_key(call.reply_to)]
    return properties


def call_from(properties: Properties, body: bytes, redelivered: bool = False) -> Call:
    """
    Read a call.

    :raises DecodeError: if a property that it must have is missing or wrong.
    """
    headers = properties.get("headers") or {}
    expiration = _milliseconds(properties.get("expiration"), "expiration")
    timeout = headers.get(_TIMEOUT)
    return Call(
        _text(headers.get(_TASK), _TASK),
        _text(properties.get("correlation_id"), "correlation-id"),
        body,
        properties.get("content_type") or "application/octet-stream",
        properties.get("content_encoding"),
        properties.get("reply_to"),
        expiration,
        expiration if timeout is None else _milliseconds(timeout, _TIMEOUT),
        _whole(headers.get(_ATTEMPT, 1), _ATTEMPT),
        properties.get("priority") or 0,
        properties.get("delivery_mode") == _PERSISTENT,
        properties.get("timestamp") or 0,
        user_headers(headers),
        redelivered,
        delivery_count(properties) if _DELIVERIES in headers else 0,
    )


def answer_properties(answer: Answer) -> Properties:
    """A reply's AMQP properties."""
    headers: Headers = dict(answer.headers)
    if answer.worker is not None:
        headers[_WORKER] = answer.worker
    if answer.error is not None:
        headers[_KIND] = answer.error
    # Last, where a template can put it in.
    headers[_ELAPSED] = answer.elapsed
    properties: Properties = {
        "content_type": answer.content_type,
        "headers": headers,
        "delivery_mode": _PERSISTENT if answer.persistent else _TRANSIENT,
        "correlation_id": answer.call_id,
        "message_id": answer.call_id,
        "type": RESULT if answer.error is None else ERROR,
        "app_id": APP_ID,
    }
    if answer.content_encoding is not None:
        properties["content_encoding"] = answer.content_encoding
    return properties


def answer_from(properties: Properties, body: bytes) -> Answer:
    """
    Read a reply.

    :raises DecodeError: if a property that it must have is missing or wrong.
    """
    headers = properties.get("headers") or {}
    failed = properties.get("type") == ERROR
    elapsed = headers.get(_ELAPSED, 0.0)
    worker = headers.get(_WORKER)
    return Answer(
        _text(properties.get("correlation_id"), "correlation-id"),
        body,
        properties.get("content_type") or "application/octet-stream",
        properties.get("content_encoding"),
        headers.get(_KIND) or "raised" if failed else None,
        worker if isinstance(worker, str) else None,
        elapsed if isinstance(elapsed, float) else _odd_elapsed(elapsed),
        properties.get("delivery_mode") == _PERSISTENT,
        user_headers(headers),
    )


def is_dead_letter(properties: Properties) -> bool:
    """Whether this is a call that came back, and not a reply."""
    return properties.get("type") == CALL


def dead_letter_from(properties: Properties) -> DeadLetter:
    """
    Read what the broker wrote into ``x-death``, latest first.

    Nothing in it is required: ``rejected`` stands for a reason that isn't there.

    :raises DecodeError: if the message has no correlation id.
    """
    headers = properties.get("headers") or {}
    deaths = headers.get("x-death")
    death = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
    time: Any = death.get("time")
    queue = death.get("queue")
    return DeadLetter(
        call_id=_text(properties.get("correlation_id"), "correlation-id"),
        reason=str(death.get("reason", "rejected")),
        queue=queue if isinstance(queue, str) else None,
        expiration=_seconds(death.get("original-expiration")),
        time=time.timestamp() if hasattr(time, "timestamp") else None,
    )


def delivery_count(properties: Properties) -> int:
    """How often a quorum queue delivered it before; 0 from a classic queue, which doesn't count."""
    count = (properties.get("headers") or {}).get(_DELIVERIES, 0)
    return count if isinstance(count, int) else 0


def probe_properties(call_id: str, expiration: int | None = None) -> Properties:
    """
    Properties of a question whether any worker of a task is there, or a call's caller.

    :param expiration: milliseconds that it may wait to be dropped.
    """
    properties: Properties = {
        "type": PROBE,
        "message_id": call_id,
        "delivery_mode": _TRANSIENT,
        "app_id": APP_ID,
    }
    if expiration is not None:
        properties["expiration"] = str(expiration)
    return properties


def is_probe(properties: Properties) -> bool:
    """Whether it only asks if anybody is there, and is answered by having come."""
    return properties.get("type") == PROBE


def hello_properties(message_id: str, worker_id: str, content_type: str) -> Properties:
    """Properties of what a worker says before it takes calls."""
    return {
        "content_type": content_type,
        "headers": {_WORKER: worker_id},
        "delivery_mode": _TRANSIENT,
        "message_id": message_id,
        "type": HELLO,
        "app_id": APP_ID,
    }


def cancel_properties(message_id: str, call_id: str, reply_to: str) -> Properties:
    """Properties of what tells a task's workers that nobody waits for a call any more."""
    return {
        "type": CANCEL,
        "message_id": message_id,
        "correlation_id": call_id,
        "reply_to": reply_to,
        "delivery_mode": _TRANSIENT,
        "app_id": APP_ID,
    }


def cancel_from(properties: Properties) -> tuple[str, str]:
    """
    Read a cancel.

    :returns: the call's id, and the client id that its answer would go to.
    :raises DecodeError: if one is missing.
    """
    call_id = _text(properties.get("correlation_id"), "correlation-id")
    return call_id, _text(properties.get("reply_to"), "reply-to")


def event_properties(
    message_id: str,
    publisher: str,
    content_type: str,
    content_encoding: str | None,
    timestamp: int,
    headers: Headers,
    persistent: bool,
) -> Properties:
    """An event's AMQP properties."""
    properties: Properties = {
        "content_type": content_type,
        "headers": {_PUBLISHER: publisher, **headers},
        "delivery_mode": _PERSISTENT if persistent else _TRANSIENT,
        "message_id": message_id,
        "timestamp": timestamp,
        "type": EVENT,
        "app_id": APP_ID,
    }
    if content_encoding is not None:
        properties["content_encoding"] = content_encoding
    return properties


def event_from(channel: str, properties: Properties, data: Any, redelivered: bool) -> Event:
    """An event; nothing is required of its properties, since other programs may publish, too."""
    headers = properties.get("headers") or {}
    publisher = headers.get(_PUBLISHER)
    return Event(
        channel,
        data,
        properties.get("message_id") or "",
        user_headers(headers),
        publisher if isinstance(publisher, str) else None,
        properties.get("timestamp") or 0,
        redelivered,
    )


def command_properties(
    message_id: str, reply_to: str, content_type: str, expiration: int, timestamp: int
) -> Properties:
    """
    A control command's AMQP properties.

    :param expiration: milliseconds after which nobody waits for its answers.
    """
    return {
        "content_type": content_type,
        "delivery_mode": _TRANSIENT,
        "correlation_id": message_id,
        "reply_to": reply_to,
        "expiration": str(expiration),
        "message_id": message_id,
        "timestamp": timestamp,
        "type": COMMAND,
        "app_id": APP_ID,
    }


def signed_properties(properties: Properties, signature: str) -> Properties:
    """A message's AMQP properties with its signature: the last header, where a template can put it in."""
    return {**properties, "headers": {**properties.get("headers", {}), SIGNATURE: signature}}


def signature_of(properties: Properties) -> object:
    """What a message has for its signature; None without one."""
    return (properties.get("headers") or {}).get(SIGNATURE)


def user_headers(headers: Headers) -> Headers:
    """The headers that are the user's own."""
    return {
        name: value
        for name, value in headers.items()
        if not name.startswith(("crew-", "x-")) and name not in ("CC", "BCC")
    }


def _text(value: object, name: str) -> str:
    if isinstance(value, str) and value:
        return value
    raise DecodeError(f"the message has no {name}")


def _whole(value: object, name: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise DecodeError(f"the message's {name} is not a whole number")


def _odd_elapsed(value: object) -> float:
    """Seconds of a worker that writes whole numbers as such; 0 for what is no number."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else 0.0


def _seconds(milliseconds: object) -> float | None:
    """Of the text that the broker writes; None for anything else."""
    if isinstance(milliseconds, str) and milliseconds.isdecimal() and len(milliseconds) <= _MOST_DIGITS:
        return int(milliseconds) / 1000
    return None


def _milliseconds(value: object, name: str) -> int:
    """Longer than the longest counts as the longest; none at all as well."""
    longest = LONGEST_EXPIRATION * 1000
    if value is None:
        return longest
    if isinstance(value, str) and value.isdecimal() and len(value) <= _MOST_DIGITS:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return min(value, longest)
    raise DecodeError(f"the message's {name} is not a number of milliseconds")
