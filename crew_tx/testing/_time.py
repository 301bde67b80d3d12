"""
Time that a test moves.

As ``twisted.internet.task.Clock``, but for many delayed calls over long times:
that one sorts all of its calls whenever one is added.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

_SLACK = 64


@implementer(IReactorTime)
class MemoryTime:
    """
    Seconds, and what is to be called when they have gone by.

    :ivar now: seconds; it begins with 0.
    """

    def __init__(self) -> None:
        self.now = 0.0
        # Times come first, and the order of making them second; a call whose time was changed is in it twice.
        self._heap: list[tuple[float, int, DelayedCall]] = []
        self._made = 0
        self._cancelled = 0

    def seconds(self) -> float:
        """What time it is."""
        return self.now

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kwargs: object
    ) -> IDelayedCall:
        """
        Call a function so many seconds from now.

        :raises ValueError: if that is in the past.
        """
        if delay < 0:
            raise ValueError(f"a call can't be made {-delay:g} seconds ago")
        call = DelayedCall(self.now + delay, callable, args, kwargs, self._cancel, self._push, self.seconds)
        self._push(call)
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """All that are due and were not made, the earliest first."""
        calls = {id(call): call for _, _, call in self._heap if call.active()}
        return [*sorted(calls.values(), key=DelayedCall.getTime)]

    def next_due(self) -> float | None:
        """When the next call is due; None if there is none."""
        heap = self._heap
        while heap:
            when, _, call = heap[0]
            if not call.active():
                heappop(heap)
            elif call.getTime() > when:
                heappop(heap)
                self._push(call)
            else:
                return when
        return None

    def call_due(self) -> bool:
        """
        Make the calls that are due by now, those of them that are there already.

        :returns: whether there were any.
        """
        latest, called = self._made, False
        while (due := self.next_due()) is not None and due <= self.now and self._heap[0][1] <= latest:
            call = heappop(self._heap)[2]
            call.called = 1
            called = True
            call.func(*call.args, **call.kw)
        return called

    def _push(self, call: DelayedCall) -> None:
        self._made += 1
        heappush(self._heap, (call.getTime(), self._made, call))

    def _cancel(self, call: DelayedCall) -> None:
        """What is cancelled stays in the heap, unless it is most of it."""
        self._cancelled += 1
        if self._cancelled > len(self._heap) // 2 + _SLACK:
            self._heap = [entry for entry in self._heap if entry[2].active()]
            heapify(self._heap)
            self._cancelled = 0
