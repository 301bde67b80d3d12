"""Queues: declared, used by others, purged and deleted."""

from __future__ import annotations

from tests.contract.brokers import Behaviour, on_each_broker


class Declaring(Behaviour):
    """queue.declare."""

    async def test_it_says_what_is_in_it(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, b"1", b"2")
        await talk.consume(await talk.queue())
        ok = await talk.channel.queue_declare(queue=queue)
        self.assertEqual((ok.queue, ok.message_count, ok.consumer_count), (queue, 2, 0))

    async def test_it_says_how_many_consume(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.consume(queue)
        await talk.consume(queue)
        ok = await talk.channel.queue_declare(queue=queue, passive=True)
        self.assertEqual((ok.message_count, ok.consumer_count), (0, 2))

    async def test_what_is_unsettled_is_not_counted(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, b"1", b"2")
        await talk.taken(queue, no_ack=False)
        self.assertEqual(await talk.count(queue), 1)

    async def test_the_broker_makes_a_name(self) -> None:
        talk = await self.talk()
        names = [await talk.queue("", exclusive=True) for _ in range(2)]
        self.assertTrue(all(name.startswith("amq.gen-") and len(name) == 30 for name in names), names)
        self.assertNotEqual(*names)

    async def test_a_name_that_the_broker_made_is_not_declared_again(self) -> None:
        talk = await self.talk()
        name = await talk.queue("", exclusive=True)
        self.assertEqual(await talk.queue(name, passive=True), name)
        refusal = await talk.refused(talk.channel.queue_declare(queue=name, exclusive=True))
        text = f"ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*'"
        self.assertEqual(refusal, ("channel", 403, text))

    async def test_the_queue_declared_last_needs_no_name(self) -> None:
        talk = await self.talk()
        queue = await talk.queue("", exclusive=True)
        await talk.send(queue, b"1")
        self.assertEqual((await talk.taken("")).body, b"1")

    async def test_passively_nothing_is_compared(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(durable=True, x_max_length=3)
        self.assertEqual(await talk.queue(queue, passive=True, auto_delete=True), queue)

    async def test_the_same_arguments_are_fine(self) -> None:
        talk = await self.talk()
        arguments = {"x-message-ttl": 5000, "x-max-length": 3, "x-overflow": "reject-publish", "my": "own"}
        queue = await talk.queue(**{name.replace("-", "_"): value for name, value in arguments.items()})
        self.assertEqual(await talk.queue(queue, **arguments), queue)

    async def test_arguments_of_ones_own_are_not_compared(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(my="own")
        self.assertEqual(await talk.queue(queue, my="other", x_mine=3), queue)

    async def test_nowait_is_not_answered(self) -> None:
        talk = await self.talk()
        queue = self.name()
        await talk.channel.queue_declare(queue=queue, nowait=True)
        self.assertEqual(await talk.count(queue), 0)


class Exclusive(Behaviour):
    """Queues that belong to a connection."""

    async def test_another_connection_may_not_use_it(self) -> None:
        owner, other = await self.talk(), await self.talk()
        queue = await owner.queue(exclusive=True)
        refusal = await other.refused(other.channel.basic_get(queue=queue))
        self.assertEqual(
            refusal,
            (
                "channel",
                405,
                f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. "
                "It could be originally declared on another connection or the exclusive property value "
                "does not match that of the original declaration.",
            ),
        )

    async def test_another_channel_may(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(exclusive=True)
        other = await self.talk(talk.client)
        self.assertEqual(await other.count(queue), 0)

    async def test_another_connection_may_publish_to_it(self) -> None:
        owner, other = await self.talk(), await self.talk()
        queue = await owner.queue(exclusive=True)
        await other.send(queue, b"1")
        self.assertEqual(await owner.drained(queue), [b"1"])

    async def test_it_goes_with_its_connection(self) -> None:
        owner, other = await self.talk(), await self.talk()
        queue = await owner.queue(exclusive=True)
        await owner.client.close(within=2)
        if self.since(4, 3):
            # It is locked for a moment yet.
            await other.passes(0.1)
        refusal = await other.refused(other.channel.queue_declare(queue=queue, passive=True))
        self.assertEqual(refusal, ("channel", 404, f"NOT_FOUND - no queue '{queue}' in vhost '/'"))

    async def test_it_stays_when_the_channel_goes(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(exclusive=True)
        await talk.channel.channel_close(reply_code=200)
        other = await self.talk(talk.client)
        self.assertEqual(await other.count(queue), 0)

    async def test_it_cannot_be_declared_without_being_exclusive(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(exclusive=True)
        refusal = await talk.refused(talk.channel.queue_declare(queue=queue))
        self.assertEqual(refusal[:2], ("channel", 405))

    async def test_a_queue_that_is_there_does_not_become_exclusive(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        refusal = await talk.refused(talk.channel.queue_declare(queue=queue, exclusive=True))
        self.assertEqual(refusal[:2], ("channel", 405))


class Ending(Behaviour):
    """Purged, deleted, auto-deleted."""

    async def test_purge_says_how_many_there_were(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, b"1", b"2", b"3")
        await talk.taken(queue, no_ack=False)
        answer = await talk.channel.queue_purge(queue=queue)
        self.assertEqual((answer.message_count, await talk.count(queue)), (2, 0))

    async def test_what_is_unsettled_survives_a_purge(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, b"1", b"2")
        got = await talk.taken(queue, no_ack=False)
        await talk.channel.queue_purge(queue=queue)
        talk.channel.nack(got.delivery_tag)
        self.assertEqual((await talk.taken(queue)).body, b"1")

    async def test_delete_says_how_many_there_were(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, b"1", b"2")
        answer = await talk.channel.queue_delete(queue=queue)
        self.assertEqual(answer.message_count, 2)

    async def test_to_delete_what_is_not_there_is_fine(self) -> None:
        talk = await self.talk()
        answer = await talk.channel.queue_delete(queue=self.name())
        self.assertEqual(answer.message_count, 0)

    async def test_one_in_use_is_not_deleted_if_it_has_to_be_unused(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.consume(queue)
        refusal = await talk.refused(talk.channel.queue_delete(queue=queue, if_unused=True))
        self.assertEqual(
            refusal, ("channel", 406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use")
        )

    async def test_one_that_is_not_empty_is_not_deleted_if_it_has_to_be(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue)
        refusal = await talk.refused(talk.channel.queue_delete(queue=queue, if_empty=True))
        self.assertEqual(
            refusal, ("channel", 406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty")
        )

    async def test_an_unused_and_empty_one_is_deleted(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.channel.queue_delete(queue=queue, if_empty=True, if_unused=True)
        refusal = await talk.refused(talk.channel.queue_declare(queue=queue, passive=True))
        self.assertEqual(refusal[:2], ("channel", 404))

    async def test_an_auto_delete_queue_goes_with_its_last_consumer(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(auto_delete=True)
        first, second = await talk.consume(queue), await talk.consume(queue)
        await talk.channel.cancel(first.tag)
        self.assertEqual(await talk.count(queue), 0)
        await talk.channel.cancel(second.tag)
        refusal = await talk.refused(talk.channel.queue_declare(queue=queue, passive=True))
        self.assertEqual(refusal[:2], ("channel", 404))

    async def test_an_auto_delete_queue_that_was_never_consumed_stays(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(auto_delete=True)
        self.assertTrue(await talk.stays_empty(queue))

    async def test_an_auto_delete_queue_goes_with_its_consumers_channel(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(auto_delete=True)
        other = await self.talk(talk.client)
        await other.consume(queue)
        await other.channel.channel_close(reply_code=200)
        refusal = await talk.refused(talk.channel.queue_declare(queue=queue, passive=True))
        self.assertEqual(refusal[:2], ("channel", 404))

    async def test_a_queue_that_is_deleted_dead_letters_nothing(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await talk.queue(x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
        await talk.send(queue, b"1")
        await talk.channel.queue_delete(queue=queue)
        self.assertTrue(await talk.stays_empty(dead))


globals().update(on_each_broker(Declaring, Exclusive, Ending))
