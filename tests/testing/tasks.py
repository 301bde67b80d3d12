"""Tasks for the tests of the harness: a module as a worker is given one."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from crew_tx.worker import Service, Task, context


@Task("add")
def add(req: dict[str, int]) -> int:
    """A blocking function."""
    return req["x"] + req["y"]


@Task("slow", timeout=5)
def slow(req: Any) -> str:
    """One with a limit."""
    return "done"


@Task("attempt")
def attempt(req: Any) -> tuple[str, bool]:
    """Says who runs it, and whether somebody had it before."""
    return context.settings.uuid, context.request.redelivered


@Task("wait")
async def wait(req: Any) -> Any:
    """Never ends by itself."""
    return await Deferred()


class Methods:
    """An object of methods."""

    def c_double(self, req: dict[str, int]) -> int:
        """Twice the number."""
        return 2 * req["x"]


service = Service("numbers", Methods())
