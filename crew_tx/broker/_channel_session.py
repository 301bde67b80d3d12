"""One channel of a session, from frames to the model and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from crew_tx.amqp import frames, methods
from crew_tx.amqp.methods import Arguments
from crew_tx.broker._channel_methods import HANDLERS, ChannelMethods
from crew_tx.broker._channels import Channel
from crew_tx.broker._content import IncomingContent, Publication
from crew_tx.broker._errors import NO_ROUTE, ReplyError
from crew_tx.broker._messages import Message
from crew_tx.broker._model import VirtualHost
from crew_tx.broker.interfaces import IChannelOutput

if TYPE_CHECKING:
    from crew_tx.broker._session import Session

_BASIC = 60


@implementer(IChannelOutput)
class ChannelSession(ChannelMethods):
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
        self._channel.congested = session.congested
        self._closing = False
        self._incoming = IncomingContent(session.max_message_size)
        self._confirming = False
        self._unconfirmed = 0
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
            self._published_in_frames(self._incoming.header(payload[1], payload[2]))
        else:
            self._published_in_frames(self._incoming.body(payload))

    def _frame_while_closing(self, kind: int, payload: Any) -> None:
        """The client sends what it had under way until it has seen the close."""
        if kind != frames.METHOD:
            return
        if payload[0] == methods.CHANNEL_CLOSE_OK:
            self.ended = True
        elif payload[0] == methods.CHANNEL_CLOSE:
            self._send(methods.CHANNEL_CLOSE_OK, ())

    def _method(self, method_id: int, arguments: Arguments) -> None:
        self._incoming.check_idle()
        if method_id == methods.BASIC_PUBLISH:
            self._incoming.begin(arguments)
            return
        try:
            handler = HANDLERS.get(method_id)
            if handler is None:
                raise ReplyError(503, "unimplemented method")
            handler(self, *arguments)
        except ReplyError as error:
            error.cause = (method_id >> 16, method_id & 0xFFFF)
            raise

    def _published_in_frames(self, publication: Publication | None) -> None:
        if publication is not None:
            self._publication(*publication)

    def _content(self, method_id: int, arguments: Arguments, properties: Any, body: bytes) -> None:
        self._incoming.check_idle()
        if method_id != methods.BASIC_PUBLISH:
            raise ReplyError(503, "unimplemented method")
        self._incoming.check_size(len(body))
        self._publication(arguments, properties, body)

    # -- publishing ----------------------------------------------------------------------

    def _publication(self, arguments: Arguments, properties: Any, body: bytes) -> None:
        _, exchange, routing_key, mandatory, immediate = arguments
        session = self._session
        session.published()
        self._published += 1
        try:
            if immediate:
                raise ReplyError(540, "immediate=true")
            self._check_user(properties.get("user_id"))
            message = Message(exchange, routing_key, properties, body, properties.encoded)
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

    def confirm(self) -> None:
        if not self._confirming:
            self._confirming = True
            self._unconfirmed = self._published

    def _confirm(self, taken: bool) -> None:
        number = self._published - self._unconfirmed
        if taken:
            self._acked.append(number)
        else:
            self.send_confirms()
            self._send(methods.BASIC_NACK, (number, False, False))

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

    # -- the channel itself --------------------------------------------------------------

    def fail(self, error: ReplyError) -> None:
        """End the channel for an error of the client's."""
        self.send_confirms()
        self._closing = True
        self._incoming.forget()
        self._send(methods.CHANNEL_CLOSE, (error.code, error.text, *error.cause))
        self._channel.close(self._session.now)

    @property
    def balance(self) -> int:
        """How many messages more it was delivered than it has published."""
        return self._channel.delivered - self._published

    @property
    def unsettled(self) -> int:
        """How many of its deliveries wait for an acknowledgement."""
        return self._channel.unsettled

    def congest(self, congested: bool) -> None:
        """Hold deliveries back while the client does not read."""
        self._channel.congest(congested, self._session.now)

    def let_go(self) -> None:
        """The connection is gone."""
        if not self._closing:
            self._closing = True
            self._channel.close(self._session.now)

    def close(self) -> None:
        self.send_confirms()
        self._closing = self.ended = True
        self._channel.close(self._session.now)
