"""Answers and dead letters, as the values and errors that they stand for."""

from __future__ import annotations

from typing import Any

from crew_tx.errors import (
    CrewError,
    DeadLetterError,
    ExpirationError,
    MessageRefusedError,
    PoisonError,
    QueueFullError,
    RejectedError,
    RemoteError,
    TaskCancelledError,
    TaskTimeoutError,
    UnknownTaskError,
)
from crew_tx.message import Answer, DeadLetter

#: RabbitMQ's reasons for dead-lettering, in x-death.
_DEAD_LETTERS: dict[str, tuple[type[DeadLetterError], str]] = {
    "maxlen": (QueueFullError, "the call was pushed out of its full queue"),
    "delivery_limit": (PoisonError, "the call was delivered too often without an answer"),
    "rejected": (RejectedError, "a consumer rejected the call"),
}


def dead_letter_error(letter: DeadLetter) -> CrewError:
    """Why the broker took a call out of its queue."""
    where = f" (queue {letter.queue})" if letter.queue else ""
    if letter.reason == "expired":
        return ExpirationError(
            f"no worker took the call before it expired{where}",
            reason="expired",
            expiration=letter.expiration,
            queue=letter.queue,
            time=letter.time,
        )
    kind, text = _DEAD_LETTERS.get(
        letter.reason, (RejectedError, f"the broker dropped the call: {letter.reason}")
    )
    return kind(text + where, reason=letter.reason, queue=letter.queue)


def answer_error(answer: Answer, body: Any) -> CrewError:
    """
    The error that a worker answered with.

    :param body: the decoded body: a map of type, message and traceback.
    """
    fields = body if isinstance(body, dict) else {}
    message = _text(fields, "message")
    if answer.error == "timeout":
        return TaskTimeoutError(message, worker=answer.worker)
    if answer.error == "cancelled":
        return TaskCancelledError(message, worker=answer.worker)
    if answer.error == "unknown-task":
        return UnknownTaskError(message, worker=answer.worker)
    if answer.error == "refused":
        return MessageRefusedError(message, reason=_text(fields, "reason"), worker=answer.worker)
    if answer.error == "expired":
        return ExpirationError(message, reason="held")
    return RemoteError(_text(fields, "type"), message, _text(fields, "traceback"), worker=answer.worker)


def _text(fields: dict[Any, Any], name: str) -> str:
    value = fields.get(name, "")
    return value if isinstance(value, str) else ""
