"""
Wrong use of what is there and of what isn't: the reply code, its text, and whether the channel ends or the
connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from tests.contract.brokers import Behaviour, on_each_broker
from tests.contract.conversations import Conversation

Request = Callable[[Any], Deferred[Any]]
#: Nobody makes anything of this name.
MISSING = "contract.missing"


class Refusals(Behaviour):
    """What the tests below share."""

    async def refusal(self, request: Request) -> tuple[str, int, str]:
        """What a channel is told for one request."""
        talk = await self.talk()
        return await talk.refused(request(talk.channel))

    async def check(self, cases: list[tuple[Request, tuple[str, int, str]]]) -> None:
        """Every request, on a channel of its own."""
        for request, expected in cases:
            self.assertEqual(await self.refusal(request), expected)


class Missing(Refusals):
    """404."""

    NO_QUEUE = ("channel", 404, f"NOT_FOUND - no queue '{MISSING}' in vhost '/'")
    NO_EXCHANGE = ("channel", 404, f"NOT_FOUND - no exchange '{MISSING}' in vhost '/'")
    NONE_DECLARED = ("channel", 404, "NOT_FOUND - no previously declared queue")

    async def test_a_queue_that_is_not_there(self) -> None:
        await self.check(
            [
                (lambda channel: channel.queue_declare(queue=MISSING, passive=True), self.NO_QUEUE),
                (lambda channel: channel.queue_purge(queue=MISSING), self.NO_QUEUE),
                (lambda channel: channel.basic_get(queue=MISSING), self.NO_QUEUE),
                (lambda channel: channel.basic_consume(queue=MISSING, arguments={}), self.NO_QUEUE),
                (
                    lambda channel: channel.queue_bind(
                        queue=MISSING, exchange="amq.direct", routing_key="a", arguments={}
                    ),
                    self.NO_QUEUE,
                ),
            ]
        )

    async def test_an_exchange_that_is_not_there(self) -> None:
        await self.check(
            [
                (
                    lambda channel: channel.exchange_declare(exchange=MISSING, type="direct", passive=True),
                    self.NO_EXCHANGE,
                ),
                (
                    lambda channel: channel.exchange_bind(
                        destination="amq.direct", source=MISSING, routing_key="a", arguments={}
                    ),
                    self.NO_EXCHANGE,
                ),
                (
                    lambda channel: channel.exchange_bind(
                        destination=MISSING, source="amq.direct", routing_key="a", arguments={}
                    ),
                    self.NO_EXCHANGE,
                ),
            ]
        )

    async def test_the_exchange_of_a_message(self) -> None:
        talk = await self.talk()
        talk.publish("a", exchange=MISSING)
        self.assertEqual(await talk.refused(), self.NO_EXCHANGE)

    async def test_the_exchange_to_bind_to(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        request = talk.channel.queue_bind(queue=queue, exchange=MISSING, routing_key="a", arguments={})
        self.assertEqual(await talk.refused(request), self.NO_EXCHANGE)

    async def test_of_two_that_are_missing_the_exchange_is_named(self) -> None:
        nowhere = "contract.nowhere"
        refusal = await self.refusal(
            lambda channel: channel.queue_bind(queue=MISSING, exchange=nowhere, routing_key="a", arguments={})
        )
        self.assertEqual(refusal, ("channel", 404, f"NOT_FOUND - no exchange '{nowhere}' in vhost '/'"))

    async def test_no_name_where_nothing_was_declared(self) -> None:
        await self.check(
            [
                (lambda channel: channel.queue_purge(queue=""), self.NONE_DECLARED),
                (lambda channel: channel.queue_delete(queue=""), self.NONE_DECLARED),
                (lambda channel: channel.basic_get(queue=""), self.NONE_DECLARED),
                (lambda channel: channel.basic_consume(queue="", arguments={}), self.NONE_DECLARED),
            ]
        )

    async def test_to_unbind_from_what_is_not_there_is_fine(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        for ends in ({"queue": queue, "exchange": MISSING}, {"queue": MISSING, "exchange": "amq.direct"}):
            answer = await talk.channel.queue_unbind(routing_key="a", arguments={}, **ends)
            self.assertEqual(answer.method.name, "unbind-ok")
        for ends in (
            {"destination": MISSING, "source": "amq.direct"},
            {"destination": "amq.direct", "source": MISSING},
        ):
            answer = await talk.channel.exchange_unbind(routing_key="a", arguments={}, **ends)
            self.assertEqual(answer.method.name, "unbind-ok")

    async def test_a_text_that_is_too_long_is_cut(self) -> None:
        name = "q" * 240
        _, _, text = await self.refusal(lambda channel: channel.queue_declare(queue=name, passive=True))
        self.assertEqual(text, f"NOT_FOUND - no queue '{name}"[:252] + "...")


class Refused(Refusals):
    """403."""

    RESERVED = "contains reserved prefix 'amq.*'"
    DEFAULT = ("channel", 403, "ACCESS_REFUSED - operation not permitted on the default exchange")

    async def test_names_of_the_brokers_own(self) -> None:
        await self.check(
            [
                (
                    lambda channel: channel.queue_declare(queue="amq.mine"),
                    ("channel", 403, f"ACCESS_REFUSED - queue name 'amq.mine' {self.RESERVED}"),
                ),
                (
                    lambda channel: channel.exchange_declare(exchange="amq.mine", type="direct"),
                    ("channel", 403, f"ACCESS_REFUSED - exchange name 'amq.mine' {self.RESERVED}"),
                ),
            ]
        )

    async def test_exchanges_of_the_brokers_own_are_not_deleted(self) -> None:
        await self.check(
            [
                (
                    lambda channel: channel.exchange_delete(exchange="amq.direct"),
                    (
                        "channel",
                        403,
                        "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed",
                    ),
                ),
                (
                    lambda channel: channel.exchange_delete(exchange="amq.missing"),
                    (
                        "channel",
                        403,
                        "ACCESS_REFUSED - deletion of system exchange 'amq.missing' in vhost '/' not allowed",
                    ),
                ),
            ]
        )

    async def test_the_default_exchange_stays_as_it_is(self) -> None:
        await self.check(
            [
                (lambda channel: channel.exchange_declare(exchange="", type="direct"), self.DEFAULT),
                (
                    lambda channel: channel.exchange_declare(exchange="", type="direct", passive=True),
                    self.DEFAULT,
                ),
                (lambda channel: channel.exchange_delete(exchange=""), self.DEFAULT),
                (
                    lambda channel: channel.exchange_bind(
                        destination="amq.direct", source="", routing_key="a", arguments={}
                    ),
                    self.DEFAULT,
                ),
                (
                    lambda channel: channel.exchange_bind(
                        destination="", source="amq.direct", routing_key="a", arguments={}
                    ),
                    self.DEFAULT,
                ),
            ]
        )

    async def test_queues_are_neither_bound_to_it_nor_unbound(self) -> None:
        for method in ("queue_bind", "queue_unbind"):
            talk = await self.talk()
            queue = await talk.queue()
            request = getattr(talk.channel, method)(queue=queue, exchange="", routing_key=queue, arguments={})
            self.assertEqual(await talk.refused(request), self.DEFAULT)

    async def test_a_user_id_that_is_another_users(self) -> None:
        talk = await self.talk()
        talk.publish(await talk.queue(), user_id="other")
        self.assertEqual(
            await talk.refused(),
            (
                "channel",
                406,
                "PRECONDITION_FAILED - user_id property set to 'other' but authenticated user was 'guest'",
            ),
        )

    async def test_ones_own_user_id(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, user_id="guest")
        self.assertEqual((await talk.taken(queue)).properties, {"user_id": "guest"})

    async def test_a_second_consumer_beside_an_exclusive_one(self) -> None:
        for first, second in ((True, False), (False, True)):
            talk = await self.talk()
            queue = await talk.queue()
            await talk.consume(queue, exclusive=first)
            request = talk.channel.basic_consume(queue=queue, exclusive=second, arguments={})
            self.assertEqual(
                await talk.refused(request),
                ("channel", 403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"),
            )


class OtherThanItWas(Refusals):
    """406 for what is declared otherwise than it is."""

    async def redeclared(self, talk: Conversation, first: dict[str, Any], second: dict[str, Any]) -> str:
        """The text of the refusal, without what each has in front."""
        queue = await talk.queue(**first)
        arguments = {name.replace("_", "-"): value for name, value in second.items() if name[:2] == "x_"}
        options = {name: value for name, value in second.items() if name[:2] != "x_"}
        request = talk.channel.queue_declare(queue=queue, arguments=arguments, **options)
        closed, code, text = await talk.refused(request)
        self.assertEqual((closed, code), ("channel", 406))
        return text.removeprefix("PRECONDITION_FAILED - inequivalent arg ").replace(queue, "NAME")

    async def check_queue(self, first: dict[str, Any], second: dict[str, Any], expected: str) -> None:
        """Declare a queue twice."""
        talk = await self.talk()
        self.assertEqual(await self.redeclared(talk, first, second), expected)

    async def test_durable(self) -> None:
        where = "'durable' for queue 'NAME' in vhost '/': received"
        await self.check_queue({}, {"durable": True}, f"{where} 'true' but current is 'false'")
        await self.check_queue({"durable": True}, {}, f"{where} 'false' but current is 'true'")

    async def test_auto_delete(self) -> None:
        text = "'auto_delete' for queue 'NAME' in vhost '/': received 'true' but current is 'false'"
        await self.check_queue({}, {"auto_delete": True}, text)

    async def test_an_argument_more(self) -> None:
        await self.check_queue(
            {},
            {"x_message_ttl": 5000},
            "'x-message-ttl' for queue 'NAME' in vhost '/': received the value '5000' of type 'signedint' "
            "but current is none",
        )

    async def test_an_argument_less(self) -> None:
        await self.check_queue(
            {"x_dead_letter_exchange": "a"},
            {},
            "'x-dead-letter-exchange' for queue 'NAME' in vhost '/': received none "
            "but current is the value 'a' of type 'longstr'",
        )
        await self.check_queue(
            {"x_single_active_consumer": True},
            {},
            "'x-single-active-consumer' for queue 'NAME' in vhost '/': received none "
            "but current is the value 'true' of type 'bool'",
        )

    async def test_another_value(self) -> None:
        # RabbitMQ 4.3 has but one version of queues.
        versions: list[tuple[str, Any, Any]] = [] if self.since(4, 3) else [("x_queue_version", 1, 2)]
        for argument, old, new in (
            ("x_message_ttl", 5000, 6000),
            ("x_expires", 50000, 60000),
            ("x_dead_letter_exchange", "a", "b"),
            ("x_max_length", 1, 2),
            ("x_max_length_bytes", 1, 2),
            ("x_overflow", "drop-head", "reject-publish"),
            ("x_max_priority", 1, 2),
            ("x_queue_mode", "lazy", "default"),
            *versions,
        ):
            name = argument.replace("_", "-")
            await self.check_queue(
                {argument: old},
                {argument: new},
                f"'{name}' for queue 'NAME' in vhost '/': received '{new}' but current is '{old}'",
            )

    async def test_another_value_for_a_quorum_queue(self) -> None:
        quorum = {"durable": True, "x_queue_type": "quorum"}
        for argument, old, new in (
            ("x_delivery_limit", 3, 4),
            ("x_dead_letter_strategy", "at-most-once", "at-least-once"),
            ("x_max_in_memory_length", 1, 2),
        ):
            name = argument.replace("_", "-")
            await self.check_queue(
                {argument: old, **quorum},
                {argument: new, **quorum},
                f"'{name}' for queue 'NAME' in vhost '/': received '{new}' but current is '{old}'",
            )

    async def test_a_value_that_means_nothing_is_another_one(self) -> None:
        await self.check_queue(
            {},
            {"x_message_ttl": -1},
            "'x-message-ttl' for queue 'NAME' in vhost '/': received the value '-1' of type 'signedint' "
            "but current is none",
        )

    async def test_another_type_of_queue(self) -> None:
        # In RabbitMQ 4, what says nothing says that it is classic.
        values = (
            "'quorum' but current is 'classic'"
            if self.since(4)
            else "the value 'quorum' of type 'longstr' but current is none"
        )
        await self.check_queue(
            {"durable": True},
            {"durable": True, "x_queue_type": "quorum"},
            f"'x-queue-type' for queue 'NAME' in vhost '/': received {values}",
        )

    async def test_classic_is_what_a_queue_is_that_says_nothing(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(durable=True)
        self.assertEqual(await talk.queue(queue, durable=True, x_queue_type="classic"), queue)
        queue = await talk.queue(durable=True, x_queue_type="classic")
        self.assertEqual(await talk.queue(queue, durable=True), queue)

    async def test_an_exchange(self) -> None:
        for old, new, text in (
            ({}, {"type": "topic"}, "'type' {} received 'topic' but current is 'direct'"),
            ({}, {"durable": True}, "'durable' {} received 'true' but current is 'false'"),
            ({}, {"auto_delete": True}, "'auto_delete' {} received 'true' but current is 'false'"),
            ({"internal": True}, {}, "'internal' {} received 'false' but current is 'true'"),
        ):
            await self.check_exchange(old, new, text)

    async def test_an_alternate_exchange(self) -> None:
        for old, new, text in (
            ("a", "b", "received 'b' but current is 'a'"),
            ("a", None, "received none but current is the value 'a' of type 'longstr'"),
            (None, "b", "received the value 'b' of type 'longstr' but current is none"),
        ):
            await self.check_exchange(
                {} if old is None else {"alternate_exchange": old},
                {} if new is None else {"arguments": {"alternate-exchange": new}},
                f"'alternate-exchange' {{}} {text}",
            )

    async def check_exchange(self, old: dict[str, Any], new: dict[str, Any], text: str) -> None:
        """Declare an exchange of the type direct twice."""
        talk = await self.talk()
        exchange = await talk.exchange("direct", **old)
        request = talk.channel.exchange_declare(exchange=exchange, **{"type": "direct", **new})
        where = f"for exchange '{exchange}' in vhost '/':"
        self.assertEqual(
            await talk.refused(request),
            ("channel", 406, f"PRECONDITION_FAILED - inequivalent arg {text.format(where)}"),
        )


class Arguments(Refusals):
    """406 for arguments that mean nothing."""

    async def check_arguments(self, cases: dict[str, list[tuple[Any, str]]], **options: Any) -> None:
        """Declare a queue for each value, which is wrong for the reason behind it."""
        talk = await self.talk()
        for argument, values in cases.items():
            for value, wrong in values:
                other = await self.talk(talk.client)
                queue = self.name()
                arguments = {**options.get("arguments", {}), argument: value}
                request = other.channel.queue_declare(
                    queue=queue, durable=options.get("durable", False), arguments=arguments
                )
                text = f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{queue}' in vhost '/'"
                self.assertEqual(await other.refused(request), ("channel", 406, text + wrong))

    async def test_of_another_type(self) -> None:
        numbers = [
            ("5", ': "expected integer, got longstr"'),
            (1.5, ': "expected integer, got double"'),
            (True, ': "expected integer, got bool"'),
            ([1], ': "expected integer, got array"'),
            ({"a": 1}, ': "expected integer, got table"'),
            (None, ': "expected integer, got void"'),
        ]
        await self.check_arguments(
            dict.fromkeys(("x-expires", "x-message-ttl", "x-max-length", "x-max-priority"), numbers)
        )

    async def test_out_of_bounds(self) -> None:
        await self.check_arguments(
            {
                "x-expires": [
                    (0, ": {value_zero,0}"),
                    (-1, ": {value_negative,-1}"),
                    (315_360_000_001, ": {value_too_large,315360000001}"),
                ],
                "x-message-ttl": [
                    (-1, ": {value_negative,-1}"),
                    (315_360_000_001, ": {value_too_large,315360000001}"),
                ],
                "x-max-length": [(-1, ": {value_negative,-1}")],
                "x-max-length-bytes": [(-1, ": {value_negative,-1}")],
                "x-max-priority": [
                    (-1, ": {value_negative,-1}"),
                    (256, ": {max_value_exceeded,256}"),
                ],
            }
        )

    async def test_words_that_mean_nothing(self) -> None:
        modes: list[tuple[Any, str]] = [
            ("some", ": \"unsupported queue mode 'some'\""),
            (3, ": {unacceptable_type,signedint}"),
        ]
        if self.since(4, 3):
            # No mode means anything there.
            modes = []
        await self.check_arguments(
            {
                "x-overflow": [("some", ": invalid_overflow"), (3, ": {unacceptable_type,signedint}")],
                "x-queue-type": [
                    ("some", ": \"unsupported queue type 'some'\""),
                    (3, ": {unacceptable_type,signedint}"),
                ],
                "x-queue-mode": modes,
                "x-queue-version": [
                    (3, ": \"unsupported queue version '3'\""),
                    ("2", ': "expected integer, got longstr"'),
                ],
                "x-single-active-consumer": [
                    ("yes", ": {unacceptable_type,longstr}"),
                    (3, ": {unacceptable_type,signedint}"),
                ],
                "x-dead-letter-routing-key": [
                    (5, ": {unacceptable_type,signedint}"),
                    ("alone", ": routing_key_but_no_dlx_defined"),
                ],
            }
        )

    async def test_of_quorum_queues_alone(self) -> None:
        wrong = " of queue type rabbit_classic_queue"
        await self.check_arguments(
            {
                "x-delivery-limit": [(5, wrong), (-1, wrong), ("a", wrong)],
                "x-dead-letter-strategy": [("at-least-once", wrong)],
                "x-max-in-memory-length": [(3, wrong)],
                "x-quorum-initial-group-size": [(1, wrong)],
            }
        )

    async def test_of_classic_queues_alone(self) -> None:
        wrong = " of queue type rabbit_quorum_queue"
        await self.check_arguments(
            {
                "x-max-priority": [(5, wrong), (256, wrong)],
                "x-queue-mode": [("lazy", wrong)],
                "x-queue-version": [(2, wrong)],
                "x-queue-master-locator": [("min-masters", wrong)],
            },
            durable=True,
            arguments={"x-queue-type": "quorum"},
        )

    async def test_of_a_quorum_queue(self) -> None:
        await self.check_arguments(
            {
                "x-dead-letter-strategy": [("some", ": invalid_dlx_strategy")],
                "x-quorum-initial-group-size": [(0, ": {value_zero,0}")],
            },
            durable=True,
            arguments={"x-queue-type": "quorum"},
        )

    async def test_a_dead_letter_exchange_that_is_no_text(self) -> None:
        talk = await self.talk()
        queue = self.name()
        request = talk.channel.queue_declare(queue=queue, arguments={"x-dead-letter-exchange": 5})
        text = f"invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue '{queue}' in vhost '/'"
        self.assertEqual(await talk.refused(request), ("channel", 406, f"PRECONDITION_FAILED - {text}"))

    async def test_an_alternate_exchange_that_is_no_text(self) -> None:
        talk = await self.talk()
        name = self.name("exchange")
        request = talk.channel.exchange_declare(
            exchange=name, type="direct", arguments={"alternate-exchange": 5}
        )
        text = f"invalid type 'signedint' for arg 'alternate-exchange' in exchange '{name}' in vhost '/'"
        self.assertEqual(await talk.refused(request), ("channel", 406, f"PRECONDITION_FAILED - {text}"))

    async def test_of_a_consumer(self) -> None:
        # RabbitMQ 4 has no mirrored queues, and passes over their arguments.
        mirrored = [("x-cancel-on-ha-failover", "a", ": {unacceptable_type,longstr}")]
        for argument, value, wrong in (
            ("x-priority", "a", ': "expected integer, got longstr"'),
            ("x-priority", 1.5, ': "expected integer, got double"'),
            ("x-stream-offset", "first", " of queue type rabbit_classic_queue"),
            *([] if self.since(4) else mirrored),
        ):
            talk = await self.talk()
            queue = await talk.queue()
            request = talk.channel.basic_consume(queue=queue, arguments={argument: value})
            text = f"invalid arg '{argument}' for queue '{queue}' in vhost '/'{wrong}"
            self.assertEqual(await talk.refused(request), ("channel", 406, f"PRECONDITION_FAILED - {text}"))

    async def test_line_ends_are_taken_out_of_names(self) -> None:
        talk = await self.talk()
        name = self.name()
        self.assertEqual(await talk.queue(f"{name}\r\n"), name)
        self.assertEqual(await talk.count(f"\n{name}"), 0)


class Properties(Refusals):
    """406 for properties that mean nothing."""

    async def check_properties(self, wrong: str, **properties: Any) -> None:
        """Publish with them."""
        talk = await self.talk()
        talk.publish(await talk.queue(), **properties)
        self.assertEqual(await talk.refused(), ("channel", 406, f"PRECONDITION_FAILED - {wrong}"))

    async def comes_through(self, **properties: Any) -> None:
        """Publish with them, and get the same."""
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, **properties)
        self.assertEqual((await talk.taken(queue)).properties, properties)

    async def test_an_expiration_that_is_no_number(self) -> None:
        for expiration in ("abc", "", " 5", "\u0663"):
            await self.check_properties(
                f"invalid expiration '{expiration}': no_integer", expiration=expiration
            )

    async def test_an_expiration_with_more_behind_it(self) -> None:
        await self.check_properties("invalid expiration '1.5': {leftover_string,\".5\"}", expiration="1.5")

    async def test_an_expiration_out_of_bounds(self) -> None:
        await self.check_properties("invalid expiration '-1': {value_negative,-1}", expiration="-1")
        await self.check_properties(
            "invalid expiration '315360000001': {value_too_large,315360000001}", expiration="315360000001"
        )

    async def test_the_longest_expiration_and_one_with_a_sign(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue, b"1", expiration="315360000000")
        await talk.send(queue, b"2", expiration="+50000")
        self.assertEqual(await talk.drained(queue), [b"1", b"2"])

    async def test_a_delivery_mode_that_means_nothing(self) -> None:
        for mode in (0, 3):
            if self.since(4):
                # It takes them, and tells nobody what it takes them for.
                await self.comes_through(delivery_mode=mode)
            else:
                wrong = f"invalid message: {{delivery_mode_unknown,{mode}}}"
                await self.check_properties(wrong, delivery_mode=mode)

    async def test_copies_that_are_no_list(self) -> None:
        for name, value, kind in (("CC", "a", "longstr"), ("CC", 1, "signedint"), ("BCC", {"a": 1}, "table")):
            await self.check_properties(
                f'invalid message: {{unacceptable_type_in_header,"{name}",{kind}}}', headers={name: value}
            )


class Settling(Refusals):
    """406 for deliveries that nobody knows of."""

    UNKNOWN = ("channel", 406, "PRECONDITION_FAILED - unknown delivery tag 7")

    async def test_a_tag_that_was_never_given(self) -> None:
        for settle in (
            lambda channel: channel.ack(7),
            lambda channel: channel.ack(7, True),
            lambda channel: channel.nack(7),
            lambda channel: channel.basic_reject(delivery_tag=7, requeue=True),
        ):
            talk = await self.talk()
            settle(talk.channel)
            self.assertEqual(await talk.refused(), self.UNKNOWN)

    async def test_the_tag_0_for_one(self) -> None:
        talk = await self.talk()
        talk.channel.ack(0)
        self.assertEqual(
            await talk.refused(), ("channel", 406, "PRECONDITION_FAILED - unknown delivery tag 0")
        )

    async def test_the_tag_0_for_all_where_there_is_nothing(self) -> None:
        talk = await self.talk()
        talk.channel.ack(0, True)
        await talk.queue()
        self.assertIs(talk.refusal, None)

    async def test_a_second_time(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue)
        got = await talk.taken(queue, no_ack=False)
        talk.channel.ack(got.delivery_tag)
        talk.channel.ack(got.delivery_tag)
        self.assertEqual(
            await talk.refused(), ("channel", 406, "PRECONDITION_FAILED - unknown delivery tag 1")
        )

    async def test_what_another_channel_was_given(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue)
        got = await talk.taken(queue, no_ack=False)
        other = await self.talk(talk.client)
        other.channel.ack(got.delivery_tag)
        self.assertEqual(
            await other.refused(), ("channel", 406, "PRECONDITION_FAILED - unknown delivery tag 1")
        )

    async def test_what_needs_no_acknowledgement(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.send(queue)
        got = await talk.taken(queue, no_ack=True)
        talk.channel.ack(got.delivery_tag)
        self.assertEqual((await talk.refused())[:2], ("channel", 406))


class NotHere(Refusals):
    """503, 530 and 540, which end the connection."""

    async def test_an_unknown_type_of_exchange(self) -> None:
        closed, code, reason = "connection", 503, "COMMAND_INVALID"
        if self.since(4):
            # Only the channel ends there.
            closed, code, reason = "channel", 406, "PRECONDITION_FAILED"
        refusal = await self.refusal(
            lambda channel: channel.exchange_declare(exchange=MISSING, type="x-contract-type")
        )
        self.assertEqual(refusal, (closed, code, f"{reason} - unknown exchange type 'x-contract-type'"))

    async def test_passively_the_type_does_not_matter(self) -> None:
        refusal = await self.refusal(
            lambda channel: channel.exchange_declare(exchange=MISSING, type="x-contract-type", passive=True)
        )
        self.assertEqual(refusal, Missing.NO_EXCHANGE)

    async def test_a_consumer_tag_that_is_taken(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        await talk.channel.basic_consume(queue=queue, consumer_tag="mine", arguments={})
        request = talk.channel.basic_consume(queue=queue, consumer_tag="mine", arguments={})
        self.assertEqual(
            await talk.refused(request),
            ("connection", 530, "NOT_ALLOWED - attempt to reuse consumer tag 'mine'"),
        )

    async def test_a_consumer_tag_is_the_channels(self) -> None:
        talk = await self.talk()
        queue = await talk.queue()
        other = await self.talk(talk.client)
        for each in (talk, other):
            answer = await each.channel.basic_consume(queue=queue, consumer_tag="mine", arguments={})
            self.assertEqual(answer.consumer_tag, "mine")

    async def test_a_prefetch_in_bytes(self) -> None:
        await self.check(
            [
                (
                    lambda channel: channel.basic_qos(5, 1, False),
                    ("connection", 540, "NOT_IMPLEMENTED - prefetch_size!=0 (5)"),
                )
            ]
        )

    async def test_recover_without_requeue(self) -> None:
        await self.check(
            [
                (
                    lambda channel: channel.basic_recover(requeue=False),
                    ("connection", 540, "NOT_IMPLEMENTED - requeue=false"),
                )
            ]
        )

    async def test_to_stop_the_flow(self) -> None:
        await self.check(
            [
                (
                    lambda channel: channel.channel_flow(active=False),
                    ("connection", 540, "NOT_IMPLEMENTED - active=false"),
                )
            ]
        )

    async def test_to_let_it_flow(self) -> None:
        talk = await self.talk()
        answer = await talk.channel.channel_flow(active=True)
        self.assertTrue(answer.active)

    async def test_a_shared_prefetch_for_a_quorum_queue(self) -> None:
        talk = await self.talk()
        queue = await talk.queue(durable=True, x_queue_type="quorum")
        await talk.channel.basic_qos(0, 3, True)
        request = talk.channel.basic_consume(queue=queue, arguments={})
        if self.since(4, 3):
            # None is shared there: it is this consumer's own.
            self.assertEqual((await request).method.name, "consume-ok")
            return
        self.assertEqual(
            await talk.refused(request),
            (
                "connection",
                540,
                f"NOT_IMPLEMENTED - queue '{queue}' in vhost '/' does not support global qos",
            ),
        )

    async def test_transactions_on_a_channel_with_confirms(self) -> None:
        await self.check(
            [
                (
                    lambda channel: channel.tx_select(),
                    ("channel", 406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode"),
                ),
                (
                    lambda channel: channel.tx_commit(),
                    ("channel", 406, "PRECONDITION_FAILED - channel is not transactional"),
                ),
                (
                    lambda channel: channel.tx_rollback(),
                    ("channel", 406, "PRECONDITION_FAILED - channel is not transactional"),
                ),
            ]
        )

    async def test_to_cancel_a_consumer_that_is_not_there_is_fine(self) -> None:
        talk = await self.talk()
        answer = await talk.channel.basic_cancel(consumer_tag="nobody")
        self.assertEqual(answer.consumer_tag, "nobody")

    async def test_other_channels_go_on_when_one_was_closed(self) -> None:
        talk = await self.talk()
        other = await self.talk(talk.client)
        await other.refused(other.channel.basic_get(queue=MISSING))
        queue = await talk.queue()
        await talk.send(queue, b"1")
        self.assertEqual(await talk.drained(queue), [b"1"])

    async def test_a_closed_channels_number_is_free(self) -> None:
        talk = await self.talk()
        await talk.refused(talk.channel.basic_get(queue=MISSING))
        again = await self.talk(talk.client)
        self.assertEqual(again.channel.id, talk.channel.id)
        await again.queue()


globals().update(on_each_broker(Missing, Refused, OtherThanItWas, Arguments, Properties, Settling, NotHere))
