"""
One channel: requests and their answers, consumers, publishing and confirms.

Two ways in. txamqp's: every AMQP method by name, answered by a Deferred, and
consumer queues to ``get`` from. And the quick one that crew_tx itself uses:
:meth:`AMQChannel.publish` and :meth:`AMQChannel.consume` with a callback, where
no Deferred, queue or lock is made for a message. Where much is to be done with
each, it can be done in two steps: :meth:`AMQChannel.consume_together`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import ChannelClosed, Closed, ConnectionClosed
from txamqp.content import Content
from txamqp.message import Message
from txamqp.protocol import AMQChannel as _AMQChannel

from crew_tx.amqp import frames, methods
from crew_tx.amqp.content import ContentAssembler, ContentProperties
from crew_tx.amqp.delivery import ConsumerQueue, Delivery, Returned
from crew_tx.amqp.errors import not_connected
from crew_tx.amqp.properties import encode_properties
from crew_tx.amqp.spec import methods as spec_methods
from crew_tx.errors import EncodeError, ProtocolError
from crew_tx.message import Properties

if TYPE_CHECKING:
    from crew_tx.amqp.protocol import AMQClient

_BASIC = 60
_UNEXPECTED_FRAME = 505
_COMMAND_INVALID = 503
#: What a header's frame has besides the properties.
_HEADER_FRAME = 20
#: Its place among the arguments of basic.consume.
_CONSUMER_TAG = 2
_WITH_CONTENT = frozenset((methods.BASIC_DELIVER, methods.BASIC_RETURN, methods.BASIC_GET_OK))
#: What may come between messages of one read: of the others it is known when their content is complete.
_BESIDE = _WITH_CONTENT | {methods.BASIC_ACK}

_METHODS = spec_methods()

ConsumerCallback = Callable[[Delivery], object]
CancelledCallback = Callable[[str], object]
Prepare = Callable[[Delivery], Any]
PreparedCallback = Callable[[Delivery, Any], object]


class _Consumer(NamedTuple):
    """Who takes one consumer's messages; those that are prepared come with what came of it."""

    callback: Callable[..., object]
    on_cancelled: CancelledCallback | None
    prepare: Prepare | None = None


