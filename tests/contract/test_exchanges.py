"""Exchanges, and where they send messages."""

from __future__ import annotations

from typing import Any

from tests.contract.brokers import Behaviour, on_each_broker
from tests.contract.conversations import Conversation


class Direct(Behaviour):
    """Exchanges of the type direct, and the default one."""

    async def test_the_bindings_key_is_the_messages(self) -> None:
        talk = await self.talk()
        exchange = await talk.exchange("direct")
        queue, other = await talk.bound(exchange, "a"), await talk.bound(exchange, "b")
        await talk.send("a", b"1", exchange=exchange)
        self.assertEqual((await talk.drained(queue), await talk.drained(other)), ([b"1"], []))

    async def test_each_queue_of_a_key_has_it(self) -> None:
        talk = await self.talk()
        exchange = await talk.exchange("direct")
        queues = [await talk.bound(exchange, "a") for _ in range(3)]
        await talk.send("a", b"1", exchange=exchange)
        self.assertEqual([await talk.drained(queue) for queue in queues], [[b"1"]] * 3)

    async def test_two_bindings_bring_it_once(self) -> None:
        talk = await self.talk()
        exchange = await talk.exchange("fanout")
        queue = await talk.bound(exchange, "a")
        await talk.bind(queue, exchange, "b")
        await talk.send("a", b"1", exchange=exchange)
        self.assertEqual(await talk.drained(queue), [b"1"])

    async def test_the_default_exchange_sends_to_the_queue_of_that_name(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, b"1")
        got = await talk.taken(queue)
        self.assertEqual((got.exchange, got.routing_key, got.body), ("", queue, b"1"))

    async def test_a_binding_that_is_taken_away_brings_nothing(self) -> None:
        talk = await self.talk()
        exchange = await talk.exchange("direct")
        queue = await talk.bound(exchange, "a")
        await talk.channel.queue_unbind(queue=queue, exchange=exchange, routing_key="a", arguments={})
        await talk.send("a", b"1", exchange=exchange)
        self.assertTrue(await talk.stays_empty(queue))

    async def test_to_unbind_what_is_not_bound_is_fine(self) -> None:
        talk = await self.talk()
        exchange, queue = await talk.exchange("direct"), await talk.queue()
        answer = await talk.channel.queue_unbind(
            queue=queue, exchange=exchange, routing_key="a", arguments={}
        )
        self.assertEqual(answer.method.name, "unbind-ok")

    async def test_a_binding_goes_with_its_queue(self) -> None:
        talk = await self.talk()
        exchange = await talk.exchange("direct")
        queue = await talk.bound(exchange, "a")
        await talk.channel.queue_delete(queue=queue)
        await talk.queue(queue)
        await talk.send("a", b"1", exchange=exchange)
        self.assertTrue(await talk.stays_empty(queue))

    async def test_a_queue_declared_last_is_bound_without_its_name(self) -> None:
        talk = await self.talk()
        exchange = await talk.exchange("direct")
        queue = await talk.queue()
        await talk.bind("", exchange, "")
        await talk.send(queue, b"1", exchange=exchange)
        self.assertEqual(await talk.drained(queue), [b"1"])

    async def test_the_standard_exchanges_are_there(self) -> None:
        talk = await self.talk()
        for name in ("amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"):
            await talk.exchange("direct", name, passive=True)


