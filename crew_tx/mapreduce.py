"""
One task for many items, spread over all workers, and results made one.

A window of calls is out at a time, and results that wait here are of the window,
too: so memory is bounded, whatever the number of items, and items are asked for
only when somebody takes results. Any iterable will do, or an asynchronous one.

There are two objects. Calls that are out hold on to the inner one, and only who
takes the results to the outer one: so a loop that ends early, by ``break`` or by
an error, lets go of that, and what is out is cancelled.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, MutableMapping
from itertools import islice
from math import inf
from typing import Any, Literal, get_args
from weakref import finalize

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from crew_tx.errors import CrewError, InvalidArgumentError
from crew_tx.rpc.by_key import Initial, Reducer, combine, combined, pairs_of
from crew_tx.rpc.item_source import Items
from crew_tx.rpc.mapped import MappedCalls, Progress
from crew_tx.rpc.retries import LONGEST_PAUSE, Call, Retries, always

__all__ = [
    "Errors",
    "Failed",
    "Initial",
    "Items",
    "Mapping",
    "Partial",
    "Progress",
    "Reducer",
    "always",
    "check_mapping",
    "combine",
    "combined",
    "map_reduce",
    "map_reduce_by_key",
]

Errors = Literal["raise", "value"]
#: Called with an item, and why there is no answer for it.
Failed = Callable[[Any, Exception], object]

WINDOW = 100
_MOST = 100_000
#: So many pairs are reduced in one turn of the reactor.
_PAIRS = 10_000


class Mapping:
    """
    The results of one task for many items: an asynchronous iterator, for one that takes them.

    :param call: calls the task with an item.
    :param clock: an ``IReactorTime``, for pauses and stragglers.
    :param call_from_thread: the reactor's, to cancel what is out when nobody
        takes results any more: the garbage collector, which may see to that,
        runs in any thread, and in the middle of anything.
    :param window: calls that are out at a time, results that wait included.
    :param ordered: whether results come in the order of their items, or as they come.
    :param retries: how often a call that failed is made again; what is wrong
        with the item itself (``CallerError``), and what somebody cancelled, is
        not tried again.
    :param retry_pause: seconds before the first time; each further pause is
        twice as long, up to a minute.
    :param retry_if: whether an error is worth it; by default each is.
    :param stragglers: how many items may be called for a second time when they
        are late and no more can be begun; the first answer stands.
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
        clock: IReactorTime,
        call_from_thread: Callable[[Callable[[], None]], object],
        window: int = WINDOW,
        ordered: bool = True,
        retries: int = 0,
        retry_pause: float = 0.0,
        retry_if: Callable[[CrewError], bool] = always,
        stragglers: int = 0,
        errors: Errors = "raise",
        progress: Progress = lambda done, begun: None,
    ) -> None:
        check_mapping(items, window, retries, errors, retry_pause, stragglers)
        self._clock = clock
        self._calls = MappedCalls(
            clock,
            call,
            items,
            window=window,
            ordered=ordered,
            retries=Retries(retries, retry_pause, retry_if),
            raises=errors == "raise",
            progress=progress,
            stragglers=stragglers,
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

    def items(self) -> AsyncIterator[tuple[Any, Any]]:
        """Each item with its result, in place of results alone: for those that come as they are answered."""
        return _WithItems(self)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        """
        The next result.

        :raises StopAsyncIteration: when every item has had its own; after an error, and after :meth:`cancel`.
        :raises CrewError: the first error, where errors are raised; nothing is out any more then.
        :raises RuntimeError: if somebody waits for the next result already.
        """
        return (await self._calls.next())[1]

    async def aclose(self) -> None:
        """The same as :meth:`cancel`, for ``contextlib.aclosing``."""
        self.cancel()

    def cancel(self) -> None:
        """
        Cancel what is out, and ask for no more items: there are no more results.

        An item that was asked for already is dropped when it comes.
        """
        self._calls.cancel()


class _WithItems:
    """The results of a mapping with their items; who has it has the mapping."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping

    def __aiter__(self) -> AsyncIterator[tuple[Any, Any]]:
        return self

    async def __anext__(self) -> tuple[Any, Any]:
        return await self._mapping._calls.next()


class Partial:
    """
    Shows what there is so far, when something was added, and not too often.

    :param shown: called with what there is.
    :param every: the seconds between two times, at least.
    :param seconds: the time.
    :raises InvalidArgumentError: if ``every`` is no number of seconds.
    """

    def __init__(
        self, shown: Callable[[Any], object] | None, every: float, seconds: Callable[[], float]
    ) -> None:
        if not _is_seconds(every, inf):
            raise InvalidArgumentError(f"every is a number of seconds from 0, not {every!r}")
        self._shown = shown
        self._every = every
        self._seconds = seconds
        self._last = seconds()

    def added(self, so_far: Any) -> None:
        """Something was added to what there is."""
        if self._shown is not None and self._seconds() - self._last >= self._every:
            self._last = self._seconds()
            self._shown(so_far)


async def map_reduce(results: Mapping, reducer: Reducer, initial: Any, partial: Partial) -> Any:
    """
    Reduce results as they come; whatever ends it, nothing is out any more then.

    :param reducer: called with what there is so far, and one result more; gives what there is then.
    :param initial: what there is at first, and what no items come to.
    """
    so_far = initial
    try:
        async for result in results:
            so_far = reducer(so_far, result)
            partial.added(so_far)
    finally:
        results.cancel()
    return so_far


async def map_reduce_by_key(
    results: Mapping,
    reducer: Reducer,
    initial: Initial | None,
    into: MutableMapping[Any, Any],
    failed: Failed | None,
    partial: Partial,
) -> MutableMapping[Any, Any]:
    """
    Reduce results that are pairs, for each key, as they come; whatever ends it, nothing is out any more then.

    :param failed: told of errors that are values.
    """
    try:
        async for item, result in results.items():
            if failed is not None and isinstance(result, Exception):
                failed(item, result)
                continue
            pairs = pairs_of(result)
            while some := list(islice(pairs, _PAIRS)):
                combine(some, reducer, initial, into)
                if len(some) == _PAIRS:
                    await deferLater(results._clock, 0)
            partial.added(into)
    finally:
        results.cancel()
    return into


def check_mapping(
    items: Any, window: int, retries: int, errors: str, retry_pause: float = 0.0, stragglers: int = 0
) -> None:
    """:raises InvalidArgumentError: if an argument of a mapping is wrong."""
    if not isinstance(items, Iterable | AsyncIterable):
        raise InvalidArgumentError(f"items are an iterable, or an asynchronous one, not {items!r}")
    if not _is_whole(window) or not 0 < window <= _MOST:
        raise InvalidArgumentError(f"window is a number of calls from 1 to {_MOST}, not {window!r}")
    if not _is_whole(retries) or retries < 0:
        raise InvalidArgumentError(f"retries is a whole number from 0, not {retries!r}")
    if not _is_seconds(retry_pause, LONGEST_PAUSE):
        raise InvalidArgumentError(f"retry_pause is seconds from 0 to {LONGEST_PAUSE:g}, not {retry_pause!r}")
    if not _is_whole(stragglers) or stragglers < 0:
        raise InvalidArgumentError(f"stragglers is a whole number from 0, not {stragglers!r}")
    if errors not in get_args(Errors):
        raise InvalidArgumentError(f"errors is 'raise' or 'value', not {errors!r}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_seconds(value: Any, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most
