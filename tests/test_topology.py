"""Exchanges, queues and bindings: what other languages, and queues that exist, rely on."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crew_tx import topology
from crew_tx.errors import InvalidArgumentError
from crew_tx.topology import Binding, Exchange, Queue, check_name, check_queue_type, check_task_id

#: The longest name of a program's own that a client or a worker can have.
_LONGEST_ID = "x" * topology.LONGEST_TASK_ID + "-" + "f" * 32


class ExchangeTests(SynchronousTestCase):
    """The exchanges are final: a queue or a program elsewhere is bound to them."""

    def test_they_are_these(self) -> None:
        """All durable, under these names and of these types."""
        self.assertEqual(
            {exchange.name: exchange.type for exchange in topology.EXCHANGES},
            {
                "crew.tasks": "direct",
                "crew.workers": "direct",
                "crew.replies": "direct",
                "crew.dlx": "direct",
                "crew.dead": "fanout",
                "crew.pubsub": "topic",
                "crew.control": "topic",
                "crew.hello": "fanout",
            },
        )
        self.assertTrue(all(exchange.durable for exchange in topology.EXCHANGES))

    def test_dead_letters_that_nobody_fetches_go_to_the_dead(self) -> None:
        """By the alternate exchange, which is declared before it is named."""
        names = [exchange.name for exchange in topology.EXCHANGES]
        with_arguments = [exchange for exchange in topology.EXCHANGES if exchange.arguments]
        self.assertEqual(
            with_arguments,
            [Exchange("crew.dlx", "direct", arguments={"alternate-exchange": "crew.dead"})],
        )
        self.assertLess(names.index("crew.dead"), names.index("crew.dlx"))

    def test_the_dead_are_bounded(self) -> None:
        """10,000 of them, 256 MiB, seven days."""
        self.assertEqual(
            topology.DEAD_QUEUE,
            Queue(
                "crew.dead",
                arguments={
                    "x-max-length": 10_000,
                    "x-max-length-bytes": 268_435_456,
                    "x-message-ttl": 604_800_000,
                },
            ),
        )
        self.assertEqual(topology.DEAD_BINDING, Binding("crew.dead", "crew.dead", ""))


class QueueTests(SynchronousTestCase):
    """Queues, whose arguments can't change once they exist."""

    def test_a_classic_task_queue(self) -> None:
        """Durable, with ten priorities, and dead letters to crew.dlx."""
        self.assertEqual(
            topology.task_queue("sum"),
            Queue(
                "crew.tasks.sum",
                durable=True,
                exclusive=False,
                auto_delete=False,
                arguments={"x-dead-letter-exchange": "crew.dlx", "x-max-priority": 10},
            ),
        )

    def test_a_quorum_task_queue(self) -> None:
        """It loses no dead letter, refuses what it has no room for, and counts deliveries."""
        self.assertEqual(
            topology.task_queue("sum", "quorum"),
            Queue(
                "crew.tasks.sum",
                arguments={
                    "x-dead-letter-exchange": "crew.dlx",
                    "x-queue-type": "quorum",
                    "x-delivery-limit": 20,
                    "x-dead-letter-strategy": "at-least-once",
                    "x-overflow": "reject-publish",
                },
            ),
        )

    def test_a_task_is_bound_by_its_id(self) -> None:
        """Whatever its queue is called."""
        self.assertEqual(topology.task_binding("a.b", "a"), Binding("crew.tasks.a", "crew.tasks", "a.b"))

    def test_a_reply_queue_outlives_its_connection_by_ten_minutes(self) -> None:
        """Durable and not exclusive; a quorum queue where one is asked for."""
        self.assertEqual(
            topology.reply_queue("client-1"), Queue("crew.reply.client-1", arguments={"x-expires": 600_000})
        )
        self.assertEqual(
            topology.reply_queue("client-1", "quorum"),
            Queue("crew.reply.client-1", arguments={"x-expires": 600_000, "x-queue-type": "quorum"}),
        )

    def test_replies_and_dead_letters_find_their_client(self) -> None:
        """By its id, and by the key that its calls carry as CC."""
        self.assertEqual(
            topology.reply_bindings("client-1"),
            (
                Binding("crew.reply.client-1", "crew.replies", "client-1"),
                Binding("crew.reply.client-1", "crew.dlx", "@client-1"),
            ),
        )
        self.assertEqual(topology.dead_letter_key("client-1"), "@client-1")

    def test_a_control_queue_is_its_connections_own(self) -> None:
        """Exclusive and gone with it; the number keeps it from its ghost."""
        self.assertEqual(
            topology.control_queue("worker-1", 3),
            Queue("crew.control.worker-1.3", durable=False, exclusive=True, auto_delete=True),
        )

    def test_a_control_queue_is_bound_by_each_task(self) -> None:
        """On crew.workers, where a probe looks."""
        self.assertEqual(
            topology.control_bindings("q", "w", ["a", "b"], [])[:2],
            [Binding("q", "crew.workers", "a"), Binding("q", "crew.workers", "b")],
        )

    def test_a_control_queue_is_bound_by_all_that_a_command_may_be_for(self) -> None:
        """Each name once; one that would be a pattern is left out, so that it finds no other."""
        bindings = topology.control_bindings("q", "w", ["a", "a.*", "#"], ["a", "s"])
        commands = [binding.routing_key for binding in bindings if binding.exchange == "crew.control"]
        self.assertEqual(commands, ["mgt", "mgt.w", "mgt.a", "mgt.s", "look", "look.w", "look.a", "look.s"])

    def test_a_command_that_only_looks_has_a_key_of_its_own(self) -> None:
        """A worker lets what came by any other but arpc's do no more; a target is no family."""
        keys = [topology.control_key(target, looks) for target in (None, "mgt") for looks in (True, False)]
        self.assertEqual(keys, ["look", "mgt", "look.mgt", "mgt.mgt"])
        self.assertEqual([topology.may_only_look(key) for key in keys], [True, False, True, False])
        for key in ("", "mgtx", "mgt ", "MGT", ".mgt", "look"):
            self.assertTrue(topology.may_only_look(key), key)

    def test_a_client_hears_of_workers_by_a_queue_of_its_connection(self) -> None:
        """Bounded, and bound to the exchange where they announce themselves."""
        arguments = {"x-max-length": 1000}
        self.assertEqual(
            topology.hello_queue("u", 3),
            Queue("crew.sub.hello-u.3", durable=False, exclusive=True, auto_delete=True, arguments=arguments),
        )
        self.assertEqual(topology.hello_binding("q"), Binding("q", "crew.hello", ""))

    def test_a_subscribers_queue_ends_with_its_connection(self) -> None:
        """Unless it is durable; both are bounded."""
        limits = {"x-max-length": 100_000, "x-max-length-bytes": 256 * 1024 * 1024}
        self.assertEqual(
            topology.subscription_queue("s", 2),
            Queue("crew.sub.s.2", durable=False, exclusive=True, auto_delete=True, arguments=limits),
        )
        self.assertEqual(
            topology.durable_subscription_queue("mine"),
            Queue("crew.sub.mine", arguments={**limits, "x-expires": 7 * 24 * 3600 * 1000}),
        )
        self.assertEqual(topology.subscription_binding("q", "news.#"), Binding("q", "crew.pubsub", "news.#"))

    def test_patterns(self) -> None:
        """Of channels: wildcards are allowed, and the rest is as of names."""
        topology.check_pattern("news.*.#")
        self.assertRaises(InvalidArgumentError, topology.check_pattern, "")
        self.assertEqual([topology.is_pattern(name) for name in ("a.b", "a.*", "#")], [False, True, True])

    def test_the_longest_names_are_short_strings(self) -> None:
        """AMQP's limit is 255 bytes; a control queue's number still fits behind."""
        names = [
            topology.reply_queue(_LONGEST_ID).name,
            topology.dead_letter_key(_LONGEST_ID),
            topology.control_queue(_LONGEST_ID, 99_999_999).name,
            topology.task_queue_name("x" * topology.LONGEST_TASK_ID),
        ]
        self.assertLessEqual(max(map(len, names)), topology.LONGEST_SHORT_STRING)
        self.assertEqual((topology.LONGEST_TASK_ID, topology.LONGEST_SHORT_STRING), (200, 255))

    def test_there_are_two_types_of_queue(self) -> None:
        """An unknown one is named in the error."""
        check_queue_type("classic")
        check_queue_type("quorum")
        error = self.assertRaises(InvalidArgumentError, check_queue_type, "stream")
        self.assertIn("'stream'", str(error))


