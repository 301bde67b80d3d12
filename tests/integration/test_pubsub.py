"""
Events to many subscribers, on a real broker.

The long form, 10,000 events to 50 subscribers, runs with ``CREW_TEST_EVENTS=10000``.
"""

from __future__ import annotations

import os
from typing import Any
from uuid import uuid4

from twisted.internet.defer import Deferred

from crew_tx import Client
from crew_tx.errors import PreconditionFailedError
from crew_tx.pubsub import Missed, Subscription
from tests.integration.support import BrokerTestCase, gathered

EVENTS = int(os.environ.get("CREW_TEST_EVENTS", "400"))
SUBSCRIBERS = 50
PUBLISHERS = 4
_BUFFER = 100
_UNCONFIRMED = 500


class Reader:
    """A subscriber that notes what it had, by publisher."""

    def __init__(self, all_of_them: int) -> None:
        self.had: dict[int, list[int]] = {}
        self.complete: Deferred[None] = Deferred()
        self._left = all_of_them

    def __call__(self, data: list[int]) -> None:
        publisher, number = data
        self.had.setdefault(publisher, []).append(number)
        self._left -= 1
        if self._left == 0:
            self.complete.callback(None)


class EventTests(BrokerTestCase):
    """One process that subscribes, and several clients that publish."""

    timeout = 300

    def setUp(self) -> None:
        super().setUp()
        self.channel = f"news.{uuid4().hex}"

    async def publish(self, client: Client, publisher: int, events: int) -> None:
        waiting: list[Deferred[None]] = []
        for number in range(events):
            if len(waiting) == _UNCONFIRMED:
                await waiting.pop(0)
            waiting.append(client.publish(self.channel, [publisher, number], persistent=False))
        await gathered(waiting)

    async def test_each_subscriber_gets_each_event_in_order(self) -> None:
        """But for one that takes its time: it holds up nobody, and what waits for it is bounded."""
        subscribing = await self.client()
        readers = [Reader(EVENTS) for _ in range(SUBSCRIBERS)]
        for reader in readers:
            await subscribing.subscribe(self.channel, reader)
        gate: Deferred[None] = Deferred()
        late = Reader(EVENTS)

        async def sleeps(data: list[int]) -> None:
            if not gate.called:
                await gate
            late(data)

        slow = await subscribing.subscribe(self.channel, sleeps, buffer=_BUFFER)
        clients = [await self.client() for _ in range(PUBLISHERS)]
        share = EVENTS // PUBLISHERS
        publishing = [
            Deferred.fromCoroutine(self.publish(client, number, share))
            for number, client in enumerate(clients)
        ]
        await gathered(publishing)
        await gathered([reader.complete for reader in readers])
        expected = {number: list(range(share)) for number in range(PUBLISHERS)}
        for reader in readers:
            self.assertEqual(reader.had, expected)
        self.assertEqual(late.had, {})
        self.assertEqual(slow.waiting, _BUFFER - 1)
        gate.callback(None)
        await late.complete
        self.assertEqual((late.had, slow.received), (expected, EVENTS))

    async def test_one_that_drops_is_told_how_many(self) -> None:
        """What it had and what it missed make up the whole."""
        client = await self.client()
        gate: Deferred[None] = Deferred()
        had: list[int] = []
        missed: list[Missed] = []
        last: Deferred[None] = Deferred()

        async def sleeps(data: list[int]) -> None:
            if not gate.called:
                await gate
            had.append(data[1])
            if data[1] == 299:
                last.callback(None)

        slow = await client.subscribe(
            self.channel, sleeps, buffer=10, overflow="drop", on_missed=missed.append
        )
        quick = Reader(300)
        await client.subscribe(self.channel, quick)
        await self.publish(client, 0, 300)
        await quick.complete
        # Its own come by another channel: by now or soon.
        gate.callback(None)
        await last
        self.assertEqual(len(had) + slow.dropped, 300)
        self.assertEqual(sum(each.count or 0 for each in missed), slow.dropped)
        self.assertEqual(had, sorted(had))

    async def test_a_durable_one_that_was_away(self) -> None:
        """It gets what was published meanwhile; and nothing once its queue is deleted."""
        name = f"mine.{uuid4().hex}"
        client = await self.client()

        async def subscribed(reader: Any) -> Subscription:
            return await client.subscribe(self.channel, reader, durable=name)

        await (await subscribed(Reader(1))).cancel()
        await self.publish(client, 0, 20)
        reader = Reader(20)
        subscription = await subscribed(reader)
        await reader.complete
        self.assertEqual(reader.had, {0: list(range(20))})
        await subscription.cancel(delete=True)
        await self.publish(client, 0, 5)
        again = Reader(1)
        subscription = await subscribed(again)
        await self.publish(client, 7, 1)
        await again.complete
        self.assertEqual(again.had, {7: [0]})
        await subscription.cancel(delete=True)

    async def test_what_was_handled_does_not_come_again(self) -> None:
        """Also where the client closes right behind it."""
        name = f"mine.{uuid4().hex}"
        client, other = await self.client(), await self.client()
        reader = Reader(5)
        await client.subscribe(self.channel, reader, durable=name)
        await self.publish(other, 0, 5)
        await reader.complete
        await client.close()
        again = Reader(1)
        subscription = await other.subscribe(self.channel, again, durable=name)
        await self.publish(other, 7, 1)
        await again.complete
        self.assertEqual(again.had, {7: [0]})
        await subscription.cancel(delete=True)

    async def test_one_that_the_broker_refuses(self) -> None:
        """Its queue exists with other arguments: the client, and all else that it does, goes on."""
        name = f"mine.{uuid4().hex}"
        connection = await self.amqp()
        channel = await connection.open_channel()
        await channel.queue_declare(queue=f"crew.sub.{name}", durable=True)
        client = await self.client()
        reader = Reader(1)
        await client.subscribe(self.channel, reader)
        with self.assertRaises(PreconditionFailedError):
            await client.subscribe(self.channel, reader, durable=name)
        self.assertTrue(client.status().connected)
        await self.publish(client, 0, 1)
        await reader.complete
        await channel.queue_delete(queue=f"crew.sub.{name}")

    async def test_a_queue_that_is_deleted(self) -> None:
        """By an operator: the subscriber says so, and goes on."""
        client = await self.client()
        missed: Deferred[Missed] = Deferred()
        reader = Reader(1)
        name = f"mine.{uuid4().hex}"
        subscription = await client.subscribe(self.channel, reader, durable=name, on_missed=missed.callback)
        connection = await self.amqp()
        channel = await connection.open_channel()
        await channel.queue_delete(queue=f"crew.sub.{name}")
        self.assertEqual((await missed).reason, "reconnected")
        await client.connect()
        await self.publish(client, 1, 1)
        await reader.complete
        await subscription.cancel(delete=True)
