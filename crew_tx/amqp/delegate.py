"""What to do with methods that the broker sends of its own accord."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from txamqp.client import Closed
from txamqp.client import TwistedDelegate as _TwistedDelegate
from txamqp.message import Message
from txamqp.spec import pythonize

from crew_tx.amqp.errors import printable
from crew_tx.amqp.heartbeat import negotiated
from crew_tx.errors import AuthenticationError, ProtocolError

if TYPE_CHECKING:
    from crew_tx.amqp.channel import AMQChannel
    from crew_tx.amqp.protocol import AMQClient

#: AMQP 0-9-1, section 4.2.3: every peer takes frames of this size.
FRAME_MIN_SIZE = 4096


def smaller_limit(ours: int, theirs: int) -> int:
    """The limit both sides keep, where 0 stands for none."""
    if not ours or not theirs:
        return max(ours, theirs)
    return min(ours, theirs)


def _as_text(long_string: str | bytes) -> str:
    return long_string if isinstance(long_string, str) else long_string.decode(errors="backslashreplace")


class TwistedDelegate(_TwistedDelegate):
    """txamqp's delegate, with the whole of AMQP 0-9-1 and RabbitMQ's extensions."""

    client: AMQClient
    log = Logger()

    def dispatch(self, channel: AMQChannel, message: Message) -> None:
        """:raises ProtocolError: for a method that a broker has no business sending."""
        names = message.method.klass.name, message.method.name
        handler = getattr(self, "_".join(map(pythonize, names)), None)
        if handler is None:
            raise ProtocolError(f"the broker sent {'.'.join(names)}, which only clients send", reply_code=503)
        handler(channel, message)

    def connection_start(self, ch: AMQChannel, msg: Message) -> None:
        self.client.server_properties = msg.server_properties or {}
        if self.client.mechanism is None:
            self.client.hold_start(msg)
            return
        offered = _as_text(msg.mechanisms or self.client.mechanism).split()
        if self.client.mechanism not in offered:
            self.client.fail(
                AuthenticationError(
                    f"the broker does not offer the mechanism {self.client.mechanism}, "
                    f"only {printable(', '.join(offered))}"
                )
            )
            return
        ch.connection_start_ok(
            client_properties=self.client.client_properties,
            mechanism=self.client.mechanism,
            response=self.client.response,
            locale=self.client.locale,
        ).addErrback(self.client.fail)

    def connection_secure(self, ch: AMQChannel, msg: Message) -> None:
        self.client.fail(
            AuthenticationError(
                f"the broker asks for a further challenge, which {self.client.mechanism} does not have"
            )
        )

    def connection_tune(self, ch: AMQChannel, msg: Message) -> None:
        client = self.client
        if client.logged_in:
            raise ProtocolError("the broker sent connection.tune twice", reply_code=503)
        frame_max = smaller_limit(client.frame_max, msg.frame_max or 0)
        if frame_max < FRAME_MIN_SIZE:
            client.fail(
                ProtocolError(f"the broker wants frames of at most {frame_max} bytes; 4096 is the least")
            )
            return
        channel_max = smaller_limit(client.channel_max, msg.channel_max or 0)
        heartbeat = negotiated(client.heartbeatInterval, msg.heartbeat or 0)
        ch.connection_tune_ok(channel_max, frame_max, heartbeat)
        client.tuned(channel_max, frame_max, heartbeat)
        client.started.fire()

    def connection_blocked(self, ch: AMQChannel, msg: Message) -> None:
        self.client.block_changed(printable(msg.reason) or "no reason given")

    def connection_unblocked(self, ch: AMQChannel, msg: Message) -> None:
        self.client.block_changed(None)

    def connection_close(self, ch: AMQChannel, msg: Message) -> None:
        ch.connection_close_ok()
        self.client.do_close(msg)

    def channel_close(self, ch: AMQChannel, msg: Message) -> None:
        ch.channel_close_ok()
        ch.do_close(msg)

    def channel_flow(self, ch: AMQChannel, msg: Message) -> None:
        ch.channel_flow_ok(active=msg.active)

    def basic_deliver(self, ch: AMQChannel, msg: Message) -> None:
        ch.consumer_queue(msg.consumer_tag).put(msg)

    def basic_return_(self, ch: AMQChannel, msg: Message) -> None:
        self.client.basic_return_queue.put(msg)

    def basic_cancel(self, ch: AMQChannel, msg: Message) -> None:
        ch.consumer_cancelled(msg.consumer_tag)
        if not msg.nowait:
            ch.basic_cancel_ok(consumer_tag=msg.consumer_tag)

    def basic_ack(self, ch: AMQChannel, msg: Message) -> None:
        """A confirm that nobody follows."""

    def basic_nack(self, ch: AMQChannel, msg: Message) -> None:
        """A negative confirm that nobody follows: at least say so."""
        self.log.warn(
            "the broker refused message {tag} on channel {channel}, and nobody follows its confirms",
            tag=msg.delivery_tag,
            channel=ch.id,
        )

    def close(self, reason: Any) -> None:
        self.client.closed = True
        self.client.started.fail_if_not_fired(Closed(reason))
        if self.client.transport is not None:
            self.client.transport.loseConnection()
