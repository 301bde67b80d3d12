"""Clients and workers on a reactor in memory, whose broker is a peer that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as TCPRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.codec import Codec
from crew_tx.message import Properties
from tests.amqp.peer import Peer, Sent

URL = "amqp://guest:guest@127.0.0.1:5672/%2F"
CODEC = Codec()


class SteppedPool:
    """
    A reactor's thread pool, whose functions run when the test says so.

    :ivar waiting: what was given to it and not run.
    """

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def callInThreadWithCallback(self, on_result: Any, function: Any, *args: Any, **kwargs: Any) -> None:
        """Hold a function, and what is to be told of its outcome."""

        def run() -> None:
            try:
                result = function(*args, **kwargs)
            except BaseException:
                on_result(False, Failure())
            else:
                on_result(True, result)

        self.waiting.append(run)

    def step(self) -> None:
        """Run the oldest function."""
        self.waiting.pop(0)()


class Reactor(MemoryReactorClock):  # type: ignore[misc]
    """A reactor in memory with a thread pool."""

    def __init__(self) -> None:
        super().__init__()
        self.threads = SteppedPool()

    def getThreadPool(self) -> SteppedPool:
        return self.threads

    def callFromThread(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        function(*args, **kwargs)


class RoleTestCase(SynchronousTestCase):
    """
    Tests of a role and its broker.

    :ivar peers: all that were accepted; the last is the one in use.
    :ivar tags: the latest consumer of each queue.
    """

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.peers: list[Peer] = []
        self.tags: dict[str, str] = {}
        self._consumers = 0
        self.addCleanup(self._check_nothing_is_left)

    def _check_nothing_is_left(self) -> None:
        self.assertEqual(self.reactor.getDelayedCalls(), [], "a delayed call is left")

    def ended(self, stop: Callable[[], Deferred[Any]]) -> Any:
        """What a role's end gives, with a broker that plays along."""
        stopped = stop()
        for _ in range(20):
            for peer in self.peers:
                peer.settle()
            self.reactor.advance(0.5)
        return self.successResultOf(stopped)

    @property
    def peer(self) -> Peer:
        """The broker in use."""
        return self.peers[-1]

    @property
    def attempts(self) -> list[tuple[str, int]]:
        """Where it is trying to connect to."""
        return [attempt[:2] for attempt in self.reactor.tcpClients]

    def accept(self, change: Callable[[Peer], object] = lambda peer: None) -> Peer:
        """
        Accept the connection that is being made, and answer all that is asked.

        :param change: changes the peer's answers before that.
        """
        _, _, factory, _, _ = self.reactor.tcpClients.pop(0)
        peer = Peer(factory.buildProtocol(None))
        self.peers.append(peer)
        peer.answers["basic.consume"] = self._consume
        change(peer)
        peer.greet()
        peer.settle()
        return peer

    def _consume(self, sent: Sent) -> None:
        """Each consumer has a tag of its own, as with a broker."""
        self._consumers += 1
        tag = self.tags[sent.fields["queue"]] = f"consumer {self._consumers}"
        self.peer.send(sent.channel, "basic.consume-ok", consumer_tag=tag)

    def refuse(self) -> None:
        """Nobody listens where it tries to connect to."""
        _, _, factory, _, _ = self.reactor.tcpClients.pop(0)
        factory.clientConnectionFailed(None, Failure(TCPRefusedError()))
        # So long the endpoint waits before it would try another address of the host.
        self.reactor.advance(0.3)

    def advance(self, seconds: float, step: float = 0.5) -> None:
        """Let time go by, in steps."""
        for _ in range(round(seconds / step)):
            self.reactor.advance(step)

    def reconnect(self, change: Callable[[Peer], object] = lambda peer: None) -> Peer:
        """The connection is lost, and after the longest wait there is another."""
        self.peer.lose()
        self.advance(5)
        return self.accept(change)

    # -- messages, seen from the broker -------------------------------------------------

    def published(self) -> list[Sent]:
        """What was published since the last time; other methods are left out."""
        return [sent for sent in self.peer.read() if sent.name == "basic.publish"]

    def channel_of(self, name: str) -> int:
        """The channel that a method came by, of those that were not read yet."""
        [channel] = {sent.channel for sent in self.peer.unread if sent.name == name}
        return channel

    def deliver(
        self,
        queue: str,
        properties: Properties,
        body: bytes,
        tag: int,
        channel: int,
        redelivered: bool = False,
        exchange: str = "",
    ) -> None:
        """Deliver a message to the consumer of a queue."""
        self.peer.send_content(
            channel,
            "basic.deliver",
            body,
            properties,
            consumer_tag=self.tags[queue],
            delivery_tag=tag,
            redelivered=redelivered,
            exchange=exchange,
        )

    def cancel(self, queue: str, channel: int) -> None:
        """End the consumer of a queue, since that is gone."""
        self.peer.send(channel, "basic.cancel", consumer_tag=self.tags[queue], nowait=True)

    def confirm(self, channel: int, number: int, multiple: bool = False) -> None:
        """Confirm what was published."""
        self.peer.send(channel, "basic.ack", delivery_tag=number, multiple=multiple)

    def nack(self, channel: int, number: int) -> None:
        """Refuse what was published."""
        self.peer.send(channel, "basic.nack", delivery_tag=number)

    def give_back(self, channel: int, sent: Sent) -> None:
        """Return what was published, since no queue would take it."""
        self.peer.send_content(
            channel,
            "basic.return",
            sent.body or b"",
            sent.properties,
            reply_code=312,
            reply_text="NO_ROUTE",
            exchange=sent.fields["exchange"],
            routing_key=sent.fields["routing_key"],
        )

    def block(self, reason: str = "low on memory") -> None:
        """An alarm blocks the connection."""
        self.peer.send(0, "connection.blocked", reason=reason)

    def unblock(self) -> None:
        """The alarm is over."""
        self.peer.send(0, "connection.unblocked")
