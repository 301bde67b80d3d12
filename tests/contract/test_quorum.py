"""What quorum queues do otherwise."""

from __future__ import annotations

from typing import Any

from tests.contract.brokers import Behaviour, on_each_broker
from tests.contract.conversations import QUIET, Conversation


class Quorum(Behaviour):
    """Queues of the type quorum."""

    async def quorum(self, talk: Conversation, **options: Any) -> str:
        """Declare one."""
        return await talk.queue(durable=True, x_queue_type="quorum", **options)

    @property
    def handed_back(self) -> str:
        """The header that counts what was handed back; RabbitMQ 4.3 counts apart what a channel left."""
        return "x-acquired-count" if self.since(4, 3) else "x-delivery-count"

    async def hand_back(self, talk: Conversation, queue: str, times: int) -> None:
        """Take a message and hand it back, so many times."""
        for _ in range(times):
            got = await talk.taken(queue, no_ack=False)
            talk.channel.nack(got.delivery_tag)

    async def leave(self, talk: Conversation, queue: str) -> None:
        """Take a message with a channel that ends then."""
        other = await self.talk(talk.client)
        await other.taken(queue, no_ack=False)
        await other.channel.channel_close(reply_code=200)

    async def test_it_has_to_be_durable_and_nobodys_own(self) -> None:
        for wrong, options in (
            ("non-durable", {}),
            ("exclusive-owner", {"durable": True, "exclusive": True}),
            ("auto-delete", {"durable": True, "auto_delete": True}),
        ):
            talk = await self.talk()
            queue = self.name()
            request = talk.channel.queue_declare(queue=queue, arguments={"x-queue-type": "quorum"}, **options)
            text = f"PRECONDITION_FAILED - invalid property '{wrong}' for queue '{queue}' in vhost '/'"
            self.assertEqual(await talk.refused(request), ("channel", 406, text))

    async def test_it_has_to_have_a_name(self) -> None:
        talk = await self.talk()
        request = talk.channel.queue_declare(queue="", durable=True, arguments={"x-queue-type": "quorum"})
        text = "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue"
        self.assertEqual(await talk.refused(request), ("channel", 406, text))

    async def test_it_does_not_refuse_and_dead_letter(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await self.quorum(
            talk,
            x_max_length=1,
            x_overflow="reject-publish-dlx",
            x_dead_letter_exchange="",
            x_dead_letter_routing_key=dead,
        )
        self.assertEqual(await talk.send(queue, b"1", b"2"), [True, True])
        self.assertEqual((await talk.taken(dead)).body, b"1")
        self.assertEqual(await talk.drained(queue), [b"2"])

    async def test_a_delivery_without_a_count_is_the_first(self) -> None:
        talk = await self.talk()
        queue = await self.quorum(talk)
        await talk.send(queue, b"1")
        inbox = await talk.consume(queue)
        await inbox.has(1)
        talk.channel.nack(1)
        await inbox.has(2)
        counts = [delivery.properties.get("headers") for delivery in inbox.deliveries]
        self.assertEqual(counts, [None, {self.handed_back: 1}])

    async def test_in_the_order_of_publishing(self) -> None:
        talk = await self.talk()
        queue = await self.quorum(talk)
        self.assertEqual(await talk.send(queue, b"1", b"2", b"3"), [True] * 3)
        inbox = await talk.consume(queue)
        self.assertEqual(await inbox.has(3), [b"1", b"2", b"3"])

    async def test_what_comes_back_is_counted(self) -> None:
        talk = await self.talk()
        queue = await self.quorum(talk)
        await talk.send(queue, b"1")
        counts = []
        for _ in range(3):
            got = await talk.taken(queue, no_ack=False)
            counts.append((got.headers.get(self.handed_back), got.redelivered))
            talk.channel.nack(got.delivery_tag)
        # RabbitMQ 4 says nothing of the first, by basic.get as well.
        first = None if self.since(4) else 0
        self.assertEqual(counts, [(first, False), (1, True), (2, True)])

    async def test_the_count_goes_on_over_channels(self) -> None:
        talk = await self.talk()
        queue = await self.quorum(talk)
        await talk.send(queue, b"1")
        await self.leave(talk, queue)
        got = await talk.taken(queue)
        self.assertEqual(got.headers, {"x-delivery-count": 1, self.handed_back: 1})

    async def test_headers_of_ones_own_stay_beside_the_count(self) -> None:
        talk = await self.talk()
        queue = await self.quorum(talk)
        await talk.send(queue, b"1", headers={"mine": 1}, message_id="m")
        await self.hand_back(talk, queue, 1)
        got = await talk.taken(queue)
        self.assertEqual(got.properties, {"headers": {"mine": 1, self.handed_back: 1}, "message_id": "m"})

    async def test_delivered_too_often_it_is_a_dead_letter(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await self.quorum(
            talk, x_delivery_limit=2, x_dead_letter_exchange="", x_dead_letter_routing_key=dead
        )
        await talk.send(queue, b"1")
        for _ in range(3):
            await self.leave(talk, queue)
        got = await talk.taken(dead)
        [death] = got.headers["x-death"]
        self.assertEqual((death["reason"], death["queue"]), ("delivery_limit", queue))
        self.assertEqual(got.headers["x-first-death-reason"], "delivery_limit")

    async def test_handed_back_too_often_it_is_one_too(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await self.quorum(
            talk, x_delivery_limit=2, x_dead_letter_exchange="", x_dead_letter_routing_key=dead
        )
        await talk.send(queue, b"1")
        await self.hand_back(talk, queue, 3)
        # RabbitMQ 4.3 does not count that for the limit.
        came_to, other = (queue, dead) if self.since(4, 3) else (dead, queue)
        self.assertEqual((await talk.taken(came_to)).body, b"1")
        self.assertTrue(await talk.stays_empty(other))

    async def test_a_dead_letter_does_not_tell_how_often_it_came_back(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await self.quorum(talk, x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
        await talk.send(queue, b"1")
        got = await talk.taken(queue, no_ack=False)
        talk.channel.nack(got.delivery_tag)
        got = await talk.taken(queue, no_ack=False)
        talk.channel.nack(got.delivery_tag, False, False)
        got = await talk.taken(dead)
        self.assertNotIn("x-delivery-count", got.headers)

    async def test_without_a_limit_it_comes_back_for_ever(self) -> None:
        talk = await self.talk()
        queue = await self.quorum(talk)
        await talk.send(queue, b"1")
        await self.hand_back(talk, queue, 21)
        if self.since(4) and not self.since(4, 3):
            # In RabbitMQ 4 the limit is 20 where none is given; 4.3 does not count this for it.
            self.assertTrue(await talk.stays_empty(queue))
        else:
            self.assertEqual((await talk.taken(queue)).headers, {self.handed_back: 21})

    async def test_without_a_limit_a_channel_may_leave_it_for_ever(self) -> None:
        talk = await self.talk()
        queue = await self.quorum(talk)
        await talk.send(queue, b"1")
        for _ in range(21):
            await self.leave(talk, queue)
        # In RabbitMQ 4 the limit is 20.
        left = [] if self.since(4) else [b"1"]
        await talk.passes(QUIET)
        self.assertEqual(await talk.drained(queue), left)

    async def test_what_is_handed_back_goes_behind(self) -> None:
        talk = await self.talk()
        queue = await self.quorum(talk)
        await talk.send(queue, b"1", b"2", b"3")
        tags = [(await talk.taken(queue, no_ack=False)).delivery_tag for _ in range(2)]
        for tag in reversed(tags):
            talk.channel.nack(tag)
        # In RabbitMQ 4 it goes before what waits, in the order in which it came back.
        order = [b"2", b"1", b"3"] if self.since(4) else [b"3", b"2", b"1"]
        self.assertEqual([(await talk.taken(queue)).body for _ in range(3)], order)

    async def test_what_a_channel_leaves_goes_first(self) -> None:
        talk = await self.talk()
        queue = await self.quorum(talk)
        await talk.send(queue, b"1", b"2", b"3")
        other = await self.talk(talk.client)
        for _ in range(2):
            await other.taken(queue, no_ack=False)
        await other.channel.channel_close(reply_code=200)
        await talk.passes(0.1)
        self.assertEqual([(await talk.taken(queue)).body for _ in range(3)], [b"1", b"2", b"3"])

    async def test_too_many(self) -> None:
        talk = await self.talk()
        queue = await self.quorum(talk, x_max_length=2)
        await talk.send(queue, b"1", b"2", b"3")
        self.assertEqual(await talk.drained(queue), [b"2", b"3"])

    async def test_it_refuses_what_is_too_much(self) -> None:
        talk = await self.talk()
        queue = await self.quorum(talk, x_max_length=1, x_overflow="reject-publish")
        outcomes = []
        for body in (b"1", b"2", b"3", b"4"):
            talk.publish(queue, body)
            outcomes = await talk.confirmed()
            await talk.passes(0.05)
        self.assertEqual(outcomes[0], True)
        self.assertEqual(outcomes[-1], False)

    async def test_messages_expire(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await self.quorum(
            talk, x_message_ttl=60, x_dead_letter_exchange="", x_dead_letter_routing_key=dead
        )
        await talk.send(queue, b"1")
        got = await talk.taken(dead)
        self.assertEqual(got.headers["x-death"][0]["reason"], "expired")

    async def test_an_unused_queue_expires(self) -> None:
        talk = await self.talk()
        queue = await self.quorum(talk, x_expires=60)
        # RabbitMQ looks once in a while only.
        for _ in range(20):
            await talk.passes(0.5)
            looks = await self.talk(talk.client)
            gone = looks.channel.queue_declare(queue=queue, passive=True).addErrback(lambda _: True)
            if await gone is True:
                return
        self.fail("it is still there")

    async def test_a_single_active_consumer(self) -> None:
        talk = await self.talk()
        queue = await self.quorum(talk, x_single_active_consumer=True)
        first, second = await talk.consume(queue), await talk.consume(queue)
        await talk.send(queue, b"1", b"2")
        self.assertEqual(await first.has_no_more_than(2), [b"1", b"2"])
        self.assertEqual(second.bodies, [])

    async def test_a_prefetch(self) -> None:
        talk = await self.talk()
        queue = await self.quorum(talk)
        await talk.send(queue, b"1", b"2", b"3")
        await talk.channel.basic_qos(0, 2, False)
        inbox = await talk.consume(queue)
        self.assertEqual(await inbox.has_no_more_than(2), [b"1", b"2"])
        talk.channel.ack(2, True)
        self.assertEqual(await inbox.has(3), [b"1", b"2", b"3"])

    async def test_purge_and_delete(self) -> None:
        talk = await self.talk()
        queue = await self.quorum(talk)
        await talk.send(queue, b"1", b"2")
        self.assertEqual((await talk.channel.queue_purge(queue=queue)).message_count, 2)
        inbox = await talk.consume(queue)
        await talk.channel.queue_delete(queue=queue)
        await talk.until(lambda: inbox.cancelled)


globals().update(on_each_broker(Quorum))
