"""
The status page, and what it asks for.

``/status`` is the page itself, which says nothing by itself and so is for
everybody; ``/`` shows it to browsers as well. ``/overview`` has what it shows
and does: for operators alone, and where nobody has to say who asks, for looking
only. An order needs the token that came with the overview, too, so that no
other page can give one.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from crew_tx.web.access import Credentials
from crew_tx.web.bodies import JSON, media_type
from crew_tx.web.letters import DeadLetters
from crew_tx.web.operators import TOKEN, Operators
from crew_tx.web.orders import Orders
from crew_tx.web.overview import Overview
from crew_tx.web.problems import ProblemError, no_such
from crew_tx.web.responses import Endpoint, Response, header, query
from crew_tx.web.snapshots import SnapshotStream
from crew_tx.web.worker_facts import text

_LONGEST_BODY = 4096
#: In the page: which credentials there are.
_ASKS = b"@ASKS@"

_HTML, _CSS, _SCRIPT = "text/html", "text/css", "text/javascript"
_ASSETS = {
    b"": ("page.html", _HTML),
    b"page.css": ("page.css", _CSS),
    **{
        name.encode(): (name, _SCRIPT)
        for name in (
            "page.js",
            "gateway.js",
            "stream.js",
            "overview.js",
            "worker.js",
            "table.js",
            "format.js",
        )
    },
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class PageEndpoint(Endpoint):
    """
    Serves ``/status``: a page, its style and its script.

    :param credentials: so that the page asks for a token where there are tokens.
    """

    def __init__(self, credentials: Credentials) -> None:
        super().__init__({b"GET": self._get, b"HEAD": self._get})
        asks = (["token"] if credentials.tokens else []) + (["password"] if credentials.users else [])
        self._asks = " ".join(asks).encode()

    async def _get(self, request: Any) -> Response:
        query(request)
        rest = b"/".join(request.postpath)
        if rest not in _ASSETS:
            raise no_such("path")
        name, content_type = _ASSETS[rest]
        body = files("crew_tx.web").joinpath("page", name).read_bytes().replace(_ASKS, self._asks)
        headers = (
            ("Content-Type", f"{content_type}; charset=utf-8"),
            ("Content-Security-Policy", _POLICY),
            ("Cache-Control", "no-cache"),
        )
        return Response(200, body, headers)


class OverviewEndpoint(Endpoint):
    """Serves ``/overview``: ``events``, ``token``, ``worker/ID``, ``dead``, ``order`` and ``requeue``."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        overview: Overview,
        orders: Orders,
        operators: Operators,
        letters: DeadLetters,
        slow_reader: float,
    ) -> None:
        super().__init__({b"GET": self._get, b"POST": self._post})
        self._overview = overview
        self._orders = orders
        self._operators = operators
        self._letters = letters
        self._slow_reader = slow_reader
        self._clock = clock

    async def _get(self, request: Any) -> Response | None:
        query(request)
        self._operators.check_look(request.principal)
        match list(request.postpath):
            case [] | [b""]:
                return _json(self._overview.snapshot() | self._token(request))
            case [b"events"]:
                await self._stream(request)
                return None
            case [b"token"]:
                return _json(self._token(request))
            case [b"worker", worker_id]:
                return _json(await self._orders.look(worker_id.decode(errors="replace")))
            case [b"dead"]:
                return _json(await self._letters.show())
        raise no_such("path")

    def _token(self, request: Any) -> dict[str, Any]:
        """Whether this one may give orders, and the token for it."""
        may = self._operators.may_order(request.principal)
        return {"may_order": may, "token": self._operators.token if may else None}

    async def _stream(self, request: Any) -> None:
        stream = SnapshotStream(self._clock, request, self._overview, self._slow_reader)
        ended = request.notifyFinish()
        try:
            stream.begin()
            await ended
        finally:
            stream.gone()

    async def _post(self, request: Any) -> Response:
        query(request)
        self._operators.check_order(request.principal, header(request, TOKEN))
        given = _read(request)
        match list(request.postpath):
            case [b"order"]:
                self._note(request, f"{text(given.get('command'))} {text(given.get('worker'))}")
                return _json(await self._orders.give(given))
            case [b"requeue"]:
                call_id = given.get("id")
                if call_id is not None and not isinstance(call_id, str):
                    raise ProblemError(422, "id is the id of a call, or is left out for all of them")
                self._note(request, f"requeue {text(call_id)}")
                return _json(await self._letters.requeue(call_id))
        raise no_such("path")

    def _note(self, request: Any, order: str) -> None:
        """Who ordered what; a text from a client stays on one line."""
        self.log.info("{name} orders: {order}", name=request.principal.name, order=ascii(order))


def _read(request: Any) -> dict[str, Any]:
    if media_type(header(request, "Content-Type")) != JSON:
        raise ProblemError(415, f"an order is {JSON}, and the header Content-Type says so")
    body = request.content.read(_LONGEST_BODY + 1)
    if len(body) > _LONGEST_BODY:
        raise ProblemError(413, f"an order has {_LONGEST_BODY} bytes at the most")
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise ProblemError(422, "an order is a map, as JSON")
    return given


def _json(value: dict[str, Any]) -> Response:
    return Response(200, json.dumps(value, allow_nan=False).encode(), (("Content-Type", JSON),))
