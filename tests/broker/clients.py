"""A client of the broker's model, without a session or a wire."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer
from zope.interface.verify import verifyObject

from crew_tx.broker._channels import Channel
from crew_tx.broker._messages import Message
from crew_tx.broker._model import Published, VirtualHost
from crew_tx.broker._queues import Queue
from crew_tx.broker.interfaces import IChannelOutput


@implementer(IChannelOutput)
class ModelClient:
    """
    One channel, and what it was told.

    :ivar now: the time that its methods happen at; the test moves it.
    :ivar told: bodies that were delivered, and the tags of consumers that were cancelled.
    """

    def __init__(self, vhost: VirtualHost) -> None:
        self.connection = self
        self.now = 0.0
        self.told: list[object] = []
        self.vhost = vhost
        self.channel = Channel(vhost, self)
        verifyObject(IChannelOutput, self)

    def deliver(self, consumer_tag: str, delivery_tag: int, redelivered: bool, message: Message) -> None:
        self.told.append(message.body)

    def cancelled(self, consumer_tag: str) -> None:
        self.told.append(consumer_tag)

    # -- for tests -----------------------------------------------------------------------

    def queue(self, name: str, **options: Any) -> Queue:
        """Declare a queue; keywords beside AMQP's are arguments."""
        known = ("passive", "durable", "exclusive", "auto_delete")
        arguments = {key.replace("_", "-"): value for key, value in options.items() if key not in known}
        chosen = {key: value for key, value in options.items() if key in known}
        return self.vhost.declare_queue(name, self, self.now, arguments=arguments, **chosen)

    def publish(self, key: str, body: bytes = b"x", exchange: str = "", **properties: Any) -> Published:
        """Publish a message."""
        return self.vhost.publish(Message(exchange, key, properties, body), self.now)

    def consume(self, name: str, tag: str = "tag", *, no_ack: bool = False, **arguments: Any) -> None:
        """Consume from a queue."""
        queue = self.vhost.queue(name, self)
        given = {key.replace("_", "-"): value for key, value in arguments.items()}
        consumer = self.channel.consume(queue, tag, given, no_ack=no_ack, exclusive=False)
        self.vhost.consume(consumer, self.now)

    def got(self, name: str) -> Message | None:
        """Take a message for good."""
        queue = self.vhost.queue(name, self)
        entry = self.vhost.get(queue, self.now)
        if entry is None:
            return None
        self.channel.got(queue, entry, True)
        return entry.message
