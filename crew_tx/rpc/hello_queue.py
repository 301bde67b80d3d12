"""
Where a client hears of workers that begin.

It listens only once it has something to tell them. Each connection has another
queue, so that a new one never races the ghost of the last.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.declare import declare_bound
from crew_tx.amqp.delivery import Delivery
from crew_tx.amqp.errors import translated
from crew_tx.amqp.protocol import AMQClient
from crew_tx.errors import DecodeError
from crew_tx.message import HELLO
from crew_tx.rpc.announcement import announced_tasks
from crew_tx.topology import hello_binding, hello_queue


class HelloQueue:
    """
    :param unique: what no other client has in its queues' names.
    :param listening: called when it listens: who began before that was not heard.
    :param begun: called with the tasks of a worker that begins; none stand for all.
    """

    log = Logger()

    def __init__(
        self, unique: str, listening: Callable[[], object], begun: Callable[[list[str]], object]
    ) -> None:
        self._unique = unique
        self._listening = listening
        self._begun = begun
        self._client: AMQClient | None = None
        self._is_begun = False
        self._is_told = False
        self._queues = 0

    def connected(self, client: AMQClient) -> None:
        """There is a new connection."""
        self._client = client
        self._is_begun = False

    def lost(self) -> None:
        """The connection has ended."""
        self._client = None

    def listen(self) -> None:
        """Listen from now on, if there is a connection; a second time by one connection it does nothing."""
        client = self._client
        if client is None or client.closed or self._is_begun:
            return
        self._is_begun = True
        Deferred.fromCoroutine(self._begin(client)).addErrback(self._failed, client)

    async def _begin(self, client: AMQClient) -> None:
        channel = await client.open_channel()
        # Calls don't depend on it.
        channel.is_expendable = True
        self._queues += 1
        queue = hello_queue(self._unique, self._queues)
        await declare_bound(channel, queue, [hello_binding(queue.name)])
        await channel.consume(
            queue.name, self._received, no_ack=True, on_cancelled=lambda tag: self._gone(client, channel)
        )
        self._listening()

    def _received(self, delivery: Delivery) -> None:
        if delivery.properties.get("type") != HELLO:
            return
        try:
            self._begun(announced_tasks(delivery))
        except DecodeError as error:
            self.log.warn("a worker's announcement can't be read: {error}", error=str(error))

    def _gone(self, client: AMQClient, channel: AMQChannel) -> None:
        """Somebody deleted the queue: the next that is cancelled makes another."""
        channel.channel_close(reply_code=200).addErrback(lambda _: None)
        if client is self._client:
            self._is_begun = False

    def _failed(self, failure: Failure, client: AMQClient) -> None:
        # By this connection it would end the same way.
        if client.closed or self._is_told:
            return
        self._is_told = True
        self.log.warn(
            "workers that begin can't be heard, and may begin calls that were cancelled before: {reason}",
            reason=str(translated(failure)),
        )
