"""txamqp's factory, building our protocol on our specification."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress
from txamqp.factory import AMQFactory as _AMQFactory
from txamqp.spec import load as load_other

from crew_tx.amqp.delegate import TwistedDelegate
from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.spec import SPEC_PATH, load


class AMQFactory(_AMQFactory):
    """
    Builds :class:`AMQClient` protocols, each with a delegate of its own.

    :param spec: path of another specification file for the methods' names and
        signatures; what goes over the wire is AMQP 0-9-1 always.
    """

    protocol = AMQClient
    noisy = False

    # Upstream's __init__ parses the file for each factory.
    def __init__(self, spec: str | None = None, clock: Any = None) -> None:
        self._spec = load() if spec in (None, SPEC_PATH) else load_other(spec)
        self._clock = clock
        self._vhost = "/"
        self._heartbeat = 0

    def buildProtocol(self, addr: IAddress | None) -> AMQClient:
        client = self.protocol(
            TwistedDelegate(),
            vhost=self._vhost,
            spec=self._spec,
            heartbeat=self._heartbeat,
            clock=self._clock,
        )
        client.factory = self
        return client
