"""What is delivered to whom, and what becomes of it."""

from __future__ import annotations

from tests.contract.brokers import Behaviour, on_each_broker
from tests.contract.conversations import Conversation, Inbox


def numbers(first: int, last: int) -> list[bytes]:
    """Bodies that are numbers."""
    return [str(number).encode() for number in range(first, last + 1)]


class Delivering(Behaviour):
    """basic.consume, basic.get and their order."""

    async def test_a_delivery_tells_all_of_its_message(self) -> None:
        talk = await self.talk()
        exchange = await talk.exchange("topic")
        queue = await talk.bound(exchange, "a.*")
        inbox = await talk.consume(queue, no_ack=True)
        properties = {"headers": {"h": 1}, "message_id": "m", "timestamp": 5, "priority": 3, "app_id": "me"}
        await talk.send("a.b", b"1", exchange=exchange, **properties)
        await inbox.has(1)
        [delivery] = inbox.deliveries
        self.assertEqual(delivery, (inbox.tag, 1, False, exchange, "a.b", properties, b"1"))

    async def test_in_the_order_of_publishing(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, *numbers(1, 20))
        inbox = await talk.consume(queue)
        self.assertEqual(await inbox.has(20), numbers(1, 20))

    async def test_tags_count_per_channel(self) -> None:
        talk = await self.talk()
        first, second = await talk.queue(), await talk.queue()
        await talk.send(first, b"1")
        await talk.send(second, b"2")
        tags = [(await talk.taken(queue, no_ack=False)).delivery_tag for queue in (first, second)]
        self.assertEqual(tags, [1, 2])

    async def test_consumers_take_turns(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        first, second = await talk.consume(queue), await talk.consume(queue)
        await talk.send(queue, *numbers(1, 6))
        await talk.until(lambda: len(first.bodies + second.bodies) == 6)
        self.assertEqual(sorted([first.bodies, second.bodies]), [[b"1", b"3", b"5"], [b"2", b"4", b"6"]])

    async def test_one_that_has_enough_is_passed_over(self) -> None:
        talk, other = await self.talk(), await self.talk()
        queue = await talk.queue()
        await talk.channel.basic_qos(0, 1, False)
        busy, free = await talk.consume(queue), await other.consume(queue)
        await talk.send(queue, *numbers(1, 5))
        await talk.until(lambda: len(busy.bodies + free.bodies) == 5)
        self.assertEqual(len(busy.bodies), 1)

    async def test_get_tells_how_many_are_left(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, b"1", b"2", b"3")
        self.assertEqual([(await talk.taken(queue)).left for _ in range(3)], [2, 1, 0])
        self.assertIs(await talk.get(queue), None)

    async def test_a_higher_priority_first(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.channel.basic_qos(0, 1, False)
        low = await talk.consume(queue)
        high = await talk.consume(queue, x_priority=5)
        await talk.send(queue, b"1")
        await high.has(1)
        await talk.send(queue, b"2")
        self.assertEqual((high.bodies, await low.has(1)), ([b"1"], [b"2"]))

    async def test_a_single_active_consumer(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_single_active_consumer=True)
        first, second = await talk.consume(queue), await talk.consume(queue)
        await talk.send(queue, b"1", b"2")
        self.assertEqual(await first.has_no_more_than(2), [b"1", b"2"])
        self.assertEqual(second.bodies, [])
        await talk.channel.cancel(first.tag)
        await talk.send(queue, b"3")
        self.assertEqual(await second.has_no_more_than(1), [b"3"])

    async def test_an_exclusive_consumer_leaves_the_queue_to_others_in_the_end(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        inbox = await talk.consume(queue, exclusive=True)
        await talk.channel.cancel(inbox.tag)
        await talk.consume(queue)

    async def test_what_is_delivered_stays_with_a_consumer_that_was_cancelled(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, b"1")
        inbox = await talk.consume(queue)
        await inbox.has(1)
        await talk.channel.cancel(inbox.tag)
        self.assertTrue(await talk.stays_empty(queue))
        talk.channel.ack(1)
        self.assertEqual(await talk.count(queue), 0)

    async def test_a_consumer_hears_that_its_queue_is_gone(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        inbox = await talk.consume(queue)
        await talk.channel.queue_delete(queue=queue)
        await talk.until(lambda: inbox.cancelled)
        self.assertIs(talk.refusal, None)

    async def test_another_connections_consumer_hears_it_too(self) -> None:
        talk, other = await self.talk(), await self.talk()
        queue = await talk.queue()
        inbox = await other.consume(queue)
        await talk.channel.queue_delete(queue=queue)
        await talk.until(lambda: inbox.cancelled)

    async def test_a_consumer_that_did_not_ask_to_hear_of_it_does_not(self) -> None:
        client = await self.client(change=lambda client: client.client_properties.pop("capabilities"))
        talk, other = await self.talk(client), await self.talk()
        queue = await talk.queue()
        inbox = await talk.consume(queue)
        await other.channel.queue_delete(queue=queue)
        await talk.passes(0.1)
        self.assertFalse(inbox.cancelled)

    async def test_nowait_is_not_answered(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.channel.basic_consume(queue=queue, consumer_tag="mine", nowait=True, arguments={})
        ok = await talk.channel.queue_declare(queue=queue, passive=True)
        self.assertEqual(ok.consumer_count, 1)
        await talk.channel.basic_cancel(consumer_tag="mine", nowait=True)
        ok = await talk.channel.queue_declare(queue=queue, passive=True)
        self.assertEqual(ok.consumer_count, 0)


class Prefetching(Behaviour):
    """basic.qos."""

    async def filled(self, talk: Conversation) -> str:
        """A queue with five messages."""
        queue = await talk.queue()
        await talk.send(queue, *numbers(1, 5))
        return queue

    async def test_no_more_than_that_are_unsettled(self) -> None:
        talk = await self.talk()
        queue = await self.filled(talk)
        await talk.channel.basic_qos(0, 2, False)
        inbox = await talk.consume(queue)
        self.assertEqual(await inbox.has_no_more_than(2), numbers(1, 2))
        talk.channel.ack(1)
        self.assertEqual(await inbox.has_no_more_than(3), numbers(1, 3))

    async def test_each_consumer_has_its_own(self) -> None:
        talk = await self.talk()
        queue, other = await self.filled(talk), await self.filled(talk)
        await talk.channel.basic_qos(0, 2, False)
        first, second = await talk.consume(queue), await talk.consume(other)
        self.assertEqual(len(await first.has_no_more_than(2) + await second.has_no_more_than(2)), 4)

    async def test_it_is_for_consumers_to_come(self) -> None:
        talk = await self.talk()
        queue = await self.filled(talk)
        await talk.channel.basic_qos(0, 2, False)
        inbox = await talk.consume(queue)
        await talk.channel.basic_qos(0, 4, False)
        self.assertEqual(len(await inbox.has_no_more_than(2)), 2)

    async def test_one_that_the_channel_shares(self) -> None:
        talk = await self.talk()
        queue, other = await self.filled(talk), await self.filled(talk)
        await talk.channel.basic_qos(0, 3, True)
        first, second = await talk.consume(queue), await talk.consume(other)
        # RabbitMQ 4.3 allows none that is shared, and gives it to each consumer instead.
        others = numbers(1, 3) if self.since(4, 3) else []
        self.assertEqual((await first.has_no_more_than(3), second.bodies), (numbers(1, 3), others))
        talk.channel.ack(3, True)
        await talk.until(lambda: len(first.bodies + second.bodies) == 6)

    async def test_without_acknowledgements_it_means_nothing(self) -> None:
        talk = await self.talk()
        queue = await self.filled(talk)
        await talk.channel.basic_qos(0, 2, False)
        inbox = await talk.consume(queue, no_ack=True)
        self.assertEqual(await inbox.has(5), numbers(1, 5))

    async def test_get_is_not_bounded_by_it(self) -> None:
        talk = await self.talk()
        queue = await self.filled(talk)
        await talk.channel.basic_qos(0, 1, False)
        self.assertEqual([(await talk.taken(queue, no_ack=False)).body for _ in range(3)], numbers(1, 3))

    async def test_what_was_got_does_not_count_for_the_channel_either(self) -> None:
        talk = await self.talk()
        queue = await self.filled(talk)
        await talk.channel.basic_qos(0, 2, True)
        await talk.taken(queue, no_ack=False)
        inbox = await talk.consume(queue)
        self.assertEqual(await inbox.has_no_more_than(2), numbers(2, 3))

    async def test_0_is_no_limit(self) -> None:
        talk = await self.talk()
        queue = await self.filled(talk)
        await talk.channel.basic_qos(0, 1, False)
        await talk.channel.basic_qos(0, 0, False)
        inbox = await talk.consume(queue)
        self.assertEqual(await inbox.has(5), numbers(1, 5))


class Settling(Behaviour):
    """ack, nack, reject and recover."""

    async def held(self, talk: Conversation) -> tuple[str, Inbox]:
        """A queue with four messages, and a consumer that has them."""
        queue = await talk.queue()
        await talk.send(queue, *numbers(1, 4))
        inbox = await talk.consume(queue)
        await inbox.has(4)
        return queue, inbox

    async def after(self, talk: Conversation, queue: str) -> list[bytes]:
        """What is in a queue after the channel has ended, which gives back what it had."""
        await talk.channel.channel_close(reply_code=200)
        other = await self.talk(talk.client)
        await other.passes(0.05)
        return await other.drained(queue)

    async def test_ack_of_one(self) -> None:
        talk = await self.talk()
        queue, _ = await self.held(talk)
        talk.channel.ack(2)
        self.assertEqual(await self.after(talk, queue), [b"1", b"3", b"4"])

    async def test_ack_of_all_up_to_one(self) -> None:
        talk = await self.talk()
        queue, _ = await self.held(talk)
        talk.channel.ack(3, True)
        self.assertEqual(await self.after(talk, queue), [b"4"])

    async def test_ack_of_all(self) -> None:
        talk = await self.talk()
        queue, _ = await self.held(talk)
        talk.channel.ack(0, True)
        self.assertEqual(await self.after(talk, queue), [])

    async def test_reject_without_requeue_drops(self) -> None:
        talk = await self.talk()
        queue, _ = await self.held(talk)
        talk.channel.basic_reject(delivery_tag=2, requeue=False)
        self.assertEqual(await self.after(talk, queue), [b"1", b"3", b"4"])

    async def test_nack_of_several_without_requeue(self) -> None:
        talk = await self.talk()
        queue, _ = await self.held(talk)
        talk.channel.nack(3, True, False)
        self.assertEqual(await self.after(talk, queue), [b"4"])

    async def test_reject_brings_it_back_at_once(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, b"1")
        inbox = await talk.consume(queue)
        await inbox.has(1)
        talk.channel.basic_reject(delivery_tag=1, requeue=True)
        await inbox.has(2)
        self.assertEqual([delivery.redelivered for delivery in inbox.deliveries], [False, True])
        self.assertEqual([delivery.delivery_tag for delivery in inbox.deliveries], [1, 2])

    async def test_what_comes_back_has_its_old_place(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, *numbers(1, 4))
        tags = [(await talk.taken(queue, no_ack=False)).delivery_tag for _ in range(3)]
        for tag in (tags[2], tags[0]):
            talk.channel.nack(tag)
        got = [await talk.taken(queue) for _ in range(3)]
        self.assertEqual([each.body for each in got], [b"1", b"3", b"4"])
        self.assertEqual([each.redelivered for each in got], [True, True, False])

    async def test_what_a_lost_connection_had_comes_back(self) -> None:
        talk, other = await self.talk(), await self.talk()
        queue, _ = await self.held(talk)
        talk.client.transport.abortConnection()
        got = [await other.taken(queue) for _ in range(4)]
        self.assertEqual([each.body for each in got], numbers(1, 4))
        self.assertTrue(all(each.redelivered for each in got))

    async def test_what_was_got_comes_back_with_the_channel(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, b"1")
        await talk.taken(queue, no_ack=False)
        self.assertEqual(await self.after(talk, queue), [b"1"])

    async def test_recover_brings_all_back(self) -> None:
        talk = await self.talk()
        _, inbox = await self.held(talk)
        await talk.channel.basic_recover(requeue=True)
        bodies = await inbox.has(8)
        self.assertEqual((bodies[4:], inbox.deliveries[-1].redelivered), (numbers(1, 4), True))

    async def test_nack_of_several_brings_them_back_in_order(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, *numbers(1, 4))
        for _ in range(3):
            got = await talk.taken(queue, no_ack=False)
        talk.channel.nack(got.delivery_tag, True, True)
        self.assertEqual([(await talk.taken(queue)).body for _ in range(4)], numbers(1, 4))

    async def test_without_acknowledgements_nothing_comes_back(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        inbox = await talk.consume(queue, no_ack=True)
        await talk.send(queue, b"1")
        await inbox.has(1)
        self.assertEqual(await self.after(talk, queue), [])

    async def test_a_deleted_queue_takes_nothing_back(self) -> None:
        talk = await self.talk()
        queue, _ = await self.held(talk)
        await talk.channel.queue_delete(queue=queue)
        talk.channel.nack(1)
        talk.channel.ack(2)
        await talk.queue(queue)
        self.assertTrue(await talk.stays_empty(queue))

    async def test_a_deleted_queue_dead_letters_nothing(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await talk.queue(x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
        await talk.send(queue, b"1")
        got = await talk.taken(queue, no_ack=False)
        await talk.channel.queue_delete(queue=queue)
        talk.channel.nack(got.delivery_tag, False, False)
        self.assertTrue(await talk.stays_empty(dead))


globals().update(on_each_broker(Delivering, Prefetching, Settling))
