"""The gateway as a Twisted service: its client, its site, and where it listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from crew_tx.amqp.inspection import Depth, Inspector
from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.service import BrokerConnection
from crew_tx.amqp.uri import BrokerURL
from crew_tx.client import Client
from crew_tx.errors import ConnectionLostError, CrewError
from crew_tx.interfaces import IRequestTracing
from crew_tx.signing import SigningKeys
from crew_tx.topology import QueueType
from crew_tx.web.access import NO_CREDENTIALS, Credentials, Exposed
from crew_tx.web.bodies import Bodies
from crew_tx.web.calls import CallEndpoint, Calls
from crew_tx.web.celery import ApplyEndpoint, Front, TasksEndpoint
from crew_tx.web.channels import Channels
from crew_tx.web.depths import Depths
from crew_tx.web.events import PublishEndpoint, SubscribeEndpoint
from crew_tx.web.gate import Gate
from crew_tx.web.letters import DeadLetters
from crew_tx.web.limits import DEFAULT_LIMITS, Limits
from crew_tx.web.monitoring import IGatewayExposition, monitoring_resources
from crew_tx.web.operators import Operators
from crew_tx.web.orders import Orders
from crew_tx.web.overview import Overview
from crew_tx.web.results import ResultEndpoint, Results
from crew_tx.web.site import ANYWHERE, GatewaySite, Part
from crew_tx.web.sites import SiteResource
from crew_tx.web.status import OverviewEndpoint, PageEndpoint
from crew_tx.web.traffic import GatewayStatus, Traffic


class Gateway(Service):
    """
    Serves calls and events over HTTP.

    :param brokers: tried in turn.
    :param exposed: what may be called, published to and subscribed to.
    :param hosts: as :class:`Gate` takes them.
    :param site: the name of a site whose WSGI application workers run; it has
        ``/`` and all paths that are of nothing else. Where nothing is exposed,
        these are all.
    :param reply_queue_type: as :class:`Client` takes it.
    :param signing_keys: as :class:`Client` takes them.
    :param exposition: serves ``/metrics``, for which requests are counted then;
        None for neither.
    :param tracing: makes spans of requests and calls.
    :param operators: names of credentials that may look at workers and give them orders.
    :param shows_status: whether there is a status page.
    :param drain: seconds that requests have to end in when it stops.
    :param on_fatal: called with the error when the broker refuses it for good.
    :ivar client: what calls are made with.
    :ivar calls: makes them for requests.
    :ivar front: ``/``; a page for browsers can be put into it.
    :ivar site: what connections are made for; parts can be added.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        brokers: list[BrokerURL],
        exposed: Exposed,
        *,
        credentials: Credentials = NO_CREDENTIALS,
        hosts: frozenset[str] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        show_tracebacks: bool = False,
        site: str | None = None,
        reply_queue_type: QueueType = "classic",
        signing_keys: SigningKeys | None = None,
        exposition: IGatewayExposition | None = None,
        tracing: IRequestTracing | None = None,
        operators: tuple[str, ...] = (),
        shows_status: bool = True,
        drain: float = 10.0,
        on_fatal: Callable[[CrewError], object] = lambda error: None,
    ) -> None:
        self._reactor = reactor
        self._drain = drain
        self._signing_keys = signing_keys
        self._ports: list[IListeningPort] = []
        self.limits = limits
        self.client = Client(
            reactor,
            brokers,
            name="gateway",
            max_message_size=limits.max_body,
            reply_queue_type=reply_queue_type,
            signing_keys=signing_keys,
            tracing=tracing,
        )
        self._looking = BrokerConnection(
            reactor, brokers, self._inspect, name="gateway-inspection", on_refused=on_fatal
        )
        self._inspector: Inspector | None = None
        self._looks = DeferredLock()
        self.bodies = Bodies(self._in_thread, limits.max_body)
        self.results = Results(reactor, self.bodies, limits, show_tracebacks=show_tracebacks)
        self.depths = Depths(reactor, self._depth)
        self.calls = Calls(self.client, exposed, self.depths, self.bodies, self.results, limits)
        self.channels = Channels(reactor, self.client, self.bodies, limits)
        self.front = Front(self.calls, exposed)
        parts = self._api_parts(exposed, show_tracebacks)
        self.overview = Overview(reactor, self.client, self._depth_or_error)
        if shows_status:
            self.front.page = PageEndpoint(credentials)
            parts += self._status_parts(Operators(operators, any_credential=bool(credentials)))
        parts += self._watching_parts(exposition)
        if site is not None:
            own = parts if exposed.tasks or exposed.channels else []
            parts = [*self._site_parts(site), *own]
        self.site = GatewaySite(reactor, parts, Gate(credentials, hosts, limits.max_body), limits)
        self.site.tracing = tracing
        self.traffic = Traffic(exposed.named_tasks)
        if exposition is not None:
            self.site.traffic = self.calls.traffic = self.traffic
            exposition.add_gateway(self.status)
            exposition.add_client(self.client.status)

    def status(self) -> GatewayStatus:
        """A snapshot of what it does."""
        return GatewayStatus(
            connections=len(self.site.connections),
            results=len(self.results),
            channels=len(self.channels),
            listeners=self.channels.listeners,
            traffic=self.traffic,
        )

    def readiness(self) -> tuple[bool, str]:
        """Whether calls can be made, and why not, for everybody to read: nothing of the inside is in it."""
        status = self.client.status()
        if not status.connected:
            return False, "no connection to the broker"
        if status.blocked is not None:
            return False, "the broker takes nothing now"
        return True, "ready"

    def _api_parts(self, exposed: Exposed, show_tracebacks: bool) -> list[Part]:
        """Calls, kept answers and events."""
        return [
            Part("call", CallEndpoint(self.calls, show_tracebacks=show_tracebacks)),
            Part("results", ResultEndpoint(self.results, self.bodies, self.limits.max_wait)),
            Part("", self.front),
            Part("apply", ApplyEndpoint(self.calls, waits=True)),
            Part("apply-async", ApplyEndpoint(self.calls, waits=False)),
            Part("tasks", TasksEndpoint(self.calls)),
            Part("publish", PublishEndpoint(self.client, exposed, self.bodies)),
            Part("subscribe", SubscribeEndpoint(self.channels, exposed, self.bodies, self.limits)),
        ]

    def _watching_parts(self, exposition: IGatewayExposition | None) -> list[Part]:
        """For probes and Prometheus; only the figures ask who reads them."""
        resources = monitoring_resources(self.readiness, exposition)
        return [
            Part(path, each, is_open=path != "metrics", is_brief=True) for path, each in resources.items()
        ]

    def _status_parts(self, operators: Operators) -> list[Part]:
        overview = OverviewEndpoint(
            self._reactor,
            self.overview,
            Orders(self.client),
            operators,
            DeadLetters(self._reactor, self._looking, self._signing_keys),
            self.limits.slow_reader,
        )
        return [Part("status", self.front.page, is_open=True, is_brief=True), Part("overview", overview)]

    async def _depth_or_error(self, queue: str) -> Depth | None:
        """As :meth:`_depth`, where that it can't be known is to be told."""
        if not self._looking.is_ready:
            raise ConnectionLostError("there is no connection to the broker to look into queues by")
        return await self._depth(queue)

    def _site_parts(self, site: str) -> list[Part]:
        """All paths that are no others', with the first one of all."""
        application = SiteResource(self.calls, site, self.limits.max_wait)
        # It says itself who may do what, and for which other sites it is there.
        return [Part(path, application, is_open=True, is_foreign=True) for path in ("", ANYWHERE)]

    def startService(self) -> None:
        super().startService()
        self.client.startService()
        self._looking.startService()

    def listen(self, endpoint: IStreamServerEndpoint) -> Deferred[IListeningPort]:
        """
        Listen, as one of several places maybe, until it is stopped.

        :returns: a Deferred of the port; errbacks with what the endpoint says, as :class:`CannotListenError`.
        """
        listening: Deferred[Any] = maybeDeferred(endpoint.listen, self.site)
        return listening.addCallback(self._listening)

    def stopService(self) -> Deferred[None]:
        """A Deferred that fires when all is closed; requests under way have their time to end before."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            await maybeDeferred(port.stopListening)
        self.site.stop()
        # These would wait for events for ever.
        self.channels.stop()
        self.overview.stop()
        await self.site.idle(self._drain)
        self.results.stop()
        await self.site.drop_all()
        await self._looking.stopService()
        await self.client.close()

    def _listening(self, port: IListeningPort) -> IListeningPort:
        self._ports.append(port)
        return port

    async def _inspect(self, client: AMQClient | None) -> None:
        self._inspector = None if client is None else Inspector(client)

    async def _depth(self, queue: str) -> Depth | None:
        # One at a time: a queue that is not there closes the channel.
        await self._looks.acquire()
        try:
            if self._inspector is None or not self._looking.is_ready:
                return None
            return await self._inspector.depth(queue)
        finally:
            self._looks.release()

    def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *arguments)
