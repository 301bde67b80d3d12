"""
How a client's calls leave, from their arguments to the publisher.

A call has a plan, which says what it has in common with others; an entry in the
pending table, where its outcome finds it; its body, encoded; and its properties.
Then it is the publisher's. The same call may leave again, by another connection,
or be answered to another id of the client; and its workers may be told that nobody
waits for it any more.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime

from crew_tx.amqp.publisher import Publisher
from crew_tx.codec import Codec, Encoded
from crew_tx.errors import CrewError
from crew_tx.message import Headers
from crew_tx.rpc.cancelled import CancelledCalls
from crew_tx.rpc.digests import large_digest
from crew_tx.rpc.options import CallOptions, GivenOptions, checked_call_id
from crew_tx.rpc.outgoing import Cancel, Outgoing, Probe, Sent
from crew_tx.rpc.pending import PendingCall, PendingCalls
from crew_tx.rpc.plan import CallPlan, CallPlans
from crew_tx.rpc.signer import Signer


class Calling:
    """
    :param clock: an ``IReactorTime``.
    :param in_thread: runs a function in a thread and gives a Deferred of its
        value: large bodies are encoded there.
    :param client_id: where answers go, until :meth:`renew`.
    :param unique: what no other client has: ids of calls begin with it.
    :param signer: signs what leaves; None signs nothing.
    :ivar made: how many calls.
    :ivar pending: those that have no outcome yet.
    :ivar cancelled: those that were given up, and may be in their queues yet.
    """

    def __init__(
        self,
        clock: IReactorTime,
        publisher: Publisher,
        codec: Codec,
        in_thread: Callable[..., Deferred[Any]],
        client_id: str,
        unique: str,
        signer: Signer | None = None,
    ) -> None:
        self._clock = clock
        self._publisher = publisher
        self._codec = codec
        self._in_thread = in_thread
        self._client_id = client_id
        self._unique = unique
        self._signer = signer
        self._ids = 0
        self._plans = CallPlans(client_id)
        self._one_way_plans = CallPlans(None)
        self.made = 0
        self.pending = PendingCalls(
            clock, publisher.withdraw, self._abandoned, self._unroutable, publisher.publish
        )
        self.cancelled = CancelledCalls(clock, unique, self._tell_workers)

    # -- for the first time ------------------------------------------------------------

    def call(
        self,
        task_id: str,
        data: Any,
        options: GivenOptions,
        headers: Headers | None,
        call_id: str | None,
        wants_reply: bool,
    ) -> Deferred[Any]:
        """
        Make a call.

        :returns: a Deferred of its value, or of a :class:`Reply`; its outcome in any case.
        """
        try:
            plan = self._plans.plan(task_id, options, headers)
            name = self.id_of(call_id)
            if call_id is not None:
                self.cancelled.check(name, self._client_id)
            call = self.pending.new(task_id, name, plan.options.expiration, plan.runs, wants_reply)
        except CrewError:
            return fail()
        self.made += 1
        # Taken now: a call that ends at once lets go of it.
        deferred = call.deferred
        assert deferred is not None
        self._encode(call, data, plan)
        return deferred

    def send(
        self, task_id: str, data: Any, options: GivenOptions, headers: Headers | None, call_id: str | None
    ) -> Deferred[None]:
        """
        Make a call that nobody answers.

        :returns: a Deferred that fires when the broker has it.
        """
        try:
            self.pending.check_running()
            plan = self._one_way_plans.plan(task_id, options, headers)
            message = Sent(task_id, self.id_of(call_id), self._publisher.withdraw)
        except CrewError:
            return fail()
        deferred = message.deferred
        assert deferred is not None
        self._encode(message, data, plan)
        return deferred

    def id_of(self, call_id: str | None = None) -> str:
        """
        The caller's own id, or else a new one.

        :raises InvalidArgumentError: if the caller's own can't be a message's.
        """
        if call_id is not None:
            return checked_call_id(call_id)
        self._ids += 1
        return f"{self._unique}.{self._ids}"

    def _encode(self, message: Outgoing, data: Any, plan: CallPlan) -> None:
        options = plan.options
        if self._codec.is_large(data):
            self._in_thread(self._encoded, data, options).addCallbacks(
                lambda made: self._publish(message, made[0], made[1], plan.addressed(self._client_id)),
                lambda failure: message.failed(failure.value),
            )
            return
        try:
            encoded = self._codec.encode(data, options.serializer, options.compress)
        except CrewError as error:
            message.failed(error)
        else:
            self._publish(message, encoded, None, plan)

    def _encoded(self, data: Any, options: CallOptions) -> tuple[Encoded, bytes | None]:
        """In a thread: and what is signed in place of a large body, under signing."""
        encoded = self._codec.encode(data, options.serializer, options.compress)
        return encoded, None if self._signer is None else large_digest(encoded.body)

    def _publish(self, message: Outgoing, encoded: Encoded, digest: bytes | None, plan: CallPlan) -> None:
        if message.deferred is None:
            # It ended while its body was encoded.
            return
        try:
            # The client may have been stopped meanwhile, too.
            self.pending.check_running()
            message.plan, message.encoded, message.body = plan, encoded, encoded.body
            if self._signer is None:
                message.properties = plan.properties(encoded, message.message_id, int(self._clock.seconds()))
            else:
                message.properties = self._signer.call(message, plan, encoded, digest)
            probing = plan.options.require_worker
            self._publisher.publish(Probe(message, self._publisher) if probing else message)
        except CrewError as error:
            message.failed(error)

    # -- again ---------------------------------------------------------------------------

    def send_again(self) -> None:
        """What the broker may not have goes before all that waits, with the ids that it had."""
        timestamp = int(self._clock.seconds())
        calls = self.pending.take_again()
        for call, left in calls:
            call.attempt += 1
            call.plan = call.plan.addressed(self._client_id)
            if self._signer is not None:
                call.properties = self._signer.again(call, left)
                continue
            call.properties = call.plan.properties_again(
                call.encoded, call.message_id, timestamp, call.attempt, left
            )
        self._publisher.publish_first([call for call, _ in calls])

    def renew(self, client_id: str) -> None:
        """Answers go to another client id from now on, of the same length; those to what waits as well."""
        before, self._client_id = self._client_id, client_id
        self._plans = CallPlans(client_id)
        for call in self.pending:
            if self._signer is not None and call.properties:
                call.plan = call.plan.addressed(client_id)
                left = call.made + call.expiration - self._clock.seconds()
                call.properties = self._signer.again(call, left)
                continue
            # Those in the publisher's line, too; both ids have one length, and so have the properties.
            call.properties = call.properties.replace(before.encode(), client_id.encode())

    # -- no more -------------------------------------------------------------------------

    def _abandoned(self, call: PendingCall) -> None:
        """Nobody waits for it any more: the task's workers are told, and those that begin later."""
        self.cancelled.add(call.routing_key, call.message_id, self._client_id, call.made, call.expiration)

    def _unroutable(self, call: PendingCall) -> None:
        """It was cancelled, and there is no queue that it could be in."""
        self.cancelled.forget(call.message_id, self._client_id)

    def _tell_workers(self, task_id: str, call_id: str, reply_to: str) -> None:
        """If nobody can be told of a cancelled call, it runs for nothing."""
        sign = () if self._signer is None else (self._signer.cancel,)
        with suppress(CrewError):
            self._publisher.publish(Cancel(task_id, call_id, reply_to, self._publisher, *sign))
