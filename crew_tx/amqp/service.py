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
from typing import Any, Literal, get_args

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
from crew_tx.amqp.login import login_error
from crew_tx.amqp.pacing import RandomNumber, wait_before
from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.refusals import Refusals
from crew_tx.amqp.uri import BrokerURL
from crew_tx.errors import ConnectionLostError, CrewError, InvalidArgumentError

HEARTBEAT = 10
_CLOSE_TIMEOUT = 3.0

Prepare = Callable[[AMQClient], Awaitable[object]]
#: What to do when each broker refuses: ``end``, or ``wait`` for one to take us after all.
OnRefusal = Literal["end", "wait"]


@implementer(IStreamClientEndpoint)
class ReadyEndpoint:
    """
    Connects to several brokers in turn, the next one at each attempt, and makes the connection ready.

    :param make_ready: gives a Deferred that fires when a new connection is
        ready; if it errbacks, the connection is dropped.
    :param first: the number of the broker to begin with.
    :ivar number: that of the broker of the latest attempt.
    """

    def __init__(
        self,
        reactor: Any,
        urls: list[BrokerURL],
        make_ready: Callable[[AMQClient], Deferred[Any]],
        first: int = 0,
    ) -> None:
        self._reactor = reactor
        self._urls = urls
        self._endpoints = [client_endpoint(reactor, url) for url in urls]
        self._make_ready = make_ready
        self._next = self.number = first

    @property
    def current(self) -> BrokerURL:
        """The broker of the latest attempt."""
        return self._urls[self.number]

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        self.number = self._next
        self._next = (self.number + 1) % len(self._urls)
        connecting: Deferred[Any] = self._endpoints[self.number].connect(AMQFactory(clock=self._reactor))
        return connecting.addCallback(self._ready_or_dropped).addCallback(self._hand_over, protocolFactory)

    def stay(self) -> None:
        """This broker serves: try it first when its connection is lost."""
        self._next = self.number

    def go_on(self) -> None:
        """This broker hangs, and would take its time to say nothing again: try the next one first."""
        self._next = (self.number + 1) % len(self._urls)

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
    Keeps one connection to one of several brokers, which are nodes of one cluster.

    It begins with any of them, so that a thousand clients with one list don't
    all sit on its first broker, and goes on in their order.

    A channel that the broker closes ends the connection, unless it is expendable:
    whatever it was for is made anew with the next one, instead of being missing
    without a sound.

    :param prepare: an async function, called with each new connection once it
        is logged in; it counts as connected when that is done.
    :param on_lost: called with the reason when a ready connection ends.
    :param on_refused: called once with the error when trying again would end
        the same way with each broker; not where it waits.
    :param on_refusal: ``end``, or ``wait`` to go on trying all the same.
    :param random_number: from 0 to 1; a test says which.
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
        on_refusal: OnRefusal = "end",
        random_number: RandomNumber = random.random,
    ) -> None:
        if on_refusal not in get_args(OnRefusal):
            raise InvalidArgumentError(f"on_refusal is 'end' or 'wait', not {str(on_refusal)[:40]!r}")
        self._reactor = reactor
        self._prepare = prepare
        self._name = name
        self._heartbeat = heartbeat
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._waits = on_refusal == "wait"
        self._random_number = random_number
        self._refusals = Refusals(len(urls))
        self._is_lost = False
        first = int(random_number() * len(urls))
        self._endpoint = ReadyEndpoint(reactor, urls, self._make_ready, first)
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
        self._is_lost = False
        self._refusals.clear()
        self._clients = ClientService(
            _Reporting(self._endpoint, self._attempt_failed),
            Factory.forProtocol(Protocol),
            retryPolicy=self._wait,
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

    def _wait(self, attempt: int) -> float:
        """Seconds until the next attempt."""
        is_loss, self._is_lost = self._is_lost, False
        return wait_before(
            attempt, is_loss=is_loss, is_refused=self._refusals.are_all, random_number=self._random_number
        )

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
            raise login_error(client, url, error) from None
        await self._prepare(client)
        self._ready(client)

    def _ready(self, client: AMQClient) -> None:
        self._endpoint.stay()
        self.client = client
        self.last_failure = None
        self._refusals.clear()
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
        is_refusal = isinstance(failure.value, FATAL)
        if is_refusal:
            self._refusals.add(self._endpoint.number, error)
            if self._refusals.are_all and not self._waits:
                self._refused(self._refusals.error)
                return
        self.last_failure = self._refusals.error if self._refusals.are_all else error
        if self._refusals.is_news(self._endpoint.number, error):
            text = (
                "{broker} refuses, trying on: {error}"
                if is_refusal
                else "no connection to {broker}, trying on: {error}"
            )
            self.log.warn(text, broker=self.broker, error=str(error))

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
        self._is_lost = True
        if client.is_silent:
            self._endpoint.go_on()
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
