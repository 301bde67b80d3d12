"""
A web site whose WSGI application runs in workers: the gateway's side.

A request goes whole into the site's queue, and its response comes back whole.
What is said of a connection stays with it. A request that changes nothing is
not kept over a restart of the broker, and is made once more where the
connection to it was lost; any other is made once, and persists.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from crew_tx.errors import (
    ConnectionLostError,
    CrewError,
    NoWorkersError,
    RemoteError,
    UnknownTaskError,
    UnroutableError,
)
from crew_tx.message import Reply
from crew_tx.web.calls import Calls
from crew_tx.web.exchange import (
    Fields,
    HTTPRequest,
    HTTPResponse,
    end_to_end,
    is_method,
    request_map,
    response_from,
    unambiguous,
)
from crew_tx.web.problems import RETRY_AFTER, Problem, ProblemError, problem_of
from crew_tx.web.responses import send_problem
from crew_tx.web.wsgi import site_task_id

#: Methods that change nothing (RFC 9110, section 9.2.1).
SAFE = ("GET", "HEAD", "OPTIONS")
_NO_BODY = (204, 304)
_TOO_LARGE = "crew_tx.errors.MessageTooLargeError"

_log = Logger()


class SiteResource(Resource):
    """
    Every path of a site.

    :param site: its name, as workers have it by ``--as``.
    :param max_wait: seconds that a request waits for a worker, and as many that it runs.
    :raises InvalidArgumentError: if the name is none.
    """

    isLeaf = True

    def __init__(self, calls: Calls, site: str, max_wait: float) -> None:
        super().__init__()
        self._calls = calls
        self._task_id = site_task_id(site)
        self._max_wait = max_wait

    def render(self, request: Any) -> int:
        """Answer, later."""
        if not is_method(request.method.decode("latin-1")):
            send_problem(request, Problem(501, "this method is none that applications know"))
            return NOT_DONE_YET
        gone: list[bool] = []
        answering: Deferred[HTTPResponse] = Deferred.fromCoroutine(self._answer(request_of(request)))
        # Who asks and goes, again and again, has as much under way as who stays.
        request.work = answering
        request.notifyFinish().addErrback(self._client_is_gone, request, answering, gone)
        answering.addCallbacks(
            lambda response: None if gone else send_response(request, response),
            lambda failure: None if gone else send_problem(request, _problem(failure)),
        )
        answering.addErrback(lambda failure: request.processingFailed(failure))
        return NOT_DONE_YET

    def _client_is_gone(
        self, failure: Failure, request: Any, answering: Deferred[HTTPResponse], gone: list[bool]
    ) -> None:
        gone.append(True)
        if request.method.decode("latin-1") in SAFE:
            # Any other may have changed half of what it is to change.
            answering.cancel()

    async def _answer(self, request: HTTPRequest) -> HTTPResponse:
        is_safe = request.method in SAFE
        value = request_map(request)
        del request
        try:
            nobody_consumes = await self._calls.check_queue(self._task_id)
            options = {
                "serializer": "cbor",
                "compress": False,
                "persistent": not is_safe,
                "expiration": self._max_wait,
                "timeout": self._max_wait,
                "require_worker": nobody_consumes,
            }
            try:
                reply: Reply = await self._calls.request(self._task_id, value, options)
            except ConnectionLostError:
                if not is_safe:
                    raise
                reply = await self._calls.request(self._task_id, value, options)
            return response_from(reply.value)
        finally:
            # An error has its frames until garbage is collected, and there may be a large body in this one.
            del value


def request_of(request: Any) -> HTTPRequest:
    """What twisted.web has of a request, as a value."""
    path, _, query = request.uri.partition(b"?")
    host = request.getHost()
    client = request.getClientAddress()
    fields = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, values in request.requestHeaders.getAllRawHeaders()
        for value in values
    ]
    return HTTPRequest(
        request.method.decode("latin-1"),
        path.decode("latin-1"),
        query.decode("latin-1"),
        "https" if request.isSecure() else "http",
        request.clientproto.decode("latin-1"),
        tuple(unambiguous(fields)),
        request.content.read(),
        (getattr(host, "host", "localhost"), getattr(host, "port", 80)),
        (getattr(client, "host", ""), getattr(client, "port", 0)),
    )


def send_response(request: Any, response: HTTPResponse) -> None:
    """Answer with what the application answered; the length is the body's own, whatever it said."""
    request.setResponseCode(response.status, response.reason.encode("latin-1"))
    request.defaultContentType = None
    is_head = request.method == b"HEAD"
    has_body = response.status not in _NO_BODY
    fields = end_to_end(response.headers)
    if any(name.lower() == "date" for name, _ in fields):
        # The application's own is the true one.
        request.responseHeaders.removeHeader("Date")
    for name, value in fields:
        if name.lower() != "content-length":
            request.responseHeaders.addRawHeader(name.encode(), value.encode("latin-1"))
    if is_head:
        _tell_length(request, fields)
    elif has_body:
        request.setHeader(b"Content-Length", b"%d" % len(response.body))
        request.write(response.body)
    request.finish()


def _tell_length(request: Any, fields: Fields) -> None:
    """To ``HEAD``, the length that another request would get: one that is one."""
    lengths = {value for name, value in fields if name.lower() == "content-length"}
    if len(lengths) == 1 and (length := lengths.pop()).isascii() and length.isdecimal():
        request.setHeader(b"Content-Length", length.encode())


def _problem(failure: Failure) -> Problem:
    error = failure.value
    if isinstance(error, ProblemError):
        return error.problem
    if isinstance(error, (UnroutableError, UnknownTaskError, NoWorkersError)):
        return Problem(503, "no worker serves this site now", retry_after=RETRY_AFTER)
    if isinstance(error, RemoteError):
        text = "is larger than a message may be" if error.type == _TOO_LARGE else "can't be had"
        return Problem(502, f"the application's response {text}")
    if isinstance(error, CrewError):
        return problem_of(error)
    if not failure.check(CancelledError):
        _log.failure("a mistake while a site was asked", failure=failure)
    return Problem(500, "the gateway made a mistake; its log has more")
