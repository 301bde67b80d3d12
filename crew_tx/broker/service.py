"""
The embedded broker as a Twisted service.

For development, tests and demonstrations: it keeps nothing over its end.
Production runs on RabbitMQ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from crew_tx.broker._connection import BrokerProtocol
from crew_tx.broker._model import Broker
from crew_tx.broker._session import HEARTBEAT, MAX_MESSAGE_SIZE, Session
from crew_tx.broker.status import BrokerStatus, QueueStatus

MAX_CONNECTIONS = 512


class BrokerFactory(ServerFactory):
    """
    Makes the broker's side of connections.

    :param clock: an ``IReactorTime``.
    :param broker: the state that all connections share.
    :param heartbeat: the seconds that are proposed to clients; 0 for no heartbeats.
    :param max_message_size: bytes that a body may have.
    :param max_connections: clients at a time; further ones are closed as they come.
    :ivar connections: the clients that are there, the oldest first.
    """

    noisy = False
    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        broker: Broker,
        *,
        heartbeat: int = HEARTBEAT,
        max_message_size: int = MAX_MESSAGE_SIZE,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.broker = broker
        self.connections: list[BrokerProtocol] = []
        self._clock = clock
        self._heartbeat = heartbeat
        self._max_message_size = max_message_size
        self._max_connections = max_connections
        self._is_full = False
        self._is_over = False
        self._wake: IDelayedCall | None = None
        self._due = 0.0
        self._all_gone: list[Deferred[None]] = []
        self._told_of_alarms, broker.on_alarm = broker.on_alarm, self._alarm_changed

    # -- connections ---------------------------------------------------------------------------

    def buildProtocol(self, addr: IAddress | None) -> BrokerProtocol | None:  # type: ignore[override]
        if len(self.connections) >= self._max_connections:
            self._refuse()
            return None
        protocol = BrokerProtocol(self._clock, lambda write: self._session(write, _name_of(addr)))
        protocol.factory = self
        return protocol

    def _session(self, write: Callable[[bytes], object], name: str) -> Session:
        return Session(
            self.broker,
            write,
            name=name,
            max_message_size=self._max_message_size,
            heartbeat=self._heartbeat,
        )

    def _refuse(self) -> None:
        """Say it once, until there is room again."""
        if not self._is_full:
            self._is_full = True
            self.log.warn(
                "{count} clients are connected, which is the limit: further ones are closed",
                count=self._max_connections,
            )

    def connected(self, protocol: BrokerProtocol) -> None:
        """A client came."""
        self.connections.append(protocol)

    def disconnected(self, protocol: BrokerProtocol) -> None:
        """A client is gone."""
        self.connections.remove(protocol)
        self._is_full = False
        self.changed()
        if not self.connections:
            waiting, self._all_gone = self._all_gone, []
            for deferred in waiting:
                deferred.callback(None)

    def shut_down(self) -> Deferred[None]:
        """
        Tell all clients that the broker ends.

        :returns: a Deferred that fires when they are gone, which takes three seconds at the most.
        """
        for protocol in list(self.connections):
            protocol.shut_down()
        gone: Deferred[None] = Deferred()
        if self.connections:
            self._all_gone.append(gone)
        else:
            gone.callback(None)
        return gone

    # -- time ----------------------------------------------------------------------------------

    def changed(self) -> None:
        """
        Something was published, declared or settled: look when it is time to look again.

        This runs for each read. A wake that turns out to be too early costs
        less than one that is put off, again and again.
        """
        due = self.broker.next_wake()
        if due is None or self._is_over:
            return
        if self._wake is not None:
            if due >= self._due:
                return
            self._wake.cancel()
        self._due = due
        self._wake = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._woken)

    def _woken(self) -> None:
        self._wake = None
        # The difference of two times may be a rounding short.
        now = max(self._clock.seconds(), self._due)
        try:
            self.broker.wake(now)
        except Exception:
            self.log.failure("a mistake while expired messages and queues were looked for")
        self.changed()

    def startFactory(self) -> None:
        self._is_over = False
        self.changed()

    def stopFactory(self) -> None:
        self._is_over = True
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    # -- alarms --------------------------------------------------------------------------------

    def _alarm_changed(self, is_on: bool) -> None:
        self._told_of_alarms(is_on)
        broker = self.broker
        if is_on:
            self.log.warn(
                "low on {resource}: publishers wait. Messages take {size} bytes, and the limit is {limit}",
                resource=broker.alarm,
                size=broker.bytes,
                limit=broker.memory_limit,
            )
            return
        self.log.info("no alarm any more: publishers go on")
        for protocol in list(self.connections):
            protocol.alarm_ended()

    # -- status --------------------------------------------------------------------------------

    def status(self) -> BrokerStatus:
        """What the broker is like now."""
        broker = self.broker
        vhosts = broker.vhosts.values()
        return BrokerStatus(
            connections=tuple(protocol.status() for protocol in self.connections),
            queues=tuple(
                QueueStatus(
                    vhost.name,
                    queue.name,
                    queue.kind,
                    ready=len(queue),
                    unacked=queue.unacked,
                    consumers=len(queue.consumers),
                    ready_bytes=queue.ready_bytes,
                )
                for vhost in vhosts
                for queue in vhost.queues.values()
            ),
            bytes=broker.bytes,
            memory_limit=broker.memory_limit,
            alarms=broker.alarms,
            published=sum(vhost.published for vhost in vhosts),
            delivered=sum(vhost.delivered for vhost in vhosts),
            acked=sum(vhost.acked for vhost in vhosts),
        )


class BrokerService(Service):
    """
    A broker that listens while it runs.

    :param reactor: an ``IReactorTime``.
    :param endpoint: where; an ``IStreamServerEndpoint``.
    :param broker: its state; a new one by default.
    :param on_fatal: called with the exception if it can't listen; by default that is logged.
    :param options: those of :class:`BrokerFactory`.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        endpoint: IStreamServerEndpoint,
        broker: Broker | None = None,
        *,
        on_fatal: Callable[[Exception], object] | None = None,
        **options: int,
    ) -> None:
        self.broker = Broker() if broker is None else broker
        self.factory = BrokerFactory(reactor, self.broker, **options)
        self._endpoint = endpoint
        self._on_fatal = on_fatal
        self._port: IListeningPort | None = None

    def status(self) -> BrokerStatus:
        """What it is like now."""
        return self.factory.status()

    def startService(self) -> None:
        super().startService()
        self.listen().addErrback(self._not_listening)

    def listen(self) -> Deferred[IListeningPort]:
        """
        Listen, if that is not so already.

        :returns: a Deferred of the port; errbacks with ``CannotListenError``.
        """
        if self._port is not None:
            return succeed(self._port)
        return self._endpoint.listen(self.factory).addCallback(self._listening)

    def _listening(self, port: IListeningPort) -> IListeningPort:
        self._port = port
        return port

    def _not_listening(self, failure: Failure) -> None:
        if self._on_fatal is None:
            self.log.failure("the broker can't listen", failure=failure)
        else:
            self._on_fatal(failure.value)  # type: ignore[arg-type]

    def stopService(self) -> Deferred[None]:
        """
        Listen no more, and tell the clients.

        :returns: a Deferred that fires when they are gone, after three seconds at the most.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
        await self.factory.shut_down()


def _name_of(address: Any) -> str:
    """A client, for people."""
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    return "in memory" if address is None else str(address) if host is None else f"{host}:{port}"
