"""How quickly something goes on, and how long it will take."""

from __future__ import annotations

from collections import deque
from datetime import timedelta

#: So many looks are remembered: ten seconds of them, where there are ten a second.
_LOOKS = 100
#: Rates below it have a decimal.
_SMALL = 10.0


class Pace:
    """
    Over the last looks, since what was long ago says little.

    :param now: the time, in seconds, at which nothing is done.
    :param total: how much there is to do, if that is known.
    """

    def __init__(self, now: float, total: int | None) -> None:
        self._looks = deque([(now, 0)], maxlen=_LOOKS)
        self._total = total

    def look(self, now: float, done: int) -> None:
        """So much is done now."""
        self._looks.append((now, done))

    def text(self) -> str:
        """For people, such as ``12/s, 0:01:30 left``; empty where nothing is known yet."""
        (begun, before), (now, done) = self._looks[0], self._looks[-1]
        if done <= before or now <= begun:
            return ""
        rate = (done - before) / (now - begun)
        text = f"{rate:.{0 if rate >= _SMALL else 1}f}/s"
        if self._total is None:
            return text
        return f"{text}, {timedelta(seconds=round(max(0, self._total - done) / rate))} left"
