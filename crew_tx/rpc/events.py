"""
Publishing events: the body encoded -> the properties -> the publisher, whose confirm fires the Deferred.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import uuid4

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from crew_tx.amqp.publisher import Publisher, encode_message_properties
from crew_tx.codec import Codec, Encoded
from crew_tx.errors import CrewError
from crew_tx.message import NO_HEADERS, Headers, check_headers, event_properties
from crew_tx.rpc.outgoing import Sent
from crew_tx.rpc.replies import InThread
from crew_tx.topology import PUBSUB, check_name


class ReadyEvent(NamedTuple):
    """An event that is checked and encoded."""

    channel: str
    encoded: Encoded
    headers: Headers
    persistent: bool


class EventPublisher:
    """
    Publishes events.

    :param source: the id of whoever publishes.
    :param check_running: raises a :class:`CrewError` where nothing may be published any more.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        publisher: Publisher,
        codec: Codec,
        in_thread: InThread,
        source: str,
        check_running: Callable[[], object] = lambda: None,
    ) -> None:
        self._clock = clock
        self._publisher = publisher
        self._codec = codec
        self._in_thread = in_thread
        self._source = source
        self._check_running = check_running
        self._unique = uuid4().hex
        self._count = 0

    def publish(
        self,
        channel: str,
        data: Any = None,
        *,
        headers: Headers | None = None,
        serializer: str | None = None,
        compress: str | bool | None = None,
        persistent: bool = True,
    ) -> Deferred[None]:
        """
        Publish an event.

        :param channel: 1 to 200 bytes, without ``*`` and ``#``.
        :param persistent: whether a queue that keeps it for a subscriber
            survives a restart of the broker with it.
        :returns: a Deferred that fires when the broker has it, whether or not
            anybody is subscribed. It errbacks with
            :class:`InvalidArgumentError`, :class:`EncodeError` or
            :class:`MessageTooLargeError` before anything is sent, and as
            ``Client.send`` does after that.
        """
        try:
            self._check_running()
            _check_event(channel, headers)
        except CrewError:
            return fail()
        event = self._event(channel)
        deferred = event.deferred
        assert deferred is not None
        self._encoded(data, serializer, compress).addCallback(
            self._publish, event, headers or NO_HEADERS, persistent
        ).addErrback(_fail, event)
        return deferred

    def ready_event(
        self,
        channel: str,
        data: Any = None,
        *,
        headers: Headers | None = None,
        serializer: str | None = None,
        compress: str | bool | None = None,
        persistent: bool = True,
    ) -> ReadyEvent:
        """
        Check and encode an event, in a thread of any kind.

        :raises InvalidArgumentError: if the channel or a header is wrong.
        :raises EncodeError: if the data can't be encoded.
        :raises MessageTooLargeError: if it is too much.
        """
        _check_event(channel, headers)
        encoded = self._codec.encode(data, serializer, compress)
        return ReadyEvent(channel, encoded, headers or NO_HEADERS, persistent)

    def publish_ready(self, ready: ReadyEvent) -> None:
        """Publish an event, and go on: what the broker makes of it is logged."""
        event = self._event(ready.channel)
        assert event.deferred is not None
        event.deferred.addErrback(self._not_published, ready.channel)
        try:
            self._publish(ready.encoded, event, ready.headers, ready.persistent)
        except CrewError as error:
            event.failed(error)

    def _not_published(self, failure: Failure, channel: str) -> None:
        self.log.warn(
            "an event of a task for {channel} was not published: {error}",
            channel=channel,
            error=failure.getErrorMessage(),
        )

    def _event(self, channel: str) -> Sent:
        self._count += 1
        message_id = f"{self._unique}.{self._count}"
        return Sent(channel, message_id, self._publisher.withdraw, exchange=PUBSUB, mandatory=False)

    def _encoded(self, data: Any, serializer: str | None, compress: str | bool | None) -> Deferred[Encoded]:
        if self._codec.is_large(data):
            return self._in_thread(self._codec.encode, data, serializer, compress)
        return maybeDeferred(self._codec.encode, data, serializer, compress)

    def _publish(self, encoded: Encoded, event: Sent, headers: Headers, persistent: bool) -> None:
        if event.deferred is None:
            # It was cancelled while its body was encoded.
            return
        self._check_running()
        properties = event_properties(
            event.message_id,
            self._source,
            encoded.content_type,
            encoded.content_encoding,
            int(self._clock.seconds()),
            headers,
            persistent,
        )
        event.properties = encode_message_properties(properties)
        event.body = encoded.body
        self._publisher.publish(event)


def _check_event(channel: str, headers: Headers | None) -> None:
    check_name("channel", channel)
    if headers:
        check_headers(headers)


def _fail(failure: Failure, event: Sent) -> None:
    # Whatever it is: the publisher's Deferred has to fire.
    error: Any = failure.value
    event.failed(error)
