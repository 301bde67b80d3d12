"""
A WSGI application as a task (PEP 3333).

The request is whole when the application is called, and its response is
collected whole, so it is answered in one message. What the application itself
raises is a response as well: 500, and the worker's log has the traceback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from types import TracebackType
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.logger import Logger

from crew_tx.errors import MessageTooLargeError
from crew_tx.tasks.declaration import Task
from crew_tx.tasks.registry import TaskDefinition
from crew_tx.topology import check_name
from crew_tx.web.exchange import (
    Fields,
    HTTPRequest,
    HTTPResponse,
    end_to_end,
    is_field,
    request_from,
    response_map,
)

Application = Callable[..., Iterable[bytes]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType]

#: Bytes of a message's body that are not the HTTP body's: its status and headers.
_HEAD = 64 * 1024

_log = Logger()


def site_task_id(site: str) -> str:
    """
    The task that serves a site.

    :raises InvalidArgumentError: if the site's name is none.
    """
    check_name("site", site)
    return f"wsgi.{site}"


def wsgi_task(application: Application, site: str, max_message_size: int) -> TaskDefinition:
    """
    A task that has an application answer requests.

    :param max_message_size: bytes of a reply; a response that has more is an error.
    :raises InvalidArgumentError: if the site's name is none.
    """

    @Task(site_task_id(site))
    def serve(request: Any) -> dict[str, Any]:
        """Answer one request."""
        return response_map(respond(application, request_from(request), max_message_size - _HEAD))

    definition: TaskDefinition = serve.__crew_task__  # type: ignore[attr-defined]
    return definition


def respond(application: Application, request: HTTPRequest, max_body: int) -> HTTPResponse:
    """
    Call an application.

    :raises MessageTooLargeError: if its response's body has more than ``max_body`` bytes.
    """
    try:
        return _Response(max_body).of(application, environ(request))
    except MessageTooLargeError:
        raise
    except Exception:
        _log.failure(
            "an application failed to answer {method} {path}", method=request.method, path=request.path
        )
        text = b"The application failed to answer this request; the worker's log has more.\n"
        fields = (("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text))))
        return HTTPResponse(500, "Internal Server Error", fields, text)


def environ(request: HTTPRequest) -> dict[str, Any]:
    """What PEP 3333 lets an application know of a request."""
    host, port = request.server
    found = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(request.path.encode("latin-1")).decode("latin-1"),
        "QUERY_STRING": request.query,
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": request.protocol,
        "REMOTE_ADDR": request.client[0],
        "REMOTE_PORT": str(request.client[1]),
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": BytesIO(request.body),
        "wsgi.errors": _Errors(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if not request.body and not _has(request.headers, "content-length"):
        del found["CONTENT_LENGTH"]
    return found | _variables(request.headers)


def _variables(fields: Fields) -> dict[str, str]:
    """Headers, under the names that CGI gave them (RFC 3875, section 4.1.18)."""
    found: dict[str, str] = {}
    for name, value in fields:
        variable = name.upper().replace("-", "_")
        if variable == "CONTENT_LENGTH":
            # The body's own is the true one.
            continue
        if variable != "CONTENT_TYPE":
            variable = f"HTTP_{variable}"
        separator = "; " if variable == "HTTP_COOKIE" else ","
        found[variable] = f"{found[variable]}{separator}{value}" if variable in found else value
    return found


def _has(fields: Fields, name: str) -> bool:
    return any(each.lower() == name for each, _ in fields)


class _Response:
    """Collects one response."""

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._size = 0
        self._chunks: list[bytes] = []
        self._head: tuple[int, str, Fields] | None = None

    def of(self, application: Application, environ: dict[str, Any]) -> HTTPResponse:
        chunks = application(environ, self._start)
        try:
            for chunk in chunks:
                self._write(chunk)
        finally:
            # As PEP 3333 has it, whatever happened.
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        if self._head is None:
            raise RuntimeError("the application answered without start_response()")
        return HTTPResponse(*self._head, b"".join(self._chunks))

    def _start(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """``start_response``: nothing is sent before the end, so after an error all can begin anew."""
        if self._head is not None and exc_info is None:
            raise RuntimeError("the application called start_response() twice, and without exc_info")
        self._chunks.clear()
        self._size = 0
        self._head = (*_status(status), end_to_end(_checked(headers)))
        return self._write

    def _write(self, chunk: bytes) -> None:
        if self._head is None and chunk:
            raise RuntimeError("the application answered before start_response()")
        if not isinstance(chunk, bytes):
            raise TypeError(f"an application answers in bytes, not in {type(chunk).__name__}")
        self._size += len(chunk)
        if self._size > self._max_body:
            raise MessageTooLargeError(
                f"the application's response has more than {self._max_body} bytes",
                size=self._size,
                limit=self._max_body,
            )
        self._chunks.append(chunk)


def _status(status: str) -> tuple[int, str]:
    number, _, reason = status.partition(" ")
    if not (len(number) == 3 and number.isascii() and number.isdecimal() and is_field("reason", reason)):
        raise ValueError("an application's status is a number and words, such as '200 OK'")
    return int(number), reason


def _checked(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    fields = [(str(name), str(value)) for name, value in headers]
    for name, value in fields:
        if not is_field(name, value):
            raise ValueError(f"the application's header {name[:100]!a} has characters that HTTP can't have")
    return fields


class _Errors:
    """``wsgi.errors``: lines of the worker's log."""

    def write(self, text: str) -> None:
        for line in text.splitlines():
            _log.warn("{line}", line=line)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Each line is in the log already."""
