"""The arguments with which queues, exchanges and consumers are declared, checked as RabbitMQ checks them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from crew_tx.broker._errors import ReplyError, inequivalent

Arguments = dict[str, Any]
#: What is wrong with a value, in RabbitMQ's words; None if nothing is.
Check = Callable[[Any], str | None]

CLASSIC, QUORUM = "classic", "quorum"

_DROP_HEAD = "drop-head"
_MOST_MILLISECONDS = 315_360_000_000
_MOST_PRIORITY = 255


@dataclass(frozen=True, slots=True)
class QueueArguments:
    """
    A queue's arguments, read.

    :ivar message_ttl: seconds; so is ``expires``.
    :ivar single_active: whether one consumer at a time is delivered to.
    :ivar given: all of them as they came.
    """

    kind: str = CLASSIC
    message_ttl: float | None = None
    expires: float | None = None
    max_length: int | None = None
    max_bytes: int | None = None
    overflow: str = _DROP_HEAD
    max_priority: int | None = None
    dead_letter_exchange: str | None = None
    dead_letter_routing_key: str | None = None
    delivery_limit: int | None = None
    single_active: bool = False
    given: Arguments = field(default_factory=dict)

    @property
    def rejects(self) -> bool:
        """Whether it refuses what is too much, in place of dropping its head."""
        return self.overflow != _DROP_HEAD


def read_queue_arguments(
    given: Arguments, name: str, vhost: str, *, durable: bool, exclusive: bool, auto_delete: bool
) -> QueueArguments:
    """
    Check a queue's arguments.

    :param name: empty where the broker is to make one.
    :raises ReplyError: 406, naming the first that is wrong.
    """
    where = f"queue '{name}' in vhost '{vhost}'"
    check_text_argument(given, "x-dead-letter-exchange", where)
    kind = _kind(given, where)
    for argument, check in _CHECKS.items():
        if argument not in given:
            continue
        if argument not in _ARGUMENTS[kind]:
            raise _of_kind(argument, where, kind)
        _check_argument(given, argument, check, where)
    if "x-dead-letter-routing-key" in given and "x-dead-letter-exchange" not in given:
        raise _invalid("x-dead-letter-routing-key", where, "routing_key_but_no_dlx_defined")
    if kind == QUORUM:
        wrong = {"non-durable": not durable, "auto-delete": auto_delete, "exclusive-owner": exclusive}
        _check_quorum(name, where, wrong)
    limit = given.get("x-delivery-limit")
    return QueueArguments(
        kind,
        _in_seconds(given.get("x-message-ttl")),
        _in_seconds(given.get("x-expires")),
        given.get("x-max-length"),
        given.get("x-max-length-bytes"),
        _overflow(given, kind),
        given.get("x-max-priority"),
        given.get("x-dead-letter-exchange"),
        given.get("x-dead-letter-routing-key"),
        limit if isinstance(limit, int) else None,
        given.get("x-single-active-consumer", False),
        dict(given),
    )


def check_same_queue_arguments(received: Arguments, current: Arguments, name: str, vhost: str) -> None:
    """
    Check that a queue that is there has the arguments that it is declared with.

    :raises ReplyError: 406, naming the first that is not the same.
    """
    names = set(_CHECKS)
    if received.get("x-queue-type", CLASSIC) == current.get("x-queue-type", CLASSIC):
        names.remove("x-queue-type")
    check_same_arguments([name for name in _CHECKS if name in names], received, current, "queue", name, vhost)


def check_same_arguments(
    names: list[str], received: Arguments, current: Arguments, kind: str, name: str, vhost: str
) -> None:
    """
    As :func:`check_same_queue_arguments`, for the arguments of these names.

    :raises ReplyError: 406, naming the first that is not the same.
    """
    for argument in names:
        new, old = received.get(argument), current.get(argument)
        if new != old:
            shown = _shown if new is None or old is None else _shown_shortly
            raise inequivalent(argument, kind, name, vhost, shown(new), shown(old))


def check_text_argument(given: Arguments, argument: str, where: str) -> None:
    """:raises ReplyError: 406, if it is there and no text: for the names of exchanges."""
    if argument in given and not isinstance(given[argument], str):
        kind = erlang_type(given[argument])
        raise ReplyError(406, f"invalid type '{kind}' for arg '{argument}' in {where}")


def consumer_priority(given: Arguments, kind: str, name: str, vhost: str) -> int:
    """
    The priority that a consumer is to have.

    :param kind: of its queue.
    :raises ReplyError: 406, for any argument of a consumer that means nothing.
    """
    where = f"queue '{name}' in vhost '{vhost}'"
    if "x-stream-offset" in given:
        raise _of_kind("x-stream-offset", where, kind)
    for argument, check in _CONSUMER_CHECKS.items():
        if argument in given:
            _check_argument(given, argument, check, where)
    priority: int = given.get("x-priority", 0)
    return priority


def _check_argument(given: Arguments, argument: str, check: Check, where: str) -> None:
    wrong = check(given[argument])
    if wrong is not None:
        raise _invalid(argument, where, wrong)


def _kind(given: Arguments, where: str) -> str:
    kind = given.get("x-queue-type", CLASSIC)
    wrong = _text(kind)
    if wrong is None and kind not in _ARGUMENTS:
        wrong = f"\"unsupported queue type '{kind}'\""
    if wrong is not None:
        raise _invalid("x-queue-type", where, wrong)
    return str(kind)


def _check_quorum(name: str, where: str, properties: dict[str, bool]) -> None:
    if not name:
        raise ReplyError(406, "Cannot declare a server-named queue for type rabbit_quorum_queue")
    for property_name, is_wrong in properties.items():
        if is_wrong:
            raise ReplyError(406, f"invalid property '{property_name}' for {where}")


def _invalid(argument: str, where: str, wrong: str) -> ReplyError:
    return ReplyError(406, f"invalid arg '{argument}' for {where}: {wrong}")


def _of_kind(argument: str, where: str, kind: str) -> ReplyError:
    return ReplyError(406, f"invalid arg '{argument}' for {where} of queue type rabbit_{kind}_queue")


def _overflow(given: Arguments, kind: str) -> str:
    """A quorum queue that is to refuse and to dead-letter does neither: it drops its head."""
    overflow: str = given.get("x-overflow", _DROP_HEAD)
    return _DROP_HEAD if kind == QUORUM and overflow == "reject-publish-dlx" else overflow


def _in_seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


# -- values, shown ---------------------------------------------------------------------


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return f"the value {_shown_shortly(value)} of type '{erlang_type(value)}'"


def _shown_shortly(value: object) -> str:
    return f"'{str(value).lower() if isinstance(value, bool) else value}'"


def erlang_type(value: object) -> str:
    """What RabbitMQ calls a value's type."""
    if isinstance(value, int) and not isinstance(value, bool):
        return "signedint" if -(2**31) <= value < 2**31 else "long"
    return _ERLANG_TYPES.get(type(value), "binary")