class Topics(Behaviour):
    """Exchanges of the type topic."""

    async def matches(self, pattern: str, *keys: str) -> list[str]:
        """The keys that a pattern lets through."""
        talk = await self.talk()
        exchange = await talk.exchange("topic")
        queue = await talk.bound(exchange, pattern)
        for key in keys:
            await talk.send(key, key.encode() or b"empty", exchange=exchange)
        return [body.decode() for body in await talk.drained(queue)]

    async def test_a_pattern_without_wildcards(self) -> None:
        self.assertEqual(await self.matches("a.b", "a.b", "a", "a.b.c", "a.c"), ["a.b"])

    async def test_a_star_is_one_word(self) -> None:
        self.assertEqual(await self.matches("a.*", "a.b", "a", "a.b.c", "a."), ["a.b", "a."])

    async def test_a_star_in_the_middle(self) -> None:
        self.assertEqual(await self.matches("a.*.c", "a.b.c", "a.c", "a.b.b.c", "a.*.c"), ["a.b.c", "a.*.c"])

    async def test_a_hash_is_any_number_of_words(self) -> None:
        self.assertEqual(await self.matches("a.#", "a", "a.b", "a.b.c", "b.a"), ["a", "a.b", "a.b.c"])

    async def test_a_hash_alone_matches_all(self) -> None:
        self.assertEqual(await self.matches("#", "", "a", "a.b"), ["empty", "a", "a.b"])

    async def test_a_hash_in_the_middle(self) -> None:
        self.assertEqual(
            await self.matches("a.#.c", "a.c", "a.b.c", "a.b.b.c", "a.b", "c"), ["a.c", "a.b.c", "a.b.b.c"]
        )

    async def test_several_hashes_bring_it_once(self) -> None:
        self.assertEqual(await self.matches("#.a.#", "a", "a.a.a", "b.a.c", "b"), ["a", "a.a.a", "b.a.c"])

    async def test_a_hash_and_a_star(self) -> None:
        self.assertEqual(await self.matches("#.*", "a", "a.b", "a.b.c"), ["a", "a.b", "a.b.c"])

    async def test_an_empty_pattern_matches_the_empty_key(self) -> None:
        self.assertEqual(await self.matches("", "", "a"), ["empty"])

    async def test_a_wildcard_in_a_key_is_a_word(self) -> None:
        self.assertEqual(await self.matches("a.b", "a.*", "#", "a.#"), [])

    async def test_a_wildcard_within_a_word_is_none(self) -> None:
        self.assertEqual(await self.matches("a*", "ab", "a*"), ["a*"])

    async def test_patterns_that_share_words_are_unbound_one_by_one(self) -> None:
        talk = await self.talk()
        exchange = await talk.exchange("topic")
        queue, other = await talk.bound(exchange, "a.#"), await talk.bound(exchange, "a.#.b")
        await talk.channel.queue_unbind(queue=queue, exchange=exchange, routing_key="a.#", arguments={})
        await talk.send("a.b", b"1", exchange=exchange)
        self.assertEqual((await talk.drained(queue), await talk.drained(other)), ([], [b"1"]))


