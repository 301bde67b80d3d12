"""
``application/x-python-pickle``: any Python value, where both sides switched it on.

Whoever can publish a pickle can run code in the process that reads it, so no
codec has this serializer unless it was made with ``allow_pickle=True``.
"""

from __future__ import annotations

import pickle
from io import BytesIO
from typing import Any

from zope.interface import implementer

from crew_tx.codec._failures import UnreadableError
from crew_tx.interfaces import ISerializer


@implementer(ISerializer)
class PickleSerializer:
    """Writes and reads pickles."""

    name = "pickle"
    content_type = "application/x-python-pickle"

    def encode(self, value: Any) -> bytes:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def decode(self, body: bytes) -> Any:
        stream = BytesIO(body)
        value = pickle.load(stream)
        if stream.tell() != len(body):
            raise UnreadableError("bytes follow the value")
        return value
