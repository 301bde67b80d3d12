"""txamqp's errors and AMQP's reply codes, translated into ours."""

from __future__ import annotations

from itertools import islice

from twisted.internet import error
from twisted.python.failure import Failure
from txamqp.client import Closed as Closed
from txamqp.message import Message

from crew_tx.errors import (
    AccessRefusedError,
    AMQPError,
    AuthenticationError,
    CallerError,
    ConnectionLostError,
    CrewError,
    NotFoundError,
    PreconditionFailedError,
    ProtocolError,
    ResourceLockedError,
)

#: AMQP 0-9-1's reply codes (its specification, section 1.2).
_BY_REPLY_CODE: dict[int, type[AMQPError]] = {
    403: AccessRefusedError,
    404: NotFoundError,
    405: ResourceLockedError,
    406: PreconditionFailedError,
    501: ProtocolError,
    502: ProtocolError,
    503: ProtocolError,
    504: ProtocolError,
    505: ProtocolError,
    540: ProtocolError,
    541: ProtocolError,
}

#: Trying again without a change would end the same way.
FATAL = (AuthenticationError, AccessRefusedError, NotFoundError, PreconditionFailedError)

_LONGEST_TEXT = 255


def printable(text: str) -> str:
    """The broker's words, cut, and without what a terminal obeys or a log can't hold."""
    shown = (character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return "".join(islice(shown, _LONGEST_TEXT))


def from_reply_code(code: int | None, text: str, doing: str = "") -> AMQPError:
    """The error for a channel or connection that the broker closed."""
    kind = _BY_REPLY_CODE.get(code or 0, AMQPError)
    if code == 530:
        # RabbitMQ has one code for a virtual host that isn't there, one that may not be used, and a limit.
        kind = NotFoundError if "not found" in text else AccessRefusedError
        if "limit" in text:
            # Of connections: those that hold it may be gone in a minute.
            kind = AMQPError
    shown = printable(text)
    prefix = f"{doing}: " if doing else ""
    return kind(f"{prefix}the broker said {code} {shown}", reply_code=code, reply_text=shown)


def not_connected() -> CallerError:
    """The error for what is to be written before there is a connection."""
    return CallerError("there is no connection yet; wait until the client has connected and logged in")


def translated(reason: object, doing: str = "") -> CrewError:
    """
    One of our errors for whatever ended a channel or a connection.

    :param reason: a txamqp ``Closed`` or its close message, a ``Failure``, or
        an exception.
    :param doing: what was being done, for the text.
    """
    if isinstance(reason, Failure):
        reason = reason.value
    if isinstance(reason, Closed):
        return translated(reason.args[0] if reason.args else None, doing)
    if isinstance(reason, Message) and reason.method.response:
        return AMQPError(f"{doing}: the channel was closed here" if doing else "the channel was closed here")
    if isinstance(reason, Message):
        return from_reply_code(reason.reply_code, reason.reply_text or "", doing)
    if isinstance(reason, CrewError):
        return reason
    return ConnectionLostError(_lost_text(reason, doing))


def _lost_text(reason: object, doing: str) -> str:
    text = f"{doing}: " if doing else ""
    if isinstance(reason, error.ConnectionDone):
        return text + "the connection to the broker was closed"
    if isinstance(reason, error.ConnectionLost):
        return text + "the connection to the broker was lost"
    return f"{text}{reason}"
