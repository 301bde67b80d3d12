"""How much a gateway takes on: numbers, and the requests that are under way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from crew_tx.web.problems import RETRY_AFTER, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    The limits of a gateway.

    :ivar max_body: bytes of a request's body, and of a response's.
    :ivar max_wait: seconds that a call may wait for a worker, and as many that
        it may run; also what a client may wait for an event.
    :ivar max_connections: HTTP connections.
    :ivar max_requests: requests under way.
    :ivar max_client_requests: those of one credential, or of one address where there is none.
    :ivar max_queue: calls in a task's queue past which there come no more from here; 0 for none.
    :ivar read_timeout: seconds in which a request has to come, body and all.
    :ivar max_results: results that are kept.
    :ivar max_result_bytes: bytes that these have.
    :ivar keep: seconds that a result is kept.
    :ivar max_channels: channels that are subscribed to at a time.
    :ivar max_events: events that are kept of a channel, for those who ask again.
    :ivar max_event_bytes: bytes that the kept events of a channel have.
    :ivar slow_reader: seconds for which a reader of events may read nothing.
    """

    max_body: int = 16 * 1024 * 1024
    max_wait: float = 60.0
    max_connections: int = 4000
    max_requests: int = 2000
    max_client_requests: int = 500
    max_queue: int = 10_000
    read_timeout: float = 60.0
    max_results: int = 10_000
    max_result_bytes: int = 256 * 1024 * 1024
    keep: float = 3600.0
    max_channels: int = 100
    max_events: int = 1000
    max_event_bytes: int = 4 * 1024 * 1024
    slow_reader: float = 30.0


DEFAULT_LIMITS = Limits()


class Admission:
    """
    Counts the requests under way, and says when there are too many.

    :ivar on_idle: called when the last of them has ended.
    """

    def __init__(self, most: int, most_of_client: int) -> None:
        self._most = most
        self._most_of_client = most_of_client
        self._clients: Counter[str] = Counter()
        self._total = 0
        self.on_idle: Callable[[], object] = lambda: None

    @property
    def total(self) -> int:
        """How many are under way."""
        return self._total

    def enter(self, client: str) -> Problem | None:
        """
        Count one more; where that is too many, it is not counted, and the problem is returned.

        :param client: whose it is.
        """
        if self._total >= self._most:
            return Problem(503, "the gateway has enough to do just now", retry_after=RETRY_AFTER)
        if self._clients[client] >= self._most_of_client:
            return Problem(
                429,
                f"{self._most_of_client} requests of yours are under way; wait for one of them",
                retry_after=RETRY_AFTER,
            )
        self._total += 1
        self._clients[client] += 1
        return None

    def leave(self, client: str) -> None:
        """One that was counted has ended."""
        self._total -= 1
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]
        if not self._total:
            self.on_idle()
