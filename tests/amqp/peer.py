"""
The server side of a connection, in memory: real bytes each way.

A :class:`Peer` reads what its client wrote, and answers, only when the test
says so. Its answers are by the specification: the first response that a method
has, with a name or a tag repeated. A test may put others in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ITransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from txamqp.spec import pythonize
from zope.interface import implementer

from crew_tx.amqp import frames, methods
from crew_tx.amqp.content import ContentAssembler
from crew_tx.amqp.delegate import TwistedDelegate
from crew_tx.amqp.properties import encode_properties
from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.spec import load
from crew_tx.amqp.spec import methods as spec_methods
from crew_tx.message import Properties

#: A method's number by its name.
NUMBERS = {f"{method.klass.name}.{method.name}": number for number, method in spec_methods().items()}

_ZEROS = {"bit": False, "shortstr": "", "longstr": "", "table": {}}
_REPEATED = ("queue", "consumer_tag")


class Sent(NamedTuple):
    """A method that the client sent, and its content if it has one."""

    channel: int
    name: str
    fields: dict[str, Any]
    properties: Properties | None = None
    body: bytes | None = None


@implementer(ITransport)
class Link:
    """
    A client's transport, as strict as a TLS connection.

    After ``loseConnection`` it takes nothing more, and it doesn't end while a
    producer is registered.

    :ivar writes: what each write had.
    :ivar dropped: what was written after the end.
    """

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.dropped: list[bytes] = []
        self.disconnecting = False
        self.aborted = False
        self.producer: Any = None
        self.no_delay = False

    @property
    def ended(self) -> bool:
        """Whether the client has ended the connection on its side."""
        return self.aborted or (self.disconnecting and self.producer is None)

    def take(self) -> bytes:
        """What was written since the last time."""
        data, self.writes = b"".join(self.writes), []
        return data

    def write(self, data: bytes) -> None:
        (self.dropped if self.ended else self.writes).append(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        self.aborted = self.disconnecting = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def registerProducer(self, producer: object, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.1", 5672)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.2", 50_000)


class Peer:
    """
    A broker for one client.

    :ivar answers: what to do with a method of the client, by its name.
    :ivar tune: the limits that it proposes.
    :ivar unread: what :meth:`settle` has answered and no test has looked at.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.link = Link()
        self.answers: dict[str, Callable[[Sent], object]] = {
            "connection.start-ok": lambda sent: self.send(0, "connection.tune", **self.tune),
            "connection.tune-ok": lambda sent: None,
        }
        self.tune = {"channel_max": 2047, "frame_max": 131_072, "heartbeat": 0}
        self.unread: list[Sent] = []
        self.lost = False
        self._greeting = len(frames.PROTOCOL_HEADER)
        self._parser = frames.FrameParser()
        self._contents: dict[int, ContentAssembler] = {}
        client.makeConnection(self.link)

    # -- what the client wrote ---------------------------------------------------

    def read(self) -> list[Sent]:
        """What the client sent since the last time, without answering it."""
        sent, self.unread = [*self.unread, *self._parsed()], []
        return sent

    def names(self) -> list[str]:
        """The names of what the client sent since the last time."""
        return [sent.name for sent in self.read()]

    def one(self, name: str) -> Sent:
        """The one method of that name among what the client sent since the last time."""
        [sent] = [sent for sent in self.read() if sent.name == name]
        return sent

    def _parsed(self) -> list[Sent]:
        data = self.link.take()
        skipped, self._greeting = data[: self._greeting], max(0, self._greeting - len(data))
        found = (self._frame(*frame) for frame in self._parser.feed(data[len(skipped) :]))
        return [sent for sent in found if sent is not None]

    def _frame(self, kind: int, channel: int, payload: Any) -> Sent | None:
        content = self._contents.setdefault(channel, ContentAssembler())
        if kind == frames.HEARTBEAT:
            return Sent(channel, "heartbeat", {})
        if kind == frames.METHOD:
            assert content.idle, "a method came where content was due"
            if payload[0] != methods.BASIC_PUBLISH:
                return _sent(channel, *payload)
            content.method(*payload)
            return None
        complete = content.header(*payload[1:]) if kind == frames.HEADER else content.body(payload)
        return None if complete is None else _sent(channel, *complete)

    # -- what it answers -----------------------------------------------------------

    def settle(self) -> None:
        """Answer until the client has no more to say; end the connection if it wants that."""
        while sent := self._parsed():
            self.unread += sent
            for each in sent:
                self.answers.get(each.name, self._respond)(each)
        if self.link.ended and not self.lost:
            self.lose(ConnectionAborted() if self.link.aborted else ConnectionDone())

    def refuse(self, name: str, code: int, text: str) -> None:
        """Answer a method by closing its channel; the connection, if it is on channel 0."""

        def close(sent: Sent) -> None:
            kind = "channel.close" if sent.channel else "connection.close"
            self.send(sent.channel, kind, reply_code=code, reply_text=text)

        self.answers[name] = close

    def lose_at(self, name: str) -> None:
        """End the connection where a method wants an answer."""
        self.answers[name] = lambda sent: self.lose()

    def _respond(self, sent: Sent) -> None:
        method = spec_methods().get(NUMBERS.get(sent.name, 0))
        if method is None or not method.responses or sent.fields.get("nowait"):
            return
        response = method.responses[0]
        repeated = {name: sent.fields[name] for name in _REPEATED if name in sent.fields}
        if repeated.get("consumer_tag") == "":
            repeated["consumer_tag"] = f"tag.{sent.channel}.{sent.fields['queue']}"
        known = {name: value for name, value in repeated.items() if name in response.fields.bypyname}
        self.send(sent.channel, f"{response.klass.name}.{response.name}", **known)

    # -- what it sends ---------------------------------------------------------------

    def send(self, channel: int, name: str, **fields: Any) -> None:
        """Send a method; fields that aren't given are zero."""
        self.feed(packed(channel, name, **fields))

    def send_content(
        self, channel: int, name: str, body: bytes = b"", properties: Properties | None = None, **fields: Any
    ) -> None:
        """Send a method with its content."""
        self.feed(packed_content(channel, name, body, properties, **fields))

    def feed(self, data: bytes) -> None:
        """Let the client read these bytes, if it still can."""
        if not self.lost:
            self.client.dataReceived(data)

    def lose(self, reason: Exception | None = None) -> None:
        """End the connection."""
        if not self.lost:
            self.lost = True
            self.client.connectionLost(Failure(reason or ConnectionLost()))

    # -- the handshake -----------------------------------------------------------------

    def greet(self, **fields: Any) -> None:
        """Send connection.start, as RabbitMQ has it."""
        known = {"version_minor": 9, "mechanisms": "PLAIN AMQPLAIN", "locales": "en_US"}
        self.send(0, "connection.start", **{**known, **fields})

    def log_in(self) -> Deferred[Any]:
        """Go through the handshake; fires with what ``authenticate`` gives."""
        logged_in: Deferred[Any] = self.client.authenticate("guest", "guest")
        self.greet()
        self.settle()
        self.unread = []
        return logged_in


