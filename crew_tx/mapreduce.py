"""
One task for many items, spread over all workers.

A window of calls is out at a time, and as many results wait here at most: so
memory is bounded, whatever the number of items, and items are asked for only
when there is room. Any iterable will do, or an asynchronous one.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Literal, get_args

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from crew_tx.errors import CallerError, CrewError, InvalidArgumentError

__all__ = ["Mapping", "map_reduce"]

Call = Callable[[Any], "Deferred[Any]"]
Items = Iterable[Any] | AsyncIterable[Any]
#: Told of how many items are done, and how many were begun.
Progress = Callable[[int, int], object]
Errors = Literal["raise", "value"]

WINDOW = 100
_MOST = 100_000
_END = object()


class Mapping:
    """
    The results of one task for many items: an asynchronous iterator.

    :param call: calls the task with an item.
    :param window: calls that are out at a time, results that wait included.
    :param ordered: whether results come in the order of their items, or as they come.
    :param retries: how often a call that failed is made again; what is wrong
        with the item itself (``CallerError``) is not tried again.
    :param errors: ``raise`` ends it with the first error, and cancels what is
        out; ``value`` puts errors in the place of results.
    :param progress: called whenever an item is done.
    :ivar begun: how many items were called for.
    :ivar done: how many have an outcome.
    """

    def __init__(
        self,
        call: Call,
        items: Items,
        *,
        window: int = WINDOW,
        ordered: bool = True,
        retries: int = 0,
        errors: Errors = "raise",
        progress: Progress = lambda done, begun: None,
    ) -> None:
        _check(window, retries, errors)
        self._call = call
        self._source = _Source(items)
        self._window = window
        self._ordered = ordered
        self._retries = retries
        self._raises = errors == "raise"
        self._progress = progress
        self._out: dict[int, Deferred[Any]] = {}
        self._results: dict[int, Any] = {}
        self._next = 0
        self._error: Failure | None = None
        self._waiter: Deferred[None] | None = None
        self.begun = 0
        self.done = 0

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        """
        The next result.

        :raises StopAsyncIteration: when every item has had its own.
        :raises CrewError: the first error, where errors are raised; nothing is out any more then.
        """
        while True:
            await self._fill()
            if self._error is not None:
                self.cancel()
                self._error.raiseException()
            number = self._ready()
            if number is not None:
                self._next += 1
                return self._results.pop(number)
            if not self._out and self._source.ended:
                raise StopAsyncIteration
            self._waiter = Deferred()
            await self._waiter

    def cancel(self) -> None:
        """Cancel what is out, and ask for no more items."""
        self._source.ended = True
        out, self._out = self._out, {}
        for call in out.values():
            call.addErrback(lambda _: None)
            call.cancel()
        self._results.clear()

    async def _fill(self) -> None:
        """Call for as many items as there is room for."""
        while len(self._out) + len(self._results) < self._window and self._error is None:
            item = await self._source.next()
            if item is _END:
                return
            number, self.begun = self.begun, self.begun + 1
            self._begin(number, item, self._retries)

    def _begin(self, number: int, item: Any, retries: int) -> None:
        called = self._out[number] = self._call(item)
        called.addCallbacks(
            self._ended, self._failed, callbackArgs=(number,), errbackArgs=(number, item, retries)
        )

    def _failed(self, failure: Failure, number: int, item: Any, retries: int) -> None:
        if number not in self._out:
            # Cancelled by ourselves.
            return
        if retries and failure.check(CrewError) and not failure.check(CallerError):
            self._begin(number, item, retries - 1)
        elif self._raises:
            self._error = self._error or failure
            del self._out[number]
            self._wake()
        else:
            self._ended(failure.value, number)

    def _ended(self, value: Any, number: int) -> None:
        if self._out.pop(number, None) is None:
            return
        self._results[number] = value
        self.done += 1
        self._progress(self.done, self.begun)
        self._wake()

    def _ready(self) -> int | None:
        """The number of a result that may be handed over now."""
        if self._ordered:
            return self._next if self._next in self._results else None
        return next(iter(self._results), None)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)


class _Source:
    """Items, from wherever they come; one is asked for at a time."""

    def __init__(self, items: Items) -> None:
        self.ended = False
        self._iterator: Iterator[Any] | None = None
        self._asynchronous: AsyncIterator[Any] | None = None
        if isinstance(items, AsyncIterable):
            self._asynchronous = aiter(items)
        else:
            self._iterator = iter(items)

    async def next(self) -> Any:
        """:returns: an item, or ``_END``."""
        if self.ended:
            return _END
        if self._asynchronous is not None:
            item = await anext(self._asynchronous, _END)
        else:
            assert self._iterator is not None
            item = next(self._iterator, _END)
        self.ended = item is _END
        return item


async def map_reduce(results: Mapping, reducer: Callable[[Any, Any], Any], initial: Any) -> Any:
    """
    Reduce results as they come.

    :param reducer: called with what there is so far, and one result more; gives what there is then.
    :param initial: what there is at first, and what no items come to.
    """
    so_far = initial
    async for result in results:
        so_far = reducer(so_far, result)
    return so_far


def _check(window: int, retries: int, errors: str) -> None:
    if isinstance(window, bool) or not isinstance(window, int) or not 0 < window <= _MOST:
        raise InvalidArgumentError(f"window is a number of calls from 1 to {_MOST}, not {window!r}")
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise InvalidArgumentError(f"retries is a whole number from 0, not {retries!r}")
    if errors not in get_args(Errors):
        raise InvalidArgumentError(f"errors is 'raise' or 'value', not {errors!r}")
