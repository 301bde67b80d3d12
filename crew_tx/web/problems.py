"""
What went wrong, as problem documents (RFC 9457), and which status that is.

A task that raised is 500, and not 502: the gateway and the broker did their
part, and proxies send what came to a 502 once more by themselves, which would
run the task again. 502 is for an answer that can't be read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from crew_tx.errors import (
    AMQPError,
    BrokerBlockedError,
    ClientStoppedError,
    ConnectionLostError,
    CrewError,
    DecodeError,
    EncodeError,
    ExpirationError,
    InvalidArgumentError,
    MessageRefusedError,
    MessageTooLargeError,
    NoWorkersError,
    OutboxFullError,
    PublishNackedError,
    PublishTimeoutError,
    QueueFullError,
    RejectedError,
    RemoteError,
    ReplyLostError,
    TaskCancelledError,
    TaskTimeoutError,
    UnknownTaskError,
    UnroutableError,
)

CONTENT_TYPE = "application/problem+json"
#: Seconds after which it may be worth to try again.
RETRY_AFTER = 1
#: Characters of a text that somebody else wrote.
_LONGEST = 4_000

#: The first that fits counts.
_STATUSES: tuple[tuple[type[CrewError], int], ...] = (
    (UnroutableError, 404),
    (UnknownTaskError, 404),
    (MessageTooLargeError, 413),
    (EncodeError, 422),
    (InvalidArgumentError, 400),
    (QueueFullError, 429),
    (PublishNackedError, 429),
    (NoWorkersError, 503),
    (ConnectionLostError, 503),
    (BrokerBlockedError, 503),
    (PublishTimeoutError, 503),
    (OutboxFullError, 503),
    (ClientStoppedError, 503),
    (ReplyLostError, 503),
    (TaskCancelledError, 503),
    (AMQPError, 503),
    (TaskTimeoutError, 504),
    (ExpirationError, 504),
    (DecodeError, 502),
    (RejectedError, 502),
    (MessageRefusedError, 502),
)
_TRY_AGAIN = (429, 503)
#: What these say is of the broker, and not for everybody: it is in the gateway's log.
_INSIDE = {
    ConnectionLostError: "there is no connection to the broker, or it was lost",
    AMQPError: "the broker refuses it",
    BrokerBlockedError: "the broker takes nothing now",
    PublishTimeoutError: "the broker did not take it in time",
    MessageRefusedError: "the workers take only calls that are signed by keys of theirs",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """
    What is wrong with a request, or came of it.

    :ivar detail: for people, with the remedy where there is one.
    :ivar error: the name of an error of crew_tx.
    :ivar members: further members of the document.
    :ivar retry_after: seconds.
    :ivar headers: of the response, beside.
    """

    status: int
    detail: str
    error: str | None = None
    members: Mapping[str, Any] = field(default_factory=dict)
    retry_after: int | None = None
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        """HTTP's words for the status."""
        return HTTPStatus(self.status).phrase

    @property
    def body(self) -> bytes:
        """The document."""
        document = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
        if self.error is not None:
            document["error"] = self.error
        # Others' texts may have lone surrogates, which are escaped so.
        return json.dumps({**document, **self.members}).encode()

    @property
    def all_headers(self) -> tuple[tuple[str, str], ...]:
        """The response's, the content type first."""
        retry = () if self.retry_after is None else (("Retry-After", str(self.retry_after)),)
        return (("Content-Type", CONTENT_TYPE), *retry, *self.headers)


#: What a client is told of a mistake of ours.
MISTAKE = Problem(500, "the gateway made a mistake; its log has more")


class ProblemError(Exception):
    """
    Ends a request.

    :ivar problem: what it is answered with.
    """

    def __init__(self, status: int, detail: str, **options: Any) -> None:
        super().__init__(detail)
        self.problem = Problem(status, detail, **options)


def no_such(kind: str) -> ProblemError:
    """
    Nothing of that name is here: nobody is told whether it is unknown or not exposed.

    :param kind: what was asked for, as ``task``.
    """
    return ProblemError(404, f"there is no such {kind} here")


def problem_of(error: CrewError, *, show_tracebacks: bool = False) -> Problem:
    """
    What a call's error is over HTTP.

    :param show_tracebacks: whether a task's traceback is in it.
    """
    if isinstance(error, RemoteError):
        return _remote(error, show_tracebacks)
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
    if status == 404:
        return no_such("task").problem
    maybe_sent = getattr(error, "maybe_sent", False)
    return Problem(
        status,
        _detail(error),
        error=type(error).__name__,
        members={"maybe_sent": True} if maybe_sent else {},
        # Once more, and the task might run twice: that is for the caller to decide.
        retry_after=RETRY_AFTER if status in _TRY_AGAIN and not maybe_sent else None,
    )


def _remote(error: RemoteError, show_tracebacks: bool) -> Problem:
    members = {"exception": _cut(error.type)}
    if show_tracebacks and error.traceback:
        members["traceback"] = error.traceback[-_LONGEST:]
    return Problem(500, _cut(error.message) or "the task raised", error="RemoteError", members=members)


def _detail(error: CrewError) -> str:
    inside = next((text for kind, text in _INSIDE.items() if isinstance(error, kind)), None)
    return inside or _cut(str(error))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