class Headers(Behaviour):
    """Exchanges of the type headers."""

    async def matches(self, wanted: dict[str, Any], *headers: dict[str, Any] | None) -> list[int]:
        """The places of those headers that a binding lets through."""
        talk = await self.talk()
        exchange = await talk.exchange("headers")
        queue = await talk.bound(exchange, "", wanted)
        for place, each in enumerate(headers):
            properties = {} if each is None else {"headers": each}
            await talk.send("", str(place).encode(), exchange=exchange, **properties)
        return [int(body) for body in await talk.drained(queue)]

    async def test_all_have_to_be_there(self) -> None:
        wanted = {"x-match": "all", "a": "1", "b": 2}
        self.assertEqual(
            await self.matches(wanted, {"a": "1", "b": 2}, {"a": "1"}, {"a": "1", "b": 2, "c": 3}, None),
            [0, 2],
        )

    async def test_all_is_what_is_meant_if_nothing_is_said(self) -> None:
        self.assertEqual(await self.matches({"a": "1", "b": 2}, {"a": "1", "b": 2}, {"a": "1"}), [0])

    async def test_any_is_enough(self) -> None:
        wanted = {"x-match": "any", "a": "1", "b": 2}
        self.assertEqual(await self.matches(wanted, {"a": "1"}, {"b": 2, "a": "0"}, {"b": 3}, None), [0, 1])

    async def test_a_header_of_another_type_is_another(self) -> None:
        self.assertEqual(await self.matches({"a": "1"}, {"a": 1}, {"a": "1"}), [1])

    async def test_a_header_without_a_value_needs_to_be_there_only(self) -> None:
        self.assertEqual(await self.matches({"a": None}, {"a": 1}, {"b": 1}, {"a": "x"}), [0, 2])

    async def test_names_with_x_in_front_do_not_count(self) -> None:
        wanted = {"x-match": "all", "x-a": "1", "b": 2}
        self.assertEqual(await self.matches(wanted, {"b": 2}, {"x-a": "1"}), [0])

    async def test_names_with_x_in_front_count_if_asked_for(self) -> None:
        wanted = {"x-match": "all-with-x", "x-a": "1", "b": 2}
        self.assertEqual(await self.matches(wanted, {"b": 2}, {"x-a": "1", "b": 2}), [1])

    async def test_any_with_x(self) -> None:
        wanted = {"x-match": "any-with-x", "x-a": "1", "b": 2}
        self.assertEqual(await self.matches(wanted, {"b": 2}, {"x-a": "1"}, {"c": 1}), [0, 1])

    async def test_without_a_header_all_match(self) -> None:
        self.assertEqual(await self.matches({"x-match": "all"}, {"a": 1}, None), [0, 1])

    async def test_without_a_header_any_matches_none(self) -> None:
        self.assertEqual(await self.matches({"x-match": "any"}, {"a": 1}, None), [])

    async def test_a_match_that_means_nothing_is_refused(self) -> None:
        talk = await self.talk()
        exchange, queue = await talk.exchange("headers"), await talk.queue()
        refusal = await talk.refused(
            talk.channel.queue_bind(queue=queue, exchange=exchange, arguments={"x-match": "some"})
        )
        self.assertEqual(
            refusal,
            (
                "channel",
                406,
                'PRECONDITION_FAILED - Invalid x-match field value <<"some">>; '
                "expected all, any, all-with-x, or any-with-x",
            ),
        )

    async def test_a_match_that_is_no_text_is_refused(self) -> None:
        talk = await self.talk()
        exchange, queue = await talk.exchange("headers"), await talk.queue()
        refusal = await talk.refused(
            talk.channel.queue_bind(queue=queue, exchange=exchange, arguments={"x-match": 1})
        )
        self.assertEqual(
            refusal,
            (
                "channel",
                406,
                "PRECONDITION_FAILED - Invalid x-match field type signedint (value 1); expected longstr",
            ),
        )


