"""What comes into a client's reply queue: answers, and its own dead letters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.delivery import Delivery
from crew_tx.codec import Codec
from crew_tx.errors import DecodeError
from crew_tx.message import Answer, answer_from, dead_letter_from, is_dead_letter, is_probe
from crew_tx.rpc.digests import LARGE_BODY, body_digest
from crew_tx.rpc.gates import ReplyGate
from crew_tx.rpc.outcome import answer_error, dead_letter_error
from crew_tx.rpc.pending import PendingCalls

InThread = Callable[..., "Deferred[Any]"]

_ACK_AFTER = 64
_ACK_WITHIN = 0.02
_REMEMBERED = 10_000


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
    Brings each reply and dead letter to its pending call.

    :param in_thread: runs a function in a thread and gives a Deferred of its
        value: large bodies are decoded there.
    :param gathered: called with an answer that no call waits for; whether somebody else does.
    :param gate: where signatures are verified; None takes what comes.
    """

    log = Logger()

    def __init__(
        self,
        pending: PendingCalls,
        codec: Codec,
        in_thread: InThread,
        gathered: Callable[[Answer], bool] = lambda answer: False,
        gate: ReplyGate | None = None,
    ) -> None:
        self._pending = pending
        self._gate = gate
        self._gathered = gathered
        self._codec = codec
        self._in_thread = in_thread
        self._answered: OrderedDict[str, None] = OrderedDict()
        self.late = 0
        self.duplicates = 0
        self.undecodable = 0

    def received(self, delivery: Delivery) -> None:
        """A message came."""
        properties = delivery.properties
        try:
            if is_dead_letter(properties):
                letter = dead_letter_from(properties)
                if self._gate is None or self._gate.admits_dead_letter(letter.call_id, properties):
                    self._count(letter.call_id, self._pending.fail(letter.call_id, dead_letter_error(letter)))
            else:
                answer = answer_from(properties, delivery.body)
                if self._gate is None:
                    self._answer_received(answer)
                elif len(answer.body) > LARGE_BODY:
                    self._in_thread(body_digest, answer.body).addCallback(
                        partial(self._signed_answer_received, self._gate, answer, delivery)
                    )
                else:
                    self._signed_answer_received(self._gate, answer, delivery)
        except DecodeError as error:
            if is_probe(properties):
                # Of a worker that wants to know whether anybody waits here.
                return
            self.undecodable += 1
            self.log.warn("a message in the reply queue can't be read: {error}", error=str(error))

    def _signed_answer_received(
        self, gate: ReplyGate, answer: Answer, delivery: Delivery, digest: bytes | None = None
    ) -> None:
        if gate.admits(answer, delivery, digest):
            self._answer_received(answer)

    def _answer_received(self, answer: Answer) -> None:
        if answer.call_id not in self._pending:
            if not self._gathered(answer):
                self._count_stray(answer.call_id)
        elif not self._codec.is_large(answer.body, answer.content_encoding):
            self._ended(self._read(answer), answer)
        else:
            reading: Deferred[Any] = self._in_thread(self._read, answer)
            reading.addErrback(_not_read).addCallback(self._ended, answer)

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
