"""One delayed call for a whole table of deadlines."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.timer import DeadlineTimer


class DeadlineTimerTests(SynchronousTestCase):
    """On a clock that the test moves."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.due: list[tuple[str, float]] = []
        self.then: Callable[[str], object] = lambda key: None
        self.timer: DeadlineTimer[str] = DeadlineTimer(self.clock, self._overdue)
        self.addCleanup(self._check_nothing_is_left)

    def _overdue(self, key: str) -> None:
        self.due.append((key, self.clock.seconds()))
        self.then(key)

    def _check_nothing_is_left(self) -> None:
        self.timer.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def advance_to(self, *times: float) -> None:
        """Let time go by, in steps."""
        for time in times:
            self.clock.advance(time - self.clock.seconds())

    def test_each_key_comes_when_it_is_due(self) -> None:
        """Not before, and once."""
        self.timer.set("b", 2.0)
        self.timer.set("a", 1.0)
        self.advance_to(0.9)
        self.assertEqual(self.due, [])
        self.advance_to(1.0, 1.5, 2.0, 9.0)
        self.assertEqual(self.due, [("a", 1.0), ("b", 2.0)])

    def test_seconds_count_from_now(self) -> None:
        """Whatever time it is."""
        self.advance_to(100.0)
        self.timer.set("a", 1.0)
        self.advance_to(100.9)
        self.assertEqual(self.due, [])
        self.advance_to(101.0)
        self.assertEqual(self.due, [("a", 101.0)])

    def test_all_that_is_due_comes_at_once(self) -> None:
        """Where the reactor was late."""
        for key, seconds in (("a", 1.0), ("b", 2.0), ("c", 9.0)):
            self.timer.set(key, seconds)
        self.advance_to(5.0)
        self.assertEqual([key for key, _ in self.due], ["a", "b"])

    def test_there_is_one_delayed_call(self) -> None:
        """However many keys, and set in whatever order."""
        for seconds in (5.0, 3.0, 4.0, 1.0, 2.0):
            self.timer.set(f"at {seconds}", seconds)
        self.assertEqual([call.getTime() for call in self.clock.getDelayedCalls()], [1.0])
        self.advance_to(1.0)
        self.assertEqual([call.getTime() for call in self.clock.getDelayedCalls()], [2.0])

    def test_a_later_key_does_not_touch_the_delayed_call(self) -> None:
        """That would cost each call of a busy client as much again."""
        self.timer.set("a", 1.0)
        [call] = self.clock.getDelayedCalls()
        self.timer.set("b", 2.0)
        self.timer.set("c", 1.0)
        self.assertEqual(self.clock.getDelayedCalls(), [call])

    def test_no_keys_need_no_delayed_call(self) -> None:
        """None before the first, none after the last."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.timer.set("a", 1.0)
        self.advance_to(1.0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_cleared_key_never_comes(self) -> None:
        """The call that was made for it wakes for nothing, and looks for the next."""
        self.timer.set("a", 1.0)
        self.timer.set("b", 2.0)
        self.timer.clear("a")
        self.timer.clear("unknown")
        self.advance_to(1.0, 2.0)
        self.assertEqual(self.due, [("b", 2.0)])

    def test_a_key_that_is_set_again_comes_at_its_new_time(self) -> None:
        """Earlier or later."""
        self.timer.set("a", 1.0)
        self.timer.set("a", 3.0)
        self.timer.set("b", 4.0)
        self.timer.set("b", 2.0)
        self.advance_to(1.0, 2.0, 3.0, 4.0)
        self.assertEqual(self.due, [("b", 2.0), ("a", 3.0)])

    def test_a_time_that_is_past_is_now(self) -> None:
        """A limit that was used up before it was set."""
        self.timer.set("a", -1.0)
        self.clock.advance(0)
        self.assertEqual(self.due, [("a", 0.0)])

    def test_a_callback_may_set_keys(self) -> None:
        """The same one again, or one that is due before what waits."""
        self.timer.set("a", 1.0)
        self.timer.set("z", 9.0)
        self.then = lambda key: self.timer.set(key, 2.0) if len(self.due) < 3 else None
        self.advance_to(1.0, 3.0, 5.0, 9.0)
        self.assertEqual(self.due, [("a", 1.0), ("a", 3.0), ("a", 5.0), ("z", 9.0)])

    def test_a_callback_may_set_a_key_that_is_due_after_what_waits(self) -> None:
        """What waits is not forgotten for it."""
        self.timer.set("a", 1.0)
        self.timer.set("z", 5.0)
        self.then = lambda key: self.timer.set("b", 9.0) if key == "a" else None
        self.advance_to(1.0, 5.0, 10.0)
        self.assertEqual(self.due, [("a", 1.0), ("z", 5.0), ("b", 10.0)])

    def test_a_callback_may_clear_keys(self) -> None:
        """Those of later times."""
        self.timer.set("a", 1.0)
        self.timer.set("b", 2.0)
        self.then = lambda key: self.timer.clear("b")
        self.advance_to(1.0, 2.0)
        self.assertEqual(self.due, [("a", 1.0)])

    def test_a_callback_may_stop_it(self) -> None:
        """Nothing comes after that, and no delayed call is left."""
        self.timer.set("a", 1.0)
        self.timer.set("b", 2.0)
        self.then = lambda key: self.timer.stop()
        self.advance_to(1.0, 2.0)
        self.assertEqual(self.due, [("a", 1.0)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_callback_that_fails_costs_no_other_its_deadline(self) -> None:
        """Neither one of the same moment nor a later one; it is logged."""
        for key, seconds in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
            self.timer.set(key, seconds)
        self.then = lambda key: [][0]
        self.advance_to(1.0, 2.0)
        self.assertEqual(self.due, [("a", 1.0), ("b", 1.0), ("c", 2.0)])
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 3)

    def test_stop_forgets_all(self) -> None:
        """And it may be used again."""
        self.timer.set("a", 1.0)
        self.assertEqual(len(self.timer), 1)
        self.timer.stop()
        self.assertEqual(len(self.timer), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.timer.set("b", 5.0)
        self.advance_to(5.0)
        self.assertEqual(self.due, [("b", 5.0)])
