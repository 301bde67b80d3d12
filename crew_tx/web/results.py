"""
Answers that are kept for clients who don't wait: ``/results/ID``.

Who has an id and the credential that the call was made with may ask for the
answer, again and again while it is kept, and cancel the call. Ids can't be
guessed, and to everybody else there is nothing of that name.
"""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from crew_tx.codec import Encoded
from crew_tx.errors import CrewError
from crew_tx.message import Reply
from crew_tx.web.answers import accepted, answered, preferences, reply_headers
from crew_tx.web.bodies import CBOR, JSON, Bodies, choose
from crew_tx.web.limits import Limits
from crew_tx.web.problems import MISTAKE, RETRY_AFTER, Problem, ProblemError, no_such, problem_of
from crew_tx.web.responses import Endpoint, Response, header, name_in, problem_response, query

_ID_BYTES = 24


class Kept:
    """
    A call whose answer is kept.

    :ivar id: what it is asked for by.
    :ivar owner: whose credential it was made with; empty where nobody has to say.
    :ivar is_pending: whether it goes on still.
    :ivar problem: what it is answered with, if it failed.
    :ivar call: fires when it has ended; None after that.
    :ivar until: when it is kept no longer, by the clock.
    """

    def __init__(self, owner: str) -> None:
        self.id = secrets.token_urlsafe(_ID_BYTES)
        self.owner = owner
        self.is_pending = True
        self.problem: Problem | None = None
        self.call: Deferred[Any] | None = None
        self.until = 0.0
        self._encoded: Encoded | None = None
        self._headers: tuple[tuple[str, str], ...] = ()
        self._waiting: list[Deferred[None]] = []

    @property
    def size(self) -> int:
        """Bytes that are kept, which a task's error and headers have as well."""
        if self.problem is not None:
            return len(self.problem.body)
        body = 0 if self._encoded is None else len(self._encoded.body)
        return body + sum(len(name) + len(value) for name, value in self._headers)

    def wait(self, clock: IReactorTime, seconds: float) -> Deferred[None]:
        """A Deferred that fires when it has ended, or after so many seconds."""
        if not self.is_pending:
            return succeed(None)
        waiting: Deferred[None] = Deferred(lambda it: self._waiting.remove(it))
        self._waiting.append(waiting)
        waiting.addTimeout(seconds, clock, lambda result, _: None)
        return waiting

    async def value(self, bodies: Bodies) -> Any:
        """What the task returned, where it has."""
        assert self._encoded is not None
        return await bodies.decode(self._encoded.body, self._encoded.content_type)

    async def response(self, bodies: Bodies, content_types: tuple[str, ...]) -> Response:
        """What it came to."""
        if self.problem is not None:
            return problem_response(self.problem)
        return await answered(bodies, await self.value(bodies), self._headers, content_types)

    def succeeded(self, encoded: Encoded, headers: tuple[tuple[str, str], ...]) -> None:
        """The task has returned."""
        self._encoded, self._headers = encoded, headers

    def ended(self) -> None:
        """It has an outcome, or is forgotten: tell those who wait."""
        self.call = None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)


