"""What a verb has in hand: its arguments, its output, and connections to the broker."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.service import BrokerConnection
from crew_tx.amqp.uri import BrokerURL
from crew_tx.cli.crew.output import Output
from crew_tx.client import Client
from crew_tx.errors import ConnectionLostError
from crew_tx.signing import SigningKeys

_NAME = "crew"


@dataclass(frozen=True, slots=True)
class Session:
    """
    One run of a verb.

    :ivar arguments: what the parser made of the command line.
    """

    reactor: Any
    arguments: Namespace
    brokers: list[BrokerURL]
    output: Output
    signing_keys: SigningKeys | None = None

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """
        A client, connected; closed at the end, however that comes.

        :raises CrewError: as ``Client.connect``.
        """
        client = Client(self.reactor, self.brokers, name=_NAME, signing_keys=self.signing_keys)
        try:
            await client.connect(self.arguments.connect_timeout)
            yield client
        finally:
            await client.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AMQClient]:
        """
        A connection of its own, for what a client does not do. A channel that
        the broker closes ends only itself.

        :raises CrewError: if there is none in time, or the broker refuses.
        """
        connection = BrokerConnection(self.reactor, self.brokers, _ready, name=_NAME)
        connection.startService()
        ready: Any = connection.when_ready()
        seconds = self.arguments.connect_timeout

        def late(value: object, timeout: float) -> object:
            reason = connection.last_failure or connection.broker
            raise ConnectionLostError(f"no connection to the broker within {seconds:g} s: {reason}")

        try:
            client = await ready.addTimeout(seconds, self.reactor, late)
            client.on_channel_failed = _left_alone
            yield client
        finally:
            await connection.stopService()


async def _ready(client: AMQClient) -> None:
    """There is nothing to prepare."""


def _left_alone(channel: object, failure: object) -> None:
    """Whoever used the channel is told by what it asked there."""
