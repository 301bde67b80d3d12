"""
How many calls a worker lets its broker send ahead.

Two more than threads, as a rule: what one worker holds unstarted, another can't
take. But where tasks last some hundred microseconds, a worker with so few waits
for the broker most of the time (measured: half as many calls a second as with a
hundred, and the broker works harder for each). So it lets as many come as its
threads can do in a twentieth of a second.
"""

from __future__ import annotations

SPARE = 2
MOST = 128
_AHEAD = 0.05
_LOOK_EVERY = 128
_WEIGHT = 1 / 32
_SHORTEST = 1e-6


class Prefetch:
    """
    :param threads: how many tasks run at once.
    :param fixed: what the user asked for; None to let it follow the tasks.
    :ivar count: what the broker was told.
    """

    def __init__(self, threads: int, fixed: int | None = None) -> None:
        self._threads = threads
        self._fixed = fixed
        self._least = threads + SPARE if fixed is None else fixed
        self._average = 1.0
        self._seen = 0
        self.count = self._least

    @property
    def raised(self) -> bool:
        """Whether more may come than threads could begin at once."""
        return self.count > self._least

    def ran(self, seconds: float) -> bool:
        """
        Note how long a task ran.

        :returns: whether :attr:`count` changed: by a factor of two at least,
            since a change costs a new consumer of each queue.
        """
        self._average += (seconds - self._average) * _WEIGHT
        self._seen += 1
        if self._seen % _LOOK_EVERY or self._fixed is not None:
            return False
        ahead = int(self._threads * _AHEAD / max(self._average, _SHORTEST))
        wanted = max(self._least, min(MOST, ahead))
        if self.count < 2 * wanted and wanted < 2 * self.count:
            return False
        self.count = wanted
        return True

    def resize(self, threads: int) -> bool:
        """
        Suit another number of threads.

        :returns: whether :attr:`count` or :attr:`raised` changed.
        """
        self._threads = threads
        if self._fixed is not None:
            return False
        before = self.count, self.raised
        self._least = threads + SPARE
        self.lower()
        return before != (self.count, self.raised)

    def lower(self) -> None:
        """Tasks got long all of a sudden: start from the least again."""
        self._average = 1.0
        self.count = self._least
