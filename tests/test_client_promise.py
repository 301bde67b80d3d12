"""Every call ends exactly once, whatever happens in whatever order."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from crew_tx.codec import LARGE
from tests.amqp.peer import Sent
from tests.clients import FAILURE, ClientTestCase
from tests.roles import Reactor

_OFTEN = ("call", "call", "call", "reply", "reply", "confirm", "wait")
_SELDOM = (
    *("transient", "large", "require worker", "send", "cancel"),
    *("error", "dead letter", "return", "nonsense", "confirm all", "nack"),
    *("lose", "queue gone", "block", "unblock", "thread", "pause", "resume"),
)
_WAITS = (0.02, 0.5, 3, 31, 100)
_events = st.lists(
    st.tuples(st.sampled_from(_OFTEN) | st.sampled_from(_SELDOM), st.integers(0, len(_WAITS) - 1)),
    min_size=5,
    max_size=40,
)


class PromiseTests(ClientTestCase):
    """A client and a broker that may do anything."""

    def begin(self) -> None:
        """A new client on a new reactor."""
        self.reactor = Reactor()
        self.peers = []
        self.deferreds: list[Deferred[Any]] = []
        self.outcomes: list[list[Any]] = []
        self.make()
        self.connect()
        self.begin_connection()

    def begin_connection(self) -> None:
        """Nothing was published by it, nor delivered."""
        self.sent: list[Sent] = []
        self.settled = 0
        self.tag = 0

    @settings(deadline=None, derandomize=True, max_examples=150)
    @given(_events)
    def test_each_deferred_fires_once(self, events: list[tuple[str, int]]) -> None:
        """At the latest when the client closes; and then nothing of them is left."""
        self.begin()
        for name, which in events:
            getattr(self, "do_" + name.replace(" ", "_"))(which)
            self.sent += self.published()
        self.close(self.client)
        self.assertEqual([len(outcomes) for outcomes in self.outcomes], [1] * len(self.deferreds))
        status = self.client.status()
        self.assertEqual((status.pending, status.waiting, status.unconfirmed), (0, 0, 0))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    # -- what callers do ----------------------------------------------------------------

    def _watch(self, deferred: Deferred[Any]) -> None:
        outcomes: list[Any] = []
        deferred.addBoth(outcomes.append)
        self.deferreds.append(deferred)
        self.outcomes.append(outcomes)

    def do_call(self, _: object, **options: Any) -> None:
        self._watch(self.client.call("sum", expiration=20, timeout=20, **options))

    def do_transient(self, _: object) -> None:
        self.do_call(0, persistent=False)

    def do_large(self, _: object) -> None:
        self.do_call(0, data=b"x" * (2 * LARGE))

    def do_require_worker(self, _: object) -> None:
        self.do_call(0, require_worker=True)

    def do_send(self, _: object) -> None:
        self._watch(self.client.send("sum"))

    def do_cancel(self, which: int) -> None:
        if self.deferreds:
            self.deferreds[which % len(self.deferreds)].cancel()

    # -- what the broker does -----------------------------------------------------------

    def _one(self, which: int) -> Sent | None:
        return self.sent[which % len(self.sent)] if self.sent and not self.peer.lost else None

    def do_reply(self, which: int) -> None:
        if (sent := self._one(which)) and "correlation_id" in (sent.properties or {}):
            self.reply(sent, 12)

    def do_confirm(self, _: object) -> None:
        if self.settled < len(self.sent) and not self.peer.lost:
            self.settled += 1
            self.confirm(self.channel, self.settled)

    def do_confirm_all(self, _: object) -> None:
        if self.settled < len(self.sent) and not self.peer.lost:
            self.settled = len(self.sent)
            self.confirm(self.channel, self.settled, multiple=True)

    def do_nack(self, _: object) -> None:
        if self.settled < len(self.sent) and not self.peer.lost:
            self.settled += 1
            self.nack(self.channel, self.settled)

    def do_return(self, which: int) -> None:
        if sent := self._one(which):
            self.give_back(self.channel, sent)

    def do_error(self, which: int) -> None:
        if (sent := self._one(which)) and "correlation_id" in (sent.properties or {}):
            self.reply(sent, FAILURE, error="raised")

    def do_dead_letter(self, which: int) -> None:
        if (sent := self._one(which)) and "expiration" in (sent.properties or {}):
            self.dead_letter(sent, reason="rejected")

    def do_nonsense(self, _: object) -> None:
        if not self.peer.lost:
            self.into_reply_queue({"type": "?"}, b"?")

    def do_block(self, _: object) -> None:
        if not self.peer.lost:
            self.block()

    def do_unblock(self, _: object) -> None:
        if not self.peer.lost:
            self.unblock()

    def do_queue_gone(self, _: object) -> None:
        if not self.peer.lost:
            self.cancel(f"crew.reply.{self.client.client_id}", self.channel)
            self.peer.settle()

    def do_lose(self, _: object) -> None:
        self.peer.lose()

    # -- what the machine does ----------------------------------------------------------

    def do_thread(self, _: object) -> None:
        if self.reactor.threads.waiting:
            self.reactor.threads.step()

    def do_pause(self, _: object) -> None:
        if self.peer.link.producer is not None:
            self.peer.link.producer.pauseProducing()

    def do_resume(self, _: object) -> None:
        if self.peer.link.producer is not None:
            self.peer.link.producer.resumeProducing()

    def do_wait(self, which: int) -> None:
        seconds = _WAITS[which]
        self.advance(seconds, step=min(seconds, 0.5))
        if self.attempts:
            self.accept()
            self.channel = self.channel_of("basic.consume")
            self.peer.unread = [sent for sent in self.peer.unread if sent.name == "basic.publish"]
            self.begin_connection()
