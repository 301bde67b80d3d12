"""Jobs and a reactor's thread side, for the tests of threads and pools."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads
from zope.interface import implementer

#: Longer than anything here takes; a test that waits this long fails.
PATIENCE = 30.0


class RecordingJob:
    """A job that keeps its outcomes."""

    def __init__(self, run: Callable[[], object] = lambda: "done", name: str = "job") -> None:
        self.run = run
        self.name = name
        self.outcomes: list[Any] = []

    def finished(self, outcome: Any) -> None:
        self.outcomes.append(outcome)

    def describe(self) -> tuple[str, str]:
        return "task", self.name


@implementer(IReactorFromThreads)
class Crossings:
    """
    The part of a reactor that threads call, served by the test.

    :ivar count: how often it was called.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]]] = SimpleQueue()
        self.count = 0

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        self.count += 1
        self._calls.put((callable, args))

    def serve(self) -> None:
        """Wait for the next call, and make it."""
        function, arguments = self._calls.get(timeout=PATIENCE)
        function(*arguments)

    def serve_until(self, job: RecordingJob) -> Any:
        """Make calls until a job has an outcome; it is returned."""
        while not job.outcomes:
            self.serve()
        return job.outcomes[0]
