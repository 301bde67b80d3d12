"""One task for many items: with calls that the test answers, and with a worker in memory."""

from __future__ import annotations

import gc
import operator
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from threading import Thread
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredQueue, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import (
    ClientStoppedError,
    ConnectionLostError,
    EncodeError,
    InvalidArgumentError,
    RemoteError,
    TaskCancelledError,
)
from crew_tx.mapreduce import Mapping, Partial, map_reduce
from crew_tx.testing import CrewHarness
from crew_tx.worker import Task

ERROR = RemoteError("ValueError", "no")


class MappingTestCase(SynchronousTestCase):
    """
    Tests with calls that are answered by hand.

    :ivar made: the items of all calls, retries included.
    :ivar out: the calls that have no outcome, by their items.
    :ivar cancelled: the items of those that were cancelled.
    :ivar asked: the items that were asked for.
    :ivar results: what the loop of :meth:`loop` was given.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.addCleanup(lambda: self.assertEqual([], self.clock.getDelayedCalls()))
        self.made: list[Any] = []
        self.out: dict[Any, Deferred[Any]] = {}
        self.cancelled: list[Any] = []
        self.asked: list[Any] = []
        self.results: list[Any] = []
        self.handed_over: list[Callable[[], None]] = []

    def call(self, item: Any) -> Deferred[Any]:
        """A call that waits for the test."""

        def cancel(call: Deferred[Any]) -> None:
            self.cancelled.append(item)
            if self.out.get(item) is call:
                del self.out[item]

        self.made.append(item)
        self.out[item] = Deferred(cancel)
        return self.out[item]

    def answer(self, *items: Any) -> None:
        """Answer calls by their items."""
        for item in items:
            self.out.pop(item).callback(item)

    def fail_call(self, item: Any, error: Exception = ERROR) -> None:
        self.out.pop(item).errback(error)

    def items(self, count: int) -> Iterator[int]:
        """Numbers, noted when they are asked for."""
        for number in range(count):
            self.asked.append(number)
            yield number

    def map(self, items: Any = 3, **options: Any) -> Mapping:
        """A mapping of so many items, or of these."""
        return self.map_with(self.call, self.items(items) if isinstance(items, int) else items, **options)

    def map_with(self, call: Callable[[Any], Deferred[Any]], items: Any, **options: Any) -> Mapping:
        """A mapping with other calls."""
        return Mapping(call, items, clock=self.clock, call_from_thread=self.handed_over.append, **options)

    def turn(self) -> None:
        """The reactor's turn."""
        while self.handed_over:
            self.handed_over.pop()()

    def loop(self, mapping: Mapping) -> Deferred[list[Any]]:
        """Take all results."""

        async def take() -> list[Any]:
            async for result in mapping:
                self.results.append(result)
            return self.results

        return Deferred.fromCoroutine(take())

    def next(self, mapping: Mapping) -> Deferred[Any]:
        """The next result, or "the end"."""

        async def take() -> Any:
            return await anext(mapping, "the end")

        return Deferred.fromCoroutine(take())


class OrderTests(MappingTestCase):
    """Which result comes when."""

    def test_results_come_in_the_order_of_items(self) -> None:
        """As soon as those before are there."""
        ended = self.loop(self.map())
        self.answer(2, 1)
        self.assertEqual(self.results, [])
        self.answer(0)
        self.assertEqual(self.successResultOf(ended), [0, 1, 2])

    def test_results_come_as_they_are_answered(self) -> None:
        """Where that is asked for."""
        ended = self.loop(self.map(ordered=False))
        self.answer(2)
        self.assertEqual(self.results, [2])
        self.answer(0, 1)
        self.assertEqual(self.successResultOf(ended), [2, 0, 1])

    def test_no_items_have_no_results(self) -> None:
        """It ends at once; an asynchronous one, too."""

        async def nothing() -> AsyncIterator[int]:
            for number in ():
                yield number

        self.assertEqual(self.successResultOf(self.loop(self.map([]))), [])
        self.assertEqual(self.successResultOf(self.loop(self.map(nothing()))), [])
        self.assertEqual(self.made, [])

    def test_results_may_be_none(self) -> None:
        """Items as well."""
        ended = self.loop(self.map([None, None], window=1))
        self.answer(None)
        self.answer(None)
        self.assertEqual(self.successResultOf(ended), [None, None])

    def test_it_goes_on_being_at_its_end(self) -> None:
        """However often it is asked."""
        mapping = self.map(1)
        self.loop(mapping)
        self.answer(0)
        for _ in range(2):
            self.assertEqual(self.successResultOf(self.next(mapping)), "the end")


