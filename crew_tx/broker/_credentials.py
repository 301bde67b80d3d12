"""What a client logs in with, by mechanism."""

from __future__ import annotations

from collections.abc import Callable

from crew_tx.amqp.table_reader import decode_table
from crew_tx.broker._errors import ReplyError


def credentials(mechanism: str, response: str | bytes) -> tuple[str, str]:
    """
    The user and the password of a connection.start-ok.

    :raises ReplyError: 503 for a mechanism that was not offered, 501 for a response that can't be read.
    """
    reader = _READERS.get(mechanism)
    if reader is None:
        raise ReplyError(503, f"unknown authentication mechanism '{mechanism}'")
    given = response if isinstance(response, bytes) else response.encode("utf-8", "surrogateescape")
    try:
        return reader(given)
    except (KeyError, UnicodeDecodeError, ValueError):
        raise ReplyError(501, f"malformed response to the mechanism {mechanism}") from None


def _plain(response: bytes) -> tuple[str, str]:
    """RFC 4616: no identity to act as, the user, and the password."""
    identity, user, password = response.split(b"\0")
    if identity:
        raise ValueError("an identity to act as")
    return user.decode(), password.decode()


def _amqplain(response: bytes) -> tuple[str, str]:
    """A table without its size."""
    table, _ = decode_table(len(response).to_bytes(4, "big") + response, 0)
    return _text(table["LOGIN"]), _text(table["PASSWORD"])


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(type(value).__name__)


_READERS: dict[str, Callable[[bytes], tuple[str, str]]] = {"PLAIN": _plain, "AMQPLAIN": _amqplain}