class Chains(Behaviour):
    """Exchanges behind exchanges."""

    async def test_an_exchange_bound_to_an_exchange(self) -> None:
        talk = await self.talk()
        first, second = await talk.exchange("direct"), await talk.exchange("fanout")
        await self.chain(talk, first, second, "a")
        queue = await talk.bound(second)
        await talk.send("a", b"1", exchange=first)
        await talk.send("b", b"2", exchange=first)
        got = await talk.taken(queue)
        self.assertEqual((got.exchange, got.routing_key, got.body), (first, "a", b"1"))
        self.assertTrue(await talk.stays_empty(queue))

    async def test_exchanges_in_a_ring_bring_it_once(self) -> None:
        talk = await self.talk()
        first, second = await talk.exchange("fanout"), await talk.exchange("fanout")
        await self.chain(talk, first, second)
        await self.chain(talk, second, first)
        queue = await talk.bound(second)
        await talk.send("a", b"1", exchange=first)
        self.assertEqual(await talk.drained(queue), [b"1"])

    async def test_an_exchange_that_is_unbound(self) -> None:
        talk = await self.talk()
        first, second = await talk.exchange("fanout"), await talk.exchange("fanout")
        await self.chain(talk, first, second)
        queue = await talk.bound(second)
        await talk.channel.exchange_unbind(destination=second, source=first, routing_key="", arguments={})
        await talk.send("a", b"1", exchange=first)
        self.assertTrue(await talk.stays_empty(queue))

    async def test_an_exchange_that_is_deleted_is_unbound(self) -> None:
        talk = await self.talk()
        first, second = await talk.exchange("fanout"), await talk.exchange("fanout")
        await self.chain(talk, first, second)
        await talk.channel.exchange_delete(exchange=second)
        await talk.exchange("fanout", second)
        queue = await talk.bound(second)
        await talk.send("a", b"1", exchange=first)
        self.assertTrue(await talk.stays_empty(queue))

    async def test_the_alternate_exchange_has_what_no_binding_matches(self) -> None:
        talk = await self.talk()
        other = await talk.exchange("fanout")
        exchange = await talk.exchange("direct", alternate_exchange=other)
        queue, rest = await talk.bound(exchange, "a"), await talk.bound(other)
        await talk.send("a", b"1", exchange=exchange)
        await talk.send("b", b"2", exchange=exchange)
        self.assertEqual((await talk.drained(queue), await talk.drained(rest)), ([b"1"], [b"2"]))

    async def test_an_alternate_exchange_that_is_not_there_is_no_error(self) -> None:
        talk = await self.talk()
        exchange = await talk.exchange("direct", alternate_exchange=self.name("exchange"))
        talk.publish("a", b"1", exchange, mandatory=True)
        self.assertEqual(await talk.confirmed(), [True])
        self.assertEqual([returned.body for returned in talk.returned], [b"1"])

    async def test_an_alternate_that_routes_keeps_a_mandatory_message_from_returning(self) -> None:
        talk = await self.talk()
        other = await talk.exchange("fanout")
        exchange = await talk.exchange("direct", alternate_exchange=other)
        queue = await talk.bound(other)
        talk.publish("a", b"1", exchange, mandatory=True)
        await talk.confirmed()
        self.assertEqual((talk.returned, await talk.drained(queue)), ([], [b"1"]))

    async def test_an_alternate_of_an_alternate(self) -> None:
        talk = await self.talk()
        last = await talk.exchange("fanout")
        middle = await talk.exchange("direct", alternate_exchange=last)
        first = await talk.exchange("direct", alternate_exchange=middle)
        queue = await talk.bound(last)
        await talk.send("a", b"1", exchange=first)
        self.assertEqual(await talk.drained(queue), [b"1"])

    async def test_an_internal_exchange_takes_from_exchanges_alone(self) -> None:
        talk = await self.talk()
        first, inner = await talk.exchange("fanout"), await talk.exchange("fanout", internal=True)
        await self.chain(talk, first, inner)
        queue = await talk.bound(inner)
        await talk.send("a", b"1", exchange=first)
        self.assertEqual(await talk.drained(queue), [b"1"])
        talk.publish("a", b"1", inner)
        self.assertEqual(
            await talk.refused(),
            (
                "channel",
                403,
                f"ACCESS_REFUSED - cannot publish to internal exchange '{inner}' in vhost '/'",
            ),
        )

    async def chain(self, talk: Conversation, source: str, destination: str, key: str = "") -> None:
        """Bind an exchange to an exchange."""
        await talk.channel.exchange_bind(
            destination=destination, source=source, routing_key=key, arguments={}
        )


class Copies(Behaviour):
    """The headers CC and BCC."""

    async def test_the_keys_in_cc_route_as_well(self) -> None:
        talk = await self.talk()
        queue, copy = await talk.queue(), await talk.queue()
        await talk.send(queue, b"1", headers={"CC": [copy]})
        first, second = await talk.taken(queue), await talk.taken(copy)
        self.assertEqual((first.headers, second.headers), ({"CC": [copy]}, {"CC": [copy]}))
        self.assertEqual(second.routing_key, queue)

    async def test_the_keys_in_bcc_route_and_are_not_told(self) -> None:
        talk = await self.talk()
        queue, copy = await talk.queue(), await talk.queue()
        await talk.send(queue, b"1", headers={"BCC": [copy], "a": 1})
        first, second = await talk.taken(queue), await talk.taken(copy)
        self.assertEqual((first.headers, second.headers), ({"a": 1}, {"a": 1}))

    async def test_a_queue_that_is_named_twice_has_it_once(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, b"1", headers={"CC": [queue], "BCC": [queue]})
        self.assertEqual(await talk.drained(queue), [b"1"])

    async def test_cc_by_a_topic(self) -> None:
        talk = await self.talk()
        exchange = await talk.exchange("topic")
        queue = await talk.bound(exchange, "a.*")
        await talk.send("b", b"1", exchange=exchange, headers={"CC": ["a.b"]})
        self.assertEqual(await talk.drained(queue), [b"1"])

    async def test_keys_that_are_no_text_are_passed_over(self) -> None:
        talk = await self.talk()
        queue, copy = await talk.queue(), await talk.queue()
        await talk.send(queue, b"1", headers={"CC": [1, copy]})
        self.assertEqual(await talk.drained(copy), [b"1"])


