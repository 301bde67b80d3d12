"""
The embedded broker as a Twisted service.

For development, tests and demonstrations: it keeps nothing over its end.
Production runs on RabbitMQ.
"""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IListeningPort, IReactorTime, IStreamServerEndpoint
from twisted.internet.protocol import ServerFactory

from crew_tx.broker._connection import BrokerProtocol
from crew_tx.broker._model import Broker
from crew_tx.broker._session import Session


class BrokerFactory(ServerFactory):
    """
    Makes the broker's side of connections.

    :param clock: an ``IReactorTime``.
    :param broker: the state that all connections share.
    """

    noisy = False

    def __init__(self, clock: IReactorTime, broker: Broker) -> None:
        self.broker = broker
        self.connections: list[BrokerProtocol] = []
        self._clock = clock
        self._wake: Any = None
        broker.on_alarm = self._alarm_changed

    def buildProtocol(self, addr: IAddress | None) -> BrokerProtocol:  # type: ignore[override]
        name = "" if addr is None else str(addr)
        protocol = BrokerProtocol(self._clock, lambda write: Session(self.broker, write, name=name))
        protocol.factory = self
        return protocol

    def connected(self, protocol: BrokerProtocol) -> None:
        """A client came."""
        self.connections.append(protocol)

    def disconnected(self, protocol: BrokerProtocol) -> None:
        """A client is gone."""
        self.connections.remove(protocol)
        self.changed()

    def changed(self) -> None:
        """Something was published, declared or settled: look when it is time to look again."""
        due = self.broker.next_wake()
        if self._wake is not None:
            if due is not None and due >= self._wake.getTime():
                return
            self._wake.cancel()
            self._wake = None
        if due is not None:
            self._wake = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._woken)

    def _woken(self) -> None:
        self._wake = None
        self.broker.wake(self._clock.seconds())
        self.changed()

    def _alarm_changed(self, is_on: bool) -> None:
        if not is_on:
            for protocol in list(self.connections):
                protocol.alarm_ended()

    def stopFactory(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None


class BrokerService(Service):
    """
    A broker that listens.

    :param reactor: an ``IReactorTime``.
    :param endpoint: where; an ``IStreamServerEndpoint``.
    """

    def __init__(self, reactor: Any, endpoint: IStreamServerEndpoint, broker: Broker | None = None) -> None:
        self.broker = Broker() if broker is None else broker
        self.factory = BrokerFactory(reactor, self.broker)
        self._endpoint = endpoint
        self._port: IListeningPort | None = None

    def listen(self) -> Deferred[IListeningPort]:
        """
        Listen.

        :returns: a Deferred of the port; errbacks with ``CannotListenError``.
        """
        return self._endpoint.listen(self.factory).addCallback(self._listening)

    def _listening(self, port: IListeningPort) -> IListeningPort:
        self._port = port
        return port

    def stopService(self) -> Deferred[None]:
        """Close every connection; a Deferred that fires when the port is closed."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for protocol in list(self.factory.connections):
            protocol.shut_down()
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
