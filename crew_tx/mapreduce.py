"""
One task for many items, spread over all workers.

A window of calls is out at a time, and results that wait here are of the window,
too: so memory is bounded, whatever the number of items, and items are asked for
only when somebody takes results. Any iterable will do, or an asynchronous one.

There are two objects. Calls that are out hold on to the inner one, and only who
takes the results to the outer one: so a loop that ends early, by ``break`` or by
an error, lets go of that, and what is out is cancelled.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Literal, get_args
from weakref import finalize

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from crew_tx.errors import CallerError, CrewError, InvalidArgumentError, TaskCancelledError

__all__ = ["Mapping", "check_mapping", "map_reduce"]

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
    The results of one task for many items: an asynchronous iterator, for one that takes them.

    :param call: calls the task with an item.
    :param call_from_thread: the reactor's, to cancel what is out when nobody
        takes results any more: the garbage collector, which may see to that,
        runs in any thread, and in the middle of anything.
    :param window: calls that are out at a time, results that wait included.
    :param ordered: whether results come in the order of their items, or as they come.
    :param retries: how often a call that failed is made again; what is wrong
        with the item itself (``CallerError``), and what somebody cancelled, is
        not tried again.
    :param errors: ``raise`` ends it with the first error, and cancels what is
        out; ``value`` puts errors in the place of results.
    :param progress: called whenever an item is done.
    :raises InvalidArgumentError: if an argument is wrong.
    """

    def __init__(
        self,
        call: Call,
        items: Items,
        *,
        call_from_thread: Callable[[Callable[[], None]], object],
        window: int = WINDOW,
        ordered: bool = True,
        retries: int = 0,
        errors: Errors = "raise",
        progress: Progress = lambda done, begun: None,
    ) -> None:
        check_mapping(items, window, retries, errors)
        self._calls = _Calls(
            call,
            items,
            window=window,
            ordered=ordered,
            retries=retries,
            raises=errors == "raise",
            progress=progress,
        )
        finalize(self, call_from_thread, self._calls.cancel).atexit = False

    @property
    def begun(self) -> int:
        """How many items were called for."""
        return self._calls.begun

    @property
    def done(self) -> int:
        """How many have a result, errors that are values included."""
        return self._calls.done

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        """
        The next result.

        :raises StopAsyncIteration: when every item has had its own; after an error, and after :meth:`cancel`.
        :raises CrewError: the first error, where errors are raised; nothing is out any more then.
        :raises RuntimeError: if somebody waits for the next result already.
        """
        return await self._calls.next()

    async def aclose(self) -> None:
        """The same as :meth:`cancel`, for ``contextlib.aclosing``."""
        self.cancel()

    def cancel(self) -> None:
        """
        Cancel what is out, and ask for no more items: there are no more results.

        An item that was asked for already is dropped when it comes.
        """
        self._calls.cancel()


