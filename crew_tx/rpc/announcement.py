"""
A worker says that it is there, before it takes any calls.

Callers with cancelled calls that may be in a queue yet tell it their ids, since it
has not heard of them; for that it waits a moment. Where nobody listens the broker
returns the announcement, and it does not wait. Nothing that goes wrong with it
keeps a worker from its calls. Under an alarm RabbitMQ reads nothing more from a
connection that has published, not even that it consumes: then the worker takes
another, by which it says nothing.
"""

from __future__ import annotations

from uuid import uuid4

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.delivery import Delivery
from crew_tx.amqp.errors import Closed, translated
from crew_tx.amqp.properties import encode_properties
from crew_tx.amqp.protocol import AMQClient
from crew_tx.codec import Codec
from crew_tx.errors import ConnectionLostError, CrewError, DecodeError, PublishNackedError
from crew_tx.message import hello_properties
from crew_tx.topology import HELLO

#: Seconds in which callers can tell a new worker what it need not run.
LISTENS = 0.1
#: Seconds that the broker has for the announcement.
LIMIT = 1.0
#: Bytes that its task ids may have; an announcement without any stands for all.
LONGEST = 64 * 1024

_CODEC = Codec(max_message_size=LONGEST, max_inflated_size=LONGEST)


class Announcement:
    """
    :param clock: an ``IReactorTime``.
    :param task_ids: the tasks that the worker has.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, worker_id: str, task_ids: list[str]) -> None:
        self._clock = clock
        self._worker_id = worker_id
        encoded = _CODEC.encode(task_ids if _fit(task_ids) else [], compress=False)
        self._body, self._content_type = encoded.body, encoded.content_type
        self._is_told = False
        self._last: AMQClient | None = None

    async def make(self, client: AMQClient) -> None:
        """
        Announce the worker by a new connection, once its control queue is bound.

        It comes back when callers have had their time.

        :raises ConnectionLostError: if an alarm has blocked this connection by it; the next is spared.
        """
        before, self._last = self._last, client
        if before is not None and before.blocked is not None:
            return
        made = Deferred.fromCoroutine(self._publish(client))
        try:
            is_heard = await made.addTimeout(LIMIT, self._clock)
        except (Closed, CrewError, DeferredTimeoutError) as error:
            is_heard = False
            if not client.closed:
                self._failed(error)
        if client.blocked is not None:
            raise ConnectionLostError("an alarm of the broker blocked the worker as it announced itself")
        if is_heard:
            await deferLater(self._clock, LISTENS)

    async def _publish(self, client: AMQClient) -> bool:
        """:returns: whether anybody listens."""
        # Of its own, since the worker's channel would be closed for want of a right.
        channel = await client.open_channel()
        channel.is_expendable = True
        try:
            await channel.confirm_select()
            return await self._confirmed(channel)
        finally:
            if not channel.closed:
                channel.channel_close(reply_code=200).addErrback(lambda _: None)

    def _confirmed(self, channel: AMQChannel) -> Deferred[bool]:
        confirmed: Deferred[bool] = Deferred()
        returned: list[object] = []

        def settle(number: int, multiple: bool, acked: bool) -> None:
            if acked:
                confirmed.callback(not returned)
            else:
                confirmed.errback(PublishNackedError("the broker refused it (basic.nack)"))

        def closed(reason: object) -> None:
            if not confirmed.called:
                confirmed.errback(translated(reason, "publishing"))

        channel.on_return = returned.append
        channel.on_confirm = settle
        channel.on_closed = closed
        properties = hello_properties(f"hello.{uuid4().hex}", self._worker_id, self._content_type)
        channel.publish(HELLO, "", encode_properties(properties), self._body, mandatory=True)
        return confirmed

    def _failed(self, error: Exception) -> None:
        if self._is_told:
            return
        self._is_told = True
        if isinstance(error, DeferredTimeoutError):
            reason = f"the broker did not confirm it within {LIMIT:g} s"
        else:
            reason = str(translated(error))
        self.log.warn(
            "the worker could not announce itself, and may begin calls that were cancelled before it "
            "started: {reason}",
            reason=reason,
        )


def announced_tasks(delivery: Delivery) -> list[str]:
    """
    The tasks of a worker that announced itself; none stand for all.

    :raises DecodeError: if it can't be read.
    """
    properties = delivery.properties
    task_ids = _CODEC.decode(
        delivery.body, properties.get("content_type"), properties.get("content_encoding")
    )
    if not isinstance(task_ids, list) or not all(isinstance(each, str) for each in task_ids):
        raise DecodeError("an announcement is a list of task ids")
    return task_ids


def _fit(task_ids: list[str]) -> bool:
    # With the bytes that say how long each is.
    return sum(len(task_id.encode()) + 3 for task_id in task_ids) + 9 <= LONGEST
