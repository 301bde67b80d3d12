"""A connection that comes back."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as TCPRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.service import BrokerConnection
from crew_tx.amqp.uri import parse_all
from crew_tx.errors import (
    AccessRefusedError,
    AMQPError,
    AuthenticationError,
    ConnectionLostError,
    CrewError,
    InvalidArgumentError,
    NotFoundError,
    PreconditionFailedError,
)
from tests.amqp import captured
from tests.amqp.peer import Peer

URL = "amqp://me:secret@127.0.0.1:5672/v"
STEPS = ("connection.start-ok", "connection.tune-ok", "connection.open")


class ConnectionTestCase(SynchronousTestCase):
    """
    Tests of one :class:`BrokerConnection` on a reactor in memory.

    :ivar log: what it was told, in order.
    """

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.log: list[Any] = []
        self.accepted = 0
        self.prepare: Callable[[AMQClient], Any] = lambda client: None
        self.service = self.connection()
        self.addCleanup(self._check_nothing_is_left)

    def _check_nothing_is_left(self) -> None:
        stopped = self.service.stopService()
        self.reactor.advance(3)
        for peer in getattr(self, "peers", []):
            peer.settle()
            peer.lose()
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [], "a delayed call is left")

    def connection(self, urls: str = URL, **more: Any) -> BrokerConnection:
        async def prepare(client: AMQClient) -> None:
            self.log.append("prepare")
            result = self.prepare(client)
            if isinstance(result, Deferred):
                await result

        return BrokerConnection(
            self.reactor,
            parse_all(urls),
            prepare,
            on_lost=lambda reason: self.log.append(("lost", type(reason))),
            on_refused=lambda error: self.log.append(("refused", type(error))),
            **more,
        )

    @property
    def attempts(self) -> list[tuple[str, int]]:
        """Where it tried to connect to, so far."""
        return [client[:2] for client in self.reactor.tcpClients]

    def accept(self, **answers: Any) -> Peer:
        """A peer for the attempt that is being made."""
        self.assertEqual(len(self.attempts), self.accepted + 1, "there is no attempt to accept")
        factory = self.reactor.tcpClients[self.accepted][2]
        self.accepted += 1
        peer = Peer(factory.buildProtocol(None))
        self.peers = [*getattr(self, "peers", []), peer]
        return peer

    def refuse(self) -> None:
        """Nobody listens at the address that is being tried."""
        factory = self.reactor.tcpClients[self.accepted][2]
        self.accepted += 1
        factory.clientConnectionFailed(None, Failure(TCPRefusedError()))
        # So long the endpoint waits before it would try another address of the host.
        self.reactor.advance(0.3)

    def serve(self) -> Peer:
        """Accept, and go through the handshake."""
        peer = self.accept()
        peer.greet()
        peer.settle()
        return peer

    def start(self) -> Peer:
        """Start it, and serve its first attempt."""
        self.service.startService()
        return self.serve()

    def wait(self) -> None:
        """Let the longest time between two attempts pass."""
        self.reactor.advance(5)

    @property
    def ready(self) -> AMQClient:
        """The connection, which is ready."""
        client = self.service.client
        assert client is not None
        return client


class ReadyTests(ConnectionTestCase):
    """From the start to the first connection."""

    def test_it_is_ready_when_it_is_logged_in_and_prepared(self) -> None:
        """Not before."""
        preparing: Deferred[None] = Deferred()
        self.prepare = lambda client: preparing
        ready = self.service.when_ready()
        self.start()
        self.assertEqual(self.log, ["prepare"])
        self.assertNoResult(ready)
        self.assertIsNone(self.service.client)
        self.assertTrue(self.service.running)
        preparing.callback(None)
        self.assertIs(self.successResultOf(ready), self.ready)

    def test_everybody_who_waits_gets_the_connection(self) -> None:
        """Before and after it is there."""
        waiting = [self.service.when_ready() for _ in range(3)]
        waiting[1].addErrback(lambda _: None).cancel()
        self.start()
        for each in (waiting[0], waiting[2], self.service.when_ready()):
            self.assertIs(self.successResultOf(each), self.ready)

    def test_the_url_says_how_to_log_in(self) -> None:
        """User, password and virtual host."""
        peer = self.start()
        sent = {each.name: each.fields for each in peer.read()}
        self.assertEqual(sent["connection.start-ok"]["mechanism"], "PLAIN")
        self.assertEqual(sent["connection.start-ok"]["response"], "\0me\0secret")
        self.assertEqual(sent["connection.open"]["virtual_host"], "v")
        self.assertEqual(self.service.broker, "amqp://me@127.0.0.1:5672/v")

    def test_the_broker_is_told_its_name(self) -> None:
        """Operators see it in their list."""
        self.service = self.connection(name="worker-7")
        properties = self.start().one("connection.start-ok").fields["client_properties"]
        self.assertEqual(properties["connection_name"], "worker-7")

    def test_the_interval_is_the_urls_or_the_programs(self) -> None:
        """The broker proposes a minute."""
        for urls, more, interval in (
            (URL, {}, 10),
            (URL, {"heartbeat": 20}, 20),
            (f"{URL}?heartbeat=30", {"heartbeat": 20}, 30),
            (f"{URL}?heartbeat=0", {"heartbeat": 20}, 60),
        ):
            self.service = self.connection(urls, **more)
            self.service.startService()
            peer = self.accept()
            peer.tune["heartbeat"] = 60
            peer.greet()
            peer.settle()
            self.assertEqual(peer.one("connection.tune-ok").fields["heartbeat"], interval)
            self.service.stopService()
            peer.settle()


class FailedAttemptsTests(ConnectionTestCase):
    """Attempts that come to nothing, and the one after."""

    def tearDown(self) -> None:
        # A Deferred that nobody looked at is logged, and so an error of the test, when it is collected.
        gc.collect()

    def assert_goes_on(self, words: str) -> None:
        """It is not ready, says why, and serves at the next attempt; nobody heard of a loss."""
        self.assertIsNone(self.service.client)
        self.assertIn(words, str(self.service.last_failure))
        waiting = self.service.when_ready()
        self.wait()
        self.serve()
        self.successResultOf(waiting)
        self.assertIsNone(self.service.last_failure)
        self.assertNotIn("lost", [each[0] for each in self.log])

    def test_nobody_may_listen(self) -> None:
        """The broker is down."""
        self.service.startService()
        self.refuse()
        self.assert_goes_on("refused")

    def test_the_connection_may_end_before_the_greeting(self) -> None:
        """A proxy without a broker behind it."""
        self.service.startService()
        self.accept().lose()
        self.assert_goes_on("lost")

    def test_the_connection_may_end_at_any_step_of_the_handshake(self) -> None:
        """A broker that goes down."""
        self.service.startService()
        for step in STEPS:
            peer = self.accept()
            peer.lose_at(step)
            peer.greet()
            peer.settle()
            self.assertTrue(peer.lost)
            self.assertIsNone(self.service.client)
            self.wait()
        self.serve()
        self.assertIsNotNone(self.service.client)
        self.assertEqual(self.log, ["prepare"])

    def test_the_broker_may_close_at_any_step_of_the_handshake(self) -> None:
        """As it does when it is going down."""
        self.service.startService()
        for step in STEPS:
            peer = self.accept()
            peer.refuse(step, 320, "CONNECTION_FORCED - broker forced connection closure")
            peer.greet()
            peer.settle()
            self.assertTrue(peer.lost)
            self.assertIn("320", str(self.service.last_failure))
            self.wait()
        self.serve()
        self.assertIsNotNone(self.service.client)

    def test_the_connection_may_end_while_it_is_prepared(self) -> None:
        """Whatever is being declared."""

        async def declare(client: AMQClient) -> None:
            channel = await client.open_channel()
            await channel.queue_declare(queue="q")

        self.prepare = lambda client: Deferred.fromCoroutine(declare(client))
        self.service.startService()
        for step in ("channel.open", "queue.declare"):
            peer = self.accept()
            peer.lose_at(step)
            peer.greet()
            peer.settle()
            self.assertIsNone(self.service.client)
            self.wait()
        self.serve()
        self.assertIsNotNone(self.service.client)

    def test_a_broker_that_says_nothing_is_given_up(self) -> None:
        """Ten seconds after it took the connection."""
        self.service.startService()
        peer = self.accept()
        self.reactor.advance(9.9)
        self.assertFalse(peer.link.aborted)
        self.reactor.advance(0.1)
        self.assertTrue(peer.link.aborted)
        peer.settle()
        self.assert_goes_on("within 10 s")

    def test_a_preparation_that_takes_too_long_is_given_up(self) -> None:
        """It counts."""
        self.prepare = lambda client: Deferred()
        peer = self.start()
        self.reactor.advance(10)
        peer.settle()
        self.prepare = lambda client: None
        self.assert_goes_on("within 10 s")

    def test_a_preparation_that_fails_drops_the_connection(self) -> None:
        """The next attempt makes another."""

        def fail(client: AMQClient) -> None:
            raise AMQPError("not now")

        self.prepare = fail
        peer = self.start()
        self.assertTrue(peer.link.aborted)
        peer.settle()
        self.prepare = lambda client: None
        self.assert_goes_on("not now")

    def test_a_mistake_in_a_preparation_is_told_as_it_is(self) -> None:
        """It is no loss of the connection, though it drops it."""

        def fail(client: AMQClient) -> None:
            raise ZeroDivisionError("a mistake")

        self.prepare = fail
        peer = self.start()
        peer.settle()
        self.prepare = lambda client: None
        self.assert_goes_on("a mistake")

    def test_a_channel_that_is_closed_in_a_preparation_is_no_refusal(self) -> None:
        """Only what it raises of its own accord is."""

        async def declare(client: AMQClient) -> None:
            channel = await client.open_channel()
            await channel.queue_declare(queue="q")

        self.prepare = lambda client: Deferred.fromCoroutine(declare(client))
        self.service.startService()
        peer = self.accept()
        peer.refuse("queue.declare", 406, "PRECONDITION_FAILED")
        peer.greet()
        peer.settle()
        self.prepare = lambda client: None
        self.assert_goes_on("PRECONDITION_FAILED")

    def test_a_limit_of_connections_is_no_refusal(self) -> None:
        """Ghosts of our own may hold them."""
        self.service.startService()
        peer = self.accept()
        peer.refuse(
            "connection.open", 530, "NOT_ALLOWED - access to vhost refused: connection limit is reached"
        )
        peer.greet()
        peer.settle()
        self.assert_goes_on("limit")

    def test_the_same_failure_is_logged_once(self) -> None:
        """Another one again; never with the password."""
        with capturedLogs() as logs:
            self.service.startService()
            for _ in range(4):
                self.refuse()
                self.wait()
            self.accept().lose()
            self.wait()
        warnings = [event for event in logs if event["log_level"] == LogLevel.warn]
        self.assertEqual(len(warnings), 2)
        self.assertNotIn("secret", str(logs))
        self.assertIn("amqp://me@127.0.0.1:5672/v", warnings[0]["broker"])


class LossTests(ConnectionTestCase):
    """A connection that was ready."""

    def test_a_lost_connection_is_made_again(self) -> None:
        """It is prepared again, too."""
        peer = self.start()
        first = self.ready
        peer.lose()
        self.assertIsNone(self.service.client)
        self.assertEqual(self.log, ["prepare", ("lost", ConnectionLostError)])
        self.wait()
        self.serve()
        self.assertIsNot(self.ready, first)
        self.assertEqual(self.log, ["prepare", ("lost", ConnectionLostError), "prepare"])

    def test_a_connection_that_the_broker_closes_is_made_again(self) -> None:
        """It says why."""
        peer = self.start()
        peer.send(0, "connection.close", reply_code=320, reply_text="CONNECTION_FORCED")
        peer.settle()
        self.assertEqual(self.log[1:], [("lost", AMQPError)])
        self.wait()
        self.serve()
        self.assertIsNotNone(self.service.client)

    def test_a_connection_may_be_lost_as_soon_as_it_is_ready(self) -> None:
        """While those who waited are being told."""
        self.service.startService()
        peer = self.accept()
        self.service.when_ready().addCallback(lambda _: peer.lose())
        peer.greet()
        peer.settle()
        self.assertEqual(self.log, ["prepare", ("lost", ConnectionLostError)])
        self.wait()
        self.serve()
        self.assertIsNotNone(self.service.client)

    def test_nobody_gets_a_connection_that_is_ending(self) -> None:
        """From the broker's close to the transport's end."""
        self.assertFalse(self.service.is_ready)
        peer = self.start()
        self.assertTrue(self.service.is_ready)
        peer.send(0, "connection.close", reply_code=320)
        self.assertFalse(self.service.is_ready)
        self.assertNoResult(self.service.when_ready().addErrback(lambda _: None))

    def test_a_channel_that_the_broker_closes_ends_the_connection(self) -> None:
        """All that was on it is made anew."""
        peer = self.start()
        opened = Deferred.fromCoroutine(self.ready.open_channel())
        peer.settle()
        self.successResultOf(opened)
        peer.send(1, "channel.close", reply_code=404, reply_text="NOT_FOUND")
        peer.settle()
        self.assertEqual(self.log[1:], [("lost", NotFoundError)])
        self.assertIn("channel.close-ok", peer.names())
        self.wait()
        self.serve()
        self.assertIsNotNone(self.service.client)

    def test_a_silent_broker_is_left(self) -> None:
        """After two intervals."""
        peer = self.start()
        for _ in range(20):
            self.reactor.advance(1)
        self.assertTrue(peer.link.aborted)
        peer.settle()
        self.assertEqual(self.log[1:], [("lost", ConnectionLostError)])

    def test_the_loss_is_logged_without_the_password(self) -> None:
        """Where and why."""
        peer = self.start()
        with capturedLogs() as logs:
            peer.lose()
        [warning] = [event for event in logs if event["log_level"] == LogLevel.warn]
        self.assertEqual(warning["broker"], "amqp://me@127.0.0.1:5672/v")
        self.assertNotIn("secret", str(logs))


class SeveralBrokersTests(ConnectionTestCase):
    """A list of three; chance has it that the first one is first."""

    urls = "amqp://127.0.0.1:1,amqp://127.0.0.1:2,amqp://127.0.0.1:3/v"

    def setUp(self) -> None:
        super().setUp()
        self.service = self.connection(self.urls, random_number=lambda: 0.3)

    @property
    def ports(self) -> list[int]:
        """Of the brokers that were tried so far."""
        return [port for _, port in self.attempts]

    def test_they_are_tried_in_turn(self) -> None:
        """Round and round."""
        self.service.startService()
        for _ in range(4):
            self.refuse()
            self.wait()
        self.assertEqual(self.ports, [1, 2, 3, 1, 2])
        self.serve()
        self.assertEqual(self.service.broker, "amqp://guest@127.0.0.1:2/%2F")

    def test_the_one_that_served_is_tried_first(self) -> None:
        """Then the one after it."""
        self.service.startService()
        self.refuse()
        self.wait()
        self.serve().lose()
        self.wait()
        self.refuse()
        self.wait()
        self.assertEqual(self.ports, [1, 2, 2, 3])

    def test_any_of_them_may_be_the_first(self) -> None:
        """So that clients with one list are spread over it; the order stays."""
        for number, ports in ((0.0, [1, 2, 3, 1]), (0.34, [2, 3, 1, 2]), (0.999, [3, 1, 2, 3])):
            self.reactor.tcpClients.clear()
            self.accepted = 0
            self.service = self.connection(self.urls, random_number=lambda number=number: number)
            self.service.startService()
            for _ in range(3):
                self.refuse()
                self.wait()
            self.assertEqual(self.ports, ports)
            self.service.stopService()

    def test_one_that_hangs_is_not_tried_first(self) -> None:
        """It would take the connection, and ten seconds to say nothing."""
        self.service.startService()
        peer = self.serve()
        for _ in range(20):
            self.reactor.advance(1)
        peer.settle()
        self.wait()
        self.assertEqual(self.ports, [1, 2])
        self.serve()

    def test_one_that_fails_in_the_handshake_is_passed_by(self) -> None:
        """It listens, and that is all."""
        self.service.startService()
        self.accept().lose()
        self.wait()
        self.serve()
        self.assertEqual(self.ports, [1, 2])


class RefusalTests(ConnectionTestCase):
    """Where trying again would end the same way."""

    def refused(self, step: str, code: int, text: str) -> CrewError:
        """It is told once, and it is over; nobody reads that it goes on."""
        waiting = self.service.when_ready()
        self.service.startService()
        peer = self.accept()
        peer.refuse(step, code, text)
        with capturedLogs() as logs:
            peer.greet()
            peer.settle()
        self.assertEqual([event for event in logs if event["log_level"] == LogLevel.warn], [])
        error: CrewError = self.failureResultOf(waiting).value
        self.assert_is_over(error)
        return error

    def assert_is_over(self, error: CrewError) -> None:
        self.assertIs(self.service.refusal, error)
        self.wait()
        self.wait()
        self.assertEqual(len(self.attempts), self.accepted)
        self.assertEqual(self.log[-1], ("refused", type(error)))
        self.assertEqual(len([each for each in self.log if each[0] == "refused"]), 1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_bad_password_is_final(self) -> None:
        """The text says whose, not which."""
        error = self.refused("connection.start-ok", 403, "ACCESS_REFUSED - Login was refused")
        self.assertIsInstance(error, AuthenticationError)
        self.assertIn("'me'", str(error))
        self.assertNotIn("secret", str(error))
        self.assertEqual(error.reply_code, 403)  # type: ignore[attr-defined]

    def test_a_bad_password_is_final_as_rabbitmq_says_it(self) -> None:
        """Its own bytes."""
        self.service.startService()
        peer = self.accept()
        peer.feed(captured.CONNECTION_START)
        peer.answers["connection.start-ok"] = lambda sent: peer.feed(captured.CONNECTION_CLOSE)
        peer.settle()
        self.assertIsInstance(self.service.refusal, AuthenticationError)

    def test_a_virtual_host_that_is_not_there_is_final(self) -> None:
        """It isn't the password's fault."""
        error = self.refused("connection.open", 530, "NOT_ALLOWED - vhost v not found")
        self.assertIs(type(error), NotFoundError)

    def test_a_virtual_host_that_is_forbidden_is_final(self) -> None:
        """The password was right."""
        text = "NOT_ALLOWED - access to vhost 'v' refused for user 'me'"
        self.assertIs(type(self.refused("connection.open", 530, text)), AccessRefusedError)

    def test_a_mechanism_that_is_not_offered_is_final(self) -> None:
        """Nothing was sent to such a broker."""
        self.service.startService()
        peer = self.accept()
        peer.greet(mechanisms="EXTERNAL")
        peer.settle()
        self.assertIsInstance(self.service.refusal, AuthenticationError)
        self.assertEqual(peer.names(), [])

    def test_a_preparation_may_be_refused_for_good(self) -> None:
        """A queue with other arguments."""

        def fail(client: AMQClient) -> None:
            raise PreconditionFailedError("other arguments")

        self.prepare = fail
        peer = self.start()
        peer.settle()
        assert self.service.refusal is not None
        self.assertIsInstance(self.service.refusal, PreconditionFailedError)
        self.assert_is_over(self.service.refusal)

    def test_who_asks_later_is_told_at_once(self) -> None:
        """There is nothing to wait for."""
        error = self.refused("connection.start-ok", 403, "ACCESS_REFUSED")
        self.assertIs(self.failureResultOf(self.service.when_ready()).value, error)

    def test_it_may_be_started_again(self) -> None:
        """After a change."""
        self.refused("connection.start-ok", 403, "ACCESS_REFUSED")
        self.service.stopService()
        self.service.startService()
        self.assertIsNone(self.service.refusal)
        self.serve()
        self.assertIsNotNone(self.service.client)


class SeveralRefusalsTests(ConnectionTestCase):
    """A list of two, and a broker that refuses is not all of them."""

    def setUp(self) -> None:
        super().setUp()
        self.service = self.connection("amqp://127.0.0.1:1,amqp://127.0.0.1:2", random_number=lambda: 0.3)
        self.warnings: list[str] = []

    def refused(self, text: str = "ACCESS_REFUSED - Login was refused") -> None:
        """The attempt that is being made is refused for good."""
        peer = self.accept()
        peer.refuse("connection.start-ok", 403, text)
        with capturedLogs() as logs:
            peer.greet()
            peer.settle()
        self.warnings += [str(event["error"]) for event in logs if event["log_level"] == LogLevel.warn]

    def test_the_other_one_takes_us(self) -> None:
        """The refusal is told; it is no end."""
        waiting = self.service.when_ready()
        self.service.startService()
        self.refused()
        self.assertEqual(1, len(self.warnings))
        self.assertIn("127.0.0.1:1", self.warnings[0])
        self.wait()
        self.serve()
        self.successResultOf(waiting)
        self.assertIsNone(self.service.refusal)
        self.assertEqual(["prepare"], self.log)

    def test_it_is_over_when_each_has_refused(self) -> None:
        """One error has all of their words."""
        waiting = self.service.when_ready()
        self.service.startService()
        self.refused("no to one")
        self.wait()
        self.refused("no to two")
        error = self.failureResultOf(waiting, AuthenticationError).value
        for words in ("127.0.0.1:1", "no to one", "127.0.0.1:2", "no to two"):
            self.assertIn(words, str(error))
        self.assertEqual([("refused", AuthenticationError)], self.log)
        self.assertEqual(1, len(self.warnings), "the end is told by whoever ends")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_one_that_is_down_has_not_refused(self) -> None:
        """It may be the one that takes us; what is known is told once."""
        self.service.startService()
        for _ in range(4):
            self.refused()
            self.wait()
            with capturedLogs():
                self.refuse()
            self.wait()
        self.assertEqual(1, len(self.warnings))
        self.assertIsNone(self.service.refusal)
        self.refused()
        self.wait()
        self.serve()
        self.assertIsNotNone(self.service.client)

    def test_what_was_before_a_connection_is_forgotten(self) -> None:
        """An administrator may have been busy meanwhile."""
        self.service.startService()
        self.refused()
        self.wait()
        self.serve().lose()
        self.wait()
        self.refused()
        self.wait()
        self.assertIsNone(self.service.refusal)
        self.refused()
        self.assertIsInstance(self.service.refusal, AuthenticationError)


class WaitingRefusalsTests(SeveralRefusalsTests):
    """The same, of one that is told to wait."""

    def setUp(self) -> None:
        super().setUp()
        self.service = self.connection(
            "amqp://127.0.0.1:1,amqp://127.0.0.1:2", random_number=lambda: 0.3, on_refusal="wait"
        )

    def test_it_is_over_when_each_has_refused(self) -> None:
        """It is not: it goes on, more slowly, until one takes it."""
        waiting = self.service.when_ready()
        self.service.startService()
        for _ in range(3):
            self.refused("no to one")
            self.reactor.advance(3)
            self.refused("no to two")
            self.assertEqual([3.0], [call.getTime() - self.reactor.seconds() for call in self.delayed])
            self.reactor.advance(3)
        self.assertEqual(2, len(self.warnings), "each is told once")
        for words in ("no to one", "no to two"):
            self.assertIn(words, str(self.service.last_failure))
        self.serve()
        self.successResultOf(waiting)
        self.assertEqual(["prepare"], self.log)

    def test_what_was_before_a_connection_is_forgotten(self) -> None:
        """So it is told again."""
        self.service.startService()
        self.refused()
        self.wait()
        self.serve().lose()
        self.wait()
        self.refused()
        self.assertEqual(2, len(self.warnings))

    @property
    def delayed(self) -> list[Any]:
        """What it waits for."""
        return self.reactor.getDelayedCalls()  # type: ignore[no-any-return]

    def test_another_word_is_a_mistake(self) -> None:
        """Named."""
        error = self.assertRaises(InvalidArgumentError, self.connection, on_refusal="retry")
        self.assertIn("'end' or 'wait', not 'retry'", str(error))


class StopTests(ConnectionTestCase):
    """The end, whenever it comes."""

    def assert_stops(self, peer: Peer | None = None) -> None:
        """At once, once the broker has answered; waiters hear of it, nothing is left, nothing is tried."""
        waiting = self.service.when_ready() if self.service.client is None else None
        with capturedLogs() as logs:
            stopped = self.service.stopService()
            if peer is not None:
                peer.settle()
        self.successResultOf(stopped)
        self.assertEqual([event for event in logs if event["log_level"] == LogLevel.warn], [])
        self.assertFalse(self.service.running)
        if waiting is not None:
            self.failureResultOf(waiting, ConnectionLostError)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertIsNone(self.service.client)
        attempts = self.attempts
        self.wait()
        self.assertEqual(self.attempts, attempts)

    def test_before_it_was_started(self) -> None:
        """There is nothing to end."""
        self.successResultOf(self.service.stopService())

    def test_while_it_connects(self) -> None:
        """The attempt is given up."""
        self.service.startService()
        self.assert_stops()

    def test_while_it_logs_in(self) -> None:
        """The connection is dropped."""
        self.service.startService()
        peer = self.accept()
        peer.greet()
        self.assert_stops(peer)
        self.assertTrue(peer.lost)

    def test_while_it_is_prepared(self) -> None:
        """The connection is dropped."""
        self.prepare = lambda client: Deferred()
        peer = self.start()
        self.assert_stops(peer)
        self.assertTrue(peer.lost)

    def test_while_it_waits_for_the_next_attempt(self) -> None:
        """There is none."""
        self.service.startService()
        self.refuse()
        self.assert_stops()

    def test_when_it_is_ready(self) -> None:
        """The broker is told; it is no loss."""
        peer = self.start()
        peer.read()
        self.assert_stops(peer)
        self.assertEqual(peer.names(), ["connection.close"])
        self.assertEqual(self.log, ["prepare"])

    def test_a_broker_that_does_not_answer_is_not_waited_for(self) -> None:
        """Three seconds."""
        peer = self.start()
        stopped = self.service.stopService()
        self.reactor.advance(2.9)
        self.assertNoResult(stopped)
        self.reactor.advance(0.1)
        self.assertTrue(peer.link.aborted)
        peer.settle()
        self.successResultOf(stopped)

    def test_twice(self) -> None:
        """The second time is nothing."""
        peer = self.start()
        self.assert_stops(peer)
        self.successResultOf(self.service.stopService())

    def test_and_start_again(self) -> None:
        """As new."""
        self.assert_stops(self.start())
        self.start()
        self.assertIsNotNone(self.service.client)

    def test_from_where_it_got_ready(self) -> None:
        """By whoever waited for that."""
        stopped: list[Deferred[Any]] = []
        self.service.when_ready().addCallback(lambda _: stopped.append(self.service.stopService()))
        peer = self.start()
        peer.settle()
        self.successResultOf(stopped[0])
        self.assertTrue(peer.lost)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_from_where_it_got_lost(self) -> None:
        """By whoever does not want another."""
        self.service = self.connection()
        stopped: list[Deferred[Any]] = []
        self.service._on_lost = lambda reason: stopped.append(self.service.stopService())
        self.start().lose()
        self.successResultOf(stopped[0])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_from_where_it_was_refused(self) -> None:
        """By whoever gives up then."""
        stopped: list[Deferred[Any]] = []
        self.service._on_refused = lambda error: stopped.append(self.service.stopService())
        self.service.startService()
        peer = self.accept()
        peer.refuse("connection.start-ok", 403, "ACCESS_REFUSED")
        peer.greet()
        peer.settle()
        self.successResultOf(stopped[0])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
