"""Noticing that the supervisor is gone."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet import fdesc
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IReadDescriptor)
class ParentWatch:
    """
    Reads a pipe that only the supervisor holds the other end of: it ends when
    the supervisor does, however that came.

    :param gone: called when it has ended.
    """

    def __init__(self, gone: Callable[[], object], descriptor: int = 0) -> None:
        self._gone = gone
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def doRead(self) -> Failure | None:
        """What comes means nothing; that nothing more comes does."""
        return fdesc.readFromFD(self._descriptor, lambda data: None)  # type: ignore[no-any-return]

    def connectionLost(self, reason: Failure) -> None:
        self._gone()

    def logPrefix(self) -> str:
        return "supervisor"
