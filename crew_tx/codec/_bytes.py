"""``application/octet-stream``: bytes as they are."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from crew_tx.codec._failures import UnwritableError
from crew_tx.interfaces import ISerializer


@implementer(ISerializer)
class BytesSerializer:
    """Hands bytes through."""

    name = "bytes"
    content_type = "application/octet-stream"

    def encode(self, value: Any) -> bytes:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise UnwritableError(f"it holds bytes, not {type(value).__name__}")
        return bytes(value)

    def decode(self, body: bytes) -> bytes:
        return body
