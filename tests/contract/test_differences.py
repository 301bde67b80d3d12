"""
Where the embedded broker differs from RabbitMQ 3.10.8, each with what either does.

1. Transactions: tx.select is refused with 540.
2. Streams: there are no queues of the type stream.
3. The largest message has 16 MiB, as in RabbitMQ 4, and one that announces more is refused before its body.
4. What RabbitMQ meets with a crash of its own, 541 or an end without a word, is refused with 501, or passed
   over; the texts of 501 are other words anyway.
5. A type of exchange is "unknown"; RabbitMQ calls some "invalid", those whose name means anything to it.
6. A body that is longer than its header announced is refused with 501, and a delivery that a client sends
   with 503; RabbitMQ waits for the rest.
7. The protocol header of AMQP 0-8 is refused.
8. An unused quorum queue is deleted on time; RabbitMQ looks every few seconds.
9. A connection ends at once for what a client does wrong before it has logged in; RabbitMQ lets it wait.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from crew_tx.amqp import methods
from crew_tx.broker._session import MAX_MESSAGE_SIZE
from tests.contract.brokers import Behaviour, on_each_broker
from tests.contract.test_handshakes import frame, header, publish


class Differences(Behaviour):
    """The list above, point by point."""

    def differs(self, value: object, *, embedded: object, rabbitmq: object) -> None:
        """Check what each broker does."""
        self.assertEqual(value, rabbitmq if self.is_rabbitmq else embedded)

    async def answer(self, request: Deferred[Any]) -> str:
        """The method that answers, or closes the channel or the connection, with the reply code."""
        try:
            message = await request
        except Exception as error:
            reason = error.args[0]
            return f"{reason.method.klass.name}.{reason.method.name} {reason.reply_code}"
        return f"{message.method.klass.name}.{message.method.name}"

    async def test_transactions(self) -> None:
        talk = await self.talk(confirms=False)
        answer = await self.answer(talk.channel.tx_select())
        self.differs(answer, embedded="connection.close 540", rabbitmq="tx.select-ok")

    async def test_streams(self) -> None:
        talk = await self.talk()
        request = talk.channel.queue_declare(
            queue=self.name(), durable=True, arguments={"x-queue-type": "stream"}
        )
        answer = await self.answer(request)
        self.differs(answer, embedded="channel.close 406", rabbitmq="queue.declare-ok")

    async def test_the_largest_message(self) -> None:
        raw = await self.raw()
        await raw.open()
        publish(raw)
        raw.write(header(MAX_MESSAGE_SIZE + 1))
        await raw.passes(0.1)
        text = f"message size {MAX_MESSAGE_SIZE + 1} is larger than configured max size {MAX_MESSAGE_SIZE}"
        close = (406, f"PRECONDITION_FAILED - {text}", 60, 40)
        self.differs(raw.heard, embedded=[("channel.close", close)], rabbitmq=[])

    async def test_properties_that_can_not_be_read(self) -> None:
        raw = await self.raw()
        await raw.open()
        publish(raw)
        # The flag of the content type, and less text than its length says.
        raw.write(frame(2, 1, b"\0\x3c\0\0" + bytes(8) + b"\x80\0" + b"\x05ab"))
        code, _ = await raw.is_refused()
        self.differs(code, embedded=501, rabbitmq=541)

    async def test_a_class_of_methods_that_is_not_there(self) -> None:
        raw = await self.raw()
        await raw.open()
        raw.write(frame(1, 1, b"\0\xff\0\x0a"))
        await raw.passes(0.2)
        if self.is_rabbitmq:
            await raw.until_ended()
        closes = [name for name, _ in raw.heard]
        self.differs(closes, embedded=["connection.close"], rabbitmq=[])

    async def test_where_a_queue_is_to_be_in_a_cluster(self) -> None:
        talk = await self.talk()
        request = talk.channel.queue_declare(
            queue=self.name(), arguments={"x-queue-master-locator": "contract"}
        )
        answer = await self.answer(request)
        # 4.0 passes over it, and 4.3 ends the connection for whatever is in this argument.
        passed_over = self.since(4) and not self.since(4, 3)
        rabbitmq = "queue.declare-ok" if passed_over else "connection.close 541"
        self.differs(answer, embedded="queue.declare-ok", rabbitmq=rabbitmq)

    async def test_a_type_of_exchange_that_is_a_word(self) -> None:
        talk = await self.talk()
        request = talk.channel.exchange_declare(exchange=self.name("exchange"), type="queue")
        _, _, text = await talk.refused(request)
        # 4.0 closes only the channel for it.
        reason = "PRECONDITION_FAILED" if self.since(4) else "COMMAND_INVALID"
        self.differs(
            text,
            embedded="COMMAND_INVALID - unknown exchange type 'queue'",
            rabbitmq=f"{reason} - invalid exchange type 'queue'",
        )

    async def test_a_body_that_is_too_long(self) -> None:
        raw = await self.raw()
        await raw.open()
        publish(raw)
        raw.write(header(3) + frame(3, 1, b"abcdef"))
        await raw.passes(0.1)
        # 4.3 refuses it as well.
        rabbitmq = ["connection.close"] if self.since(4, 3) else []
        self.differs([name for name, _ in raw.heard], embedded=["connection.close"], rabbitmq=rabbitmq)

    async def test_an_older_protocol(self) -> None:
        raw = await self.raw()
        raw.write(b"AMQP\x01\x01\x08\x00")
        await raw.passes(0.1)
        # 4.0 no longer speaks it.
        self.differs(raw.ended, embedded=True, rabbitmq=self.since(4))

    async def test_when_an_unused_quorum_queue_is_deleted(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(durable=True, x_queue_type="quorum", x_expires=60)
        await talk.passes(0.2)
        answer = await self.answer(talk.channel.queue_declare(queue=queue, passive=True))
        self.differs(answer, embedded="channel.close 404", rabbitmq="queue.declare-ok")

    async def test_how_long_a_stranger_waits(self) -> None:
        raw = await self.raw()
        await raw.log_in(password="wrong", properties={})
        await raw.passes(0.3)
        self.differs(raw.ended, embedded=True, rabbitmq=False)

    async def test_a_delivery_that_a_client_sends(self) -> None:
        raw = await self.raw()
        await raw.open()
        raw.method(1, methods.BASIC_DELIVER, "tag", 1, False, "", "")
        await raw.passes(0.1)
        self.differs([name for name, _ in raw.heard], embedded=["connection.close"], rabbitmq=[])


globals().update(on_each_broker(Differences))
