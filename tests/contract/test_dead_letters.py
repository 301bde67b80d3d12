"""Dead letters: why, where to, and what is written into them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.contract.brokers import Behaviour, on_each_broker
from tests.contract.conversations import Conversation, Got

#: Milliseconds.
SHORT = 60


class Letters(Behaviour):
    """What the tests below share."""

    async def behind(self, talk: Conversation, dead: str, **options: Any) -> str:
        """A queue whose dead letters go to a queue."""
        return await talk.queue(x_dead_letter_exchange="", x_dead_letter_routing_key=dead, **options)

    async def reject(self, talk: Conversation, queue: str) -> None:
        """Reject the next message."""
        got = await talk.taken(queue, no_ack=False)
        talk.channel.nack(got.delivery_tag, False, False)

    def deaths(self, got: Got) -> list[tuple[str, str, int]]:
        """Queue, reason and count of each, the latest first."""
        return [(death["queue"], death["reason"], death["count"]) for death in got.headers["x-death"]]


class Reasons(Letters):
    """What makes a dead letter."""

    async def test_rejected(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await self.behind(talk, dead)
        await talk.send(queue, b"1")
        await self.reject(talk, queue)
        got = await talk.taken(dead)
        self.assertEqual((got.body, self.deaths(got)), (b"1", [(queue, "rejected", 1)]))

    async def test_several_rejected_at_once(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await self.behind(talk, dead)
        await talk.send(queue, b"1", b"2", b"3")
        for _ in range(3):
            got = await talk.taken(queue, no_ack=False)
        talk.channel.nack(got.delivery_tag, True, False)
        self.assertEqual([(await talk.taken(dead)).body for _ in range(3)], [b"1", b"2", b"3"])

    async def test_expired(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await self.behind(talk, dead, x_message_ttl=SHORT)
        await talk.send(queue, b"1")
        self.assertEqual(self.deaths(await talk.taken(dead)), [(queue, "expired", 1)])

    async def test_expired_at_once(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await self.behind(talk, dead)
        await talk.send(queue, b"1", expiration="0")
        self.assertEqual(self.deaths(await talk.taken(dead)), [(queue, "expired", 1)])

    async def test_too_many(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await self.behind(talk, dead, x_max_length=1)
        await talk.send(queue, b"1", b"2")
        got = await talk.taken(dead)
        self.assertEqual((got.body, self.deaths(got)), (b"1", [(queue, "maxlen", 1)]))

    async def test_acknowledged_or_purged_is_none(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await self.behind(talk, dead)
        await talk.send(queue, b"1", b"2")
        got = await talk.taken(queue, no_ack=False)
        talk.channel.ack(got.delivery_tag)
        await talk.channel.queue_purge(queue=queue)
        self.assertTrue(await talk.stays_empty(dead))

    async def test_without_its_exchange_it_is_lost(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(x_dead_letter_exchange=self.name("exchange"))
        await talk.send(queue, b"1")
        await self.reject(talk, queue)
        self.assertTrue(await talk.stays_empty(queue))

    async def test_the_exchange_may_come_later(self) -> None:
        talk = await self.talk()
        name = self.name("exchange")
        queue = await talk.queue(x_dead_letter_exchange=name)
        await talk.send(queue, b"1")
        await talk.exchange("fanout", name)
        dead = await talk.bound(name)
        await self.reject(talk, queue)
        self.assertEqual((await talk.taken(dead)).body, b"1")


class Contents(Letters):
    """What is in a dead letter."""

    @property
    def told_of(self) -> tuple[str, ...]:
        """Which deaths have headers of their own: RabbitMQ 4 tells of the last as well."""
        return ("first", "last") if self.since(4) else ("first",)

    async def test_a_death_tells_all(self) -> None:
        talk = await self.talk()
        source, exchange = await talk.exchange("direct"), await talk.exchange("fanout")
        dead = await talk.bound(exchange)
        queue = await talk.queue(x_dead_letter_exchange=exchange)
        await talk.bind(queue, source, "key")
        await talk.send("key", b"1", exchange=source, message_id="m", headers={"mine": 1})
        await self.reject(talk, queue)
        got = await talk.taken(dead)
        [death] = got.headers["x-death"]
        self.assertIsInstance(death.pop("time"), datetime)
        self.assertEqual(
            death,
            {
                "count": 1,
                "reason": "rejected",
                "queue": queue,
                "exchange": source,
                "routing-keys": ["key"],
            },
        )
        self.assertEqual(
            {name: value for name, value in got.headers.items() if name != "x-death"},
            {
                "mine": 1,
                **{
                    f"x-{which}-death-{name}": value
                    for which in self.told_of
                    for name, value in (("exchange", source), ("queue", queue), ("reason", "rejected"))
                },
            },
        )
        self.assertEqual(
            (got.exchange, got.routing_key, got.properties["message_id"], got.redelivered),
            (exchange, "key", "m", False),
        )

    async def test_the_queues_routing_key_in_place_of_the_messages(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await self.behind(talk, dead)
        await talk.send(queue, b"1")
        await self.reject(talk, queue)
        got = await talk.taken(dead)
        self.assertEqual((got.routing_key, got.headers["x-death"][0]["routing-keys"]), (dead, [queue]))

    async def test_an_expiration_is_taken_out_and_remembered(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await self.behind(talk, dead)
        await talk.send(queue, b"1", expiration=str(SHORT))
        got = await talk.taken(dead)
        self.assertNotIn("expiration", got.properties)
        self.assertEqual(got.headers["x-death"][0]["original-expiration"], str(SHORT))

    async def test_an_expiration_is_taken_out_of_what_was_rejected(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await self.behind(talk, dead)
        await talk.send(queue, b"1", expiration="50000")
        await self.reject(talk, queue)
        got = await talk.taken(dead)
        self.assertNotIn("expiration", got.properties)
        self.assertEqual(got.headers["x-death"][0]["original-expiration"], "50000")

    async def test_copies_keep_their_keys_where_the_queue_has_none(self) -> None:
        talk = await self.talk()
        exchange = await talk.exchange("direct")
        first, second = await talk.bound(exchange, "first"), await talk.bound(exchange, "second")
        queue = await talk.queue(x_dead_letter_exchange=exchange)
        await talk.send(queue, b"1", headers={"CC": ["first", "second"]})
        await self.reject(talk, queue)
        got, other = await talk.taken(first), await talk.taken(second)
        self.assertEqual(got.headers["CC"], ["first", "second"])
        self.assertEqual(other.headers["x-death"][0]["routing-keys"], [queue, "first", "second"])

    async def test_copies_lose_their_keys_where_the_queue_has_one(self) -> None:
        talk = await self.talk()
        dead, copy = await talk.queue(), await talk.queue()
        queue = await self.behind(talk, dead)
        await talk.send(queue, b"1", headers={"CC": [copy]})
        await talk.taken(copy)
        await self.reject(talk, queue)
        got = await talk.taken(dead)
        # RabbitMQ 4 lets the header stay as it was, and no more goes by it.
        self.assertEqual(got.headers.get("CC"), [copy] if self.since(4) else None)
        self.assertEqual(got.headers["x-death"][0]["routing-keys"], [queue, copy])
        self.assertTrue(await talk.stays_empty(copy))

    async def test_hidden_copies_are_made_again_and_stay_hidden(self) -> None:
        talk = await self.talk()
        exchange = await talk.exchange("direct")
        hidden = await talk.bound(exchange, "hidden")
        queue = await talk.queue(x_dead_letter_exchange=exchange)
        dead = await talk.bound(exchange, queue)
        await talk.send(queue, b"1", headers={"BCC": ["hidden"]})
        await self.reject(talk, queue)
        got = await talk.taken(dead)
        self.assertEqual(got.headers["x-death"][0]["routing-keys"], [queue])
        copy = await talk.taken(hidden)
        self.assertEqual((copy.routing_key, copy.headers.get("BCC")), (queue, None))


class Chains(Letters):
    """Dead letters that die again."""

    async def test_the_latest_death_is_first(self) -> None:
        talk = await self.talk()
        last = await talk.queue()
        middle = await self.behind(talk, last, x_message_ttl=SHORT)
        first = await self.behind(talk, middle)
        await talk.send(first, b"1")
        await self.reject(talk, first)
        got = await talk.taken(last)
        self.assertEqual(self.deaths(got), [(middle, "expired", 1), (first, "rejected", 1)])
        self.assertEqual(
            [got.headers[f"x-first-death-{what}"] for what in ("queue", "reason", "exchange")],
            [first, "rejected", ""],
        )

    async def test_the_same_death_is_counted(self) -> None:
        talk = await self.talk()
        retry, queue = self.name(), await talk.queue()
        queue = await self.behind(talk, retry)
        await talk.queue(
            retry, x_message_ttl=SHORT, x_dead_letter_exchange="", x_dead_letter_routing_key=queue
        )
        await talk.send(queue, b"1")
        for _ in range(3):
            await self.reject(talk, queue)
        got = await talk.taken(queue)
        self.assertEqual(self.deaths(got), [(retry, "expired", 3), (queue, "rejected", 3)])

    async def test_one_that_comes_back_without_being_rejected_is_dropped(self) -> None:
        talk = await self.talk()
        first, second = self.name(), self.name()
        for queue, other in ((first, second), (second, first)):
            await talk.queue(
                queue, x_message_ttl=SHORT, x_dead_letter_exchange="", x_dead_letter_routing_key=other
            )
        await talk.send(first, b"1")
        await talk.passes(0.4)
        self.assertEqual((await talk.count(first), await talk.count(second)), (0, 0))

    async def test_one_that_expires_back_into_its_own_queue_is_dropped(self) -> None:
        talk = await self.talk()
        queue = self.name()
        await self.behind(talk, queue, name=queue, x_message_ttl=SHORT)
        await talk.send(queue, b"1")
        await talk.passes(0.3)
        self.assertEqual(await talk.count(queue), 0)

    async def test_one_that_is_rejected_back_into_its_own_queue_stays(self) -> None:
        talk = await self.talk()
        queue = self.name()
        await self.behind(talk, queue, name=queue)
        await talk.send(queue, b"1")
        for _ in range(2):
            await self.reject(talk, queue)
        got = await talk.taken(queue)
        self.assertEqual(self.deaths(got), [(queue, "rejected", 2)])

    async def test_a_long_chain(self) -> None:
        talk = await self.talk()
        last = await talk.queue()
        queue, names = last, []
        for _ in range(30):
            queue = await self.behind(talk, queue, x_max_length=0)
            names.append(queue)
        await talk.send(queue, b"1")
        got = await talk.taken(last)
        deaths: list[str] = []
        for name in reversed(names):
            # The latest is first; 3.10 turns the others round each time, and 4.0 doesn't.
            deaths = [name, *(deaths if self.since(4) else reversed(deaths))]
        self.assertEqual(self.deaths(got), [(name, "maxlen", 1) for name in deaths])

    async def test_an_expiration_is_remembered_once(self) -> None:
        talk = await self.talk()
        last = await talk.queue()
        middle = await self.behind(talk, last, x_message_ttl=SHORT)
        first = await self.behind(talk, middle)
        await talk.send(first, b"1", expiration=str(SHORT))
        got = await talk.taken(last)
        self.assertEqual(
            [death.get("original-expiration") for death in got.headers["x-death"]], [None, str(SHORT)]
        )

    async def test_deaths_that_the_client_made_up(self) -> None:
        talk = await self.talk()
        dead = await talk.queue()
        queue = await self.behind(talk, dead)
        made_up = {"queue": "other", "reason": "rejected", "count": 7}
        await talk.send(queue, b"1", headers={"x-death": [made_up]})
        await self.reject(talk, queue)
        # RabbitMQ 4 believes in none but its own.
        kept = [] if self.since(4) else [("other", "rejected", 7)]
        self.assertEqual(self.deaths(await talk.taken(dead)), [(queue, "rejected", 1), *kept])


globals().update(on_each_broker(Reasons, Contents, Chains))
