"""Tests of crew_tx.testing._time."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from crew_tx.testing._time import MemoryTime


def go(time: MemoryTime, seconds: float) -> None:
    """Let time go by, as a reactor does."""
    time.now += seconds
    while time.call_due():
        """There may be more."""


class MemoryTimeTests(SynchronousTestCase):
    """What ``task.Clock`` does, but for its cost."""

    def setUp(self) -> None:
        self.time = MemoryTime()
        self.called: list[object] = []

    def test_it_provides_the_interface(self) -> None:
        """As a reactor does."""
        verifyObject(IReactorTime, self.time)

    def test_calls_are_made_in_the_order_of_their_times(self) -> None:
        """And those of one time in the order in which they were asked for, with their arguments."""
        self.time.callLater(2, self.called.append, "late")
        self.time.callLater(1, lambda first, second: self.called.append((first, second)), "a", second="b")
        self.time.callLater(1, self.called.append, "behind")
        go(self.time, 0.9)
        self.assertEqual(self.called, [])
        go(self.time, 0.1)
        self.assertEqual(self.called, [("a", "b"), "behind"])
        go(self.time, 1)
        self.assertEqual(self.called[2:], ["late"])
        self.assertEqual(self.time.getDelayedCalls(), [])
        self.assertIs(self.time.next_due(), None)

    def test_the_past_is_refused(self) -> None:
        """A negative delay is a mistake."""
        with self.assertRaisesRegex(ValueError, "3 seconds ago"):
            self.time.callLater(-3, self.called.append, 1)

    def test_a_call_for_now_comes_in_the_next_round(self) -> None:
        """So that one that asks for another for ever can be seen to."""
        self.time.callLater(0, lambda: self.time.callLater(0, self.called.append, "next"))
        self.assertTrue(self.time.call_due())
        self.assertEqual(self.called, [])
        self.assertTrue(self.time.call_due())
        self.assertEqual(self.called, ["next"])
        self.assertFalse(self.time.call_due())

    def test_a_call_can_be_moved_both_ways(self) -> None:
        """By ``reset`` and ``delay``; it is made once."""
        sooner = self.time.callLater(10, self.called.append, "sooner")
        later = self.time.callLater(1, self.called.append, "later")
        sooner.reset(2)
        later.delay(4)
        self.assertEqual(self.time.getDelayedCalls(), [sooner, later])
        self.assertEqual(self.time.next_due(), 2)
        go(self.time, 2)
        self.assertEqual(self.called, ["sooner"])
        self.assertEqual(self.time.next_due(), 5)
        go(self.time, 20)
        self.assertEqual(self.called, ["sooner", "later"])

    def test_what_a_call_raises_is_seen(self) -> None:
        """And costs no other call its turn."""
        self.time.callLater(1, lambda: 1 / 0)
        self.time.callLater(1, self.called.append, "other")
        self.time.now = 1
        self.assertRaises(ZeroDivisionError, self.time.call_due)
        self.time.call_due()
        self.assertEqual(self.called, ["other"])

    def test_cancelled_calls_are_forgotten(self) -> None:
        """A hundred thousand of them take no room."""
        for _ in range(1000):
            self.time.callLater(1000, self.called.append, "no").cancel()
        self.assertLess(len(self.time._heap), 200)
        self.assertEqual(self.time.getDelayedCalls(), [])

    @settings(deadline=None, derandomize=True, max_examples=100)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["call", "cancel", "reset", "delay", "go"]),
                st.integers(0, 9),
                st.integers(0, 5),
            ),
            max_size=40,
        )
    )
    def test_it_does_what_a_clock_does(self, events: list[tuple[str, int, int]]) -> None:
        """The same calls at the same times, whatever is done to them."""
        clock, mine = Clock(), MemoryTime()
        both: list[tuple[Any, list[Any], list[Any]]] = [(clock, [], []), (mine, [], [])]
        for name, which, seconds in events:
            for time, calls, made in both:
                _do(name, which, seconds, time, calls, made)
        # Twisted's clock makes calls of one time in an order of its own once one was moved.
        self.assertEqual(sorted(both[0][2]), sorted(both[1][2]))
        self.assertEqual(
            sorted(call.getTime() for call in clock.getDelayedCalls()),
            [call.getTime() for call in mine.getDelayedCalls()],
        )


def _do(name: str, which: int, seconds: int, time: Any, calls: list[Any], made: list[Any]) -> None:
    if name == "call":
        number = len(calls)
        calls.append(time.callLater(seconds, lambda: made.append((time.seconds(), number))))
    elif name == "go":
        for _ in range(seconds):
            if isinstance(time, MemoryTime):
                go(time, 1)
            else:
                time.advance(1)
    elif calls and (call := calls[which % len(calls)]).active():
        if name == "cancel":
            call.cancel()
        else:
            getattr(call, name)(seconds)
