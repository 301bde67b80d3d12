"""
A worker's, a client's and a gateway's metrics, as Prometheus reads them.

What a snapshot says is read from one when Prometheus asks; only durations are
counted call by call. Labels are bounded: a task is one that the worker has, or
``(unknown)``. Names and units follow Prometheus' own rules: seconds, ``_total``
for what only grows, one prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from zope.interface import implementer

from crew_tx._version import __version__
from crew_tx.interfaces import ICallObserver
from crew_tx.signing import Reason
from crew_tx.status import ClientStatus, WorkerStatus
from crew_tx.web.traffic import BUCKETS as GATEWAY_BUCKETS
from crew_tx.web.traffic import GatewayStatus, Route

#: The task of calls that the worker has none for: their ids are callers' own, and so without bound.
UNKNOWN = "(unknown)"
#: Seconds: from a task that only looks something up to one that builds a report.
BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


@dataclass(frozen=True, slots=True)
class _Figure:
    """
    One figure of a snapshot.

    :ivar grows: whether it only ever does.
    """

    name: str
    help: str
    read: Callable[..., float]
    grows: bool = False

    def family(self, status: object) -> Metric:
        family = CounterMetricFamily if self.grows else GaugeMetricFamily
        metric: Metric = family(self.name, self.help, value=self.read(status))
        return metric


_WORKER = (
    _Figure("crew_worker_connected", "Whether it has a connection to its broker", lambda s: s.connected),
    _Figure("crew_worker_paused", "Whether it was told to take no calls", lambda s: s.paused),
    _Figure("crew_worker_draining", "Whether it is about to end", lambda s: s.draining),
    _Figure("crew_worker_calls_in_progress", "Calls that run now", lambda s: s.in_progress),
    _Figure("crew_worker_calls_held", "Calls that it took and did not start yet", lambda s: s.held),
    _Figure("crew_worker_calls_abandoned", "Not run: their callers were gone", lambda s: s.abandoned, True),
    _Figure("crew_worker_replies_unconfirmed", "Replies that it keeps", lambda s: s.unconfirmed_replies),
    _Figure("crew_worker_threads", "Tasks that it can run at once", lambda s: s.pool.size),
    _Figure("crew_worker_threads_busy", "Threads that run a task", lambda s: s.pool.busy),
    _Figure("crew_worker_threads_stuck", "Threads that did not end at a limit", lambda s: len(s.pool.stuck)),
    _Figure("crew_worker_threads_replaced", "Threads ever given up", lambda s: s.pool.replaced, True),
    _Figure("crew_worker_start_time_seconds", "When it was started, since 1970", lambda s: s.started),
)

_CLIENT = (
    _Figure("crew_client_connected", "Whether it has a connection to its broker", lambda s: s.connected),
    _Figure("crew_client_blocked", "Whether the broker takes nothing now", lambda s: s.blocked is not None),
    _Figure("crew_client_calls_pending", "Calls without an outcome", lambda s: s.pending),
    _Figure("crew_client_messages_waiting", "Messages that wait to be written", lambda s: s.waiting),
    _Figure("crew_client_messages_unconfirmed", "Messages not confirmed yet", lambda s: s.unconfirmed),
    _Figure("crew_client_calls", "Calls made", lambda s: s.calls, True),
    _Figure("crew_client_answers", "Calls that ended with a result", lambda s: s.answers, True),
    _Figure("crew_client_errors", "Calls that ended with an error", lambda s: s.errors, True),
    _Figure("crew_client_late_replies", "Replies to calls that had ended", lambda s: s.late_replies, True),
    _Figure("crew_client_duplicate_replies", "Second replies", lambda s: s.duplicate_replies, True),
    _Figure("crew_client_undecodable", "Messages that could not be read", lambda s: s.undecodable, True),
)

_GATEWAY = (
    _Figure("crew_gateway_connections", "HTTP connections", lambda s: s.connections),
    _Figure("crew_gateway_results_kept", "Answers that can be asked for, or will be", lambda s: s.results),
    _Figure("crew_gateway_channels", "Channels that it is subscribed to", lambda s: s.channels),
    _Figure("crew_gateway_listeners", "Long polls and streams of events", lambda s: s.listeners),
)


class Exposition:
    """
    What ``/metrics`` says of one process.

    :ivar registry: what further metrics of the process can be registered with.
    """

    content_type = CONTENT_TYPE_LATEST.encode()

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def add_worker(self, status: Callable[[], WorkerStatus]) -> None:
        """Tell of a worker."""
        self.registry.register(_Snapshots(_WORKER, status, _about_worker))

    def add_client(self, status: Callable[[], ClientStatus]) -> None:
        """Tell of a client."""
        self.registry.register(_Snapshots(_CLIENT, status, _about_client))

    def add_gateway(self, status: Callable[[], GatewayStatus]) -> None:
        """Tell of a gateway."""
        self.registry.register(_Snapshots(_GATEWAY, status, _about_gateway))

    def text(self) -> bytes:
        """It all, in Prometheus' text format."""
        return generate_latest(self.registry)


