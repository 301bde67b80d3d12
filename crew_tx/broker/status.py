"""Frozen snapshots of the embedded broker: plain values, so that one can be encoded as it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """
    A client at one moment.

    :ivar name: its address.
    :ivar user: who logged in; None before that.
    :ivar vhost: its virtual host; None before it has opened one.
    :ivar state: where its connection is: ``running``, or a step on the way there or to its end.
    :ivar channels: how many it has open.
    :ivar blocked: whether it has published under an alarm, and is to wait for its end.
    :ivar congested: whether it does not read what it was sent, so that nothing is delivered to it.
    """

    name: str
    user: str | None
    vhost: str | None
    state: str
    channels: int
    blocked: bool
    congested: bool


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """
    A queue at one moment.

    :ivar kind: ``classic`` or ``quorum``.
    :ivar ready: messages that wait to be delivered.
    :ivar unacked: messages that are delivered, and not settled.
    :ivar ready_bytes: the bytes of the bodies that are ready.
    """

    vhost: str
    name: str
    kind: str
    ready: int
    unacked: int
    consumers: int
    ready_bytes: int


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """
    A broker at one moment.

    :ivar bytes: what all messages take together, about: bodies, properties, and 1 KiB for each in each queue.
    :ivar memory_limit: past how many bytes publishers are blocked.
    :ivar alarms: what they are blocked for; empty where they aren't.
    :ivar published: how many messages clients have published since its start.
    :ivar delivered: how many were delivered, or got, again and again counted.
    :ivar acked: how many were acknowledged.
    """

    connections: tuple[ConnectionStatus, ...]
    queues: tuple[QueueStatus, ...]
    bytes: int
    memory_limit: int
    alarms: tuple[str, ...] = ()
    published: int = 0
    delivered: int = 0
    acked: int = 0

    @property
    def channels(self) -> int:
        """How many all clients have open."""
        return sum(connection.channels for connection in self.connections)
