"""What is sent nonsense, and what has to be true of it then."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.task import Clock
from twisted.python.failure import Failure

from crew_tx.amqp import frames, methods
from crew_tx.amqp.delegate import TwistedDelegate
from crew_tx.amqp.properties import encode_properties
from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.spec import load
from crew_tx.broker import Broker, BrokerFactory
from crew_tx.testing.memory import MemoryReactor
from tests.amqp.peer import Peer
from tests.contract.plain import MemoryLine, PlainClient

#: The codes by which a client is refused for what it sent; 541 would be the broker's own mistake.
REFUSALS = frozenset({403, 404, 405, 406, 501, 502, 503, 504, 505, 530, 540})

_PORT = 1
_OWN = "well-behaved"
#: Processor seconds that a read may cost: some, and more with its size.
_COST = 0.5
_COST_OF_A_BYTE = 2e-5
#: Seconds after which everything that was refused has to be gone.
_LINGER = 60.0


class BrokerTarget:
    """
    The embedded broker, with a client that behaves itself.

    :ivar closed: how often each reply code closed a connection.
    """

    def __init__(self) -> None:
        self.reactor = MemoryReactor()
        self.closed: dict[int, int] = {}
        self._renew()

    def _renew(self) -> None:
        self.broker = Broker()
        self.factory = BrokerFactory(self.reactor, self.broker)
        self.reactor.wires.clear()
        self.reactor.listenTCP(_PORT, self.factory)
        self._good = PlainClient(MemoryLine(self.reactor, _PORT))
        self._channel = self._good.channel()
        self._good.ask(self._channel.number, methods.QUEUE_DECLARE, 0, _OWN, *_EXCLUSIVE)

    def attack(self, chunks: list[bytes]) -> None:
        """
        Send some bytes on a connection of their own, and look at the broker.

        :raises AssertionError: if anything is not as it should be.
        """
        line = MemoryLine(self.reactor, _PORT)
        line.write(frames.PROTOCOL_HEADER)
        heard = Heard()
        heard.feed(line.read(0))
        for chunk in chunks:
            started = time.thread_time()
            line.write(chunk)
            answer = line.read(0)
            cost = time.thread_time() - started
            assert cost < _COST + len(chunk) * _COST_OF_A_BYTE, f"{len(chunk)} bytes took {cost:.1f} s"
            heard.feed(answer)
        self._check_refusal(heard)
        self._check_size(sum(map(len, chunks)))
        self._check_others()
        line.drop()
        self._check_nothing_is_left()

    def end(self) -> None:
        """Everybody leaves."""
        self._good.drop()
        self.reactor.advance(_LINGER)
        self.reactor.ports[_PORT].stopListening()

    def renew(self) -> None:
        """A broker that knows nothing of what was done to the last one."""
        self.end()
        self._renew()

    def _check_refusal(self, heard: Heard) -> None:
        code = heard.code
        if code is not None:
            assert code in REFUSALS, f"the broker ended the connection with {code}, {heard.text!r}"
            self.closed[code] = self.closed.get(code, 0) + 1

    def _check_size(self, size: int) -> None:
        """Everything that a client can make more of costs it a frame at the least, of eight bytes."""
        most = size // 8 + 20
        vhost = self.broker.vhosts["/"]
        connections = self.factory.status().connections
        counts = {
            "queues": len(vhost.queues),
            "exchanges": len(vhost.exchanges),
            "bindings": sum(len(exchange.bindings) for exchange in vhost.exchanges.values()),
            "channels": sum(connection.channels for connection in connections),
            "connections": len(connections),
        }
        for what, count in counts.items():
            assert count <= most, f"{size} bytes made {count} {what}"

    def _check_others(self) -> None:
        """The other client publishes, and gets its message back."""
        self._good.publish(self._channel, "", _OWN, {}, b"still here")
        got = self._good.ask(self._channel.number, methods.BASIC_GET, 0, _OWN, True)
        assert got.body == b"still here", got

    def _check_nothing_is_left(self) -> None:
        self.reactor.advance(_LINGER)
        vhost = self.broker.vhosts["/"]
        left = [queue for queue in vhost.queues.values() if queue.unacked or queue.consumers]
        assert not left, f"{left[0].name} has consumers, or messages that nobody holds any more"
        assert len(self.factory.connections) == 1
        for queue in vhost.queues.values():
            queue.purge()
        assert self.broker.bytes == 0, f"{self.broker.bytes} bytes are counted, and no message is left"
        for queue in list(vhost.queues):
            self._forget(queue)
        assert self.broker.bytes == 0, f"{self.broker.bytes} bytes of messages are left of none"
        for exchange in [name for name in vhost.exchanges if name and not name.startswith("amq.")]:
            self._good.ask(self._channel.number, methods.EXCHANGE_DELETE, 0, exchange, False, False)
        # What is bound to one of the standard exchanges stays.
        self._unbind_all()

    def _forget(self, queue: str) -> None:
        method_id = methods.QUEUE_PURGE if queue == _OWN else methods.QUEUE_DELETE
        arguments = (False,) if queue == _OWN else (False, False, False)
        self._good.ask(self._channel.number, method_id, 0, queue, *arguments)

    def _unbind_all(self) -> None:
        for exchange in self.broker.vhosts["/"].exchanges.values():
            for binding in exchange.bindings:
                exchange.unbind(binding)


#: passive, durable, exclusive, auto-delete, nowait, arguments
_EXCLUSIVE = (False, False, True, False, False, {})


class Heard:
    """
    What a broker answers; it has to be AMQP.

    :ivar code: that of its connection.close.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        self.text = ""
        self._parser = frames.FrameParser()

    def feed(self, data: bytes) -> None:
        """Take what it sent."""
        if data.startswith(b"AMQP"):
            return
        for kind, _, payload in self._parser.feed(data):
            if kind == frames.METHOD and payload[0] == methods.CONNECTION_CLOSE:
                assert self.code is None, "the broker ended the connection twice"
                self.code, self.text = payload[1][:2]


