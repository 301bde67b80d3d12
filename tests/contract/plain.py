"""
A client that waits for each answer, for tests that go through two brokers step by step.

It speaks by crew_tx's frame codec, and has no reactor of its own: a line is a
socket to a real broker, or a wire in memory to the embedded one.
"""

from __future__ import annotations

import re
import socket
import time
from collections import deque
from functools import cache
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from twisted.internet.protocol import ClientFactory
from twisted.internet.protocol import Protocol as TwistedProtocol

from crew_tx.amqp import frames, methods
from crew_tx.amqp.content import ContentAssembler
from crew_tx.amqp.properties import encode_properties
from crew_tx.amqp.spec import method_names
from crew_tx.testing.memory import LOOPBACK, MemoryReactor

#: Seconds for one answer.
_PATIENCE = 10.0
_READ = 262_144
_BASIC = 60
_INTERNAL_ERROR = 541
_NUMBER = re.compile(r"\d+")
_CAPABILITIES = {
    "capabilities": {
        "authentication_failure_close": True,
        "basic.nack": True,
        "consumer_cancel_notify": True,
        "publisher_confirms": True,
    }
}

#: Such as ``(3, 10, 8)``.
Version = tuple[int, ...]


class ILine(Protocol):
    """Bytes to and from a broker."""

    def write(self, data: bytes) -> None:
        """Send."""

    def read(self, seconds: float) -> bytes:
        """What has come; waits so long for it if there is nothing."""

    def drop(self) -> None:
        """End it, without a word."""


class SocketLine:
    """
    To a real broker.

    :param url: the broker's.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=_PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read(self, seconds: float) -> bytes:
        self._socket.settimeout(seconds)
        try:
            data = self._socket.recv(_READ)
        except (BlockingIOError, TimeoutError):
            return b""
        finally:
            self._socket.settimeout(_PATIENCE)
        if not data:
            raise AssertionError("the broker ended the connection without a word")
        return data

    def drop(self) -> None:
        self._socket.close()


class MemoryLine:
    """To the embedded broker, that listens on a memory reactor's port."""

    def __init__(self, reactor: MemoryReactor, port: int) -> None:
        self._reactor = reactor
        self._end = _End()
        factory = ClientFactory.forProtocol(lambda: self._end)
        reactor.connectTCP(LOOPBACK, port, factory)
        reactor.flush()

    def write(self, data: bytes) -> None:
        assert self._end.transport is not None
        self._end.transport.write(data)

    def read(self, seconds: float) -> bytes:
        self._reactor.flush()
        data, self._end.received = self._end.received, b""
        return data

    def drop(self) -> None:
        assert self._end.transport is not None
        self._end.transport.abortConnection()
        self._reactor.flush()


class _End(TwistedProtocol):
    received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data


class RefusedError(Exception):
    """
    The broker closed the channel.

    :ivar code: its reply code.
    :ivar text: its words.
    """

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text
        super().__init__(f"{code} {text}")


class BrokerCrashedError(Exception):
    """The broker ended the connection for a mistake of its own, 541."""


class Content(NamedTuple):
    """A method that came with content: ``basic.deliver``, ``basic.return`` or ``basic.get-ok``."""

    method_id: int
    arguments: tuple[Any, ...]
    properties: dict[str, Any]
    body: bytes


