"""What bounds a queue: time, number, bytes; and priorities."""

from __future__ import annotations

from tests.contract.brokers import Behaviour, on_each_broker
from tests.contract.conversations import Conversation

#: Milliseconds.
SHORT = 60
#: Seconds in which that has passed for certain.
LATER = 0.2


class TimeToLive(Behaviour):
    """x-message-ttl, expiration and x-expires."""

    async def test_the_queues(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_message_ttl=SHORT)
        await talk.send(queue, b"1", b"2")
        self.assertEqual(await talk.count(queue), 2)
        await talk.passes(LATER)
        self.assertEqual(await talk.count(queue), 0)

    async def test_the_messages(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, b"1", expiration=str(SHORT))
        await talk.passes(LATER)
        self.assertEqual(await talk.count(queue), 0)

    async def test_the_shorter_of_both(self) -> None:
        talk = await self.talk()
        long, short = await talk.queue(x_message_ttl=60_000), await talk.queue(x_message_ttl=SHORT)
        await talk.send(long, b"1", expiration=str(SHORT))
        await talk.send(short, b"1", expiration="60000")
        await talk.passes(LATER)
        self.assertEqual((await talk.count(long), await talk.count(short)), (0, 0))

    async def test_one_that_expires_behind_another_waits(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, b"1")
        await talk.send(queue, b"2", expiration=str(SHORT))
        await talk.passes(LATER)
        self.assertEqual(await talk.count(queue), 2)
        self.assertEqual((await talk.taken(queue)).body, b"1")
        self.assertTrue(await talk.stays_empty(queue))

    async def test_what_is_delivered_does_not_expire(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_message_ttl=SHORT)
        await talk.send(queue, b"1")
        got = await talk.taken(queue, no_ack=False)
        await talk.passes(LATER)
        talk.channel.ack(got.delivery_tag)
        await talk.count(queue)
        self.assertIs(talk.refusal, None)

    async def test_what_comes_back_too_late_expires(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_message_ttl=SHORT)
        await talk.send(queue, b"1")
        got = await talk.taken(queue, no_ack=False)
        await talk.passes(LATER)
        talk.channel.nack(got.delivery_tag)
        self.assertTrue(await talk.stays_empty(queue))

    async def test_0_is_for_those_who_wait_already(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_message_ttl=0)
        await talk.send(queue, b"1")
        self.assertTrue(await talk.stays_empty(queue))
        inbox = await talk.consume(queue)
        await talk.send(queue, b"2")
        self.assertEqual(await inbox.has(1), [b"2"])

    async def test_an_expiration_of_0(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, b"1", expiration="0")
        self.assertTrue(await talk.stays_empty(queue))
        inbox = await talk.consume(queue)
        await talk.send(queue, b"2", expiration="0")
        self.assertEqual(await inbox.has(1), [b"2"])

    async def is_there(self, talk: Conversation, queue: str) -> bool:
        """Whether a queue is."""
        other = await self.talk(talk.client)
        answer = other.channel.queue_declare(queue=queue, passive=True)
        answer.addErrback(lambda _: None)
        return (await answer) is not None

    async def test_an_unused_queue_expires(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_expires=SHORT)
        await talk.send(queue, b"1")
        await talk.passes(LATER)
        self.assertFalse(await self.is_there(talk, queue))

    async def test_a_consumed_queue_does_not(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_expires=SHORT)
        inbox = await talk.consume(queue)
        await talk.passes(LATER)
        self.assertFalse(inbox.cancelled)
        await talk.channel.cancel(inbox.tag)
        await talk.passes(LATER)
        self.assertFalse(await self.is_there(talk, queue))

    async def test_get_is_a_use(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_expires=300)
        for _ in range(4):
            await talk.passes(0.15)
            await talk.get(queue)
        self.assertTrue(await self.is_there(talk, queue))

    async def test_to_declare_it_is_a_use(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_expires=300)
        for _ in range(4):
            await talk.passes(0.15)
            await talk.queue(queue, x_expires=300)
        self.assertTrue(await self.is_there(talk, queue))

    async def test_to_publish_is_none(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_expires=300)
        for _ in range(4):
            await talk.passes(0.15)
            await talk.send(queue)
        self.assertFalse(await self.is_there(talk, queue))

    async def test_a_queue_that_expires_dead_letters_nothing(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await talk.queue(x_expires=SHORT, x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
        await talk.send(queue, b"1")
        await talk.passes(LATER)
        self.assertTrue(await talk.stays_empty(dead))


class Length(Behaviour):
    """x-max-length, x-max-length-bytes and x-overflow."""

    async def test_the_oldest_goes(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_max_length=2)
        self.assertEqual(await talk.send(queue, b"1", b"2", b"3"), [True] * 3)
        self.assertEqual(await talk.drained(queue), [b"2", b"3"])

    async def test_by_bytes(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_max_length_bytes=5)
        await talk.send(queue, b"11", b"22", b"33")
        self.assertEqual(await talk.drained(queue), [b"22", b"33"])

    async def test_one_that_is_too_large_by_itself(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_max_length_bytes=3)
        await talk.send(queue, b"1", b"22222")
        self.assertEqual(await talk.drained(queue), [])

    async def test_a_length_of_0_is_for_those_who_wait_already(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_max_length=0)
        await talk.send(queue, b"1")
        self.assertTrue(await talk.stays_empty(queue))
        inbox = await talk.consume(queue)
        await talk.send(queue, b"2")
        self.assertEqual(await inbox.has(1), [b"2"])

    async def test_what_is_unsettled_does_not_count(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_max_length=1)
        await talk.send(queue, b"1")
        await talk.taken(queue, no_ack=False)
        await talk.send(queue, b"2")
        self.assertEqual(await talk.count(queue), 1)

    async def test_what_comes_back_counts(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_max_length=1)
        await talk.send(queue, b"1")
        got = await talk.taken(queue, no_ack=False)
        await talk.send(queue, b"2")
        talk.channel.nack(got.delivery_tag)
        await talk.passes(0.05)
        self.assertEqual(await talk.drained(queue), [b"2"])

    async def test_reject_publish_keeps_the_oldest(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_max_length=2, x_overflow="reject-publish")
        outcomes = [(await talk.send(queue, body))[-1] for body in (b"1", b"2", b"3", b"4")]
        self.assertEqual(await talk.drained(queue), [b"1", b"2"])
        self.assertEqual(outcomes, [True, True, False, False])

    async def test_reject_publish_by_bytes(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_max_length_bytes=4, x_overflow="reject-publish")
        outcomes = [(await talk.send(queue, body))[-1] for body in (b"11", b"22", b"33")]
        self.assertEqual((await talk.drained(queue), outcomes), ([b"11", b"22"], [True, True, False]))

    async def test_reject_publish_with_a_consumer(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_max_length=0, x_overflow="reject-publish")
        inbox = await talk.consume(queue)
        outcomes = await talk.send(queue, b"1")
        await talk.passes(0.05)
        self.assertEqual((outcomes, inbox.bodies), ([False], []))

    async def test_reject_publish_dead_letters_nothing(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await talk.queue(
            x_max_length=1,
            x_overflow="reject-publish",
            x_dead_letter_exchange="",
            x_dead_letter_routing_key=dead,
        )
        await talk.send(queue, b"1")
        await talk.send(queue, b"2")
        self.assertTrue(await talk.stays_empty(dead))

    async def test_reject_publish_dlx_does(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await talk.queue(
            x_max_length=1,
            x_overflow="reject-publish-dlx",
            x_dead_letter_exchange="",
            x_dead_letter_routing_key=dead,
        )
        await talk.send(queue, b"1")
        self.assertEqual((await talk.send(queue, b"2"))[-1], False)
        got = await talk.taken(dead)
        self.assertEqual((got.body, got.headers["x-death"][0]["reason"]), (b"2", "maxlen"))

    async def test_one_of_two_queues_refuses(self) -> None:
        talk = await self.talk()
        exchange = await talk.exchange("fanout")
        full, free = await talk.queue(x_max_length=0, x_overflow="reject-publish"), await talk.queue()
        for queue in (full, free):
            await talk.bind(queue, exchange)
        self.assertEqual(await talk.send("a", b"1", exchange=exchange), [False])
        self.assertEqual(await talk.drained(free), [b"1"])


class Priorities(Behaviour):
    """x-max-priority."""

    async def test_higher_ones_first_and_then_the_older(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_max_priority=5)
        for body, priority in ((b"a1", 1), (b"b3", 3), (b"c1", 1), (b"d5", 5), (b"e3", 3)):
            await talk.send(queue, body, priority=priority)
        self.assertEqual(await talk.drained(queue), [b"d5", b"b3", b"e3", b"a1", b"c1"])

    async def test_none_is_0(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_max_priority=5)
        await talk.send(queue, b"none")
        await talk.send(queue, b"one", priority=1)
        self.assertEqual(await talk.drained(queue), [b"one", b"none"])

    async def test_more_than_the_most_is_the_most(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_max_priority=2)
        await talk.send(queue, b"9", priority=9)
        await talk.send(queue, b"2", priority=2)
        await talk.send(queue, b"200", priority=200)
        self.assertEqual(await talk.drained(queue), [b"9", b"2", b"200"])

    async def test_in_a_queue_without_they_mean_nothing(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, b"1", priority=1)
        await talk.send(queue, b"2", priority=9)
        got = await talk.taken(queue)
        self.assertEqual((got.body, got.properties), (b"1", {"priority": 1}))

    async def test_what_comes_back_has_its_old_place(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_max_priority=5)
        await talk.send(queue, b"a", priority=1)
        await talk.send(queue, b"b", priority=1)
        got = await talk.taken(queue, no_ack=False)
        await talk.send(queue, b"c", priority=2)
        talk.channel.nack(got.delivery_tag)
        self.assertEqual([(await talk.taken(queue)).body for _ in range(3)], [b"c", b"a", b"b"])

    async def test_if_there_are_too_many_the_head_goes_and_so_the_most_important(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_max_priority=5, x_max_length=2)
        for body, priority in ((b"low", 1), (b"high", 5), (b"middle", 3)):
            await talk.send(queue, body, priority=priority)
        self.assertEqual(await talk.drained(queue), [b"middle", b"low"])

    async def test_a_lower_one_behind_expires_in_its_turn(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_max_priority=5)
        await talk.send(queue, b"high", priority=5)
        await talk.send(queue, b"low", priority=1, expiration=str(SHORT))
        await talk.passes(LATER)
        self.assertEqual(await talk.count(queue), 2)


globals().update(on_each_broker(TimeToLive, Length, Priorities))
