"""
The paths of tornado-celery's web server, for clients that were written for it.

What they send and get is as its README documents it: arguments under ``args``
and ``kwargs``, states in Celery's words. A task takes one request here: it is
given the one argument, or the map of keywords, or the list of several.
"""

from __future__ import annotations

from typing import Any

from twisted.web.resource import Resource

from crew_tx.errors import (
    ExpirationError,
    RemoteError,
    TaskCancelledError,
    TaskTimeoutError,
)
from crew_tx.web.access import Exposed
from crew_tx.web.bodies import JSON, check_content_type, choose
from crew_tx.web.calls import Calls
from crew_tx.web.problems import ProblemError, no_such
from crew_tx.web.responses import Endpoint, Response, header, name_in, problem_response, query
from crew_tx.web.results import Kept

HTML = "text/html"
_PENDING, _SUCCESS, _FAILURE, _REVOKED = "PENDING", "SUCCESS", "FAILURE", "REVOKED"
_NAMES = {"timeout": "timeout", "expires": "expiration", "priority": "priority"}
_OPTIONS = ("args", "kwargs", *_NAMES)
#: Celery's word for a task that was taken back; what else went wrong is a failure, or the gateway's to tell.
_REVOKED_BY = (TaskTimeoutError.__name__, ExpirationError.__name__, TaskCancelledError.__name__)


class ApplyEndpoint(Endpoint):
    """
    Serves ``/apply/TASK/`` and ``/apply-async/TASK/``.

    :param waits: whether the answer is waited for.
    """

    def __init__(self, calls: Calls, *, waits: bool) -> None:
        super().__init__({b"POST": self._post})
        self._calls = calls
        self._waits = waits

    async def _post(self, request: Any) -> Response:
        calls = self._calls
        query(request)
        task_id = calls.check_task(name_in(request, "task", slash=True))
        _check_type(request)
        choose(header(request, "Accept"), JSON, (JSON,))
        data, options = await self._arguments(request)
        nobody_consumes = await calls.check_queue(task_id)
        # What is asked for later may wait for a worker that starts later.
        options["require_worker"] = nobody_consumes and self._waits
        kept = calls.keep(request.principal, task_id, data, options)
        if not self._waits:
            return await _state(calls, kept)
        try:
            await kept.wait(calls.results.clock, options["expiration"] + options["timeout"] + 5)
            return await _state(calls, kept)
        finally:
            # Also where the client has gone away: then it is cancelled.
            calls.results.forget(kept)

    async def _arguments(self, request: Any) -> tuple[Any, dict[str, Any]]:
        body = request.content.read()
        given = await self._calls.bodies.decode(body, JSON) if body else {}
        if not isinstance(given, dict):
            raise ProblemError(422, 'the body is a map, as {"args": [1, 2]}')
        unknown = [name for name in given if name not in _OPTIONS]
        if unknown:
            raise ProblemError(422, f"the body has {', '.join(_OPTIONS)}, and nothing else")
        data = _request_of(given.get("args", []), given.get("kwargs", {}))
        return data, self._calls.options(_texts_of(given))


class TasksEndpoint(Endpoint):
    """Serves ``/tasks/result/ID/`` and ``/tasks/revoke/ID/``."""

    def __init__(self, calls: Calls) -> None:
        super().__init__({b"GET": self._get, b"DELETE": self._delete, b"POST": self._post})
        self._calls = calls

    async def _get(self, request: Any) -> Response:
        return await _state(self._calls, self._find(request, b"result"))

    async def _delete(self, request: Any) -> Response:
        kept = self._find(request, b"revoke")
        self._calls.results.forget(kept)
        return await _json(self._calls, {"task-id": kept.id})

    async def _post(self, request: Any) -> Response:
        _check_type(request)
        return await self._delete(request)

    def _find(self, request: Any, verb: bytes) -> Kept:
        query(request)
        if not request.postpath or request.postpath[0] != verb:
            raise no_such("path")
        del request.postpath[0]
        return self._calls.results.find(request.principal.name, name_in(request, "task", slash=True))


class Front(Resource):
    """
    Serves ``/``: the names of the tasks as JSON, and a page for browsers where there is one.

    :param page: for clients that rather have HTML.
    """

    isLeaf = True

    def __init__(self, calls: Calls, exposed: Exposed, page: Any = None) -> None:
        super().__init__()
        self.page = page
        self._calls = calls
        self._exposed = exposed
        self._names = Endpoint({b"GET": self._get})

    def render(self, request: Any) -> Any:
        """By the method and the header ``Accept``."""
        if self.page is not None and request.method in (b"GET", b"HEAD") and _wants_html(request):
            return self.page.render(request)
        return self._names.render(request)

    async def _get(self, request: Any) -> Response:
        query(request)
        choose(header(request, "Accept"), JSON, (JSON,))
        return await _json(self._calls, {"tasks": list(self._exposed.named_tasks)})


def state_of(kept: Kept) -> str:
    """Celery's word for what became of a call."""
    if kept.is_pending:
        return _PENDING
    if kept.problem is None:
        return _SUCCESS
    return _REVOKED if kept.problem.error in _REVOKED_BY else _FAILURE


async def _state(calls: Calls, kept: Kept) -> Response:
    state = state_of(kept)
    answer: dict[str, Any] = {"task-id": kept.id, "state": state}
    if state == _SUCCESS:
        answer["result"] = await kept.value(calls.bodies)
    elif kept.problem is not None and state == _FAILURE:
        if kept.problem.error != RemoteError.__name__:
            # Not the task's failure: there is none, nobody to run it, no broker.
            return problem_response(kept.problem)
        answer["result"] = f"{kept.problem.members['exception']}: {kept.problem.detail}"
        answer.update({name: text for name, text in kept.problem.members.items() if name == "traceback"})
    return await _json(calls, answer)


async def _json(calls: Calls, value: Any) -> Response:
    encoded = await calls.bodies.encode(value, (JSON,))
    return Response(200, encoded.body, (("Content-Type", JSON),))


def _check_type(request: Any) -> None:
    """
    Its clients send JSON under the name of a form, as curl does.

    A page of another site can do that as well: so it needs a token, which a page does not have.

    :raises ProblemError: 415.
    """
    if not request.principal.is_deliberate and check_content_type(header(request, "Content-Type")) != JSON:
        raise ProblemError(415, f"the body is {JSON}, and the header Content-Type says so")


def _texts_of(given: dict[str, Any]) -> dict[str, str]:
    """The options of a call, as a query would have them."""
    texts = {}
    for name, option in _NAMES.items():
        value = given.get(name)
        if value is None:
            continue
        if not isinstance(value, (int, float, str)):
            raise ProblemError(422, f"{name} is a number")
        texts[option] = str(value)
    return texts


def _request_of(args: Any, kwargs: Any) -> Any:
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise ProblemError(422, "args is a list, and kwargs is a map")
    if args and kwargs:
        raise ProblemError(422, "a task takes one request here: give args or kwargs, and not both")
    if kwargs:
        return kwargs
    return args[0] if len(args) == 1 else args or None


def _wants_html(request: Any) -> bool:
    try:
        return choose(header(request, "Accept"), JSON, (JSON, HTML))[0] == HTML
    except ProblemError:
        return False
