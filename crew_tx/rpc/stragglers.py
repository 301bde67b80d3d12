"""
The last pieces of a mapping, given to a second worker where the first takes long.

A piece is one item with its calls. It is late when it is out three times as
long as the median of those that are done, and a second at least. How long one is
out includes its wait in the queue: who has many pieces waiting finds few late.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from statistics import median
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

#: Late is who takes so many times as long as the median.
FACTOR = 3.0
#: And never sooner than that, in seconds.
LEAST_SECONDS = 1.0
#: So many have to be done before anything is known.
FEWEST = 3
_REMEMBERED = 1000


class Piece:
    """
    An item, and the one outcome of its calls: the first answer, or the last error.

    :ivar number: its place among the items.
    :ivar begun: when its first call was made.
    :ivar has_second: whether there was a second call.
    :ivar is_over: whether it has its outcome, or was cancelled.
    :param ended: called once, with the piece and its outcome; not after :meth:`cancel`.
    """

    __slots__ = ("_calls", "_ended", "begun", "has_second", "is_over", "item", "number")

    def __init__(self, number: int, item: Any, begun: float, ended: Callable[[Piece, Any], object]) -> None:
        self.number = number
        self.item = item
        self.begun = begun
        self.has_second = False
        self._ended = ended
        self._calls: list[Deferred[Any]] = []
        self.is_over = False

    def add(self, call: Deferred[Any]) -> None:
        """Its outcome may be this call's."""
        self._calls.append(call)
        call.addBoth(self._answered, call)
        if self.is_over:
            # It was cancelled while the call was made.
            call.cancel()

    def cancel(self) -> None:
        """Cancel what is out: nobody wants an outcome any more."""
        self.is_over = True
        calls, self._calls = self._calls, []
        for call in calls:
            call.cancel()

    def _answered(self, result: Any, call: Deferred[Any]) -> None:
        if self.is_over:
            return
        self._calls.remove(call)
        if self._calls:
            if isinstance(result, Failure):
                # The other one may do better.
                return
            self.cancel()
        self.is_over = True
        self._ended(self, result)


class Stragglers:
    """
    Finds pieces that are late, near the end.

    :param clock: an ``IReactorTime``.
    :param most: how many may be called for a second time, in all.
    :param pieces: those that are out, in the order in which they began.
    :param call_again: called with each that is late, once.
    """

    def __init__(
        self,
        clock: IReactorTime,
        most: int,
        pieces: Callable[[], Collection[Piece]],
        call_again: Callable[[Piece], object],
    ) -> None:
        self._clock = clock
        self._left = most
        self._pieces = pieces
        self._call_again = call_again
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._delayed: IDelayedCall | None = None

    def answered(self, piece: Piece) -> None:
        """Remember how long it took."""
        self._seconds.append(self._clock.seconds() - piece.begun)

    def watch(self) -> None:
        """Nothing more is begun for now: see who is late, now and later."""
        # All that may be called again were: then nobody needs to know who is late.
        if self._left and self._delayed is None and len(self._seconds) >= FEWEST:
            self._look()

    def stop(self) -> None:
        """Leave no delayed call."""
        if self._delayed is not None:
            self._delayed.cancel()
            self._delayed = None

    def _look(self) -> None:
        self._delayed = None
        late = max(LEAST_SECONDS, FACTOR * median(self._seconds))
        for piece in list(self._pieces()):
            # A call that ends at once may have had us look, or have ended it all.
            if piece.has_second or piece.is_over:
                continue
            if not self._left or self._delayed is not None:
                return
            left = piece.begun + late - self._clock.seconds()
            if left > 0:
                self._delayed = self._clock.callLater(left, self._look)
                return
            self._left -= 1
            piece.has_second = True
            self._call_again(piece)