class WindowTests(MappingTestCase):
    """How much is out, and how much is asked for."""

    def test_nothing_is_asked_for_before_a_result_is_wanted(self) -> None:
        """Then as many as the window has."""
        mapping = self.map(10, window=2)
        self.assertEqual((self.asked, self.made), ([], []))
        self.next(mapping)
        self.assertEqual((self.asked, self.made), ([0, 1], [0, 1]))

    def test_results_that_wait_are_of_the_window(self) -> None:
        """The first is late: no more is called for."""
        self.loop(self.map(10, window=3))
        self.answer(1, 2)
        self.assertEqual(self.asked, [0, 1, 2])
        self.answer(0)
        self.assertEqual((self.results, self.asked), ([0, 1, 2], [0, 1, 2, 3, 4, 5]))

    def test_who_is_slow_is_waited_for(self) -> None:
        """Nothing is asked for while nobody wants a result."""
        mapping = self.map(10, window=2)
        first = self.next(mapping)
        self.answer(0, 1)
        self.assertEqual(self.successResultOf(first), 0)
        self.assertEqual(self.asked, [0, 1])
        self.assertEqual(self.successResultOf(self.next(mapping)), 1)
        self.assertEqual(self.asked, [0, 1, 2])

    def test_ten_thousand_items(self) -> None:
        """Never more than the window is asked for and not taken."""
        most = 0
        waiting: list[tuple[int, Deferred[Any]]] = []

        def call(item: int) -> Deferred[Any]:
            waiting.append((item, Deferred()))
            return waiting[-1][1]

        mapping = self.map_with(call, self.items(10_000), window=50)
        ended = self.loop(mapping)
        while waiting:
            most = max(most, len(self.asked) - len(self.results))
            # The youngest first, so that all others wait for the oldest.
            number, called = waiting.pop()
            called.callback(number)
        self.assertEqual(self.successResultOf(ended), list(range(10_000)))
        self.assertEqual((most, mapping.begun, mapping.done), (50, 10_000, 10_000))

    def test_calls_that_are_answered_at_once(self) -> None:
        """However many: nothing piles up, on the stack neither."""
        ended = self.loop(self.map_with(succeed, self.items(10_000), window=10))
        self.assertEqual(self.successResultOf(ended), list(range(10_000)))

    def test_wrong_arguments(self) -> None:
        """They are told at once."""
        for options in (
            {"window": 0},
            {"window": 100_001},
            {"window": True},
            {"window": "1"},
            {"retries": -1},
            {"retries": 1.0},
            {"retries": False},
            {"retry_pause": -1},
            {"retry_pause": 61},
            {"retry_pause": "1"},
            {"stragglers": -1},
            {"stragglers": True},
            {"errors": "ignore"},
        ):
            self.assertRaises(InvalidArgumentError, self.map, **options)
        self.assertRaises(InvalidArgumentError, self.map, None)


