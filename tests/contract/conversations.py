"""What a contract test says to a broker, and what it hears: crew_tx's own client, with words for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from txamqp.client import Closed
from txamqp.message import Message

from crew_tx.amqp import AMQClient, Delivery, Returned
from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.properties import encode_properties

#: Seconds after which what was due is missing.
PATIENCE = 5.0
#: Seconds between two looks at a queue.
_LOOK_AGAIN = 0.02
#: Seconds in which what is not to come would have come.
QUIET = 0.15

Properties = dict[str, Any]


class Got(NamedTuple):
    """What basic.get gave; ``left`` is how many messages are ready behind it."""

    body: bytes
    properties: Properties
    exchange: str
    routing_key: str
    delivery_tag: int
    redelivered: bool
    left: int

    @property
    def headers(self) -> Properties:
        """The headers; empty where there are none."""
        return self.properties.get("headers") or {}


#: What a broker closed, ``channel`` or ``connection``; the reply code, and its text.
Refusal = tuple[str, int, str]


class Inbox:
    """
    What one consumer was delivered.

    :ivar tag: the consumer's.
    :ivar deliveries: all of it, in order.
    :ivar cancelled: whether the broker ended the consumer.
    """

    def __init__(self, conversation: Conversation) -> None:
        self.tag = ""
        self.deliveries: list[Delivery] = []
        self.cancelled = False
        self._conversation = conversation

    @property
    def bodies(self) -> list[bytes]:
        """The bodies, in order."""
        return [delivery.body for delivery in self.deliveries]

    def received(self, delivery: Delivery) -> None:
        """Keep a delivery."""
        self.deliveries.append(delivery)

    def ended(self, tag: str) -> None:
        """The broker has ended the consumer."""
        self.cancelled = True

    async def has(self, count: int) -> list[bytes]:
        """
        The bodies, once there are so many.

        :raises AssertionError: if there are others after a while.
        """
        await self._conversation.until(lambda: len(self.deliveries) >= count, lambda: repr(self.bodies))
        if len(self.deliveries) > count:
            raise AssertionError(f"{count} deliveries were due, not {self.bodies}")
        return self.bodies

    async def has_no_more_than(self, count: int) -> list[bytes]:
        """The bodies, with time enough for one too many."""
        await self.has(count)
        await self._conversation.passes(QUIET)
        return await self.has(count)


class Conversation:
    """
    One channel of one connection to a broker.

    :param name: makes names that no other test has.
    :ivar events: what came unasked, in order: ``("return", body)``, ``("ack", number)``,
        ``("nack", number)``, ``("closed", reply code)``.
    :ivar outcomes: the confirms, by the message's number.
    :ivar refusal: what the broker closed, if it did.
    """

    def __init__(
        self, clock: IReactorTime, client: AMQClient, channel: AMQChannel, name: Callable[[str], str]
    ) -> None:
        self.client = client
        self.channel: Any = channel
        self.events: list[tuple[str, object]] = []
        self.returned: list[Returned] = []
        self.outcomes: dict[int, bool] = {}
        self.refusal: Refusal | None = None
        self._clock = clock
        self._name = name
        channel.on_return = self._on_return
        channel.on_confirm = self._on_confirm
        channel.on_closed = self._on_closed

    # -- time ----------------------------------------------------------------------------

    def passes(self, seconds: float) -> Deferred[Any]:
        """A Deferred that fires when so much time has gone by."""
        return task.deferLater(self._clock, seconds)

    async def until(self, is_so: Callable[[], bool], shown: Callable[[], str] = str) -> None:
        """
        Wait for something.

        :raises AssertionError: if it doesn't come true.
        """
        limit = self._clock.seconds() + PATIENCE
        while not is_so():
            if self._clock.seconds() > limit:
                raise AssertionError(f"waited in vain; there is {shown()}")
            await self.passes(_LOOK_AGAIN)

    # -- topology ------------------------------------------------------------------------

    async def queue(self, name: str | None = None, **options: Any) -> str:
        """Declare a queue of a new name, or of this one; keywords beside AMQP's are arguments."""
        name = self._name("queue") if name is None else name
        ok = await self.channel.queue_declare(queue=name, **_with_arguments(options))
        queue: str = ok.queue
        return queue

    async def exchange(self, kind: str = "direct", name: str | None = None, **options: Any) -> str:
        """Declare an exchange of a new name, or of this one; keywords beside AMQP's are arguments."""
        name = self._name("exchange") if name is None else name
        await self.channel.exchange_declare(exchange=name, type=kind, **_with_arguments(options))
        return name

    async def bind(
        self, queue: str, exchange: str, key: str = "", arguments: Properties | None = None
    ) -> None:
        """Bind a queue."""
        await self.channel.queue_bind(
            queue=queue, exchange=exchange, routing_key=key, arguments=arguments or {}
        )

    async def bound(self, exchange: str, key: str = "", arguments: Properties | None = None) -> str:
        """A new queue that is bound."""
        queue = await self.queue()
        await self.bind(queue, exchange, key, arguments)
        return queue

    async def count(self, queue: str) -> int:
        """How many messages are ready."""
        ok = await self.channel.queue_declare(queue=queue, passive=True)
        messages: int = ok.message_count
        return messages

    # -- publishing ----------------------------------------------------------------------

    def publish(
        self, key: str, body: bytes = b"x", exchange: str = "", mandatory: bool = False, **properties: Any
    ) -> int:
        """
        Publish, by the default exchange if none is named.

        :returns: the message's number on this channel.
        """
        number: int = self.channel.publish(exchange, key, encode_properties(properties), body, mandatory)
        return number

    async def send(self, key: str, *bodies: bytes, exchange: str = "", **properties: Any) -> list[bool]:
        """Publish each of some bodies, and wait until all are confirmed."""
        for body in bodies or (b"x",):
            self.publish(key, body, exchange, **properties)
        return await self.confirmed()

    async def confirmed(self) -> list[bool]:
        """Whether the broker took each of the messages so far, once it has said so of all."""
        await self.until(lambda: len(self.outcomes) == self.channel.published, lambda: repr(self.outcomes))
        return [self.outcomes[number] for number in sorted(self.outcomes)]

    # -- taking ---------------------------------------------------------------------------

    async def get(self, queue: str, no_ack: bool = True) -> Got | None:
        """basic.get."""
        answer = await self.channel.basic_get(queue=queue, no_ack=no_ack)
        return None if answer.method.name == "get-empty" else _got(answer)

    async def taken(self, queue: str, no_ack: bool = True) -> Got:
        """
        The next message; what comes by a dead letter exchange may need its time.

        :raises AssertionError: if there is none after a while.
        """
        limit = self._clock.seconds() + PATIENCE
        while (got := await self.get(queue, no_ack)) is None:
            if self._clock.seconds() > limit:
                raise AssertionError(f"nothing came into {queue}")
            await self.passes(_LOOK_AGAIN)
        return got

    async def drained(self, queue: str) -> list[bytes]:
        """The bodies of all that is ready."""
        bodies = []
        while (got := await self.get(queue)) is not None:
            bodies.append(got.body)
        return bodies

    async def stays_empty(self, queue: str) -> bool:
        """Whether nothing is ready, and nothing comes in a short while."""
        await self.passes(QUIET)
        return await self.get(queue) is None

    async def consume(self, queue: str, **options: Any) -> Inbox:
        """Consume; keywords beside AMQP's are arguments."""
        inbox = Inbox(self)
        options = _with_arguments(options, ("no_ack", "exclusive"))
        inbox.tag = await self.channel.consume(queue, inbox.received, on_cancelled=inbox.ended, **options)
        return inbox

    # -- the end -----------------------------------------------------------------------------

    async def refused(self, request: Deferred[Any] | None = None) -> Refusal:
        """
        What the broker answers to something wrong.

        :param request: its Deferred, where it has one.
        :raises AssertionError: if it takes it.
        """
        if request is not None:
            try:
                answer = await request
            except Closed:
                pass
            else:
                raise AssertionError(f"it was to be refused, and {answer!r} came")
        await self.until(lambda: self.refusal is not None, lambda: "no refusal")
        assert self.refusal is not None
        return self.refusal

    def _on_return(self, returned: Returned) -> None:
        self.returned.append(returned)
        self.events.append(("return", returned.body))

    def _on_confirm(self, number: int, multiple: bool, acked: bool) -> None:
        first = 1 if multiple else number
        for each in range(first, number + 1):
            if each not in self.outcomes:
                self.outcomes[each] = acked
                self.events.append(("ack" if acked else "nack", each))

    def _on_closed(self, reason: Any) -> None:
        if isinstance(reason, Message) and reason.method.name == "close":
            self.refusal = (reason.method.klass.name, reason.reply_code, reason.reply_text)
            self.events.append(("closed", reason.reply_code))


_OPTIONS = ("passive", "durable", "exclusive", "auto_delete", "internal", "nowait")


def _with_arguments(options: Properties, known: tuple[str, ...] = _OPTIONS) -> Properties:
    """What isn't an option of the method is an argument: ``x_max_length`` is ``x-max-length``."""
    arguments = {name.replace("_", "-"): value for name, value in options.items() if name not in known}
    return {**{name: options[name] for name in known if name in options}, "arguments": arguments}


def _got(answer: Any) -> Got:
    properties = {name.replace("-", "_"): value for name, value in answer.content.properties.items()}
    return Got(
        answer.content.body,
        properties,
        answer.exchange,
        answer.routing_key,
        answer.delivery_tag,
        answer.redelivered,
        answer.message_count,
    )
