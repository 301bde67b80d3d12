"""
What a task sees of its call and its worker: ``context``.

``context`` itself is one object for all; behind it a context variable holds
the attempt that runs. Each thread has its own value of it, and so has each
coroutine. A function declared with ``reactor=True`` that returns a Deferred has
it until it returns: its callbacks run in nobody's context.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from crew_tx.message import Call, Headers
from crew_tx.tasks.interfaces import IPublisher


class Settings(SimpleNamespace):
    """
    What a worker's tasks share: ``uuid``, ``node_uuid``, ``options``, and what ``run()`` was given.

    Tasks in several threads share it as it is: ``settings.counter += 1`` may
    lose a count now and then.
    """

    def __repr__(self) -> str:
        # Names alone: a value may be a password.
        return f"<Settings {', '.join(vars(self))}>"


@dataclass(frozen=True, slots=True)
class Request:
    """
    The call that a task answers.

    :ivar id: the call id.
    :ivar headers: the caller's own headers.
    :ivar priority: 0 to 10.
    :ivar attempt: 1, and more where the caller had to send the call again.
    :ivar redelivered: whether the broker gave it to a worker before.
    :ivar deliveries: how often, where its queue counts that: a quorum queue; else 0.
    """

    id: str
    task_id: str
    headers: Headers
    priority: int
    attempt: int
    redelivered: bool
    deliveries: int
    _deadline: float
    _seconds: Callable[[], float]

    @property
    def time_left(self) -> float:
        """The seconds until the time limit; negative after it."""
        return self._deadline - self._seconds()


class _NoPublisher:
    """Stands where the worker gave no publisher."""

    def publish(self, channel: str, data: Any) -> None:
        """:raises RuntimeError: always."""
        raise RuntimeError("context.pubsub has nothing to publish with: this worker has no connection for it")


_NO_PUBLISHER = _NoPublisher()


class AttemptContext:
    """
    What ``context`` shows during one attempt.

    :param deadline: when its time is up, by ``seconds``.
    :param seconds: the worker's clock; it is read in the task's thread.
    :param publisher: an ``IPublisher``, or None.
    :ivar headers: the reply's headers, for the task to fill.
    :ivar cancelled: whether nobody wants the answer any more; the worker sets it.
    """

    __slots__ = ("_call", "_deadline", "_request", "_seconds", "cancelled", "headers", "pubsub", "settings")

    def __init__(
        self,
        call: Call,
        settings: Settings,
        deadline: float,
        seconds: Callable[[], float],
        publisher: IPublisher | None = None,
    ) -> None:
        self.settings = settings
        self.headers: Headers = {}
        self.cancelled = False
        self.pubsub: Any = publisher or _NO_PUBLISHER
        self._call = call
        self._deadline = deadline
        self._seconds = seconds
        self._request: Request | None = None

    @property
    def request(self) -> Request:
        """The call; made when it is first asked for, since most tasks never do."""
        if self._request is None:
            call = self._call
            self._request = Request(
                call.call_id,
                call.task_id,
                call.headers,
                call.priority,
                call.attempt,
                call.redelivered,
                call.deliveries,
                self._deadline,
                self._seconds,
            )
        return self._request


#: The attempt that runs here; only this room sets it.
current: ContextVar[AttemptContext] = ContextVar("crew_tx.tasks.context")


class Context:
    """
    The ``context`` that tasks import.

    Each attribute raises :class:`RuntimeError` outside a task.
    """

    __slots__ = ()

    @property
    def settings(self) -> Settings:
        """What the worker's tasks share."""
        return _here().settings

    @property
    def headers(self) -> Headers:
        """The headers of the reply, empty at the start of each attempt."""
        return _here().headers

    @property
    def request(self) -> Request:
        """The call."""
        return _here().request

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the answer any more: the caller cancelled, or the time is up."""
        return _here().cancelled

    @property
    def pubsub(self) -> Any:
        """What has ``publish(channel, data)``."""
        return _here().pubsub


def _here() -> AttemptContext:
    try:
        return current.get()
    except LookupError:
        raise RuntimeError(
            "context is there only inside a task, in the thread or coroutine that the worker started it in"
        ) from None


context = Context()
