"""Serving ``/metrics``, ``/healthz`` and ``/readyz`` beside a worker or a gateway: ``--monitor``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from crew_tx.cli.listening import endpoint_of, not_listening
from crew_tx.cli.notify import Health
from crew_tx.cli.readers import MONITOR
from crew_tx.errors import ConfigurationError
from crew_tx.interfaces import ICallObserver

#: Takes an exit code and a reason; ends the process.
Failed = Callable[[int, str], object]

_PORT = re.compile(r"(?<=^tcp:)\d+")


def endpoint_of_fork(text: str, number: int) -> str:
    """
    Where one of several processes listens: each on the port behind that of the one before.

    :param number: 1 for the first.
    :raises ConfigurationError: if the endpoint has no port to count from.
    """
    if not _PORT.search(text):
        raise ConfigurationError(f"--monitor: with --forks it takes a tcp endpoint, such as {MONITOR}")
    return _PORT.sub(lambda port: str(int(port[0]) + number - 1), text)


class Monitor(Service):
    """
    Listens while what it tells of is there.

    :param failed: called with an exit code and the reason if it may not listen.
    """

    log = Logger()

    def __init__(self, endpoint: IStreamServerEndpoint, site: Any, failed: Failed) -> None:
        self._endpoint = endpoint
        self._site = site
        self._failed = failed
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        super().startService()
        self._endpoint.listen(self._site).addCallbacks(self._listening, self._refused)

    def stopService(self) -> Deferred[Any]:
        """A Deferred that fires when it listens no more."""
        super().stopService()
        port, self._port = self._port, None
        return succeed(None) if port is None else maybeDeferred(port.stopListening)

    def _listening(self, port: IListeningPort) -> None:
        if not self.running:
            port.stopListening()
            return
        self._port = port
        self.log.info("/metrics, /healthz and /readyz are served on {address}", address=port.getHost())

    def _refused(self, failure: Failure) -> None:
        assert isinstance(failure.value, Exception)
        self._failed(*not_listening(failure.value, f"--monitor {MONITOR}"))


def new_exposition() -> Any:
    """What ``/metrics`` says; None without prometheus-client."""
    try:
        from crew_tx.web.metrics import Exposition
    except ImportError:
        return None
    return Exposition()


class Monitoring:
    """
    The parts of what watches one process, as long as what it does is not there yet.

    :ivar exposition: what ``/metrics`` says; None without prometheus-client.
    """

    log = Logger()

    def __init__(self, reactor: Any, text: str) -> None:
        self._reactor = reactor
        self._text = text
        self.exposition = new_exposition()
        if self.exposition is None:
            self.log.warn("/metrics is not served: install crew_tx[metrics] for it")

    def observer(self, task_ids: Iterable[str]) -> ICallObserver | None:
        """What counts a worker's calls, where that is shown."""
        if self.exposition is None:
            return None
        from crew_tx.web.metrics import CallMetrics

        return CallMetrics(self.exposition.registry, task_ids)

    def service(self, look: Callable[[], Health], failed: Failed) -> Monitor:
        """
        What listens.

        :raises ConfigurationError: if Twisted can't read the endpoint.
        """
        # Not before: a process without it has no use for twisted.web.
        from crew_tx.web.monitoring import monitoring_site

        endpoint = endpoint_of(self._reactor, self._text, "--monitor", MONITOR)
        return Monitor(endpoint, monitoring_site(look, self.exposition), failed)
