"""Tasks for the gateway's tests."""

from __future__ import annotations

from typing import Any

from crew_tx.worker import Task, context


@Task("echo")
def echo(req: Any) -> Any:
    """Give back what came."""
    return req


@Task("bytes")
def some_bytes(req: Any) -> bytes:
    """What JSON has no form for."""
    return b"\x00\xff"


@Task("broken")
def broken(req: Any) -> None:
    """Raise."""
    raise LookupError(f"no {req}")


@Task("headers")
def headers(req: Any) -> None:
    """Set headers of all kinds."""
    context.headers.update({"rows": 3, "bad name": "x", "split": "a\r\nSet-Cookie: b", "many": "x" * 2000})


ALL = (echo, some_bytes, broken, headers)
