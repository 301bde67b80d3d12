"""Every call that a worker takes is settled once, behind its outcome, whatever happens in whatever order."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from crew_tx import worker as worker_module
from crew_tx.message import Call, call_properties, cancel_properties
from crew_tx.tasks.processes.frames import write_frame
from crew_tx.tasks.processes.messages import READY
from crew_tx.tasks.processes.spawner import ProcessOptions
from crew_tx.worker import Task
from tests.amqp.peer import Sent
from tests.roles import CODEC, Reactor
from tests.tasks.processes.test_pool import FakeChild
from tests.workers import WorkerTestCase

_OFTEN = ("call", "call", "call", "run", "run", "confirm", "wait")
_SELDOM = (
    *("fail", "short", "unknown", "one way", "nonsense", "asynchronous", "end asynchronous"),
    *(
        "nack",
        "return",
        "lose",
        "queue gone",
        "consumer ended",
        "control gone",
        "channel closed",
        "block",
        "unblock",
        "pause",
        "resume",
    ),
)
_WAITS = (0.3, 1, 3, 6, 31)
_events = st.lists(
    st.tuples(st.sampled_from(_OFTEN) | st.sampled_from(_SELDOM), st.integers(0, len(_WAITS) - 1)),
    min_size=5,
    max_size=40,
)
_KINDS = (
    *("call", "isolated", "suspect", "isolated suspect", "asynchronous", "end asynchronous", "short"),
    *("run", "run", "ready", "answer", "die", "cancel", "cancel", "confirm", "wait", "wait"),
    *("lose", "fast", "halt", "go on", "skipped"),
)
_mixed_events = st.lists(
    st.tuples(st.sampled_from(_KINDS), st.integers(0, len(_WAITS) - 1)), min_size=5, max_size=40
)


@Task("isolated", isolation="process")
def isolated(req: Any) -> Any:
    """For a process."""


@Task("skipped", skip_abandoned=True)
def skipped(req: Any) -> Any:
    """Asks after its caller."""


class PromiseTestCase(WorkerTestCase):
    """
    A worker and a broker that may do anything.

    :ivar unsettled: the deliveries of this connection, with the ids of the calls that want a reply.
    :ivar replied: what was published by this connection, in order.
    :ivar ended: the consumers that either side has ended.
    """

    def begin(self) -> None:
        """A new worker on a new reactor."""
        self.reactor = Reactor()
        self.peers = []
        self.threads = type(self.threads)()
        self.start(self.hanging())
        self.begin_connection()

    def begin_connection(self) -> None:
        """Nothing was delivered by it."""
        self.unsettled: dict[int, str | None] = {}
        self.replied: list[Sent] = []
        self.ended: set[str] = set()
        self.confirmed = 0
        self.tag = 0

    def come_to_rest(self) -> None:
        """All is well with the broker, and time goes by."""
        self.do_unblock(0)
        self.do_resume(0)
        self.do_wait(3)
        for _ in range(3):
            self.threads.step_all()
            self.do_end_asynchronous(0)
            self.do_wait(4)
            self.check()
            while self.confirmed < len(self.replied):
                self.do_confirm(0)

    def check(self) -> None:
        """Look at what the worker sent; answer what wants an answer."""
        if not self.peer.lost:
            self.peer.settle()
        for sent in self.peer.read():
            if sent.name == "basic.publish":
                self.replied.append(sent)
            elif sent.name == "basic.cancel":
                self.ended.add(sent.fields["consumer_tag"])
            elif sent.name == "basic.ack":
                self.assertFalse(sent.fields["multiple"])
                self.check_ack(sent.fields["delivery_tag"])
            elif sent.name == "basic.nack":
                self.assertIn(sent.fields["delivery_tag"], self.unsettled)
                del self.unsettled[sent.fields["delivery_tag"]]

    def check_ack(self, tag: int) -> None:
        """It is for a delivery of this connection, and its reply went before it."""
        self.assertIn(tag, self.unsettled)
        call_id = self.unsettled.pop(tag)
        if call_id is not None:
            self.assertIn(call_id, [(sent.properties or {}).get("correlation_id") for sent in self.replied])

    # -- what callers do ------------------------------------------------------------------

    def take(self, task_id: str, **changes: Any) -> None:
        """A call comes, if it can."""
        if self.can_deliver(changes.get("queue", task_id)) and len(self.unsettled) < 6:
            tag = self.call(task_id, **changes)
            self.unsettled[tag] = None if "reply_to" in changes else f"c{tag}"

    def can_deliver(self, queue: str) -> bool:
        """Whether a consumer of a queue is there."""
        tag = self.tags.get(f"crew.tasks.{queue}")
        return not self.peer.lost and tag is not None and tag not in self.ended

    def do_call(self, _: int) -> None:
        self.take("echo")

    def do_fail(self, _: int) -> None:
        self.take("fail")

    def do_short(self, _: int) -> None:
        self.take("short", queue="shared")

    def do_unknown(self, _: int) -> None:
        self.take("unknown", queue="echo")

    def do_one_way(self, _: int) -> None:
        self.take("echo", reply_to=None)

    def do_asynchronous(self, _: int) -> None:
        self.take("hang")

    def do_nonsense(self, _: int) -> None:
        if self.can_deliver("echo"):
            self.unsettled[self.delivered("echo", {}, b"?")] = None

    # -- what the broker does -------------------------------------------------------------

    def do_confirm(self, _: int) -> None:
        if self.confirmed < len(self.replied) and not self.peer.lost:
            self.confirmed += 1
            self.confirm(self.channel, self.confirmed)

    def do_nack(self, _: int) -> None:
        if self.confirmed < len(self.replied) and not self.peer.lost:
            self.confirmed += 1
            self.nack(self.channel, self.confirmed)

    def do_return(self, _: int) -> None:
        if self.confirmed < len(self.replied) and not self.peer.lost:
            self.give_back(self.channel, self.replied[self.confirmed])
            self.do_confirm(0)

    def do_lose(self, _: int) -> None:
        self.peer.lose()

    def do_queue_gone(self, _: int) -> None:
        if not self.peer.lost:
            self.peer.refuse("queue.declare", 404, "NOT_FOUND")
            self.do_consumer_ended(0)

    def do_consumer_ended(self, _: int) -> None:
        if self.can_deliver("echo"):
            self.ended.add(self.tags["crew.tasks.echo"])
            self.cancel("crew.tasks.echo", self.channel)

    def do_control_gone(self, _: int) -> None:
        if not self.peer.lost:
            self.cancel(self.control(), self.channel)

    def control(self) -> str:
        """The control queue of this connection."""
        return next(queue for queue in reversed(self.tags) if queue.startswith("crew.control."))

    def do_channel_closed(self, _: int) -> None:
        if not self.peer.lost:
            self.peer.send(self.channel, "channel.close", reply_code=406, reply_text="PRECONDITION_FAILED")

    def do_block(self, _: int) -> None:
        if not self.peer.lost:
            self.block()

    def do_unblock(self, _: int) -> None:
        if not self.peer.lost:
            self.unblock()

    # -- what the machine does --------------------------------------------------------------

    def do_run(self, _: int) -> None:
        self.threads.step()

    def do_end_asynchronous(self, _: int) -> None:
        if not self.waiting.called:
            self.waiting.callback(7)

    def do_pause(self, _: int) -> None:
        if self.peer.link.producer is not None:
            self.peer.link.producer.pauseProducing()

    def do_resume(self, _: int) -> None:
        if self.peer.link.producer is not None:
            self.peer.link.producer.resumeProducing()

    def do_wait(self, which: int) -> None:
        self.advance(_WAITS[which], step=0.1)
        if self.attempts:
            self.check()
            self.tags.clear()
            self.accept()
            self.channel = self.channel_of("basic.consume")
            self.peer.unread = [sent for sent in self.peer.unread if sent.name == "basic.publish"]
            self.begin_connection()


class PromiseTests(PromiseTestCase):
    """Of one that has threads alone."""

    @settings(deadline=None, derandomize=True, max_examples=150)
    @given(_events)
    def test_each_delivery_is_settled_once_and_behind_its_outcome(
        self, events: list[tuple[str, int]]
    ) -> None:
        """A worker that is left alone, and then stops, owes nobody anything."""
        self.begin()
        for name, which in events:
            getattr(self, "do_" + name.replace(" ", "_"))(which)
            self.check()
        self.come_to_rest()
        self.assertEqual(self.unsettled, {})
        self.assertEqual(self.worker.status().unconfirmed_replies, 0)
        self.stop()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])


class MixedTests(PromiseTestCase):
    """
    With tasks in processes, calls that were delivered often, cancels, and callers that are asked after.

    :ivar children: its processes, the youngest last.
    :ivar cancelled: the calls that nobody waits for.
    """

    def begin(self) -> None:
        self.reactor = Reactor()
        self.reactor.callWhenRunning = lambda function: function()
        self.peers = []
        self.children: list[FakeChild] = []
        self.threads = type(self.threads)()
        self.patch(worker_module, "spawner", lambda *_: self.spawn)
        processes = ProcessOptions(["python"], {}, 1)
        self.start(self.hanging(), isolated, skipped, processes=processes, ack_timeout=30.0)
        self.cancelled: set[str] = set()
        self.begin_connection()

    def spawn(self, listener: Any) -> FakeChild:
        child = FakeChild(100 + len(self.children), listener)
        child.kill = lambda: listener.ended("was ended by SIGKILL")  # type: ignore[method-assign]
        self.children.append(child)
        return child

    @settings(deadline=None, derandomize=True, max_examples=100)
    @given(_mixed_events)
    @example([("isolated", 0), ("wait", 3)])
    @example([("isolated", 0), ("call", 0), ("isolated suspect", 2), ("wait", 3), ("lose", 0)])
    def test_each_delivery_is_settled_and_the_worker_goes_on(self, events: list[tuple[str, int]]) -> None:
        """Left alone it owes nobody anything, and answers whatever comes then."""
        self.begin()
        for name, which in events:
            getattr(self, "do_" + name.replace(" ", "_"))(which)
            self.check()
        if self.worker.status().paused:
            # Not where it wasn't told to: that would help it out where it waits for nothing.
            self.do_go_on(0)
        self.come_to_rest()
        self.assertEqual(self.unsettled, {}, str(events))
        for task_id in ("echo", "isolated", "shared", "hang", "skipped"):
            self.assertTrue(self.can_deliver(task_id), f"{task_id} is not consumed: {events}")
        self.take("isolated")
        self.take("echo")
        self.come_to_rest()
        self.assertEqual((self.unsettled, self.worker.status().held), ({}, 0))
        self.stop()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def come_to_rest(self) -> None:
        for _ in range(8):
            self.do_ready(0)
            self.do_answer(0)
            self.do_end_asynchronous(0)
            self.threads.step_all()
            self.do_wait(1)
            self.check()
        super().come_to_rest()

    def check_ack(self, tag: int) -> None:
        if self.unsettled.get(tag) in self.cancelled or self.is_late():
            del self.unsettled[tag]
        else:
            super().check_ack(tag)

    def is_late(self) -> bool:
        """Whether calls may be acknowledged before they are answered."""
        return self.reactor.seconds() - self.began > 20

    def begin_connection(self) -> None:
        super().begin_connection()
        self.began = self.reactor.seconds()

    def do_isolated(self, _: int) -> None:
        self.take("isolated")

    def do_skipped(self, _: int) -> None:
        self.take("skipped")

    def do_suspect(self, which: int) -> None:
        self.suspect("echo", which)

    def do_isolated_suspect(self, which: int) -> None:
        self.suspect("isolated", which)

    def suspect(self, task_id: str, count: int) -> None:
        """A call from a queue that counts."""
        if not self.can_deliver(task_id) or len(self.unsettled) >= 6:
            return
        encoded = CODEC.encode(None)
        call = Call(task_id, f"c{self.tag + 1}", encoded.body, encoded.content_type, reply_to="client-1")
        properties = call_properties(call)
        properties["headers"]["x-delivery-count"] = 1 + count
        tag = self.delivered(task_id, properties, call.body)
        self.unsettled[tag] = call.call_id

    def do_cancel(self, which: int) -> None:
        if self.peer.lost or not self.tag:
            return
        call_id = f"c{max(1, self.tag - which)}"
        self.cancelled.add(call_id)
        properties = cancel_properties("cancel", call_id, "client-1")
        self.deliver(self.control(), properties, b"", 10_000 + len(self.cancelled), self.channel)

    def do_ready(self, _: int) -> None:
        for child in list(self.children):
            child.says(write_frame(READY, {})) if self.state_of(child) == "starting" else None

    def do_answer(self, _: int) -> None:
        for child in list(self.children):
            child.answers() if self.state_of(child) == "busy" else None

    def do_die(self, _: int) -> None:
        for child in list(self.children):
            if self.state_of(child) == "busy":
                child.listener.ended("ended with exit code 1")

    def state_of(self, child: FakeChild) -> str:
        listener: Any = child.listener
        state: str = listener.state
        return state

    def do_fast(self, _: int) -> None:
        """Tasks were short so far: more is sent ahead."""
        self.worker.resize(3)
        self.worker.resize(2)

    def do_halt(self, _: int) -> None:
        self.worker.pause()

    def do_go_on(self, _: int) -> None:
        self.worker.resume()
