"""
Calls that may have ended the workers that had them before: they run alone.

A call that kills its worker comes back, and so does all that the worker held
with it: when a connection drops, a queue that counts counts one delivery for
each. Without this, innocent calls would reach the queue's delivery limit (20)
together with the guilty one. So what was delivered often enough before is a
suspect, and a worker runs its suspects one at a time, with nothing beside them,
before it starts anything new:

- Often enough is three times. RabbitMQ before 4.3 counts hand-backs as well: those
  for want of a thread end at two, so that busy workers make no suspects, and what
  a worker that was replaced had begun or not runs as all others do.
- Those that became suspects just now go first. While a guilty one runs alone, its
  worker holds what came ahead besides, and each death counts for these. Once they
  have seen three, they run before the guilty one, which has seen more.
- Among all others it is chance, another one on each worker. Those that were held
  together when it began stay together, so in a fixed order some would be behind
  the guilty one each time. As it is, each has its turn before that one with every
  second worker; with two guilty ones, with every third. The number of deliveries
  says nothing here: of two guilty ones, the later is the less delivered, and
  would always go before what the earlier has dragged along.
- The first one waits a moment for those that come with it. What comes back keeps
  its place in the queue: with the guilty one in front, and begun as it came, those
  behind it would have no turn.

So an innocent call is done a few deliveries after it was first held. In a hundred
runs of a model with a hundred calls, one of them guilty, the worst innocent one had
12; with two guilty ones it had 17 (the tests have the model).

Only a quorum queue counts. A classic queue says at most that a call was
delivered before, and after a restart of the broker it says so of all: that
proves nothing, and there is no limit to run into. Its calls are never suspects.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Generic, TypeVar

from crew_tx.topology import SUSPECT_FROM

T = TypeVar("T")

#: Seconds that the first one waits for others.
GATHER = 0.1


class Suspects(Generic[T]):
    """
    Those that one worker holds, in the order in which they are to be started.

    Pure: its owner says when one has begun and when it has ended.

    :param worker_id: what makes chance this worker's own.
    :ivar present: whether one waits or runs: nothing else may be started then.
    """

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id.encode()
        self._waiting: list[tuple[bool, bytes, T]] = []
        self._runs = False
        self.present = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def __iter__(self) -> Iterator[T]:
        """Those that wait, in no order that matters."""
        return (item for _, _, item in self._waiting)

    def push(self, deliveries: int, call_id: str, item: T) -> None:
        """Hold one."""
        # A checksum would not do: two workers' orders would be much alike.
        chance = blake2b(call_id.encode(), key=self._worker_id[-64:], digest_size=8).digest()
        self._waiting.append((deliveries > SUSPECT_FROM, chance, item))
        self._look()

    def begin(self) -> T:
        """
        Take the next one, which runs from now until :meth:`ended`.

        :raises IndexError: if none waits.
        """
        item = self._pop()
        self._runs = True
        self._look()
        return item

    def ended(self) -> None:
        """Nothing runs now; known or not."""
        self._runs = False
        self._look()

    def remove(self, item: T) -> bool:
        """
        Take one out that waits.

        :returns: whether it was there.
        """
        left = [entry for entry in self._waiting if entry[2] is not item]
        found = len(left) < len(self._waiting)
        self._waiting = left
        self._look()
        return found

    def drain(self) -> list[T]:
        """Take all that wait, in the order in which they would have been started."""
        items = [self._pop() for _ in range(len(self._waiting))]
        self._look()
        return items

    def _pop(self) -> T:
        if not self._waiting:
            raise IndexError("no suspect waits")
        first = min(self._waiting, key=lambda entry: entry[:2])
        self._waiting.remove(first)
        return first[2]

    def _look(self) -> None:
        self.present = self._runs or bool(self._waiting)
