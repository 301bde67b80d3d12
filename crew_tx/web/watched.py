"""Requests that are counted, and have spans, from when they have come until they are answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime

from crew_tx.interfaces import IRequestTracing
from crew_tx.web.responses import header
from crew_tx.web.traffic import GONE, METHODS, Route

#: Those whose path has a name in it, which is no part of the route.
_NAMED = {
    "call": "/call/{task}",
    "apply": "/apply/{task}/",
    "apply-async": "/apply-async/{task}/",
    "results": "/results/{id}",
    "publish": "/publish/{channel}",
    "subscribe": "/subscribe/{channel}",
}


def count_request(request: Any, route: Route, clock: IReactorTime) -> None:
    """Count a request that has come, and what it is answered with."""
    began = clock.seconds()
    route.in_progress += 1

    def ended(_: object) -> None:
        route.in_progress -= 1
        if request.startedWriting:
            route.count(request.method, request.code)
            route.took(clock.seconds() - began)
        else:
            route.count(request.method, GONE)

    request.notifyFinish().addBoth(ended)


def render_traced(
    tracing: IRequestTracing, request: Any, path: str | None, render: Callable[[], None]
) -> None:
    """
    Have a request answered inside of a span.

    :param path: the first segment of its part's paths; None where it is of no part that has one.
    :param render: has it answered, now or later.
    """
    route = None if path is None else _NAMED.get(path, f"/{path}")
    inside, ended = tracing.serve(METHODS.get(request.method), route, lambda name: header(request, name))
    request.notifyFinish().addBoth(lambda _: ended(request.code if request.startedWriting else None))
    with inside:
        render()
