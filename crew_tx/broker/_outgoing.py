"""
What goes out to one client: bounded, whether the client reads or not.

The transport says when it has more than it can send. From then on nothing is
delivered to the client; what it asks for itself is still answered, up to a
bound. A client that is over the bound, or that takes too long, is to be
dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

#: Seconds that a client may leave what it was sent unread.
READ_TIMEOUT = 60.0


@implementer(IPushProducer)
class Outgoing:
    """
    The bytes for one client.

    :param most_waiting: bytes that may wait while the transport is full.
    :param congest: called with True when the transport is full, and with False when it is empty.
    :param give_up: called once, with the reason in words, when the client is too slow.
    :ivar is_full: whether the transport is full.
    :ivar waiting: bytes that were written since it is; at least as many as do wait.
    """

    def __init__(
        self,
        clock: IReactorTime,
        most_waiting: int,
        congest: Callable[[bool], object],
        give_up: Callable[[str], object],
    ) -> None:
        self._clock = clock
        self._most_waiting = most_waiting
        self._congest = congest
        self._give_up = give_up
        self._transport: Any = None
        self._limit: IDelayedCall | None = None
        self.is_full = False
        self.waiting = 0

    def begin(self, transport: Any) -> None:
        """There is a client."""
        self._transport = transport
        transport.registerProducer(self, True)

    def write(self, data: bytes) -> None:
        """Bytes for the client; dropped when there is none, or it was given up."""
        if self._transport is None:
            return
        self._transport.write(data)
        if self.is_full:
            self.waiting += len(data)
            if self.waiting > self._most_waiting:
                self._too_slow(f"{self.waiting} bytes wait for it, and it does not read")

    def end(self) -> None:
        """No more is written."""
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        if self._transport is not None:
            self._transport.unregisterProducer()
            self._transport = None

    def _too_slow(self, reason: str) -> None:
        self.end()
        self._give_up(reason)

    def _too_late(self) -> None:
        self._limit = None
        self._too_slow(f"it has read too little for {READ_TIMEOUT:g} s")

    # -- what the transport calls --------------------------------------------------------

    def pauseProducing(self) -> None:
        """It has more than it can send."""
        self.is_full = True
        self.waiting = 0
        self._limit = self._clock.callLater(READ_TIMEOUT, self._too_late)
        self._congest(True)

    def resumeProducing(self) -> None:
        """It has sent all."""
        self.is_full = False
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        self._congest(False)

    def stopProducing(self) -> None:
        """It is gone; its protocol hears of that, too."""