class ItemsTests(MappingTestCase):
    """Where items come from."""

    async def queued(self, queue: DeferredQueue[Any]) -> AsyncIterator[Any]:
        """What is put into a queue, until a None."""
        while (item := await queue.get()) is not None:
            yield item

    def test_items_may_come_later(self) -> None:
        """Results are taken while the next item is waited for."""
        queue: DeferredQueue[Any] = DeferredQueue()
        ended = self.loop(self.map(self.queued(queue), window=2))
        queue.put("a")
        self.assertEqual(self.made, ["a"])
        self.answer("a")
        self.assertEqual(self.results, ["a"])
        for item in "bcd":
            queue.put(item)
        self.assertEqual(self.made, ["a", "b", "c"])
        self.answer("b", "c", "d")
        self.assertNoResult(ended)
        queue.put(None)
        self.assertEqual(self.successResultOf(ended), ["a", "b", "c", "d"])

    def test_calls_that_are_answered_at_once_for_items_that_come_later(self) -> None:
        """The loop goes on from inside of what asks for items, and that goes on itself."""
        queue: DeferredQueue[Any] = DeferredQueue()
        ended = self.loop(self.map_with(succeed, self.queued(queue), window=1))
        for item in (1, 2, 3, None):
            queue.put(item)
        self.assertEqual(self.successResultOf(ended), [1, 2, 3])

    def test_what_items_raise_ends_it(self) -> None:
        """What is out is cancelled; where errors are values, too, since it is no item's."""

        def items() -> Iterator[int]:
            yield 0
            raise KeyError("no more")

        for errors in ("raise", "value"):
            mapping = self.map(items(), errors=errors)
            self.failureResultOf(self.loop(mapping), KeyError)
            self.assertEqual(self.cancelled.pop(), 0)
            self.assertEqual(self.successResultOf(self.next(mapping)), "the end")

    def test_what_later_items_raise_ends_it(self) -> None:
        """Who waits is told."""
        queue: DeferredQueue[Any] = DeferredQueue()

        async def items() -> AsyncIterator[Any]:
            yield 0
            await queue.get()
            raise KeyError("no more")

        ended = self.loop(self.map(items()))
        queue.put(None)
        self.failureResultOf(ended, KeyError)
        self.assertEqual(self.cancelled, [0])

    def test_an_item_that_comes_after_the_end_is_dropped(self) -> None:
        """An error of the items as well."""
        queue: DeferredQueue[Any] = DeferredQueue()
        mapping = self.map(self.queued(queue))
        ended = self.loop(mapping)
        mapping.cancel()
        self.assertEqual(self.successResultOf(ended), [])
        queue.put(1)
        self.assertEqual(self.made, [])
        failing: Deferred[Any] = Deferred()

        async def items() -> AsyncIterator[Any]:
            yield await failing

        mapping = self.map(items())
        ended = self.loop(mapping)
        mapping.cancel()
        failing.errback(KeyError())
        self.assertEqual(self.successResultOf(ended), [])

    def test_items_may_end_it(self) -> None:
        """From inside of what asks for them."""

        def items() -> Iterator[int]:
            yield 0
            mapping.cancel()
            yield 1

        mapping = self.map(items())
        self.assertEqual(self.successResultOf(self.loop(mapping)), [])
        self.assertEqual((self.made, self.cancelled), ([0], [0]))


class ErrorTests(MappingTestCase):
    """Calls that fail."""

    def test_the_first_error_ends_it(self) -> None:
        """At once: what is out is cancelled, and no more is asked for."""
        mapping = self.map(10, window=3)
        ended = self.loop(mapping)
        self.fail_call(1)
        self.assertIs(self.failureResultOf(ended).value, ERROR)
        self.assertEqual((sorted(self.cancelled), self.asked), ([0, 2], [0, 1, 2]))
        self.assertEqual(self.successResultOf(self.next(mapping)), "the end")

    def test_an_error_that_nobody_waits_for_cancels_as_well(self) -> None:
        """It is raised when the next result is wanted."""
        mapping = self.map(window=3)
        self.next(mapping)
        self.answer(0)
        self.fail_call(2)
        self.assertEqual(self.cancelled, [1])
        self.failureResultOf(self.next(mapping), RemoteError)

    def test_errors_may_be_values(self) -> None:
        """In their items' places."""
        mapping = self.map(errors="value")
        ended = self.loop(mapping)
        self.fail_call(1)
        self.answer(0, 2)
        self.assertEqual(self.successResultOf(ended), [0, ERROR, 2])
        self.assertEqual((mapping.begun, mapping.done), (3, 3))

    def test_a_call_that_fails_is_made_again(self) -> None:
        """So often, and no more; its place stays."""
        ended = self.loop(self.map(2, retries=2))
        self.answer(1)
        self.fail_call(0)
        self.fail_call(0)
        self.answer(0)
        self.assertEqual(self.successResultOf(ended), [0, 1])
        self.assertEqual(self.made, [0, 1, 0, 0])
        ended = self.loop(self.map(1, retries=1))
        self.fail_call(0)
        self.assertNoResult(ended)
        self.fail_call(0)
        self.failureResultOf(ended, RemoteError)

    def test_what_fails_at_once_is_made_again_however_often(self) -> None:
        """The stack stays flat."""
        made: list[int] = []

        def call(item: int) -> Deferred[Any]:
            made.append(item)
            return fail(ERROR)

        self.failureResultOf(self.loop(self.map_with(call, [1], retries=5_000)), RemoteError)
        self.assertEqual(len(made), 5_001)

    def test_some_errors_are_final(self) -> None:
        """The item's own, what somebody cancelled, and what isn't ours."""
        for error in (EncodeError("no"), ClientStoppedError("no"), TaskCancelledError("no"), KeyError("no")):
            ended = self.loop(self.map(1, retries=3))
            self.fail_call(0, error)
            self.assertIs(self.failureResultOf(ended).value, error)
        self.assertEqual(self.made, [0] * 4)

    def test_a_call_that_raises(self) -> None:
        """It is as one that fails."""

        def call(item: int) -> Deferred[Any]:
            raise ERROR

        self.failureResultOf(self.loop(self.map_with(call, [1])), RemoteError)
        self.assertEqual(self.successResultOf(self.loop(self.map_with(call, [1], errors="value"))), [ERROR])

    def test_errors_at_once_ask_for_no_more(self) -> None:
        """Not even inside of the window."""
        ended = self.loop(self.map_with(lambda item: fail(ERROR), self.items(10)))
        self.failureResultOf(ended, RemoteError)
        self.assertEqual(self.asked, [0])

    def test_a_call_is_made_again_after_a_pause(self) -> None:
        """Whoever takes results away meanwhile ends that, too."""
        ended = self.loop(self.map(1, retries=2, retry_pause=0.5))
        self.fail_call(0)
        self.assertEqual(self.made, [0])
        self.clock.advance(0.5)
        self.assertEqual(self.made, [0, 0])
        self.answer(0)
        self.assertEqual(self.successResultOf(ended), [0])
        mapping = self.map(1, retries=2, retry_pause=0.5)
        self.loop(mapping)
        self.fail_call(0)
        mapping.cancel()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_who_maps_may_say_which_errors_are_worth_it(self) -> None:
        """Those of another type end it."""
        ended = self.loop(self.map(1, retries=2, retry_if=lambda error: not isinstance(error, RemoteError)))
        self.fail_call(0)
        self.failureResultOf(ended, RemoteError)


