"""The methods of one channel, from frames to the model and back."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from crew_tx.amqp import frames, methods
from crew_tx.amqp.methods import Arguments
from crew_tx.amqp.spec import method_names
from crew_tx.broker._channels import Channel
from crew_tx.broker._errors import NO_ROUTE, ReplyError
from crew_tx.broker._messages import Entry, Message
from crew_tx.broker._model import VirtualHost
from crew_tx.broker._queues import Queue
from crew_tx.broker.interfaces import IChannelOutput

if TYPE_CHECKING:
    from crew_tx.broker._session import Session

_BASIC = 60


@implementer(IChannelOutput)
class ChannelSession:
    """
    One channel of a session.

    :ivar ended: whether it is closed on both sides, and its number is free.
    """

    def __init__(self, session: Session, number: int) -> None:
        assert session.vhost is not None
        self.number = number
        self.ended = False
        self._session = session
        self._vhost: VirtualHost = session.vhost
        self._channel = Channel(session.vhost, self)
        self._closing = False
        self._publish: Arguments | None = None
        self._properties: Any = None
        self._missing = 0
        self._parts: list[bytes] = []
        self._confirming = False
        self._published = 0
        self._acked: list[int] = []

    @property
    def connection(self) -> Session:
        """What exclusive queues belong to."""
        return self._session

    # -- frames --------------------------------------------------------------------------

    def frame(self, kind: int, payload: Any) -> None:
        """
        Take a frame.

        :raises ReplyError: if it is refused.
        """
        if self._closing:
            self._frame_while_closing(kind, payload)
        elif kind == frames.CONTENT:
            self._content(*payload)
        elif kind == frames.METHOD:
            self._method(*payload)
        elif kind == frames.HEADER:
            self._header(payload[1], payload[2])
        else:
            self._body(payload)

    def _frame_while_closing(self, kind: int, payload: Any) -> None:
        """The client sends what it had under way until it has seen the close."""
        if kind != frames.METHOD:
            return
        if payload[0] == methods.CHANNEL_CLOSE_OK:
            self.ended = True
        elif payload[0] == methods.CHANNEL_CLOSE:
            self._send(methods.CHANNEL_CLOSE_OK, ())

    def _method(self, method_id: int, arguments: Arguments) -> None:
        if self._publish is not None:
            raise ReplyError(505, "expected content header for class 60, got method frame instead")
        if method_id == methods.BASIC_PUBLISH:
            self._check_publish(arguments)
            self._publish = arguments
            return
        handler = _HANDLERS.get(method_id)
        if handler is None:
            raise _refusal(method_id)
        try:
            handler(self, *arguments)
        except ReplyError as error:
            error.cause = (method_id >> 16, method_id & 0xFFFF)
            raise

    def _header(self, size: int, properties: Any) -> None:
        if self._publish is None or self._properties is not None:
            raise ReplyError(505, "expected method frame, got content header frame instead")
        self._check_size(size)
        self._properties = properties
        self._missing = size
        if not size:
            self._complete(b"")

    def _body(self, part: bytes) -> None:
        if self._properties is None:
            raise ReplyError(505, "expected method frame, got content body frame instead")
        self._missing -= len(part)
        if self._missing < 0:
            raise ReplyError(501, "a body is longer than its header announced")
        self._parts.append(part)
        if not self._missing:
            self._complete(b"".join(self._parts))

    def _complete(self, body: bytes) -> None:
        arguments, properties = self._publish, self._properties
        assert arguments is not None
        self._publish = self._properties = None
        self._parts = []
        self._publication(arguments, properties, body)

    def _content(self, method_id: int, arguments: Arguments, properties: Any, body: bytes) -> None:
        if method_id != methods.BASIC_PUBLISH:
            raise _refusal(method_id)
        if self._publish is not None:
            raise ReplyError(505, "expected content header for class 60, got method frame instead")
        self._check_publish(arguments)
        self._check_size(len(body))
        self._publication(arguments, properties, body)

    # -- publishing ----------------------------------------------------------------------

    @staticmethod
    def _check_publish(arguments: Arguments) -> None:
        if arguments[4]:
            raise ReplyError(540, "immediate=true")

    def _check_size(self, size: int) -> None:
        most = self._session.max_message_size
        if size > most:
            raise ReplyError(406, f"message size {size} is larger than configured max size {most}")

    def _publication(self, arguments: Arguments, properties: Any, body: bytes) -> None:
        _, exchange, routing_key, mandatory, _ = arguments
        session = self._session
        session.published()
        self._check_user(properties.get("user_id"))
        message = Message(exchange, routing_key, properties, body, properties.encoded)
        self._published += 1
        try:
            published = self._vhost.publish(message, session.now)
        except ReplyError as error:
            error.cause = (_BASIC, methods.BASIC_PUBLISH & 0xFFFF)
            raise
        if mandatory and not published.routed:
            self._return(message)
        if self._confirming:
            self._confirm(published.taken)

    def _check_user(self, user: str | None) -> None:
        if user is not None and user != self._session.user:
            raise ReplyError(
                406,
                f"user_id property set to '{user}' but authenticated user was '{self._session.user}'",
            )

    def _return(self, message: Message) -> None:
        arguments = (NO_ROUTE, "NO_ROUTE", message.exchange, message.routing_key)
        self._send_content(methods.BASIC_RETURN, arguments, message)

    def _confirm(self, taken: bool) -> None:
        if taken:
            self._acked.append(self._published)
        else:
            self.send_confirms()
            self._send(methods.BASIC_NACK, (self._published, False, False))

    def send_confirms(self) -> None:
        """Confirm what was taken since the last time: one ack does for all."""
        acked, self._acked = self._acked, []
        if acked and not self._closing:
            self._send(methods.BASIC_ACK, (acked[-1], len(acked) > 1))

    # -- output --------------------------------------------------------------------------

    def deliver(self, consumer_tag: str, delivery_tag: int, redelivered: bool, message: Message) -> None:
        arguments = (consumer_tag, delivery_tag, redelivered, message.exchange, message.routing_key)
        self._send_content(methods.BASIC_DELIVER, arguments, message)

    def cancelled(self, consumer_tag: str) -> None:
        if self._session.can_be_cancelled:
            self._send(methods.BASIC_CANCEL, (consumer_tag, True))

    def _send(self, method_id: int, arguments: Arguments) -> None:
        self._session.send(self.number, method_id, arguments)

    def _send_content(self, method_id: int, arguments: Arguments, message: Message) -> None:
        method = frames.pack_method(self.number, method_id, arguments)
        self._session.send_content(self.number, method, message.encoded, message.body)

    def _answer(self, nowait: bool, method_id: int, arguments: Arguments = ()) -> None:
        if not nowait:
            self._send(method_id, arguments)

    # -- the channel itself --------------------------------------------------------------

    def fail(self, error: ReplyError) -> None:
        """End the channel for an error of the client's."""
        self.send_confirms()
        self._closing = True
        self._publish = self._properties = None
        self._send(methods.CHANNEL_CLOSE, (error.code, error.text, *error.cause))
        self._channel.close(self._session.now)

    def let_go(self) -> None:
        """The connection is gone."""
        if not self._closing:
            self._closing = True
            self._channel.close(self._session.now)

    def _open(self, out_of_band: str) -> None:
        raise ReplyError(504, "second 'channel.open' seen")

    def _close(self, code: int, text: str, class_id: int, method_id: int) -> None:
        self.send_confirms()
        self._closing = self.ended = True
        self._channel.close(self._session.now)
        self._send(methods.CHANNEL_CLOSE_OK, ())

    def _flow(self, active: bool) -> None:
        self._channel.flow(active, self._session.now)
        self._send(methods.CHANNEL_FLOW_OK, (active,))

    def _flow_ok(self, active: bool) -> None:
        """Nobody asked, and it does no harm."""

    def _confirm_select(self, nowait: bool) -> None:
        self._confirming = True
        self._answer(nowait, methods.CONFIRM_SELECT_OK)

    # -- exchanges -----------------------------------------------------------------------

    def _exchange_declare(
        self,
        ticket: int,
        exchange: str,
        kind: str,
        passive: bool,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        nowait: bool,
        arguments: dict[str, Any],
    ) -> None:
        self._vhost.declare_exchange(
            exchange,
            kind,
            passive=passive,
            durable=durable,
            auto_delete=auto_delete,
            internal=internal,
            arguments=arguments,
        )
        self._answer(nowait, methods.EXCHANGE_DECLARE_OK)

    def _exchange_delete(self, ticket: int, exchange: str, if_unused: bool, nowait: bool) -> None:
        self._vhost.delete_exchange(exchange, if_unused=if_unused)
        self._answer(nowait, methods.EXCHANGE_DELETE_OK)

    def _exchange_bind(
        self,
        ticket: int,
        destination: str,
        source: str,
        routing_key: str,
        nowait: bool,
        arguments: dict[str, Any],
    ) -> None:
        self._vhost.bind(self._vhost.exchange(destination), source, routing_key, arguments)
        self._answer(nowait, methods.EXCHANGE_BIND_OK)

    def _exchange_unbind(
        self,
        ticket: int,
        destination: str,
        source: str,
        routing_key: str,
        nowait: bool,
        arguments: dict[str, Any],
    ) -> None:
        self._vhost.unbind(self._vhost.exchange(destination), source, routing_key, arguments)
        self._answer(nowait, methods.EXCHANGE_UNBIND_OK)

    # -- queues --------------------------------------------------------------------------

    def _queue_declare(
        self,
        ticket: int,
        name: str,
        passive: bool,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        nowait: bool,
        arguments: dict[str, Any],
    ) -> None:
        queue = self._vhost.declare_queue(
            name or (self._channel.last_queue if passive else ""),
            self._session,
            self._session.now,
            passive=passive,
            durable=durable,
            exclusive=exclusive,
            auto_delete=auto_delete,
            arguments=arguments,
        )
        self._channel.last_queue = queue.name
        self._answer(nowait, methods.QUEUE_DECLARE_OK, (queue.name, len(queue), len(queue.consumers)))

    def _queue_bind(
        self,
        ticket: int,
        name: str,
        exchange: str,
        routing_key: str,
        nowait: bool,
        arguments: dict[str, Any],
    ) -> None:
        queue, key = self._to_bind(name, routing_key)
        self._vhost.bind(queue, exchange, key, arguments)
        self._answer(nowait, methods.QUEUE_BIND_OK)

    def _queue_unbind(
        self, ticket: int, name: str, exchange: str, routing_key: str, arguments: dict[str, Any]
    ) -> None:
        queue, key = self._to_bind(name, routing_key)
        self._vhost.unbind(queue, exchange, key, arguments)
        self._send(methods.QUEUE_UNBIND_OK, ())

    def _to_bind(self, name: str, routing_key: str) -> tuple[Queue, str]:
        """Where both are empty, both stand for the queue declared last."""
        queue = self._queue(name)
        return queue, routing_key or ("" if name else queue.name)

    def _queue_purge(self, ticket: int, name: str, nowait: bool) -> None:
        count = self._vhost.purge_queue(self._name(name), self._session)
        self._answer(nowait, methods.QUEUE_PURGE_OK, (count,))

    def _queue_delete(self, ticket: int, name: str, if_unused: bool, if_empty: bool, nowait: bool) -> None:
        count = self._vhost.delete_queue(
            self._name(name), self._session, if_unused=if_unused, if_empty=if_empty
        )
        self._answer(nowait, methods.QUEUE_DELETE_OK, (count,))

    def _queue(self, name: str) -> Queue:
        return self._vhost.queue(self._name(name), self._session)

    def _name(self, name: str) -> str:
        """An empty name stands for the queue declared last."""
        name = name or self._channel.last_queue
        if not name:
            raise ReplyError(404, "no previously declared queue")
        return name

    # -- consuming -----------------------------------------------------------------------

    def _qos(self, prefetch_size: int, prefetch_count: int, shared: bool) -> None:
        if prefetch_size:
            raise ReplyError(540, f"prefetch_size!=0 ({prefetch_size})")
        self._channel.qos(prefetch_count, shared, self._session.now)
        self._send(methods.BASIC_QOS_OK, ())

    def _consume(
        self,
        ticket: int,
        name: str,
        tag: str,
        no_local: bool,
        no_ack: bool,
        exclusive: bool,
        nowait: bool,
        arguments: dict[str, Any],
    ) -> None:
        tag = tag or f"amq.ctag-{secrets.token_urlsafe(16)}"
        consumer = self._channel.consume(self._queue(name), tag, no_ack=no_ack, exclusive=exclusive)
        # Before the first delivery.
        self._answer(nowait, methods.BASIC_CONSUME_OK, (tag,))
        self._vhost.consume(consumer, self._session.now)

    def _cancel(self, tag: str, nowait: bool) -> None:
        self._vhost.cancel(self._channel, tag, self._session.now)
        self._answer(nowait, methods.BASIC_CANCEL_OK, (tag,))

    def _cancel_ok(self, tag: str) -> None:
        """The client has heard of its queue's end."""

    def _get(self, ticket: int, name: str, no_ack: bool) -> None:
        queue = self._queue(name)
        entry: Entry | None = self._vhost.get(queue, self._session.now)
        if entry is None:
            self._send(methods.BASIC_GET_EMPTY, ("",))
            return
        message = entry.message
        tag = self._channel.got(queue, entry, no_ack)
        arguments = (tag, entry.redelivered, message.exchange, message.routing_key, len(queue))
        self._send_content(methods.BASIC_GET_OK, arguments, message)

    def _ack(self, delivery_tag: int, multiple: bool) -> None:
        self._channel.ack(delivery_tag, multiple, self._session.now)

    def _nack(self, delivery_tag: int, multiple: bool, requeue: bool) -> None:
        self._channel.reject(delivery_tag, multiple, requeue, self._session.now)

    def _reject(self, delivery_tag: int, requeue: bool) -> None:
        self._channel.reject(delivery_tag, False, requeue, self._session.now)

    def _recover(self, requeue: bool) -> None:
        self._recover_async(requeue)
        self._send(methods.BASIC_RECOVER_OK, ())

    def _recover_async(self, requeue: bool) -> None:
        if not requeue:
            raise ReplyError(540, "requeue=false")
        self._channel.recover(self._session.now)


