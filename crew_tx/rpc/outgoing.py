"""What a client publishes besides calls: one-way messages, and probes for a worker."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

from twisted.internet.defer import Deferred

from crew_tx.amqp.delivery import Returned
from crew_tx.amqp.properties import encode_properties
from crew_tx.amqp.publisher import Publication, Publisher
from crew_tx.errors import (
    BrokerBlockedError,
    ConnectionLostError,
    CrewError,
    NoWorkersError,
    PublishNackedError,
    PublishTimeoutError,
    UnroutableError,
)
from crew_tx.message import Properties, cancel_properties, probe_properties
from crew_tx.rpc.pending import PendingCall
from crew_tx.topology import TASKS, WORKERS


class Sent(Publication):
    """
    A message that nobody answers: a one-way call, as a rule.

    :param withdraw: called with it when it is cancelled.
    :ivar deferred: fires when the broker has it; dropped when it has fired.
    :ivar signatures: that which it was sent with; none where nothing is signed.
    """

    __slots__ = ("_withdraw", "deferred", "encoded", "plan", "signatures")

    def __init__(
        self,
        routing_key: str,
        message_id: str,
        withdraw: Callable[[Publication], object] = lambda message: None,
        *,
        exchange: str = TASKS,
        mandatory: bool = True,
    ) -> None:
        super().__init__(exchange, routing_key, b"", b"", message_id, mandatory)
        self._withdraw = withdraw
        self.plan: Any = None
        self.encoded: Any = None
        self.signatures: tuple[bytes, ...] = ()
        self.deferred: Deferred[None] | None = Deferred(self._cancelled)

    def _cancelled(self, deferred: Deferred[None]) -> None:
        self.deferred = None
        self._withdraw(self)

    def confirmed(self) -> None:
        if self.deferred is not None:
            deferred, self.deferred = self.deferred, None
            deferred.callback(None)

    def returned(self, returned: Returned) -> None:
        self.failed(UnroutableError(self.routing_key))

    def failed(self, error: CrewError) -> None:
        if self.deferred is not None:
            deferred, self.deferred = self.deferred, None
            deferred.errback(error)

    def lost(self) -> None:
        self.failed(
            ConnectionLostError("the connection to the broker was lost before it confirmed", maybe_sent=True)
        )

    def refused(self, error: CrewError) -> None:
        self.failed(error)


#: Encodes a cancel's properties, signed, by them and its task id.
SignCancel = Callable[[Properties, str], bytes]
#: What a client has to say.
Outgoing = PendingCall | Sent


class Cancel(Publication):
    """
    Tells the workers of a task that nobody waits for a call any more.

    Those that have it interrupt it; all remember its id, since it may be in the queue yet.

    :param sign: encodes properties, signed; it is given the task id, too.
    """

    __slots__ = ("_encoded", "_publisher")

    def __init__(
        self,
        task_id: str,
        call_id: str,
        reply_to: str,
        publisher: Publisher,
        sign: SignCancel = lambda properties, task_id: encode_properties(properties),
    ) -> None:
        message_id = f"cancel.{uuid4().hex}"
        self._encoded = partial(sign, cancel_properties(message_id, call_id, reply_to), task_id)
        super().__init__(WORKERS, task_id, self._encoded(), b"", message_id, mandatory=False)
        self._publisher = publisher

    def lost(self) -> None:
        """Say it again, by the next connection; where the line is full, the call runs for nothing."""
        self.properties = self._encoded()
        with suppress(CrewError):
            self._publisher.publish(self)


class Probe(Publication):
    """
    Asks whether a worker of a task is connected, and makes the call only then.

    A worker binds its control queue by each of its tasks; where there is none
    the broker returns the probe.
    """

    __slots__ = ("_call", "_publisher")

    def __init__(self, call: Outgoing, publisher: Publisher) -> None:
        # Not made of the call's id, which may be as long as an id can be.
        message_id = f"probe.{uuid4().hex}"
        properties = encode_properties(probe_properties(message_id))
        super().__init__(WORKERS, call.routing_key, properties, b"", message_id)
        self._call = call
        self._publisher = publisher

    def returned(self, returned: Returned) -> None:
        self.failed(NoWorkersError(self.routing_key))

    def confirmed(self) -> None:
        if self._call.deferred is None:
            # It was cancelled, or the probe was returned before.
            return
        try:
            self._publisher.publish(self._call)
        except CrewError as error:
            self.failed(error)

    def failed(self, error: CrewError) -> None:
        if isinstance(error, BrokerBlockedError):
            # However far the probe came, nothing of the call was written.
            error = BrokerBlockedError(error.reason, maybe_sent=False)
        elif isinstance(error, ConnectionLostError):
            error = ConnectionLostError(str(error), maybe_sent=False)
        elif isinstance(error, PublishTimeoutError):
            error = PublishTimeoutError("the broker did not confirm the probe for a worker", maybe_sent=False)
        elif isinstance(error, PublishNackedError):
            # RabbitMQ 4.3 says so while it takes the queue of a worker away that has just left.
            error = NoWorkersError(self.routing_key)
        self._call.failed(error)

    def refused(self, error: CrewError) -> None:
        self.failed(error)

    def lost(self) -> None:
        """Ask again, by the next connection: nothing of the call was sent."""
        if self._call.deferred is None:
            return
        try:
            self._publisher.publish(self)
        except CrewError as error:
            self.failed(error)
