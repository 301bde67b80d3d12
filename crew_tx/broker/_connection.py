"""The Twisted side of one connection to the embedded broker: a transport, time limits, and a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from crew_tx.amqp import frames
from crew_tx.amqp.heartbeat import Heartbeats
from crew_tx.broker._outgoing import Outgoing
from crew_tx.broker._session import CLOSING, ENDED, RUNNING, Session
from crew_tx.broker.status import ConnectionStatus

if TYPE_CHECKING:
    from crew_tx.broker.service import BrokerFactory

#: Seconds that a client has for the handshake.
HANDSHAKE_TIMEOUT = 10.0
#: Seconds that a client has to agree to the end, when it is refused, and when the broker ends.
CLOSE_TIMEOUT = 10.0
SHUTDOWN_TIMEOUT = 3.0
#: Bytes that may wait for a client that does not read, beside one message of the largest size.
MOST_WAITING = 16 * 1024 * 1024
_MISSES = 2


class BrokerProtocol(Protocol):
    """
    One client.

    :ivar session: what is agreed on with it.
    """

    log = Logger()
    factory: BrokerFactory

    def __init__(
        self, clock: IReactorTime, make_session: Callable[[Callable[[bytes], object]], Session]
    ) -> None:
        self._clock = clock
        self.session = session = make_session(self._write)
        most_waiting = MOST_WAITING + session.max_message_size
        self._outgoing = Outgoing(clock, most_waiting, self._congest, self._give_up)
        self._heartbeats = Heartbeats(clock, 0, _MISSES, self._send_heartbeat, self._silent)
        self._agreed: int | None = None
        self._paused = False
        self._refusal_told = False
        self._handshake: IDelayedCall | None = None
        self._end: IDelayedCall | None = None

    def status(self) -> ConnectionStatus:
        """What it is like now."""
        session = self.session
        return ConnectionStatus(
            name=session.name,
            user=session.user,
            vhost=None if session.vhost is None else session.vhost.name,
            state=session.state,
            channels=len(session.channels),
            blocked=session.blocked,
            congested=session.congested,
        )

    # -- in ----------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        transport: Any = self.transport
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        self._outgoing.begin(transport)
        self._handshake = self._clock.callLater(HANDSHAKE_TIMEOUT, self._too_slow)
        self.factory.connected(self)

    def dataReceived(self, data: bytes) -> None:
        self._heartbeats.heard()
        try:
            self.session.received(data, self._clock.seconds())
        except Exception:
            self._crashed()
        self._after()

    def _after(self) -> None:
        """What follows from what the session has become."""
        session = self.session
        if session.vhost is not None:
            self._end_handshake()
        if session.heartbeat != self._agreed:
            self._agreed = session.heartbeat
            self._heartbeats.set_interval(session.heartbeat or 0)
            self._heartbeats.start_sending()
        if session.waits and session.state == RUNNING:
            self._pause()
        if session.closes or session.state == CLOSING:
            self._closing()
        self.factory.changed()

    def _crashed(self) -> None:
        """A mistake of ours: it costs the client its connection, and nobody else anything."""
        self.log.failure("a mistake in the connection of {name}", name=self.session.name)
        try:
            self.session.crashed()
        except Exception:
            self.log.failure("a second one, while the first was handled: it is cut")
            self._end_within(0)

    # -- out -----------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        self._heartbeats.wrote()
        self._outgoing.write(data)
        if self._paused and not self.session.waits:
            # What it was delivered meanwhile, it has to acknowledge.
            self._resume()

    def _send_heartbeat(self) -> None:
        self._write(frames.pack_heartbeat())

    def _congest(self, congested: bool) -> None:
        try:
            self.session.congest(congested, self._clock.seconds())
        except Exception:
            self._crashed()
        if not congested:
            self._after()

    def _give_up(self, reason: str) -> None:
        self.log.warn("the client {name} is dropped: {reason}", name=self.session.name, reason=reason)
        # Not now: what is written here may be a part of another client's doing.
        self._end_within(0)

    # -- alarms ------------------------------------------------------------------------------------

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pauseProducing()  # type: ignore[union-attr]

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._heartbeats.heard()
            self.transport.resumeProducing()  # type: ignore[union-attr]

    def alarm_ended(self) -> None:
        """Read on."""
        if self.session.state == RUNNING:
            self.session.alarm_ended()
            self._resume()

    # -- time limits -------------------------------------------------------------------------------

    def _too_slow(self) -> None:
        self._handshake = None
        self.log.info(
            "the client {name} did not log in within {limit:g} s",
            name=self.session.name,
            limit=HANDSHAKE_TIMEOUT,
        )
        self._abort()

    def _end_handshake(self) -> None:
        if self._handshake is not None:
            self._handshake.cancel()
            self._handshake = None

    def _silent(self) -> None:
        if self._paused:
            # It was not listened to.
            self._heartbeats.set_interval(self._agreed or 0)
            return
        self.log.info("the client {name} was silent for too long", name=self.session.name)
        self._abort()

    # -- the end ------------------------------------------------------------------------------------

    def shut_down(self) -> None:
        """Tell the client that the broker ends; the connection does within :data:`SHUTDOWN_TIMEOUT`."""
        self._refusal_told = True
        self.session.now = self._clock.seconds()
        try:
            self.session.shut_down()
        except Exception:
            self._crashed()
        self._after()
        self._end_within(SHUTDOWN_TIMEOUT)

    def _closing(self) -> None:
        """Whoever has asked for the end: it is not put off for ever."""
        self._tell_refusal()
        self._end_handshake()
        self._end_within(CLOSE_TIMEOUT)
        # Else the client's agreement to its end would not be read.
        self._resume()
        if self.session.closes:
            self._outgoing.end()
            self.transport.loseConnection()  # type: ignore[union-attr]

    def _tell_refusal(self) -> None:
        error = self.session.error
        if error is not None and not self._refusal_told:
            self._refusal_told = True
            # The text may have names of the client's in it.
            text = error.text.encode("unicode_escape").decode()
            self.log.info("the client {name} was refused: {text}", name=self.session.name, text=text)

    def _end_within(self, seconds: float) -> None:
        """Cut the connection after so long, if it is there still."""
        if self._end is not None:
            if self._end.getTime() <= self._clock.seconds() + seconds:
                return
            self._end.cancel()
        self._end = self._clock.callLater(seconds, self._cut)

    def _cut(self) -> None:
        self._end = None
        self._abort()

    def _abort(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._heartbeats.stop()
        self._outgoing.end()
        self._end_handshake()
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if self.session.state != ENDED:
            try:
                self.session.lost(self._clock.seconds())
            except Exception:
                self.log.failure("a mistake at the end of the connection of {name}", name=self.session.name)
        self.factory.disconnected(self)
