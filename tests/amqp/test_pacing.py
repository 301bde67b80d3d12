"""When clients connect anew, one by one and a thousand together."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from twisted.internet.error import ConnectionRefusedError as TCPRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.pacing import backoff, wait_before
from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.service import BrokerConnection
from crew_tx.amqp.uri import parse_all
from tests.amqp.peer import Peer

CLIENTS = 1_000
#: Of a reactor's steps, in seconds.
STEP = 0.1


class BackoffTests(SynchronousTestCase):
    """Seconds between attempts."""

    def test_it_doubles_up_to_five_seconds(self) -> None:
        """At most."""
        longest = [backoff(attempt, lambda: 1.0) for attempt in (1, 2, 3, 4, 5, 6, 1000)]
        self.assertEqual(longest, [0.5, 1, 2, 4, 5, 5, 5])

    def test_it_is_a_random_part_of_that(self) -> None:
        """So that a thousand clients don't come back at once."""
        self.assertEqual([backoff(3, lambda: 0.0), backoff(3, lambda: 0.25)], [0, 0.5])
        self.assertGreater(len({backoff(5) for _ in range(20)}), 10)

    def test_a_loss_and_a_refusal_have_waits_of_their_own(self) -> None:
        """Random parts of 2 s and of 10 s."""
        for is_loss, is_refused, seconds in (
            (False, False, 0.25),
            (True, False, 1.0),
            (False, True, 5.0),
            (True, True, 5.0),
        ):
            waited = wait_before(1, is_loss=is_loss, is_refused=is_refused, random_number=lambda: 0.5)
            self.assertEqual(seconds, waited)


class HerdTests(SynchronousTestCase):
    """
    A thousand clients, whose broker goes in one instant.

    :ivar attempts: how many were made in each tenth of a second.
    """

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.services: list[BrokerConnection] = []
        self.attempts: list[int] = []
        self.peers: list[Peer] = []
        self.addCleanup(self._check_nothing_is_left)

    def _check_nothing_is_left(self) -> None:
        for service in self.services:
            service.stopService()
        for peer in self.peers:
            peer.settle()
            peer.lose()
        self.assertEqual(self.reactor.getDelayedCalls(), [], "a delayed call is left")

    def begin(self, urls: str) -> None:
        """Start them all; nothing is accepted yet."""
        random = Random(7)

        async def prepare(client: AMQClient) -> None:
            """Nothing to prepare."""

        self.services = [
            BrokerConnection(self.reactor, parse_all(urls), prepare, heartbeat=0, random_number=random.random)
            for _ in range(CLIENTS)
        ]
        for service in self.services:
            service.startService()

    def serve(self) -> None:
        """Accept what is being tried."""
        while self.reactor.tcpClients:
            peer = Peer(self.reactor.tcpClients.pop()[2].buildProtocol(None))
            peer.greet()
            peer.settle()
            self.peers.append(peer)

    def lose(self) -> None:
        """The broker drops all."""
        peers, self.peers = self.peers, []
        for peer in peers:
            peer.lose()
        self.assertEqual([], self.reactor.tcpClients, "some were back in the same instant")

    def step(self, seconds: float) -> None:
        """Let time go by; a test says what comes of the attempts."""
        for _ in range(round(seconds / STEP)):
            self.reactor.advance(STEP)
            self.attempts.append(len(self.reactor.tcpClients))
            self.answer()

    def answer(self) -> None:
        """Nobody listens."""
        clients, self.reactor.tcpClients[:] = list(self.reactor.tcpClients), []
        for client in clients:
            client[2].clientConnectionFailed(None, Failure(TCPRefusedError()))

    def test_a_broker_that_drops_them_is_not_run_over_when_they_come_back(self) -> None:
        """Two seconds, in each tenth of which one in twenty comes."""
        self.begin("amqp://127.0.0.1")
        self.serve()
        self.lose()
        self.patch(self, "answer", self.serve)
        self.step(2.1)
        self.assertEqual(CLIENTS, sum(self.attempts))
        self.assertLess(max(self.attempts), 80)
        self.assertTrue(all(service.is_ready for service in self.services))

    def test_a_broker_that_is_gone_is_asked_ever_less(self) -> None:
        """At first by one in six in a tenth of a second; in the end by one in twenty."""
        self.begin("amqp://127.0.0.1")
        self.serve()
        self.lose()
        self.step(15)
        self.assertLess(max(self.attempts), 160)
        self.assertLess(max(self.attempts[-50:]), 80)
        self.assertGreater(min(self.attempts[-50:]), 10)
        self.patch(self, "answer", self.serve)
        self.step(5.5)
        self.assertTrue(all(service.is_ready for service in self.services))
        self.assertLess(max(self.attempts[-55:]), 80)

    def test_a_list_of_brokers_is_shared_out(self) -> None:
        """About a third each; not all on its first."""
        self.begin(",".join(f"amqp://127.0.0.1:{port}" for port in (1, 2, 3)))
        shares = Counter(client[1] for client in self.reactor.tcpClients)
        self.assertEqual({1, 2, 3}, set(shares))
        self.assertLess(max(shares.values()), CLIENTS / 3 * 1.2)
        self.serve()
