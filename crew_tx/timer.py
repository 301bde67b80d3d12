"""One ``callLater`` for a whole table of deadlines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from crew_tx.deadlines import Deadlines, K


class DeadlineTimer(Generic[K]):
    """
    Calls ``overdue`` with each key when it is due.

    :param clock: an ``IReactorTime``.
    :param overdue: called on the reactor, once a key.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, overdue: Callable[[K], object]) -> None:
        self._clock = clock
        self._overdue = overdue
        self._deadlines: Deadlines[K] = Deadlines()
        self._call: IDelayedCall | None = None
        self._wakes = 0.0

    def __len__(self) -> int:
        return len(self._deadlines)

    def set(self, key: K, seconds: float) -> None:
        """Make a key due in so many seconds."""
        when = self._clock.seconds() + seconds
        self._deadlines.set(key, when)
        if self._call is None or when < self._wakes:
            self._wake_at(when)

    def clear(self, key: K) -> None:
        """
        Forget a key, known or not.

        The delayed call stays: taking it back for each key would cost more
        than one wake for nothing.
        """
        self._deadlines.clear(key)

    def stop(self) -> None:
        """Forget all keys and leave no delayed call."""
        self._deadlines = Deadlines()
        self._sleep()

    def _wake_at(self, when: float) -> None:
        self._sleep()
        self._wakes = when
        self._call = self._clock.callLater(max(0.0, when - self._clock.seconds()), self._wake)

    def _sleep(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _wake(self) -> None:
        self._call = None
        for key in self._deadlines.overdue(self._clock.seconds()):
            try:
                self._overdue(key)
            except Exception:
                # It must not cost the others their deadlines.
                self.log.failure("what was to be done at a deadline failed")
        earliest = self._deadlines.earliest()
        if earliest is not None and (self._call is None or earliest < self._wakes):
            self._wake_at(earliest)
