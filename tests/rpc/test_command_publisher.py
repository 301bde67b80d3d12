"""The channel by which commands are sent."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.publisher import Publication
from crew_tx.errors import (
    AccessRefusedError,
    AMQPError,
    BrokerBlockedError,
    ClientStoppedError,
    CrewError,
    PublishTimeoutError,
)
from crew_tx.rpc.command_publisher import CommandPublisher
from tests.rpc.fakes import Channel


class Command(Publication):
    """Notes its fate."""

    def __init__(self, key: str) -> None:
        super().__init__("crew.control", key, b"", b"", key)
        self.fate: Any = None

    def confirmed(self) -> None:
        self.fate = "confirmed"

    def failed(self, error: CrewError) -> None:
        self.fate = error

    def refused(self, error: CrewError) -> None:
        self.fate = error

    def lost(self) -> None:
        self.fate = "lost"


class Client:
    """A connection with channels that only note."""

    def __init__(self) -> None:
        self.closed = False
        self.writable = True
        self.blocked: str | None = None
        self.flow: list[str] = []
        self.on_flow: Any = lambda: self.flow.append("changed")
        self.channels: list[Channel] = []
        self.opening: list[Deferred[Any]] = []

    def open_channel(self) -> Deferred[Any]:
        self.opening.append(Deferred())
        return self.opening[-1]

    def opened(self) -> Channel:
        """The channel that is being opened is, and confirms."""
        channel = Channel()
        channel.client = self  # type: ignore[assignment]
        self.channels.append(channel)
        self.opening.pop(0).callback(channel)
        channel.answer()
        return channel


class CommandPublisherTests(SynchronousTestCase):
    """On a connection in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.client = Client()
        self.publisher = CommandPublisher(self.clock)
        self.addCleanup(self.end)

    def end(self) -> None:
        self.publisher.stop(ClientStoppedError("the test ends"))
        self.assertEqual(self.clock.getDelayedCalls(), [], "a delayed call is left")

    def connect(self) -> Client:
        self.client = Client()
        self.publisher.connected(self.client)  # type: ignore[arg-type]
        return self.client

    def send(self, *keys: str) -> list[Command]:
        commands = [Command(key) for key in keys]
        for command in commands:
            self.publisher.publish(command)
        return commands

    def keys(self, channel: Channel) -> list[str]:
        """What was published there."""
        return [event[2] for event in channel.take()]

    def test_the_first_command_opens_a_channel_that_may_be_closed(self) -> None:
        """Nothing does before; the next go by the same."""
        self.connect()
        self.assertEqual(self.client.opening, [])
        [first, second] = self.send("a", "b")
        [_] = self.client.opening
        channel = self.client.opened()
        self.assertTrue(channel.is_expendable)  # type: ignore[attr-defined]
        self.assertEqual(self.keys(channel), ["a"])
        channel.confirm()
        self.assertEqual((first.fate, second.fate, self.keys(channel)), ("confirmed", None, ["b"]))
        channel.confirm()
        self.send("c")
        self.assertEqual((self.keys(channel), self.client.opening), (["c"], []))

    def test_one_that_is_refused_costs_the_others_nothing(self) -> None:
        """They go by another channel."""
        self.connect()
        refused, waiting = self.send("mgt", "look")
        self.client.opened().close_for(403, "no")
        self.assertIsInstance(refused.fate, AccessRefusedError)
        channel = self.client.opened()
        self.assertEqual((waiting.fate, self.keys(channel)), (None, ["look"]))
        channel.confirm()
        channel.close_for(403, "no")
        self.assertEqual((waiting.fate, self.client.opening), ("confirmed", []))
        self.send("c")
        self.assertEqual(self.keys(self.client.opened()), ["c"])

    def test_what_waits_for_a_connection_goes_by_it(self) -> None:
        """Also when one ends while its channel is being opened."""
        [command] = self.send("a")
        before = self.connect()
        before.closed = True
        before.opening.pop().errback(AMQPError("closed"))
        self.assertIsNone(command.fate)
        self.assertEqual(self.keys(self.connect().opened()), ["a"])

    def test_a_channel_of_a_connection_that_is_gone_is_not_used(self) -> None:
        """It was opened too late."""
        before = self.connect()
        self.send("a")
        after = self.connect()
        self.assertEqual(self.keys(before.opened()), [])
        self.assertEqual(self.keys(after.opened()), ["a"])

    def test_a_connection_that_is_lost(self) -> None:
        """What is out is lost with it, and what waits goes by the next."""
        self.connect()
        out, waiting = self.send("a", "b")
        channel = self.client.opened()
        self.client.closed = True
        channel.close()
        self.assertEqual((out.fate, waiting.fate, self.client.opening), ("lost", None, []))
        self.assertEqual(self.keys(self.connect().opened()), ["b"])

    def test_no_channel_can_be_opened(self) -> None:
        """The commands are told why, and the next tries again."""
        self.connect()
        [command] = self.send("a")
        self.client.opening.pop().errback(AMQPError("all are in use"))
        self.assertIn("all are in use", str(command.fate))
        self.send("b")
        self.assertEqual(self.keys(self.client.opened()), ["b"])

    def test_it_hears_of_alarms_beside_the_other_publisher(self) -> None:
        """Also by the second channel of a connection."""
        self.connect()
        self.send("a")
        self.client.opened().close_for(403, "no")
        heard = self.client.on_flow
        self.send("b")
        channel = self.client.opened()
        self.assertIs(heard, self.client.on_flow)
        channel.confirm()
        self.client.blocked = "memory"
        self.client.on_flow()
        self.send("c")
        self.assertEqual(self.keys(channel), ["b"])
        self.client.blocked = None
        self.client.on_flow()
        self.assertEqual(self.keys(channel), ["c"])
        self.assertEqual(self.client.flow, ["changed"] * 2)

    def test_the_other_publisher_hears_that_the_socket_is_full(self) -> None:
        """Also where that is by the first command."""
        self.connect()
        self.send("a")
        channel = Channel()
        channel.client = self.client  # type: ignore[assignment]
        self.patch(channel, "publish", lambda *_: self.client.on_flow())
        self.client.opening.pop().callback(channel)
        channel.answer()
        self.assertEqual(self.client.flow, ["changed"])

    def test_a_channel_that_is_not_opened_in_time(self) -> None:
        """The connection is there all the same, and perhaps blocked: the commands are told that."""
        self.connect()
        for blocked, kind in ((None, PublishTimeoutError), ("memory", BrokerBlockedError)):
            self.client.blocked = blocked
            [command] = self.send("a")
            self.clock.pump([0.5] * 62)
            self.assertIsInstance(command.fate, kind)
            self.assertFalse(command.fate.maybe_sent)
        [command] = self.send("b")
        self.assertEqual(self.keys(self.client.opened()), [])
        self.client.blocked = None
        self.client.on_flow()
        self.assertEqual(self.keys(self.client.channels[-1]), ["b"])

    def test_stopping(self) -> None:
        """What waits fails; a channel that is opened later is left alone."""
        self.connect()
        [command] = self.send("a")
        self.publisher.stop(ClientStoppedError("stopped"))
        self.assertIsInstance(command.fate, ClientStoppedError)
        self.assertEqual(self.keys(self.client.opened()), [])