class StragglerTests(MappingTestCase):
    """The last calls, where they are late."""

    def last_of(self, items: int, **options: Any) -> tuple[Deferred[list[Any]], Deferred[Any]]:
        """All but the first are answered within a second: the loop, and the first's call."""
        ended = self.loop(self.map(items, **{"stragglers": 5, **options}))
        self.clock.advance(1)
        first = self.out.pop(0)
        while self.out:
            self.answer(*self.out)
        return ended, first

    def test_the_last_is_called_for_a_second_time(self) -> None:
        """Three times as long as the others were out; the first answer stands."""
        for ordered in (True, False):
            ended, first = self.last_of(7, window=10, ordered=ordered)
            self.clock.advance(1.9)
            self.assertEqual(self.made.count(0), 1)
            self.clock.advance(0.2)
            self.assertEqual(self.made.count(0), 2)
            self.answer(0)
            self.assertEqual(sorted(self.successResultOf(ended)), list(range(7)))
            self.assertEqual(self.cancelled, [0])
            self.assertTrue(first.called)
            for noted in (self.made, self.cancelled, self.results):
                noted.clear()

    def test_one_that_all_others_wait_for(self) -> None:
        """The window is full of results, and nobody knows whether there are more items."""
        ended, _ = self.last_of(5, window=5)
        self.clock.advance(3)
        self.assertEqual(self.made.count(0), 2)
        self.answer(0)
        self.assertEqual(self.successResultOf(ended), list(range(5)))

    def test_while_more_can_be_begun_nobody_is_late(self) -> None:
        """A worker has better things to do."""
        queue: DeferredQueue[Any] = DeferredQueue()

        async def items() -> AsyncIterator[Any]:
            while (item := await queue.get()) is not None:
                yield item

        ended = self.loop(self.map(items(), stragglers=5))
        for item in range(5):
            queue.put(item)
        self.answer(1, 2, 3, 4)
        self.clock.advance(100)
        self.assertEqual(self.made.count(0), 1)
        queue.put(None)
        self.assertEqual(self.made.count(0), 2)
        self.answer(0)
        self.assertEqual(self.successResultOf(ended), list(range(5)))

    def test_while_many_are_out_nobody_is_late(self) -> None:
        """It is the queue that is long."""
        ended = self.loop(self.map(10, window=10, stragglers=5))
        self.answer(*range(4))
        self.clock.advance(100)
        self.assertEqual(len(self.made), 10)
        self.answer(4)
        self.assertEqual(self.made[10:], [5, 6, 7, 8, 9])
        self.answer(*range(5, 10))
        self.assertEqual(len(self.successResultOf(ended)), 10)

    def test_the_last_in_time(self) -> None:
        """Nobody looks for it any more, and there is no delayed call."""
        ended, first = self.last_of(7)
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        first.callback(0)
        self.assertEqual(self.successResultOf(ended), list(range(7)))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_it_is_asked_for(self) -> None:
        """By default no item is called for twice."""
        self.last_of(7, stragglers=0)
        self.clock.advance(1000)
        self.assertEqual(self.made.count(0), 1)

    def test_an_end_leaves_nothing(self) -> None:
        """No call of either kind, no delayed call."""
        mapping = self.map(7, stragglers=5)
        self.loop(mapping)
        self.answer(*range(1, 7))
        self.clock.advance(1)
        self.assertEqual(self.made.count(0), 2)
        mapping.cancel()
        self.assertIn(0, self.cancelled)
        self.assertEqual([], self.clock.getDelayedCalls())
        mapping = self.map(7, stragglers=5)
        self.loop(mapping)
        self.answer(*range(1, 7))
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        mapping.cancel()
        self.assertEqual([], self.clock.getDelayedCalls())


