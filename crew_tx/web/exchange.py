"""
An HTTP request and its response as the values that a task takes and gives.

Both are whole: their bodies are in them, up to what a message may have. Each map
says ``more``, which is always false so far: a body in several messages can come
under the same names later.

Headers are end to end. Those that are a matter of one connection alone stay
there (RFC 9110, section 7.6.1), and so does what could be taken for something
else on the other side: a name or a value that HTTP can't have, and a name with
an underscore, which a WSGI application couldn't tell from one with a hyphen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from crew_tx.errors import DecodeError

#: Names and values.
Fields = tuple[tuple[str, str], ...]

_NAME = re.compile(r"[!#$%&'*+.^`|~0-9A-Za-z-]+")
#: Latin-1 without control characters, but for the tab (RFC 9110, section 5.5).
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
#: CONNECT is none of these: what answers it is no response, but a tunnel.
_METHOD = re.compile(r"(?!CONNECT$)[A-Z][A-Z-]{0,31}")

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


@dataclass(frozen=True, slots=True)
class HTTPRequest:
    """
    A request.

    :ivar path: as it came, with its percent signs.
    :ivar query: what is behind the question mark, as it came.
    :ivar scheme: ``http`` or ``https``.
    :ivar server: host and port that it came to.
    :ivar client: address and port that it came from; an empty address where there is none.
    """

    method: str
    path: str
    query: str
    scheme: str
    protocol: str
    headers: Fields
    body: bytes
    server: tuple[str, int]
    client: tuple[str, int]


@dataclass(frozen=True, slots=True)
class HTTPResponse:
    """
    A response.

    :ivar reason: the words behind the status.
    """

    status: int
    reason: str
    headers: Fields
    body: bytes


def request_map(request: HTTPRequest) -> dict[str, Any]:
    """What a task is given."""
    return {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "scheme": request.scheme,
        "protocol": request.protocol,
        "headers": [list(field) for field in request.headers],
        "body": request.body,
        "server": list(request.server),
        "client": list(request.client),
        "more": False,
    }


def request_from(value: Any) -> HTTPRequest:
    """
    Read what a task was given.

    :raises DecodeError: naming what is missing or wrong.
    """
    given = _map(value, "request")
    method = _text(given, "method")
    if not is_method(method):
        raise DecodeError("the HTTP request's method is no method")
    return HTTPRequest(
        method,
        _text(given, "path"),
        _text(given, "query"),
        _one_of(given, "scheme", ("http", "https")),
        _one_of(given, "protocol", ("HTTP/1.0", "HTTP/1.1")),
        _fields(given),
        _body(given),
        _address(given, "server"),
        _address(given, "client"),
    )


def response_map(response: HTTPResponse) -> dict[str, Any]:
    """What a task gives."""
    return {
        "status": response.status,
        "reason": response.reason,
        "headers": [list(field) for field in response.headers],
        "body": response.body,
        "more": False,
    }


def response_from(value: Any) -> HTTPResponse:
    """
    Read what a task gave.

    :raises DecodeError: naming what is missing or wrong.
    """
    given = _map(value, "response")
    status = given.get("status")
    if type(status) is not int or not 200 <= status <= 599:
        raise DecodeError("the HTTP response's status is no number from 200 to 599")
    reason = _text(given, "reason")
    if not _VALUE.fullmatch(reason):
        raise DecodeError("the HTTP response's reason has characters that it can't have")
    return HTTPResponse(status, reason, _fields(given), _body(given))


def end_to_end(fields: Iterable[tuple[str, str]]) -> Fields:
    """Those of a response, without those that are a matter of one connection."""
    kept = tuple(fields)
    named = {
        token.strip().lower()
        for name, value in kept
        if name.lower() == "connection"
        for token in value.split(",")
    }
    return tuple(field for field in kept if field[0].lower() not in HOP_BY_HOP | named)


def unambiguous(fields: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """
    Those of a request that are an application's, and mean the same on its side.

    What a request names in ``Connection`` stays there: else a client could have the application not see what
    a proxy before us has added, such as ``X-Forwarded-For``.
    """
    return (
        (name, value)
        for name, value in fields
        if name.lower() not in HOP_BY_HOP and is_field(name, value) and "_" not in name
    )


def is_method(method: str) -> bool:
    """Whether applications are asked by this method."""
    return _METHOD.fullmatch(method) is not None


def is_field(name: str, value: str) -> bool:
    """Whether HTTP can have this header."""
    return _NAME.fullmatch(name.replace("_", "-")) is not None and _VALUE.fullmatch(value) is not None


def _map(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DecodeError(f"an HTTP {what} is a map, and this is a {type(value).__name__}")
    if value.get("more") is not False:
        raise DecodeError(f"the HTTP {what} comes in parts, which this version can't read")
    return value


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str):
        raise DecodeError(f"the {name} of an HTTP message is a text")
    return value


def _one_of(given: dict[str, Any], name: str, values: tuple[str, ...]) -> str:
    value = _text(given, name)
    if value not in values:
        raise DecodeError(f"the {name} of an HTTP request is one of {', '.join(values)}")
    return value


def _body(given: dict[str, Any]) -> bytes:
    body = given.get("body")
    if not isinstance(body, bytes):
        raise DecodeError("the body of an HTTP message is bytes")
    return body


def _address(given: dict[str, Any], name: str) -> tuple[str, int]:
    match given.get(name):
        case [str() as host, int() as port]:
            return host, port
    raise DecodeError(f"the {name} of an HTTP request is a host and a port")


def _fields(given: dict[str, Any]) -> Fields:
    fields = given.get("headers")
    if not isinstance(fields, list):
        raise DecodeError("the headers of an HTTP message are a list")
    return tuple(_field(field) for field in fields)


def _field(field: Any) -> tuple[str, str]:
    match field:
        case [str() as name, str() as value] if is_field(name, value):
            return name, value
    raise DecodeError("a header of an HTTP message is a name and a value, as HTTP has them")
