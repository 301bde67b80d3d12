"""
The caller's side.

A call goes: :meth:`Client.call` -> :class:`~crew_tx.rpc.calling.Calling`: its plan ->
an entry in the pending table -> its body encoded -> its properties -> the
publisher, which writes it when it may.
Back: the :class:`~crew_tx.rpc.reply_queue.ReplyQueue` of the connection ->
:class:`~crew_tx.rpc.replies.ReplyReader` -> the pending table -> the Deferred.
"""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from typing import Any
from uuid import uuid4

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.publisher import PUBLISH_TIMEOUT, Publisher
from crew_tx.amqp.service import HEARTBEAT, BrokerConnection, OnRefusal
from crew_tx.amqp.uri import DEFAULT_URL, BrokerURL, parse_all
from crew_tx.codec import Codec
from crew_tx.errors import ClientStoppedError, ConnectionLostError, CrewError
from crew_tx.interfaces import ITracing
from crew_tx.mapreduce import (
    WINDOW,
    Errors,
    Failed,
    Initial,
    Items,
    Mapping,
    Partial,
    Progress,
    Reducer,
    always,
    map_reduce,
    map_reduce_by_key,
)
from crew_tx.message import Headers, Reply
from crew_tx.pubsub import BUFFER, EventPublisher, Missed, Overflow, Subscription, Subscriptions
from crew_tx.rpc.calling import Calling
from crew_tx.rpc.command_publisher import CommandPublisher
from crew_tx.rpc.gates import ReplyGate
from crew_tx.rpc.gathering import TIMEOUT as GATHER_TIMEOUT
from crew_tx.rpc.gathering import Gatherings
from crew_tx.rpc.options import DEFAULT_EXPIRATION, GivenOptions
from crew_tx.rpc.parallel import Parallel
from crew_tx.rpc.replies import ReplyReader
from crew_tx.rpc.reply_queue import ReplyQueue
from crew_tx.rpc.signer import Signer
from crew_tx.signing import SigningKeys
from crew_tx.status import ClientStatus
from crew_tx.topology import QueueType, check_name, check_queue_type

Callback = Callable[[Any, Headers], object]

CONNECT_TIMEOUT = 30.0
_STILL_CLOSING = "the client is still closing: wait for the Deferred of close(), then connect again"


