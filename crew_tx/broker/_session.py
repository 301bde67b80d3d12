"""
The server's side of one connection: bytes in, bytes out.

Sans-io: :meth:`Session.received` takes what was read, and what is to be
written is told by the callback that a session is made with, whatever set it
off: an own method, or another connection's. Time is an argument.

The legal moves are the table :data:`MOVES`: a state, and the methods that may
come in it. Whatever else comes ends the connection with RabbitMQ's reply code;
before the client has logged in, and agreed on limits, without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crew_tx._version import __version__
from crew_tx.amqp import frames, methods
from crew_tx.amqp.frames import FrameParser
from crew_tx.amqp.methods import Arguments
from crew_tx.amqp.properties import read_properties
from crew_tx.broker._channel_session import ChannelSession
from crew_tx.broker._credentials import credentials
from crew_tx.broker._errors import ReplyError
from crew_tx.broker._model import Broker, VirtualHost
from crew_tx.errors import ProtocolError

FRAME_MAX = 131_072
FRAME_MIN = 4096
CHANNEL_MAX = 2047
HEARTBEAT = 60
MAX_MESSAGE_SIZE = 16 * 1024 * 1024

MECHANISMS = ("PLAIN", "AMQPLAIN")

HEADER, STARTED, TUNED, OPENING, RUNNING, CLOSING, ENDED = (
    "header",
    "started",
    "tuned",
    "opening",
    "running",
    "closing",
    "ended",
)
#: The connection's own methods, by state; those of channels may come in the state RUNNING alone.
MOVES: dict[str, frozenset[int]] = {
    STARTED: frozenset({methods.CONNECTION_START_OK}),
    TUNED: frozenset({methods.CONNECTION_TUNE_OK}),
    OPENING: frozenset({methods.CONNECTION_OPEN}),
    RUNNING: frozenset({methods.CONNECTION_CLOSE, methods.CONNECTION_UPDATE_SECRET}),
    CLOSING: frozenset({methods.CONNECTION_CLOSE, methods.CONNECTION_CLOSE_OK}),
}

SERVER_PROPERTIES: dict[str, Any] = {
    "product": "crew_tx",
    "version": __version__,
    "platform": "Python",
    "capabilities": {
        "authentication_failure_close": True,
        "basic.nack": True,
        "connection.blocked": True,
        "consumer_cancel_notify": True,
        "consumer_priorities": True,
        "exchange_exchange_bindings": True,
        "per_consumer_qos": True,
        "publisher_confirms": True,
    },
}


class ReceivedProperties(dict[str, Any]):
    """
    A message's properties.

    :ivar encoded: as they came, so that they go on unchanged.
    """

    encoded: bytes


class Session:
    """
    One connection.

    :param write: called with bytes for the client.
    :param name: who it is, for people: the client's address.
    :ivar state: one of the states above.
    :ivar closes: whether the transport is to be closed, once all is written.
    :ivar heartbeat: what was agreed on, in seconds; None until then.
    :ivar blocked: whether the client has published since an alarm began.
    :ivar error: what the client was refused for; None where it wasn't.
    :ivar congested: whether nothing is delivered to the client, since it does not read what it has.
    """

    def __init__(
        self,
        broker: Broker,
        write: Callable[[bytes], object],
        *,
        name: str = "",
        max_message_size: int = MAX_MESSAGE_SIZE,
        heartbeat: int = HEARTBEAT,
    ) -> None:
        self.broker = broker
        self.name = name
        self.max_message_size = max_message_size
        self.state = HEADER
        self.closes = False
        self.heartbeat: int | None = None
        self.frame_max = FRAME_MAX
        self.channel_max = CHANNEL_MAX
        self.user: str | None = None
        self.client_properties: dict[str, Any] = {}
        self.channels: dict[int, ChannelSession] = {}
        self.now = 0.0
        self.vhost: VirtualHost | None = None
        self.blocked = False
        self.congested = False
        self.error: ReplyError | None = None
        self._proposed_heartbeat = heartbeat
        self._write = write
        self._corked: list[bytes] | None = None
        self._corked_size = 0
        self._greeting = b""
        self._parser = FrameParser(FRAME_MAX, join_content=True, properties_reader=_with_encoded)

    # -- in ------------------------------------------------------------------------------

    def received(self, data: bytes, now: float) -> None:
        """The client sent something."""
        self.now = now
        if self.state == ENDED:
            return
        self._corked = []
        try:
            self._feed(data)
        except ReplyError as error:
            self._fail(error)
        except ProtocolError as error:
            self._fail(_as_reply(error))
        finally:
            self._uncork()

    def _feed(self, data: bytes) -> None:
        if self.state == HEADER:
            data = self._greeted(self._greeting + data)
        for kind, number, payload in self._parser.feed(data) if data else ():
            self._frame(kind, number, payload)
            if self.state == ENDED:
                return

    def _greeted(self, data: bytes) -> bytes:
        """The protocol header: another version is answered with ours, and the end."""
        size = len(frames.PROTOCOL_HEADER)
        self._greeting = data
        if len(data) < size:
            return b""
        if data[:size] not in _HEADERS:
            self.write(frames.PROTOCOL_HEADER)
            self._end()
            return b""
        self.state = STARTED
        arguments = (0, 9, SERVER_PROPERTIES, " ".join(MECHANISMS), "en_US")
        self.send(0, methods.CONNECTION_START, arguments)
        return data[size:]

    def _frame(self, kind: int, number: int, payload: Any) -> None:
        if kind == frames.HEARTBEAT:
            if number:
                raise ReplyError(505, f"a heartbeat on channel {number}")
        elif not number:
            self._own_frame(kind, payload)
        elif self.state == RUNNING:
            self._channel_frame(kind, number, payload)
        elif self.state != CLOSING:
            raise ReplyError(504, f"a frame for channel {number} came before connection.open")

    def _channel_frame(self, kind: int, number: int, payload: Any) -> None:
        channel = self.channels.get(number)
        if channel is None:
            self._open_channel(kind, number, payload)
            return
        try:
            channel.frame(kind, payload)
        except ReplyError as error:
            if error.hard:
                raise
            channel.fail(error)
        if channel.ended:
            del self.channels[number]

    def _open_channel(self, kind: int, number: int, payload: Any) -> None:
        if kind in (frames.HEADER, frames.BODY):
            raise ReplyError(505, "expected method frame, got non method frame instead")
        if payload[0] != methods.CHANNEL_OPEN:
            raise _caused(ReplyError(504, "expected 'channel.open'"), payload[0])
        count = len(self.channels)
        if count >= self.channel_max:
            text = f"number of channels opened ({count}) has reached the negotiated channel_max"
            raise ReplyError(530, f"{text} ({self.channel_max})")
        self.channels[number] = ChannelSession(self, number)
        self.send(number, methods.CHANNEL_OPEN_OK, ("",))

    # -- the connection's own methods ---------------------------------------------------------

    def _own_frame(self, kind: int, payload: Any) -> None:
        if kind != frames.METHOD:
            raise ReplyError(505, "content came on channel 0, which has none")
        method_id, arguments = payload
        if method_id not in MOVES[self.state]:
            if self.state == CLOSING:
                return
            text = f"unexpected method in connection state {self.state}"
            raise _caused(ReplyError(504, text), method_id)
        try:
            _HANDLERS[method_id](self, *arguments)
        except ReplyError as error:
            raise _caused(error, method_id) from None

    def _start_ok(self, client_properties: dict[str, Any], mechanism: str, response: Any, _: str) -> None:
        self.client_properties = client_properties or {}
        user, password = credentials(mechanism, response)
        if not self.broker.is_user(user, password):
            self._refuse_login(mechanism)
            return
        self.user = user
        self.state = TUNED
        self.send(0, methods.CONNECTION_TUNE, (CHANNEL_MAX, FRAME_MAX, self._proposed_heartbeat))

    def _refuse_login(self, mechanism: str) -> None:
        capabilities = self.client_properties.get("capabilities")
        self.error = ReplyError(
            403,
            f"Login was refused using authentication mechanism {mechanism}. "
            "For details see the broker logfile.",
        )
        if isinstance(capabilities, dict) and capabilities.get("authentication_failure_close"):
            self._fail(self.error)
        else:
            self._end()

    def _tune_ok(self, channel_max: int, frame_max: int, heartbeat: int) -> None:
        _check_limit("channel_max", channel_max, CHANNEL_MAX)
        _check_limit("frame_max", frame_max, FRAME_MAX)
        if frame_max < FRAME_MIN:
            raise ReplyError(
                530, f"negotiated frame_max = {frame_max} is lower than the minimum ({FRAME_MIN})"
            )
        self.channel_max = channel_max
        self.frame_max = self._parser.max_frame_size = frame_max
        self.heartbeat = heartbeat
        self.state = OPENING

    def _open(self, name: str, capabilities: str, insist: bool) -> None:
        vhost = self.broker.vhosts.get(name)
        if vhost is None:
            raise ReplyError(530, f"vhost {name} not found")
        self.vhost = vhost
        self.state = RUNNING
        self.send(0, methods.CONNECTION_OPEN_OK, ("",))

    def _close(self, code: int, text: str, class_id: int, method_id: int) -> None:
        self._let_go()
        self.send(0, methods.CONNECTION_CLOSE_OK, ())
        self._end()

    def _close_ok(self) -> None:
        self._end()

    def _update_secret(self, secret: str, reason: str) -> None:
        self.send(0, methods.CONNECTION_UPDATE_SECRET_OK, ())

    # -- alarms --------------------------------------------------------------------------------

    def published(self) -> None:
        """The client has published: under an alarm, that is enough, unless it makes room by it."""
        if self.broker.alarm is not None and not self.blocked and not self._makes_room:
            self._block(self.broker.alarm)

    @property
    def waits(self) -> bool:
        """Whether nothing more is read of the client; one that was told to wait may acknowledge meanwhile."""
        return (
            self.blocked and not (self._can_be_blocked and self.broker.has_reserve) and not self._may_settle
        )

    @property
    def _makes_room(self) -> bool:
        """Whether it has published no more than it was delivered, as those do who answer calls."""
        if not (self.broker.has_reserve or self._may_settle):
            return False
        return sum(channel.balance for channel in self.channels.values()) > 0

    @property
    def _may_settle(self) -> bool:
        """
        Whether what it has to acknowledge would help against the alarm.

        That comes behind its answers: if these were not read the broker would stay full for ever.
        """
        return self.broker.is_full_alone and any(channel.unsettled for channel in self.channels.values())

    def _block(self, resource: str) -> None:
        self.blocked = True
        if self._can_be_blocked:
            self.send(0, methods.CONNECTION_BLOCKED, (f"low on {resource}",))

    def alarm_ended(self) -> None:
        """Go on reading."""
        if self.blocked:
            self.blocked = False
            if self._can_be_blocked:
                self.send(0, methods.CONNECTION_UNBLOCKED, ())

    @property
    def _can_be_blocked(self) -> bool:
        capabilities = self.client_properties.get("capabilities")
        return isinstance(capabilities, dict) and bool(capabilities.get("connection.blocked"))

    @property
    def can_be_cancelled(self) -> bool:
        """Whether the client wants to hear that its consumer's queue is gone."""
        capabilities = self.client_properties.get("capabilities")
        return isinstance(capabilities, dict) and bool(capabilities.get("consumer_cancel_notify"))

    # -- a client that does not read ---------------------------------------------------------------

    def congest(self, congested: bool, now: float) -> None:
        """Deliver nothing more, or go on; what the client asks for itself is answered all the same."""
        self.now = now
        self.congested = congested
        for channel in list(self.channels.values()):
            # What one channel delivers may congest the client again.
            if self.congested is congested:
                channel.congest(congested)

    # -- the end ---------------------------------------------------------------------------------

    def lost(self, now: float) -> None:
        """The transport is gone."""
        self.now = now
        self._let_go()
        self.state = ENDED

    def shut_down(self, text: str = "broker forced connection closure with reason 'shutdown'") -> None:
        """Tell the client that the broker ends."""
        if self.state in (HEADER, ENDED):
            self._end()
        else:
            self._fail(ReplyError(320, text))

    def crashed(self) -> None:
        """A method met with a mistake of the broker's own: this connection ends for it."""
        self._fail(ReplyError(541, "the broker made a mistake; its log says more"))

    def _fail(self, error: ReplyError) -> None:
        if self.state in (CLOSING, ENDED):
            self._end()
            return
        self._let_go()
        self.error = error
        if self.state in (STARTED, TUNED) and error.code != _ACCESS_REFUSED:
            self._end()
            return
        self.state = CLOSING
        self.send(0, methods.CONNECTION_CLOSE, (error.code, error.text, *error.cause))

    def _let_go(self) -> None:
        """What it consumed and held is for others now."""
        channels, self.channels = self.channels, {}
        for channel in channels.values():
            channel.let_go()
        if self.vhost is not None:
            self.vhost.delete_exclusive_queues(self)

    def _end(self) -> None:
        self.state = ENDED
        self.closes = True

    # -- out ----------------------------------------------------------------------------------------

    def send(self, number: int, method_id: int, arguments: Arguments) -> None:
        """Write a method."""
        self.write(frames.pack_method(number, method_id, arguments))

    def send_content(self, number: int, method: bytes, encoded: bytes, body: bytes) -> None:
        """Write a method's frame with content."""
        content = frames.pack_content(number, _BASIC, encoded, body, self.frame_max)
        self.write(b"".join((method, *content)))

    def write(self, data: bytes) -> None:
        """Write; with all else that one read brings about, as long as that is little."""
        if self._corked is None:
            self._write(data)
            return
        self._corked.append(data)
        self._corked_size += len(data)
        if self._corked_size > _CORKED_SIZE:
            self._flush()

    def _uncork(self) -> None:
        for channel in list(self.channels.values()):
            channel.send_confirms()
        self._flush()
        self._corked = None

    def _flush(self) -> None:
        data, self._corked, self._corked_size = self._corked, [], 0
        if data:
            self._write(b"".join(data))