_ERLANG_TYPES: dict[type, str] = {
    str: "longstr",
    bytes: "longstr",
    bool: "bool",
    float: "double",
    Decimal: "decimal",
    datetime: "timestamp",
    list: "array",
    dict: "table",
    type(None): "void",
}


# -- values, checked -------------------------------------------------------------------


def _integer(value: object) -> str | None:
    is_one = isinstance(value, int) and not isinstance(value, bool)
    return None if is_one else f'"expected integer, got {erlang_type(value)}"'


def _whole(value: Any) -> str | None:
    return _integer(value) or (f"{{value_negative,{value}}}" if value < 0 else None)


def _positive(value: Any) -> str | None:
    return _whole(value) or ("{value_zero,0}" if value == 0 else None)


def _milliseconds(value: Any) -> str | None:
    return _whole(value) or (f"{{value_too_large,{value}}}" if value > _MOST_MILLISECONDS else None)


def _expires(value: Any) -> str | None:
    return _positive(value) or _milliseconds(value)


def _priority(value: Any) -> str | None:
    return _whole(value) or (f"{{max_value_exceeded,{value}}}" if value > _MOST_PRIORITY else None)


def _version(value: Any) -> str | None:
    return _integer(value) or (None if value in (1, 2) else f"\"unsupported queue version '{value}'\"")


def _mode(value: Any) -> str | None:
    return _text(value) or (None if value in ("default", "lazy") else f"\"unsupported queue mode '{value}'\"")


def _text(value: object) -> str | None:
    return None if isinstance(value, str) else f"{{unacceptable_type,{erlang_type(value)}}}"


def _truth(value: object) -> str | None:
    return None if isinstance(value, bool) else f"{{unacceptable_type,{erlang_type(value)}}}"


def _anything(value: object) -> None:
    """RabbitMQ does not look at it."""


def _one_of(values: tuple[str, ...], error: str) -> Check:
    def check(value: object) -> str | None:
        return _text(value) or (None if value in values else error)

    return check


#: In RabbitMQ's order: of several that are wrong, the first is told of.
_CHECKS: dict[str, Check] = {
    "x-expires": _expires,
    "x-message-ttl": _milliseconds,
    "x-dead-letter-exchange": _text,
    "x-dead-letter-routing-key": _text,
    "x-dead-letter-strategy": _one_of(("at-most-once", "at-least-once"), "invalid_dlx_strategy"),
    "x-max-length": _whole,
    "x-max-length-bytes": _whole,
    "x-max-in-memory-length": _whole,
    "x-max-in-memory-bytes": _whole,
    "x-max-priority": _priority,
    "x-overflow": _one_of((_DROP_HEAD, "reject-publish", "reject-publish-dlx"), "invalid_overflow"),
    "x-queue-mode": _mode,
    "x-queue-version": _version,
    "x-single-active-consumer": _truth,
    "x-queue-type": _text,
    "x-quorum-initial-group-size": _positive,
    "x-queue-master-locator": _text,
    "x-delivery-limit": _anything,
}
_CLASSIC_ONLY = {"x-max-priority", "x-queue-mode", "x-queue-version", "x-queue-master-locator"}
_QUORUM_ONLY = {
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-delivery-limit",
    "x-dead-letter-strategy",
    "x-quorum-initial-group-size",
}
#: The arguments that each kind of queue takes, of those that mean something; others are nobody's business.
_ARGUMENTS = {CLASSIC: set(_CHECKS) - _QUORUM_ONLY, QUORUM: set(_CHECKS) - _CLASSIC_ONLY}
_CONSUMER_CHECKS: dict[str, Check] = {"x-priority": _integer, "x-cancel-on-ha-failover": _truth}
