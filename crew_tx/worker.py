"""
The worker's side.

A call comes: a consumer -> :class:`Call` -> the runner, which starts it in a
thread or on the reactor, or holds it -> an :class:`Answer` -> the publisher,
and the call's ack right behind it.

``Task``, ``Service``, ``context`` and ``run`` are what modules of tasks import.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal
from uuid import UUID, getnode, uuid4

from twisted.application import service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.declare import Declarer
from crew_tx.amqp.delivery import Delivery
from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.publisher import Publisher
from crew_tx.amqp.service import HEARTBEAT, BrokerConnection
from crew_tx.amqp.uri import BrokerURL
from crew_tx.codec import Codec
from crew_tx.control import BuiltinCommands, Command, Commands, Right
from crew_tx.errors import (
    ConfigurationError,
    ConnectionLostError,
    CrewError,
    DecodeError,
    EncodeError,
    ThreadsStuckError,
)
from crew_tx.message import CANCEL, Answer, Call, Headers, call_from, cancel_from, check_headers
from crew_tx.pubsub import EventPublisher, TaskPublisher
from crew_tx.rpc.answers import Answers, TakenDelivery, sendable_headers
from crew_tx.rpc.consumption import Consumption
from crew_tx.rpc.control_queue import ControlQueue
from crew_tx.rpc.prefetch import Prefetch
from crew_tx.rpc.recent import RecentCalls
from crew_tx.status import ActiveCall, WorkerStatus
from crew_tx.tasks.attempt import REPLIED, SETTLED, Attempt
from crew_tx.tasks.context import Settings, context
from crew_tx.tasks.interfaces import CreateThreads
from crew_tx.tasks.pool import ThreadPool
from crew_tx.tasks.registry import Registry, Service, Task, TaskDefinition
from crew_tx.tasks.runner import TaskRunner
from crew_tx.tasks.threads import start_threads_factory
from crew_tx.topology import (
    QueueType,
    check_name,
    check_queue_type,
    task_binding,
    task_queue,
)

__all__ = ["Service", "Settings", "Task", "Worker", "context", "run"]

THREADS = 8
DRAIN = 30.0
_SETTLE_TIMEOUT = 5.0
_ANSWER_FIRST = 0.1

EndKind = Literal["drain", "kill"]


class Worker(service.Service):
    """
    Answers calls to its tasks.

    :param reactor: the reactor; a test gives it a clock.
    :param urls: the brokers, tried in turn.
    :param definitions: the tasks.
    :param threads: how many tasks run at once, those on the reactor not counted.
    :param prefetch: calls that each queue may send ahead; by default two more
        than threads, and up to 128 where tasks are short.
    :param max_stuck: quarantined threads past which the worker gives up; twice ``threads`` by default.
    :param drain: seconds that running tasks have to end in when it stops.
    :param settings: what tasks find in ``context.settings``.
    :param on_fatal: called once, with the reason, when the worker can't go on.
    :param on_asked: called with ``drain`` or ``kill`` when a command asks it to end.
    :param allowed: what commands may do: ``look``, ``steer``, ``kill``, ``eval``.
    :param commands: further commands that it knows.
    :param create_threads: makes the pool's threads; real ones by default.
    :raises ConfigurationError: if there is no task, or two have one id.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        urls: list[BrokerURL],
        definitions: Iterable[TaskDefinition],
        *,
        name: str = "worker",
        threads: int = THREADS,
        prefetch: int | None = None,
        queue_type: QueueType = "classic",
        max_stuck: int | None = None,
        drain: float = DRAIN,
        heartbeat: int = HEARTBEAT,
        allow_pickle: bool = False,
        max_message_size: int = 16 * 1024 * 1024,
        settings: dict[str, Any] | None = None,
        on_fatal: Callable[[CrewError], object] = lambda reason: None,
        on_asked: Callable[[EndKind], object] = lambda kind: None,
        allowed: Iterable[Right] = ("look", "steer"),
        commands: Iterable[Command] = (),
        create_threads: CreateThreads | None = None,
    ) -> None:
        check_name("worker", name)
        check_queue_type(queue_type)
        self._reactor = reactor
        self._registry = _registry_of(definitions)
        self._name = name
        self.worker_id = f"{name}-{uuid4().hex}"
        self.settings = _settings_of(self.worker_id, settings or {})
        self._queue_type = queue_type
        self._drain = drain
        self._on_fatal = on_fatal
        self._on_asked = on_asked
        self._draining = False
        self._unfinished = 0
        self._started = 0.0
        self._codec = Codec(allow_pickle=allow_pickle, max_message_size=max_message_size)
        self._answered_calls = RecentCalls(reactor)
        self._cancelled_calls = RecentCalls(reactor)
        self._prefetch = Prefetch(threads, prefetch)
        self._publisher = Publisher(reactor)
        self._events = EventPublisher(reactor, self._publisher, self._codec, self._in_thread, self.worker_id)
        self._task_events = TaskPublisher(reactor, self._events)
        self._answers = Answers(reactor, self._publisher, self._unsendable)
        self._pool = self._make_pool(threads, max_stuck, create_threads)
        self._runner = self._make_runner()
        self._consumption = self._make_consumption()
        self._control = self._make_control(frozenset(allowed), commands)
        self._connection = self._make_connection(urls, heartbeat)

    def _make_pool(
        self, threads: int, max_stuck: int | None, create_threads: CreateThreads | None
    ) -> ThreadPool:
        return ThreadPool(
            self._reactor,
            create_threads or start_threads_factory(self._reactor, self._together),
            size=threads,
            max_stuck=max_stuck,
            on_too_many_stuck=self._too_many_stuck,
            on_idle=self._room,
        )

    def _make_runner(self) -> TaskRunner:
        return TaskRunner(
            self._reactor,
            self._registry,
            self._codec,
            self._pool,
            self._answered,
            worker_id=self.worker_id,
            settings=self.settings,
            check_headers=_check_reply_headers,
            in_thread=self._in_thread,
            publisher=self._task_events,
        )

    def _make_control(self, allowed: frozenset[Right], commands: Iterable[Command]) -> ControlQueue:
        self._commands = Commands(
            self.worker_id,
            self._codec,
            self._in_thread,
            [*BuiltinCommands(self).all(), *commands],
            allowed,
            self._answers.send_command_answer,
        )
        services = [*self._registry.queues(), self._name]
        return ControlQueue(self.worker_id, self._registry.task_ids, services, self._told, self._queue_gone)

    def _make_consumption(self) -> Consumption:
        return Consumption(
            self._reactor,
            self._prefetch,
            list(self._registry.queues()),
            self._runner,
            self._received,
            self._queue_gone,
        )

    def _make_connection(self, urls: list[BrokerURL], heartbeat: int) -> BrokerConnection:
        return BrokerConnection(
            self._reactor,
            urls,
            self._prepare,
            name=self.worker_id,
            heartbeat=heartbeat,
            on_lost=self._lost,
            on_refused=self._on_fatal,
        )

    def startService(self) -> None:
        """
        Connect, and answer calls.

        :raises RuntimeError: if it was stopped: threads that did not end then
            may still be busy with calls that others have now.
        """
        if self._draining:
            raise RuntimeError("a worker that was stopped does not start again: make another one")
        super().startService()
        self._started = self._reactor.seconds()
        self._connection.startService()

    def stopService(self) -> Deferred[None]:
        """
        Drain and stop.

        :returns: a Deferred that fires when running tasks have ended and their
            replies are confirmed, or the time for it is over.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def when_ready(self) -> Deferred[Any]:
        """A Deferred that fires when the worker consumes."""
        return self._connection.when_ready()

    def status(self) -> WorkerStatus:
        """A snapshot of what the worker does."""
        runner = self._runner
        return WorkerStatus(
            worker_id=self.worker_id,
            name=self._name,
            host=socket.gethostname(),
            pid=os.getpid(),
            tasks=tuple(self._registry.task_ids),
            connected=self._connection.is_ready,
            broker=self._connection.broker,
            pool=self._pool.status(),
            processed=runner.processed,
            exceptions=runner.exceptions,
            timeouts=runner.timeouts,
            in_progress=runner.in_progress,
            unfinished=self._unfinished,
            held=runner.held,
            unconfirmed_replies=self._answers.unconfirmed,
            waittimes=tuple(runner.waittimes),
            draining=self._draining,
            paused=self._consumption.halted,
            started=self._started,
        )

    # -- what commands ask of it ---------------------------------------------------------

    @property
    def definitions(self) -> list[TaskDefinition]:
        """Its tasks."""
        return self._registry.definitions

    def active(self) -> list[ActiveCall]:
        """The calls that run, and those whose threads are stuck."""
        return self._runner.active()

    def resize(self, threads: int) -> None:
        """Run so many tasks at once from now on; those that run are left alone."""
        self._pool.resize(threads)
        if self._prefetch.resize(threads):
            self._consumption.follow()

    def pause(self) -> None:
        """Take no more calls, and hand back those that are not begun."""
        self._consumption.halt()

    def resume(self) -> None:
        """Take calls again."""
        self._consumption.go_on()

    def cancel_call(self, call_id: str) -> bool:
        """
        End a call, held or running, and tell its caller.

        :returns: whether it was here.
        """
        return self._runner.cancel(call_id)

    def ask_to_end(self, kind: EndKind) -> None:
        """
        Ask the program to end.

        :param kind: ``drain`` to let tasks end first, ``kill`` not to.
        """
        self.log.warn("asked to end: {kind}", kind=kind)
        # So that the answer to whoever asked leaves before.
        self._reactor.callLater(_ANSWER_FIRST, self._on_asked, kind)

    # -- the connection ----------------------------------------------------------------

    async def _prepare(self, client: AMQClient) -> None:
        """Make a new connection ready: what must exist, the control queue, confirms, the consumers."""
        await self._declare(client)
        channel = await client.open_channel()
        await self._control.begin(channel)
        await channel.confirm_select()
        self._publisher.attach(channel)
        await self._consumption.begin(channel)
        self.log.info(
            "worker {worker} answers {tasks} from {broker}",
            worker=self.worker_id,
            tasks=", ".join(self._registry.task_ids),
            broker=self._connection.broker,
        )

    async def _declare(self, client: AMQClient) -> None:
        declarer = Declarer(client)
        await declarer.topology()
        for queue, task_ids in self._registry.queues().items():
            await declarer.queue(task_queue(queue, self._queue_type))
            await declarer.bind([task_binding(task_id, queue) for task_id in task_ids])
        await declarer.close()

    def _lost(self, reason: CrewError) -> None:
        """What was not started comes again, to whichever worker; what runs goes on, and its reply is kept."""
        self._consumption.lost()

    def _queue_gone(self, channel: AMQChannel, queue: str) -> None:
        """Declare it anew with a new connection: a consumer must not die in silence."""
        if self._draining:
            # It needs no queue any more, and this connection is the only one for its last acks.
            return
        self.log.warn("the queue {queue} was deleted: connecting anew to declare it", queue=queue)
        channel.client.fail(ConnectionLostError(f"the queue {queue} was deleted"))

    # -- calls -------------------------------------------------------------------------

    def _received(self, delivery: Delivery, taken: TakenDelivery) -> None:
        if self._draining:
            taken.hand_back()
            return
        try:
            call = call_from(delivery.properties, delivery.body, delivery.redelivered)
        except DecodeError as error:
            self.log.warn("a message is no call: {error}", error=str(error))
            taken.reject()
            return
        if self._cancelled_calls and self._cancelled_calls.has(call.call_id, call.reply_to):
            taken.ack()
            return
        if (call.redelivered or call.attempt > 1) and self._is_known(call, taken):
            return
        self._runner.take(call, taken)
        if self._runner.held:
            self._consumption.watch()

    def _is_known(self, call: Call, taken: TakenDelivery) -> bool:
        """Whether a call that comes again is answered here, or will be: it is not run twice."""
        if self._answered_calls.has(call.call_id, call.reply_to):
            taken.ack()
            return True
        attempt = self._runner.find(call.call_id, call.reply_to)
        if attempt is None:
            return False
        earlier: Any = attempt.delivery
        if earlier.is_dead:
            # Its answer takes this one out of the queue.
            attempt.delivery = taken
        else:
            taken.ack()
        return True

    def _told(self, delivery: Delivery) -> None:
        """
        Something came to the control queue.

        A probe is answered by having come at all.
        """
        if delivery.properties.get("type") != CANCEL:
            self._commands.received(delivery)
            return
        try:
            self._abandoned(*cancel_from(delivery.properties))
        except DecodeError as error:
            self.log.warn("a message is no cancel: {error}", error=str(error))

    def _abandoned(self, call_id: str, reply_to: str) -> None:
        """Its caller waits for a call no more: end it here, or when it comes."""
        attempt = self._runner.find(call_id, reply_to)
        if attempt is None:
            self._cancelled_calls.add(call_id, reply_to)
            return
        self._runner.drop(attempt)
        taken: Any = attempt.delivery
        taken.ack()
        attempt.move(SETTLED)
        self._answered_calls.add(call_id, reply_to)

    def _answered(self, attempt: Attempt, answer: Answer) -> None:
        if self._task_events.waiting:
            # Whoever has the answer may look for what the task published.
            self._task_events.flush()
        taken: Any = attempt.delivery
        call = attempt.call
        try:
            self._answers.send(answer, call.reply_to, taken)
        except EncodeError as error:
            self._answers.send(self._unsendable(answer, error), call.reply_to, taken)
        if call.reply_to is not None:
            attempt.move(REPLIED)
        attempt.move(SETTLED)
        self._answered_calls.add(call.call_id, call.reply_to)
        if self._prefetch.ran(answer.elapsed):
            self._consumption.follow()

    def _unsendable(self, answer: Answer, error: CrewError) -> Answer:
        """What is said in place of an answer that the wire or the broker doesn't take."""
        text = f"the reply can't be sent: {error}"
        body = {"type": f"crew_tx.errors.{type(error).__name__}", "message": text, "traceback": ""}
        encoded = self._codec.encode_like(body, answer.content_type)
        return Answer(answer.call_id, *encoded, "raised", self.worker_id, answer.elapsed, answer.persistent)

    def _in_thread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args)

    # -- threads -----------------------------------------------------------------------

    def _room(self) -> None:
        """A thread is free."""
        self._consumption.thread_free()
        self._runner.start_held()
        if self._consumption.paused and self._pool.idle:
            self._consumption.resume()

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Replies that are due together leave in one write, and their acks, as few as can be, behind them."""
        client, intake = self._connection.client, self._consumption.intake
        if client is None or intake is None:
            yield
            return
        with client.corked(), intake.together():
            yield

    def _too_many_stuck(self) -> None:
        self._on_fatal(ThreadsStuckError(len(self._pool.status().stuck)))

    # -- the end -----------------------------------------------------------------------

    async def _stop(self) -> None:
        self._draining = True
        await _within(self._consumption.end(), _SETTLE_TIMEOUT, self._reactor)
        self._consumption.hand_back()
        if not await _within(self._runner.when_ended(), self._drain, self._reactor):
            count = self._unfinished = self._runner.in_progress
            self.log.warn("{count} tasks did not end within {drain:g} s", count=count, drain=self._drain)
        await _within(self._answers.when_settled(), _SETTLE_TIMEOUT, self._reactor)
        self._runner.stop()
        self._answers.stop()
        await self._connection.stopService()
        self._publisher.stop(ConnectionLostError("the worker was stopped"))


def run(**settings: Any) -> None:
    """
    Run a worker of every task that was imported, until it is told to stop; crew's way.

    Reads the command line: ``-H HOST``, ``-P PORT``, ``--logging=info``, ``-v``
    and the options of ``twistd crew-worker``. It does not return.

    :param settings: what tasks find in ``context.settings``.
    """
    # The one import upwards: this is where a program is put together.
    from crew_tx.cli.script import run_worker

    run_worker(settings)


def node_uuid() -> str:
    """What tells this machine from others, without naming it."""
    return str(UUID(int=getnode()))


def _registry_of(definitions: Iterable[TaskDefinition]) -> Registry:
    registry = Registry(definitions)
    if not registry.task_ids:
        raise ConfigurationError("a worker needs at least one task; declare one with @Task('name')")
    return registry


def _settings_of(worker_id: str, given: dict[str, Any]) -> Settings:
    own = {"uuid": worker_id, "node_uuid": node_uuid(), "options": {}}
    return Settings(**(own | given))


def _check_reply_headers(headers: Headers) -> None:
    check_headers(headers)
    sendable_headers(headers)


async def _within(waiting: Deferred[None], seconds: float, clock: Any) -> bool:
    """Wait, but not longer. :returns: whether it came in time."""
    in_time = waiting.addCallback(lambda _: True)
    return await in_time.addTimeout(seconds, clock, lambda value, timeout: False)