_BASIC = 60
_ACCESS_REFUSED = 403
#: Ours, and that of AMQP 0-9, whose clients, txamqp's among them, say the same from then on.
_HEADERS = (frames.PROTOCOL_HEADER, b"AMQP\x01\x01\x00\x09")
#: Bytes after which the transport is given what is to be written: it says then when that is too much.
_CORKED_SIZE = 65_536

_HANDLERS: dict[int, Callable[..., None]] = {
    methods.CONNECTION_START_OK: Session._start_ok,
    methods.CONNECTION_TUNE_OK: Session._tune_ok,
    methods.CONNECTION_OPEN: Session._open,
    methods.CONNECTION_CLOSE: Session._close,
    methods.CONNECTION_CLOSE_OK: Session._close_ok,
    methods.CONNECTION_UPDATE_SECRET: Session._update_secret,
}


def _with_encoded(flags: int, buffer: bytes, offset: int, end: int) -> ReceivedProperties:
    properties = ReceivedProperties(read_properties(flags, buffer, offset, end))
    properties.encoded = buffer[offset - 2 : end]
    return properties


def _check_limit(name: str, value: int, limit: int) -> None:
    if not value or value > limit:
        shown = "0 (no limit)" if not value else str(value)
        raise ReplyError(
            530, f"negotiated {name} = {shown} is higher than the maximum allowed value ({limit})"
        )


def _as_reply(error: ProtocolError) -> ReplyError:
    """RabbitMQ has one code for all that can't be read."""
    return ReplyError(501, str(error))


def _caused(error: ReplyError, method_id: int) -> ReplyError:
    error.cause = (method_id >> 16, method_id & 0xFFFF)
    return error
