"""Notices when calls are held and no thread has been free for them for a while."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Saturation:
    """
    One delayed call at most, however often a thread gets free.

    :param clock: an ``IReactorTime``.
    :param saturated: called when no thread was free for so long.
    """

    def __init__(self, clock: IReactorTime, saturated: Callable[[], object]) -> None:
        self._clock = clock
        self._saturated = saturated
        self._free = clock.seconds()
        self._after = 0.0
        self._call: IDelayedCall | None = None

    def thread_free(self) -> None:
        """A thread got free."""
        self._free = self._clock.seconds()

    def watch(self, after: float) -> None:
        """Calls are held: tell when no thread gets free for so many seconds from now on."""
        if self._call is None:
            self._free = self._clock.seconds()
            self._after = after
            self._call = self._clock.callLater(after, self._look)

    def stop(self) -> None:
        """Nothing is held any more; leave no delayed call."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        left = self._free + self._after - self._clock.seconds()
        if left > 0:
            self._call = self._clock.callLater(left, self._look)
            return
        self._call = None
        self._saturated()
