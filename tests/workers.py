"""What the tests of workers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed

from crew_tx.amqp.uri import parse_all
from crew_tx.errors import (
    CrewError,
)
from crew_tx.message import Call, Properties, answer_from, call_properties
from crew_tx.testing.stepped import SteppedThreads
from crew_tx.worker import Task, Worker
from tests.amqp.peer import Peer, Sent
from tests.roles import CODEC, URL, RoleTestCase


@Task("echo")
def echo(req: Any) -> Any:
    """Gives back what it is given."""
    return req


@Task("fail")
def fail(req: Any) -> Any:
    """Raises."""
    raise ValueError(req)


@Task("short", timeout=2, queue="shared")
def short(req: Any) -> Any:
    """Has a limit, and a queue that another has, too."""
    return req


@Task("other", queue="shared")
def other(req: Any) -> Any:
    """In the same queue."""
    return req


class WorkerTestCase(RoleTestCase):
    """
    Tests with a worker of the tasks above.

    :ivar fatal: what it gave up for.
    :ivar announced: what it said by the latest connection before it took calls; nothing else has that.
    """

    channel = 1

    def setUp(self) -> None:
        super().setUp()
        self.reactor.advance(1000)
        self.threads = SteppedThreads()
        self.fatal: list[CrewError] = []
        self.tag = 0

    def make(self, *tasks: Any, **options: Any) -> Worker:
        """A worker that isn't connected."""
        definitions = [task.__crew_task__ for task in (echo, fail, short, other, *tasks)]
        self.worker = Worker(
            self.reactor,
            parse_all(URL),
            definitions,
            **{
                "threads": 2,
                "heartbeat": 0,
                "drain": 10.0,
                "on_fatal": self.fatal.append,
                "create_threads": self.threads,
                **options,
            },
        )
        self.addCleanup(self.stop)
        return self.worker

    def accept(self, change: Callable[[Peer], object] = lambda peer: None) -> Peer:
        """As of every role; nobody hears the worker announce itself, unless the change says otherwise."""

        def unheard(peer: Peer) -> None:
            peer.answers["basic.publish"] = self.return_announcement
            change(peer)

        peer = super().accept(unheard)
        self.announced = [sent for sent in peer.unread if _is_announcement(sent)]
        peer.unread = [sent for sent in peer.unread if not _is_announcement(sent)]
        return peer

    def return_announcement(self, sent: Sent) -> None:
        """The broker has nobody to give it to; other messages are the tests' own."""
        if _is_announcement(sent):
            self.give_back(sent.channel, sent)
            self.confirm(sent.channel, 1)

    def stop(self) -> None:
        """Stop the worker, with threads and a broker that play along."""
        stopped = self.worker.stopService() if self.worker.running else succeed(None)
        for _ in range(60):
            for peer in self.peers:
                peer.settle()
            self.threads.step_all()
            self.reactor.advance(0.5)
        self.successResultOf(stopped)

    def start(self, *tasks: Any, **options: Any) -> Peer:
        """A worker that consumes, and its broker."""
        self.make(*tasks, **options).startService()
        peer = self.accept()
        self.successResultOf(self.worker.when_ready())
        self.channel = self.channel_of("basic.consume")
        peer.unread = []
        return peer

    def call(self, task_id: str = "echo", data: Any = None, queue: str | None = None, **changes: Any) -> int:
        """A call comes. :returns: its delivery tag."""
        encoded = CODEC.encode(data, changes.pop("serializer", None))
        redelivered = changes.pop("redelivered", False)
        call = Call(task_id, f"c{self.tag + 1}", encoded.body, encoded.content_type, reply_to="client-1")
        call = call._replace(**changes)
        return self.delivered(queue or task_id, call_properties(call), call.body, redelivered)

    def delivered(self, queue: str, properties: Properties, body: bytes, redelivered: bool = False) -> int:
        """A message comes from a task queue. :returns: its delivery tag."""
        self.tag += 1
        self.deliver(f"crew.tasks.{queue}", properties, body, self.tag, self.channel, redelivered)
        return self.tag

    def sent(self) -> list[tuple[str, Any]]:
        """What the worker sent since the last time: values or kinds of errors, and what it settled."""
        return [self.told(sent) for sent in self.peer.read()]

    def told(self, sent: Sent) -> tuple[str, Any]:
        """One method of the worker, as short as can be."""
        if sent.name == "basic.publish":
            answer = answer_from(sent.properties or {}, sent.body or b"")
            value = CODEC.decode(answer.body, answer.content_type, answer.content_encoding)
            return "reply", answer.error or value
        if sent.name == "basic.nack":
            return ("hand back" if sent.fields["requeue"] else "reject"), sent.fields["delivery_tag"]
        if sent.name == "basic.ack":
            return "ack", sent.fields["delivery_tag"]
        return sent.name, sent.fields.get("queue") or sent.fields.get("consumer_tag")

    def hanging(self, task_id: str = "hang", **options: Any) -> Any:
        """An async task that waits for ``self.waiting``."""
        self.waiting: Deferred[Any] = Deferred()

        @Task(task_id, **options)
        async def hang(req: Any) -> Any:
            return await self.waiting

        return hang


def _is_announcement(sent: Sent) -> bool:
    return sent.name == "basic.publish" and sent.fields["exchange"] == "crew.hello"
