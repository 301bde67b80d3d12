"""
Where signatures are verified: a worker's gate for calls, cancels and commands, a client's for replies.

A call is fresh for as long as it may wait in its queue, and the window; a
command and a cancel for the window. Each is taken once: a second copy is a
replay, unless the broker says that it delivers it again. A reply needs no
clock: it refers to the call that it answers, by its signature, and a pending call
takes one. So does a refusal, which is a reply as any: that of a forged copy
refers to something else than what the client sent, and ends no call. A worker that has
not the key of a call can't make its signature, and refers to it by the SHA-256 of its fields.

What the HMACs of many messages begin with is kept, of those that were verified.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from hmac import compare_digest
from typing import Any, Protocol, cast

from twisted.internet.defer import Deferred

from crew_tx.amqp.delivery import Delivery
from crew_tx.amqp.properties import decode_properties
from crew_tx.errors import EncodeError, MessageRefusedError
from crew_tx.message import CALL, SIGNATURE, Answer, Call, Properties, call_from, signature_of
from crew_tx.rpc.digests import (
    ANSWER_FIELDS,
    CALL_FIELDS,
    call_head,
    call_rest,
    cancel_head,
    command_head,
    plain_reference,
    reply_head,
    reply_rest,
    told_rest,
)
from crew_tx.rpc.refusals import Refusals
from crew_tx.signing import (
    KEY_ID_END,
    REPLY_KEY_ID_END,
    STAMP_END,
    BegunMac,
    RefusedError,
    SeenSignatures,
    SigningKeys,
    altered,
    check_fresh,
)

#: What a message that is odd in its values fails with.
_ODD = (EncodeError, TypeError, ValueError, AttributeError)
#: Beginnings of HMACs that are kept.
_MOST_BEGUN = 1024


class ISigned(Protocol):
    """
    A call or a command that waits for an answer.

    :ivar deferred: fires with its outcome; None once it has.
    :ivar signatures: those that it was sent with.
    :ivar properties: encoded, as they went out last.
    """

    deferred: Deferred[Any] | None
    exchange: str
    routing_key: str
    properties: bytes
    body: bytes
    signatures: tuple[bytes, ...]


def refusal_body(refusal: RefusedError) -> dict[str, str]:
    """What is said to whoever sent it."""
    return {
        "type": f"{MessageRefusedError.__module__}.{MessageRefusedError.__name__}",
        "message": f"the worker refused it ({refusal.reason}): {refusal.text}",
        "traceback": "",
        "reason": refusal.reason,
    }


class _Begun:
    """What the HMACs of messages of one kind begin with, for those kinds that came and were well."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, BegunMac] = {}
        self.get = self._kept.get

    def keep(self, kind: Hashable, begun: BegunMac) -> None:
        """Keep one; those of a program that makes ever new ones are all forgotten now and then."""
        if len(self._kept) >= _MOST_BEGUN:
            self._kept.clear()
        self._kept[kind] = begun


