"""A client, as a program: it calls at a steady rate, and says what the calls came to."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor, stdio, task
from twisted.internet.defer import Deferred
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from crew_tx import Client
from tests.faults.load import Load

_POLL = 0.1


class Counts:
    """What calls came to; no more than numbers, so that memory stays what it is."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self.submitted = self.answered = self.wrong = 0
        self.reasons: Counter[str] = Counter()

    def add(self, call_id: str, called: Deferred[Any], expected: Any) -> None:
        """Follow a call to its end."""
        self.submitted += 1
        called.addBoth(self._ended, call_id, expected)

    @property
    def ended(self) -> int:
        """How many have an outcome."""
        return self.answered + self.reasons.total()

    def _ended(self, result: Any, call_id: str, expected: Any) -> None:
        if isinstance(result, Failure):
            self._say(f"failed {call_id} {result.type.__name__} {result.getErrorMessage()[:100]}")
            self.reasons[result.type.__name__] += 1
        else:
            self.answered += 1
            self.wrong += result != expected

    def text(self) -> str:
        """For another process."""
        numbers = {"submitted": self.submitted, "answered": self.answered, "wrong": self.wrong}
        return json.dumps({**numbers, "reasons": self.reasons})


class Orders(LineReceiver):
    """What it is told by its input: ``load``, ``rest`` and ``end``."""

    delimiter = b"\n"

    def __init__(self, client: Client) -> None:
        self._client = client
        self._counts = Counts(self._say)
        self._rounds = 0
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self._say("connected")

    def lineReceived(self, line: bytes) -> None:
        getattr(self, line.decode())()

    def load(self) -> None:
        """Begin to call."""
        rate = float(os.environ["CREW_TEST_RATE"])
        self._load = Load(self._client, self._counts, os.environ["CREW_TEST_TASK"], rate)
        self._load.start()

    def rest(self) -> None:
        """Call no more, and wait for all outcomes."""
        self._load.stop()
        self._wait()

    def _wait(self) -> None:
        status = self._client.status()
        if self._counts.ended < self._counts.submitted or not status.connected or status.unconfirmed:
            reactor.callLater(_POLL, self._wait)  # type: ignore[attr-defined]
        else:
            self._say(f"rests {self._counts.text()}")

    def end(self) -> None:
        """That of the program."""
        self.ended.callback(None)

    def _say(self, text: str) -> None:
        self.sendLine(text.encode())


async def main(reactor: Any) -> None:
    """Connect, and do as told."""
    client = Client(reactor, name="calling")
    await client.connect()
    orders = Orders(client)
    stdio.StandardIO(orders)
    await orders.ended
    await client.close()


if __name__ == "__main__":
    task.react(main)
