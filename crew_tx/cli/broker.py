"""``twistd crew-broker`` and ``twist crew-broker``."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from crew_tx.amqp.uri import BrokerURL
from crew_tx.broker import Broker, BrokerService
from crew_tx.cli.broker_options import ELSEWHERE, GUEST, BrokerOptions
from crew_tx.cli.ending import FAILED, REFUSED, Ending
from crew_tx.cli.program import Program
from crew_tx.cli.worker import share_logging
from crew_tx.errors import CrewError

Options = BrokerOptions

_REMEDIES = {
    errno.EADDRINUSE: (
        FAILED,
        f"a RabbitMQ or another crew-broker may be there: end it, or listen elsewhere, as by {ELSEWHERE}",
    ),
    errno.EACCES: (REFUSED, f"take a port above 1023, as by {ELSEWHERE}"),
    errno.EADDRNOTAVAIL: (REFUSED, f"give an address of this machine, as by {ELSEWHERE}"),
}


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
        number = getattr(getattr(error, "socketError", None), "errno", None)
        code, remedy = _REMEDIES.get(number or 0, (FAILED, f"try {ELSEWHERE}"))
        self.ending.fail(code, f"can't listen on {_place(error)}; {remedy}")


def makeService(options: BrokerOptions) -> BrokerProgram:
    """The broker that the options ask for."""
    # Only now: an option of twistd or twist may have installed another one.
    from twisted.internet import reactor

    ending = Ending(reactor, options.program, awaits="all connections are closed")
    ending.set_code_at_exit()
    try:
        program = BrokerProgram(reactor, ending, options)
    except CrewError as error:
        options.refuse(str(error))
    if options.parent is not None:
        program.observer = share_logging(options, options.parent)
    return program


def _place(error: Exception) -> str:
    if not isinstance(error, CannotListenError):
        return f"its endpoint: {error}"
    text = getattr(error.socketError, "strerror", None) or str(error.socketError)
    return f"{error.interface or 'any address'}, port {error.port}: {text}"
