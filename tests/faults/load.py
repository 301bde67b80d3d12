"""Calls at a steady rate."""

from __future__ import annotations

import time
from typing import Any, Protocol
from uuid import uuid4

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from crew_tx import Client

#: Seconds that a call may wait in its queue.
EXPIRATION = 120.0
#: Seconds that a call may run.
TIMEOUT = 30.0
_EVERY = 0.02


class Following(Protocol):
    """An account."""

    def add(self, call_id: str, called: Deferred[Any], expected: Any) -> None:
        """Follow a call to its end."""


class Load:
    """
    Calls at a steady rate, each followed in an account.

    :param rate: calls a second.
    """

    def __init__(self, client: Client, account: Following, task_id: str, rate: float) -> None:
        self._client = client
        self._account = account
        self._task_id = task_id
        self._rate = rate
        self._begun = 0.0
        self._number = 0
        # Workers remember what they have answered: no two loads of a client have one id.
        self._unique = uuid4().hex[:8]
        self._loop = LoopingCall(self._more)

    def start(self, total: int | None = None) -> Deferred[Any]:
        """
        Begin.

        :param total: calls to make; None to make them until :meth:`stop`.
        :returns: a Deferred that fires when the last call is made.
        """
        self._total = total
        self._begun = time.monotonic()
        return self._loop.start(_EVERY)

    def is_on(self) -> bool:
        """Whether there is more to come."""
        return self._loop.running

    def stop(self) -> None:
        """Make no more."""
        if self._loop.running:
            self._loop.stop()

    def _more(self) -> None:
        due = int((time.monotonic() - self._begun) * self._rate) + 1
        if self._total is not None and due >= self._total:
            due = self._total
            self._loop.stop()
        while self._number < due:
            self._number += 1
            self._call(self._number)

    def _call(self, number: int) -> None:
        call_id = f"{self._unique}-{number}"
        called = self._client.call(
            self._task_id, number, call_id=call_id, expiration=EXPIRATION, timeout=TIMEOUT
        )
        self._account.add(call_id, called, number)
