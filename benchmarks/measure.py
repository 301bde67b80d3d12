"""What both clients measure, the same way."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from twisted.internet.defer import Deferred

MakeCall = Callable[[int], "Deferred[Any]"]

_WARM_UP = 500


async def measure(call: MakeCall, calls: int, window: int, single: int) -> None:
    """Measure, and print the result as JSON."""
    await in_flight(call, _WARM_UP, window)
    cpu, begun = time.process_time(), time.perf_counter()
    await in_flight(call, calls, window)
    rate = calls / (time.perf_counter() - begun)
    cpu = (time.process_time() - cpu) / calls
    latencies = []
    for number in range(single):
        begun = time.perf_counter()
        await call(number)
        latencies.append(time.perf_counter() - begun)
    json.dump({"rate": rate, "latency": median(latencies), "cpu": cpu}, sys.stdout)


def in_flight(call: MakeCall, calls: int, window: int) -> Deferred[None]:
    """Make calls, so many at a time; each answer must be the right one."""
    done: Deferred[None] = Deferred()
    state = {"begun": 0, "ended": 0}

    def begin() -> None:
        number = state["begun"]
        if number < calls:
            state["begun"] += 1
            call(number).addCallback(ended, number).addErrback(done.errback)

    def ended(answer: int, number: int) -> None:
        assert answer == number + 2, (answer, number)
        state["ended"] += 1
        if state["ended"] == calls:
            done.callback(None)
        else:
            begin()

    for _ in range(min(window, calls)):
        begin()
    return done
