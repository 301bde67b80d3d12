"""Replies to encoded properties: by template, where they have no headers of the task's."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Any

from crew_tx.amqp.publisher import encode_message_properties
from crew_tx.amqp.template import ReplyTemplate, SignedReplyTemplate
from crew_tx.message import Answer, ErrorKind, answer_properties, signed_properties
from crew_tx.rpc.digests import ANSWER_FIELDS, reply_head, reply_rest
from crew_tx.signing import MAC_SIZE, BegunMac, SigningKeys

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
    """Encodes the properties of replies, signed."""

    def __init__(self, keys: SigningKeys) -> None:
        self._key = keys.signing
        self._templates: dict[Hashable, tuple[SignedReplyTemplate, BegunMac]] = {}

    def properties(self, answer: Answer, reference: bytes) -> bytes:
        """
        A reply's properties, signed.

        :param reference: to what it answers.
        :raises EncodeError: as :func:`encoded_answer`.
        """
        kind = (answer.persistent, answer[ANSWER_FIELDS])
        template, begun = self._templates.get(kind) or self._new_template(*kind)
        mac = begun.ended(reply_rest(answer, reference))
        if answer.headers:
            signature = self._key.reply_signature(mac)
            return encode_message_properties(signed_properties(answer_properties(answer), signature))
        return template.fill(answer.call_id, answer.elapsed, mac.encode())

    def _new_template(self, persistent: bool, fields: Any) -> tuple[SignedReplyTemplate, BegunMac]:
        """And what the HMACs of such replies begin with."""
        content_type, encoding, error, worker = fields
        answer = Answer("", b"", content_type, encoding, error, worker, 0.0, persistent)
        begun = self._key.begin(reply_head(fields, persistent))
        signature = self._key.reply_signature("-" * MAC_SIZE)
        made = SignedReplyTemplate(signed_properties(answer_properties(answer), signature), MAC_SIZE), begun
        if len(self._templates) >= _MOST_TEMPLATES:
            self._templates.clear()
        self._templates[persistent, fields] = made
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
