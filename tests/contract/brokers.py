"""
The three brokers that every contract test runs against.

A test is an ``async def`` method of a :class:`Behaviour`, and
:func:`on_each_broker` makes a test case of each behaviour for each broker: the
embedded one in memory, where the test moves the clock; the embedded one on a
loopback socket; and a private RabbitMQ, whose answers are the right ones.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from twisted.internet import reactor, task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase
from txamqp.client import ChannelClosed

from crew_tx.amqp import AMQClient, AMQFactory
from crew_tx.broker import Broker, BrokerService
from crew_tx.testing.memory import LOOPBACK, MemoryReactor
from crew_tx.testing.rabbitmq import RabbitMQError, shared_node
from tests.contract.conversations import Conversation
from tests.contract.plain import Version, version_of
from tests.contract.wires import RawClient

#: Seconds of a memory broker's clock, and of a real one's test.
_LIMIT = 60.0
_STEP = 0.01
#: Seconds for the end of a connection.
_CLOSE = 2.0
_LOCKED = 405

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object


class Behaviour(_Base):
    """
    What a broker does, as tests that know nothing of which broker it is.

    :cvar variant: which of the three it runs against.
    :cvar version: of the RabbitMQ whose ways it has.
    :ivar clock: an ``IReactorTime`` that the broker's time is the same as.
    :ivar port: where it listens.
    """

    variant = ""
    version: Version = (3, 10, 8)
    maxDiff = None
    clock: Any
    port: int

    # -- given by the variant --------------------------------------------------------------

    def raise_alarm(self) -> None:
        """Let the broker be short of memory."""
        raise NotImplementedError

    def clear_alarm(self) -> None:
        """Let it have memory again."""
        raise NotImplementedError

    # -- for tests ---------------------------------------------------------------------------

    @property
    def is_rabbitmq(self) -> bool:
        """Whether this is the broker that is right: for tests that pin a difference."""
        return self.variant == "rabbitmq"

    def since(self, *version: int) -> bool:
        """Whether it does as this version of RabbitMQ or a later one: for tests that pin what has changed."""
        return self.version >= version

    def name(self, kind: str = "queue") -> str:
        """A name that no other test has; a queue or an exchange of it is deleted after the test."""
        name = f"contract.{kind}.{uuid4().hex[:8]}"
        self._names.append(name)
        return name

    async def client(
        self,
        *,
        username: str = "guest",
        password: str = "guest",
        vhost: str = "/",
        mechanism: str = "PLAIN",
        change: Callable[[AMQClient], object] = lambda client: None,
    ) -> AMQClient:
        """
        A connection that is logged in.

        :param change: changes the client before it logs in.
        """
        factory = AMQFactory(clock=self.clock)
        factory.set_vhost(vhost)
        client: AMQClient = await TCP4ClientEndpoint(self.clock, LOOPBACK, self.port).connect(factory)
        self._clients.append(client)
        change(client)
        await client.authenticate(username, password, mechanism=mechanism)
        return client

    async def talk(self, client: AMQClient | None = None, *, confirms: bool = True) -> Conversation:
        """A channel, on a connection of its own if none is given; with confirms."""
        client = await self.client() if client is None else client
        channel: Any = await client.open_channel()
        if confirms:
            await channel.confirm_select()
        return Conversation(self.clock, client, channel, self.name)

    async def raw(self) -> RawClient:
        """A connection that says nothing of its own accord."""
        endpoint = TCP4ClientEndpoint(self.clock, LOOPBACK, self.port)
        raw: RawClient = await connectProtocol(endpoint, RawClient(self.clock))
        self._raws.append(raw)
        return raw

    # -- set-up --------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._names: list[str] = []
        self._clients: list[AMQClient] = []
        self._raws: list[RawClient] = []

    async def _close_clients(self) -> None:
        for client in self._clients:
            await client.close(within=_CLOSE)
        for raw in self._raws:
            raw.drop()


class _Embedded(Behaviour):
    """The embedded broker, on whatever reactor ``clock`` is."""

    async def _listen(self) -> None:
        self._begin()
        self.broker = Broker()
        self.service = BrokerService(
            self.clock, TCP4ServerEndpoint(self.clock, 0, interface=LOOPBACK), self.broker
        )
        self.service.startService()
        self.port = (await self.service.listen()).getHost().port

    async def _stop(self) -> None:
        await self._close_clients()
        await self.service.stopService()

    def raise_alarm(self) -> None:
        self.broker.raise_alarm("memory")

    def clear_alarm(self) -> None:
        self.broker.clear_alarm("memory")


class InMemory(_Embedded, SynchronousTestCase):
    """Nothing but a clock that is moved: each test runs the same every time."""

    variant = "memory"

    def setUp(self) -> None:
        self.clock = MemoryReactor()
        self.waits_for(self._listen())
        self.addCleanup(self._end)

    def _end(self) -> None:
        self.waits_for(self._stop())
        self.clock.advance(_CLOSE)
        self.assertEqual(self.clock.getDelayedCalls(), [], "a delayed call is left")

    def waits_for(self, coroutine: Any) -> None:
        """Move the clock until a coroutine is done."""
        results: list[object] = []
        Deferred.fromCoroutine(coroutine).addBoth(results.append)
        limit = self.clock.seconds() + _LIMIT
        while not results and self.clock.seconds() < limit:
            self.clock.advance(_STEP)
        [result] = results
        if isinstance(result, Failure):
            result.raiseException()


class OnASocket(_Embedded, TestCase):
    """The same broker, with the kernel between."""

    variant = "socket"
    timeout = _LIMIT

    def setUp(self) -> Deferred[None]:
        self.clock = reactor
        # Twisted's older trial does not wait for coroutines.
        self.addCleanup(lambda: Deferred.fromCoroutine(self._stop()))
        return Deferred.fromCoroutine(self._listen())


class OnRabbitMQ(Behaviour, TestCase):
    """The broker that is right; some versions of it otherwise than others."""

    variant = "rabbitmq"
    timeout = _LIMIT

    def setUp(self) -> None:
        self._begin()
        self.clock = reactor
        try:
            self.node = shared_node()
        except RabbitMQError as error:
            raise SkipTest(str(error)) from None
        self.port = self.node.port
        self.version = version_of(self.node.url)
        # Twisted's older trial does not wait for coroutines.
        self.addCleanup(lambda: Deferred.fromCoroutine(self._delete_all()))

    async def _delete_all(self) -> None:
        await self._close_clients()
        client = await self.client()
        channel: Any = await client.open_channel()
        for name in self._names:
            channel = await self._delete_queue(client, channel, name)
            await channel.exchange_delete(exchange=name)
        await client.close(within=_CLOSE)

    async def _delete_queue(self, client: AMQClient, channel: Any, name: str) -> Any:
        """
        Delete a queue; RabbitMQ 4.3 locks one for a moment whose connection has gone.

        :returns: the channel, or another, if that one was closed.
        """
        limit = self.clock.seconds() + _CLOSE
        while True:
            try:
                await channel.queue_delete(queue=name)
            except ChannelClosed as error:
                if error.args[0].reply_code != _LOCKED or self.clock.seconds() > limit:
                    raise
                await task.deferLater(self.clock, _STEP)
                channel = await client.open_channel()
            else:
                return channel

    def raise_alarm(self) -> None:
        self.addCleanup(self.clear_alarm)
        self.node.ctl("eval", "rabbit_alarm:set_alarm({{resource_limit,memory,node()},[]}).")

    def clear_alarm(self) -> None:
        self.node.ctl("eval", "rabbit_alarm:clear_alarm({resource_limit,memory,node()}).")


def on_each_broker(*behaviours: type[Behaviour]) -> dict[str, type]:
    """Test cases, by name: for the namespace of the module that the behaviours are in."""
    return {
        made.__name__: made
        for behaviour in behaviours
        for made in (_made(behaviour, variant) for variant in (InMemory, OnASocket, OnRabbitMQ))
    }


def _made(behaviour: type[Behaviour], variant: type[Behaviour]) -> type:
    name = behaviour.__name__ + variant.__name__
    # The variant first, since it gives what the behaviour's base only names.
    made = type(name, (variant, behaviour), {"__module__": behaviour.__module__, "__doc__": variant.__doc__})
    if variant is InMemory:
        for test in filter(lambda name: name.startswith("test_"), dir(behaviour)):
            setattr(made, test, _synchronous(getattr(behaviour, test)))
    return made


def _synchronous(test: Callable[[Any], Awaitable[None]]) -> Callable[[InMemory], None]:
    def run(self: InMemory) -> None:
        self.waits_for(test(self))

    run.__doc__ = test.__doc__
    return run
