"""``--monitor``: where a worker is watched."""

from __future__ import annotations

import sys

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.cli.monitor import Monitoring, endpoint_of_fork
from crew_tx.cli.notify import Health
from crew_tx.cli.readers import endpoint_that_says_who
from crew_tx.errors import ConfigurationError
from tests.web.asking import ask
from tests.web.test_metrics import WORKER

METRICS = "crew_tx.web.metrics"
LOCAL = "tcp:9464:interface=127.0.0.1"


class EndpointTests(SynchronousTestCase):
    """What the option takes."""

    def test_it_says_who_can_connect(self) -> None:
        """Or is refused with the remedy."""
        for text in (LOCAL, "tcp:9464:interface=0.0.0.0", "unix:/run/crew/monitor.sock"):
            self.assertEqual(text, endpoint_that_says_who(text))
        for text in ("tcp:9464", "tcp:9464:interface=", "tcp:port=1"):
            self.assertRaises(ValueError, endpoint_that_says_who, text)
        self.assertIn("127.0.0.1", str(self.assertRaises(ValueError, endpoint_that_says_who, "tcp:9464")))

    def test_forks_have_a_port_each(self) -> None:
        """From the one that is given."""
        ports = [endpoint_of_fork(LOCAL, number) for number in (1, 2, 3)]
        self.assertEqual([LOCAL.replace("9464", port) for port in ("9464", "9465", "9466")], ports)
        error = self.assertRaises(ConfigurationError, endpoint_of_fork, "unix:/a", 1)
        self.assertIn("--forks", str(error))


class MonitoringTests(SynchronousTestCase):
    """What listens."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.failures: list[tuple[int, str]] = []

    def failed(self, code: int, reason: str) -> None:
        self.failures.append((code, reason))

    def monitoring(self, text: str = LOCAL) -> Monitoring:
        return Monitoring(self.reactor, text)

    def test_it_listens_while_it_runs(self) -> None:
        """Where it was told to."""
        monitoring = self.monitoring()
        monitoring.exposition.add_worker(lambda: WORKER)
        monitor = monitoring.service(lambda: Health(True, "well"), self.failed)
        self.assertEqual([], self.reactor.tcpServers)
        monitor.startService()
        ((port, site, _, interface),) = self.reactor.tcpServers
        self.assertEqual((9464, "127.0.0.1"), (port, interface))
        self.assertEqual(b"well\n", ask(site, "/readyz").body)
        self.assertIn(b"crew_worker_threads 8", ask(site, "/metrics").body)
        self.successResultOf(monitor.stopService())

    def test_calls_are_counted_where_they_are_shown(self) -> None:
        """By what the worker is given."""
        monitoring = self.monitoring()
        monitor = monitoring.service(lambda: Health(True, ""), self.failed)
        observer = monitoring.observer(["a"])
        assert observer is not None
        observer.answered("a", "ok", 0.0, 0.0)
        monitor.startService()
        metrics = ask(self.reactor.tcpServers[0][1], "/metrics").body
        self.assertIn(b'crew_worker_calls_total{outcome="ok",task="a"} 1.0', metrics)

    def test_without_prometheus_client_there_are_no_metrics(self) -> None:
        """The others are served, and the log says what to install."""
        self.addCleanup(sys.modules.__setitem__, METRICS, sys.modules[METRICS])
        sys.modules[METRICS] = None  # type: ignore[assignment]
        monitoring = self.monitoring()
        self.assertIsNone(monitoring.observer(["a"]))
        monitoring.service(lambda: Health(True, ""), self.failed).startService()
        site = self.reactor.tcpServers[0][1]
        self.assertEqual([404, 200], [ask(site, path).status for path in ("/metrics", "/readyz")])

    def test_an_endpoint_that_is_none_is_refused(self) -> None:
        """With the text, and one that is."""
        monitoring = self.monitoring("tcp:1:interface=127.0.0.1:backlog=x")
        error = self.assertRaises(ConfigurationError, monitoring.service, lambda: Health(True, ""), print)
        self.assertIn("tcp:9464", str(error))

    def test_a_port_that_is_taken_is_told(self) -> None:
        """Once."""

        def taken(*arguments: object, **options: object) -> None:
            raise OSError(98, "Address already in use")

        self.patch(self.reactor, "listenTCP", taken)
        monitor = self.monitoring().service(lambda: Health(True, ""), self.failed)
        monitor.startService()
        ((code, reason),) = self.failures
        self.assertEqual(1, code)
        self.assertIn("already in use", reason)
        self.assertIn("--monitor", reason)
        self.successResultOf(monitor.stopService())
