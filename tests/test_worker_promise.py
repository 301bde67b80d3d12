"""Every call that a worker takes is settled once, behind its outcome, whatever happens in whatever order."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.amqp.peer import Sent
from tests.roles import Reactor
from tests.workers import WorkerTestCase

_OFTEN = ("call", "call", "call", "run", "run", "confirm", "wait")
_SELDOM = (
    *("fail", "short", "unknown", "one way", "nonsense", "asynchronous", "end asynchronous"),
    *(
        "nack",
        "return",
        "lose",
        "queue gone",
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


class PromiseTests(WorkerTestCase):
    """
    A worker and a broker that may do anything.

    :ivar unsettled: the deliveries of this connection, with the ids of the calls that want a reply.
    :ivar replied: what was published by this connection, in order.
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
        self.confirmed = 0
        self.tag = 0

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
            self.assertIn(call_id, [(sent.properties or {})["correlation_id"] for sent in self.replied])

    # -- what callers do ------------------------------------------------------------------

    def take(self, task_id: str, **changes: Any) -> None:
        """A call comes, if it can."""
        if not self.peer.lost and len(self.unsettled) < 6:
            tag = self.call(task_id, **changes)
            self.unsettled[tag] = None if "reply_to" in changes else f"c{tag}"

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
        if not self.peer.lost:
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
            self.accept()
            self.channel = self.channel_of("confirm.select")
            self.peer.unread = [sent for sent in self.peer.unread if sent.name == "basic.publish"]
            self.begin_connection()
