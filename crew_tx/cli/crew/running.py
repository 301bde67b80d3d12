"""Running one coroutine on the reactor, until its end or an interrupt."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from crew_tx.cli.crew.exits import INTERRUPTED
from crew_tx.cli.ending import leave

Handler = Callable[[int, FrameType | None], Any]


class RunInterruptedError(Exception):
    """SIGINT or SIGTERM came."""


class Running:
    """
    Runs the reactor for one coroutine.

    The first SIGINT or SIGTERM cancels what the coroutine waits for, so that
    it can close its connection; the second ends the process.

    :param reactor: one that was not run before.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        set_handler: Callable[[int, Handler], object] = signal.signal,
        leave: Callable[[int], object] = leave,
    ) -> None:
        self._reactor = reactor
        self._set_handler = set_handler
        self._leave = leave
        self._task: Deferred[Any] | None = None
        self._outcome: Any = None
        self._signals = 0

    def run(self, start: Callable[[], Coroutine[Any, Any, int]]) -> int:
        """
        :returns: what the coroutine returns.
        :raises RunInterruptedError: if it was, in place of what the coroutine raised then.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            self._set_handler(number, self._signalled)
        self._reactor.callWhenRunning(self._begin, start)
        self._reactor.run(installSignalHandlers=False)
        if isinstance(self._outcome, Failure):
            if self._signals and self._outcome.check(CancelledError):
                raise RunInterruptedError
            self._outcome.raiseException()
        return int(self._outcome)

    def _begin(self, start: Callable[[], Coroutine[Any, Any, int]]) -> None:
        self._task = Deferred.fromCoroutine(start())
        self._task.addBoth(self._ended)

    def _ended(self, outcome: object) -> None:
        self._outcome = outcome
        self._reactor.stop()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        """In the main thread, between any two of its steps."""
        self._signals += 1
        if self._signals > 1:
            self._leave(INTERRUPTED)
        self._reactor.callFromThread(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
