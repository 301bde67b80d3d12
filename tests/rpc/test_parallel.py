"""Several calls at a time, with one result."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import RemoteError
from crew_tx.rpc.parallel import Parallel


class ParallelTests(SynchronousTestCase):
    """With calls that the test answers."""

    def setUp(self) -> None:
        self.made: list[tuple[str, Any, dict[str, Any]]] = []
        self.deferreds: list[Deferred[Any]] = []
        self.cancelled: list[Deferred[Any]] = []

    def _call(self, task_id: str, data: Any, **options: Any) -> Deferred[Any]:
        self.made.append((task_id, data, options))
        self.deferreds.append(Deferred(self.cancelled.append))
        return self.deferreds[-1]

    def parallel(self, count: int = 0) -> Parallel:
        """With so many calls."""
        calls = Parallel(self._call)
        for number in range(count):
            calls.call(f"task {number}")
        return calls

    def test_calls_are_made_at_once(self) -> None:
        """With the arguments of ``Client.call``."""
        calls = self.parallel()
        calls.call("a")
        calls.call("b", 5, priority=7)
        self.assertEqual(self.made, [("a", None, {}), ("b", 5, {"priority": 7})])

    def test_values_come_in_the_order_of_the_calls(self) -> None:
        """Whichever answers first; and when the last has."""
        result = self.parallel(3).result()
        for number in (2, 0, 1):
            self.assertNoResult(result)
            self.deferreds[number].callback(number)
        self.assertEqual(self.successResultOf(result), [0, 1, 2])

    def test_errors_come_as_values(self) -> None:
        """Each in its call's place."""
        result = self.parallel(2).result()
        error = RemoteError("E", "no")
        self.deferreds[0].errback(error)
        self.deferreds[1].callback(1)
        self.assertEqual(self.successResultOf(result), [error, 1])

    def test_no_calls_have_a_result_at_once(self) -> None:
        """An empty list."""
        self.assertEqual(self.successResultOf(self.parallel().result()), [])

    def test_a_call_that_fails_or_is_done_at_once(self) -> None:
        """By a Deferred that has fired, by none at all, or by raising."""
        outcomes = iter((succeed(1), "an id"))

        def call(task_id: str, data: Any) -> Any:
            return next(outcomes)

        calls = Parallel(call)
        for _ in range(3):
            calls.call("a")
        one, two, three = self.successResultOf(calls.result())
        self.assertEqual((one, two), (1, "an id"))
        self.assertIsInstance(three, StopIteration)

    def test_cancelling_the_result_cancels_the_calls(self) -> None:
        """Those that are not done."""
        result = self.parallel(3).result()
        self.deferreds[1].callback(1)
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.assertEqual(self.cancelled, [self.deferreds[0], self.deferreds[2]])

    def test_each_result_has_the_calls_since_the_last(self) -> None:
        """So it can be used again."""
        calls = self.parallel(1)
        first = calls.result()
        calls.call("b")
        second = calls.result()
        self.deferreds[1].callback("b")
        self.assertEqual(self.successResultOf(second), ["b"])
        self.assertNoResult(first)

    def test_it_is_a_context(self) -> None:
        """Leaving it neither waits nor cancels, and swallows no exception."""
        with self.parallel() as calls:
            calls.call("a")
        self.assertNoResult(self.deferreds[0])
        with self.assertRaises(ValueError), self.parallel():
            raise ValueError

    def test_an_error_that_nobody_asks_for_is_not_logged(self) -> None:
        """It has its place in a result that nobody fetched."""
        self.parallel(1)
        self.deferreds[0].errback(RemoteError("E", "no"))
        self.deferreds.clear()
