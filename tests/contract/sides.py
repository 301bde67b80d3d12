"""
One broker as a random test goes through it: what is done to it, and what can be seen of it.

The same steps are taken on two sides. What the brokers call things differs
(delivery tags, and which of several consumers got a message), so a step names
a delivery by what is in it, and consumers of one queue are looked at together.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from crew_tx.amqp import methods
from tests.contract.plain import Content, PlainChannel, PlainClient, RefusedError

#: Seconds between two looks at a broker that is not yet where it should be.
_LOOK_AGAIN = 0.005
_CLOSED = "closed"

Arguments = dict[str, Any]


class Seen(NamedTuple):
    """
    A message as it was delivered.

    :ivar deaths: queue, reason and count of each entry of ``x-death``, the latest first.
    :ivar returns: the header ``x-delivery-count``.
    """

    body: str
    redelivered: bool
    exchange: str
    routing_key: str
    priority: int | None
    expiration: str | None
    deaths: tuple[tuple[Any, ...], ...]
    first_death: tuple[Any, ...]
    returns: int | None


class Consumer:
    """
    One consumer, on a connection of its own.

    :ivar held: the deliveries that are not settled: delivery tag to message.
    """

    def __init__(self, client: PlainClient) -> None:
        self.client = client
        self.channel = client.channel()
        self.settled: set[int] = set()
        self.no_ack = False

    def deliveries(self, unnamed: Callable[[str], str]) -> list[Seen]:
        """All that it was ever delivered."""
        return [seen(content, unnamed) for content in self.channel.deliveries]

    def held(self, unnamed: Callable[[str], str]) -> list[tuple[int, Seen]]:
        """Delivery tag and message of each delivery that is not settled."""
        if self.no_ack:
            return []
        return [
            (content.arguments[1], seen(content, unnamed))
            for content in self.channel.deliveries
            if content.arguments[1] not in self.settled
        ]


class Side:
    """
    :param connect: makes a connection.
    :param prefix: what names on this broker begin with, that steps and observations leave out.
    :cvar deaths_in_order: whether the order of ``x-death`` is compared; it is another since RabbitMQ 4.0.
    """

    deaths_in_order = True

    def __init__(self, connect: Callable[[], PlainClient], prefix: str) -> None:
        self._connect = connect
        self._prefix = prefix
        self._main = connect()
        self._control: PlainChannel | None = None
        self._publisher: PlainChannel | None = None
        self._watcher = self._main.channel()
        self._groups: dict[int, list[Consumer]] = {}
        self._outcomes: list[dict[int, bool]] = []

    # -- names -------------------------------------------------------------------------------

    def named(self, name: str) -> str:
        """A name on this broker."""
        return self._prefix + name if name else ""

    def unnamed(self, name: str) -> str:
        """The opposite."""
        return name.removeprefix(self._prefix)

    # -- topology ------------------------------------------------------------------------------

    def declare_queue(
        self, name: str, durable: bool, exclusive: bool, auto_delete: bool, given: Arguments
    ) -> Any:
        """queue.declare."""
        arguments = dict(given)
        if "x-dead-letter-exchange" in arguments:
            arguments["x-dead-letter-exchange"] = self.named(arguments["x-dead-letter-exchange"])
        if "x-dead-letter-routing-key" in arguments:
            arguments["x-dead-letter-routing-key"] = self.named(arguments["x-dead-letter-routing-key"])
        answer = self._do(
            methods.QUEUE_DECLARE,
            *(0, self.named(name), False, durable, exclusive, auto_delete, False, arguments),
        )
        # How many consumers there are is seen by observing.
        return answer if answer[0] == _CLOSED else answer[:2]

    def declare_exchange(self, name: str, kind: str, alternate: str) -> Any:
        """exchange.declare."""
        arguments = {"alternate-exchange": self.named(alternate)} if alternate else {}
        return self._do(
            methods.EXCHANGE_DECLARE, 0, self.named(name), kind, False, True, False, False, False, arguments
        )

    def delete_exchange(self, name: str, if_unused: bool) -> Any:
        """exchange.delete."""
        return self._do(methods.EXCHANGE_DELETE, 0, self.named(name), if_unused, False)

    def bind(self, queue: str, exchange: str, key: str) -> Any:
        """queue.bind."""
        return self._do(
            methods.QUEUE_BIND, 0, self.named(queue), self.named(exchange), self.named(key), False, {}
        )

    def unbind(self, queue: str, exchange: str, key: str) -> Any:
        """queue.unbind."""
        return self._do(methods.QUEUE_UNBIND, 0, self.named(queue), self.named(exchange), self.named(key), {})

    def purge(self, queue: str) -> Any:
        """queue.purge."""
        return self._do(methods.QUEUE_PURGE, 0, self.named(queue), False)

    def delete(self, queue: str, if_unused: bool, if_empty: bool) -> Any:
        """queue.delete."""
        return self._do(methods.QUEUE_DELETE, 0, self.named(queue), if_unused, if_empty, False)

    def get(self, queue: str, then: str, counts: bool) -> Any:
        """
        basic.get, and what is done with the message.

        :param counts: whether the number of those that are left is looked at.
        """
        answer = self._do(methods.BASIC_GET, 0, self.named(queue), then == "no_ack")
        if not isinstance(answer, Content):
            return answer
        assert self._control is not None
        tag, left = answer.arguments[0], answer.arguments[4]
        if then != "no_ack":
            self._settle(self._main, self._control, tag, then, False)
        return seen(answer, self.unnamed), left if counts else None

    def drained(self, queue: str, counts: bool) -> list[Any]:
        """All that is ready in a queue; ``counts`` as in :meth:`get`."""
        messages = []
        while isinstance(answer := self.get(queue, "no_ack", counts), tuple) and isinstance(answer[0], Seen):
            messages.append(answer)
        return messages

    def _do(self, method_id: int, *arguments: Any) -> Any:
        if self._control is None:
            self._control = self._main.channel()
        try:
            answer = self._main.ask(self._control.number, method_id, *arguments)
        except RefusedError as refusal:
            self._control = None
            return self._shown(refusal)
        return answer if isinstance(answer, Content) else tuple(map(self._shown_argument, answer))

    def _shown_argument(self, argument: Any) -> Any:
        return self.unnamed(argument) if isinstance(argument, str) else argument

    def _shown(self, refusal: RefusedError) -> tuple[str, int, str]:
        # Of several arguments that are not the same, any may be named.
        text = re.sub("(?<=inequivalent arg ).*", "...", refusal.text)
        return _CLOSED, refusal.code, text.replace(self._prefix, "")

    # -- publishing ------------------------------------------------------------------------------

    def publish(self, exchange: str, key: str, bodies: list[str], mandatory: bool, **properties: Any) -> None:
        """Publish each of some bodies, with confirms."""
        if self._publisher is None or self._publisher.refusal is not None:
            self._publisher = self._main.channel()
            self._main.ask(self._publisher.number, methods.CONFIRM_SELECT, False)
        for body in bodies:
            self._main.publish(
                self._publisher, self.named(exchange), self.named(key), properties, body.encode(), mandatory
            )

    # -- consuming ---------------------------------------------------------------------------------

    def consume(self, group: int, queue: str, prefetch: int, no_ack: bool, exclusive: bool) -> Any:
        """One consumer more of a group."""
        consumer = Consumer(self._connect())
        client, number = consumer.client, consumer.channel.number
        consumer.no_ack = no_ack
        client.ask(number, methods.BASIC_QOS, 0, prefetch, False)
        try:
            client.ask(
                number,
                methods.BASIC_CONSUME,
                *(0, self.named(queue), "tag", False, no_ack, exclusive, False, {}),
            )
        except RefusedError as refusal:
            client.close()
            return self._shown(refusal)
        self._groups.setdefault(group, []).append(consumer)
        return "consuming"

    def cancel(self, group: int) -> None:
        """basic.cancel of all of a group."""
        for consumer in self._groups[group]:
            if consumer.channel.refusal is None:
                consumer.client.ask(consumer.channel.number, methods.BASIC_CANCEL, "tag", False)

    def leave(self, group: int, drops: bool) -> None:
        """The connections of a group end, having cancelled where they are several."""
        consumers = self._groups[group]
        if len(consumers) > 1:
            self.cancel(group)
        for consumer in consumers:
            consumer.client.drop() if drops else consumer.client.close()
        del self._groups[group]

    def held(self, group: int) -> list[Seen]:
        """What a group has not settled: in order where it is one consumer, else sorted."""
        consumers = self._groups[group]
        held = [message for consumer in consumers for _, message in consumer.held(self.unnamed)]
        return held if len(consumers) == 1 else sorted(held, key=repr)

    def settle(self, group: int, message: Seen, how: str, multiple: bool) -> None:
        """Ack, reject, or requeue what a group holds."""
        for consumer in self._groups[group]:
            for tag, held in consumer.held(self.unnamed):
                if held == message:
                    tags = {each for each, _ in consumer.held(self.unnamed) if multiple and each < tag}
                    consumer.settled |= tags | {tag}
                    self._settle(consumer.client, consumer.channel, tag, how, multiple)
                    return
        raise AssertionError(f"{message} is not held")

    def settle_unknown(self, group: int) -> None:
        """Ack what was never delivered."""
        for consumer in self._groups[group]:
            self._settle(consumer.client, consumer.channel, 10_000, "ack", False)

    @staticmethod
    def _settle(client: PlainClient, channel: PlainChannel, tag: int, how: str, multiple: bool) -> None:
        if how == "ack":
            client.tell(channel.number, methods.BASIC_ACK, tag, multiple)
        else:
            client.tell(channel.number, methods.BASIC_NACK, tag, multiple, how == "requeue")

    # -- what can be seen --------------------------------------------------------------------------

    def observed(self, queues: dict[str, bool]) -> dict[str, Any]:
        """
        What can be seen now.

        :param queues: those that are there, and whether their consumers are counted.
        """
        counts = self._counts(list(queues))
        for queue in [queue for queue, counted in queues.items() if not counted and queue in counts]:
            counts[queue][1] = "some"
        publisher = self._publisher
        for consumer in (each for group in self._groups.values() for each in group):
            if consumer.channel.refusal is None:
                # What the channel has been told before comes before the answer.
                self._ask_channel(consumer)
            else:
                consumer.client.poll()
        self._main.poll()
        return {
            "counts": counts,
            "confirms": None if publisher is None else sorted(publisher.outcomes.items()),
            "returned": None
            if publisher is None
            else [seen(each, self.unnamed) for each in publisher.returned],
            "publisher": None
            if publisher is None or publisher.refusal is None
            else self._shown(publisher.refusal),
            "groups": {number: self._group(consumers) for number, consumers in self._groups.items()},
        }

    @staticmethod
    def _ask_channel(consumer: Consumer) -> None:
        try:
            consumer.client.ask(consumer.channel.number, methods.BASIC_QOS, 0, 0, False)
        except RefusedError:
            """It is seen in the observation."""

    def _counts(self, queues: list[str]) -> Any:
        each = [(0, self.named(queue), True, False, False, False, False, {}) for queue in queues]
        try:
            answers = self._main.ask_all(self._watcher, methods.QUEUE_DECLARE, each)
        except RefusedError as refusal:
            self._watcher = self._main.channel()
            return self._shown(refusal)
        return {self.unnamed(name): counts for name, *counts in answers}

    def _group(self, consumers: list[Consumer]) -> dict[str, Any]:
        deliveries = [message for consumer in consumers for message in consumer.deliveries(self.unnamed)]
        return {
            "deliveries": deliveries if len(consumers) == 1 else sorted(deliveries, key=repr),
            "cancelled": [consumer.channel.cancelled for consumer in consumers],
            "refused": [
                None if consumer.channel.refusal is None else self._shown(consumer.channel.refusal)
                for consumer in consumers
            ],
        }

    def is_gone(self, queue: str, seconds: float) -> bool:
        """Whether there is no such queue, at the end of the seconds at the latest."""
        limit = time.monotonic() + seconds
        while not (is_gone := isinstance(self._counts([queue]), tuple)) and time.monotonic() < limit:
            time.sleep(_LOOK_AGAIN)
        return is_gone

    def becomes(self, expected: dict[str, Any], queues: dict[str, bool], seconds: float) -> dict[str, Any]:
        """
        Wait until what can be seen is as expected.

        :returns: what is seen then; or at the end of the seconds.
        """
        limit = time.monotonic() + seconds
        while (found := self.observed(queues)) != expected and time.monotonic() < limit:
            time.sleep(_LOOK_AGAIN)
        return found

    # -- the end -------------------------------------------------------------------------------------

    def clean_up(self, queues: list[str], exchanges: list[str]) -> None:
        """Leave nothing, by a connection that nothing has happened to."""
        for consumer in (each for group in self._groups.values() for each in group):
            consumer.client.drop()
        self._main.drop()
        self._main, self._control = self._connect(), None
        for queue in queues:
            self.delete(queue, False, False)
        for exchange in exchanges:
            self.delete_exchange(exchange, False)
        self._main.close()


def seen(content: Content, unnamed: Callable[[str], str]) -> Seen:
    """What is compared of a message."""
    properties = content.properties
    headers = properties.get("headers") or {}
    redelivered, exchange, routing_key = _envelope(content)
    return Seen(
        content.body.decode(),
        redelivered,
        unnamed(exchange),
        unnamed(routing_key),
        properties.get("priority"),
        properties.get("expiration"),
        _deaths([_death(death, unnamed) for death in headers.get("x-death", ())]),
        tuple(unnamed(headers.get(f"x-first-death-{what}", "")) for what in ("queue", "reason", "exchange")),
        headers.get("x-delivery-count"),
    )


def _envelope(content: Content) -> tuple[bool, str, str]:
    """Whether it is redelivered, its exchange and its routing key."""
    arguments = content.arguments
    if content.method_id == methods.BASIC_RETURN:
        return False, arguments[2], arguments[3]
    start = 2 if content.method_id == methods.BASIC_DELIVER else 1
    redelivered, exchange, routing_key = arguments[start : start + 3]
    return redelivered, exchange, routing_key


def _deaths(deaths: list[tuple[Any, ...]]) -> tuple[tuple[Any, ...], ...]:
    return tuple(deaths if Side.deaths_in_order else sorted(deaths, key=repr))


def _death(death: dict[str, Any], unnamed: Callable[[str], str]) -> tuple[Any, ...]:
    return (
        unnamed(death["queue"]),
        death["reason"],
        death["count"],
        unnamed(death["exchange"]),
        [unnamed(key) for key in death["routing-keys"]],
        death.get("original-expiration"),
    )