class ClientTarget:
    """
    A client that has asked for something of everything, and hears nonsense.

    :param logged_in: whether its handshake was good.
    """

    def __init__(self, logged_in: bool) -> None:
        self.clock = Clock()
        self.client = AMQClient(TwistedDelegate(), "/", load(), clock=self.clock)
        self.peer = Peer(self.client)
        self.fired: list[object] = []
        self._asked = 0
        self._wait_for(self.peer.log_in() if logged_in else self.client.authenticate("guest", "guest"))
        if logged_in:
            self._ask()

    def _ask(self) -> None:
        """Requests that the captured conversation answers; the first of them, that opens a channel, is."""
        self._wait_for(self.client.channel(1))
        channel = self.client.channels[1]
        self._wait_for(channel.channel_open())
        self._wait_for(channel.confirm_select())
        self._wait_for(channel.queue_declare(queue="crew-captured-dead"))
        self._wait_for(channel.consume("crew-captured-dead", lambda delivery: None))
        channel.publish("amq.direct", "nowhere", encode_properties({}), b"lost", True)

    def _wait_for(self, deferred: Any) -> None:
        self._asked += 1
        deferred.addBoth(self.fired.append)

    def attack(self, chunks: list[bytes]) -> None:
        """
        Let it read some bytes, and then lose its connection.

        :raises AssertionError: if anything is not as it should be.
        """
        for chunk in chunks:
            started = time.thread_time()
            self.peer.feed(chunk)
            cost = time.thread_time() - started
            assert cost < _COST + len(chunk) * _COST_OF_A_BYTE, f"{len(chunk)} bytes took {cost:.1f} s"
        if self.client.closed:
            assert self.client.reason is not None, "it ended, and does not say why"
        self.peer.lose()
        self.clock.advance(_LINGER)
        assert len(self.fired) == self._asked, f"{self._asked - len(self.fired)} requests were never answered"
        assert not self.clock.getDelayedCalls(), "a delayed call is left"


def first_error(failures: list[Failure]) -> str:
    """A traceback that was logged."""
    return failures[0].getTraceback() if failures else ""
