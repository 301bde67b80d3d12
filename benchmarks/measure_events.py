"""What both contenders of events.py measure, the same way."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

#: Publishes that may be unconfirmed at a time.
WINDOW = 100
PREFETCH = 1_000


class Deliveries:
    """
    All deliveries of one process, from the first to the last.

    :ivar is_complete: whether every subscriber had every event.
    """

    def __init__(self, events: int, subscribers: int) -> None:
        self._events = events
        self._left = events * subscribers
        self._all = self._left
        self._next = [0] * subscribers
        self._begun = self._cpu = 0.0

    def had(self, subscriber: int, number: int) -> bool:
        """A subscriber had an event. :returns: whether that was the last delivery."""
        assert number == self._next[subscriber], (subscriber, number, self._next[subscriber])
        self._next[subscriber] += 1
        if self._left == self._all:
            self._begun, self._cpu = time.perf_counter(), time.process_time()
        self._left -= 1
        return self._left == 0

    def report(self) -> None:
        """Print the result as JSON, in one line."""
        seconds, cpu = time.perf_counter() - self._begun, time.process_time() - self._cpu
        result = {
            "rate": self._all / seconds,
            "cpu": cpu / self._all,
            "memory": _peak_memory(),
        }
        json.dump(result, sys.stdout)
        print(flush=True)


def _peak_memory() -> float:
    """MB; getrusage would count the parent's, from before this program began."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [peak] = [line for line in lines if line.startswith("VmHWM:")]
    return int(peak.split()[1]) / 1024
