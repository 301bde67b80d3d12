"""
What a user's own trial suite imports.

:class:`CrewHarness` is the one to begin with: real clients, workers and codec
on a broker in memory, without a socket, a thread or a sleep.
"""

from crew_tx.testing.broker import HarnessBroker, QueueCounts
from crew_tx.testing.harness import CrewHarness
from crew_tx.testing.memory import MemoryReactor, Wire
from crew_tx.testing.rabbitmq import RabbitMQCluster, RabbitMQNode
from crew_tx.testing.stepped import SteppedThreads

__all__ = [
    "CrewHarness",
    "HarnessBroker",
    "MemoryReactor",
    "QueueCounts",
    "RabbitMQCluster",
    "RabbitMQNode",
    "SteppedThreads",
    "Wire",
]