class AMQChannel(_AMQChannel):
    """
    txamqp's channel.

    :ivar id: its number.
    :ivar closed: whether it has ended, by either side.
    :ivar reason: what ended it.
    :ivar on_return: called with each :class:`Returned`; without it they go to
        the client's ``basic_return_queue``.
    :ivar on_confirm: called with (delivery tag, multiple, acked) for confirms.
    :ivar on_closed: called with the reason when it ends, whoever ends it.
    :ivar is_expendable: whether its connection is to go on where the broker closes it.
    """

    log = Logger()

    # Upstream's __init__ makes the queues by which it passes each frame on; none is used here.
    def __init__(self, id: int, outgoing: object, client: AMQClient) -> None:
        self.id = id
        self.client = client
        self.closed = False
        self.reason: object = None
        self.on_return: Callable[[Returned], object] | None = None
        self.on_confirm: Callable[[int, bool, bool], object] | None = None
        self.on_closed: Callable[[object], object] | None = None
        self.is_expendable = False
        self.published = 0
        self._closing = False
        self._awaits_close_ok = False
        self._requests: deque[tuple[Any, defer.Deferred[Any]]] = deque()
        self._consumers: dict[str, _Consumer] = {}
        self._read: list[tuple[_Consumer, Delivery]] = []
        self._queues: dict[str, ConsumerQueue] = {}
        self._content = ContentAssembler()

    # -- the quick way ---------------------------------------------------------

    def publish(
        self, exchange: str, routing_key: str, properties: bytes, body: bytes, mandatory: bool = False
    ) -> int:
        """
        Publish a message.

        :param properties: what :func:`~crew_tx.amqp.properties.encode_properties` made.
        :returns: its sequence number on this channel, by which a confirm names it.
        :raises txamqp.client.Closed: if the channel has ended.
        :raises EncodeError: if its properties don't fit into one frame.
        :raises CallerError: before there is a connection.
        """
        if self.closed:
            raise closed_error(self.reason)
        client = self.client
        content = self._content_frames(_BASIC, properties, body)
        prefix = frames.publish_prefix(self.id, exchange, routing_key, mandatory)
        self.published += 1
        if len(content) <= 2:
            client.write(b"".join((prefix, *content)))
        else:
            client.write_all([prefix, *content])
        return self.published

    def ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Acknowledge a delivery; nothing happens if the channel has ended, since the tag died with it."""
        if not self.closed:
            self.client.write(frames.pack_method(self.id, methods.BASIC_ACK, (delivery_tag, multiple)))

    def nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        """Hand a delivery back, or reject it; nothing happens if the channel has ended."""
        if not self.closed:
            arguments = (delivery_tag, multiple, requeue)
            self.client.write(frames.pack_method(self.id, methods.BASIC_NACK, arguments))

    def consume(
        self,
        queue: str,
        callback: ConsumerCallback,
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        on_cancelled: CancelledCallback | None = None,
        arguments: dict[str, Any] | None = None,
    ) -> defer.Deferred[str]:
        """
        Consume from a queue by callback.

        :param callback: called with each :class:`Delivery`.
        :param on_cancelled: called with the consumer tag when the broker ends
            the consumer, as it does when the queue is deleted.
        :returns: a Deferred of the consumer tag.
        """
        started = self.basic_consume(
            queue=queue, no_ack=no_ack, exclusive=exclusive, arguments=arguments or {}
        )
        return self._registered(started, _Consumer(callback, on_cancelled))

    def consume_together(
        self,
        queue: str,
        prepare: Prepare,
        callback: PreparedCallback,
        *,
        on_cancelled: CancelledCallback | None = None,
    ) -> defer.Deferred[str]:
        """
        Consume from a queue in two steps.

        What one read brings is all prepared before the first of it is handed
        over: so the code of each step stays in the processor's caches. Messages
        keep their order, among them and with what else comes by this channel, but
        for confirms; what comes by other channels may be earlier.

        :param prepare: called with each :class:`Delivery`.
        :param callback: called with each and what came of preparing it; not if that failed, which is
            logged, and not once the channel has ended.
        :param on_cancelled: as of :meth:`consume`.
        :returns: a Deferred of the consumer tag.
        """
        started = self.basic_consume(queue=queue)
        return self._registered(started, _Consumer(callback, on_cancelled, prepare))

    def _registered(self, started: defer.Deferred[Message], consumer: _Consumer) -> defer.Deferred[str]:
        def register(message: Message) -> str:
            tag: str = message.consumer_tag
            self._consumers[tag] = consumer
            return tag

        return started.addCallback(register)

    def cancel(self, consumer_tag: str) -> defer.Deferred[None]:
        """
        End a consumer.

        What the broker sent before it heard of this is still delivered.
        """

        def forget(_: object) -> None:
            self._forget_consumer(consumer_tag)

        return self.basic_cancel(consumer_tag=consumer_tag).addCallback(forget)  # type: ignore[no-any-return]

    # -- txamqp's way ----------------------------------------------------------

    def invoke(
        self, method: Any, args: tuple[Any, ...], content: Content | None = None
    ) -> defer.Deferred[Any]:
        """
        Send a method.

        All of it is encoded before any of it is written, so an argument that
        can't be leaves the connection as it was.

        :returns: a Deferred of the answer's ``Message``, of None for a method
            without one; errbacks with ``Closed`` or :class:`EncodeError`, or
            with :class:`CallerError` before there is a connection.
        """
        try:
            if self.closed:
                raise closed_error(self.reason)
            if self.client.transport is None:
                raise not_connected()
            method_id = method.klass.id << 16 | method.id
            data = self._packed(method, method_id, args, content)
        except Exception:
            return defer.fail()
        self._before_write(method_id, args)
        answer: defer.Deferred[Any] = defer.Deferred()
        if method.responses and not _is_nowait(method, args):
            # A cancelled Deferred keeps its place here: its answer still comes, and is dropped.
            self._requests.append((method, answer))
        else:
            answer.callback(None)
        self.client.write_all(data)
        return answer

    def consumer_queue(self, consumer_tag: str) -> ConsumerQueue:
        """The queue that this channel's deliveries to one consumer come into."""
        queue = self._queues.get(consumer_tag)
        if queue is None:
            queue = self._queues[consumer_tag] = self.client.claim_queue(consumer_tag)
            if self.closed:
                queue.close()
        return queue

    def has_queue(self, consumer_tag: str) -> bool:
        """Whether a consumer of this channel has that tag and a queue."""
        return consumer_tag in self._queues

    def close(self, reason: object) -> None:
        """End the channel because its connection ends."""
        self._closing = True
        self.do_close(reason)

    def do_close(self, reason: object) -> None:
        """End the channel: fail what waits, close its queues, free its number."""
        # What came before its end.
        self.hand_over()
        if self.closed:
            return
        self.closed = True
        self.reason = reason
        if not self._awaits_close_ok:
            self.client.channel_ended(self)
        self._consumers.clear()
        if self.on_closed is not None:
            self.on_closed(reason)
        requests, self._requests = self._requests, deque()
        for _, answer in requests:
            self._fail(answer)
        for queue in self._queues.values():
            queue.close()
        if not self._closing:
            self.client.channel_failed(self, Failure(closed_error(reason)))

    def consumer_cancelled(self, consumer_tag: str) -> None:
        """The broker ended a consumer (its queue is gone, or its node)."""
        consumer = self._consumers.get(consumer_tag)
        self._forget_consumer(consumer_tag)
        if consumer is not None and consumer.on_cancelled is not None:
            self._call(consumer.on_cancelled, consumer_tag)

    # -- from the wire -----------------------------------------------------------

    def hand_over(self) -> None:
        """The read is over, or something else came: prepare what came by this channel, and hand it over."""
        read, self._read = deque(self._read), []
        prepared: deque[tuple[Callable[..., object], Delivery, Any]] = deque()
        while read:
            self._call(self._prepare, prepared, *read.popleft())
        # Errors keep this frame until garbage is collected: nothing large is left in it.
        while prepared and not self.closed:
            self._call(*prepared.popleft())

    def _prepare(self, prepared: deque[Any], consumer: _Consumer, delivery: Delivery) -> None:
        assert consumer.prepare is not None
        prepared.append((consumer.callback, delivery, consumer.prepare(delivery)))

    def method_received(self, method_id: int, args: tuple[Any, ...]) -> None:
        """:raises ProtocolError: if it comes where content was due."""
        if self._read and method_id not in _BESIDE:
            self.hand_over()
        if self.closed:
            # The broker closed it while our close was on its way, which it answers all the same.
            if method_id == methods.CHANNEL_CLOSE_OK:
                self.client.channel_ended(self)
            return
        self._check_idle()
        if method_id in _WITH_CONTENT:
            self._content.method(method_id, args)
        elif method_id == methods.BASIC_ACK and self.on_confirm is not None:
            self.on_confirm(args[0], args[1], True)
        elif method_id == methods.BASIC_NACK and self.on_confirm is not None:
            self.on_confirm(args[0], args[1], False)
        else:
            self._dispatch(method_id, args, None)

    def header_received(self, size: int, properties: Properties) -> None:
        """:raises ProtocolError: if no content is due."""
        content = self._content.header(size, properties)
        if content is not None:
            self._received(*content)

    def body_received(self, part: bytes) -> None:
        """:raises ProtocolError: if no body is due, or more comes than was announced."""
        content = self._content.body(part)
        if content is not None:
            self._received(*content)

    def content_received(
        self, method_id: int, args: tuple[Any, ...], properties: Properties, body: bytes
    ) -> None:
        """
        A method and the whole of its content came.

        :raises ProtocolError: if it comes where other content was due.
        """
        if not self.closed:
            self._check_idle()
            self._received(method_id, args, properties, body)

    def _check_idle(self) -> None:
        if not self._content.idle:
            raise ProtocolError(
                f"a method came on channel {self.id} where content was due", reply_code=_UNEXPECTED_FRAME
            )

    def _received(self, method_id: int, args: tuple[Any, ...], properties: Properties, body: bytes) -> None:
        consumer = self._consumers.get(args[0]) if method_id == methods.BASIC_DELIVER else None
        if consumer is not None and consumer.prepare is not None:
            if not self._read:
                self.client.has_read(self)
            self._read.append((consumer, Delivery._make((*args, properties, body))))
            return
        if self._read:
            self.hand_over()
        if self.closed:
            return
        if consumer is not None:
            self._call(consumer.callback, Delivery._make((*args, properties, body)))
        elif method_id == methods.BASIC_RETURN and self.on_return is not None:
            self._call(self.on_return, Returned._make((*args, properties, body)))
        else:
            self._dispatch(method_id, args, Content(body, properties=ContentProperties.of(properties)))

    def _call(self, callback: Callable[..., object], *values: object) -> None:
        """A callback's mistake is its own: the connection and the other messages go on."""
        try:
            callback(*values)
        except Exception:
            self.log.failure("a consumer's callback on channel {channel} failed", channel=self.id)

    def _dispatch(self, method_id: int, args: tuple[Any, ...], content: Content | None) -> None:
        message = Message(_METHODS[method_id], args, content)
        if message.method.response:
            self._answered(method_id, message)
        else:
            self.client.delegate.dispatch(self, message)

    def _answered(self, method_id: int, message: Message) -> None:
        if not self._requests or method_id not in _answers_to(self._requests[0][0]):
            name = f"{message.method.klass.name}.{message.method.name}"
            raise ProtocolError(f"{name} came on channel {self.id} unasked", reply_code=_COMMAND_INVALID)
        _, answer = self._requests.popleft()
        if method_id == methods.CHANNEL_CLOSE_OK:
            self._awaits_close_ok = False
            self.close(message)
        elif method_id == methods.BASIC_CONSUME_OK:
            self.consumer_queue(message.consumer_tag)
        answer.callback(message)

    # -- out ---------------------------------------------------------------------

    def _packed(
        self, method: Any, method_id: int, args: tuple[Any, ...], content: Content | None
    ) -> list[bytes]:
        data = [frames.pack_method(self.id, method_id, args)]
        if len(data[0]) > self.client.frame_max:
            raise EncodeError(
                f"{method.klass.name}.{method.name} has {len(data[0])} bytes; "
                f"a frame of this connection has at most {self.client.frame_max}"
            )
        if method.content:
            data += self._packed_content(method.klass.id, content or Content(b""))
        return data

    def _packed_content(self, class_id: int, content: Content) -> list[bytes]:
        if content.children:
            raise EncodeError("AMQP 0-9-1 has no content with children")
        body = content.body.encode() if isinstance(content.body, str) else bytes(content.body)
        properties = encode_properties(content.properties)
        first, *rest = self._content_frames(class_id, properties, body)
        # The header by itself: txamqp's test transport takes each piece for one frame.
        header_size = _HEADER_FRAME + len(properties)
        return [piece for piece in (first[:header_size], first[header_size:], *rest) if piece]

    def _content_frames(self, class_id: int, properties: bytes, body: bytes) -> list[bytes]:
        frame_max = self.client.frame_max
        if len(properties) > frame_max - _HEADER_FRAME:
            raise EncodeError(
                f"the message's properties and headers have {len(properties)} bytes; "
                f"at most {frame_max - _HEADER_FRAME} go into a frame of this connection"
            )
        return frames.pack_content(self.id, class_id, properties, body, frame_max)

    def _before_write(self, method_id: int, args: tuple[Any, ...]) -> None:
        if method_id == methods.BASIC_PUBLISH:
            self.published += 1
        elif method_id == methods.CONFIRM_SELECT:
            self.published = 0
        elif method_id == methods.CHANNEL_CLOSE:
            self._awaits_close_ok = True
        elif method_id == methods.BASIC_CONSUME and args[_CONSUMER_TAG]:
            # Its queue is this channel's, and ends with it, also where no answer or message comes.
            self.consumer_queue(args[_CONSUMER_TAG])

    def _forget_consumer(self, consumer_tag: str) -> None:
        self._consumers.pop(consumer_tag, None)
        queue = self._queues.pop(consumer_tag, None)
        if queue is not None:
            queue.close()

    def _fail(self, answer: defer.Deferred[Any]) -> None:
        answer.errback(Failure(closed_error(self.reason)))


def closed_error(reason: object) -> Closed:
    """The ``Closed`` that says what ended a channel."""
    if not isinstance(reason, Message):
        return Closed(reason)
    return ChannelClosed(reason) if reason.method.klass.name == "channel" else ConnectionClosed(reason)


@cache
def _answers_to(method: Any) -> frozenset[int]:
    """By ids, since the channel's methods may come from another reading of the specification."""
    return frozenset(answer.klass.id << 16 | answer.id for answer in method.responses)


def _is_nowait(method: Any, args: tuple[Any, ...]) -> bool:
    names = method.fields.bypyname
    field = names.get("nowait") or names.get("no_wait")
    return field is not None and bool(args[method.fields.index(field)])
