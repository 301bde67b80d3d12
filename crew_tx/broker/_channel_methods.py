"""
What a channel does for its client's methods, all but basic.publish: from their arguments to the model.

The table :data:`HANDLERS` is what a client may send on an open channel.
"""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from crew_tx.amqp import methods
from crew_tx.amqp.methods import Arguments
from crew_tx.broker._channels import Channel
from crew_tx.broker._errors import ReplyError
from crew_tx.broker._messages import Entry, Message
from crew_tx.broker._model import VirtualHost
from crew_tx.broker._queues import Queue

if TYPE_CHECKING:
    from crew_tx.broker._session import Session


class ChannelMethods:
    """The answers to methods; what they need is the rest of a channel's session."""

    _session: Session
    _vhost: VirtualHost
    _channel: Channel
    _confirming: bool

    @abstractmethod
    def _send(self, method_id: int, arguments: Arguments) -> None:
        """Write a method."""

    @abstractmethod
    def _send_content(self, method_id: int, arguments: Arguments, message: Message) -> None:
        """Write a method with content."""

    @abstractmethod
    def confirm(self) -> None:
        """Confirm what is published from now on."""

    @abstractmethod
    def close(self) -> None:
        """End the channel as its client asked for."""

    def _answer(self, nowait: bool, method_id: int, arguments: Arguments = ()) -> None:
        if not nowait:
            self._send(method_id, arguments)

    # -- the channel itself --------------------------------------------------------------

    def _open(self, out_of_band: str) -> None:
        raise ReplyError(504, "second 'channel.open' seen")

    def _close(self, code: int, text: str, class_id: int, method_id: int) -> None:
        self.close()
        self._send(methods.CHANNEL_CLOSE_OK, ())

    def _flow(self, active: bool) -> None:
        if not active:
            raise ReplyError(540, "active=false")
        self._send(methods.CHANNEL_FLOW_OK, (True,))

    def _confirm_select(self, nowait: bool) -> None:
        self.confirm()
        self._answer(nowait, methods.CONFIRM_SELECT_OK)

    def _tx_select(self) -> None:
        if self._confirming:
            raise ReplyError(406, "cannot switch from confirm to tx mode")
        raise ReplyError(540, "tx.select")

    def _tx_end(self) -> None:
        raise ReplyError(406, "channel is not transactional")

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
            _one_line(exchange),
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
        self._vhost.bind(self._vhost.source(destination), source, routing_key, arguments)
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
        self._vhost.unbind(self._vhost.exchanges.get(destination), source, routing_key, arguments)
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
            _one_line(name) or (self._channel.last_queue if passive else ""),
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
        # Of two that are missing, the exchange is told of.
        self._vhost.source(exchange)
        queue, key = self._to_bind(name, routing_key)
        self._vhost.bind(queue, exchange, key, arguments)
        self._answer(nowait, methods.QUEUE_BIND_OK)

    def _queue_unbind(
        self, ticket: int, name: str, exchange: str, routing_key: str, arguments: dict[str, Any]
    ) -> None:
        if self._name(name) not in self._vhost.queues:
            self._vhost.unbind(None, exchange, routing_key, arguments)
        else:
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
        name = _one_line(name) or self._channel.last_queue
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
        queue = self._queue(name)
        consumer = self._channel.consume(queue, tag, arguments, no_ack=no_ack, exclusive=exclusive)
        # Before the first delivery.
        self._answer(nowait, methods.BASIC_CONSUME_OK, (tag,))
        self._vhost.consume(consumer, self._session.now)

    def _cancel(self, tag: str, nowait: bool) -> None:
        self._vhost.cancel(self._channel, tag, self._session.now)
        self._answer(nowait, methods.BASIC_CANCEL_OK, (tag,))

    def _get(self, ticket: int, name: str, no_ack: bool) -> None:
        queue = self._queue(name)
        entry: Entry | None = self._vhost.get(queue, self._session.now)
        if entry is None:
            self._send(methods.BASIC_GET_EMPTY, ("",))
            return
        message = queue.as_got(entry)
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


def _one_line(name: str) -> str:
    """RabbitMQ takes line ends out of names."""
    return name.replace("\r", "").replace("\n", "")


#: What a channel's client may send: the legal moves of an open channel.
HANDLERS: dict[int, Callable[..., None]] = {
    methods.CHANNEL_OPEN: ChannelMethods._open,
    methods.CHANNEL_CLOSE: ChannelMethods._close,
    methods.CHANNEL_FLOW: ChannelMethods._flow,
    methods.CONFIRM_SELECT: ChannelMethods._confirm_select,
    methods.EXCHANGE_DECLARE: ChannelMethods._exchange_declare,
    methods.EXCHANGE_DELETE: ChannelMethods._exchange_delete,
    methods.EXCHANGE_BIND: ChannelMethods._exchange_bind,
    methods.EXCHANGE_UNBIND: ChannelMethods._exchange_unbind,
    methods.QUEUE_DECLARE: ChannelMethods._queue_declare,
    methods.QUEUE_BIND: ChannelMethods._queue_bind,
    methods.QUEUE_UNBIND: ChannelMethods._queue_unbind,
    methods.QUEUE_PURGE: ChannelMethods._queue_purge,
    methods.QUEUE_DELETE: ChannelMethods._queue_delete,
    methods.BASIC_QOS: ChannelMethods._qos,
    methods.BASIC_CONSUME: ChannelMethods._consume,
    methods.BASIC_CANCEL: ChannelMethods._cancel,
    methods.BASIC_GET: ChannelMethods._get,
    methods.BASIC_ACK: ChannelMethods._ack,
    methods.BASIC_NACK: ChannelMethods._nack,
    methods.BASIC_REJECT: ChannelMethods._reject,
    methods.BASIC_RECOVER: ChannelMethods._recover,
    methods.BASIC_RECOVER_ASYNC: ChannelMethods._recover_async,
    methods.TX_SELECT: ChannelMethods._tx_select,
    methods.TX_COMMIT: ChannelMethods._tx_end,
    methods.TX_ROLLBACK: ChannelMethods._tx_end,
}
