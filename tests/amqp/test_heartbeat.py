"""Heartbeats in both directions."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp import frames
from crew_tx.amqp.errors import translated
from crew_tx.amqp.heartbeat import Heartbeats, negotiated
from tests.amqp.peer import Peer, PeerTestCase


class NegotiationTests(SynchronousTestCase):
    """Which interval holds."""

    def test_the_smaller_or_the_only_one_holds(self) -> None:
        """0 says that one does not mind."""
        for ours, theirs, agreed in ((0, 0, 0), (10, 0, 10), (0, 10, 10), (5, 10, 5), (10, 5, 5)):
            self.assertEqual(negotiated(ours, theirs), agreed)


class HeartbeatsTests(SynchronousTestCase):
    """The timer by itself: an interval of 10 s, dead after two."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.log: list[tuple[str, float]] = []
        self.heartbeats = Heartbeats(self.clock, 10, 2, self._send, lambda: self._note("dead"))
        self.addCleanup(self._check_nothing_is_left)

    def _note(self, what: str) -> None:
        self.log.append((what, self.clock.seconds()))

    def _send(self) -> None:
        self._note("sent")
        self.heartbeats.wrote()

    def _check_nothing_is_left(self) -> None:
        self.heartbeats.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def hear_until(self, seconds: int, wrote: tuple[int, ...] = ()) -> None:
        """Let time pass a second at a time, with something heard in each."""
        while self.clock.seconds() < seconds:
            self.clock.advance(1)
            self.heartbeats.heard()
            if self.clock.seconds() in wrote:
                self.heartbeats.wrote()

    def test_silence_is_filled_at_half_time(self) -> None:
        """Once the handshake is over."""
        self.heartbeats.start_sending()
        self.hear_until(20)
        self.assertEqual(self.log, [("sent", 5), ("sent", 10), ("sent", 15), ("sent", 20)])

    def test_a_moment_that_is_rounded_comes(self) -> None:
        """64.1 less 44.1 is not quite 20: the peer is dead all the same, and not looked at for ever."""
        self.clock.rightNow = 44.1
        self.heartbeats.set_interval(10)
        self.clock.rightNow = 64.1
        [call] = self.clock.getDelayedCalls()
        self.clock.calls.clear()
        call.func()
        self.assertEqual((self.log, self.clock.getDelayedCalls()), ([("dead", 64.1)], []))

    def test_nothing_is_sent_during_the_handshake(self) -> None:
        """The broker doesn't expect it."""
        self.hear_until(20)
        self.assertEqual(self.log, [])

    def test_what_is_written_is_a_sign_of_life_too(self) -> None:
        """No heartbeat is added in its half."""
        self.heartbeats.start_sending()
        self.hear_until(20, wrote=(3, 12))
        self.assertEqual(self.log, [("sent", 10), ("sent", 20)])

    def test_no_silence_of_ours_is_as_long_as_the_interval_twice(self) -> None:
        """Wherever the last write falls, there is one more within an interval."""
        for last in range(1, 10):
            self.setUp()
            self.heartbeats.start_sending()
            self.hear_until(30, wrote=tuple(range(1, last + 1)))
            self.assertLessEqual(self.log[0][1] - last, 10)
            self._check_nothing_is_left()

    def test_a_silent_peer_is_dead_after_two_intervals(self) -> None:
        """It is told once, and nothing more is sent."""
        self.heartbeats.start_sending()
        for _ in range(60):
            self.clock.advance(1)
        self.assertEqual(self.log, [("sent", 5), ("sent", 10), ("sent", 15), ("dead", 20)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_anything_heard_is_a_sign_of_life(self) -> None:
        """Two intervals count from the last of it, to the second."""
        self.hear_until(7)
        for _ in range(60):
            self.clock.advance(1)
        self.assertEqual(self.log, [("dead", 27)])

    def test_another_interval_starts_anew(self) -> None:
        """What both sides agreed upon replaces what one proposed."""
        self.hear_until(7)
        self.heartbeats.set_interval(30)
        for _ in range(100):
            self.clock.advance(1)
        self.assertEqual(self.log, [("dead", 67)])

    def test_no_interval_is_no_heartbeat(self) -> None:
        """Nobody is dead then."""
        self.heartbeats.start_sending()
        self.heartbeats.set_interval(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_is_left_after_a_stop(self) -> None:
        """It can be stopped twice."""
        self.heartbeats.stop()
        self.heartbeats.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ConnectionTests(PeerTestCase):
    """Heartbeats of a real connection: 10 s were agreed upon."""

    def setUp(self) -> None:
        super().setUp()
        self.peer: Peer = self.log_in(self.new_client(60), heartbeat=10)
        self.peer.read()

    def pass_time(self, seconds: int, heard: bytes = b"") -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            if heard:
                self.peer.feed(heard)

    def test_heartbeats_are_sent(self) -> None:
        """At half the interval that was agreed upon."""
        self.pass_time(5)
        self.peer.read()
        self.pass_time(10, frames.pack_heartbeat())
        self.assertEqual(self.peer.names(), ["heartbeat", "heartbeat"])

    def test_what_is_written_takes_a_heartbeats_place(self) -> None:
        """Whichever way it is written."""
        channel = self.open_channel(self.peer)
        for write in (lambda: channel.ack(1), lambda: channel.basic_ack(delivery_tag=1)):
            self.pass_time(1, frames.pack_heartbeat())
            write()
            self.peer.read()
            self.pass_time(4, frames.pack_heartbeat())
            self.assertEqual(self.peer.names(), [])

    def test_the_brokers_heartbeats_keep_it_alive(self) -> None:
        """As any octet does."""
        self.pass_time(100, frames.pack_heartbeat())
        self.assertFalse(self.peer.link.aborted)

    def test_a_silent_broker_is_given_up(self) -> None:
        """There is no point in a clean end; the reason says what happened."""
        self.pass_time(19)
        self.assertFalse(self.peer.link.aborted)
        self.pass_time(1)
        self.assertTrue(self.peer.link.aborted)
        self.peer.settle()
        self.assertIn("20 s", str(translated(self.peer.client.reason)))

    def test_a_broker_that_is_silent_in_the_handshake_is_given_up(self) -> None:
        """After what was proposed."""
        peer = self.connect(self.new_client(10))
        peer.client.authenticate("guest", "guest").addErrback(lambda _: None)
        peer.greet()
        self.assertEqual(peer.names(), ["connection.start-ok"])
        self.pass_time(20)
        self.assertTrue(peer.link.aborted)

    def test_a_proposal_counts_at_once(self) -> None:
        """The broker may be silent already."""
        peer = self.connect()
        peer.client.propose_heartbeat(7)
        self.pass_time(14)
        self.assertTrue(peer.link.aborted)

    def test_a_proposal_counts_for_the_next_handshake(self) -> None:
        """It replaces the one that the client was made with."""
        peer = self.connect(self.new_client(), heartbeat=60)
        peer.client.propose_heartbeat(7)
        self.successResultOf(peer.log_in())
        self.assertEqual(peer.client.heartbeatInterval, 7)

    def test_the_end_leaves_no_delayed_call(self) -> None:
        """Whoever ends it; a peer that then does nothing more is not waited for longer than that."""
        self.peer.send(0, "connection.close", reply_code=320)
        self.assertFalse(self.peer.link.aborted)
        self.pass_time(3)
        self.assertTrue(self.peer.link.aborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])