@implementer(ICallObserver)
class CallMetrics:
    """
    Counts a worker's calls, by task and outcome.

    :param task_ids: the tasks that it has.
    """

    def __init__(self, registry: CollectorRegistry, task_ids: Iterable[str]) -> None:
        self._calls = Counter(
            "crew_worker_calls", "Calls answered, by outcome", ["task", "outcome"], registry=registry
        )
        waits = _histogram("crew_worker_call_wait_seconds", "From arrival to start", registry)
        durations = _histogram("crew_worker_call_duration_seconds", "From start to answer", registry)
        # All at once: so they are there before the first call, and no call looks for them by label.
        self._by_task = {
            task_id: (waits.labels(task_id), durations.labels(task_id)) for task_id in (*task_ids, UNKNOWN)
        }

    def answered(self, task_id: str, outcome: str, waited: float, ran: float) -> None:
        if task_id not in self._by_task:
            task_id = UNKNOWN
        waits, durations = self._by_task[task_id]
        self._calls.labels(task_id, outcome).inc()
        waits.observe(waited)
        durations.observe(ran)


class _Snapshots(Collector):
    """
    Figures of a snapshot that is taken when they are asked for.

    :param about: says which process it is, where it has more to say than figures.
    """

    def __init__(
        self,
        figures: Iterable[_Figure],
        status: Callable[[], Any],
        about: Callable[[Any], Iterable[Metric]] = lambda status: (),
    ) -> None:
        self._figures = figures
        self._status = status
        self._about = about

    def describe(self) -> Iterable[Metric]:
        """None: the registry would take a snapshot to find out."""
        return ()

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        yield from self._about(status)
        for figure in self._figures:
            yield figure.family(status)


def _about_worker(status: WorkerStatus) -> Iterable[Metric]:
    about = {"worker": status.worker_id, "name": status.name, "version": __version__}
    info = InfoMetricFamily("crew_worker", "Which worker it is", about)
    return [info, _refused("crew_worker_messages_refused", status.refused)]


def _about_client(status: ClientStatus) -> Iterable[Metric]:
    return [_refused("crew_client_messages_refused", status.refused)]


def _refused(name: str, counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, "Messages refused for their signatures", labels=["reason"])
    # All of them, from the start: Prometheus sees no increase in what was not there before.
    for reason in get_args(Reason):
        family.add_metric([reason], counts.get(reason, 0))
    return family


def _about_gateway(status: GatewayStatus) -> Iterable[Metric]:
    routes = status.traffic.routes
    requests = CounterMetricFamily(
        "crew_gateway_requests", "Requests answered", labels=["route", "method", "status"]
    )
    running = GaugeMetricFamily("crew_gateway_requests_in_progress", "Requests under way", labels=["route"])
    durations = HistogramMetricFamily(
        "crew_gateway_request_duration_seconds", "From a whole request to its answer", labels=["route"]
    )
    calls = CounterMetricFamily(
        "crew_gateway_calls", "Calls that ended, by outcome", labels=["task", "outcome"]
    )
    for name, route in routes.items():
        running.add_metric([name], route.in_progress)
        for (method, code), count in route.answered.items():
            requests.add_metric([name, method, str(code)], count)
        if route.buckets:
            durations.add_metric([name], _cumulative(route), route.seconds)
    for labels, count in status.traffic.calls.items():
        calls.add_metric(labels, count)
    about = InfoMetricFamily("crew_gateway", "Which gateway it is", {"version": __version__})
    return [about, requests, running, durations, calls]


def _cumulative(route: Route) -> list[tuple[str, float]]:
    bounds = (*map(str, GATEWAY_BUCKETS), "+Inf")
    return list(zip(bounds, accumulate(route.buckets), strict=True))


def _histogram(name: str, text: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(name, text, ["task"], buckets=BUCKETS, registry=registry)
