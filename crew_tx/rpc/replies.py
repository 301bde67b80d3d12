"""
What comes into a client's reply queue: answers, and its own dead letters.

In two steps, for what one read brings: first all is read, and verified under
signing; then each goes to the call that waits for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.delivery import Delivery
from crew_tx.codec import Codec
from crew_tx.errors import DecodeError
from crew_tx.message import (
    Answer,
    DeadLetter,
    Properties,
    answer_from,
    dead_letter_from,
    is_dead_letter,
    is_probe,
)
from crew_tx.rpc.digests import LARGE_BODY, body_digest
from crew_tx.rpc.gates import ISigned, ReplyGate
from crew_tx.rpc.outcome import answer_error, dead_letter_error
from crew_tx.rpc.pending import PendingCalls

InThread = Callable[..., "Deferred[Any]"]
#: A message, and the Deferred of what waits for it. Not the call: errors keep what handed them over,
#: until garbage is collected, and a call has its body.
Reading = tuple[Answer | DeadLetter, "Deferred[Any]"]

_ACK_AFTER = 64
_ACK_WITHIN = 0.02
_REMEMBERED = 10_000


class IGatherings(Protocol):
    """The commands that wait for answers."""

    def find(self, call_id: str) -> ISigned | None:
        """One by its id; None if nobody waits for answers to it."""

    def answered(self, answer: Answer) -> bool:
        """Take an answer. :returns: whether somebody waits for it."""


class BatchedAcks:
    """
    Acknowledges deliveries in order, many at a time.

    :param clock: an ``IReactorTime``.
    """

    def __init__(self, clock: IReactorTime, channel: AMQChannel) -> None:
        self._clock = clock
        self._channel = channel
        self._tag = 0
        self._count = 0
        self._call: IDelayedCall | None = None

    def add(self, delivery_tag: int) -> None:
        """Acknowledge this and all before it, soon."""
        self._tag = delivery_tag
        self._count += 1
        if self._count >= _ACK_AFTER:
            self.flush()
        elif self._call is None:
            self._call = self._clock.callLater(_ACK_WITHIN, self._due)

    def stop(self) -> None:
        """Leave no delayed call."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def flush(self) -> None:
        """Acknowledge now."""
        self.stop()
        if self._count:
            self._count = 0
            self._channel.ack(self._tag, multiple=True)

    def _due(self) -> None:
        self._call = None
        self.flush()