class WithItemsTests(MappingTestCase):
    """Results that name their items."""

    def test_each_comes_with_its_item(self) -> None:
        """Whatever the order; errors as well."""
        mapping = self.map(["a", "b", "c"], ordered=False, errors="value")
        pairs: list[Any] = []

        async def take() -> None:
            async for item, result in mapping.items():
                pairs.append((item, result))

        ended = Deferred.fromCoroutine(take())
        self.fail_call("b")
        self.answer("c", "a")
        self.successResultOf(ended)
        self.assertEqual(pairs, [("b", ERROR), ("c", "c"), ("a", "a")])

    def test_a_break_cancels_what_is_out(self) -> None:
        """Who has the pairs has the mapping, and nobody else does."""

        async def take() -> None:
            async for _ in self.map(3).items():
                break

        ended = Deferred.fromCoroutine(take())
        self.answer(0)
        self.successResultOf(ended)
        gc.collect()
        self.turn()
        self.assertEqual(self.cancelled, [1, 2])


class ProgressTests(MappingTestCase):
    """What is told of how far it is."""

    def test_each_item_that_is_done_is_told_of(self) -> None:
        """Taken or not; how many were begun, too."""
        told: list[tuple[int, int]] = []
        self.loop(self.map(3, window=2, errors="value", progress=lambda *counts: told.append(counts)))
        self.fail_call(1)
        self.answer(0)
        self.answer(2)
        self.assertEqual(told, [(1, 2), (2, 2), (3, 3)])

    def test_what_it_raises_ends_it(self) -> None:
        """What is out is cancelled."""

        def progress(done: int, begun: int) -> None:
            raise KeyError("no")

        ended = self.loop(self.map(2, progress=progress))
        self.answer(0)
        self.failureResultOf(ended, KeyError)
        self.assertEqual(self.cancelled, [1])

    def test_it_may_end_it(self) -> None:
        """From inside of a result."""
        mapping = self.map(3, progress=lambda done, begun: mapping.cancel())
        ended = self.loop(mapping)
        self.answer(1)
        self.assertEqual(self.successResultOf(ended), [])
        self.assertEqual(sorted(self.cancelled), [0, 2])


