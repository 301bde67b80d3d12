"""
A connection that comes back.

Twisted's ``ClientService`` does the reconnecting. It is given connections that
are ready already: logged in, tuned, their virtual host open, and prepared by
their owner. (Its ``prepareConnection`` would be the place for that, but a
connection that is lost while it runs raises ``NoTransition`` out of the
reactor, in every release so far.)
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.application.internet import ClientService
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import Closed
from zope.interface import implementer

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.endpoint import CONNECT_TIMEOUT, client_endpoint
from crew_tx.amqp.errors import FATAL, translated
from crew_tx.amqp.factory import AMQFactory
from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.uri import BrokerURL
from crew_tx.errors import AccessRefusedError, AuthenticationError, ConnectionLostError, CrewError

HEARTBEAT = 10
SHORTEST_WAIT = 0.5
LONGEST_WAIT = 5.0
_CLOSE_TIMEOUT = 3.0

Prepare = Callable[[AMQClient], Awaitable[object]]


def backoff(attempt: int, random_number: Callable[[], float] = random.random) -> float:
    """Seconds to wait before the next attempt: up to 0.5 s, doubling up to 5 s, with full jitter."""
    longest: float = min(LONGEST_WAIT, SHORTEST_WAIT * 2 ** min(attempt - 1, 10))
    return longest * random_number()


@implementer(IStreamClientEndpoint)
class ReadyEndpoint:
    """
    Connects to several brokers in turn, the next one at each attempt, and makes the connection ready.

    :param make_ready: gives a Deferred that fires when a new connection is
        ready; if it errbacks, the connection is dropped.
    :ivar current: the broker of the latest attempt.
    """

    def __init__(
        self, reactor: Any, urls: list[BrokerURL], make_ready: Callable[[AMQClient], Deferred[Any]]
    ) -> None:
        self._reactor = reactor
        self._urls = urls
        self._endpoints = [client_endpoint(reactor, url) for url in urls]
        self._make_ready = make_ready
        self._next = 0
        self.current = urls[0]

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        index = self._next
        self._next = (index + 1) % len(self._urls)
        self.current = self._urls[index]
        connecting: Deferred[Any] = self._endpoints[index].connect(AMQFactory(clock=self._reactor))
        return connecting.addCallback(self._ready_or_dropped).addCallback(self._hand_over, protocolFactory)

    def stay(self) -> None:
        """This broker serves: try it first when its connection is lost."""
        self._next = self._urls.index(self.current)

    def _ready_or_dropped(self, client: AMQClient) -> Deferred[AMQClient]:
        ready = self._make_ready(client).addTimeout(CONNECT_TIMEOUT, self._reactor)

        def drop(failure: Failure) -> Failure:
            client.transport.abortConnection()
            return failure

        return ready.addCallbacks(lambda _: client, drop)

    def _hand_over(self, client: AMQClient, factory: IProtocolFactory) -> IProtocol:
        """What the service watches: it is lost when the connection is."""
        if client.closed:
            raise translated(client.reason)
        watched = factory.buildProtocol(client.transport.getPeer())
        assert watched is not None
        watched.makeConnection(client.transport)
        client.disconnected.wait().addCallback(
            lambda _: watched.connectionLost(Failure(translated(client.reason)))
        )
        return watched


class BrokerConnection(Service):
    """
    Keeps one connection to one of several brokers.

    A channel that the broker closes ends the connection, unless it is expendable:
    whatever it was for is made anew with the next one, instead of being missing
    without a sound.

    :param prepare: an async function, called with each new connection once it
        is logged in; it counts as connected when that is done.
    :param on_lost: called with the reason when a ready connection ends.
    :param on_refused: called once with the error when trying again would end the same way.
    :ivar client: the connection while it is ready.
    :ivar refusal: the broker's final refusal, if it came to that.
    :ivar last_failure: why the latest attempt failed; None once one succeeded.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        urls: list[BrokerURL],
        prepare: Prepare,
        *,
        name: str = "",
        heartbeat: int = HEARTBEAT,
        on_lost: Callable[[CrewError], object] = lambda reason: None,
        on_refused: Callable[[CrewError], object] = lambda error: None,
    ) -> None:
        self._reactor = reactor
        self._prepare = prepare
        self._name = name
        self._heartbeat = heartbeat
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._endpoint = ReadyEndpoint(reactor, urls, self._make_ready)
        self._clients: ClientService | None = None
        self._waiters: list[Deferred[AMQClient]] = []
        self.client: AMQClient | None = None
        self.refusal: CrewError | None = None
        self.last_failure: CrewError | None = None

    @property
    def broker(self) -> str:
        """The broker in use, or tried last, for people."""
        return str(self._endpoint.current)

    @property
    def is_ready(self) -> bool:
        """Whether there is a connection, and it is not about to end."""
        return self.client is not None and not self.client.closed

    def startService(self) -> None:
        super().startService()
        self.refusal = None
        self._clients = ClientService(
            _Reporting(self._endpoint, self._attempt_failed),
            Factory.forProtocol(Protocol),
            retryPolicy=backoff,
            clock=self._reactor,
        )
        self._clients.startService()

    def stopService(self) -> Deferred[Any]:
        """A Deferred that fires when the connection has ended; one that is not answered is cut."""
        super().stopService()
        self._fail_waiters(ConnectionLostError("the connection was closed here"))
        clients, self._clients = self._clients, None
        if clients is None:
            return succeed(None)
        client, self.client = self.client, None
        closed: Deferred[Any] = succeed(None) if client is None else client.close(within=_CLOSE_TIMEOUT)
        return closed.addCallback(lambda _: clients.stopService())

    def when_ready(self) -> Deferred[AMQClient]:
        """A Deferred of the next ready connection; errbacks if the broker refuses us for good, or on stop."""
        if self.client is not None and not self.client.closed:
            return succeed(self.client)
        if self.refusal is not None:
            return fail(self.refusal)
        waiter: Deferred[AMQClient] = Deferred(self._forget_waiter)
        self._waiters.append(waiter)
        return waiter

    def _forget_waiter(self, waiter: Deferred[AMQClient]) -> None:
        # It may be among those that are being told just now.
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def _make_ready(self, client: AMQClient) -> Deferred[None]:
        url = self._endpoint.current
        client.vhost = url.vhost
        client.client_properties["connection_name"] = self._name
        client.propose_heartbeat(self._heartbeat if url.heartbeat is None else url.heartbeat)
        return Deferred.fromCoroutine(self._log_in(client, url))

    async def _log_in(self, client: AMQClient, url: BrokerURL) -> None:
        try:
            await client.authenticate(url.username, url.password, mechanism=url.mechanism)
        except Closed as error:
            raise _login_error(client, url, error) from None
        await self._prepare(client)
        self._ready(client)

    def _ready(self, client: AMQClient) -> None:
        self._endpoint.stay()
        self.client = client
        self.last_failure = None
        client.on_channel_failed = _channel_failed
        client.disconnected.wait().addCallback(lambda _: self._lost(client))
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(client)

    def _attempt_failed(self, failure: Failure) -> None:
        if self._clients is None or failure.check(CancelledError):
            return
        if failure.check(DeferredTimeoutError):
            failure = Failure(ConnectionLostError(f"not ready within {CONNECT_TIMEOUT:g} s"))
        error = translated(failure, self.broker)
        # What came to us as a closed channel is not: its cause may be a message, or pass.
        if isinstance(failure.value, FATAL):
            self._refused(error)
            return
        if str(error) != str(self.last_failure):
            self.log.warn(
                "no connection to {broker}, trying on: {error}", broker=self.broker, error=str(error)
            )
        self.last_failure = error

    def _refused(self, error: CrewError) -> None:
        self.refusal = error
        clients, self._clients = self._clients, None
        if clients is not None:
            clients.stopService()
        self._fail_waiters(error)
        self._on_refused(error)

    def _lost(self, client: AMQClient) -> None:
        if self.client is not client:
            return
        self.client = None
        reason = translated(client.reason)
        self.log.warn("the connection to {broker} was lost: {reason}", broker=self.broker, reason=str(reason))
        self._on_lost(reason)

    def _fail_waiters(self, error: CrewError) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.errback(error)


@implementer(IStreamClientEndpoint)
class _Reporting:
    """Tells of each attempt that failed, which ``ClientService`` itself keeps quiet about."""

    def __init__(self, endpoint: IStreamClientEndpoint, failed: Callable[[Failure], object]) -> None:
        self._endpoint = endpoint
        self._failed = failed

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        def report(failure: Failure) -> Failure:
            self._failed(failure)
            return failure

        return self._endpoint.connect(protocolFactory).addErrback(report)


def _channel_failed(channel: AMQChannel, failure: Failure) -> None:
    if not channel.is_expendable:
        channel.client.fail(translated(failure, "using a channel"))


def _login_error(client: AMQClient, url: BrokerURL, error: Closed) -> CrewError:
    refused = translated(error, f"logging in to {url}")
    if isinstance(refused, AccessRefusedError) and not client.logged_in:
        return AuthenticationError(
            f"{url} refused the user {url.username!r} ({url.mechanism}); mend the name or the password: "
            f"{refused.reply_text}",
            reply_code=refused.reply_code,
            reply_text=refused.reply_text,
        )
    return refused
