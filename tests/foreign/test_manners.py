"""What other people's clients do to a broker that crew_tx's own does not, one by one, on each broker."""

from __future__ import annotations

from twisted.internet.task import deferLater

from tests.contract.brokers import Behaviour, on_each_broker

#: As a client of AMQP 0-9 greets; txamqp does.
GREETING_0_9 = b"AMQP\x01\x01\x00\x09"
#: Seconds between what is not to arrive as one.
_BETWEEN = 0.05


class Greetings(Behaviour):
    async def test_a_client_of_amqp_0_9_is_let_in(self) -> None:
        """From then on it says what one of 0-9-1 does."""
        raw = await self.raw()
        raw.write(GREETING_0_9)
        major, minor, *_ = await raw.hears("connection.start")
        self.assertEqual((major, minor), (0, 9))

    async def test_a_greeting_may_come_in_pieces(self) -> None:
        """The first five bytes of either are no greeting yet."""
        raw = await self.raw()
        raw.write(GREETING_0_9[:5])
        await deferLater(self.clock, _BETWEEN)
        raw.write(GREETING_0_9[5:])
        await raw.hears("connection.start")

    async def test_what_greets_as_something_else_is_told_our_version(self) -> None:
        """And that is the end."""
        raw = await self.raw()
        raw.write(b"AMQP\x01\x01\x00\x0a")
        await raw.until_ended()
        self.assertEqual(raw.received, b"AMQP\x00\x00\x09\x01")


class Unbinding(Behaviour):
    """aio-pika unbinds queues that went with their consumer."""

    async def test_a_queue_that_is_not_there(self) -> None:
        """It is not bound."""
        talk = await self.talk()
        for exchange in ("amq.topic", "missing"):
            answer = await talk.channel.queue_unbind(
                queue="missing", exchange=exchange, routing_key="key", arguments={}
            )
            self.assertEqual(answer.method.name, "unbind-ok")

    async def test_from_an_exchange_that_is_not_there(self) -> None:
        """Nor is it bound to that."""
        talk = await self.talk()
        answer = await talk.channel.queue_unbind(
            queue=await talk.queue(), exchange="missing", routing_key="key", arguments={}
        )
        self.assertEqual(answer.method.name, "unbind-ok")

    async def test_exchanges_that_are_not_there(self) -> None:
        """On either side."""
        talk = await self.talk()
        for destination, source in (("missing", "amq.topic"), ("amq.topic", "missing")):
            answer = await talk.channel.exchange_unbind(
                destination=destination, source=source, routing_key="key", arguments={}
            )
            self.assertEqual(answer.method.name, "unbind-ok")

    async def test_the_default_exchange_is_never_bound(self) -> None:
        """As either end, and whatever the other is."""
        refusal = ("channel", 403, "ACCESS_REFUSED - operation not permitted on the default exchange")
        for destination, source in (("", "amq.topic"), ("missing", "")):
            talk = await self.talk()
            request = talk.channel.exchange_unbind(
                destination=destination, source=source, routing_key="key", arguments={}
            )
            self.assertEqual(await talk.refused(request), refusal)


class Refusals(Behaviour):
    """What they show people is the broker's text."""

    async def test_an_exchange_of_a_type_that_nobody_knows(self) -> None:
        """As where a plugin is missing."""
        talk = await self.talk()
        refusal = await talk.refused(talk.channel.exchange_declare(exchange="odd", type="x-odd"))
        self.assertEqual(refusal, ("connection", 503, "COMMAND_INVALID - unknown exchange type 'x-odd'"))

    async def test_direct_reply_to_is_rabbitmqs_alone(self) -> None:
        """The embedded broker says at once that it has none."""
        talk = await self.talk()
        request = talk.channel.basic_consume(queue="amq.rabbitmq.reply-to", no_ack=True)
        if self.is_rabbitmq:
            self.assertEqual((await request).method.name, "consume-ok")
        else:
            text = "NOT_FOUND - no queue 'amq.rabbitmq.reply-to' in vhost '/'"
            self.assertEqual(await talk.refused(request), ("channel", 404, text))


globals().update(on_each_broker(Greetings, Unbinding, Refusals))
