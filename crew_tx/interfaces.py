"""The zope interfaces where two rooms of crew_tx meet."""

from __future__ import annotations

from typing import Any

from zope.interface import Attribute, Interface


class ISerializer(Interface):
    """Writes values as bytes of one content type, and reads them back."""

    name: str = Attribute("The short name that users write, such as ``cbor``.")

    content_type: str = Attribute("The content type that a message says, parameters and all.")

    def encode(value: Any) -> bytes:
        """
        Write a value.

        :raises crew_tx.codec.UnwritableError: or any other exception, where it can't be written.
        """

    def decode(body: bytes) -> Any:
        """
        Read the value that the whole body is.

        :raises crew_tx.codec.UnreadableError: or any other exception, where it can't be read.
        """