class PlainChannel:
    """
    What a channel has heard.

    :ivar deliveries: in order, those that were not settled and those that were.
    :ivar outcomes: the confirms, by the message's number.
    :ivar cancelled: the tags of the consumers that the broker ended.
    :ivar refusal: why the broker closed it, if it did.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.deliveries: list[Content] = []
        self.returned: list[Content] = []
        self.outcomes: dict[int, bool] = {}
        self.cancelled: list[str] = []
        self.refusal: RefusedError | None = None
        self.published = 0
        self.answers: Any = deque()
        self._assembler = ContentAssembler()

    def method(self, method_id: int, arguments: tuple[Any, ...]) -> None:
        """Take a method."""
        if method_id in _WITH_CONTENT:
            self._assembler.method(method_id, arguments)
        elif method_id in (methods.BASIC_ACK, methods.BASIC_NACK):
            self._confirmed(arguments[0], arguments[1], method_id == methods.BASIC_ACK)
        elif method_id == methods.BASIC_CANCEL:
            self.cancelled.append(arguments[0])
        elif method_id == methods.CHANNEL_CLOSE:
            self.refusal = RefusedError(arguments[0], arguments[1])
        else:
            self.answers.append((method_id, arguments))

    def content(self, kind: int, payload: Any) -> None:
        """Take a header or a body."""
        whole = (
            self._assembler.header(*payload[1:]) if kind == frames.HEADER else self._assembler.body(payload)
        )
        if whole is not None:
            content = Content(*whole)
            kept = {methods.BASIC_DELIVER: self.deliveries, methods.BASIC_RETURN: self.returned}
            kept.get(content.method_id, self.answers).append(content)

    def _confirmed(self, number: int, multiple: bool, acked: bool) -> None:
        for each in range(1 if multiple else number, number + 1):
            self.outcomes.setdefault(each, acked)


_WITH_CONTENT = (methods.BASIC_DELIVER, methods.BASIC_RETURN, methods.BASIC_GET_OK)


class PlainClient:
    """
    One connection.

    :ivar version: the broker's; ``4.1.0-rc.1`` is ``(4, 1, 0)``.
    :raises AssertionError: from everything here, when an answer does not come, or the broker ends
        the connection.
    """

    def __init__(self, line: ILine) -> None:
        self._line = line
        self._parser = frames.FrameParser()
        self._channels = {0: PlainChannel(0)}
        self._log_in()

    def _log_in(self) -> None:
        self._line.write(frames.PROTOCOL_HEADER)
        _, _, properties, _, _ = self._answer(self._channels[0])
        self.version: Version = tuple(map(int, _NUMBER.findall(str(properties["version"]))[:3]))
        self.ask(0, methods.CONNECTION_START_OK, _CAPABILITIES, "PLAIN", "\0guest\0guest", "en_US")
        self.tell(0, methods.CONNECTION_TUNE_OK, 2047, frames.DEFAULT_MAX_FRAME_SIZE, 0)
        self.ask(0, methods.CONNECTION_OPEN, "/", "", False)

    def channel(self) -> PlainChannel:
        """A new channel."""
        number = max(self._channels) + 1
        channel = self._channels[number] = PlainChannel(number)
        self.ask(number, methods.CHANNEL_OPEN, "")
        return channel

    def tell(self, number: int, method_id: int, *arguments: Any) -> None:
        """Send a method that has no answer."""
        self._line.write(frames.pack_method(number, method_id, arguments))

    def ask(self, number: int, method_id: int, *arguments: Any) -> Any:
        """
        Send a method, and wait for its answer.

        :returns: the answer's arguments, or a :class:`Content`.
        :raises RefusedError: if the broker closes the channel.
        """
        self.tell(number, method_id, *arguments)
        return self._answer(self._channels[number])

    def ask_all(self, channel: PlainChannel, method_id: int, each: list[tuple[Any, ...]]) -> list[Any]:
        """The same of one method with several arguments, all in one write."""
        self._line.write(b"".join(frames.pack_method(channel.number, method_id, one) for one in each))
        return [self._answer(channel) for _ in each]

    def publish(
        self,
        channel: PlainChannel,
        exchange: str,
        routing_key: str,
        properties: dict[str, Any],
        body: bytes,
        mandatory: bool = False,
    ) -> None:
        """Publish, and don't wait."""
        method = frames.pack_method(
            channel.number, methods.BASIC_PUBLISH, (0, exchange, routing_key, mandatory, False)
        )
        encoded = encode_properties(properties)
        content = frames.pack_content(channel.number, _BASIC, encoded, body, frames.DEFAULT_MAX_FRAME_SIZE)
        channel.published += 1
        self._line.write(b"".join((method, *content)))

    def poll(self, seconds: float = 0) -> None:
        """Hear what has come."""
        if data := self._line.read(seconds):
            self._feed(data)

    def close(self) -> None:
        """End it as one should."""
        self.ask(0, methods.CONNECTION_CLOSE, 200, "", 0, 0)
        self._line.drop()

    def drop(self) -> None:
        """End it without a word."""
        self._line.drop()

    def _answer(self, channel: PlainChannel) -> Any:
        limit = time.monotonic() + _PATIENCE
        while not channel.answers:
            if channel.refusal is not None:
                raise channel.refusal
            if time.monotonic() > limit:
                raise AssertionError(f"no answer came on channel {channel.number}")
            self.poll(_PATIENCE)
        answer = channel.answers.popleft()
        return answer if isinstance(answer, Content) else answer[1]

    def _feed(self, data: bytes) -> None:
        for kind, number, payload in self._parser.feed(data):
            if kind == frames.METHOD:
                self._method(number, *payload)
            elif kind != frames.HEARTBEAT:
                self._channels[number].content(kind, payload)

    def _method(self, number: int, method_id: int, arguments: tuple[Any, ...]) -> None:
        if method_id == methods.CONNECTION_CLOSE:
            if arguments[0] == _INTERNAL_ERROR:
                raise BrokerCrashedError(arguments[1])
            raise AssertionError(f"the broker ended the connection: {arguments}")
        assert method_id in method_names()
        self._channels[number].method(method_id, arguments)
        if method_id == methods.CHANNEL_CLOSE:
            self.tell(number, methods.CHANNEL_CLOSE_OK)


@cache
def version_of(url: str) -> Version:
    """The version that a broker says it is of."""
    client = PlainClient(SocketLine(url))
    client.close()
    return client.version
