"""Replies to encoded properties: by template, where they have no headers of the task's."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from crew_tx.amqp.publisher import encode_message_properties
from crew_tx.amqp.template import ReplyTemplate, SignedReplyTemplate
from crew_tx.message import Answer, ErrorKind, answer_properties, signed_properties
from crew_tx.rpc.digests import ANSWER_FIELDS, reply_head, reply_rest
from crew_tx.signing import BegunMac, SigningKeys
from crew_tx.topology import REPLIES

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


class AnswerSigner:
    """
    Encodes the properties of replies, signed.

    :param seconds: reads the clock: seconds since 1970.
    """

    def __init__(self, keys: SigningKeys, seconds: Callable[[], float]) -> None:
        self._keys = keys
        self._seconds = seconds
        self._templates: dict[tuple[str, bool, Any], tuple[SignedReplyTemplate, BegunMac]] = {}

    def properties(self, answer: Answer, reply_to: str, reference: bytes) -> bytes:
        """
        A reply's properties, signed.

        :param reference: to what it answers.
        :raises EncodeError: as :func:`encoded_answer`.
        """
        kind = (reply_to, answer.persistent, answer[ANSWER_FIELDS])
        template, begun = self._templates.get(kind) or self._new_template(kind)
        _, stamp, octets = self._keys.stamp(self._seconds())
        signature = stamp + begun.ended(reply_rest(octets, answer, reference))
        if answer.headers:
            return encode_message_properties(signed_properties(answer_properties(answer), signature))
        return template.fill(answer.call_id, answer.elapsed, signature.encode())

    def _new_template(self, kind: tuple[str, bool, Any]) -> tuple[SignedReplyTemplate, BegunMac]:
        """And what the signatures of such replies begin with."""
        reply_to, persistent, fields = kind
        content_type, encoding, error, worker = fields
        answer = Answer("", b"", content_type, encoding, error, worker, 0.0, persistent)
        size = self._keys.size
        begun = self._keys.signing.begin(
            reply_head(self._keys.stamp_size, REPLIES, reply_to, fields, persistent)
        )
        made = SignedReplyTemplate(signed_properties(answer_properties(answer), "-" * size), size), begun
        if len(self._templates) >= _MOST_TEMPLATES:
            self._templates.clear()
        self._templates[kind] = made
        return made


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
