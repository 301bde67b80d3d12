"""``text/plain; charset=utf-8``: a str, and nothing else."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from crew_tx.codec._failures import UnreadableError, UnwritableError
from crew_tx.interfaces import ISerializer


@implementer(ISerializer)
class TextSerializer:
    """Writes a str as UTF-8."""

    name = "text"
    content_type = "text/plain; charset=utf-8"

    def encode(self, value: Any) -> bytes:
        if not isinstance(value, str):
            raise UnwritableError(f"it holds a str, not {type(value).__name__}")
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise UnwritableError("the text has a lone surrogate, which UTF-8 can't hold") from None

    def decode(self, body: bytes) -> str:
        try:
            return body.decode()
        except UnicodeDecodeError as error:
            raise UnreadableError(f"it is not UTF-8 at byte {error.start}") from None
