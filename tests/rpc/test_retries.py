"""Calls that are made again."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import ConnectionLostError, CrewError, RemoteError
from crew_tx.rpc.retries import LONGEST_PAUSE, Retries

ERROR = RemoteError("ValueError", "no")
LOST = ConnectionLostError("gone; the task of this call may have run", maybe_sent=True)


class RetriesTests(SynchronousTestCase):
    """
    On the clock.

    :ivar times: when calls were made.
    :ivar outcomes: what calls come to; the last is for all that follow.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.addCleanup(lambda: self.assertEqual([], self.clock.getDelayedCalls()))
        self.times: list[float] = []

    def call(self, retries: Retries, *outcomes: Any) -> Deferred[Any]:
        left = list(outcomes)

        def call(item: str) -> Deferred[Any]:
            self.assertEqual("item", item)
            self.times.append(self.clock.seconds())
            outcome = left.pop(0) if len(left) > 1 else left[0]
            return fail(outcome) if isinstance(outcome, Exception) else succeed(outcome)

        return Deferred.fromCoroutine(retries.call(self.clock, call, "item"))

    def test_a_lost_connection_is_worth_another_call(self) -> None:
        """The task may have run: who asks for retries has one that may run twice."""
        self.assertEqual("well", self.successResultOf(self.call(Retries(1), LOST, "well")))
        self.assertEqual([0, 0], self.times)

    def test_pauses_grow(self) -> None:
        """Twice as long each time, to a minute."""
        ended = self.call(Retries(9, 1.0), ERROR)
        self.clock.pump([1.0] * 1000)
        self.failureResultOf(ended, RemoteError)
        pauses = [after - before for before, after in zip(self.times, self.times[1:], strict=False)]
        self.assertEqual([1, 2, 4, 8, 16, 32, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE], pauses)

    def test_a_pause_can_be_cancelled(self) -> None:
        """Nothing is called for after it."""
        ended = self.call(Retries(1, 1.0), ERROR)
        ended.cancel()
        self.failureResultOf(ended, CancelledError)
        self.clock.advance(100)
        self.assertEqual([0], self.times)

    def test_the_caller_may_say_which_errors_are_worth_it(self) -> None:
        """It sees each; the first that isn't ends it."""
        seen: list[CrewError] = []

        def is_worth(error: CrewError) -> bool:
            seen.append(error)
            return not isinstance(error, RemoteError)

        ended = self.call(Retries(5, is_worth=is_worth), LOST, ERROR)
        self.assertIs(ERROR, self.failureResultOf(ended).value)
        self.assertEqual([LOST, ERROR], seen)
