"""The content of a basic.publish, as it comes frame by frame."""

from __future__ import annotations

from typing import Any, NamedTuple

from crew_tx.amqp import methods
from crew_tx.amqp.methods import Arguments
from crew_tx.broker._errors import ReplyError

_CAUSE = (methods.BASIC_PUBLISH >> 16, methods.BASIC_PUBLISH & 0xFFFF)


class Publication(NamedTuple):
    """A message that is there as a whole, and the arguments of its method."""

    arguments: Arguments
    properties: Any
    body: bytes


class IncomingContent:
    """
    Puts the frames of one message after the other together.

    :param most: bytes of the largest body that is taken.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.forget()

    def forget(self) -> None:
        """Nothing of what came is wanted any more."""
        self._arguments: Arguments | None = None
        self._properties: Any = None
        self._missing = 0
        self._parts: list[bytes] = []

    def check_idle(self) -> None:
        """:raises ReplyError: 505, if a method comes where content was due."""
        if self._arguments is not None:
            raise _unexpected("header" if self._properties is None else "body")

    def check_size(self, size: int) -> None:
        """:raises ReplyError: 406, if a body is larger than any may be."""
        if size > self._most:
            raise _caused(
                ReplyError(406, f"message size {size} is larger than configured max size {self._most}")
            )

    def begin(self, arguments: Arguments) -> None:
        """The method came; its content follows."""
        self._arguments = arguments

    def header(self, size: int, properties: Any) -> Publication | None:
        """
        The header came.

        :returns: the message, if it has no body.
        :raises ReplyError: 505 if none was due, 406 if it announces too much.
        """
        if self._arguments is None:
            raise _no_method()
        if self._properties is not None:
            raise _unexpected("body")
        self.check_size(size)
        self._properties = properties
        self._missing = size
        return None if size else self._complete()

    def body(self, part: bytes) -> Publication | None:
        """
        A part of the body came.

        :returns: the message, if that was the last.
        :raises ReplyError: 505 if none was due, 501 if it is more than was announced.
        """
        if self._arguments is None:
            raise _no_method()
        if self._properties is None:
            raise _unexpected("header")
        self._missing -= len(part)
        if self._missing < 0:
            raise ReplyError(501, "a body is longer than its header announced")
        self._parts.append(part)
        return None if self._missing else self._complete()

    def _complete(self) -> Publication:
        assert self._arguments is not None
        publication = Publication(self._arguments, self._properties, b"".join(self._parts))
        self.forget()
        return publication


def _no_method() -> ReplyError:
    return ReplyError(505, "expected method frame, got non method frame instead")


def _unexpected(due: str) -> ReplyError:
    if due == "header":
        text = "expected content header for class 60, got non content header frame instead"
    else:
        text = "expected content body, got non content body frame instead"
    return _caused(ReplyError(505, text))


def _caused(error: ReplyError) -> ReplyError:
    error.cause = _CAUSE
    return error
