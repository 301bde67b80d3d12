"""
``POST /call/TASK``.

It waits for the answer, and who goes away cancels the call. With ``Prefer:
respond-async`` the answer is kept instead, and the client is told where.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred

from crew_tx.client import Client
from crew_tx.message import Reply
from crew_tx.web.access import Exposed, Principal
from crew_tx.web.answers import NUMBER, Preferences, accepted, answered, preferences, reply_headers
from crew_tx.web.bodies import JSON, Bodies, check_content_type, choose, media_type
from crew_tx.web.depths import Depths
from crew_tx.web.limits import Limits
from crew_tx.web.problems import RETRY_AFTER, ProblemError, no_such
from crew_tx.web.responses import Endpoint, Response, header, name_in, query
from crew_tx.web.results import Kept, Results
from crew_tx.web.traffic import Traffic

SHORTEST = 0.001


class Calls:
    """
    Makes calls for HTTP requests.

    :ivar bodies: reads and writes bodies.
    :ivar results: where answers are kept.
    :ivar traffic: counts calls; None where nobody asks for that.
    """

    traffic: Traffic | None = None

    def __init__(
        self,
        client: Client,
        exposed: Exposed,
        depths: Depths,
        bodies: Bodies,
        results: Results,
        limits: Limits,
    ) -> None:
        self.bodies = bodies
        self.results = results
        self._limits = limits
        self._client = client
        self._exposed = exposed
        self._depths = depths

    def check_task(self, task_id: str) -> str:
        """:raises ProblemError: 404, if it may not be called."""
        if not self._exposed.has_task(task_id):
            raise no_such("task")
        return task_id

    async def check_queue(self, task_id: str) -> bool:
        """
        Look whether there is room in a task's queue.

        :returns: whether nobody consumes from it, as far as is known.
        :raises ProblemError: 429, if there is none.
        """
        looked = self._depths.of_task(task_id)
        depth = await looked if isinstance(looked, Deferred) else looked
        if depth is None:
            return False
        if 0 < self._limits.max_queue <= depth.messages:
            raise ProblemError(
                429, f"{depth.messages} calls wait in the task's queue already", retry_after=RETRY_AFTER
            )
        return depth.consumers == 0

    def request(self, task_id: str, data: Any, options: Mapping[str, Any]) -> Deferred[Reply]:
        """Call a task."""
        called = self._client.request(task_id, data, **options)
        return called if self.traffic is None else called.addBoth(self.traffic.ended, task_id)

    def keep(self, principal: Principal, task_id: str, data: Any, options: Mapping[str, Any]) -> Kept:
        """
        Call a task, and keep what comes of it.

        :raises ProblemError: 429 or 503, if there is no room for it.
        """
        return self.results.begin(principal.name, lambda: self.request(task_id, data, options))

    def bounded(self, seconds: float) -> float:
        """No longer than anybody waits here."""
        return min(seconds, self._limits.max_wait)

    def options(self, given: Mapping[str, str]) -> dict[str, Any]:
        """
        The options of a call, bounded.

        :param given: the texts of ``priority``, ``expiration`` and ``timeout``.
        :raises ProblemError: 400, naming the one that is wrong.
        """
        return {
            "priority": int(_number("priority", given["priority"], 0, 255)) if "priority" in given else 0,
            "expiration": self._seconds("expiration", given),
            "timeout": self._seconds("timeout", given),
        }

    def _seconds(self, name: str, given: Mapping[str, str]) -> float:
        longest = self._limits.max_wait
        return _number(name, given[name], SHORTEST, longest) if name in given else longest


class CallEndpoint(Endpoint):
    """Serves ``/call/TASK``."""

    def __init__(self, calls: Calls, *, show_tracebacks: bool = False) -> None:
        super().__init__({b"POST": self._post}, show_tracebacks=show_tracebacks)
        self._calls = calls

    async def _post(self, request: Any) -> Response:
        calls = self._calls
        task_id = calls.check_task(name_in(request, "task"))
        options = calls.options(query(request, "priority", "expiration", "timeout"))
        kind = body_type(request)
        content_types = choose(header(request, "Accept"), kind)
        prefers = preferences(header(request, "Prefer"))
        data = await read_body(request, calls.bodies, kind)
        nobody_consumes = await calls.check_queue(task_id)
        if prefers.is_async:
            kept = calls.keep(request.principal, task_id, data, options)
            return await self._later(kept, prefers, content_types)
        # All threads of all workers may be busy, and then they don't consume: so somebody is asked.
        options["require_worker"] = nobody_consumes
        reply = await calls.request(task_id, data, shortened(options, prefers.wait))
        headers = reply_headers(reply.headers, reply.elapsed)
        return await answered(calls.bodies, reply.value, headers, content_types, prefers)

    async def _later(self, kept: Kept, prefers: Preferences, content_types: tuple[str, ...]) -> Response:
        is_told_where = False
        try:
            if prefers.wait:
                await kept.wait(self._calls.results.clock, self._calls.bounded(prefers.wait))
            if not kept.is_pending:
                return await kept.response(self._calls.bodies, content_types)
            is_told_where = True
            return accepted(kept.id, prefers)
        finally:
            # Else nobody could ask for it, nor cancel it.
            if not is_told_where:
                self._calls.results.forget(kept)


def body_type(request: Any) -> str:
    """
    The content type of a request's body.

    :raises ProblemError: 415.
    """
    content_type = header(request, "Content-Type")
    if request.principal.is_deliberate and not media_type(content_type):
        # No browser brought this by itself.
        return JSON
    return check_content_type(content_type)


async def read_body(request: Any, bodies: Bodies, content_type: str) -> Any:
    """
    The value of a request's body; None for an empty one.

    :raises ProblemError: 422, if it can't be read.
    """
    body: bytes = request.content.read()
    return await bodies.decode(body, content_type) if body else None


def shortened(options: Mapping[str, Any], wait: float | None) -> Mapping[str, Any]:
    """The options of a call that is waited for no longer than so many seconds."""
    if wait is None:
        return options
    most = max(wait, SHORTEST)
    return {**options, **{name: min(options[name], most) for name in ("expiration", "timeout")}}


def _number(name: str, text: str, least: float, most: float) -> float:
    value = float(text) if NUMBER.fullmatch(text) else -1.0
    if not least <= value <= most or (not least and value % 1):
        kind = "a number of seconds" if least else "a whole number"
        raise ProblemError(400, f"{name} is {kind} from {least:g} to {most:g}")
    return value