class Client(Service):
    """
    Calls tasks that workers run.

    It is a Twisted service, too: as the child of another it connects when that
    starts and closes when that stops. Calls made before there is a connection
    wait for it, inside ``publish_timeout``.

    :param reactor: the reactor; a test gives it a clock.
    :param url: an AMQP URL, or several, separated by commas or parsed, and tried in turn.
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
    :param tracing: a :class:`crew_tx.tracing.Tracing`, to make spans of calls.
    :param on_refusal: ``end`` where all brokers refuse for good (a wrong password, a missing virtual host):
        whatever waits fails, as ``connect()`` says; or ``wait`` to go on trying until one takes it.
    :param signing_keys: what it signs is signed by them, and only signed replies are taken.
    :raises ConfigurationError: if the URL is wrong.
    :raises InvalidArgumentError: if another argument is.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        url: str | list[BrokerURL] | None = None,
        *,
        name: str | None = None,
        serializer: str = "cbor",
        allow_pickle: bool = False,
        max_message_size: int = 16 * 1024 * 1024,
        reply_queue_type: QueueType = "classic",
        publish_timeout: float = PUBLISH_TIMEOUT,
        heartbeat: int = HEARTBEAT,
        tracing: ITracing | None = None,
        on_refusal: OnRefusal = "end",
        signing_keys: SigningKeys | None = None,
    ) -> None:
        check_queue_type(reply_queue_type)
        if name is not None:
            check_name("client", name)
        self._reactor = reactor
        self._tracing = tracing
        self._name = name or "client"
        unique = uuid4().hex
        self._closing: list[Deferred[None]] = []
        self.client_id = f"{self._name}-{unique}"
        self._codec = Codec(serializer, allow_pickle=allow_pickle, max_message_size=max_message_size)
        self._publisher = Publisher(reactor, publish_timeout=publish_timeout)
        signer = None if signing_keys is None else Signer(signing_keys, reactor.seconds)
        self._calling = Calling(
            reactor, self._publisher, self._codec, self._in_thread, self.client_id, unique, signer
        )
        self._pending = self._calling.pending
        self._cancelled = self._calling.cancelled
        running = self._pending.check_running
        self._commands = CommandPublisher(reactor, publish_timeout)
        self._gatherings = Gatherings(
            reactor,
            self._commands,
            self._codec,
            self._in_thread,
            self.client_id,
            running,
            None if signer is None else signer.command,
        )
        self._gate = (
            None if signing_keys is None else ReplyGate(signing_keys, self._pending.doubt, reactor.seconds)
        )
        self._replies = ReplyReader(self._pending, self._codec, self._in_thread, self._gatherings, self._gate)
        self._reply_queue = ReplyQueue(
            reactor,
            self.client_id,
            reply_queue_type,
            self._replies.read,
            self._replies.received,
            self._pending.fail_confirmed,
            self._renew_id,
        )
        self._events = EventPublisher(
            reactor, self._publisher, self._codec, self._in_thread, self.client_id, running
        )
        self._subscriptions = Subscriptions(reactor, self._codec, self._in_thread)
        self._connection = self._make_connection(_brokers(url), heartbeat, on_refusal)

    def _make_connection(
        self, urls: list[BrokerURL], heartbeat: int, on_refusal: OnRefusal
    ) -> BrokerConnection:
        return BrokerConnection(
            self._reactor,
            urls,
            self._prepare,
            name=self.client_id,
            heartbeat=heartbeat,
            on_lost=self._lost,
            on_refused=self._refused,
            on_refusal=on_refusal,
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
            there is no connection in time or the client is closed before, and
            with :class:`ClientStoppedError` while it is closing.
        """
        try:
            if not self.running:
                self.startService()
        except ClientStoppedError:
            return fail()
        ready: Deferred[Any] = self._connection.when_ready()
        ready.addTimeout(timeout, self._reactor, self._not_connected)
        return ready.addCallback(lambda _: self)

    def close(self) -> Deferred[None]:
        """
        Close: pending calls fail with :class:`ClientStoppedError`, the reply queue is deleted.

        :returns: a Deferred that fires when it is done; it doesn't fail. After
            that the client may connect again, and not before.
        """
        return self.stopService() if self.running or self._closing else succeed(None)

    def startService(self) -> None:
        """:raises ClientStoppedError: while it is closing."""
        if self._closing:
            raise ClientStoppedError(_STILL_CLOSING)
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
        self._end(stopped)
        await self._reply_queue.delete()
        await self._connection.stopService()
        self._reply_queue.lost()

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
            calls=self._calling.made,
            answers=self._pending.answers,
            errors=self._pending.errors,
            late_replies=self._replies.late,
            duplicate_replies=self._replies.duplicates,
            undecodable=self._replies.undecodable,
            refused={} if self._gate is None else dict(self._gate.refusals.counts),
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
        :param call_id: an id of the caller's choosing, which it does not use again: where
            a call comes twice, workers tell that by its id.
        :param callback: called with the value, or with the error, and with the
            reply's headers.
        :param require_worker: fail at once with :class:`NoWorkersError` if no
            worker of the task is connected now.
        :returns: a Deferred of the value; with ``callback`` the call's id. The
            Deferred errbacks with one of :mod:`crew_tx.errors`; cancelling it
            ends the call with ``CancelledError``, and the task's workers are
            told: one that runs it interrupts it, and none begins it.
        """
        options = (priority, expiration, timeout, persistent, serializer, compress, require_worker)
        if callback is None:
            return self._start(task_id, data, options, headers, call_id)
        if call_id is None:
            call_id = self._calling.id_of()
        called = self._start(task_id, data, options, headers, call_id, wants_reply=True)
        called.addBoth(_give, callback).addErrback(_log_callback)
        return call_id

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
        options = (priority, expiration, timeout, persistent, serializer, compress, require_worker)
        return self._start(task_id, data, options, headers, call_id, wants_reply=True)

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
        options = (priority, expiration, timeout, persistent, serializer, compress, False)
        return self._send(task_id, data, options, headers, call_id)

    def parallel(self) -> Parallel:
        """
        Several calls at a time::

            with client.parallel() as calls:
                calls.call("test")
                calls.call("stat")
                test, stat = await calls.result()
        """
        return Parallel(self.call)

    def map(
        self,
        task_id: str,
        items: Items,
        *,
        window: int = WINDOW,
        ordered: bool = True,
        retries: int = 0,
        retry_pause: float = 0.0,
        retry_if: Callable[[CrewError], bool] = always,
        stragglers: int = 0,
        errors: Errors = "raise",
        progress: Progress = lambda done, begun: None,
        **options: Any,
    ) -> Mapping:
        """
        Run a task for many items, a window of them at a time::

            async for value in client.map("resize", names):
                ...

        :param items: any iterable, or an asynchronous one; asked only when there is room.
        :param window: calls that are out at a time, results that wait included.
        :param ordered: whether results come in the order of their items, or as they come.
        :param retries: how often a call that failed is made again; what is wrong
            with the item itself, and what somebody cancelled, is not tried again.
        :param retry_pause: seconds before the first time, 0 to 60; each further
            pause is twice as long, up to a minute.
        :param retry_if: called with the error, to say whether it is worth it; each is by default.
        :param stragglers: how many items, in all, may be called for a second
            time when no more can be begun and they are late; the first answer
            stands, and the other call is cancelled. For tasks that may run twice.
        :param errors: ``raise`` ends it with the first error, and cancels what
            is out; ``value`` puts errors in the place of results.
        :param progress: called with how many items are done, and how many were begun.
        :param options: as :meth:`call` takes them.
        :returns: an asynchronous iterator of results, for one loop; its
            ``items()`` is one of items with their results. What is out is
            cancelled when a loop that alone has it ends early, and by its ``cancel()``.
        :raises InvalidArgumentError: if an argument is wrong.
        """
        return Mapping(
            lambda item: self.call(task_id, item, **options),
            items,
            clock=self._reactor,
            call_from_thread=self._reactor.callFromThread,
            window=window,
            ordered=ordered,
            retries=retries,
            retry_pause=retry_pause,
            retry_if=retry_if,
            stragglers=stragglers,
            errors=errors,
            progress=progress,
        )

    def map_reduce(
        self,
        task_id: str,
        reducer: Reducer,
        items: Items,
        initial: Any = None,
        *,
        partial: Callable[[Any], object] | None = None,
        every: float = 1.0,
        **options: Any,
    ) -> Deferred[Any]:
        """
        Run a task for many items, and reduce the results here as they come, in any order.

        Cancelling the Deferred cancels what is out.

        :param reducer: called with what there is so far, and one result more; gives what there is then.
        :param initial: what there is at first; it is the result where there are no items.
        :param partial: called now and then with what there is so far.
        :param every: the seconds between two such calls, at least.
        :param options: as :meth:`map` takes them.
        :returns: a Deferred of what it all comes to; errbacks with the first error, unless errors are values.
        """
        try:
            shown = Partial(partial, every, self._reactor.seconds)
            mapping = self.map(task_id, items, **{"ordered": False, **options})
        except CrewError:
            return fail()
        return Deferred.fromCoroutine(map_reduce(mapping, reducer, initial, shown))

    def map_reduce_by_key(
        self,
        task_id: str,
        reducer: Reducer,
        items: Items,
        initial: Initial | None = None,
        *,
        into: MutableMapping[Any, Any] | None = None,
        failed: Failed | None = None,
        partial: Callable[[Any], object] | None = None,
        every: float = 1.0,
        **options: Any,
    ) -> Deferred[MutableMapping[Any, Any]]:
        """
        Run a task for many items, and reduce the values of each key of its answers here, as they come.

        An answer is a map, or a list of pairs of a key and a value. A task may
        reduce its own ones before: see :func:`crew_tx.mapreduce.combined`.
        Cancelling the Deferred cancels what is out.

        :param reducer: called with what a key has so far, and one value more; gives what it has then.
        :param initial: called for each new key, for what it has at first, such
            as ``list``; without it the first value is what there is.
        :param into: what to add to: a dict of your own, to look into at any
            time, or what keeps its items elsewhere, as a ``shelve`` does.
        :param failed: called with each item that had no answer, and why; without
            it the first error ends it.
        :param partial: called now and then with what is reduced so far: that itself, and no copy.
        :param every: the seconds between two such calls, at least.
        :param options: as :meth:`map` takes them, but for ``errors``.
        :returns: a Deferred of ``into``, or of a new dict.
        """
        errors: Errors = "raise" if failed is None else "value"
        try:
            shown = Partial(partial, every, self._reactor.seconds)
            mapping = self.map(task_id, items, **{"ordered": False, **options}, errors=errors)
        except CrewError:
            return fail()
        reduced = {} if into is None else into
        return Deferred.fromCoroutine(map_reduce_by_key(mapping, reducer, initial, reduced, failed, shown))

    # -- events and control ------------------------------------------------------------

    def publish(
        self,
        channel: str,
        data: Any = None,
        *,
        headers: Headers | None = None,
        serializer: str | None = None,
        compress: str | bool | None = None,
        persistent: bool = True,
    ) -> Deferred[None]:
        """
        Publish an event to all who are subscribed to a channel.

        :param channel: 1 to 200 bytes of UTF-8; dots make words of it, for patterns.
        :param persistent: whether a queue that keeps it for a subscriber that
            is away survives a restart of the broker with it.
        :returns: a Deferred that fires when the broker has it, whether or not
            anybody is subscribed. Errors are as of :meth:`send`.
        """
        return self._events.publish(
            channel, data, headers=headers, serializer=serializer, compress=compress, persistent=persistent
        )

    def subscribe(
        self,
        channel: str,
        callback: Callable[..., object],
        *,
        durable: str | None = None,
        buffer: int = BUFFER,
        overflow: Overflow = "pause",
        on_missed: Callable[[Missed], object] | None = None,
    ) -> Deferred[Subscription]:
        """
        Get every event of a channel. Fine before :meth:`connect`, too.

        Events come one at a time and in order: where the callback returns a
        Deferred or a coroutine, the next comes when that is done. After a
        reconnect the subscription goes on by itself.

        :param channel: a channel, or a pattern: ``*`` is one word, ``#`` any number of them.
        :param callback: called with the data, and with the :class:`Event` if it
            takes two arguments. What it raises is logged and counted.
        :param durable: a name for a queue that keeps events while no subscriber
            of that name is there: 100,000 at most, for 7 days. Subscribers that
            share a name share the events.
        :param buffer: events that may wait here for the callback, 1 to 65,535.
        :param overflow: what happens to more: ``pause`` leaves them in the queue
            on the broker, which holds 100,000 and then drops the oldest; ``drop``
            drops the oldest here, and says how many.
        :param on_missed: called with a :class:`Missed` where events were, or may have been, missed.
        :returns: a Deferred of the :class:`Subscription`, which fires when the
            broker has it. It errbacks with :class:`InvalidArgumentError`; with
            :class:`AccessRefusedError`, :class:`PreconditionFailedError` (its
            queue exists with other arguments) or :class:`NotFoundError` if the
            broker refuses it; or with the reason if the client is stopped or
            refused before.
        """
        return self._subscriptions.subscribe(
            channel, callback, durable=durable, buffer=buffer, overflow=overflow, on_missed=on_missed
        )

    def control(
        self,
        command: str,
        target: str | None = None,
        arguments: dict[str, Any] | None = None,
        timeout: float = GATHER_TIMEOUT,
        expect: int | None = None,
    ) -> Deferred[list[dict[str, Any]]]:
        """
        Ask running workers something, or tell them to do something.

        :param command: ``ping``, ``stats``, ``tasks``, ``active``, ``stacks``, ``errors``,
            ``threads``, ``drain``, ``pause``, ``resume``, ``cancel``, ``kill``,
            ``eval``, or one of the workers' own.
        :param target: a worker's id, its name, or the name of a service, a queue
            or a task; None for all workers.
        :param timeout: seconds to gather answers for.
        :param expect: end as soon as so many have answered.
        :returns: a Deferred of a list, one dict for each worker that answered,
            with its id as ``wid``; one that could not do it says why under
            ``error``. The list is empty where there is no such worker. It
            errbacks with :class:`AccessRefusedError` if the user may not send it,
            and with :class:`PublishTimeoutError` if the broker has not confirmed
            it in time.
        """
        return self._gatherings.ask(command, target, arguments, timeout, expect)

    # -- out -----------------------------------------------------------------------------

    def _start(
        self,
        task_id: str,
        data: Any,
        options: GivenOptions,
        headers: Headers | None,
        call_id: str | None,
        wants_reply: bool = False,
    ) -> Deferred[Any]:
        if self._tracing is None:
            return self._calling.call(task_id, data, options, headers, call_id, wants_reply)
        headers, ended = self._tracing.begin(task_id, headers, answered=True)
        called = self._calling.call(task_id, data, options, headers, call_id, wants_reply)
        return called.addBoth(ended)

    def _send(
        self, task_id: str, data: Any, options: GivenOptions, headers: Headers | None, call_id: str | None
    ) -> Deferred[None]:
        if self._tracing is None:
            return self._calling.send(task_id, data, options, headers, call_id)
        headers, ended = self._tracing.begin(task_id, headers, answered=False)
        return self._calling.send(task_id, data, options, headers, call_id).addBoth(ended)

    def _in_thread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args)

    # -- the connection --------------------------------------------------------------------

    async def _prepare(self, client: AMQClient) -> None:
        channel = await self._reply_queue.consume(client)
        await self._subscriptions.begin(client)
        self._calling.send_again()
        self._publisher.attach(channel)
        self._cancelled.connected(client)
        self._commands.connected(client)

    def _renew_id(self) -> str:
        """Another id, since the reply queue of this one is gone."""
        self.client_id = f"{self._name}-{uuid4().hex}"
        self._calling.renew(self.client_id)
        self._gatherings.client_id = self.client_id
        return self.client_id

    def _lost(self, reason: CrewError) -> None:
        self._reply_queue.lost()
        self._subscriptions.lost()
        self._cancelled.lost()
        self._pending.connection_lost(
            ConnectionLostError(f"{reason}; the task of this call may have run", maybe_sent=True)
        )

    def _refused(self, error: CrewError) -> None:
        self._end(error)

    def _end(self, error: CrewError) -> None:
        """Whatever waits for anything fails now."""
        self._pending.stop(error)
        self._cancelled.stop()
        self._gatherings.stop(error)
        self._commands.stop(error)
        self._subscriptions.stop(error)
        self._publisher.stop(error)

    def _not_connected(self, value: Any, timeout: float) -> Any:
        reason = self._connection.last_failure or self._connection.broker
        raise ConnectionLostError(f"no connection to the broker within {timeout:g} s: {reason}")


def _brokers(url: str | list[BrokerURL] | None) -> list[BrokerURL]:
    return url if isinstance(url, list) else parse_all(url or os.environ.get("CREW_BROKER") or DEFAULT_URL)


def _give(outcome: Reply | Failure, callback: Callback) -> None:
    if isinstance(outcome, Failure):
        callback(outcome.value, {})
    else:
        callback(outcome.value, outcome.headers)


def _log_callback(failure: Failure) -> None:
    Client.log.failure("the callback of a call failed", failure=failure)
