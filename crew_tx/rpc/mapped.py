"""
The calls of a mapping: items in, a window of calls out, results until somebody takes them.

It holds as many items as its window has, whatever the number of all items.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from crew_tx.rpc.item_source import END, Items, ItemSource
from crew_tx.rpc.retries import Call, Retries
from crew_tx.rpc.stragglers import Piece, Stragglers

#: Told of how many items are done, and how many were begun.
Progress = Callable[[int, int], object]


class MappedCalls:
    """
    One task's calls for many items. The parameters are those of :class:`crew_tx.mapreduce.Mapping`.

    :param raises: whether the first error ends it, and is not a result.
    :param stragglers: how many pieces may be called for a second time.
    :ivar begun: how many items were called for.
    :ivar done: how many have a result.
    """

    def __init__(
        self,
        clock: IReactorTime,
        call: Call,
        items: Items,
        *,
        window: int,
        ordered: bool,
        retries: Retries,
        raises: bool,
        progress: Progress,
        stragglers: int,
    ) -> None:
        self._clock = clock
        self._call = call
        self._source: ItemSource | None = ItemSource(items)
        self._window = window
        self._ordered = ordered
        self._retries = retries
        self._raises = raises
        self._progress = progress
        self._stragglers = Stragglers(clock, stragglers, self._pieces, self._begin) if stragglers else None
        self._out: dict[int, Piece] = {}
        self._results: dict[int, tuple[Any, Any]] = {}
        self._next = 0
        self._error: Failure | None = None
        self._waiter: Deferred[None] | None = None
        self._filling = False
        self.begun = 0
        self.done = 0

    async def next(self) -> tuple[Any, Any]:
        """The next item with its result, as of :meth:`Mapping.__anext__`."""
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
        self._stop_watching()
        out, self._out = self._out, {}
        for piece in out.values():
            piece.cancel()
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
            while self._source is not None and self._has_room():
                await self._take(self._source)
        except BaseException:
            # Once it has ended, what becomes of the items is nobody's concern.
            if self._source is not None:
                self._fail(Failure())
        finally:
            self._filling = False
        self._watch()
        self._wake()

    async def _take(self, source: ItemSource) -> None:
        item = await source.next()
        if self._source is None:
            # It has ended meanwhile.
            return
        if item is END:
            self._source = None
            return
        number, self.begun = self.begun, self.begun + 1
        piece = self._out[number] = Piece(number, item, self._clock.seconds(), self._ended)
        self._begin(piece)

    def _begin(self, piece: Piece) -> None:
        piece.add(Deferred.fromCoroutine(self._retries.call(self._clock, self._call, piece.item)))

    def _has_room(self) -> bool:
        return len(self._out) + len(self._results) < self._window

    # -- near the end --------------------------------------------------------------------

    def _watch(self) -> None:
        """Where no more can be begun, and few are out, those may be late."""
        if self._stragglers is None or not self._out:
            return
        is_waiting = self._source is None or not self._has_room()
        if is_waiting and 2 * len(self._out) <= self._window:
            self._stragglers.watch()

    def _stop_watching(self) -> None:
        if self._stragglers is not None:
            self._stragglers.stop()

    def _pieces(self) -> Collection[Piece]:
        return self._out.values()

    # -- results out -------------------------------------------------------------------

    def _ended(self, piece: Piece, result: Any) -> None:
        del self._out[piece.number]
        if isinstance(result, Failure) and self._raises:
            self._fail(result)
            return
        if self._stragglers is not None:
            self._note(piece)
        self._results[piece.number] = piece.item, result.value if isinstance(result, Failure) else result
        self.done += 1
        try:
            self._progress(self.done, self.begun)
        except Exception:
            self._fail(Failure())
        self._watch()
        self._wake()

    def _note(self, piece: Piece) -> None:
        assert self._stragglers is not None
        self._stragglers.answered(piece)
        if not self._out:
            self._stragglers.stop()

    def _fail(self, failure: Failure) -> None:
        """End with an error; who takes results is told of it next."""
        self._error = failure
        self.cancel()

    def _has_outcome(self) -> bool:
        is_over = self._source is None and not self._out and not self._results
        return self._error is not None or self._ready() is not None or is_over

    def _outcome(self) -> tuple[Any, Any]:
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
