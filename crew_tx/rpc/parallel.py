"""Several calls at a time, with one result."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.python.failure import Failure


class Parallel:
    """
    Collects calls; made by ``Client.parallel``.

    :param call: what makes one call and gives a Deferred.
    """

    def __init__(self, call: Callable[..., Deferred[Any]]) -> None:
        self._call = call
        self._calls: list[Deferred[Any]] = []

    def __enter__(self) -> Parallel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing waits here: leaving the block neither ends nor forgets a call."""

    def call(self, task_id: str, data: Any = None, **options: Any) -> None:
        """Start a call, with the arguments of ``Client.call``."""
        self._calls.append(maybeDeferred(self._call, task_id, data, **options).addErrback(_error))

    def result(self) -> Deferred[list[Any]]:
        """
        A Deferred of all the values, in the order of the calls.

        A call that failed has its error, an exception, in its place. With no
        call at all it fires at once. Cancelling it cancels the calls, too.
        """
        calls, self._calls = self._calls, []

        def cancel(result: Deferred[list[Any]]) -> None:
            result.errback(CancelledError())
            for call in calls:
                call.cancel()

        result: Deferred[list[Any]] = Deferred(cancel)
        DeferredList(calls).addCallback(_give, result)
        return result


def _give(results: list[tuple[bool, Any]], result: Deferred[list[Any]]) -> None:
    if not result.called:
        result.callback([value for _, value in results])


def _error(failure: Failure) -> Any:
    return failure.value