class EndTests(MappingTestCase):
    """Whoever takes results goes away."""

    def stopping(self, stop: Callable[[], object]) -> Callable[[], Any]:
        async def take() -> None:
            async for _ in self.map(10, window=3):
                stop()
                break

        return take

    def check_ended(self) -> None:
        gc.collect()
        self.turn()
        self.assertEqual((sorted(self.cancelled), self.asked), ([1, 2], [0, 1, 2]))

    def test_a_break(self) -> None:
        """What is out is cancelled."""
        ended = Deferred.fromCoroutine(self.stopping(lambda: None)())
        self.answer(0)
        self.successResultOf(ended)
        self.check_ended()

    def test_an_error_of_the_loop(self) -> None:
        """The same."""
        ended = Deferred.fromCoroutine(self.stopping(lambda: int("x"))())
        self.answer(0)
        self.failureResultOf(ended, ValueError)
        self.check_ended()

    def test_aclose(self) -> None:
        """The same for one that has a name."""

        async def take(mapping: Mapping) -> None:
            async with aclosing(mapping) as results:
                async for _ in results:
                    break

        mapping = self.map(10, window=3)
        Deferred.fromCoroutine(take(mapping))
        self.answer(0)
        self.check_ended()

    def test_cancelling_who_waits(self) -> None:
        """The loop ends with it; nothing is out once nobody has the mapping."""

        async def take() -> None:
            async for _ in self.map(3):
                pass

        ended = Deferred.fromCoroutine(take())
        ended.cancel()
        self.failureResultOf(ended, CancelledError)
        gc.collect()
        self.turn()
        self.assertEqual(sorted(self.cancelled), [0, 1, 2])

    def test_who_waited_and_was_cancelled_may_come_again(self) -> None:
        """As long as the mapping is there, so are its calls."""
        mapping = self.map(1)
        first = self.next(mapping)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        second = self.next(mapping)
        self.answer(0)
        self.assertEqual(self.successResultOf(second), 0)

    def test_cancelling_it(self) -> None:
        """Who waits is at the end; a second time it does nothing."""
        mapping = self.map(3)
        ended = self.loop(mapping)
        self.answer(1)
        mapping.cancel()
        mapping.cancel()
        self.assertEqual(self.successResultOf(ended), [])
        self.assertEqual(self.cancelled, [0, 2])

    def test_the_garbage_collector_in_another_thread(self) -> None:
        """Calls are the reactor's: they aren't touched from there, but in its turn."""
        kept = [self.map(3)]
        taken = self.next(kept[0])
        self.answer(0)
        self.assertEqual(self.successResultOf(taken), 0)
        thread = Thread(target=kept.clear)
        thread.start()
        thread.join()
        gc.collect()
        self.assertEqual((kept, self.cancelled), ([], []))
        self.turn()
        self.assertEqual(self.cancelled, [1, 2])

    def test_two_that_wait(self) -> None:
        """The second is refused, and the first is none the worse for it."""
        mapping = self.map(1)
        first, second = self.next(mapping), self.next(mapping)
        self.assertIn("waits for the next result already", str(self.failureResultOf(second, RuntimeError)))
        self.answer(0)
        self.assertEqual(self.successResultOf(first), 0)


class ReduceTests(MappingTestCase):
    """Results made one."""

    def reduce(
        self, mapping: Mapping, reducer: Callable[[Any, Any], Any], shown: Any = None, every: float = 1
    ) -> Deferred[Any]:
        return Deferred.fromCoroutine(
            map_reduce(mapping, reducer, 100, Partial(shown, every, self.clock.seconds))
        )

    def test_results_are_reduced_as_they_come(self) -> None:
        """From what there is at first."""
        ended = self.reduce(self.map(4), lambda so_far, result: so_far - result)
        self.answer(0, 1, 2, 3)
        self.assertEqual(self.successResultOf(ended), 94)
        self.assertEqual(self.successResultOf(self.reduce(self.map([]), max)), 100)

    def test_what_there_is_so_far_is_shown(self) -> None:
        """When something came, and not too often."""
        shown: list[Any] = []
        ended = self.reduce(self.map(5), operator.add, shown.append, 10)
        self.answer(0)
        self.clock.advance(10)
        self.assertEqual(shown, [])
        self.answer(1, 2)
        self.clock.advance(25)
        self.answer(3, 4)
        self.assertEqual(shown, [101, 106])
        self.assertEqual(self.successResultOf(ended), 110)

    def test_what_showing_raises_ends_it(self) -> None:
        """What is out is cancelled."""
        ended = self.reduce(self.map(2), operator.add, int_of_nothing, 0)
        self.answer(0)
        self.failureResultOf(ended, TypeError)
        self.assertEqual(self.cancelled, [1])

    def test_how_often_is_a_number_of_seconds(self) -> None:
        """Nothing else."""
        for every in (-1, "1", None, True, float("nan")):
            self.assertRaises(InvalidArgumentError, Partial, None, every, self.clock.seconds)

    def test_whatever_ends_it_cancels_what_is_out(self) -> None:
        """What the reducer raises, or who waits no more."""
        ended = self.reduce(self.map(2), lambda so_far, result: int("x"))
        self.answer(0)
        failure = self.failureResultOf(ended, ValueError)
        self.assertEqual(self.cancelled, [1], failure)
        ended = self.reduce(self.map(2), max)
        ended.cancel()
        self.failureResultOf(ended, CancelledError)
        self.assertEqual(self.cancelled, [1, 0, 1])