class Results:
    """
    Keeps answers, so many and for so long.

    Where there is no room for one more, the oldest of those that are there goes.

    :param bodies: writes the answers down.
    :param show_tracebacks: whether a task's traceback is kept.
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, bodies: Bodies, limits: Limits, *, show_tracebacks: bool = False
    ) -> None:
        self.clock = clock
        self._bodies = bodies
        self._limits = limits
        self._show_tracebacks = show_tracebacks
        self._kept: dict[str, Kept] = {}
        #: Those that have ended, the oldest first.
        self._ended: deque[Kept] = deque()
        self._pending: Counter[str] = Counter()
        self._bytes = 0
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def begin(self, owner: str, call: Callable[[], Deferred[Reply]]) -> Kept:
        """
        Make a call, and keep what comes of it.

        :param owner: the name of who asks.
        :param call: makes it.
        :raises ProblemError: 429 or 503, if there is no room; no call is made then.
        """
        self._make_room(owner)
        kept = Kept(owner)
        self._kept[kept.id] = kept
        self._pending[owner] += 1
        kept.call = Deferred.fromCoroutine(self._outcome(kept, call()))
        kept.call.addErrback(self._failed, kept).addBoth(lambda _: self._ended_now(kept))
        return kept

    def find(self, owner: str, result_id: str) -> Kept:
        """
        The answer with this id, if it is this owner's.

        :raises ProblemError: 404.
        """
        kept = self._kept.get(result_id)
        if kept is None or kept.owner != owner:
            raise no_such("result")
        return kept

    def forget(self, kept: Kept) -> None:
        """Keep it no longer; the call is cancelled where it goes on still."""
        if self._kept.pop(kept.id, None) is None:
            return
        if kept.call is not None and kept.is_pending:
            kept.call.cancel()
            return
        self._ended.remove(kept)
        self._bytes -= kept.size

    def stop(self) -> None:
        """Forget all."""
        for kept in list(self._kept.values()):
            self.forget(kept)
        self._schedule()

    async def _outcome(self, kept: Kept, call: Deferred[Reply]) -> None:
        reply = await call
        encoded = await self._bodies.encode(reply.value, (CBOR,))
        kept.succeeded(encoded, reply_headers(reply.headers, reply.elapsed))

    def _failed(self, failure: Failure, kept: Kept) -> None:
        error = failure.value
        if isinstance(error, ProblemError):
            kept.problem = error.problem
        elif isinstance(error, CrewError):
            kept.problem = problem_of(error, show_tracebacks=self._show_tracebacks)
        elif isinstance(error, CancelledError):
            # It was forgotten: so it is for those who wait for it.
            kept.problem = no_such("result").problem
        else:
            kept.problem = MISTAKE
            self.log.failure("a mistake while an answer was kept", failure=failure)

    def _ended_now(self, kept: Kept) -> None:
        self._pending[kept.owner] -= 1
        if not self._pending[kept.owner]:
            del self._pending[kept.owner]
        kept.until = self.clock.seconds() + self._limits.keep
        kept.is_pending = False
        if kept.id in self._kept:
            self._file(kept)
        # Last: who waited may forget it at once.
        kept.ended()

    def _file(self, kept: Kept) -> None:
        self._ended.append(kept)
        self._bytes += kept.size
        while self._bytes > self._limits.max_result_bytes and len(self._ended) > 1:
            self.forget(self._ended[0])
        self._schedule()

    def _make_room(self, owner: str) -> None:
        if self._pending[owner] >= self._limits.max_client_requests:
            raise ProblemError(
                429, f"{self._pending[owner]} calls of yours are pending already", retry_after=RETRY_AFTER
            )
        if len(self._kept) >= self._limits.max_results:
            if not self._ended:
                raise ProblemError(503, "no more answers can be kept just now", retry_after=RETRY_AFTER)
            self.forget(self._ended[0])

    def _schedule(self) -> None:
        """Wake when the oldest one's time is over."""
        if self._timer is not None and not self._ended:
            self._timer.cancel()
            self._timer = None
        elif self._timer is None and self._ended:
            delay = max(0.0, self._ended[0].until - self.clock.seconds())
            self._timer = self.clock.callLater(delay, self._expire)

    def _expire(self) -> None:
        self._timer = None
        while self._ended and self._ended[0].until <= self.clock.seconds():
            self.forget(self._ended[0])
        self._schedule()


class ResultEndpoint(Endpoint):
    """Serves ``/results/ID``."""

    def __init__(self, results: Results, bodies: Bodies, longest_wait: float) -> None:
        super().__init__({b"GET": self._get, b"DELETE": self._delete})
        self._results = results
        self._bodies = bodies
        self._longest_wait = longest_wait

    async def _get(self, request: Any) -> Response:
        query(request)
        kept = self._find(request)
        content_types = choose(header(request, "Accept"), JSON)
        prefers = preferences(header(request, "Prefer"))
        if prefers.wait:
            await kept.wait(self._results.clock, min(prefers.wait, self._longest_wait))
        return accepted(kept.id) if kept.is_pending else await kept.response(self._bodies, content_types)

    async def _delete(self, request: Any) -> Response:
        query(request)
        self._results.forget(self._find(request))
        return Response(204)

    def _find(self, request: Any) -> Kept:
        return self._results.find(request.principal.name, name_in(request, "result"))
