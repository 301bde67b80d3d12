"""Where the broker's state meets its sessions."""

from __future__ import annotations

from zope.interface import Attribute, Interface

from crew_tx.broker._messages import Message


class IChannelOutput(Interface):
    """What a channel tells its client."""

    connection = Attribute("What exclusive queues belong to.")

    def deliver(consumer_tag: str, delivery_tag: int, redelivered: bool, message: Message) -> None:
        """basic.deliver."""

    def cancelled(consumer_tag: str) -> None:
        """basic.cancel: the queue is gone."""
