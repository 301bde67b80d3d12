"""The zope interfaces where two rooms of crew_tx meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


class IHeldCalls(Interface):
    """The calls that a worker took and has not begun, as its consumers see them."""

    held: int = Attribute("How many they are.")

    def hand_back(may_go: Callable[[Any], bool] = lambda attempt: True) -> Iterable[Any]:
        """
        Let go of them.

        :param may_go: whether to let go of one; those it says no to stay held.
        :returns: those that went, each with its ``delivery``, not settled.
        """

    def give_ahead(count: int) -> None:
        """From now on, let so many wait in line for a thread that can't begin them yet."""
