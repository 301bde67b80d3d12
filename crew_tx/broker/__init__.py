"""
An AMQP broker inside the process: for development, tests and demonstrations.

It speaks AMQP 0-9-1 as RabbitMQ does, keeps everything in memory, and loses it
at its end. Production runs on RabbitMQ.
"""

from crew_tx.broker._model import Broker
from crew_tx.broker.service import BrokerFactory, BrokerService

__all__ = ["Broker", "BrokerFactory", "BrokerService"]
