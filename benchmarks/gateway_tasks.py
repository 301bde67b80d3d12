"""What the worker of gateway.py runs, and what a plain resource does inline."""

from __future__ import annotations

from crew_tx.worker import Task


@Task("test")
def test(req: dict[str, int]) -> dict[str, int]:
    """A little work, so that what is measured is the way there and back."""
    return {"sum": req["x"] + req["y"]}