def packed(channel: int, name: str, **fields: Any) -> bytes:
    """A method's frame; fields that aren't given are zero."""
    method = spec_methods()[NUMBERS[name]]
    arguments = []
    for field in method.fields:
        arguments.append(fields.pop(pythonize(field.name), _ZEROS.get(field.type, 0)))
    assert not fields, f"{name} has no {', '.join(fields)}"
    return frames.pack_method(channel, NUMBERS[name], tuple(arguments))


def packed_content(
    channel: int,
    name: str,
    body: bytes = b"",
    properties: Properties | None = None,
    frame_max: int = 0,
    **fields: Any,
) -> bytes:
    """The frames of a method with content."""
    content = frames.pack_content(channel, 60, encode_properties(properties or {}), body, frame_max)
    return b"".join((packed(channel, name, **fields), *content))


def _sent(
    channel: int,
    method_id: int,
    arguments: tuple[Any, ...],
    properties: Properties | None = None,
    body: bytes | None = None,
) -> Sent:
    method = spec_methods()[method_id]
    names = [pythonize(field.name) for field in method.fields]
    fields = dict(zip(names, arguments, strict=True))
    return Sent(channel, f"{method.klass.name}.{method.name}", fields, properties, body)


class PeerTestCase(SynchronousTestCase):
    """Tests with peers; each must leave no delayed call once its connections are lost."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.peers: list[Peer] = []
        self.addCleanup(self._check_nothing_is_left)

    def _check_nothing_is_left(self) -> None:
        for peer in self.peers:
            peer.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [], "a delayed call is left")

    def new_client(self, heartbeat: int = 0) -> AMQClient:
        """A client that isn't connected."""
        return AMQClient(TwistedDelegate(), "/", load(), heartbeat=heartbeat, clock=self.clock)

    def connect(self, client: Any = None, **tune: int) -> Peer:
        """A peer whose client is connected, not logged in."""
        peer = Peer(self.new_client() if client is None else client)
        peer.tune |= tune
        self.peers.append(peer)
        return peer

    def log_in(self, client: Any = None, **tune: int) -> Peer:
        """A peer whose client is logged in."""
        peer = self.connect(client, **tune)
        self.successResultOf(peer.log_in())
        return peer

    def open_channel(self, peer: Peer, number: int = 1) -> Any:
        """A channel that is open."""
        channel = self.successResultOf(peer.client.channel(number))
        opened = channel.channel_open()
        peer.settle()
        self.successResultOf(opened)
        peer.unread = []
        return channel

    def answered(self, peer: Peer, deferred: Deferred[Any]) -> Any:
        """A Deferred's result, once the peer has answered all."""
        peer.settle()
        return self.successResultOf(deferred)

    def refused(self, peer: Peer, deferred: Deferred[Any], *kinds: type[Exception]) -> Any:
        """A Deferred's error, once the peer has answered all."""
        peer.settle()
        return self.failureResultOf(deferred, *kinds).value
