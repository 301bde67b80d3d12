"""Calls and replies to encoded properties: by template, where they have no headers of the user's."""

from __future__ import annotations

from functools import lru_cache

from crew_tx.amqp.publisher import encode_message_properties
from crew_tx.amqp.template import CallTemplate, ReplyTemplate
from crew_tx.message import Answer, Call, ErrorKind, answer_properties, call_properties

#: Each task, client and set of options has a template of its own.
_MOST_TEMPLATES = 1024


def encoded_call(call: Call) -> bytes:
    """
    A call's properties.

    :raises EncodeError: naming the header that can't be written, or if all of them are too large.
    """
    if call.headers:
        return encode_message_properties(call_properties(call))
    template = _call_template(
        call.task_id,
        call.content_type,
        call.content_encoding,
        call.reply_to,
        call.expiration,
        call.timeout,
        call.attempt,
        call.priority,
        call.persistent,
    )
    return template.fill(call.call_id, call.timestamp)


def encoded_answer(answer: Answer) -> bytes:
    """
    A reply's properties.

    :raises EncodeError: as of :func:`encoded_call`.
    """
    if answer.headers:
        return encode_message_properties(answer_properties(answer))
    template = _reply_template(
        answer.content_type, answer.content_encoding, answer.error, answer.worker, answer.persistent
    )
    return template.fill(answer.call_id, answer.elapsed)


@lru_cache(maxsize=_MOST_TEMPLATES)
def _call_template(
    task_id: str,
    content_type: str,
    content_encoding: str | None,
    reply_to: str | None,
    expiration: int,
    timeout: int,
    attempt: int,
    priority: int,
    persistent: bool,
) -> CallTemplate:
    call = Call(
        task_id,
        "",
        b"",
        content_type,
        content_encoding,
        reply_to,
        expiration,
        timeout,
        attempt,
        priority,
        persistent,
    )
    return CallTemplate(call_properties(call))


@lru_cache(maxsize=_MOST_TEMPLATES)
def _reply_template(
    content_type: str,
    content_encoding: str | None,
    error: ErrorKind | None,
    worker: str | None,
    persistent: bool,
) -> ReplyTemplate:
    answer = Answer("", b"", content_type, content_encoding, error, worker, 0.0, persistent)
    return ReplyTemplate(answer_properties(answer))