def int_of_nothing(value: object) -> None:
    """Raises a TypeError."""
    int(None)  # type: ignore[call-overload]


@Task("square")
def square(number: int) -> int:
    """The task of the tests below."""
    if number < 0:
        raise ValueError("negative")
    return number * number


class ClientTests(SynchronousTestCase):
    """With a client, a broker and a worker."""

    def setUp(self) -> None:
        self.seen: list[int] = []

        @Task("hangs once")
        async def hangs_once(number: int) -> int:
            """The first call for 0 never ends by itself."""
            self.seen.append(number)
            if self.seen.count(0) == 1 and number == 0:
                await Deferred()
            return number

        self.harness = CrewHarness(square, hangs_once).install(self)
        self.client = self.harness.client

    async def all_of(self, items: Any, **options: Any) -> list[Any]:
        return [value async for value in self.client.map("square", items, **options)]

    def test_items_go_to_workers(self) -> None:
        """With the options of a call; results come in order."""
        numbers = self.harness.result(self.all_of(range(300), window=20, priority=5, expiration=10))
        self.assertEqual(numbers, [number * number for number in range(300)])
        self.assertEqual(self.client.status().calls, 300)

    def test_an_error_leaves_nothing_behind(self) -> None:
        """The harness would say so; where errors are values the others go on."""
        error = self.assertRaises(RemoteError, self.harness.result, self.all_of([1, -1, 2, 3]))
        self.assertEqual(error.type, "ValueError")
        self.assertEqual(self.client.status().pending, 0)
        values = self.harness.result(self.all_of([1, -1, 2], errors="value", ordered=False))
        self.assertEqual({1, 4}, {value for value in values if isinstance(value, int)})
        self.assertEqual(1, sum(isinstance(value, RemoteError) for value in values))

    def test_a_break_cancels_calls(self) -> None:
        """The client waits for none of them any more."""

        async def first() -> Any:
            async for value in self.client.map("square", range(1, 50)):
                if value:
                    break
            return value

        self.assertEqual(self.harness.result(first()), 1)
        self.harness.flush()
        self.assertEqual(self.client.status().pending, 0)

    def test_the_last_item_has_a_second_call(self) -> None:
        """It is answered; the first call is cancelled, on the worker as well."""
        total = self.client.map_reduce("hangs once", operator.add, range(10), 0, stragglers=1, timeout=600)
        self.harness.flush()
        self.assertNoResult(total)
        self.harness.advance(1.1)
        self.assertEqual(self.harness.result(total), 45)
        self.harness.flush()
        self.assertEqual((self.seen.count(0), len(self.seen)), (2, 11))
        self.assertEqual((self.client.status().pending, self.harness.worker.status().in_progress), (0, 0))

    def test_a_piece_of_a_lost_connection_is_called_for_again(self) -> None:
        """The client gives up a call that the broker may have lost; the mapping does not."""
        for retries in (0, 1):
            self.seen.clear()
            total = self.client.map_reduce(
                "hangs once", operator.add, range(10), 0, retries=retries, persistent=False, timeout=5
            )
            self.harness.flush()
            self.harness.connection().cut()
            self.harness.advance(10)
            if retries:
                self.assertEqual(self.harness.result(total), 45)
                self.assertEqual((self.seen.count(0), len(self.seen)), (2, 11))
            else:
                self.assertTrue(self.failureResultOf(total, ConnectionLostError).value.maybe_sent)

    def test_results_are_reduced(self) -> None:
        """Here, in any order."""
        total = self.client.map_reduce("square", lambda so_far, value: so_far + value, range(10), 0)
        self.assertEqual(self.harness.result(total), 285)

    def test_wrong_arguments(self) -> None:
        """They are raised, or are the Deferred's error."""
        self.assertRaises(InvalidArgumentError, self.client.map, "square", [], window=0)
        self.failureResultOf(self.client.map_reduce("square", max, [], retries=-1), InvalidArgumentError)
        self.assertRaises(TypeError, self.harness.result, self.all_of([1], no_such_option=1))
