"""
txamqp's protocol, on our own frame codec.

Each read is parsed in one pass, each frame goes straight to its channel, and
what is written meanwhile leaves in one write at the end of the read. No
Deferred, queue or lock is made for a frame.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import txamqp.protocol
from twisted.internet import defer
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import Closed, TwistedEvent
from txamqp.connection import Frame, Header, Method
from txamqp.message import Message
from zope.interface import implementer

from crew_tx.amqp import frames, methods
from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.delivery import BoundedQueue, ConsumerQueue
from crew_tx.amqp.errors import not_connected
from crew_tx.amqp.frames import FrameParser
from crew_tx.amqp.heartbeat import Heartbeats
from crew_tx.errors import AMQPError, ConnectionLostError, ProtocolError

#: RabbitMQ's own default; 4.1 refuses less than 8192.
FRAME_MAX = 131_072
CHANNEL_MAX = 2047
_KEPT_RETURNS = 1000
#: Seconds that what is written has to leave in, once a connection is to end.
LINGER = 3.0
_CHANNEL_ERROR = 504

CLIENT_PROPERTIES: dict[str, Any] = {
    "product": "crew_tx",
    "platform": f"Python {platform.python_version()}",
    "capabilities": {
        "publisher_confirms": True,
        "consumer_cancel_notify": True,
        "exchange_exchange_bindings": True,
        "basic.nack": True,
        "connection.blocked": True,
        "authentication_failure_close": True,
    },
}


@implementer(IPushProducer)
class WritePressure:
    """Hears from the transport whether it takes more, and tells the client."""

    def __init__(self, changed: Callable[[bool], object]) -> None:
        self._changed = changed

    def pauseProducing(self) -> None:
        self._changed(False)

    def resumeProducing(self) -> None:
        self._changed(True)

    def stopProducing(self) -> None:
        """The transport is gone; ``connectionLost`` says so as well."""


class AMQClient(txamqp.protocol.AMQClient):
    """
    txamqp's client protocol.

    :ivar blocked: the broker's reason while an alarm blocks the connection.
    :ivar writable: whether the transport takes more without holding it.
    :ivar on_flow: called when ``blocked`` or ``writable`` changes.
    :ivar on_channel_failed: called with the channel that the broker closed, and the ``Failure``.
    :ivar server_properties: what the broker said of itself.
    :ivar client_properties: what it is told of us.
    :ivar logged_in: whether the broker took the user.
    :ivar is_silent: whether it was ended since the broker said nothing any more.
    :ivar reason: what ended the connection: a close message, a ``Failure`` or an error.
    """

    channelClass = AMQChannel
    # AMQP 0-9-1 says two; upstream waits for three.
    MAX_UNSEEN_HEARTBEAT = 2
    log = Logger()

    # Upstream's __init__ starts the loops that pass each frame through queues; none is used here.
    def __init__(
        self,
        delegate: Any,
        vhost: str,
        spec: Any,
        heartbeat: int = 0,
        clock: Any = None,
        insist: bool = False,
    ) -> None:
        txamqp.protocol.FrameReceiver.__init__(self, spec)
        # txamqp's own fallback, for programs that were written against it.
        clock = clock or ConsumerQueue().clock
        self.clock = clock
        self.delegate = delegate
        self.delegate.client = self
        self.vhost = vhost
        self.insist = insist
        self.spec = spec
        self.started = TwistedEvent()
        self.disconnected = TwistedEvent()
        self.closed = False
        self.logged_in = False
        self.is_silent = False
        self._linger: Any = None
        self._ended = False
        self.mechanism: str | None = None
        self.response: Any = None
        self.locale = "en_US"
        self.reason: object = None
        self._started_by_broker: Message | None = None
        self.blocked: str | None = None
        self.writable = True
        self.on_flow: Callable[[], object] | None = None
        self.on_channel_failed: Callable[[AMQChannel, Failure], object] | None = None
        self.server_properties: dict[str, Any] = {}
        self.client_properties = dict(CLIENT_PROPERTIES)
        self.frame_max = FRAME_MAX
        self.channel_max = CHANNEL_MAX
        self.basic_return_queue = BoundedQueue(_KEPT_RETURNS, clock)
        self.channels: dict[int, AMQChannel] = {}
        self._unclaimed: dict[str, ConsumerQueue] = {}
        self._parser = FrameParser(FRAME_MAX, join_content=True)
        self._corked: list[bytes] | None = None
        self._has_read: list[AMQChannel] = []
        self.channelFactory = _channel_class(self.channelClass, spec.klass)
        self.channels[0] = self.channelFactory(0, None, self)
        self.heartbeatInterval = heartbeat
        self._heartbeats = Heartbeats(
            clock, heartbeat, self.MAX_UNSEEN_HEARTBEAT, self._send_heartbeat, self._peer_dead
        )
        self.started.wait().addCallbacks(lambda _: self._heartbeats.start_sending(), lambda _: None)

    # -- channels and queues -------------------------------------------------------

    def channel(self, id: int) -> defer.Deferred[AMQChannel]:
        """A Deferred of the channel of that number: made if need be, not opened; dead with the connection."""
        channel = self.channels.get(id)
        if channel is None:
            channel = self.channelFactory(id, None, self)
            if self.closed:
                channel.close(self.reason)
            else:
                self.channels[id] = channel
        return defer.succeed(channel)

    async def open_channel(self) -> AMQChannel:
        """
        Open a channel with a number of its own.

        :raises AMQPError: if all are in use.
        :raises CallerError: before there is a connection.
        :raises txamqp.client.Closed: if the connection has ended, or ends.
        """
        if self.transport is None:
            raise not_connected()
        number = next((n for n in range(1, self.channel_max + 1) if n not in self.channels), None)
        if number is None:
            raise AMQPError(f"all {self.channel_max} channels of the connection are in use")
        channel: AMQChannel = await self.channel(number)
        try:
            await channel.channel_open()
        except defer.CancelledError:
            # The broker opens it all the same; its number is free once it has answered this, too.
            channel.channel_close(reply_code=200).addErrback(lambda _: None)
            raise
        return channel

    def queue(self, key: str) -> defer.Deferred[ConsumerQueue]:
        """
        A Deferred of the queue of one consumer's deliveries; ended if the connection is.

        Consumer tags belong to a channel: where two channels have one of the
        same tag, ask the channel, by ``consumer_queue``.
        """
        owners = [channel for channel in self.channels.values() if channel.has_queue(key)]
        if len(owners) > 1:
            return defer.fail(
                ValueError(f"{len(owners)} channels have a consumer {key!r}: use channel.consumer_queue")
            )
        if owners:
            return defer.succeed(owners[0].consumer_queue(key))
        queue = self._unclaimed.get(key)
        if queue is None:
            queue = self._unclaimed[key] = ConsumerQueue(clock=self.clock)
            if self.closed:
                queue.close()
        return defer.succeed(queue)

    def claim_queue(self, key: str) -> ConsumerQueue:
        """The queue that somebody asked for before the consumer's channel was known, or a new one."""
        return self._unclaimed.pop(key, None) or ConsumerQueue(clock=self.clock)

    def channel_ended(self, channel: AMQChannel) -> None:
        """A channel has ended; its number is free, but for the connection's own."""
        if channel.id and self.channels.get(channel.id) is channel:
            del self.channels[channel.id]

    def channel_failed(self, channel: AMQChannel, reason: Failure) -> None:
        """The broker closed a channel."""
        if self.on_channel_failed is not None:
            self.on_channel_failed(channel, reason)

    # -- reading ------------------------------------------------------------------

    def connectionMade(self) -> None:
        if hasattr(self.transport, "setTcpNoDelay"):
            self.transport.setTcpNoDelay(True)
        if hasattr(self.transport, "registerProducer"):
            self.transport.registerProducer(WritePressure(self._writable_changed), True)
        self.transport.write(frames.PROTOCOL_HEADER)
        self.frame_mode = True

    def dataReceived(self, data: bytes) -> None:
        if self.closed:
            return
        self.reschedule_check_heartbeat()
        with self.corked():
            try:
                for kind, channel, payload in self._parser.feed(data):
                    if self.closed:
                        return
                    self._received(kind, channel, payload)
                self._hand_over()
            except ProtocolError as error:
                self._broken(error)

    def _received(self, kind: int, number: int, payload: Any) -> None:
        if kind == frames.HEARTBEAT:
            return
        if number == 0:
            self._hand_over()
        channel = self.channels.get(number)
        if channel is None:
            raise ProtocolError(
                f"a frame came for channel {number}, which is not open", reply_code=_CHANNEL_ERROR
            )
        if kind == frames.CONTENT:
            channel.content_received(*payload)
        elif kind == frames.METHOD:
            channel.method_received(*payload)
        elif kind == frames.HEADER:
            channel.header_received(payload[1], payload[2])
        else:
            channel.body_received(payload)

    def has_read(self, channel: AMQChannel) -> None:
        """A channel has what it hands over at the end of this read."""
        self._has_read.append(channel)

    def _hand_over(self) -> None:
        channels, self._has_read = self._has_read, []
        for channel in channels:
            channel.hand_over()

    def frame_received(self, frame: Frame) -> None:
        """One of txamqp's own frame objects, as its test transport pumps them."""
        self.reschedule_check_heartbeat()
        try:
            self._frame_received(frame)
            self._hand_over()
        except ProtocolError as error:
            self._broken(error)

    def _frame_received(self, frame: Frame) -> None:
        payload = frame.payload
        if isinstance(payload, Method):
            method_id = payload.method.klass.id << 16 | payload.method.id
            self._received(frames.METHOD, frame.channel, (method_id, payload.args))
        elif isinstance(payload, Header):
            names = {name.replace("-", "_"): value for name, value in payload.properties.items()}
            self._received(frames.HEADER, frame.channel, (payload.klass.id, payload.size, names))
        elif frame.payload.type == Frame.BODY:
            self._received(frames.BODY, frame.channel, payload.content)

    def _broken(self, error: ProtocolError) -> None:
        """The broker broke the rules: tell it which, and end the connection."""
        self._hand_over()
        if self.closed:
            return
        self.log.error("closing the connection to the broker: {error}", error=str(error))
        code = error.reply_code or 541
        close = frames.pack_method(0, methods.CONNECTION_CLOSE, (code, str(error)[:200], 0, 0))
        self.write(close)
        self.fail(error)

    # -- writing ------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """
        Write whole frames; with all else of this read where one is being handled.

        :raises CallerError: before there is a connection.
        """
        self._heartbeats.wrote()
        if self._corked is not None:
            self._corked.append(data)
        elif self.transport is not None:
            self.transport.write(data)
        else:
            raise not_connected()

    def write_all(self, data: list[bytes]) -> None:
        """
        Write whole frames without joining them first: a large body is not copied.

        :raises CallerError: before there is a connection.
        """
        self._heartbeats.wrote()
        if self._corked is not None:
            self._corked += data
        elif self.transport is not None:
            for part in data:
                self.transport.write(part)
        else:
            raise not_connected()

    @contextmanager
    def corked(self) -> Iterator[None]:
        """Let everything that is written inside leave in one write at its end."""
        # Before there is a connection, each write says so itself.
        if self._corked is not None or self.transport is None:
            yield
            return
        self._corked = []
        try:
            yield
        finally:
            self._uncork()
            self._corked = None

    def _uncork(self) -> None:
        data = self._corked
        if data:
            self._corked = []
            self.transport.write(b"".join(data))

    def _writable_changed(self, writable: bool) -> None:
        self.writable = writable
        if self.on_flow is not None:
            self.on_flow()

    def block_changed(self, reason: str | None) -> None:
        """The broker blocked or unblocked the connection."""
        self.blocked = reason
        if self.on_flow is not None:
            self.on_flow()

    # -- heartbeats, under txamqp's names -------------------------------------------

    def propose_heartbeat(self, seconds: int) -> None:
        """Offer this interval when the broker proposes its own."""
        self.heartbeatInterval = seconds
        self._heartbeats.set_interval(seconds)

    def tuned(self, channel_max: int, frame_max: int, heartbeat: int) -> None:
        """Keep what both sides agreed upon."""
        self.logged_in = True
        self.channel_max = channel_max
        self.frame_max = self.MAX_LENGTH = frame_max
        self._parser.max_frame_size = frame_max
        self.heartbeatInterval = heartbeat
        self._heartbeats.set_interval(heartbeat)

    def reschedule_check_heartbeat(self) -> None:
        """Something was read: the broker is alive."""
        self._heartbeats.heard()

    def reschedule_send_heartbeat(self) -> None:
        """Something was written: the broker sees that we are."""
        self._heartbeats.wrote()

    def send_heartbeat(self) -> None:
        """Write a heartbeat frame."""
        self.write(frames.pack_heartbeat())

    def check_heartbeat(self) -> None:
        """The peer is silent for too long: there is no point in a clean end."""
        self.transport.abortConnection()

    def _send_heartbeat(self) -> None:
        self.send_heartbeat()

    def _peer_dead(self) -> None:
        silence = self.heartbeatInterval * self.MAX_UNSEEN_HEARTBEAT
        self.is_silent = True
        self.reason = ConnectionLostError(f"the broker was silent for {silence} s")
        self.check_heartbeat()

    # -- the handshake and the end ----------------------------------------------------

    def authenticate(
        self, username: str, password: str, mechanism: str = "AMQPLAIN", locale: str = "en_US"
    ) -> defer.Deferred[Any]:
        """
        Log in and open the virtual host.

        :param mechanism: ``PLAIN``, ``AMQPLAIN``, or ``EXTERNAL`` (the TLS
            certificate says who it is).
        :returns: a Deferred that errbacks with ``Closed`` if the broker refuses.
        :raises ValueError: in the Deferred, for another mechanism.
        """
        responses: dict[str, Any] = {
            "AMQPLAIN": {"LOGIN": username, "PASSWORD": password},
            "PLAIN": f"\0{username}\0{password}",
            "EXTERNAL": "",
        }
        if mechanism not in responses:
            return defer.fail(ValueError(f"Unknown mechanism: {mechanism}"))
        return self.start(responses[mechanism], mechanism, locale)

    def start(self, response: Any, mechanism: str = "AMQPLAIN", locale: str = "en_US") -> defer.Deferred[Any]:
        self.response = response
        self.mechanism = mechanism
        self.locale = locale
        if self._started_by_broker is not None:
            self.delegate.connection_start(self.channels[0], self._started_by_broker)
        return self.started.wait().addCallback(  # type: ignore[no-any-return]
            lambda _: self.channels[0].connection_open(self.vhost)
        )

    def hold_start(self, message: Message) -> None:
        """The broker began before it was known how to log in: answered by :meth:`start`."""
        self._started_by_broker = message

    def fail(self, reason: object) -> None:
        """End the connection for an error of our own finding."""
        self.do_close(reason.value if isinstance(reason, Failure) else reason)

    @defer.inlineCallbacks
    def close(self, reason: object = None, within: float = 0) -> Any:
        """
        End the connection.

        :param within: seconds to wait for the broker's close-ok; 0 does not
            tell the broker at all.
        :returns: a Deferred that fires when it has ended; it doesn't fail.
        """
        if self.closed:
            return
        if within > 0 and self.transport is not None:
            try:
                yield self.channels[0].connection_close(reply_code=200).addTimeout(within, self.clock)
            except Closed:
                pass
            except defer.TimeoutError:
                # A broker that doesn't answer may not read either, and then an orderly end never comes.
                self.do_close(reason or ConnectionDone())
                self.transport.abortConnection()
        self.do_close(reason or ConnectionDone())

    def do_close(self, reason: object) -> None:
        if self.closed:
            return
        # A silent broker is the reason, not how its connection was ended then.
        self.reason = reason = self.reason or reason
        self._heartbeats.stop()
        self.closed = True
        for channel in list(self.channels.values()):
            channel.close(reason)
        for queue in self._unclaimed.values():
            queue.close()
        self.basic_return_queue.close()
        self._uncork()
        if hasattr(self.transport, "unregisterProducer"):
            # With one registered, a transport that is told to end may not.
            self.transport.unregisterProducer()
        if self.transport is not None and not self._ended:
            # A peer that does not read what is left would hold the connection for ever.
            self._linger = self.clock.callLater(LINGER, self._abort)
        self.delegate.close(reason)

    def _abort(self) -> None:
        self._linger = None
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        self._heartbeats.stop()
        self._ended = True
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self.do_close(reason)
        self.disconnected.fire()


_channel_classes: dict[tuple[type, type], type] = {}


def _channel_class(channel: type, spec_methods: type) -> Any:
    """A channel with the methods of a specification; one class for all connections that share it."""
    key = (channel, spec_methods)
    if key not in _channel_classes:
        _channel_classes[key] = type("Channel" + spec_methods.__name__, key, {})
    return _channel_classes[key]
