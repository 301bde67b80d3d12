"""
How a worker receives calls, from their delivery to where they are begun.

Several things end a call here, and it is not run then: it is not signed where it
should be; its caller has cancelled it; it is here or answered already, and came a
second time; its caller is gone, and its task asks for that. What stands all of
this is taken. What one read brings is all checked before any of it is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from crew_tx.amqp.delivery import Delivery
from crew_tx.amqp.publisher import Publisher
from crew_tx.codec import Codec
from crew_tx.errors import DecodeError
from crew_tx.interfaces import IHeldCalls
from crew_tx.message import Answer, Call, call_from, cancel_from
from crew_tx.rpc.answers import Answers, TakenDelivery
from crew_tx.rpc.digests import LARGE_BODY, body_digest
from crew_tx.rpc.gates import WorkerGate, refusal_body
from crew_tx.rpc.probing import Probing
from crew_tx.rpc.recent import CANCELLED_SECONDS, RecentCalls
from crew_tx.rpc.replies import InThread
from crew_tx.signing import RefusedError


class TakenCalls(Protocol):
    """The calls that a worker has, begun or not."""

    @property
    def threads(self) -> IHeldCalls:
        """Those that wait for a thread."""

    def find(self, call_id: str, reply_to: str | None) -> Any:
        """The attempt at a caller's call; None if there is none."""

    def drop(self, attempt: Any) -> None:
        """End a call without an answer."""


class Reception:
    """
    :param clock: an ``IReactorTime``.
    :param answers: what tells a caller that its call is refused.
    :param calls: those that were taken.
    :param take: takes a call, and what settles it.
    :param skip_abandoned: the tasks whose callers are asked after.
    :param gate: where signatures are verified; None takes what comes.
    :param in_thread: runs a function in a thread and gives a Deferred of its
        value: large bodies are hashed there.
    :ivar probing: the calls whose callers are asked after.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        publisher: Publisher,
        codec: Codec,
        answers: Answers,
        calls: TakenCalls,
        take: Callable[[Call, TakenDelivery], object],
        *,
        worker_id: str,
        skip_abandoned: Iterable[str],
        gate: WorkerGate | None,
        in_thread: InThread,
    ) -> None:
        self._codec = codec
        self._answers = answers
        self._calls = calls
        self._take = take
        self._worker_id = worker_id
        self._gate = gate
        self._in_thread = in_thread
        self._is_closed = False
        self._answered = RecentCalls(clock)
        self._cancelled = RecentCalls(clock, CANCELLED_SECONDS)
        self.probing = Probing(clock, publisher, skip_abandoned, calls.threads, self._caller_there)

    def close(self) -> None:
        """Take no more: what comes from now on is for other workers."""
        self._is_closed = True

    def check(self, delivery: Delivery, taken: TakenDelivery, digest: bytes | None = None) -> Call | None:
        """
        A message came from a task's queue.

        :param digest: what is signed in place of its body, where that is large.
        :returns: the call that is to be :meth:`received`; None of what is settled, or is large and not
            verified yet.
        """
        if self._is_closed:
            taken.hand_back()
            return None
        try:
            call = call_from(delivery.properties, delivery.body, delivery.redelivered)
        except DecodeError as error:
            self._is_no_call(delivery, taken, error)
            return None
        if self._gate is None:
            return call
        if digest is None and len(call.body) > LARGE_BODY:
            self._in_thread(body_digest, call.body).addCallback(partial(self._digested, delivery, taken))
            return None
        return call if self._is_signed(self._gate, call, delivery, taken, digest) else None

    def received(self, call: Call, taken: TakenDelivery) -> None:
        """A call that was checked is to be taken, unless there is a reason against it."""
        if self._is_closed:
            taken.hand_back()
            return
        if self._cancelled and self._cancelled.has(call.call_id, call.reply_to):
            taken.ack()
            return
        if (call.redelivered or call.attempt > 1) and self._is_known(call, taken):
            return
        if self.probing.task_ids and self.probing.wants(call):
            self.probing.ask(call, taken)
            return
        self._take(call, taken)

    def _digested(self, delivery: Delivery, taken: TakenDelivery, digest: bytes) -> None:
        """What is signed of a large body is known; meanwhile its channel may have ended."""
        if taken.is_dead:
            return
        call = self.check(delivery, taken, digest)
        if call is not None:
            self.received(call, taken)

    def answered(self, call_id: str, reply_to: str | None) -> None:
        """A call that was taken has its answer: it is not run again if it comes again."""
        self._answered.add(call_id, reply_to)

    def told(self, delivery: Delivery) -> None:
        """A cancel came."""
        try:
            call_id, reply_to = cancel_from(delivery.properties)
            if self._gate is not None:
                self._gate.cancel(delivery, reply_to)
            self._abandoned(call_id, reply_to)
        except RefusedError:
            # It is counted, and its sender waits for nothing.
            return
        except DecodeError as error:
            self.log.warn("a message is no cancel: {error}", error=str(error))

    def _is_no_call(self, delivery: Delivery, taken: TakenDelivery, error: DecodeError) -> None:
        self.log.warn("a message is no call: {error}", error=str(error))
        if self._gate is None:
            taken.reject()
        else:
            # Its dead letter might pass for that of another call.
            self._gate.no_call(delivery)
            taken.ack()

    def _is_signed(
        self, gate: WorkerGate, call: Call, delivery: Delivery, taken: TakenDelivery, digest: bytes | None
    ) -> bool:
        """
        Whether a call is signed; if not, its caller is told.

        Of a replay nobody is told: its caller has an answer, or will. Nor is what is
        refused rejected: its dead letter might pass for that of another call.
        """
        try:
            taken.reference = gate.call(call, delivery, digest)
        except RefusedError as refusal:
            taken.reference = refusal.reference
            said = self._codec.encode_like(refusal_body(refusal), call.content_type)
            answer = Answer(call.call_id, *said, "refused", self._worker_id, 0.0, call.persistent)
            self._answers.send(answer, None if refusal.reason == "replayed" else call.reply_to, taken)
            return False
        return True

    def _is_known(self, call: Call, taken: TakenDelivery) -> bool:
        """Whether a call that comes again is answered here, or will be: it is not run twice."""
        if self._answered.has(call.call_id, call.reply_to):
            self._answers.came_again(call.call_id, call.reply_to, taken)
            return True
        attempt = self._calls.find(call.call_id, call.reply_to)
        attempt = attempt or self.probing.find(call.call_id, call.reply_to)
        if attempt is None:
            return False
        if attempt.delivery.is_dead:
            # Its answer takes this one out of the queue.
            attempt.delivery = taken
        else:
            taken.ack()
        return True

    def _caller_there(self, call: Call, taken: TakenDelivery) -> None:
        """The caller of a call waits for it, unless that came meanwhile which says it does not."""
        if self._is_closed:
            taken.hand_back()
        elif self._cancelled.has(call.call_id, call.reply_to):
            taken.ack()
        else:
            self._take(call, taken)

    def _abandoned(self, call_id: str, reply_to: str) -> None:
        """Its caller waits for a call no more: end it here, or when it comes."""
        attempt = self._calls.find(call_id, reply_to)
        if attempt is None:
            self._cancelled.add(call_id, reply_to)
            return
        self._calls.drop(attempt)
        attempt.delivery.ack()
        attempt.settle()
        self._answered.add(call_id, reply_to)
