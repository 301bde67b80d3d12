"""
The worker's side.

A call comes: a consumer -> the :class:`~crew_tx.rpc.reception.Reception` -> the
runner, which starts it in a thread or a process or on the reactor, or holds it ->
an :class:`Answer` -> the publisher, and the call's ack right behind it.

``Task``, ``Service``, ``context`` and ``run`` are what modules of tasks import.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal
from uuid import UUID, getnode, uuid4

from twisted.application import service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.declare import Declarer
from crew_tx.amqp.delivery import Delivery
from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.publisher import Publisher
from crew_tx.amqp.service import HEARTBEAT, BrokerConnection, OnRefusal
from crew_tx.amqp.uri import BrokerURL
from crew_tx.codec import Codec
from crew_tx.control import BuiltinCommands, Command, Commands, Right
from crew_tx.errors import (
    ConfigurationError,
    ConnectionLostError,
    CrewError,
    EncodeError,
    ThreadsStuckError,
)
from crew_tx.interfaces import ICallObserver, IHeldCalls, ITracing
from crew_tx.message import CANCEL, Answer, Call, Headers, check_headers
from crew_tx.pubsub import EventPublisher, TaskPublisher
from crew_tx.rpc.ack_timeout import ACK_TIMEOUT, AckTimeout
from crew_tx.rpc.announcement import Announcement
from crew_tx.rpc.answers import Ack, Answers, TakenDelivery, sendable_headers
from crew_tx.rpc.consumption import Consumption
from crew_tx.rpc.consumptions import Consumptions
from crew_tx.rpc.control_queue import ControlQueue
from crew_tx.rpc.encoding import AnswerSigner
from crew_tx.rpc.events import ReadyEvent
from crew_tx.rpc.gates import WorkerGate
from crew_tx.rpc.prefetch import SPARE, Prefetch
from crew_tx.rpc.recent_errors import RecentErrors
from crew_tx.rpc.reception import Reception
from crew_tx.signing import SigningKeys
from crew_tx.status import ActiveCall, WorkerStatus
from crew_tx.tasks.attempt import REPLIED, Attempt
from crew_tx.tasks.context import Settings, context
from crew_tx.tasks.interfaces import CreateThreads
from crew_tx.tasks.pool import ThreadPool
from crew_tx.tasks.processes.messages import Start
from crew_tx.tasks.processes.pool import ProcessPool
from crew_tx.tasks.processes.spawner import ProcessOptions, spawner
from crew_tx.tasks.registry import Registry, Service, Task, TaskDefinition
from crew_tx.tasks.runner import TaskRunner
from crew_tx.tasks.threads import start_threads_factory
from crew_tx.topology import (
    WORKERS,
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
    :param ack: when a call is acknowledged: once its reply is ``written``, or once it is ``confirmed``.
    :param ack_timeout: the broker's, in seconds: a call that runs nearly as long is acknowledged
        before, and lost if the worker dies from then on; 0 for none.
    :param settings: what tasks find in ``context.settings``.
    :param on_refusal: ``end`` where all brokers refuse for good, or ``wait`` for one to take it after all.
    :param on_fatal: called once, with the reason, when the worker can't go on.
    :param on_asked: called with ``drain`` or ``kill`` when a command asks it to end.
    :param allowed: what commands may do: ``look``, ``steer``, ``kill``, ``eval``.
    :param commands: further commands that it knows.
    :param observer: counts the calls that it answers.
    :param tracing: a :class:`crew_tx.tracing.Tracing`, to make spans of tasks.
    :param create_threads: makes the pool's threads; real ones by default.
    :param processes: how tasks with ``isolation="process"`` are run.
    :param signing_keys: only calls, cancels and commands are taken that are signed by one of
        them, and replies are signed.
    :raises ConfigurationError: if there is no task, or two have one id; if one
        is to run in a process, and there is no way to.
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
        ack: Ack = "written",
        ack_timeout: float = ACK_TIMEOUT,
        heartbeat: int = HEARTBEAT,
        allow_pickle: bool = False,
        max_message_size: int = 16 * 1024 * 1024,
        settings: dict[str, Any] | None = None,
        on_refusal: OnRefusal = "end",
        on_fatal: Callable[[CrewError], object] = lambda reason: None,
        on_asked: Callable[[EndKind], object] = lambda kind: None,
        allowed: Iterable[Right] = ("look", "steer"),
        commands: Iterable[Command] = (),
        observer: ICallObserver | None = None,
        tracing: ITracing | None = None,
        create_threads: CreateThreads | None = None,
        processes: ProcessOptions | None = None,
        signing_keys: SigningKeys | None = None,
    ) -> None:
        check_name("worker", name)
        check_queue_type(queue_type)
        self._reactor = reactor
        if tracing is not None:
            # A child process has the task's own function, and its spans are made when it has run.
            definitions = [
                tracing.traced(each) if each.isolation == "thread" else each for each in definitions
            ]
        self._tracing = tracing
        self._registry = _registry_of(definitions)
        self._name = name
        self.worker_id = f"{name}-{uuid4().hex}"
        self.settings = _settings_of(self.worker_id, settings or {})
        self._queue_type = queue_type
        self._drain = drain
        self._on_fatal = on_fatal
        self._on_asked = on_asked
        self._observer = observer
        self._draining = False
        self._unfinished = 0
        self._started = 0.0
        self._codec = Codec(allow_pickle=allow_pickle, max_message_size=max_message_size)
        self._errors = RecentErrors(self._codec)
        self._prefetch = Prefetch(threads, prefetch)
        self._publisher = Publisher(reactor)
        self._events = EventPublisher(reactor, self._publisher, self._codec, self._in_thread, self.worker_id)
        self._task_events = TaskPublisher(reactor, self._events)
        self._gate = None if signing_keys is None else WorkerGate(signing_keys, reactor.seconds)
        sign = None if signing_keys is None else AnswerSigner(signing_keys).properties
        self._answers = Answers(reactor, self._publisher, self._unsendable, ack, sign)
        self._pool = self._make_pool(threads, max_stuck, create_threads)
        self._processes = self._make_processes(processes, max_message_size, allow_pickle)
        self._runner = self._make_runner()
        self._reception = self._make_reception()
        self._consumptions = self._make_consumptions(prefetch)
        self._ack_timeout = AckTimeout(reactor, ack_timeout, self._runner, self._consumptions.hand_back)
        self._control = self._make_control(frozenset(allowed), commands)
        self._announcement = Announcement(reactor, self.worker_id, self._registry.task_ids)
        self._connection = self._make_connection(urls, heartbeat, on_refusal)

    def _make_pool(
        self, threads: int, max_stuck: int | None, create_threads: CreateThreads | None
    ) -> ThreadPool:
        return ThreadPool(
            self._reactor,
            create_threads or start_threads_factory(self._reactor, self._together),
            size=threads,
            max_stuck=max_stuck,
            on_too_many_stuck=self._too_many_stuck,
            on_idle=lambda: self._consumptions.thread_free(),
        )

    def _make_processes(
        self, options: ProcessOptions | None, max_message_size: int, allow_pickle: bool
    ) -> ProcessPool | None:
        task_ids = [each.task_id for each in self._registry.definitions if each.isolation == "process"]
        if not task_ids:
            return None
        if options is None:
            raise ConfigurationError(
                f"the task {task_ids[0]!r} is to run in a process, and this worker was made without any: "
                "start it by run() or twistd crew-worker"
            )

        def start() -> Start:
            return Start(self.worker_id, max_message_size, allow_pickle, vars(self.settings), sys.path)

        return ProcessPool(
            self._reactor,
            spawner(self._reactor, options, start),
            worker_id=self.worker_id,
            size=options.size,
            process_calls=options.calls,
            on_idle=lambda: self._consumptions.process_free(),
            on_event=lambda event: self._events.publish_ready(ReadyEvent(*event)),
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
            check_headers=check_reply_headers,
            in_thread=self._in_thread,
            publisher=self._task_events,
            processes=self._processes,
            on_room=lambda: self._consumptions.all_free(),
        )

    def _make_control(self, allowed: frozenset[Right], commands: Iterable[Command]) -> ControlQueue:
        self._commands = Commands(
            self.worker_id,
            self._codec,
            self._in_thread,
            [*BuiltinCommands(self).all(), *commands],
            allowed,
            self._answers.send_command_answer,
            self._gate,
        )
        services = [*self._registry.queues(), self._name]
        return ControlQueue(self.worker_id, self._registry.task_ids, services, self._told, self._queue_gone)

    def _make_reception(self) -> Reception:
        return Reception(
            self._reactor,
            self._publisher,
            self._codec,
            self._answers,
            self._runner,
            self._take,
            worker_id=self.worker_id,
            skip_abandoned=[each.task_id for each in self._registry.definitions if each.skip_abandoned],
            gate=self._gate,
            in_thread=self._in_thread,
        )

    def _make_consumptions(self, prefetch: int | None) -> Consumptions:
        isolated = self._registry.queues("process")
        queues = [queue for queue in self._registry.queues() if queue not in isolated]
        runner = self._runner
        threads = self._make_consumption(self._prefetch, queues, self._reception.probing)
        consumptions = Consumptions(threads, runner.threads, runner.start_held)
        if self._processes is not None and runner.processes is not None:
            ahead = Prefetch(self._processes.size, prefetch or self._processes.size + SPARE)
            processes = self._make_consumption(ahead, list(isolated), runner.processes)
            consumptions.add_processes(processes, runner.processes)
        return consumptions

    def _make_consumption(self, prefetch: Prefetch, queues: list[str], calls: IHeldCalls) -> Consumption:
        return Consumption(self._reactor, prefetch, queues, calls, self._reception, self._queue_gone)

    def _make_connection(
        self, urls: list[BrokerURL], heartbeat: int, on_refusal: OnRefusal
    ) -> BrokerConnection:
        return BrokerConnection(
            self._reactor,
            urls,
            self._prepare,
            name=self.worker_id,
            heartbeat=heartbeat,
            on_lost=self._lost,
            on_refused=self._on_fatal,
            on_refusal=on_refusal,
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
        if self._processes is not None:
            self._reactor.callWhenRunning(self._processes.begin)
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
            abandoned=self._reception.probing.abandoned,
            held=runner.held + len(self._reception.probing),
            unconfirmed_replies=self._answers.unconfirmed,
            waittimes=tuple(runner.waittimes),
            draining=self._draining,
            paused=self._consumptions.halted,
            started=self._started,
            processes=None if self._processes is None else self._processes.status(),
            refused={} if self._gate is None else dict(self._gate.refusals.counts),
            forgotten=0 if self._gate is None else self._gate.seen.forgotten,
        )

    # -- what commands ask of it ---------------------------------------------------------

    @property
    def definitions(self) -> list[TaskDefinition]:
        """Its tasks."""
        return self._registry.definitions

    def active(self) -> list[ActiveCall]:
        """The calls that run, and those whose threads are stuck."""
        return self._runner.active()

    def errors(self) -> list[dict[str, Any]]:
        """The calls that it answered with an error lately, the latest first."""
        return self._errors.told()

    def resize(self, threads: int) -> None:
        """Run so many tasks at once from now on; those that run are left alone."""
        self._pool.resize(threads)
        if self._prefetch.resize(threads):
            self._consumptions.follow()

    def pause(self) -> None:
        """Take no more calls, and hand back those that are not begun."""
        self._consumptions.halt()

    def resume(self) -> None:
        """Take calls again."""
        self._consumptions.go_on()

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
        await self._announcement.make(client)
        self._publisher.attach(channel)
        await self._consumptions.begin(channel)
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
        self._consumptions.lost()

    def _queue_gone(self, channel: AMQChannel, queue: str) -> None:
        """Declare it anew with a new connection: a consumer must not die in silence."""
        if self._draining:
            # It needs no queue any more, and this connection is the only one for its last acks.
            return
        self.log.warn("the queue {queue} was deleted: connecting anew to declare it", queue=queue)
        channel.client.fail(ConnectionLostError(f"the queue {queue} was deleted"))

    # -- calls -------------------------------------------------------------------------

    def _take(self, call: Call, taken: TakenDelivery) -> None:
        self._runner.take(call, taken)
        self._consumptions.watch()
        if not self._ack_timeout.watching:
            self._ack_timeout.watch()

    def _told(self, delivery: Delivery) -> None:
        """
        Something came to the control queue.

        A probe is answered by having come at all.
        """
        if delivery.properties.get("type") != CANCEL:
            self._commands.received(delivery)
        elif delivery.exchange != WORKERS:
            # Who may send commands that only look must not end calls by the way.
            self.log.warn("a cancel came by {exchange}, and is refused", exchange=delivery.exchange)
        else:
            self._reception.told(delivery)

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
        attempt.settle()
        self._reception.answered(call.call_id, call.reply_to)
        if answer.error is not None:
            self._errors.add(self._reactor.seconds(), call, answer)
        if self._observer is not None:
            begun = self._reactor.seconds() if attempt.started is None else attempt.started
            waited = begun - attempt.received
            self._observer.answered(call.task_id, answer.error or "ok", waited, answer.elapsed)
        if (definition := self._isolated(call.task_id)) is not None:
            if self._tracing is not None and attempt.started is not None:
                self._tracing.ran(definition, call.headers, call.call_id, answer.elapsed, answer.error)
            return
        if self._prefetch.ran(answer.elapsed):
            self._consumptions.follow()

    def _unsendable(self, answer: Answer, error: CrewError) -> Answer:
        """What is said in place of an answer that the wire or the broker doesn't take."""
        text = f"the reply can't be sent: {error}"
        body = {"type": f"crew_tx.errors.{type(error).__name__}", "message": text, "traceback": ""}
        encoded = self._codec.encode_like(body, answer.content_type)
        return Answer(answer.call_id, *encoded, "raised", self.worker_id, answer.elapsed, answer.persistent)

    def _in_thread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args)

    # -- threads -----------------------------------------------------------------------

    def _isolated(self, task_id: str) -> TaskDefinition | None:
        """The task, if a process of its own runs it."""
        definition = self._registry.get(task_id)
        is_isolated = definition is not None and definition.isolation == "process"
        return definition if is_isolated and self._processes is not None else None

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Replies that are due together leave in one write, and their acks, as few as can be, behind them."""
        client, intake = self._connection.client, self._consumptions.intake
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
        self._reception.close()
        await _within(self._consumptions.end(), _SETTLE_TIMEOUT, self._reactor)
        self._consumptions.hand_back()
        if not await _within(self._runner.when_ended(), self._drain, self._reactor):
            count = self._unfinished = self._runner.in_progress
            self.log.warn("{count} tasks did not end within {drain:g} s", count=count, drain=self._drain)
            self._end_acknowledged()
        await _within(self._answers.when_settled(), _SETTLE_TIMEOUT, self._reactor)
        gone = succeed(None) if self._processes is None else self._processes.stop()
        self._runner.stop()
        self._reception.probing.stop()
        self._ack_timeout.stop()
        self._answers.stop()
        await _within(gone, _SETTLE_TIMEOUT, self._reactor)
        await self._connection.stopService()
        self._publisher.stop(ConnectionLostError("the worker was stopped"))

    def _end_acknowledged(self) -> None:
        """What did not end in time others get, but for what was acknowledged: its caller is told."""
        for attempt in self._runner.attempts():
            taken: Any = attempt.delivery
            if taken.is_settled:
                self._runner.end(attempt, f"{self.worker_id} is stopped, and nobody else has the call")


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


def check_reply_headers(headers: Headers) -> None:
    """
    Refuse headers that a reply can't carry.

    :raises CrewError: naming the header.
    """
    check_headers(headers)
    sendable_headers(headers)


async def _within(waiting: Deferred[Any], seconds: float, clock: Any) -> bool:
    """Wait, but not longer. :returns: whether it came in time."""
    in_time = waiting.addCallback(lambda _: True)
    return await in_time.addTimeout(seconds, clock, lambda value, timeout: False)