class ReplyReader:
    """
    Brings each reply and dead letter to its pending call, and each answer to a command to who gathers them.

    What waits for a message is looked up when it is read, and has to wait still when it is
    received: verified for one call, it is not another's of the same id.

    :param in_thread: runs a function in a thread and gives a Deferred of its
        value: large bodies are decoded there.
    :param gatherings: those that wait for answers to commands.
    :param gate: where signatures are verified; None takes what comes.
    """

    log = Logger()

    def __init__(
        self,
        pending: PendingCalls,
        codec: Codec,
        in_thread: InThread,
        gatherings: IGatherings,
        gate: ReplyGate | None = None,
    ) -> None:
        self._pending = pending
        self._gate = gate
        self._gatherings = gatherings
        self._codec = codec
        self._in_thread = in_thread
        self._answered: OrderedDict[str, None] = OrderedDict()
        self.late = 0
        self.duplicates = 0
        self.undecodable = 0

    def read(self, delivery: Delivery) -> Reading | None:
        """
        A message came.

        :returns: what is to be :meth:`received`; None of what nobody waits for, or is not to be
            believed, or can't be read, or is large and not verified yet.
        """
        properties = delivery.properties
        message: Answer | DeadLetter
        try:
            if is_dead_letter(properties):
                message = dead_letter_from(properties)
            else:
                message = answer_from(properties, delivery.body)
        except DecodeError as error:
            self._not_readable(properties, error)
            return None
        sent = self._find(message.call_id)
        if sent is None or sent.deferred is None:
            self._count_stray(message.call_id)
            return None
        reading = message, sent.deferred
        return reading if self._gate is None or self._is_good(self._gate, reading, sent, delivery) else None

    def _find(self, call_id: str) -> ISigned | None:
        return self._pending.find(call_id) or self._gatherings.find(call_id)

    def _waits(self, call_id: str, waiting: Deferred[Any]) -> bool:
        """Whether what had this id when a message was read still has it."""
        sent = self._find(call_id)
        return sent is not None and sent.deferred is waiting

    def _not_readable(self, properties: Properties, error: DecodeError) -> None:
        if is_probe(properties):
            # Of a worker that wants to know whether anybody waits here.
            return
        self.undecodable += 1
        self.log.warn("a message in the reply queue can't be read: {error}", error=str(error))

    def _is_good(self, gate: ReplyGate, reading: Reading, sent: ISigned, delivery: Delivery) -> bool:
        """Whether a message is signed as it should be; of a large one this is not known yet."""
        message, waiting = reading
        if isinstance(message, DeadLetter):
            return gate.admits_dead_letter(sent, message.call_id, delivery.properties)
        if len(message.body) <= LARGE_BODY:
            return gate.admits(sent, message, delivery)
        digesting = self._in_thread(body_digest, message.body)
        digesting.addCallback(partial(self._digested, gate, message, waiting, delivery))
        return False

    def _digested(
        self, gate: ReplyGate, answer: Answer, waiting: Deferred[Any], delivery: Delivery, digest: bytes
    ) -> None:
        """What is signed of a large body is known; meanwhile its call may have ended."""
        sent = self._find(answer.call_id)
        if sent is None or sent.deferred is not waiting:
            self._count_stray(answer.call_id)
        elif gate.admits(sent, answer, delivery, digest):
            # An error may keep this frame.
            del sent
            self.received((answer, waiting))

    def received(self, reading: Reading) -> None:
        """What was read is for what waits for it, unless that has ended meanwhile."""
        message, waiting = reading
        call_id = message.call_id
        if not self._waits(call_id, waiting):
            self._count_stray(call_id)
        elif isinstance(message, DeadLetter):
            self._count(call_id, self._pending.fail(call_id, dead_letter_error(message)))
        elif self._pending.find(call_id) is not None:
            self._answer_received(message, waiting)
        elif not self._gatherings.answered(message):
            self._count_stray(call_id)

    def _answer_received(self, answer: Answer, waiting: Deferred[Any]) -> None:
        if not self._codec.is_large(answer.body, answer.content_encoding):
            self._ended(self._read(answer), answer)
        else:
            reading: Deferred[Any] = self._in_thread(self._read, answer)
            reading.addErrback(_not_read).addCallback(self._decoded, answer, waiting)

    def _decoded(self, outcome: tuple[Exception | None, Any], answer: Answer, waiting: Deferred[Any]) -> None:
        """A large body is decoded; meanwhile its call may have ended."""
        if self._waits(answer.call_id, waiting):
            self._ended(outcome, answer)
        else:
            self._count_stray(answer.call_id)

    def _read(self, answer: Answer) -> tuple[Exception | None, Any]:
        """The error that it stands for, or else its value."""
        try:
            value = self._codec.decode(answer.body, answer.content_type, answer.content_encoding)
        except DecodeError as error:
            return error, None
        return (None, value) if answer.error is None else (answer_error(answer, value), None)

    def _ended(self, outcome: tuple[Exception | None, Any], answer: Answer) -> None:
        error, value = outcome
        if error is None:
            known = self._pending.answer(answer.call_id, value, answer)
        else:
            known = self._pending.fail(answer.call_id, error)
        self._count(answer.call_id, known)

    def _count(self, call_id: str, known: bool) -> None:
        if known:
            self._remember(call_id)
        else:
            self._count_stray(call_id)

    def _remember(self, call_id: str) -> None:
        self._answered[call_id] = None
        if len(self._answered) > _REMEMBERED:
            self._answered.popitem(last=False)

    def _count_stray(self, call_id: str) -> None:
        if call_id in self._answered:
            self.duplicates += 1
        else:
            self.late += 1


def _not_read(failure: Failure) -> Any:
    return failure.value, None
