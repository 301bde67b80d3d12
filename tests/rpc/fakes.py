"""A channel that only notes what it is asked to do, for the tests of this room."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from txamqp.client import ChannelClosed
from txamqp.message import Message

from crew_tx.amqp import methods
from crew_tx.amqp.delivery import Delivery, Returned
from crew_tx.amqp.properties import decode_properties, encode_properties
from crew_tx.amqp.publisher import Publisher
from crew_tx.amqp.spec import methods as spec_methods
from crew_tx.message import Properties


class Connection:
    """What a publisher looks at on a channel's connection."""

    def __init__(self) -> None:
        self.writable = True
        self.blocked: str | None = None
        self.on_flow: Any = None
        self.scratch: Channel | None = None

    def open_channel(self) -> Deferred[Any]:
        """A channel that the test answers by :meth:`answer_scratch`."""
        self.scratch = Channel()
        return succeed(self.scratch)

    def answer_scratch(self, error: Exception | None = None) -> None:
        """Let what was asked by a channel of its own succeed, or fail; and its close."""
        assert self.scratch is not None
        waiting = self.scratch.waiting.pop(0)
        if error is None:
            waiting.callback(None)
            self.scratch.answer()
        else:
            self.scratch.closed = True
            waiting.errback(error)

    def not_found(self) -> Exception:
        """What a passive declare of a queue that isn't there ends a channel with."""
        return ChannelClosed(Message(spec_methods()[methods.CHANNEL_CLOSE], (404, "NOT_FOUND", 50, 10)))

    def block(self, reason: str | None) -> None:
        """The broker blocks it, or unblocks it."""
        self.blocked = reason
        self.on_flow()


class Channel:
    """
    In place of an ``AMQChannel``.

    :ivar events: what was asked of it, in order.
    """

    def __init__(self) -> None:
        self.client = Connection()
        self.closed = False
        self.published = 0
        self.events: list[tuple[Any, ...]] = []
        self.consumers: dict[str, tuple[Any, Any]] = {}
        self.waiting: list[Deferred[Any]] = []
        self.on_confirm: Any = None
        self.on_return: Any = None
        self.on_closed: Any = None

    # -- what the code under test calls ----------------------------------------------

    def publish(
        self, exchange: str, routing_key: str, properties: bytes, body: bytes, mandatory: bool = False
    ) -> int:
        self.events.append(("publish", exchange, routing_key, body))
        self.properties: Properties = decode_properties(properties, 0, len(properties)) if properties else {}
        self.mandatory = mandatory
        self.published += 1
        return self.published

    def ack(self, delivery_tag: int, multiple: bool = False) -> None:
        if not self.closed:
            self.events.append(("ack", delivery_tag, multiple))

    def nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        if not self.closed:
            self.events.append(("nack", delivery_tag, requeue))

    def consume(
        self,
        queue: str,
        callback: Any,
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        on_cancelled: Any = None,
        arguments: dict[str, Any] | None = None,
    ) -> Deferred[str]:
        self.events.append(("consume", queue))
        self.consumers[f"tag.{queue}"] = (callback, on_cancelled)
        return self._wait()

    def consume_together(
        self, queue: str, prepare: Any, callback: Any, *, on_cancelled: Any = None
    ) -> Deferred[str]:
        def both(delivery: Delivery) -> None:
            callback(delivery, prepare(delivery))

        return self.consume(queue, both, on_cancelled=on_cancelled)

    def cancel(self, consumer_tag: str) -> Deferred[None]:
        self.events.append(("cancel", consumer_tag))
        return self._wait()

    def basic_qos(self, prefetch_count: int) -> Deferred[Any]:
        self.events.append(("qos", prefetch_count))
        return self._wait()

    def channel_close(self, reply_code: int) -> Deferred[Any]:
        return self._wait()

    def confirm_select(self) -> Deferred[Any]:
        return self._wait()

    def queue_declare(self, **fields: Any) -> Deferred[Any]:
        self.events.append(("declare", fields))
        return self._wait()

    def queue_bind(self, queue: str, exchange: str, routing_key: str) -> Deferred[Any]:
        self.events.append(("bind", queue, exchange, routing_key))
        return self._wait()

    # -- what a test does --------------------------------------------------------------

    def take(self) -> list[tuple[Any, ...]]:
        """What was asked of it since the last time."""
        events, self.events = self.events, []
        return events

    def answer(self, value: object = None) -> None:
        """Let the oldest request that waits succeed."""
        self.waiting.pop(0).callback(value)

    def close(self) -> None:
        """The channel ends with its connection."""
        self.closed = True
        if self.on_closed is not None:
            self.on_closed(None)

    def close_for(self, code: int, text: str) -> None:
        """The broker closes it, for a publish."""
        self.closed = True
        self.on_closed(Message(spec_methods()[methods.CHANNEL_CLOSE], (code, text, 60, 40)))

    def confirm(self, number: int | None = None, acked: bool = True) -> None:
        """The broker confirms one message; the latest by default."""
        self.on_confirm(number or self.published, False, acked)

    def give_back(self) -> None:
        """The broker returns the latest message, and confirms it, as it does."""
        self.on_return(Returned(312, "NO_ROUTE", "", "", self.properties, b""))
        self.confirm()

    def _wait(self) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        self.waiting.append(waiting)
        return waiting


def attached(clock: IReactorTime, channel: Any, **options: Any) -> Publisher:
    """A publisher that writes to a channel."""
    publisher = Publisher(clock, **options)
    publisher.attach(channel)
    return publisher


def delivery(properties: Properties, body: bytes = b"", tag: int = 1) -> Delivery:
    """A delivery as the wire makes it: its properties were encoded and decoded."""
    encoded = encode_properties(properties)
    read = decode_properties(encoded, 0, len(encoded))
    return Delivery("consumer", tag, False, "", "", read, body)