class PriorityTests(SynchronousTestCase):
    """crew's 256 priorities on a queue's eleven."""

    @settings(deadline=None, derandomize=True)
    @given(st.integers(0, 255), st.integers(0, 255))
    def test_their_order_is_kept(self, one: int, other: int) -> None:
        """A higher one never becomes a lower one, and all are ten at most."""
        low, high = sorted((one, other))
        self.assertLessEqual(topology.queue_priority(low), topology.queue_priority(high))
        self.assertLessEqual(topology.queue_priority(high), 10)

    def test_the_ends_meet(self) -> None:
        """None is none, and the highest the highest."""
        self.assertEqual([topology.queue_priority(priority) for priority in (0, 25, 26, 255)], [0, 0, 1, 10])


class NameTests(SynchronousTestCase):
    """What a task, a service, a channel may be called."""

    def test_task_ids_of_1_to_200_bytes_are_good(self) -> None:
        """In UTF-8, with whatever is no control character."""
        for good in ("a", "x" * 200, "é" * 100, "a@b", "a.b c/*#", "日本", "\xa0", "~"):
            check_task_id(good)

    def test_others_are_refused(self) -> None:
        """Empty, too long, a control character, an @ in front, no text, half a character."""
        wrong = (
            "",
            "x" * 201,
            "é" * 101,
            "é" * 100 + "x",
            "@a",
            "@é",
            "@",
            "a\n",
            "a\0",
            "\x7f",
            "é\x1f",
            "é\x80",
            "\x9f",
        )
        for task_id in (*wrong, "\ud800", "a\udfff", 5, None, b"a"):
            with self.assertRaises(InvalidArgumentError, msg=repr(task_id)):
                check_task_id(task_id)

    def test_the_error_says_what_is_wrong(self) -> None:
        """In words, and with the type or the size where that is it."""
        for task_id, words in (
            (5, "int"),
            ("é" * 101, "202"),
            ("", "it has 0"),
            ("@a", "'@'"),
            ("a\n", "control"),
            ("\ud800", "surrogate"),
        ):
            with self.assertRaisesRegex(InvalidArgumentError, words):
                check_task_id(task_id)

    def test_services_and_channels_have_no_wildcards(self) -> None:
        """They are words of topic keys; the error names which of them it is."""
        check_name("channel", "news.sport")
        for wrong in ("news.*", "#", "@a", "", None):
            self.assertRaises(InvalidArgumentError, check_name, "channel", wrong)
        with self.assertRaisesRegex(InvalidArgumentError, "channel"):
            check_name("channel", "news.*")
