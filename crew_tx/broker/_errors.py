"""
What a broker refuses, with RabbitMQ's codes and texts.

A soft error ends the channel, a hard one the connection.
"""

from __future__ import annotations

NO_ROUTE = 312

_NAMES = {
    311: "CONTENT_TOO_LARGE",
    320: "CONNECTION_FORCED",
    402: "INVALID_PATH",
    403: "ACCESS_REFUSED",
    404: "NOT_FOUND",
    405: "RESOURCE_LOCKED",
    406: "PRECONDITION_FAILED",
    501: "FRAME_ERROR",
    502: "SYNTAX_ERROR",
    503: "COMMAND_INVALID",
    504: "CHANNEL_ERROR",
    505: "UNEXPECTED_FRAME",
    506: "RESOURCE_ERROR",
    530: "NOT_ALLOWED",
    540: "NOT_IMPLEMENTED",
    541: "INTERNAL_ERROR",
}
_HARD = frozenset({320, 402, 501, 502, 503, 504, 505, 530, 540, 541})
#: What fits into the short string that carries it.
_LONGEST_TEXT = 255


class ReplyError(Exception):
    """
    A method was refused.

    :ivar code: AMQP's reply code.
    :ivar text: the reply text, the code's name in front.
    :ivar hard: whether the connection ends, and not the channel alone.
    :ivar cause: the class and the method that were refused, by number; zeros where it was none.
    """

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = _cut(f"{_NAMES[code]} - {text}")
        self.hard = code in _HARD
        self.cause = (0, 0)
        super().__init__(self.text)


def no_exchange(name: str, vhost: str) -> ReplyError:
    """There is no such exchange."""
    return ReplyError(404, f"no exchange '{name}' in vhost '{vhost}'")


def no_queue(name: str, vhost: str) -> ReplyError:
    """There is no such queue."""
    return ReplyError(404, f"no queue '{name}' in vhost '{vhost}'")


def locked(name: str, vhost: str) -> ReplyError:
    """An exclusive queue is another connection's."""
    return ReplyError(
        405,
        f"cannot obtain exclusive access to locked queue '{name}' in vhost '{vhost}'. It could be originally "
        "declared on another connection or the exclusive property value does not match that of the original "
        "declaration.",
    )


def inequivalent(argument: str, kind: str, name: str, vhost: str, received: str, current: str) -> ReplyError:
    """It exists already, otherwise than it is declared now."""
    return ReplyError(
        406,
        f"inequivalent arg '{argument}' for {kind} '{name}' in vhost '{vhost}': "
        f"received {received} but current is {current}",
    )


def reserved(kind: str, name: str) -> ReplyError:
    """Names beginning with ``amq.`` are the broker's own."""
    return ReplyError(403, f"{kind} name '{name}' contains reserved prefix 'amq.*'")


def default_exchange() -> ReplyError:
    """The exchange without a name can't be changed."""
    return ReplyError(403, "operation not permitted on the default exchange")


def _cut(text: str) -> str:
    # It may name what a client named otherwise than in UTF-8.
    encoded = text.encode("utf-8", "surrogateescape")
    if len(encoded) <= _LONGEST_TEXT:
        return text
    return encoded[: _LONGEST_TEXT - 3].decode(errors="ignore") + "..."
