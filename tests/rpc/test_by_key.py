"""Pairs reduced for each key."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import InvalidArgumentError
from crew_tx.rpc.by_key import combine, combined
from crew_tx.testing import CrewHarness
from crew_tx.worker import Task


@Task("words")
@combined(operator.add)
def words(text: str) -> Iterator[tuple[str, int]]:
    """A mapper with a combiner."""
    for word in text.split():
        yield word, 1


class CombineTests(SynchronousTestCase):
    """What keys come to."""

    def test_values_of_a_key_are_made_one(self) -> None:
        """From its first value on, in the order in which they come."""
        pairs = [("a", "1"), ("b", "2"), ("a", "3"), ["a", "4"]]
        self.assertEqual({"a": "134", "b": "2"}, combine(pairs, operator.add))
        self.assertEqual({}, combine([], operator.add))

    def test_a_key_may_have_something_at_first(self) -> None:
        """Its own, and nobody else's."""
        pairs = [("a", 1), ("b", 2), ("a", 3)]
        reduced = combine(pairs, lambda so_far, value: so_far.append(value) or so_far, list)
        self.assertEqual({"a": [1, 3], "b": [2]}, reduced)

    def test_it_adds_to_what_is_there(self) -> None:
        """A map is pairs, too."""
        so_far = Counter({"a": 1})
        self.assertIs(so_far, combine({"a": 2, "b": 3}, operator.add, into=so_far))
        self.assertEqual({"a": 3, "b": 3}, so_far)

    def test_a_value_may_be_none(self) -> None:
        """It is there, and no first value."""
        self.assertEqual({"a": (None, 1)}, combine([("a", None), ("a", 1)], lambda one, two: (one, two)))

    def test_a_key_of_parts_is_a_tuple(self) -> None:
        """It travels as an array, which comes as a list."""
        self.assertEqual({("a", "b"): 2}, combine([[["a", "b"], 1], (("a", "b"), 1)], operator.add))

    def test_what_is_no_pairs_is_refused(self) -> None:
        """A text of two letters is no pair of them."""
        for wrong in (None, 5, "ab", b"ab", ["ab"], [("a", 1, 2)], [("a",)], [None]):
            error = self.assertRaises(InvalidArgumentError, combine, wrong, operator.add)
            self.assertIn("a key and a value", str(error))


class CombinedTests(SynchronousTestCase):
    """A task that combines."""

    def test_the_function_stays_one_of_its_name(self) -> None:
        """It gives a dict, of a map as well."""
        self.assertEqual({"a": 2, "b": 1}, words("a b a"))
        self.assertEqual("words", words.__name__)
        self.assertEqual("A mapper with a combiner.", words.__doc__)

        def counts(text: str) -> Any:
            return Counter(text)

        self.assertEqual({"l": 2, "a": 1}, combined(operator.add)(counts)("all"))

    def test_a_worker_answers_with_a_map(self) -> None:
        """One entry for each key of the piece."""
        harness = CrewHarness(words).install(self)
        self.assertEqual({"a": 3}, harness.result(harness.client.call("words", "a a a")))
