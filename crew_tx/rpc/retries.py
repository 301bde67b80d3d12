"""How often a call of a mapping is made again, after which errors, and how soon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from crew_tx.errors import CallerError, CrewError, TaskCancelledError

#: No pause is longer, in seconds.
LONGEST_PAUSE = 60.0

Call = Callable[[Any], "Deferred[Any]"]


def always(error: CrewError) -> bool:
    """Any error may be gone the next time."""
    return True


@dataclass(frozen=True, slots=True)
class Retries:
    """
    A policy for calls that fail.

    :ivar count: how often a call is made again.
    :ivar pause: seconds before the first time; each further pause is twice as
        long, up to ``LONGEST_PAUSE``.
    :ivar is_worth: whether an error is worth it. What is wrong with the item
        itself, and what somebody cancelled, is not; it isn't asked about.
    """

    count: int = 0
    pause: float = 0.0
    is_worth: Callable[[CrewError], bool] = always

    async def call(self, clock: IReactorTime, call: Call, item: Any) -> Any:
        """
        Call, and call again.

        :raises CrewError: the last error.
        """
        left, pause = self.count, self.pause
        while True:
            try:
                return await call(item)
            except CrewError as error:
                if not left or _is_final(error) or not self.is_worth(error):
                    raise
            left -= 1
            if pause:
                await deferLater(clock, pause)
                pause = min(2 * pause, LONGEST_PAUSE)


def _is_final(error: CrewError) -> bool:
    return isinstance(error, CallerError | TaskCancelledError)
