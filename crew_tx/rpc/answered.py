"""
Which calls a worker has answered lately: those that come again are not run again.

A connection that is lost between an answer and its ack brings the call back,
and so does a caller that never saw the broker's confirm. Here the answer is on
its way, or has arrived; so the call is acknowledged, and that is all.
"""

from __future__ import annotations

from collections import OrderedDict

from twisted.internet.interfaces import IReactorTime

MOST = 10_000
SECONDS = 600.0


class AnsweredCalls:
    """
    A bounded memory of call ids.

    :param clock: an ``IReactorTime``.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._seconds = clock.seconds
        self._calls: OrderedDict[str, tuple[str | None, float]] = OrderedDict()

    def add(self, call_id: str, reply_to: str | None) -> None:
        """A call was answered."""
        self._calls[call_id] = (reply_to, self._seconds())
        if len(self._calls) > MOST:
            self._calls.popitem(last=False)

    def has(self, call_id: str, reply_to: str | None) -> bool:
        """Whether a call was answered, to the same address, and not too long ago."""
        answered_to, when = self._calls.get(call_id, (None, float("-inf")))
        return answered_to == reply_to and self._seconds() - when <= SECONDS
