"""The arguments with which queues and exchanges are declared, checked as RabbitMQ checks them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from crew_tx.broker._errors import ReplyError, inequivalent

Arguments = dict[str, Any]

_MOST_MILLISECONDS = 315_360_000_000
_MOST_PRIORITY = 255
_OVERFLOWS = ("drop-head", "reject-publish", "reject-publish-dlx")
_TYPES = ("classic", "quorum")
#: What a quorum queue does not take.
_CLASSIC_ONLY = ("x-max-priority", "x-queue-mode", "x-queue-master-locator")


@dataclass(frozen=True, slots=True)
class QueueArguments:
    """
    A queue's arguments, read.

    :ivar message_ttl: seconds; so is ``expires``.
    :ivar given: all of them as they came.
    """

    kind: str = "classic"
    message_ttl: float | None = None
    expires: float | None = None
    max_length: int | None = None
    max_bytes: int | None = None
    overflow: str = "drop-head"
    max_priority: int | None = None
    dead_letter_exchange: str | None = None
    dead_letter_routing_key: str | None = None
    delivery_limit: int | None = None
    given: Arguments = field(default_factory=dict)

    @property
    def rejects(self) -> bool:
        """Whether it refuses what is too much, in place of dropping its head."""
        return self.overflow != "drop-head"


def read_queue_arguments(
    given: Arguments, name: str, vhost: str, *, durable: bool, exclusive: bool, auto_delete: bool
) -> QueueArguments:
    """
    Check a queue's arguments.

    :raises ReplyError: 406, naming the first that is wrong.
    """
    where = f"for queue '{name}' in vhost '{vhost}'"
    for argument, check in _CHECKS.items():
        if argument in given and (wrong := check(given[argument])) is not None:
            raise ReplyError(406, f"invalid arg '{argument}' {where}: {wrong}")
    if "x-dead-letter-routing-key" in given and "x-dead-letter-exchange" not in given:
        raise ReplyError(
            406, f"invalid arg 'x-dead-letter-routing-key' {where}: routing_key_but_no_dlx_defined"
        )
    kind = given.get("x-queue-type", "classic")
    if kind == "quorum":
        _check_quorum(given, name, vhost, durable=durable, exclusive=exclusive, auto_delete=auto_delete)
    return QueueArguments(
        kind,
        _in_seconds(given.get("x-message-ttl")),
        _in_seconds(given.get("x-expires")),
        given.get("x-max-length"),
        given.get("x-max-length-bytes"),
        given.get("x-overflow", "drop-head"),
        given.get("x-max-priority"),
        given.get("x-dead-letter-exchange"),
        given.get("x-dead-letter-routing-key"),
        given.get("x-delivery-limit") if kind == "quorum" else None,
        dict(given),
    )


def check_same_arguments(
    names: tuple[str, ...], received: Arguments, current: Arguments, kind: str, name: str, vhost: str
) -> None:
    """
    Check that what is there has the arguments that it is declared with.

    :raises ReplyError: 406, naming the first that is not the same.
    """
    for argument in names:
        new, old = received.get(argument), current.get(argument)
        if new != old:
            raise inequivalent(argument, kind, name, vhost, _shown(new), _shown(old))


#: The arguments that a queue must be declared with again as it was.
SAME_QUEUE_ARGUMENTS = (
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-overflow",
    "x-max-priority",
    "x-single-active-consumer",
    "x-queue-type",
    "x-delivery-limit",
    "x-dead-letter-strategy",
)


def _check_quorum(
    given: Arguments, name: str, vhost: str, *, durable: bool, exclusive: bool, auto_delete: bool
) -> None:
    for argument in _CLASSIC_ONLY:
        if argument in given:
            raise ReplyError(
                406,
                f"invalid arg '{argument}' for queue '{name}' in vhost '{vhost}' "
                "of queue type rabbit_quorum_queue",
            )
    wrong = [
        property_name
        for property_name, is_wrong in (
            ("non-durable", not durable),
            ("exclusive", exclusive),
            ("auto-delete", auto_delete),
        )
        if is_wrong
    ]
    if wrong:
        raise ReplyError(406, f"invalid property '{wrong[0]}' for queue '{name}' in vhost '{vhost}'")


def _in_seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _shown(value: object) -> str:
    if value is None:
        return "none"
    kind = "longstr" if isinstance(value, str) else "signedint"
    return f"the value '{value}' of type '{kind}'"


def _whole(value: object, least: int = 0, most: int | None = None) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return f"{{unacceptable_type,{_erlang_type(value)}}}"
    if value < least:
        return "{value_zero,0}" if value == 0 else f"{{value_negative,{value}}}"
    if most is not None and value > most:
        return f"{{value_too_big,{value}}}"
    return None


def _text(value: object) -> str | None:
    return None if isinstance(value, str) else f"{{unacceptable_type,{_erlang_type(value)}}}"


def _one_of(values: tuple[str, ...], error: str) -> Callable[[object], str | None]:
    def check(value: object) -> str | None:
        return _text(value) or (None if value in values else error)

    return check


def _erlang_type(value: object) -> str:
    if isinstance(value, str):
        return "longstr"
    if isinstance(value, bool):
        return "bool"
    return "signedint" if isinstance(value, int) else type(value).__name__


_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "x-expires": lambda value: _whole(value, 1, _MOST_MILLISECONDS),
    "x-message-ttl": lambda value: _whole(value, 0, _MOST_MILLISECONDS),
    "x-max-length": _whole,
    "x-max-length-bytes": _whole,
    "x-max-priority": lambda value: _whole(value, 0, _MOST_PRIORITY),
    "x-delivery-limit": _whole,
    "x-dead-letter-exchange": _text,
    "x-dead-letter-routing-key": _text,
    "x-overflow": _one_of(_OVERFLOWS, "invalid_overflow"),
    "x-queue-type": _one_of(_TYPES, "unsupported_queue_type"),
}
