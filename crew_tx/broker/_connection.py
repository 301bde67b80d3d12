"""The Twisted side of one connection to the embedded broker: a transport, heartbeats, and a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from crew_tx.amqp import frames
from crew_tx.amqp.heartbeat import Heartbeats
from crew_tx.broker._session import ENDED, Session

if TYPE_CHECKING:
    from crew_tx.broker.service import BrokerFactory

#: Seconds that a client has for the handshake.
HANDSHAKE_TIMEOUT = 10.0
#: Seconds for the rest to leave in, once the connection is to end.
LINGER = 3.0
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
        self.session = make_session(self._write)
        self._heartbeats = Heartbeats(clock, 0, _MISSES, self._send_heartbeat, self._dead)
        self._agreed: int | None = None
        self._paused = False
        self._handshake: Any = None
        self._linger: Any = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        if hasattr(self.transport, "setTcpNoDelay"):
            self.transport.setTcpNoDelay(True)
        self._handshake = self._clock.callLater(HANDSHAKE_TIMEOUT, self._too_slow)
        self.factory.connected(self)

    def dataReceived(self, data: bytes) -> None:
        self._heartbeats.heard()
        self.session.received(data, self._clock.seconds())
        self._after()

    def _after(self) -> None:
        """What follows from what the session has become."""
        session = self.session
        if session.vhost is not None and self._handshake is not None:
            self._handshake.cancel()
            self._handshake = None
        if session.heartbeat != self._agreed:
            self._agreed = session.heartbeat
            self._heartbeats.set_interval(session.heartbeat or 0)
            self._heartbeats.start_sending()
        if session.blocked:
            self._pause()
        if session.closes:
            self._close()
        self.factory.changed()

    # -- out -----------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        if self.transport is not None:
            self._heartbeats.wrote()
            self.transport.write(data)

    def _send_heartbeat(self) -> None:
        self._write(frames.pack_heartbeat())

    # -- flow ------------------------------------------------------------------------------------

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pauseProducing()  # type: ignore[union-attr]

    def alarm_ended(self) -> None:
        """Read on."""
        self.session.alarm_ended()
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()  # type: ignore[union-attr]

    # -- the end ------------------------------------------------------------------------------------

    def shut_down(self) -> None:
        """Tell the client that the broker ends, and end."""
        self.session.shut_down()
        self._close()

    def _close(self) -> None:
        if self._linger is None and self.transport is not None:
            self._linger = self._clock.callLater(LINGER, self._abort)
            self.transport.loseConnection()

    def _too_slow(self) -> None:
        self._handshake = None
        self.log.info("the client {name} did not log in in time", name=self.session.name)
        self._abort_transport()

    def _dead(self) -> None:
        self.log.info("the client {name} was silent for too long", name=self.session.name)
        self._abort_transport()

    def _abort(self) -> None:
        self._linger = None
        self._abort_transport()

    def _abort_transport(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._heartbeats.stop()
        for call in (self._handshake, self._linger):
            if call is not None:
                call.cancel()
        self._handshake = self._linger = None
        if self.session.state != ENDED:
            self.session.lost(self._clock.seconds())
        self.factory.disconnected(self)
