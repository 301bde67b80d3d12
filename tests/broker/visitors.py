"""Clients of the embedded broker, made of frames: each says what the test has it say, and no more."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport

from crew_tx.amqp import frames, methods
from crew_tx.amqp.properties import encode_properties
from crew_tx.amqp.spec import method_names
from crew_tx.broker import BrokerFactory

CAPABILITIES = {"connection.blocked": True, "authentication_failure_close": True}
_FRAME_MAX = 131_072
_BASIC = 60


class Transport(StringTransport):
    """
    A transport that is full when the test says so.

    :ivar aborted: whether the connection was cut.
    """

    def __init__(self, is_full: bool = False) -> None:
        super().__init__(IPv4Address("TCP", "127.0.0.1", 5672))
        self.aborted = False
        self.no_delay = False
        self._fills = is_full
        self._is_full = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def abortConnection(self) -> None:
        self.aborted = True

    def fill(self) -> None:
        """From the next write on it is full."""
        self._fills = True

    def drain(self, fills: bool = False) -> None:
        """All was sent; the next write fills it again, or not."""
        self._fills = fills
        self._is_full = False
        self.producer.resumeProducing()

    def write(self, data: bytes) -> None:
        super().write(data)
        if self._fills and not self._is_full and self.producer is not None:
            self._is_full = True
            self.producer.pauseProducing()

    @property
    def is_read(self) -> bool:
        """Whether the broker reads."""
        return bool(self.producerState == "producing")


class Visitor:
    """A connection, from the client's side."""

    def __init__(self, factory: BrokerFactory, port: int = 50_000) -> None:
        protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", port))
        assert protocol is not None
        self.protocol = protocol
        self.transport = Transport()
        self._parser = frames.FrameParser()
        protocol.makeConnection(self.transport)

    # -- what it sends -----------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Bytes, however wrong."""
        self.protocol.dataReceived(data)

    def send(self, channel: int, method_id: int, *arguments: object) -> None:
        """A method."""
        self.feed(frames.pack_method(channel, method_id, arguments))

    def log_in(
        self, *, heartbeat: int = 0, vhost: str = "/", capabilities: dict[str, bool] = CAPABILITIES
    ) -> Visitor:
        """The handshake, and a channel; it forgets what the broker said to it."""
        self.start("guest", "guest", capabilities)
        self.send(0, methods.CONNECTION_TUNE_OK, 2047, _FRAME_MAX, heartbeat)
        self.send(0, methods.CONNECTION_OPEN, vhost, "", False)
        self.send(1, methods.CHANNEL_OPEN, "")
        self.names()
        return self

    def start(self, user: str, password: str, capabilities: dict[str, bool] = CAPABILITIES) -> None:
        """The handshake's first half."""
        self.feed(frames.PROTOCOL_HEADER)
        response = f"\0{user}\0{password}"
        self.send(0, methods.CONNECTION_START_OK, {"capabilities": capabilities}, "PLAIN", response, "en_US")

    def declare(self, queue: str, channel: int = 1, **arguments: object) -> None:
        """A queue that everybody may use."""
        table = {name.replace("_", "-"): value for name, value in arguments.items()}
        self.send(channel, methods.QUEUE_DECLARE, 0, queue, False, False, False, False, False, table)

    def consume(self, queue: str, channel: int = 1, *, no_ack: bool = True) -> None:
        """Everything that is in a queue; the tag is the queue's name."""
        self.send(channel, methods.BASIC_CONSUME, 0, queue, queue, False, no_ack, False, False, {})

    def publish(self, queue: str, body: bytes, channel: int = 1, **properties: object) -> None:
        """A message straight into a queue."""
        method = frames.pack_method(channel, methods.BASIC_PUBLISH, (0, "", queue, False, False))
        content = frames.pack_content(channel, _BASIC, encode_properties(properties), body, _FRAME_MAX)
        self.feed(b"".join((method, *content)))

    def ack(self, delivery_tag: int, multiple: bool = False) -> None:
        self.send(1, methods.BASIC_ACK, delivery_tag, multiple)

    def leave(self) -> None:
        """The connection is lost."""
        self.protocol.connectionLost()

    # -- what it was sent ------------------------------------------------------------------

    def frames(self) -> list[tuple[int, int, Any]]:
        """What the broker sent since the last time."""
        data = self.transport.value()
        self.transport.clear()
        return list(self._parser.feed(data))

    def methods(self) -> list[tuple[str, tuple[Any, ...]]]:
        """The methods of that, by name and with their arguments; a heartbeat counts as one."""
        return [
            ("heartbeat", ()) if kind == frames.HEARTBEAT else (method_names()[payload[0]], payload[1])
            for kind, _, payload in self.frames()
            if kind in (frames.HEARTBEAT, frames.METHOD)
        ]

    def names(self) -> list[str]:
        """The names of those."""
        return [name for name, _ in self.methods()]

    def bodies(self) -> list[bytes]:
        """The bodies of the messages that were sent since the last time, each in one frame."""
        return [payload for kind, _, payload in self.frames() if kind == frames.BODY]
