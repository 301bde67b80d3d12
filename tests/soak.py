"""Long forms of random tests: the modules named ``soak_*``, which ``scripts/test --soak`` runs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from itertools import count
from random import SystemRandom

#: How many minutes each long form takes.
MINUTES_VARIABLE = "CREW_TEST_SOAK"
_DEFAULT_MINUTES = "10"
_REPORT_SECONDS = 30.0


def minutes() -> float:
    """How long a long form goes on."""
    return float(os.environ.get(MINUTES_VARIABLE, _DEFAULT_MINUTES))


def seeds(name: str) -> Iterator[int]:
    """
    Seeds, from one that nobody has chosen on, until the time is over.

    What was done is printed now and then, with the seed, by which a failure can be had again.
    """
    first = SystemRandom().randrange(2**32)
    begun = time.monotonic()
    end = begun + minutes() * 60
    reported = begun
    for number in count():
        now = time.monotonic()
        if now - reported > _REPORT_SECONDS or now >= end:
            reported = now
            say(f"{name}: {number} rounds in {now - begun:.0f} s, from the seed {first}")
        if now >= end:
            return
        yield first + number


def say(text: str) -> None:
    """A line of its own, between trial's."""
    print(f"\n{text}", file=sys.stderr, flush=True)
