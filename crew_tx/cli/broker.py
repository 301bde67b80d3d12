"""``twistd crew-broker`` and ``twist crew-broker``."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from crew_tx.amqp.uri import BrokerURL
from crew_tx.broker import Broker, BrokerService
from crew_tx.cli.broker_options import ELSEWHERE, GUEST, BrokerOptions
from crew_tx.cli.ending import Ending
from crew_tx.cli.listening import not_listening
from crew_tx.cli.program import Program
from crew_tx.cli.service import service_of

Options = BrokerOptions


class BrokerProgram(Program):
    """A process with a broker."""

    log = Logger()

    def __init__(self, reactor: Any, ending: Ending, options: BrokerOptions) -> None:
        super().__init__(ending)
        settings = options.settings
        self._options = options
        self.broker = BrokerService(
            reactor,
            options.endpoint(reactor),
            Broker(
                {settings["user"]: options.password},
                settings["vhost"],
                memory_limit=settings["memory-limit"],
            ),
            on_fatal=self._not_listening,
            heartbeat=settings["heartbeat"],
            max_message_size=settings["max-message-size"],
        )
        self.broker.setServiceParent(self)

    def startService(self) -> None:
        super().startService()
        if self.ending.stopping:
            return
        self.broker.listen().addCallback(self._listening)

    def _listening(self, port: Any) -> None:
        self.log.info("the broker listens: {url}", url=self._url(port.getHost()))
        self.log.info("it is for development, and keeps nothing when it ends; production runs on RabbitMQ")

    def _url(self, address: Any) -> str:
        """What a client connects to; guest's password is everybody's, and no other is shown."""
        if not hasattr(address, "host"):
            return str(address)
        settings = self._options.settings
        url = BrokerURL(address.host, address.port, settings["user"], vhost=settings["vhost"][0])
        is_default = (settings["user"], self._options.password) == (GUEST, GUEST)
        # A URL with a user and no password has an empty one.
        return str(url).replace(f"{GUEST}@", "", 1) if is_default else str(url)

    def _not_listening(self, error: Exception) -> None:
        self.ending.fail(*not_listening(error, ELSEWHERE, "a RabbitMQ or another crew-broker may be"))


def makeService(options: BrokerOptions) -> BrokerProgram:
    """The broker that the options ask for."""
    return service_of(
        options,
        lambda reactor, ending: BrokerProgram(reactor, ending, options),
        awaits="all connections are closed",
    )
