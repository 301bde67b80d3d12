"""A table of deadlines: pure, so time is a number that the test makes up."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.deadlines import Deadlines

_keys = st.integers(0, 5)
_times = st.integers(0, 20)
_operations = st.lists(
    st.tuples(st.just("set"), _keys, _times)
    | st.tuples(st.just("clear"), _keys, st.just(0))
    | st.tuples(st.just("overdue"), st.just(0), _times),
    max_size=60,
)


class Incomparable:
    """A key that can't be sorted."""


class DeadlinesTests(SynchronousTestCase):
    """What is due when."""

    def table(self, **due: float) -> Deadlines[str]:
        """A table with these deadlines."""
        deadlines: Deadlines[str] = Deadlines()
        for key, when in due.items():
            deadlines.set(key, when)
        return deadlines

    def test_what_is_due_comes_once_earliest_first(self) -> None:
        """And what isn't stays."""
        deadlines = self.table(late=9.0, second=2.0, first=1.0, now=3.0)
        self.assertEqual(deadlines.overdue(3.0), ["first", "second", "now"])
        self.assertEqual(deadlines.overdue(3.0), [])
        self.assertEqual(deadlines.overdue(9.0), ["late"])

    def test_equal_deadlines_come_in_the_order_of_setting(self) -> None:
        """Keys themselves are never compared: they need no order."""
        keys = [Incomparable() for _ in range(5)]
        deadlines: Deadlines[Incomparable] = Deadlines()
        for key in keys:
            deadlines.set(key, 1.0)
        self.assertEqual(deadlines.overdue(1.0), keys)

    def test_the_earliest_is_the_first_to_come(self) -> None:
        """None where there is none."""
        self.assertIsNone(self.table().earliest())
        self.assertEqual(self.table(a=3.0, b=2.0, c=4.0).earliest(), 2.0)

    def test_a_cleared_key_is_forgotten(self) -> None:
        """Known or not."""
        deadlines = self.table(a=1.0, b=2.0)
        deadlines.clear("a")
        deadlines.clear("unknown")
        self.assertEqual(deadlines.earliest(), 2.0)
        self.assertEqual(deadlines.overdue(5.0), ["b"])

    def test_a_key_has_one_deadline(self) -> None:
        """The last that it was given, be that earlier or later."""
        deadlines = self.table(a=5.0, b=5.0)
        deadlines.set("a", 1.0)
        deadlines.set("b", 9.0)
        self.assertEqual(deadlines.overdue(5.0), ["a"])
        self.assertEqual(deadlines.overdue(9.0), ["b"])

    def test_it_knows_its_keys(self) -> None:
        """How many, and which."""
        deadlines = self.table(a=1.0, b=2.0)
        deadlines.set("a", 3.0)
        self.assertEqual(len(deadlines), 2)
        self.assertIn("a", deadlines)
        deadlines.clear("a")
        self.assertNotIn("a", deadlines)
        deadlines.overdue(9.0)
        self.assertEqual(len(deadlines), 0)

    def test_what_was_cleared_does_not_pile_up(self) -> None:
        """A day's limit that is cleared after a millisecond must not cost a day of memory."""
        deadlines = self.table(stays=1e9)
        for number in range(10_000):
            deadlines.set(str(number), 1e6)
            deadlines.clear(str(number))
        self.assertLess(len(deadlines._heap), 200)
        self.assertEqual(deadlines.overdue(1e9), ["stays"])

    def test_what_is_set_again_and_again_does_not_pile_up(self) -> None:
        """The same for the same key costs nothing; cleared meanwhile, no more than what was cleared does."""
        deadlines = self.table(stays=1e9, same=1e6)
        for _ in range(1000):
            deadlines.set("same", 1e6)
        self.assertEqual(len(deadlines._heap), 2)
        for _ in range(1000):
            deadlines.clear("same")
            deadlines.set("same", 1e6)
        self.assertLess(len(deadlines._heap), 100)
        self.assertEqual(deadlines.overdue(1e9), ["same", "stays"])

    def test_equal_deadlines_keep_their_order_over_a_rebuild(self) -> None:
        """The order is that of the last setting."""
        deadlines = self.table(first=2.0, second=1.0)
        deadlines.set("first", 1.0)
        for when in range(100):
            deadlines.set("other", 10.0 + when)
        deadlines.set("third", 1.0)
        self.assertLess(len(deadlines._heap), 100)
        self.assertEqual(deadlines.overdue(1.0), ["second", "first", "third"])

    def test_a_long_heap_is_not_rebuilt_each_time(self) -> None:
        """With a thousand deadlines the heap may be twice as long, and is left alone till then."""
        deadlines = self.table(**{f"k{number}": 1.0 for number in range(1000)})
        heap = deadlines._heap
        for number in range(1000):
            deadlines.set(f"k{number}", 2.0)
        self.assertIs(deadlines._heap, heap)
        self.assertEqual(len(deadlines.overdue(2.0)), 1000)

    def test_the_order_outlives_a_rebuild(self) -> None:
        """What is left of a heap is not always a heap."""
        deadlines: Deadlines[int] = Deadlines()
        random = Random(1)
        due = {}
        for _ in range(5000):
            key, when = random.randrange(100), random.random()
            due[key] = when
            deadlines.set(key, when)
        self.assertEqual(deadlines.overdue(1.0), sorted(due, key=due.__getitem__))

    @settings(deadline=None, derandomize=True)
    @given(_operations)
    def test_it_does_what_a_plain_dict_does(self, operations: list[tuple[str, int, int]]) -> None:
        """Whatever is set, cleared and asked for, in whatever order."""
        deadlines: Deadlines[int] = Deadlines()
        plain: dict[int, int] = {}
        for operation, key, when in operations:
            if operation == "set":
                deadlines.set(key, when)
                plain[key] = when
            elif operation == "clear":
                deadlines.clear(key)
                plain.pop(key, None)
            else:
                due = {key for key, time in plain.items() if time <= when}
                self.assertEqual(set(deadlines.overdue(when)), due)
                plain = {key: time for key, time in plain.items() if key not in due}
            self.assertEqual(len(deadlines), len(plain))
            self.assertEqual(deadlines.earliest(), min(plain.values(), default=None))
