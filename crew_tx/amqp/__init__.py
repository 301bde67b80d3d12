"""
AMQP 0-9-1 for Twisted, on txamqp.

The names are txamqp's, and whoever wrote against it is at home here. What is
broken in txamqp 0.8.2 is mended, and the frames go another, quicker way: see
:mod:`crew_tx.amqp.protocol`.
"""

from __future__ import annotations

from txamqp.content import Content

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.delegate import TwistedDelegate
from crew_tx.amqp.delivery import Delivery, Returned
from crew_tx.amqp.endpoint import AMQEndpoint
from crew_tx.amqp.factory import AMQFactory
from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.service import BrokerConnection
from crew_tx.amqp.uri import BrokerURL, parse

__all__ = [
    "AMQChannel",
    "AMQClient",
    "AMQEndpoint",
    "AMQFactory",
    "BrokerConnection",
    "BrokerURL",
    "Content",
    "Delivery",
    "Returned",
    "TwistedDelegate",
    "parse",
]
