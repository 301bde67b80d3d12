"""The broker of a harness: what a test looks at in it, and what it lets go wrong."""

from __future__ import annotations

from dataclasses import dataclass

from crew_tx.broker import Broker, BrokerFactory
from crew_tx.broker._messages import Message
from crew_tx.broker._model import DEFAULT_VHOST, Published, VirtualHost
from crew_tx.broker._queues import Queue
from crew_tx.testing._wire import LOOPBACK, Wire
from crew_tx.testing.memory import ACCEPTS, IGNORES, REFUSES, MemoryPort, MemoryReactor

_PORT = 5672


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """
    A queue at one moment.

    :ivar ready: messages that wait.
    :ivar unacknowledged: messages that consumers have and did not settle.
    """

    name: str
    ready: int
    unacknowledged: int
    consumers: int


class HarnessBroker:
    """
    The embedded broker, in memory.

    Whatever goes wrong with one connection alone is done to its
    :class:`~crew_tx.testing._wire.Wire`: see ``CrewHarness.connection``.

    :param reactor: where it listens, and whose time it goes by.
    :ivar url: what clients connect to.
    """

    def __init__(self, reactor: MemoryReactor) -> None:
        self.url = f"amqp://guest:guest@{LOOPBACK}:{_PORT}/%2F"
        self._reactor = reactor
        self._model = _Model()
        self._factory = BrokerFactory(reactor, self._model)
        self._port: MemoryPort | None = None
        self.start()

    # -- what a test looks at ------------------------------------------------------------------

    @property
    def queues(self) -> list[str]:
        """The names of all queues; a task's is ``crew.tasks.<task id>``."""
        return list(self._model.host.queues)

    def queue(self, name: str) -> QueueCounts:
        """
        How many messages and consumers a queue has.

        :raises LookupError: if there is none of that name.
        """
        queue = self._queue(name)
        return QueueCounts(name, len(queue), queue.unacked, len(queue.consumers))

    @property
    def connections(self) -> list[Wire]:
        """The connections that clients have to it, the oldest first."""
        return [wire for wire in self._wires if wire.connected]

    # -- its life --------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen; a broker that listens already goes on."""
        if self._port is None:
            self._port = self._reactor.listenTCP(_PORT, self._factory, interface=LOOPBACK)
            self._restore()

    def stop(self) -> None:
        """
        Crash: every connection is lost, and nobody listens.

        Durable queues and the persistent messages in them are there again after
        :meth:`start`; whatever is transient is gone.
        """
        port, self._port = self._port, None
        if port is not None:
            for wire in self._wires:
                wire.cut()
            self._forget_transient()
            port.stopListening()

    def restart(self) -> None:
        """Crash, and be there again at once."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Hang: connections are there and can be made, but nothing moves on them."""
        self._listening.frozen = True
        for wire in self.connections:
            wire.freeze()

    def thaw(self) -> None:
        """End a :meth:`freeze`; what waits arrives."""
        self._listening.frozen = False
        for wire in self.connections:
            wire.thaw()

    # -- connections -------------------------------------------------------------------------------

    def cut_connections(self) -> None:
        """Cut every connection, as a network that fails for a moment."""
        for wire in self.connections:
            wire.cut()

    def close_connections(self) -> None:
        """Close every connection the way that an operator does: with connection.close and code 320."""
        for protocol in list(self._factory.connections):
            protocol.shut_down()

    def refuse_connections(self) -> None:
        """Let nobody connect any more; connections that are there stay."""
        self._listening.mode = REFUSES

    def ignore_connections(self) -> None:
        """Answer nobody who connects, as a host that is down; connections that are there stay."""
        self._listening.mode = IGNORES

    def accept_connections(self) -> None:
        """End a :meth:`refuse_connections` or an :meth:`ignore_connections`."""
        self._listening.mode = ACCEPTS

    def refuse_logins(self) -> None:
        """Refuse every login from now on, with code 403."""
        self._model.refuses_logins = True

    def accept_logins(self) -> None:
        """End a :meth:`refuse_logins`."""
        self._model.refuses_logins = False

    # -- messages ------------------------------------------------------------------------------------

    def nack(self, count: int = 1, exchange: str = "crew.tasks") -> None:
        """
        Refuse the next messages that are published to an exchange, with basic.nack.

        :param exchange: ``crew.tasks`` for calls, ``crew.replies`` for replies.
        """
        self._model.host.nacks[exchange] = count

    def raise_alarm(self, resource: str = "memory") -> None:
        """Be short of memory, or ``disk``: who publishes is blocked."""
        self._model.raise_alarm(resource)

    def clear_alarm(self, resource: str = "memory") -> None:
        """End a :meth:`raise_alarm`."""
        self._model.clear_alarm(resource)

    def expire(self, queue: str) -> int:
        """
        Let everything that waits in a queue expire now.

        :returns: how many messages that were.
        :raises LookupError: if there is no such queue.
        """
        held = self._queue(queue)
        entries = held.take_all()
        for entry in entries:
            held.forget(entry)
            held.dead_letter(entry, "expired", self._reactor.seconds())
        self._factory.changed()
        return len(entries)

    def purge(self, queue: str) -> int:
        """
        Drop everything that waits in a queue, without a dead letter.

        :returns: how many messages that were.
        :raises LookupError: if there is no such queue.
        """
        return self._queue(queue).purge()

    def delete(self, queue: str) -> None:
        """
        Delete a queue with all that is in it; its consumers are told.

        :raises LookupError: if there is no such queue.
        """
        self._model.host.delete_queue(queue, self._queue(queue).owner)
        self._factory.changed()

    # -- inside --------------------------------------------------------------------------------------

    @property
    def _listening(self) -> MemoryPort:
        if self._port is None:
            raise RuntimeError("the broker is stopped: start() it first")
        return self._port

    @property
    def _wires(self) -> list[Wire]:
        """Those as well that a client has left, and the broker doesn't know it yet."""
        return [wire for wire in self._reactor.wires if wire.server.getHost().port == _PORT]

    def _queue(self, name: str) -> Queue:
        queue = self._model.host.queues.get(name)
        if queue is None:
            raise LookupError(f"there is no queue {name!r}; there are: {', '.join(self.queues) or 'none'}")
        return queue

    def _forget_transient(self) -> None:
        host, now = self._model.host, self._reactor.seconds()
        for queue in list(host.queues.values()):
            if not queue.durable:
                host.delete_queue(queue.name, queue.owner)
            elif queue.kind == "classic":
                waiting = queue.take_all()
                for entry in waiting:
                    if not entry.message.persistent:
                        queue.forget(entry)
                kept = [entry for entry in waiting if entry.message.persistent]
                queue.requeue(kept, now, asked=False)
        for exchange in list(host.exchanges.values()):
            if not exchange.durable and exchange.name and not exchange.name.startswith("amq."):
                host.delete_exchange(exchange.name)

    def _restore(self) -> None:
        """A restart counts as the use of a queue that ends when it is not used."""
        host = self._model.host
        for queue in host.queues.values():
            queue.used = self._reactor.seconds()
            host.watch(queue)
        self._factory.changed()


class _Host(VirtualHost):
    """
    A virtual host that refuses messages when it is told to.

    :ivar nacks: how many more, by exchange.
    """

    nacks: dict[str, int]

    def publish(self, message: Message, now: float) -> Published:
        left = self.nacks.get(message.exchange, 0)
        if not left:
            return super().publish(message, now)
        self.nacks[message.exchange] = left - 1
        return Published(routed=True, taken=False)


class _Model(Broker):
    """
    A broker that refuses logins when it is told to.

    :ivar host: its one virtual host.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refuses_logins = False
        self.host = _Host(DEFAULT_VHOST, self._count)
        self.host.nacks = {}
        self.vhosts = {DEFAULT_VHOST: self.host}

    def is_user(self, name: str, password: str) -> bool:
        return not self.refuses_logins and super().is_user(name, password)
