"""Answers that are pairs, reduced for each key."""

from __future__ import annotations

import operator
import shelve
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import InvalidArgumentError, RemoteError
from crew_tx.mapreduce import Mapping, Partial, combined, map_reduce_by_key
from crew_tx.testing import CrewHarness
from crew_tx.worker import Task
from tests.test_mapreduce import ERROR, MappingTestCase

TEXTS = ["to be or not to be", "be that as it may", "", "it is"]
COUNTED = Counter(" ".join(TEXTS).split())


class ReduceByKeyTests(MappingTestCase):
    """With answers given by hand: each is what it is reduced to."""

    def reduce(
        self,
        mapping: Mapping,
        *,
        reducer: Callable[[Any, Any], Any] = operator.add,
        initial: Any = None,
        into: MutableMapping[Any, Any] | None = None,
        failed: Any = None,
        shown: Any = None,
    ) -> Deferred[Any]:
        partial = Partial(shown, 0, self.clock.seconds)
        reduced = {} if into is None else into
        return Deferred.fromCoroutine(map_reduce_by_key(mapping, reducer, initial, reduced, failed, partial))

    def give(self, item: Any, answer: Any) -> None:
        self.out.pop(item).callback(answer)

    def test_keys_are_reduced_as_pieces_come(self) -> None:
        """And can be looked at meanwhile."""
        into: dict[Any, Any] = {}
        ended = self.reduce(self.map(3, ordered=False), into=into)
        self.give(2, {"a": 1, "b": 1})
        self.assertEqual(into, {"a": 1, "b": 1})
        self.give(0, [["a", 2], ("c", 1)])
        self.assertEqual(into, {"a": 3, "b": 1, "c": 1})
        self.give(1, {})
        self.assertIs(self.successResultOf(ended), into)

    def test_what_there_is_so_far_is_shown(self) -> None:
        """With each piece, where it may be as often."""
        shown: list[Any] = []
        self.reduce(self.map(2), shown=lambda so_far: shown.append(dict(so_far)))
        self.give(0, {"a": 1})
        self.give(1, {"a": 1})
        self.assertEqual(shown, [{"a": 1}, {"a": 2}])

    def test_no_items_come_to_nothing(self) -> None:
        """At once."""
        self.assertEqual(self.successResultOf(self.reduce(self.map([]))), {})

    def test_an_answer_of_another_shape_ends_it(self) -> None:
        """What is out is cancelled."""
        ended = self.reduce(self.map(2))
        self.give(0, 5)
        self.assertIn("of the type int", str(self.failureResultOf(ended, InvalidArgumentError)))
        self.assertEqual(self.cancelled, [1])

    def test_a_large_answer_lets_others_in(self) -> None:
        """The reactor has its turn after so many pairs."""
        into: dict[Any, Any] = {}
        ended = self.reduce(self.map(1), into=into)
        self.give(0, [(number, 1) for number in range(25_000)])
        self.assertEqual(len(into), 10_000)
        self.clock.advance(0)
        self.clock.advance(0)
        self.assertEqual(len(self.successResultOf(ended)), 25_000)

    def test_the_first_error_ends_it(self) -> None:
        """Unless somebody wants to be told of those that failed."""
        ended = self.reduce(self.map(2))
        self.fail_call(0)
        self.failureResultOf(ended, RemoteError)
        failed: list[Any] = []
        ended = self.reduce(
            self.map(2, errors="value"), failed=lambda item, error: failed.append((item, error))
        )
        self.fail_call(0)
        self.give(1, {"a": 1})
        self.assertEqual((self.successResultOf(ended), failed), ({"a": 1}, [(0, ERROR)]))

    def test_cancelling_it(self) -> None:
        """In the middle of a large answer, too."""
        ended = self.reduce(self.map(2))
        self.give(0, [(number, 1) for number in range(25_000)])
        ended.cancel()
        self.failureResultOf(ended, CancelledError)
        self.assertEqual(self.cancelled, [1])


@Task("words")
@combined(operator.add)
def words(text: str) -> Any:
    """A mapper with a combiner."""
    return [(word, 1) for word in text.split()]


@Task("places")
def places(text: str) -> Any:
    """One without."""
    return [(word, number) for number, word in enumerate(text.split())]


class ClientTests(SynchronousTestCase):
    """With a client, a broker and a worker."""

    def setUp(self) -> None:
        self.harness = CrewHarness(words, places).install(self)
        self.client = self.harness.client

    def test_words_are_counted(self) -> None:
        """As a Counter does."""
        counted = self.client.map_reduce_by_key("words", operator.add, TEXTS, window=2)
        self.assertEqual(self.harness.result(counted), COUNTED)

    def test_values_are_gathered(self) -> None:
        """In lists, each key's own."""

        def appended(so_far: list[int], place: int) -> list[int]:
            so_far.append(place)
            return so_far

        gathered = self.client.map_reduce_by_key("places", appended, ["a b a", "b"], list, ordered=True)
        self.assertEqual(self.harness.result(gathered), {"a": [0, 2], "b": [1, 0]})

    def test_what_it_comes_to_may_be_on_a_disk(self) -> None:
        """Memory holds none of it then."""
        with shelve.open(self.mktemp()) as kept:
            self.harness.result(self.client.map_reduce_by_key("words", operator.add, TEXTS, into=kept))
            self.assertEqual(dict(kept), COUNTED)

    def test_those_that_failed_are_told_of(self) -> None:
        """The others count."""
        failed: list[Any] = []
        counted = self.client.map_reduce_by_key(
            "words", operator.add, ["a", 5, "a"], failed=lambda item, error: failed.append((item, error.type))
        )
        self.assertEqual(self.harness.result(counted), {"a": 2})
        self.assertEqual(failed, [(5, "AttributeError")])

    def test_wrong_arguments(self) -> None:
        """They are the Deferred's error."""
        for wrong in ({"window": 0}, {"every": -1}):
            ended = self.client.map_reduce_by_key("words", operator.add, [], **wrong)  # type: ignore[arg-type]
            self.failureResultOf(ended, InvalidArgumentError)
            ended = self.client.map_reduce("words", operator.add, [], **wrong)  # type: ignore[arg-type]
            self.failureResultOf(ended, InvalidArgumentError)