#: What a channel's client may send: the legal moves of an open channel.
_HANDLERS: dict[int, Callable[..., None]] = {
    methods.CHANNEL_OPEN: ChannelSession._open,
    methods.CHANNEL_CLOSE: ChannelSession._close,
    methods.CHANNEL_FLOW: ChannelSession._flow,
    methods.CHANNEL_FLOW_OK: ChannelSession._flow_ok,
    methods.CONFIRM_SELECT: ChannelSession._confirm_select,
    methods.EXCHANGE_DECLARE: ChannelSession._exchange_declare,
    methods.EXCHANGE_DELETE: ChannelSession._exchange_delete,
    methods.EXCHANGE_BIND: ChannelSession._exchange_bind,
    methods.EXCHANGE_UNBIND: ChannelSession._exchange_unbind,
    methods.QUEUE_DECLARE: ChannelSession._queue_declare,
    methods.QUEUE_BIND: ChannelSession._queue_bind,
    methods.QUEUE_UNBIND: ChannelSession._queue_unbind,
    methods.QUEUE_PURGE: ChannelSession._queue_purge,
    methods.QUEUE_DELETE: ChannelSession._queue_delete,
    methods.BASIC_QOS: ChannelSession._qos,
    methods.BASIC_CONSUME: ChannelSession._consume,
    methods.BASIC_CANCEL: ChannelSession._cancel,
    methods.BASIC_CANCEL_OK: ChannelSession._cancel_ok,
    methods.BASIC_GET: ChannelSession._get,
    methods.BASIC_ACK: ChannelSession._ack,
    methods.BASIC_NACK: ChannelSession._nack,
    methods.BASIC_REJECT: ChannelSession._reject,
    methods.BASIC_RECOVER: ChannelSession._recover,
    methods.BASIC_RECOVER_ASYNC: ChannelSession._recover_async,
}


def _refusal(method_id: int) -> ReplyError:
    """A method that a client may not send, or that this broker does not have."""
    name = method_names()[method_id]
    if name.startswith("tx."):
        return ReplyError(540, name)
    return ReplyError(503, f"unexpected method {name}")
