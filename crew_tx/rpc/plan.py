"""What the calls of one task with the same options have in common, worked out once."""

from __future__ import annotations

from functools import lru_cache, partial
from math import ceil
from typing import Any

from crew_tx.amqp.publisher import encode_message_properties
from crew_tx.amqp.template import CallTemplate, SignedCallTemplate
from crew_tx.codec import Encoded
from crew_tx.message import NO_HEADERS, Call, Headers, call_properties, signed_properties
from crew_tx.rpc.digests import call_head, call_rest, sent_call_fields
from crew_tx.rpc.options import CallOptions, GivenOptions
from crew_tx.signing import BegunMac, SigningKeys
from crew_tx.topology import TASKS, check_task_id

#: Tasks and sets of options for which a plan is kept.
_MOST_PLANS = 1024


class CallPlan:
    """
    :param reply_to: the client id; None for one way.
    :ivar runs: seconds that each may run.
    :raises InvalidArgumentError: naming the argument that is wrong.
    :raises EncodeError: later, by :meth:`properties`, if the headers can't be written.
    """

    __slots__ = ("_reply_to", "_signed", "_templates", "options", "runs", "task_id")

    def __init__(self, task_id: str, options: CallOptions, reply_to: str | None) -> None:
        check_task_id(task_id)
        options.check()
        self.task_id = task_id
        self.options = options
        self.runs = options.runs
        self._reply_to = reply_to
        self._templates: dict[tuple[str, str | None], CallTemplate] = {}
        self._signed: dict[tuple[str, str | None], tuple[SignedCallTemplate, BegunMac]] = {}

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

    def signed(
        self, encoded: Encoded, call_id: str, keys: SigningKeys, now: float, digest: bytes | None = None
    ) -> tuple[bytes, bytes]:
        """
        The encoded properties of one call that is signed, and its signature.

        :param now: seconds since 1970.
        :param digest: of its body, where that is large and was made already.
        """
        content_type, encoding, body = encoded.content_type, encoded.content_encoding, encoded.body
        if self.options.headers:
            return signed_call(self._call(encoded, call_id, int(now)), body, keys, now, digest)
        template, begun = self._signed.get((content_type, encoding)) or self._new_signed(encoded, keys)
        stamp, octets = keys.stamp(now)
        signature = (stamp + begun.ended(call_rest(octets, NO_HEADERS, call_id, body, digest))).encode()
        return template.fill(call_id, int(now), signature), signature

    def _new_signed(self, encoded: Encoded, keys: SigningKeys) -> tuple[SignedCallTemplate, BegunMac]:
        call = self._call(encoded, "", 0)
        template = SignedCallTemplate(signed_properties(call_properties(call), "-" * keys.size), keys.size)
        made = template, _begun(call, keys)
        self._signed[encoded.content_type, encoded.content_encoding] = made
        return made

    def signed_again(
        self,
        encoded: Encoded,
        call_id: str,
        attempt: int,
        expiration: float,
        keys: SigningKeys,
        now: float,
    ) -> tuple[bytes, bytes]:
        """As :meth:`properties_again`, signed anew; and the signature."""
        call = self._again(encoded, call_id, int(now), attempt, expiration)
        return signed_call(call, encoded.body, keys, now)

    def properties_again(
        self, encoded: Encoded, call_id: str, timestamp: int, attempt: int, expiration: float
    ) -> bytes:
        """
        The encoded properties of one call that is sent again.

        :param expiration: the seconds that it may still wait.
        """
        call = self._again(encoded, call_id, timestamp, attempt, expiration)
        return encode_message_properties(call_properties(call))

    def _again(self, encoded: Encoded, call_id: str, timestamp: int, attempt: int, expiration: float) -> Call:
        left = max(1, ceil(expiration * 1000))
        return self._call(encoded, call_id, timestamp)._replace(attempt=attempt, expiration=left)

    def addressed(self, reply_to: str) -> CallPlan:
        """The same for a client that has another id now; what is one way has none."""
        return self if self._reply_to in (reply_to, None) else CallPlan(self.task_id, self.options, reply_to)

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
            ceil(self.runs * 1000),
            1,
            options.priority,
            options.persistent,
            timestamp,
            options.headers or NO_HEADERS,
        )


class CallPlans:
    """
    The plans of one client: each is made once, and serves for all calls that are alike.

    :param reply_to: the client id; None for one way.
    """

    def __init__(self, reply_to: str | None) -> None:
        self._reply_to = reply_to
        # By types as well: 1 is a priority, True and 1.0, which are equal to it, are none.
        self._kept = lru_cache(maxsize=_MOST_PLANS, typed=True)(partial(_new_plan, reply_to))

    def plan(self, task_id: str, options: GivenOptions, headers: Headers | None = None) -> CallPlan:
        """
        The plan of a call; where the caller has headers, it is for this one alone.

        :raises InvalidArgumentError: naming the argument that is wrong.
        """
        if headers:
            return CallPlan(task_id, CallOptions(*options, headers), self._reply_to)
        try:
            return self._kept(task_id, *options)
        except TypeError:
            # Something that can't be hashed is wrong, and the check says how.
            return _new_plan(self._reply_to, task_id, *options)


def signed_call(
    call: Call, body: bytes, keys: SigningKeys, now: float, digest: bytes | None = None
) -> tuple[bytes, bytes]:
    """
    The encoded properties of a call, signed, and its signature.

    :raises EncodeError: if its headers can't be written.
    """
    stamp, octets = keys.stamp(now)
    rest = call_rest(octets, call.headers, call.call_id, body, digest)
    signature = stamp + _begun(call, keys).ended(rest)
    properties = signed_properties(call_properties(call), signature)
    return encode_message_properties(properties), signature.encode()


def _begun(call: Call, keys: SigningKeys) -> BegunMac:
    fields = sent_call_fields(call)
    return keys.signing.begin(call_head(keys.stamp_size, TASKS, call.task_id, call.task_id, fields))


def _new_plan(reply_to: str | None, task_id: str, *options: Any) -> CallPlan:
    return CallPlan(task_id, CallOptions(*options), reply_to)
