"""
Which calls a worker has answered lately, and which were cancelled: when they come, they are not run.

A connection that is lost between an answer and its ack brings the call back,
and so does a caller that never saw the broker's confirm; the answer is on its
way then, or has arrived. A call that its caller has cancelled may be in the
queue yet. All of these are acknowledged, and that is all.
"""

from __future__ import annotations

from collections import OrderedDict

from twisted.internet.interfaces import IReactorTime

MOST = 10_000
#: For which answered calls are remembered.
SECONDS = 600.0
#: The same of cancelled ones: as long as a call may wait in its queue, by default.
CANCELLED_SECONDS = 86_400.0


class RecentCalls:
    """
    A bounded memory of call ids.

    :param clock: an ``IReactorTime``.
    :param lasts: the seconds for which a call is remembered.
    """

    def __init__(self, clock: IReactorTime, lasts: float = SECONDS) -> None:
        self._seconds = clock.seconds
        self._lasts = lasts
        self._calls: OrderedDict[tuple[str, str | None], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call_id: str, reply_to: str | None) -> None:
        """
        Remember a call.

        :param reply_to: where its answer goes: ids are callers' own.
        """
        self._calls[call_id, reply_to] = self._seconds()
        if len(self._calls) > MOST:
            self._calls.popitem(last=False)

    def has(self, call_id: str, reply_to: str | None) -> bool:
        """Whether a call is remembered, of the same caller, and from not too long ago."""
        when = self._calls.get((call_id, reply_to))
        return when is not None and self._seconds() - when <= self._lasts
