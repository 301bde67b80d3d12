"""
What goes through a gateway, counted request by request and call by call.

Whatever clients send, there is a bound to what is told apart: routes and
methods are of a table, statuses are numbers, and a task has a name of its own
where it was exposed by that name, or was answered by a worker.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from crew_tx.errors import (
    ExpirationError,
    NoWorkersError,
    RemoteError,
    TaskCancelledError,
    TaskTimeoutError,
    UnknownTaskError,
    UnroutableError,
)

#: Methods, tasks and paths that are not told apart.
OTHER = "(other)"
#: The status of a request whose client went away before it was answered.
GONE = "(gone)"
MOST_TASKS = 200
#: Upper bounds, in seconds.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)

METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
#: By the first segment of the path.
_ROUTES = {
    "": "overview",
    "call": "call",
    "results": "results",
    "publish": "publish",
    "subscribe": "subscribe",
    "apply": "apply",
    "apply-async": "apply",
    "tasks": "tasks",
    "status": "status",
    "overview": "overview",
}
SITE, OTHERS = "site", "other"
#: Their clients wait for something to happen, as long as they like: how long that took says nothing.
_WAITING = ("overview", "results", "subscribe")

#: The first that fits counts.
_OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (RemoteError, "raised"),
    (TaskTimeoutError, "timeout"),
    (ExpirationError, "expired"),
    (CancelledError, "cancelled"),
    (TaskCancelledError, "cancelled"),
    (UnroutableError, "unknown-task"),
    (UnknownTaskError, "unknown-task"),
    (NoWorkersError, "no-worker"),
)
#: Of these a worker has heard.
_ANSWERED = ("ok", "raised", "timeout")


def route_of(path: str, is_site: bool) -> str:
    """
    What a part's requests count as.

    :param path: the first segment of its paths.
    :param is_site: whether it is a site of workers.
    """
    return SITE if is_site else _ROUTES.get(path, OTHERS)


class Route:
    """
    The requests of one route.

    :ivar in_progress: those that are not answered yet.
    :ivar answered: how many were, by method and status.
    :ivar buckets: how many took how long, by :data:`BUCKETS`; empty where that is not measured.
    :ivar seconds: what all these took.
    """

    def __init__(self, is_timed: bool) -> None:
        self.in_progress = 0
        self.answered: Counter[tuple[str, int | str]] = Counter()
        self.buckets = [0] * (len(BUCKETS) + 1) if is_timed else []
        self.seconds = 0.0

    def count(self, method: bytes, status: int | str) -> None:
        """One was answered."""
        self.answered[METHODS.get(method, OTHER), status] += 1

    def took(self, seconds: float) -> None:
        """So long, from when it had come until it was answered."""
        if self.buckets:
            self.buckets[bisect_left(BUCKETS, seconds)] += 1
            self.seconds += seconds


class Traffic:
    """
    Counts requests and calls.

    :param tasks: those that are exposed by their names.
    :ivar routes: by name.
    :ivar calls: how many calls ended, by task and outcome.
    """

    def __init__(self, tasks: Iterable[str] = ()) -> None:
        names = {*_ROUTES.values(), SITE, OTHERS}
        self.routes = {name: Route(name not in _WAITING) for name in sorted(names)}
        self.calls: Counter[tuple[str, str]] = Counter()
        self._tasks = set(list(tasks)[:MOST_TASKS])

    def ended(self, outcome: Any, task_id: str) -> Any:
        """A call has come to this, a value or a ``Failure``; it is given back."""
        word = "ok"
        if isinstance(outcome, Failure):
            error = outcome.value
            word = next((word for kind, word in _OUTCOMES if isinstance(error, kind)), "failed")
        self.calls[self._label(task_id, word), word] += 1
        return outcome

    def _label(self, task_id: str, word: str) -> str:
        if task_id in self._tasks:
            return task_id
        if word not in _ANSWERED or len(self._tasks) >= MOST_TASKS:
            return OTHER
        self._tasks.add(task_id)
        return task_id


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """
    A gateway at one moment.

    :ivar connections: HTTP connections that are open.
    :ivar results: answers that are kept, and calls whose answers will be.
    :ivar channels: channels that are subscribed to.
    :ivar listeners: clients that listen to them, by long polls and streams.
    :ivar traffic: what has gone through it, as it is counted.
    """

    connections: int
    results: int
    channels: int
    listeners: int
    traffic: Traffic
