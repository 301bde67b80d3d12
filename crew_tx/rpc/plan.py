"""What the calls of one task with the same options have in common, worked out once."""

from __future__ import annotations

from math import ceil

from crew_tx.amqp.publisher import encode_message_properties
from crew_tx.amqp.template import CallTemplate
from crew_tx.codec import Encoded
from crew_tx.message import NO_HEADERS, Call, call_properties
from crew_tx.rpc.options import CallOptions
from crew_tx.topology import check_task_id


class CallPlan:
    """
    :param reply_to: the client id; None for one way.
    :raises InvalidArgumentError: naming the argument that is wrong.
    :raises EncodeError: later, by :meth:`properties`, if the headers can't be written.
    """

    __slots__ = ("_reply_to", "_templates", "options", "task_id")

    def __init__(self, task_id: str, options: CallOptions, reply_to: str | None) -> None:
        check_task_id(task_id)
        options.check()
        self.task_id = task_id
        self.options = options
        self._reply_to = reply_to
        self._templates: dict[tuple[str, str | None], CallTemplate] = {}

    def properties(self, encoded: Encoded, call_id: str, timestamp: int) -> bytes:
        """The encoded properties of one call."""
        if self.options.headers:
            return encode_message_properties(call_properties(self._call(encoded, call_id, timestamp)))
        kind = (encoded.content_type, encoded.content_encoding)
        template = self._templates.get(kind)
        if template is None:
            call = self._call(encoded, call_id, timestamp)
            template = self._templates[kind] = CallTemplate(call_properties(call))
        return template.fill(call_id, timestamp)

    def _call(self, encoded: Encoded, call_id: str, timestamp: int) -> Call:
        options = self.options
        return Call(
            self.task_id,
            call_id,
            b"",
            encoded.content_type,
            encoded.content_encoding,
            self._reply_to,
            ceil(options.expiration * 1000),
            ceil(options.runs * 1000),
            1,
            options.priority,
            options.persistent,
            timestamp,
            options.headers or NO_HEADERS,
        )
