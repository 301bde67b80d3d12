"""Work for threads, which a test does when it likes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred


class Threads:
    """
    Takes functions, in place of a pool's threads.

    :ivar waiting: what is to be done.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        self.waiting.append((Deferred(), lambda: function(*arguments)))
        return self.waiting[-1][0]

    def run(self) -> None:
        """Do what waits longest; it is an error if nothing does."""
        deferred, function = self.waiting.pop(0)
        try:
            value = function()
        except Exception:
            deferred.errback()
        else:
            deferred.callback(value)
