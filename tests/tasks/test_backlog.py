"""Tests of crew_tx.tasks.backlog."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.tasks.backlog import Backlog


def backlog_of(*entries: tuple[str, int, str]) -> Backlog[str]:
    backlog: Backlog[str] = Backlog()
    for queue, priority, item in entries:
        backlog.push(queue, priority, item)
    return backlog


class BacklogTests(SynchronousTestCase):
    """What is held comes out in the order in which it is to be started."""

    def test_an_empty_one_has_nothing_to_pop(self) -> None:
        """And its length is 0."""
        self.assertRaises(IndexError, Backlog[str]().pop)
        self.assertEqual(len(Backlog[str]()), 0)

    def test_in_a_queue_first_come_is_first_served(self) -> None:
        """At one priority."""
        backlog = backlog_of(("q", 0, "a"), ("q", 0, "b"), ("q", 0, "c"))
        self.assertEqual(backlog.drain(), ["a", "b", "c"])

    def test_the_highest_priority_comes_first(self) -> None:
        """Whatever the queue, and whenever it came."""
        backlog = backlog_of(("q", 0, "low"), ("r", 5, "middle"), ("q", 10, "high"))
        self.assertEqual(backlog.drain(), ["high", "middle", "low"])

    def test_queues_take_turns(self) -> None:
        """A long queue doesn't keep a short one waiting."""
        backlog = backlog_of(*[("long", 0, f"long{n}") for n in range(4)], ("short", 0, "short0"))
        self.assertEqual(backlog.drain(), ["long0", "short0", "long1", "long2", "long3"])

    def test_a_queue_that_had_its_turn_goes_behind_the_others(self) -> None:
        """Also where it was empty between."""
        backlog = backlog_of(("a", 0, "a0"), ("b", 0, "b0"), ("c", 0, "c0"))
        self.assertEqual(backlog.pop(), "a0")
        backlog.push("a", 0, "a1")
        self.assertEqual(backlog.drain(), ["b0", "c0", "a1"])

    def test_an_item_can_be_removed(self) -> None:
        """That very one, once."""
        first, second = ["same"], ["same"]
        backlog: Backlog[list[str]] = Backlog()
        backlog.push("q", 0, first)
        backlog.push("q", 0, second)
        self.assertTrue(backlog.remove(second))
        self.assertFalse(backlog.remove(second))
        self.assertEqual(len(backlog), 1)
        self.assertIs(backlog.pop(), first)

    def test_a_queue_without_items_is_forgotten(self) -> None:
        """By pop and by remove; a worker may have had thousands of queues."""
        backlog = backlog_of(("a", 1, "a0"), ("b", 2, "b0"))
        backlog.remove("a0")
        backlog.pop()
        self.assertEqual(backlog._levels, {})
        self.assertEqual(len(backlog), 0)

    @settings(deadline=None, derandomize=True)
    @given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3))))
    def test_everything_comes_out_once_by_priority_and_age(self, entries: list[tuple[str, int]]) -> None:
        """Of any mixture."""
        backlog: Backlog[tuple[int, str, int]] = Backlog()
        for number, (queue, priority) in enumerate(entries):
            backlog.push(queue, priority, (priority, queue, number))
        self.assertEqual(len(backlog), len(entries))
        drained = backlog.drain()
        self.assertEqual(len(backlog), 0)
        self.assertEqual(sorted(number for _, _, number in drained), list(range(len(entries))))
        priorities = [priority for priority, _, _ in drained]
        self.assertEqual(priorities, sorted(priorities, reverse=True))
        for queue in "abc":
            for level in range(4):
                numbers = [number for priority, of, number in drained if (of, priority) == (queue, level)]
                self.assertEqual(numbers, sorted(numbers))
