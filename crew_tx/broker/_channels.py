"""
A channel as the broker sees it: what it consumes, and what it has not settled.

What goes out goes through an ``IChannelOutput``, at once and in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from crew_tx.broker._arguments import QUORUM, Arguments, consumer_priority
from crew_tx.broker._errors import ReplyError
from crew_tx.broker._messages import Entry
from crew_tx.broker._queues import Queue

if TYPE_CHECKING:
    from crew_tx.broker._model import VirtualHost


class Consumer:
    """
    One consumer of one queue.

    :ivar prefetch: how many messages it may have unsettled; 0 for any number.
    :ivar priority: those of a lower one have what this one does not take.
    :ivar unsettled: how many it has.
    """

    __slots__ = ("channel", "exclusive", "no_ack", "prefetch", "priority", "queue", "tag", "unsettled")

    def __init__(
        self,
        channel: Channel,
        queue: Queue,
        tag: str,
        *,
        no_ack: bool,
        exclusive: bool,
        prefetch: int,
        priority: int,
    ) -> None:
        self.channel = channel
        self.queue = queue
        self.tag = tag
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.priority = priority
        self.prefetch = 0 if no_ack else prefetch
        self.unsettled = 0

    @property
    def takes_more(self) -> bool:
        """Whether another message may be delivered to it now."""
        channel = self.channel
        return (
            (not self.prefetch or self.unsettled < self.prefetch)
            and (self.no_ack or channel.takes_more)
            and not channel.congested
        )

    def deliver(self, entry: Entry) -> None:
        """Deliver a message that is out of its queue."""
        self.channel.deliver(self, entry)


class Unsettled(NamedTuple):
    """A delivery that waits for its acknowledgement; without a consumer if it was got."""

    queue: Queue
    entry: Entry
    consumer: Consumer | None


class Channel:
    """
    One channel of one connection.

    :ivar last_queue: the queue declared last, which an empty name stands for.
    :ivar congested: whether nothing is delivered since the client does not read.
    """

    def __init__(self, vhost: VirtualHost, output: Any) -> None:
        self.vhost = vhost
        self.congested = False
        self.consumers: dict[str, Consumer] = {}
        self.last_queue = ""
        self._output = output
        self._prefetch = 0
        self._shared_prefetch = 0
        self._consumed = 0
        self._delivered = 0
        self._unsettled: dict[int, Unsettled] = {}

    @property
    def connection(self) -> object:
        """What exclusive queues belong to."""
        return self._output.connection

    @property
    def delivered(self) -> int:
        """How many messages went to the client."""
        return self._delivered

    @property
    def unsettled(self) -> int:
        """How many deliveries wait for an acknowledgement."""
        return len(self._unsettled)

    @property
    def takes_more(self) -> bool:
        """Whether a delivery more may wait for its acknowledgement."""
        shared = self._shared_prefetch
        return not shared or self._consumed < shared

    def qos(self, prefetch: int, shared: bool, now: float) -> None:
        """basic.qos: of consumers to come, each; or of all of the channel together."""
        if shared:
            self._shared_prefetch = prefetch
            self._dispatch(now)
        else:
            self._prefetch = prefetch

    def congest(self, congested: bool, now: float) -> None:
        """Hold deliveries back while the client does not read, whether they are to be settled or not."""
        self.congested = congested
        if not congested:
            self._dispatch(now)

    def _dispatch(self, now: float) -> None:
        for consumer in list(self.consumers.values()):
            self.vhost.dispatch(consumer.queue, now)

    # -- consuming -----------------------------------------------------------------------

    def consume(
        self, queue: Queue, tag: str, arguments: Arguments, *, no_ack: bool, exclusive: bool
    ) -> Consumer:
        """
        Register a consumer; its queue delivers once it knows of it.

        :raises ReplyError: 530 if the tag is taken, 403 if an exclusive consumer is in the way, 406 for
            arguments that mean nothing, 540 for a prefetch that the queue has not.
        """
        if tag in self.consumers:
            raise ReplyError(530, f"attempt to reuse consumer tag '{tag}'")
        if queue.excludes(exclusive):
            raise ReplyError(403, f"queue '{queue.name}' in vhost '{self.vhost.name}' in exclusive use")
        if self._shared_prefetch and queue.kind == QUORUM:
            raise ReplyError(
                540, f"queue '{queue.name}' in vhost '{self.vhost.name}' does not support global qos"
            )
        consumer = Consumer(
            self,
            queue,
            tag,
            no_ack=no_ack,
            exclusive=exclusive,
            prefetch=self._prefetch,
            priority=consumer_priority(arguments, queue.kind, queue.name, self.vhost.name),
        )
        self.consumers[tag] = consumer
        return consumer

    def deliver(self, consumer: Consumer, entry: Entry) -> None:
        """basic.deliver."""
        self._delivered += 1
        self.vhost.delivered += 1
        if not consumer.no_ack:
            consumer.unsettled += 1
            self._consumed += 1
            self._hold(consumer.queue, entry, consumer)
        self._output.deliver(
            consumer.tag, self._delivered, entry.redelivered, consumer.queue.as_delivered(entry)
        )

    def got(self, queue: Queue, entry: Entry, no_ack: bool) -> int:
        """
        basic.get took a message.

        :returns: its delivery tag.
        """
        self._delivered += 1
        self.vhost.delivered += 1
        if not no_ack:
            self._hold(queue, entry, None)
        else:
            queue.forget(entry)
        return self._delivered

    def _hold(self, queue: Queue, entry: Entry, consumer: Consumer | None) -> None:
        queue.hold(entry)
        self._unsettled[self._delivered] = Unsettled(queue, entry, consumer)

    def cancelled(self, consumer: Consumer) -> None:
        """The consumer's queue is gone: tell the client."""
        del self.consumers[consumer.tag]
        self._output.cancelled(consumer.tag)

    # -- settling --------------------------------------------------------------------------

    def ack(self, delivery_tag: int, multiple: bool, now: float) -> None:
        """
        basic.ack.

        :raises ReplyError: 406 if the tag is unknown.
        """
        settled = self._settle(delivery_tag, multiple)
        self.vhost.acked += len(settled)
        for queue, entry, _ in settled:
            queue.forget(entry)
        self._dispatch_after(settled, now)

    def reject(self, delivery_tag: int, multiple: bool, requeue: bool, now: float) -> None:
        """
        basic.reject and basic.nack.

        :raises ReplyError: 406 if the tag is unknown.
        """
        settled = self._settle(delivery_tag, multiple)
        if requeue:
            self._requeue(settled, now, True)
            return
        # Before the dead letters, since these may come back to the same queue.
        self._dispatch_after(settled, now)
        for queue, entry, _ in settled:
            if not queue.deleted:
                queue.dead_letter(entry, "rejected", now)
            queue.forget(entry)

    def recover(self, now: float) -> None:
        """basic.recover: everything unsettled goes back."""
        self._requeue(self._settle(0, True), now, True)

    def close(self, now: float) -> None:
        """End it: its consumers with it, and what is unsettled goes back."""
        consumers, self.consumers = self.consumers, {}
        for consumer in consumers.values():
            consumer.queue.remove_consumer(consumer, now)
        self._requeue(self._settle(0, True), now, False)
        for consumer in consumers.values():
            self.vhost.consumer_gone(consumer.queue, now)

    def _requeue(self, settled: list[Unsettled], now: float, asked: bool) -> None:
        for queue in self._queues(settled):
            entries = [held.entry for held in settled if held.queue is queue]
            if not queue.deleted:
                queue.requeue(entries, now, asked)
                self.vhost.watch(queue)
                continue
            for entry in entries:
                queue.forget(entry)
        if self._shared_prefetch:
            self._dispatch(now)

    def _dispatch_after(self, settled: list[Unsettled], now: float) -> None:
        """What is settled makes room; where that is shared, for all that the channel consumes."""
        if self._shared_prefetch:
            self._dispatch(now)
        for queue in self._queues(settled):
            self.vhost.dispatch(queue, now)

    def _settle(self, delivery_tag: int, multiple: bool) -> list[Unsettled]:
        """Take deliveries out; tag 0 with ``multiple`` means all."""
        if multiple and not delivery_tag:
            tags = list(self._unsettled)
        elif delivery_tag not in self._unsettled:
            raise ReplyError(406, f"unknown delivery tag {delivery_tag}")
        else:
            tags = self._tags_up_to(delivery_tag) if multiple else [delivery_tag]
        return [self._release(tag) for tag in tags]

    def _tags_up_to(self, delivery_tag: int) -> list[int]:
        tags = []
        for tag in self._unsettled:
            if tag > delivery_tag:
                break
            tags.append(tag)
        return tags

    def _release(self, tag: int) -> Unsettled:
        held = self._unsettled.pop(tag)
        held.queue.release(held.entry)
        if held.consumer is not None:
            held.consumer.unsettled -= 1
            self._consumed -= 1
        return held

    @staticmethod
    def _queues(settled: list[Unsettled]) -> list[Queue]:
        return list(dict.fromkeys(held.queue for held in settled))
