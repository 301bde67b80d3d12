"""Publishing: what the publisher is told."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from crew_tx.amqp import AMQClient
from tests.contract.brokers import Behaviour, on_each_broker


class Confirming(Behaviour):
    """confirm.select, and mandatory."""

    async def test_what_is_routed_is_confirmed(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        self.assertEqual(await talk.send(queue, b"1", b"2"), [True, True])

    async def test_what_is_not_routed_is_confirmed_too(self) -> None:
        talk = await self.talk()
        self.assertEqual(await talk.send(self.name()), [True])

    async def test_a_mandatory_message_comes_back_before_its_confirm(self) -> None:
        talk = await self.talk()
        name = self.name()
        talk.publish(name, b"1", mandatory=True, message_id="m")
        await talk.confirmed()
        self.assertEqual(talk.events, [("return", b"1"), ("ack", 1)])
        [returned] = talk.returned
        self.assertEqual(returned, (312, "NO_ROUTE", "", name, {"message_id": "m"}, b"1"))

    async def test_a_mandatory_message_that_is_routed_does_not(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        talk.publish(queue, mandatory=True)
        await talk.confirmed()
        self.assertEqual(talk.events, [("ack", 1)])

    async def test_without_confirms_nothing_is_confirmed(self) -> None:
        talk = await self.talk(confirms=False)
        queue = await talk.queue()
        talk.publish(queue)
        talk.publish(self.name(), b"2", mandatory=True)
        await talk.until(lambda: bool(talk.returned))
        self.assertEqual(talk.events, [("return", b"2")])

    async def test_what_came_before_confirm_select_is_not_counted(self) -> None:
        talk = await self.talk(confirms=False)
        queue = await talk.queue()
        talk.publish(queue)
        await talk.channel.confirm_select()
        talk.publish(queue)
        self.assertEqual(await talk.confirmed(), [True])
        self.assertEqual(talk.outcomes, {1: True})

    async def test_confirm_select_again_is_fine(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        talk.publish(queue)
        await talk.confirmed()
        await talk.channel.confirm_select()
        talk.outcomes.clear()
        talk.publish(queue)
        await talk.until(lambda: bool(talk.outcomes))
        # The client begins anew to count, and the broker does not.
        self.assertEqual(talk.events[-1], ("ack", 2))

    async def test_what_was_published_before_a_mistake_arrives(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        talk.publish(queue, b"1")
        talk.publish("a", b"2", exchange="contract.missing")
        talk.publish(queue, b"3")
        await talk.refused()
        other = await self.talk(talk.client)
        self.assertEqual((await other.taken(queue)).body, b"1")
        self.assertTrue(await other.stays_empty(queue))

    async def test_an_empty_body(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, b"")
        self.assertEqual((await talk.taken(queue)).body, b"")

    async def test_a_body_of_many_frames(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        body = bytes(range(256)) * 4096
        await talk.send(queue, body)
        self.assertEqual((await talk.taken(queue)).body, body)

    async def test_properties_arrive_as_they_were_sent(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        properties = {
            "content_type": "text/plain",
            "content_encoding": "gzip",
            "headers": {"a": "1", "b": [1, "2", {"c": True}], "d": None, "e": 1.5, "f": 2**40},
            "delivery_mode": 2,
            "priority": 4,
            "correlation_id": "c",
            "reply_to": "r",
            "expiration": "50000",
            "message_id": "m",
            "timestamp": 1234567890,
            "type": "t",
            "user_id": "guest",
            "app_id": "a",
        }
        await talk.send(queue, **properties)
        self.assertEqual((await talk.taken(queue)).properties, properties)


class Alarms(Behaviour):
    """A broker that is short of memory."""

    async def test_who_publishes_is_blocked_until_it_is_over(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        flow: list[str | None] = []
        talk.client.on_flow = lambda: flow.append(talk.client.blocked)
        self.raise_alarm()
        self.assertEqual(flow, [])
        talk.publish(queue, b"1")
        await talk.until(lambda: bool(flow), lambda: "no connection.blocked")
        talk.publish(queue, b"2")
        await talk.passes(0.1)
        self.assertNotIn(2, talk.outcomes)
        self.clear_alarm()
        await talk.confirmed()
        self.assertEqual(flow, ["low on memory", None])
        self.assertEqual(await talk.drained(queue), [b"1", b"2"])

    async def test_who_consumes_is_not(self) -> None:
        talk, other = await self.talk(), await self.talk()
        queue = await talk.queue()
        await talk.send(queue, b"1", b"2")
        self.raise_alarm()
        await other.channel.basic_qos(0, 1, False)
        inbox = await other.consume(queue)
        await inbox.has(1)
        other.channel.ack(1)
        self.assertEqual(await inbox.has(2), [b"1", b"2"])
        self.assertIs(other.client.blocked, None)
        self.clear_alarm()

    async def test_who_connects_meanwhile_is_told_once_it_publishes(self) -> None:
        self.raise_alarm()
        talk = await self.talk()
        queue = await talk.queue()
        self.assertIs(talk.client.blocked, None)
        talk.publish(queue, b"1")
        await talk.until(lambda: talk.client.blocked is not None)
        self.clear_alarm()
        await talk.until(lambda: talk.client.blocked is None)

    async def test_who_did_not_ask_to_hear_of_it_is_not_told(self) -> None:
        def forget(client: AMQClient) -> None:
            del client.client_properties["capabilities"]["connection.blocked"]

        client = await self.client(change=_with_own_capabilities(forget))
        talk = await self.talk(client)
        queue = await talk.queue()
        self.raise_alarm()
        talk.publish(queue, b"1")
        await talk.passes(0.1)
        request: Deferred[object] = talk.channel.queue_declare(queue=queue, passive=True)
        await talk.passes(0.1)
        self.assertEqual((client.blocked, request.called), (None, False))
        self.clear_alarm()
        await request

    async def test_all_that_is_sent_after_a_message_waits(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        self.raise_alarm()
        talk.publish(queue, b"1")
        await talk.until(lambda: talk.client.blocked is not None)
        request = talk.channel.basic_get(queue=queue)
        await talk.passes(0.1)
        self.assertFalse(request.called)
        self.clear_alarm()
        await request


def _with_own_capabilities(change: Callable[[AMQClient], object]) -> Callable[[AMQClient], object]:
    def changed(client: AMQClient) -> None:
        properties = client.client_properties
        client.client_properties = {**properties, "capabilities": dict(properties["capabilities"])}
        change(client)

    return changed


globals().update(on_each_broker(Confirming, Alarms))
