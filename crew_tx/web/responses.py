"""An answer to an HTTP request, and resources that make one as coroutines."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from crew_tx.errors import CrewError, RemoteError
from crew_tx.topology import check_task_id
from crew_tx.web.problems import MISTAKE, Problem, ProblemError, no_such, problem_of

_log = Logger()

JSON = "application/json"
_SERVER_ERROR = 500


class Response(NamedTuple):
    """
    An answer.

    :ivar headers: names and values, the content type among them.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Any], Coroutine[Any, Any, "Response | None"]]


class Endpoint(Resource):
    """
    What is served under one path.

    :param show_tracebacks: whether documents about a task's error have its traceback.
    :ivar handlers: by the request's method, coroutine functions that take the
        request. One that has answered by itself returns None.
    """

    isLeaf = True

    def __init__(self, handlers: dict[bytes, Handler], *, show_tracebacks: bool = False) -> None:
        super().__init__()
        self.handlers = handlers
        self._show_tracebacks = show_tracebacks

    def render(self, request: Any) -> int:
        """Answer, now or later. A client that goes away cancels."""
        handler = self.handlers.get(request.method)
        if handler is None:
            send_problem(request, method_not_allowed(self.handlers))
            return NOT_DONE_YET
        answering: Deferred[Any] = Deferred()
        gone: list[bool] = []

        def client_is_gone(_: Failure) -> None:
            gone.append(True)
            answering.cancel()

        # First of all: what the handler asks to be told of comes after it.
        request.notifyFinish().addErrback(client_is_gone)
        answering = Deferred.fromCoroutine(handler(request))
        answering.addBoth(self._answer, request, gone)
        return NOT_DONE_YET

    def _answer(self, outcome: Response | Failure | None, request: Any, gone: list[bool]) -> None:
        try:
            response = self._failed(outcome, gone) if isinstance(outcome, Failure) else outcome
            if response is not None and not gone:
                send(request, response)
        except Exception:
            if not gone:
                request.processingFailed(Failure())

    def _failed(self, failure: Failure, gone: list[bool]) -> Response | None:
        if gone and failure.check(CancelledError, CrewError, ProblemError):
            # Nobody is there to be told.
            return None
        return failed_response(failure, self._show_tracebacks)


def failed_response(failure: Failure, show_tracebacks: bool = False) -> Response:
    """What a failure is over HTTP; a mistake of ours is logged."""
    error = failure.value
    if isinstance(error, ProblemError):
        return problem_response(error.problem)
    if isinstance(error, CrewError):
        problem = problem_of(error, show_tracebacks=show_tracebacks)
        if problem.status >= _SERVER_ERROR and not isinstance(error, RemoteError):
            _log.info("answered {status}: {error}", status=problem.status, error=str(error))
        return problem_response(problem)
    _log.failure("a mistake while a request was answered", failure=failure)
    return problem_response(MISTAKE)


def send(request: Any, response: Response) -> None:
    """Answer a request, all at once."""
    # twisted.web has no words for some.
    request.setResponseCode(response.status, HTTPStatus(response.status).phrase.encode())
    for name, value in response.headers:
        request.setHeader(name.encode(), value.encode())
    if response.status != 204:
        request.setHeader(b"Content-Length", b"%d" % len(response.body))
        request.write(response.body)
    request.finish()


def send_problem(request: Any, problem: Problem) -> None:
    """Answer a request with what is wrong."""
    send(request, problem_response(problem))


def problem_response(problem: Problem) -> Response:
    """The answer that says what is wrong."""
    return Response(problem.status, problem.body, problem.all_headers)


def method_not_allowed(handlers: dict[bytes, Handler]) -> Problem:
    """It says which methods there are, too."""
    allowed = ", ".join(sorted(method.decode() for method in handlers))
    return Problem(405, f"this takes {allowed}", headers=(("Allow", allowed),))


def name_in(request: Any, kind: str, *, slash: bool = False) -> str:
    """
    The one name that the rest of the path is.

    Slashes in it are written ``%2F``; nothing in it has a meaning of its own.

    :param kind: what it names, for people.
    :param slash: whether one slash may follow it.
    :raises ProblemError: 404, if there is more or less of it, or it can't be a name.
    """
    segments = list(request.postpath)
    if slash and len(segments) == 2 and not segments[1]:
        del segments[1]
    try:
        (segment,) = segments
        name: str = segment.decode()
        check_task_id(name)
    except ValueError:
        # Of the unpacking, of the decoding, and InvalidArgumentError, which is one.
        raise no_such(kind) from None
    return name


def query(request: Any, *known: str) -> dict[str, str]:
    """
    The parameters behind the question mark.

    :raises ProblemError: 400, for one that isn't known, or is there twice.
    """
    found: dict[str, str] = {}
    for name, values in query_of(request).items():
        if name not in known or len(values) != 1:
            raise ProblemError(
                400,
                f"the parameters here are {', '.join(known)}, each once at most"
                if known
                else "no parameters here",
            )
        found[name] = values[0]
    return found


def query_of(request: Any) -> dict[str, list[str]]:
    """
    All parameters of the query alone: ``request.args`` has those of a form, too.

    :raises ProblemError: 400, if there are too many, or they are no UTF-8.
    """
    text = request.uri.partition(b"?")[2]
    if not text:
        return {}
    try:
        return parse_qs(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError:
        raise ProblemError(400, "the query can't be read") from None


def header(request: Any, name: str) -> str | None:
    """A header of the request; several of one name are joined, as HTTP has it."""
    values = request.requestHeaders.getRawHeaders(name.encode())
    return None if not values else ", ".join(value.decode("latin-1") for value in values)