class Declaring(Behaviour):
    """exchange.declare and exchange.delete."""

    async def test_again_as_it_is(self) -> None:
        talk = await self.talk()
        name = await talk.exchange("topic", durable=True)
        self.assertEqual(await talk.exchange("topic", name, durable=True), name)

    async def test_passively_nothing_is_compared(self) -> None:
        talk = await self.talk()
        name = await talk.exchange("topic")
        self.assertEqual(await talk.exchange("direct", name, passive=True, durable=True), name)

    async def test_an_auto_delete_exchange_goes_with_its_last_binding(self) -> None:
        talk = await self.talk()
        name = await talk.exchange("direct", auto_delete=True)
        queue = await talk.bound(name, "a")
        await talk.bind(queue, name, "b")
        await talk.channel.queue_unbind(queue=queue, exchange=name, routing_key="a", arguments={})
        await talk.exchange("direct", name, passive=True)
        await talk.channel.queue_unbind(queue=queue, exchange=name, routing_key="b", arguments={})
        refusal = await talk.refused(
            talk.channel.exchange_declare(exchange=name, type="direct", passive=True)
        )
        self.assertEqual(refusal[:2], ("channel", 404))

    async def test_an_auto_delete_exchange_goes_with_its_last_queue(self) -> None:
        talk = await self.talk()
        name = await talk.exchange("direct", auto_delete=True)
        queue = await talk.bound(name, "a")
        await talk.channel.queue_delete(queue=queue)
        refusal = await talk.refused(
            talk.channel.exchange_declare(exchange=name, type="direct", passive=True)
        )
        self.assertEqual(refusal[:2], ("channel", 404))

    async def test_an_auto_delete_exchange_that_was_never_bound_stays(self) -> None:
        talk = await self.talk()
        name = await talk.exchange("direct", auto_delete=True)
        self.assertEqual(await talk.exchange("direct", name, passive=True), name)

    async def test_to_delete_what_is_not_there_is_fine(self) -> None:
        talk = await self.talk()
        answer = await talk.channel.exchange_delete(exchange=self.name("exchange"))
        self.assertEqual(answer.method.name, "delete-ok")

    async def test_one_in_use_is_not_deleted_if_it_has_to_be_unused(self) -> None:
        talk = await self.talk()
        name = await talk.exchange("direct")
        await talk.bound(name, "a")
        refusal = await talk.refused(talk.channel.exchange_delete(exchange=name, if_unused=True))
        self.assertEqual(
            refusal, ("channel", 406, f"PRECONDITION_FAILED - exchange '{name}' in vhost '/' in use")
        )

    async def test_an_unused_one_is_deleted(self) -> None:
        talk = await self.talk()
        name = await talk.exchange("direct")
        await talk.channel.exchange_delete(exchange=name, if_unused=True)
        refusal = await talk.refused(
            talk.channel.exchange_declare(exchange=name, type="direct", passive=True)
        )
        self.assertEqual(refusal, ("channel", 404, f"NOT_FOUND - no exchange '{name}' in vhost '/'"))

    async def test_nowait_is_not_answered(self) -> None:
        talk = await self.talk()
        name = await talk.exchange("direct", nowait=True)
        self.assertEqual(await talk.exchange("direct", name, passive=True), name)


globals().update(on_each_broker(Direct, Topics, Headers, Chains, Copies, Declaring))
