"""``twistd crew-gateway`` and ``twist crew-gateway``."""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.failure import Failure

from crew_tx.cli.ending import Ending
from crew_tx.cli.gateway_options import GatewayOptions
from crew_tx.cli.listening import not_listening
from crew_tx.cli.monitor import Monitoring, new_exposition
from crew_tx.cli.notify import Health
from crew_tx.cli.program import Program, new_tracing
from crew_tx.cli.service import service_of
from crew_tx.web.access import Exposed
from crew_tx.web.service import Gateway

Options = GatewayOptions

#: Objects that are made, and not let go of, before Python looks for those that hold each other. With its
#: own 700, and all that is imported looked through again and again, that was a sixth of a gateway's time.
GARBAGE_THRESHOLD = 10_000


class GatewayProgram(Program):
    """A process with a gateway."""

    log = Logger()

    def __init__(self, reactor: Any, ending: Ending, options: GatewayOptions) -> None:
        super().__init__(ending)
        settings = options.settings
        self._options = options
        self._endpoint = options.endpoint(reactor)
        monitoring = None if settings["monitor"] is None else Monitoring(reactor, settings["monitor"])
        self.gateway = Gateway(
            reactor,
            options.brokers,
            options.exposed,
            credentials=options.credentials,
            hosts=options.hosts,
            limits=options.limits,
            show_tracebacks=settings["show-tracebacks"],
            site=settings["wsgi"],
            operators=settings["operator"],
            shows_status=not settings["no-status"],
            reply_queue_type=settings["reply-queue-type"],
            signing_keys=options.signing_keys,
            exposition=new_exposition() if monitoring is None else monitoring.exposition,
            tracing=new_tracing() if settings["tracing"] else None,
            drain=settings["drain"],
            on_fatal=ending.fatal,
        )
        self.gateway.setServiceParent(self)
        if monitoring is not None:
            self.add_monitor(monitoring)

    def startService(self) -> None:
        gc.freeze()
        gc.set_threshold(GARBAGE_THRESHOLD)
        super().startService()
        if not self.ending.stopping:
            self.gateway.listen(self._endpoint).addCallbacks(self._listening, self._not_listening)

    def health(self) -> Health:
        """Well while calls can be made."""
        status = self.gateway.client.status()
        if not status.connected:
            return Health(False, f"no connection to {status.broker}")
        if status.blocked is not None:
            return Health(False, f"{status.broker} takes nothing now")
        return Health(True, f"calls by {status.broker}; {status.pending} pending, {status.answers} answered")

    def _listening(self, port: Any) -> None:
        self.log.info("the gateway listens: {place}", place=_place(port.getHost(), self._options))
        exposed, site = self._options.exposed, self._options.settings["wsgi"]
        if site is not None:
            self.log.info("the site {site} is there for everybody: its application says who may", site=site)
        if site is None and exposed == Exposed():
            self.log.warn("nothing is there for clients; name it by --allow-task and --allow-channel")
        elif exposed != Exposed() and not self._options.credentials:
            self.log.warn("everybody on this machine may use it; --tokens or --users would change that")

    def _not_listening(self, failure: Failure) -> None:
        if not isinstance(failure.value, CannotListenError):
            self.log.failure("the endpoint failed", failure=failure)
        assert isinstance(failure.value, Exception)
        self.ending.fail(*not_listening(failure.value, self._options.elsewhere))


def makeService(options: GatewayOptions) -> GatewayProgram:
    """The gateway that the options ask for."""
    return service_of(
        options,
        lambda reactor, ending: GatewayProgram(reactor, ending, options),
        awaits="requests under way have ended",
    )


def _place(address: Any, options: GatewayOptions) -> str:
    """Where a client goes."""
    if not hasattr(address, "host"):
        return str(address)
    scheme = "https" if options.settings["listen"].startswith(("ssl:", "tls:")) else "http"
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{scheme}://{host}:{address.port}/"
