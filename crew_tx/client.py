"""
The caller's side.

A call goes: :meth:`Client.call` -> an entry in the pending table -> its body
encoded -> its properties -> the publisher, which writes it when it may. Back:
the reply queue -> :class:`~crew_tx.rpc.replies.ReplyReader` -> the pending
table -> the Deferred.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any
from uuid import uuid4

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.declare import Declarer
from crew_tx.amqp.delivery import Delivery
from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.publisher import PUBLISH_TIMEOUT, Publication, Publisher
from crew_tx.amqp.service import HEARTBEAT, BrokerConnection
from crew_tx.amqp.uri import DEFAULT_URL, parse_all
from crew_tx.codec import Codec, Encoded
from crew_tx.errors import ClientStoppedError, ConnectionLostError, CrewError, ReplyLostError
from crew_tx.message import Headers, Reply
from crew_tx.rpc.options import DEFAULT_EXPIRATION, CallOptions
from crew_tx.rpc.outgoing import Probe, Sent
from crew_tx.rpc.parallel import Parallel
from crew_tx.rpc.pending import PendingCall, PendingCalls
from crew_tx.rpc.plan import CallPlan
from crew_tx.rpc.replies import BatchedAcks, ReplyReader
from crew_tx.status import ClientStatus
from crew_tx.topology import (
    QueueType,
    check_name,
    check_queue_type,
    reply_bindings,
    reply_queue,
)

Callback = Callable[[Any, Headers], object]

CONNECT_TIMEOUT = 30.0
CLOSE_TIMEOUT = 3.0
#: Tasks and sets of options for which is kept what their calls have in common.
_MOST_PLANS = 1024


class Client(Service):
    """
    Calls tasks that workers run.

    It is a Twisted service, too: as the child of another it connects when that
    starts and closes when that stops. Calls made before there is a connection
    wait for it, inside ``publish_timeout``.

    :param reactor: the reactor; a test gives it a clock.
    :param url: an AMQP URL, or several, separated by commas and tried in turn.
        Falls back to the environment's ``CREW_BROKER``, then to
        ``amqp://guest:guest@127.0.0.1:5672/%2F``.
    :param name: what the client is called in the broker and in logs.
    :param serializer: for calls that don't name one: ``cbor``, ``json``,
        ``text``, ``bytes``, or ``pickle`` where that is allowed.
    :param allow_pickle: read and write pickles, which can run any code: only
        where every worker and every caller is trusted.
    :param max_message_size: bytes of a body on the wire.
    :param reply_queue_type: ``quorum`` where the broker is a cluster.
    :param publish_timeout: seconds that a message may wait to be written.
    :param heartbeat: seconds, where the URL does not say.
    :raises ConfigurationError: if the URL is wrong.
    :raises InvalidArgumentError: if another argument is.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        url: str | None = None,
        *,
        name: str | None = None,
        serializer: str = "cbor",
        allow_pickle: bool = False,
        max_message_size: int = 16 * 1024 * 1024,
        reply_queue_type: QueueType = "classic",
        publish_timeout: float = PUBLISH_TIMEOUT,
        heartbeat: int = HEARTBEAT,
    ) -> None:
        check_queue_type(reply_queue_type)
        if name is not None:
            check_name("client", name)
        self._reactor = reactor
        self._unique = uuid4().hex
        self._closing: list[Deferred[None]] = []
        self._calls = 0
        self._ids = 0
        self.client_id = f"{name or 'client'}-{self._unique}"
        self._codec = Codec(serializer, allow_pickle=allow_pickle, max_message_size=max_message_size)
        self._reply_queue = reply_queue(self.client_id, reply_queue_type)
        self._publisher = Publisher(reactor, publish_timeout=publish_timeout)
        self._pending = PendingCalls(reactor, self._publisher.withdraw)
        self._replies = ReplyReader(self._pending, self._codec, self._in_thread)
        self._plans = lru_cache(maxsize=_MOST_PLANS)(CallPlan)
        self._acks: BatchedAcks | None = None
        self._channel: AMQChannel | None = None
        self._connection = BrokerConnection(
            reactor,
            parse_all(url or os.environ.get("CREW_BROKER") or DEFAULT_URL),
            self._prepare,
            name=self.client_id,
            heartbeat=heartbeat,
            on_lost=self._lost,
            on_refused=self._refused,
        )

    # -- connecting and closing ----------------------------------------------------

    def connect(self, timeout: float = CONNECT_TIMEOUT) -> Deferred[Client]:
        """
        Connect, and stay connected until :meth:`close`.

        :param timeout: seconds to wait for the first connection; the client
            goes on trying after that, and may be asked again.
        :returns: a Deferred of this client. It errbacks with
            :class:`AuthenticationError`, :class:`AccessRefusedError`,
            :class:`NotFoundError` or :class:`PreconditionFailedError` if the
            broker refuses it for good, with :class:`ConnectionLostError` if
            there is no connection in time.
        """
        if not self.running:
            self.startService()
        ready: Deferred[Any] = self._connection.when_ready()
        ready.addTimeout(timeout, self._reactor, self._not_connected)
        return ready.addCallback(lambda _: self)

    def close(self) -> Deferred[None]:
        """
        Close: pending calls fail with :class:`ClientStoppedError`, the reply queue is deleted.

        :returns: a Deferred that fires when it is done; it doesn't fail.
        """
        return self.stopService() if self.running or self._closing else succeed(None)

    def startService(self) -> None:
        super().startService()
        self._pending.start()
        self._connection.startService()

    def stopService(self) -> Deferred[None]:
        """A Deferred that fires when the client is closed; a second call waits for the first one's end."""
        done: Deferred[None] = Deferred()
        self._closing.append(done)
        if len(self._closing) == 1:
            Deferred.fromCoroutine(self._stop()).addBoth(self._stopped)
        return done

    def _stopped(self, result: object) -> object:
        closing, self._closing = self._closing, []
        for done in closing:
            done.callback(None)
        return result

    async def _stop(self) -> None:
        super().stopService()
        stopped = ClientStoppedError("the client was stopped")
        self._pending.stop(stopped)
        self._publisher.stop(stopped)
        await self._close()

    def status(self) -> ClientStatus:
        """A snapshot of what the client does."""
        return ClientStatus(
            client_id=self.client_id,
            connected=self._connection.is_ready,
            blocked=self._publisher.blocked,
            broker=self._connection.broker,
            pending=len(self._pending),
            waiting=self._publisher.waiting,
            unconfirmed=self._publisher.unconfirmed,
            calls=self._calls,
            answers=self._pending.answers,
            errors=self._pending.errors,
            late_replies=self._replies.late,
            duplicate_replies=self._replies.duplicates,
            undecodable=self._replies.undecodable,
        )

    # -- calling ---------------------------------------------------------------------

    def call(
        self,
        task_id: str,
        data: Any = None,
        *,
        priority: int = 0,
        expiration: float = DEFAULT_EXPIRATION,
        timeout: float | None = None,
        persistent: bool = True,
        headers: Headers | None = None,
        serializer: str | None = None,
        compress: str | bool | None = None,
        call_id: str | None = None,
        callback: Callback | None = None,
        require_worker: bool = False,
    ) -> Any:
        """
        Run a task on some worker.

        :param task_id: the task's id; for a service's method ``service.method``.
        :param data: what the task is given, in anything its serializer can write.
        :param priority: 0 to 255; the broker has eleven steps of it.
        :param expiration: seconds that the call may wait in its queue.
        :param timeout: seconds that the task may run, from when a worker has
            received it; falls back to ``expiration``. The task's own limit
            holds as well.
        :param persistent: whether call and reply survive a restart of the broker.
        :param headers: the caller's own headers, for the task to read.
        :param serializer: in place of the client's.
        :param compress: False for never, ``gzip`` or ``zstd`` for always.
        :param call_id: an id of the caller's choosing.
        :param callback: called with the value, or with the error, and with the
            reply's headers.
        :param require_worker: fail at once with :class:`NoWorkersError` if no
            worker of the task is connected now.
        :returns: a Deferred of the value; with ``callback`` the call's id. The
            Deferred errbacks with one of :mod:`crew_tx.errors`; cancelling it
            ends the call with ``CancelledError``.
        """
        options = CallOptions(
            priority, expiration, timeout, persistent, headers, serializer, compress, call_id, require_worker
        )
        if callback is None:
            return self._start(task_id, data, options, wants_reply=False)
        if call_id is None:
            options = options._replace(call_id=self._new_id())
        self._start(task_id, data, options, wants_reply=True).addBoth(_give, callback).addErrback(
            _log_callback
        )
        return options.call_id

    def request(
        self,
        task_id: str,
        data: Any = None,
        *,
        priority: int = 0,
        expiration: float = DEFAULT_EXPIRATION,
        timeout: float | None = None,
        persistent: bool = True,
        headers: Headers | None = None,
        serializer: str | None = None,
        compress: str | bool | None = None,
        call_id: str | None = None,
        require_worker: bool = False,
    ) -> Deferred[Reply]:
        """
        Run a task, as :meth:`call` does.

        :returns: a Deferred of the :class:`Reply`: the value, the reply's
            headers, the worker, and how long the task ran.
        """
        options = CallOptions(
            priority, expiration, timeout, persistent, headers, serializer, compress, call_id, require_worker
        )
        return self._start(task_id, data, options, wants_reply=True)

    def send(
        self,
        task_id: str,
        data: Any = None,
        *,
        priority: int = 0,
        expiration: float = DEFAULT_EXPIRATION,
        timeout: float | None = None,
        persistent: bool = True,
        headers: Headers | None = None,
        serializer: str | None = None,
        compress: str | bool | None = None,
        call_id: str | None = None,
    ) -> Deferred[None]:
        """
        Have a task run, one way: nobody answers.

        :returns: a Deferred that fires when the broker has the message. Errors
            are as of :meth:`call`, as far as they are known by then.
        """
        options = CallOptions(
            priority, expiration, timeout, persistent, headers, serializer, compress, call_id
        )
        try:
            self._pending.check_running()
            plan = CallPlan(task_id, options, None)
        except CrewError:
            return fail()
        message = Sent(task_id, options.call_id or self._new_id(), self._publisher.withdraw)
        self._encode(data, options).addCallbacks(
            lambda encoded: self._publish_sent(message, encoded, plan),
            lambda failure: message.failed(failure.value),
        )
        return message.deferred

    def parallel(self) -> Parallel:
        """
        Several calls at a time::

            with client.parallel() as calls:
                calls.call("test")
                calls.call("stat")
                test, stat = await calls.result()
        """
        return Parallel(self.call)

    # -- out -----------------------------------------------------------------------------

    def _start(self, task_id: str, data: Any, options: CallOptions, wants_reply: bool) -> Deferred[Any]:
        try:
            plan = self._plan(task_id, options)
            call = self._pending.new(
                task_id, options.call_id or self._new_id(), options.expiration, options.runs, wants_reply
            )
        except CrewError:
            return fail()
        self._calls += 1
        # Taken now: a call that ends at once lets go of it.
        deferred = call.deferred
        assert deferred is not None
        if self._codec.is_large(data):
            self._encode(data, options).addCallbacks(
                lambda encoded: self._publish(call, encoded, plan),
                lambda failure: call.failed(failure.value),
            )
            return deferred
        try:
            encoded = self._codec.encode(data, options.serializer, options.compress)
        except CrewError as error:
            self._pending.fail(call.message_id, error)
        else:
            self._publish(call, encoded, plan)
        return deferred

    def _plan(self, task_id: str, options: CallOptions) -> CallPlan:
        """
        What such calls have in common; kept for calls to come, where it can be found again.

        :raises CrewError: if an argument is wrong, or the broker refuses us for good.
        """
        if self._connection.refusal is not None:
            raise self._connection.refusal
        if options.headers is None and options.call_id is None:
            # Something that can't be hashed is wrong, and the check says how.
            with suppress(TypeError):
                return self._plans(task_id, options, self.client_id)
        return CallPlan(task_id, options, self.client_id)

    def _new_id(self) -> str:
        self._ids += 1
        return f"{self._unique}.{self._ids}"

    def _encode(self, data: Any, options: CallOptions) -> Deferred[Encoded]:
        if self._codec.is_large(data):
            return self._in_thread(self._codec.encode, data, options.serializer, options.compress)
        try:
            return succeed(self._codec.encode(data, options.serializer, options.compress))
        except CrewError:
            return fail()

    def _publish(self, call: PendingCall, encoded: Encoded, plan: CallPlan) -> None:
        if call.deferred is None:
            # It ended while its body was encoded.
            return
        try:
            self._fill(call, encoded, plan)
            probing = plan.options.require_worker
            self._publisher.publish(Probe(call, self._pending, self._publisher) if probing else call)
        except CrewError as error:
            self._pending.fail(call.message_id, error)

    def _publish_sent(self, message: Sent, encoded: Encoded, plan: CallPlan) -> None:
        try:
            # Its body may have been encoded in a thread, and the client stopped meanwhile.
            self._pending.check_running()
            self._fill(message, encoded, plan)
            self._publisher.publish(message)
        except CrewError as error:
            message.failed(error)

    def _fill(self, message: Publication, encoded: Encoded, plan: CallPlan) -> None:
        """:raises EncodeError: if the headers can't be written, or are too large."""
        message.body = encoded.body
        message.properties = plan.properties(encoded, message.message_id, int(self._reactor.seconds()))

    def _in_thread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args)

    # -- the connection --------------------------------------------------------------------

    async def _prepare(self, client: AMQClient) -> None:
        """Make a new connection ready: what must exist, the reply queue, confirms, the consumer."""
        declarer = Declarer(client)
        await declarer.topology()
        await declarer.queue(self._reply_queue)
        await declarer.bind(reply_bindings(self.client_id))
        await declarer.close()
        channel = await client.open_channel()
        await channel.confirm_select()
        self._acks = acks = BatchedAcks(self._reactor, channel)

        def received(delivery: Delivery) -> None:
            self._replies.received(delivery)
            acks.add(delivery.delivery_tag)

        await channel.consume(
            self._reply_queue.name, received, on_cancelled=lambda tag: self._reply_queue_gone(client)
        )
        self._channel = channel
        self._publisher.attach(channel)

    def _reply_queue_gone(self, client: AMQClient) -> None:
        """Start anew with a connection, and so with a queue, of our own."""
        error = ReplyLostError(f"the reply queue {self._reply_queue.name} is gone")
        self._pending.fail_written(error)
        client.fail(error)

    def _lost(self, reason: CrewError) -> None:
        self._channel = None
        if self._acks is not None:
            self._acks.stop()
        self._pending.fail_written(
            ConnectionLostError(f"{reason}; the task of this call may have run", maybe_sent=True)
        )

    def _refused(self, error: CrewError) -> None:
        self._pending.stop(error)
        self._publisher.stop(error)

    def _not_connected(self, value: Any, timeout: float) -> Any:
        reason = self._connection.last_failure or self._connection.broker
        raise ConnectionLostError(f"no connection to the broker within {timeout:g} s: {reason}")

    async def _close(self) -> None:
        channel, self._channel = self._channel, None
        if self._acks is not None:
            self._acks.flush()
        if channel is not None and not channel.closed:
            await (
                _delete_queue(channel, self._reply_queue.name)
                .addTimeout(CLOSE_TIMEOUT, self._reactor)
                .addErrback(self._not_deleted)
            )
        await self._connection.stopService()
        if self._acks is not None:
            self._acks.stop()

    def _not_deleted(self, failure: Failure) -> None:
        self.log.warn(
            "the reply queue {queue} was not deleted, and expires by itself: {reason}",
            queue=self._reply_queue.name,
            reason=failure.getErrorMessage(),
        )


def _delete_queue(channel: AMQChannel, queue: str) -> Deferred[Any]:
    deleted: Deferred[Any] = channel.queue_delete(queue=queue)
    return deleted


def _give(outcome: Reply | Failure, callback: Callback) -> None:
    if isinstance(outcome, Failure):
        callback(outcome.value, {})
    else:
        callback(outcome.value, outcome.headers)


def _log_callback(failure: Failure) -> None:
    Client.log.failure("the callback of a call failed", failure=failure)
