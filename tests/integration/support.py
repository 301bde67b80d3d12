"""What the tests against a real RabbitMQ share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from crew_tx import Client
from crew_tx.amqp.service import BrokerConnection
from crew_tx.amqp.uri import parse_all
from crew_tx.tasks.declaration import TaskDefinition
from crew_tx.testing.rabbitmq import shared_node
from crew_tx.worker import Task, Worker

ROOT = Path(__file__).resolve().parents[2]

#: Seconds that a process of ours may take to do what a test waits for.
PATIENCE = 20.0


class BrokerTestCase(TestCase):
    """
    A test with clients and workers on a real broker.

    Whatever it made is ended after it, and its queues are deleted.
    """

    timeout = 60

    def setUp(self) -> None:
        self.node = shared_node()
        self.url = self.node.url
        self._queues: list[str] = []
        # Twisted's older trial does not wait for coroutines.
        self.addCleanup(lambda: Deferred.fromCoroutine(self._delete_queues()))

    def name(self, name: str = "task") -> str:
        """A task id that no other test has; its queue is deleted after the test."""
        unique = f"{name}.{uuid4().hex[:12]}"
        self.delete_later(f"crew.tasks.{unique}")
        return unique

    def delete_later(self, queue: str) -> None:
        self._queues.append(queue)

    async def client(self, **arguments: Any) -> Client:
        """A connected client."""
        client = Client(reactor, self.url, **arguments)
        self.addCleanup(client.close)
        await client.connect()
        return client

    async def worker(self, *tasks: Callable[..., Any], **arguments: Any) -> Worker:
        """A worker that consumes, of functions that ``Task`` has marked; by a ``url``, or ours."""
        definitions: list[TaskDefinition] = [task.__crew_task__ for task in tasks]  # type: ignore[attr-defined]
        urls = parse_all(arguments.pop("url", self.url))
        worker = Worker(reactor, urls, definitions, **{"drain": 2.0, **arguments})
        worker.startService()
        self.addCleanup(self.stop_worker, worker)
        await worker.when_ready()
        return worker

    async def declared(self, task_id: str, **arguments: Any) -> None:
        """Let a worker declare a task, and end."""

        @Task(task_id)
        def nothing(req: Any) -> None:
            """Does nothing."""

        await self.stop_worker(await self.worker(nothing, **arguments))

    def stop_worker(self, worker: Worker) -> Deferred[None]:
        return worker.stopService() if worker.running else Deferred.fromCoroutine(_nothing())

    def script(self) -> Path:
        """Where a test may write a program."""
        return Path(self.mktemp()).absolute().with_suffix(".py")

    def process(self, *arguments: str | Path, environment: dict[str, str] | None = None) -> Program:
        """A Python program of ours; killed after the test if it still runs."""
        program = Program()
        variables = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        command = [sys.executable, *map(str, arguments)]
        reactor.spawnProcess(program, sys.executable, command, env=variables, path=str(ROOT))  # type: ignore[attr-defined]
        self.addCleanup(program.kill)
        return program

    async def amqp(self) -> Any:
        """A bare connection, for a test that looks at the wire."""

        async def prepare(client: Any) -> None:
            """Nothing to prepare."""

        connection = BrokerConnection(reactor, parse_all(self.url), prepare, name="test")
        connection.startService()
        self.addCleanup(connection.stopService)
        return await connection.when_ready()

    async def _delete_queues(self) -> None:
        async def prepare(client: Any) -> None:
            channel = await client.open_channel()
            for queue in self._queues:
                await channel.queue_delete(queue=queue)

        connection = BrokerConnection(reactor, parse_all(self.url), prepare, name="cleanup")
        connection.startService()
        await connection.when_ready()
        await connection.stopService()


class Program(ProcessProtocol):
    """
    A process whose output a test waits for.

    :ivar output: all that it wrote, to either stream.
    :ivar code: its exit code once it has ended; minus the signal if one ended it.
    """

    def __init__(self) -> None:
        self.output = ""
        self.code: int | None = None
        self._waiting: list[tuple[str, Deferred[None]]] = []
        self._ended: list[Deferred[int]] = []

    @property
    def pid(self) -> int:
        pid: int = self.transport.pid  # type: ignore[union-attr,attr-defined]
        return pid

    def says(self, text: str) -> Deferred[None]:
        """A Deferred that fires when its output has this text."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append((text, waiting))
        self._look()
        return waiting.addTimeout(PATIENCE, reactor, lambda value, _: self._missing(text))  # type: ignore[arg-type]

    def ends(self) -> Deferred[int]:
        """A Deferred of its exit code."""
        ended: Deferred[int] = Deferred()
        if self.code is not None:
            ended.callback(self.code)
        else:
            self._ended.append(ended)
        return ended.addTimeout(PATIENCE, reactor, lambda value, _: self._missing("its end"))  # type: ignore[arg-type]

    def signal(self, name: str) -> None:
        """Send it a signal: ``TERM``, ``KILL`` ..."""
        assert self.transport is not None
        self.transport.signalProcess(name)  # type: ignore[attr-defined]

    def kill(self) -> Deferred[int] | None:
        if self.code is not None:
            return None
        self.signal("KILL")
        return self.ends()

    def outReceived(self, data: bytes) -> None:
        self.output += data.decode("utf-8", "replace")
        self._look()

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        value = reason.value
        assert isinstance(value, (ProcessDone, ProcessTerminated))
        self.code = -value.signal if value.signal else value.exitCode or 0
        ended, self._ended = self._ended, []
        for deferred in ended:
            deferred.callback(self.code)

    def _look(self) -> None:
        for text, waiting in list(self._waiting):
            if text in self.output and not waiting.called:
                self._waiting.remove((text, waiting))
                waiting.callback(None)

    def _missing(self, what: str) -> None:
        raise AssertionError(f"no sign of {what!r} in:\n{self.output[-4000:]}")


async def _nothing() -> None:
    """For a Deferred that has fired."""


async def errored(waiting: Deferred[Any], kind: type[Exception]) -> Any:
    """The error of that kind with which a Deferred has to fail."""
    try:
        value = await waiting
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was due, and {value!r} came")


async def gathered(waiting: list[Deferred[Any]]) -> list[Any]:
    """All values; the first error is raised."""
    return [await deferred for deferred in waiting]