class _Calls:
    """The calls of a mapping, and their results until somebody takes them."""

    def __init__(
        self,
        call: Call,
        items: Items,
        *,
        window: int,
        ordered: bool,
        retries: int,
        raises: bool,
        progress: Progress,
    ) -> None:
        self._call = call
        self._source: _Source | None = _Source(items)
        self._window = window
        self._ordered = ordered
        self._retries = retries
        self._raises = raises
        self._progress = progress
        self._out: dict[int, Deferred[None]] = {}
        self._results: dict[int, Any] = {}
        self._next = 0
        self._error: Failure | None = None
        self._waiter: Deferred[None] | None = None
        self._filling = False
        self.begun = 0
        self.done = 0

    async def next(self) -> Any:
        """The next result, as of :meth:`Mapping.__anext__`."""
        if self._waiter is not None:
            raise RuntimeError("somebody waits for the next result already: a mapping is for one loop")
        self._fill()
        while not self._has_outcome():
            self._waiter = Deferred()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._outcome()

    def cancel(self) -> None:
        """End: ask for no more, cancel what is out, forget results."""
        self._source = None
        self._results.clear()
        out, self._out = self._out, {}
        for call in out.values():
            call.cancel()
        self._wake()

    # -- items in ----------------------------------------------------------------------

    def _fill(self) -> None:
        # Whoever fills is called again by results that come at once: one loop is enough.
        if not self._filling:
            self._filling = True
            Deferred.fromCoroutine(self._fill_up())

    async def _fill_up(self) -> None:
        """Call for as many items as there is room for; it may wait for items, while results are taken."""
        try:
            while self._source is not None and len(self._out) + len(self._results) < self._window:
                await self._take(self._source)
        except BaseException:
            # Once it has ended, what becomes of the items is nobody's concern.
            if self._source is not None:
                self._fail(Failure())
        finally:
            self._filling = False
        self._wake()

    async def _take(self, source: _Source) -> None:
        item = await source.next()
        if self._source is None:
            # It has ended meanwhile.
            return
        if item is _END:
            self._source = None
            return
        number, self.begun = self.begun, self.begun + 1
        called = self._out[number] = Deferred.fromCoroutine(self._try(item))
        called.addBoth(self._ended, number)

    async def _try(self, item: Any) -> Any:
        """Call, and call again."""
        left = self._retries
        while True:
            try:
                return await self._call(item)
            except CrewError as error:
                if not left or isinstance(error, CallerError | TaskCancelledError):
                    raise
            left -= 1

    # -- results out -------------------------------------------------------------------

    def _ended(self, result: Any, number: int) -> None:
        if self._out.pop(number, None) is None:
            # Cancelled by ourselves.
            return
        if isinstance(result, Failure) and self._raises:
            self._fail(result)
            return
        self._results[number] = result.value if isinstance(result, Failure) else result
        self.done += 1
        try:
            self._progress(self.done, self.begun)
        except Exception:
            self._fail(Failure())
        self._wake()

    def _fail(self, failure: Failure) -> None:
        """End with an error; who takes results is told of it next."""
        self._error = failure
        self.cancel()

    def _has_outcome(self) -> bool:
        is_over = self._source is None and not self._out and not self._results
        return self._error is not None or self._ready() is not None or is_over

    def _outcome(self) -> Any:
        error, self._error = self._error, None
        if error is not None:
            error.raiseException()
        number = self._ready()
        if number is None:
            raise StopAsyncIteration
        self._next += 1
        return self._results.pop(number)

    def _ready(self) -> int | None:
        """The number of a result that may be handed over now."""
        if self._ordered:
            return self._next if self._next in self._results else None
        return next(iter(self._results), None)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.called:
            self._waiter.callback(None)


class _Source:
    """Items, from wherever they come; one is asked for at a time."""

    def __init__(self, items: Items) -> None:
        self._iterator: Iterator[Any] | None = None
        self._asynchronous: AsyncIterator[Any] | None = None
        if isinstance(items, AsyncIterable):
            self._asynchronous = aiter(items)
        else:
            self._iterator = iter(items)

    async def next(self) -> Any:
        """:returns: an item, or ``_END``."""
        if self._asynchronous is not None:
            return await anext(self._asynchronous, _END)
        assert self._iterator is not None
        return next(self._iterator, _END)


async def map_reduce(results: Mapping, reducer: Callable[[Any, Any], Any], initial: Any) -> Any:
    """
    Reduce results as they come; whatever ends it, nothing is out any more then.

    :param reducer: called with what there is so far, and one result more; gives what there is then.
    :param initial: what there is at first, and what no items come to.
    """
    so_far = initial
    try:
        async for result in results:
            so_far = reducer(so_far, result)
    finally:
        results.cancel()
    return so_far


def check_mapping(items: Any, window: int, retries: int, errors: str) -> None:
    """:raises InvalidArgumentError: if an argument of a mapping is wrong."""
    if not isinstance(items, Iterable | AsyncIterable):
        raise InvalidArgumentError(f"items are an iterable, or an asynchronous one, not {items!r}")
    if isinstance(window, bool) or not isinstance(window, int) or not 0 < window <= _MOST:
        raise InvalidArgumentError(f"window is a number of calls from 1 to {_MOST}, not {window!r}")
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise InvalidArgumentError(f"retries is a whole number from 0, not {retries!r}")
    if errors not in get_args(Errors):
        raise InvalidArgumentError(f"errors is 'raise' or 'value', not {errors!r}")
