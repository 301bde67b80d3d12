"""A message's way from frames to content: method, header, bodies, one channel's at a time."""

from __future__ import annotations

from typing import Any

from crew_tx.errors import ProtocolError
from crew_tx.message import Properties

_FRAME_ERROR = 501
_UNEXPECTED_FRAME = 505

#: A method with content, complete: method id, arguments, properties, body.
Content = tuple[int, tuple[Any, ...], Properties, bytes]


class ContentAssembler:
    """
    Puts the frames of one channel's content together.

    Its legal order is AMQP 0-9-1's (section 4.2.6): a method that has content,
    one header, and bodies until the announced size is there. Anything else
    raises :class:`ProtocolError`.
    """

    def __init__(self) -> None:
        self._method: tuple[int, tuple[Any, ...]] | None = None
        self._properties: Properties | None = None
        self._missing = 0
        self._parts: list[bytes] = []

    @property
    def idle(self) -> bool:
        """Whether no content is due, so that a method may come."""
        return self._method is None

    def method(self, method_id: int, args: tuple[Any, ...]) -> None:
        """A method that has content came."""
        self._method = (method_id, args)

    def header(self, size: int, properties: Properties) -> Content | None:
        """A header came. :returns: the content, if its body is empty."""
        if self._method is None or self._properties is not None:
            raise ProtocolError("a content header came unasked", reply_code=_UNEXPECTED_FRAME)
        self._properties = properties
        self._missing = size
        return None if size else self._complete(b"")

    def body(self, part: bytes) -> Content | None:
        """A body frame came. :returns: the content, if this was its last."""
        if self._properties is None:
            raise ProtocolError("a body frame came unasked", reply_code=_UNEXPECTED_FRAME)
        self._missing -= len(part)
        if self._missing < 0:
            raise ProtocolError("a body is longer than its header announced", reply_code=_FRAME_ERROR)
        if not self._missing and not self._parts:
            return self._complete(part)
        self._parts.append(part)
        return None if self._missing else self._complete(b"".join(self._parts))

    def _complete(self, body: bytes) -> Content:
        assert self._method is not None and self._properties is not None
        method_id, args = self._method
        properties = self._properties
        self._method = self._properties = None
        self._parts = []
        return method_id, args, properties, body


class ContentProperties(dict[str, Any]):
    """
    Properties as txamqp's users find them: named as in the specification.

    ``delivery-mode`` and ``delivery_mode`` both name the same property.
    """

    @classmethod
    def of(cls, properties: Properties) -> ContentProperties:
        """From names with underscores."""
        return cls((name.replace("_", "-"), value) for name, value in properties.items())

    def __missing__(self, name: str) -> Any:
        spelled = name.replace("_", "-")
        if spelled == name:
            raise KeyError(name)
        return self[spelled]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.replace("_", "-"))

    def get(self, name: str, default: Any = None) -> Any:
        """The property of that name, in either spelling."""
        return super().get(name.replace("_", "-"), default)
