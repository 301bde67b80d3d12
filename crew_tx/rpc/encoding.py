"""Replies to encoded properties: by template, where they have no headers of the task's."""

from __future__ import annotations

from functools import lru_cache

from crew_tx.amqp.publisher import encode_message_properties
from crew_tx.amqp.template import ReplyTemplate
from crew_tx.message import Answer, ErrorKind, answer_properties

#: Each content type, kind of error and persistence has a template of its own.
_MOST_TEMPLATES = 1024


def encoded_answer(answer: Answer) -> bytes:
    """
    A reply's properties.

    :raises EncodeError: naming the header that can't be written, or if all of them are too large.
    """
    if answer.headers:
        return encode_message_properties(answer_properties(answer))
    template = _reply_template(
        answer.content_type, answer.content_encoding, answer.error, answer.worker, answer.persistent
    )
    return template.fill(answer.call_id, answer.elapsed)


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