class WorkerGate:
    """
    A worker's.

    :param seconds: reads the clock: seconds since 1970.
    :ivar refusals: what was refused.
    :ivar seen: what was taken, to know a replay by.
    """

    def __init__(self, keys: SigningKeys, seconds: Callable[[], float]) -> None:
        self._keys = keys
        self._seconds = seconds
        self._begun = _Begun()
        self.refusals = Refusals(seconds)
        self.seen = SeenSignatures()

    def call(self, call: Call, delivery: Delivery, digest: bytes | None = None) -> bytes:
        """
        Verify a call.

        :param digest: of its body, where that is large and was made in a thread.
        :returns: by which its reply refers to it.
        :raises RefusedError: with the reference of the message as it came; counted and logged.
        """
        try:
            signature: Any = delivery.properties["headers"].get(SIGNATURE)
            kind = (
                signature[:KEY_ID_END] if signature.__class__ is str else None,
                delivery.exchange,
                delivery.routing_key,
                call.task_id,
                call[CALL_FIELDS],
            )
            begun = self._begun.get(kind)
            if begun is not None:
                octets = signature.encode()
                rest = call_rest(octets[:STAMP_END], call.headers, call.call_id, delivery.body, digest)
                return self._taken(begun, signature, octets, rest, call.expiration / 1000, delivery)
            begun, taken = self._first_call(call, delivery, signature, digest)
        except RefusedError as refusal:
            self.refusals.add("the call", call.call_id, refusal)
            raise
        except _ODD:
            raise self._odd("the call", call.call_id) from None
        self._begun.keep(kind, begun)
        return taken

    def no_call(self, delivery: Delivery) -> None:
        """Count what is no call, and can't have been signed."""
        refusal = RefusedError("tampered", "it is no call")
        self.refusals.add("the message", delivery.properties.get("message_id"), refusal)

    def cancel(self, delivery: Delivery, reply_to: str) -> None:
        """:raises RefusedError: counted and logged."""

        def head_of(stamp: int) -> bytes:
            return cancel_head(stamp, delivery.exchange, delivery.routing_key, reply_to)

        self._told("the cancel of", delivery, head_of)

    def command(self, delivery: Delivery) -> bytes:
        """
        Verify a command.

        :returns: by which its answer refers to it.
        :raises RefusedError: as :meth:`call`.
        """

        def head_of(stamp: int) -> bytes:
            return command_head(stamp, delivery.exchange, delivery.routing_key, delivery.properties)

        return self._told("the command", delivery, head_of)

    def _first_call(
        self, call: Call, delivery: Delivery, signature: Any, digest: bytes | None
    ) -> tuple[BegunMac, bytes]:
        def head_of(stamp: int) -> bytes:
            fields = call[CALL_FIELDS]
            return call_head(stamp, delivery.exchange, delivery.routing_key, call.task_id, fields)

        def rest_of(stamp: bytes) -> bytes:
            return call_rest(stamp, call.headers, call.call_id, delivery.body, digest)

        return self._first(head_of, rest_of, signature, call.expiration / 1000, delivery)

    def _told(self, kind: str, delivery: Delivery, head_of: Callable[[int], bytes]) -> bytes:
        call_id = cast(str, delivery.properties.get("correlation_id"))

        def rest_of(stamp: bytes) -> bytes:
            return told_rest(stamp, call_id, delivery.body)

        try:
            return self._first(head_of, rest_of, signature_of(delivery.properties), 0.0, delivery)[1]
        except RefusedError as refusal:
            self.refusals.add(kind, call_id, refusal)
            raise
        except _ODD:
            raise self._odd(kind, call_id) from None

    def _first(
        self,
        head_of: Callable[[int], bytes],
        rest_of: Callable[[bytes], bytes],
        signature: Any,
        lifetime: float,
        delivery: Delivery,
    ) -> tuple[BegunMac, bytes]:
        """Verify the first message of its kind. :returns: what others like it begin with, too."""
        try:
            key = self._keys.key_of(signature)
        except RefusedError as refusal:
            stamp = refusal.stamp.encode()
            refusal.reference = plain_reference(head_of(len(stamp)), rest_of(stamp))
            raise
        octets = signature.encode()
        stamp = octets[:STAMP_END]
        begun = key.begin(head_of(len(stamp)))
        return begun, self._taken(begun, signature, octets, rest_of(stamp), lifetime, delivery)

    def _taken(
        self,
        begun: BegunMac,
        signature: str,
        octets: bytes,
        rest: bytes,
        lifetime: float,
        delivery: Delivery,
    ) -> bytes:
        made = begun.ended(rest)
        # The stamp is in what is signed. Other characters than ASCII's are a TypeError.
        if not compare_digest(made, signature[STAMP_END:]):
            raise altered(signature[:KEY_ID_END], octets[:STAMP_END] + made.encode())
        now = self._seconds()
        until = check_fresh(signature, lifetime, now)
        if not self.seen.add(octets, until, now) and not delivery.redelivered:
            raise RefusedError("replayed", "the same message came before", reference=octets)
        return octets

    def _odd(self, kind: str, message_id: object) -> RefusedError:
        """Of values that crew_tx does not write: there is nothing that could be signed."""
        refusal = RefusedError("tampered", "it has values that nobody signs")
        self.refusals.add(kind, message_id, refusal)
        return refusal


