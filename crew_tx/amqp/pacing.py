"""
When to connect anew, so that a thousand clients of one broker don't do so at once.

They lose it in the same instant, and what a broker can't bear is all of them
logging in and declaring in the next. So the first wait after a loss is a random
part of two seconds: 50 of 1,000 clients in 100 ms. Attempts that fail before
that cost a broker little; they wait up to 0.5 s, then twice as long each time
up to 5 s, and always a random part of it. Who was refused by each broker, and
goes on all the same, waits for somebody to change something: up to 10 s.
"""

from __future__ import annotations

import random
from collections.abc import Callable

SHORTEST_WAIT = 0.5
LONGEST_WAIT = 5.0
AFTER_LOSS = 2.0
AFTER_REFUSAL = 10.0

RandomNumber = Callable[[], float]


def backoff(attempt: int, random_number: RandomNumber = random.random) -> float:
    """Seconds to wait after that many failed attempts: up to 0.5 s, doubling up to 5 s, with full jitter."""
    longest: float = min(LONGEST_WAIT, SHORTEST_WAIT * 2 ** min(attempt - 1, 10))
    return longest * random_number()


def wait_before(attempt: int, *, is_loss: bool, is_refused: bool, random_number: RandomNumber) -> float:
    """
    Seconds to wait before connecting anew.

    :param attempt: attempts that failed since there was a connection, and one
        for its loss; 1 or more.
    :param is_loss: whether a ready connection was lost, and none was tried since.
    :param is_refused: whether all brokers refuse.
    """
    if is_refused:
        return AFTER_REFUSAL * random_number()
    return AFTER_LOSS * random_number() if is_loss else backoff(attempt, random_number)
