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
from typing import Any
from uuid import UUID, getnode, uuid4

from twisted.application import service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.declare import Declarer
from crew_tx.amqp.delivery import Delivery
from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.publisher import Publisher
from crew_tx.amqp.service import HEARTBEAT, BrokerConnection
from crew_tx.amqp.uri import BrokerURL
from crew_tx.codec import Codec
from crew_tx.errors import (
    ConfigurationError,
    ConnectionLostError,
    CrewError,
    DecodeError,
    EncodeError,
    ThreadsStuckError,
)
from crew_tx.message import Answer, Headers, call_from, check_headers
from crew_tx.rpc.answers import Answers, TakenDelivery, sendable_headers
from crew_tx.rpc.intake import Intake
from crew_tx.rpc.prefetch import Prefetch
from crew_tx.status import WorkerStatus
from crew_tx.tasks.attempt import REPLIED, SETTLED, Attempt
from crew_tx.tasks.context import Settings, context
from crew_tx.tasks.interfaces import CreateThreads
from crew_tx.tasks.pool import ThreadPool
from crew_tx.tasks.registry import Registry, Service, Task, TaskDefinition
from crew_tx.tasks.runner import TaskRunner
from crew_tx.tasks.saturation import Saturation
from crew_tx.tasks.threads import start_threads_factory
from crew_tx.topology import (
    DELIVERY_LIMIT,
    QueueType,
    check_name,
    check_queue_type,
    control_bindings,
    control_queue,
    task_binding,
    task_queue,
)

__all__ = ["Service", "Settings", "Task", "Worker", "context", "run"]