class ReplyGate:
    """
    A client's.

    :param doubted: called with a call's id and why a reply to it was refused.
    :param seconds: reads the clock, for the log.
    :ivar refusals: what was refused.
    """

    def __init__(
        self,
        keys: SigningKeys,
        doubted: Callable[[str, str], object],
        seconds: Callable[[], float],
    ) -> None:
        self._keys = keys
        self._doubted = doubted
        self._begun = _Begun()
        self.refusals = Refusals(seconds)

    def admits(self, sent: ISigned, answer: Answer, delivery: Delivery, digest: bytes | None = None) -> bool:
        """
        Whether a reply is of a worker that has a key, and answers what was sent.

        :param digest: of its body, where that is large and was made in a thread.
        """
        signature: Any = signature_of(delivery.properties)
        try:
            kind = (
                signature[:STAMP_END] if signature.__class__ is str else None,
                answer.persistent,
                answer[ANSWER_FIELDS],
            )
            known = self._begun.get(kind)
            begun = known or self._begin(signature, answer)
            mac = signature[STAMP_END:]
            for reference in sent.signatures if answer.error != "refused" else _references(sent):
                if compare_digest(begun.ended(reply_rest(answer, reference, digest)), mac):
                    if known is None:
                        self._begun.keep(kind, begun)
                    return True
            raise altered(signature[:REPLY_KEY_ID_END])
        except RefusedError as refusal:
            return self._refused("a reply to", answer.call_id, refusal)
        except _ODD:
            return self._refused(
                "a reply to", answer.call_id, altered(str(signature)[:REPLY_KEY_ID_END][:64])
            )

    def _begin(self, signature: Any, answer: Answer) -> BegunMac:
        """What the HMACs of replies of one kind begin with."""
        key = self._keys.key_of_reply(signature)
        return key.begin(reply_head(answer[ANSWER_FIELDS], answer.persistent))

    def admits_dead_letter(self, sent: ISigned, call_id: str, properties: Properties) -> bool:
        """
        Whether a dead letter is of what was sent.

        What the broker wrote into it is believed.
        """
        signature: Any = signature_of(properties)
        try:
            key = self._keys.key_of(signature)
            received = signature.encode("utf-8", "replace")
            if not any(compare_digest(each, received) for each in sent.signatures):
                raise altered(key.id)
        except RefusedError as refusal:
            return self._refused("a dead letter of", call_id, refusal)
        return True

    def _refused(self, kind: str, call_id: str, refusal: RefusedError) -> bool:
        self.refusals.add(kind, call_id, refusal)
        self._doubted(call_id, refusal.reason)
        return False


def _references(sent: ISigned) -> tuple[bytes, ...]:
    """By what a refusal may refer to what was sent: a worker without its key has another word for it."""
    if not sent.properties:
        # It has not been sent.
        return ()
    properties = decode_properties(sent.properties, 0, len(sent.properties))
    stamp = cast(str, signature_of(properties)).encode()[:STAMP_END]
    if properties.get("type") == CALL:
        call = call_from(properties, sent.body)
        head = call_head(len(stamp), sent.exchange, sent.routing_key, call.task_id, call[CALL_FIELDS])
        rest = call_rest(stamp, call.headers, call.call_id, sent.body)
    else:
        head = command_head(len(stamp), sent.exchange, sent.routing_key, properties)
        rest = told_rest(stamp, properties["correlation_id"], sent.body)
    return (*sent.signatures, plain_reference(head, rest))
