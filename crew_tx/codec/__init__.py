"""Values as bodies of messages: content type, content encoding and limits."""

from __future__ import annotations

from crew_tx.codec._codec import Codec, Encoded
from crew_tx.codec._failures import UnreadableError, UnwritableError
from crew_tx.codec._large import LARGE, is_large

__all__ = ["LARGE", "Codec", "Encoded", "UnreadableError", "UnwritableError", "is_large"]