THREADS = 8
DRAIN = 30.0
#: Seconds for which all threads are busy before unstarted calls go back for others to take.
SATURATED_AFTER = 5.0
#: The same while more was let come than the threads can begin, since tasks were short so far.
_SLOWED_AFTER = 0.25
_SETTLE_TIMEOUT = 5.0


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
        create_threads: CreateThreads | None = None,
    ) -> None:
        check_name("worker", name)
        check_queue_type(queue_type)
        self._reactor = reactor
        self._registry = Registry(definitions)
        if not self._registry.task_ids:
            raise ConfigurationError("a worker needs at least one task; declare one with @Task('name')")
        self._name = name
        self.worker_id = f"{name}-{uuid4().hex}"
        own = {"uuid": self.worker_id, "node_uuid": node_uuid(), "options": {}}
        self.settings = Settings(**(own | (settings or {})))
        self._queue_type = queue_type
        self._prefetch = Prefetch(threads, prefetch)
        self._drain = drain
        self._on_fatal = on_fatal
        self._connections = 0
        self._intake: Intake | None = None
        self._draining = False
        self._unfinished = 0
        self._is_beginning = False
        self._begins_again = False
        self._saturation = Saturation(reactor, self._saturated)
        self._started = 0.0
        self._publisher = Publisher(reactor)
        self._answers = Answers(reactor, self._publisher, self._unsendable)
        self._codec = Codec(allow_pickle=allow_pickle, max_message_size=max_message_size)
        self._pool = ThreadPool(
            reactor,
            create_threads or start_threads_factory(reactor, self._together),
            size=threads,
            max_stuck=max_stuck,
            on_too_many_stuck=self._too_many_stuck,
            on_idle=self._room,
        )
        self._runner = TaskRunner(
            reactor,
            self._registry,
            self._codec,
            self._pool,
            self._answered,
            worker_id=self.worker_id,
            settings=self.settings,
            check_headers=_check_reply_headers,
            in_thread=self._in_thread,
        )
        self._connection = BrokerConnection(
            reactor,
            urls,
            self._prepare,
            name=self.worker_id,
            heartbeat=heartbeat,
            on_lost=self._lost,
            on_refused=on_fatal,
        )

    def startService(self) -> None:
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
            started=self._started,
        )

    # -- the connection ----------------------------------------------------------------

    async def _prepare(self, client: AMQClient) -> None:
        """Make a new connection ready: what must exist, the control queue, confirms, the consumers."""
        queues = self._registry.queues()
        await self._declare(client, queues)
        channel = await client.open_channel()
        await self._listen(channel)
        await channel.confirm_select()
        self._publisher.attach(channel)
        self._intake = intake = Intake(channel, list(queues), self._received, self._queue_gone)
        if not self._draining:
            self._is_beginning = True
            try:
                await intake.begin(self._prefetch.count)
            except BaseException:
                # What came already has tags that are dead.
                self._let_go()
                raise
            self._begun(None, intake)
        self.log.info(
            "worker {worker} answers {tasks} from {broker}",
            worker=self.worker_id,
            tasks=", ".join(self._registry.task_ids),
            broker=self._connection.broker,
        )

    async def _declare(self, client: AMQClient, queues: dict[str, list[str]]) -> None:
        declarer = Declarer(client)
        await declarer.topology()
        for queue, task_ids in queues.items():
            await declarer.queue(task_queue(queue, self._queue_type))
            await declarer.bind([task_binding(task_id, queue) for task_id in task_ids])
        await declarer.close()

    async def _listen(self, channel: AMQChannel) -> None:
        """The control queue: that it is bound by the tasks' ids is what a probe finds."""
        self._connections += 1
        control = control_queue(self.worker_id, self._connections)
        await channel.queue_declare(
            queue=control.name, exclusive=control.exclusive, auto_delete=control.auto_delete
        )
        for binding in control_bindings(control.name, self._registry.task_ids):
            await channel.queue_bind(
                queue=binding.queue, exchange=binding.exchange, routing_key=binding.routing_key
            )
        await channel.consume(control.name, _ignore_probe, no_ack=True)

    def _lost(self, reason: CrewError) -> None:
        """What was not started comes again, to whichever worker; what runs goes on, and its reply is kept."""
        self._let_go()

    def _let_go(self) -> None:
        self._intake = None
        self._is_beginning = self._begins_again = False
        self._runner.hand_back()

    def _queue_gone(self) -> None:
        """Declare it anew with a new connection: a consumer must not die in silence."""
        self.log.warn("a queue was deleted: connecting anew to declare it")
        if self._intake is not None:
            self._intake.channel.client.fail(ConnectionLostError("a task queue was deleted"))

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
        self._runner.take(call, taken)
        if self._runner.held:
            self._watch()

    def _answered(self, attempt: Attempt, answer: Answer) -> None:
        taken: Any = attempt.delivery
        call = attempt.call
        try:
            self._answers.send(answer, call.reply_to, taken)
        except EncodeError as error:
            self._answers.send(self._unsendable(answer, error), call.reply_to, taken)
        if call.reply_to is not None:
            attempt.move(REPLIED)
        attempt.move(SETTLED)
        if self._prefetch.ran(answer.elapsed):
            self._let_come_as_many()

    def _unsendable(self, answer: Answer, error: CrewError) -> Answer:
        """What is said in place of an answer that the wire or the broker doesn't take."""
        text = f"the reply can't be sent: {error}"
        body = {"type": f"crew_tx.errors.{type(error).__name__}", "message": text, "traceback": ""}
        encoded = self._codec.encode_like(body, answer.content_type)
        return Answer(answer.call_id, *encoded, "raised", self.worker_id, answer.elapsed, answer.persistent)

    def _in_thread(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args)

    # -- room, and the lack of it ---------------------------------------------------------

    def _room(self) -> None:
        """A thread is free."""
        self._saturation.thread_free()
        self._runner.start_held()
        if self._intake is not None and not self._intake.consuming and self._pool.idle:
            self._consume_anew(resume=True)

    def _watch(self) -> None:
        self._saturation.watch(_SLOWED_AFTER if self._prefetch.raised else SATURATED_AFTER)

    def _consuming_failed(self, failure: Failure, intake: Intake) -> None:
        # Where the connection ended, the next one begins anew.
        if not intake.channel.closed:
            self.log.failure("consuming could not go on", failure)

    def _saturated(self) -> None:
        """Nothing was started for a while: let others have what waits here."""
        if not self._runner.held or self._intake is None or not self._intake.consuming:
            return
        was_raised = self._prefetch.raised
        self._prefetch.lower()
        self._pool.ahead = 0
        self._intake.end().addCallback(lambda _: self._share(consume=was_raised))

    def _share(self, consume: bool) -> None:
        self._hand_back(_may_go_back)
        if consume:
            self._consume_anew(resume=True)

    def _let_come_as_many(self) -> None:
        """What the broker sends ahead, the threads are given ahead as well."""
        self._pool.ahead = self._prefetch.count if self._prefetch.raised else 0
        self._consume_anew()

    def _consume_anew(self, resume: bool = False) -> None:
        intake = self._intake
        if intake is None or intake.channel.closed or self._draining or intake.consuming is resume:
            return
        if self._is_beginning:
            self._begins_again = True
            return
        self._is_beginning = True
        begun = Deferred.fromCoroutine(intake.begin(self._prefetch.count))
        begun.addErrback(self._consuming_failed, intake).addCallback(self._begun, intake)

    def _begun(self, result: object, intake: Intake) -> None:
        if intake is not self._intake:
            return
        self._is_beginning = False
        if self._begins_again:
            self._begins_again = False
            self._consume_anew()

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Replies that are due together leave in one write, and their acks, as few as can be, behind them."""
        client, intake = self._connection.client, self._intake
        if client is None or intake is None:
            yield
            return
        with client.corked(), intake.together():
            yield

    def _hand_back(self, may_go: Callable[[Attempt], bool] = lambda attempt: True) -> None:
        for attempt in self._runner.hand_back(may_go):
            taken: Any = attempt.delivery
            taken.hand_back()

    def _too_many_stuck(self) -> None:
        self._on_fatal(ThreadsStuckError(len(self._pool.status().stuck)))

    # -- the end -----------------------------------------------------------------------

    async def _stop(self) -> None:
        self._draining = True
        self._saturation.stop()
        intake = self._intake
        if intake is not None:
            await _within(intake.end(), _SETTLE_TIMEOUT, self._reactor)
            self._hand_back()
        if not await _within(self._runner.when_ended(), self._drain, self._reactor):
            count = self._unfinished = self._runner.in_progress
            self.log.warn("{count} tasks did not end within {drain:g} s", count=count, drain=self._drain)
        await _within(self._answers.when_settled(), _SETTLE_TIMEOUT, self._reactor)
        self._runner.stop()
        self._saturation.stop()
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


def _may_go_back(attempt: Attempt) -> bool:
    """
    Whether a call that was not begun can be handed back once more.

    Quorum queues count that before RabbitMQ 4.3, and call a message poison in
    the end: so it is not done by halves.
    """
    taken: Any = attempt.delivery
    count: int = taken.deliveries
    return count < DELIVERY_LIMIT // 2


def _check_reply_headers(headers: Headers) -> None:
    check_headers(headers)
    sendable_headers(headers)


def _ignore_probe(delivery: Delivery) -> None:
    """That it came here at all, and so was not returned, is its answer."""


async def _within(waiting: Deferred[None], seconds: float, clock: Any) -> bool:
    """Wait, but not longer. :returns: whether it came in time."""
    in_time = waiting.addCallback(lambda _: True)
    return await in_time.addTimeout(seconds, clock, lambda value, timeout: False)
