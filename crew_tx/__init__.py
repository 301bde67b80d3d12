"""
crew_tx: hand work to other processes over AMQP, and get the answer as a Deferred.

Callers need :class:`Client`; modules of tasks import from :mod:`crew_tx.worker`;
all errors are in :mod:`crew_tx.errors`.
"""

from __future__ import annotations

from crew_tx.client import Client
from crew_tx.errors import (
    BrokerBlockedError,
    ClientStoppedError,
    ConnectionLostError,
    CrewError,
    DecodeError,
    EncodeError,
    ExpirationError,
    MessageTooLargeError,
    NoWorkersError,
    PoisonError,
    PublishNackedError,
    QueueFullError,
    RejectedError,
    RemoteError,
    ReplyLostError,
    TaskCancelledError,
    TaskTimeoutError,
    UnknownTaskError,
    UnroutableError,
)
from crew_tx.errors import TaskTimeoutError as TimeoutError
from crew_tx.message import Event, Reply

__all__ = [
    "BrokerBlockedError",
    "Client",
    "ClientStoppedError",
    "ConnectionLostError",
    "CrewError",
    "DecodeError",
    "EncodeError",
    "Event",
    "ExpirationError",
    "MessageTooLargeError",
    "NoWorkersError",
    "PoisonError",
    "PublishNackedError",
    "QueueFullError",
    "RejectedError",
    "RemoteError",
    "Reply",
    "ReplyLostError",
    "TaskCancelledError",
    "TaskTimeoutError",
    "TimeoutError",
    "UnknownTaskError",
    "UnroutableError",
]
