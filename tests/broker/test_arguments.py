"""Arguments, read."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.broker._arguments import (
    QueueArguments,
    check_same_queue_arguments,
    consumer_priority,
    erlang_type,
    read_queue_arguments,
)
from crew_tx.broker._errors import ReplyError


def read(**given: Any) -> QueueArguments:
    """Read the arguments of a durable queue."""
    arguments = {name.replace("_", "-"): value for name, value in given.items()}
    return read_queue_arguments(arguments, "q", "/", durable=True, exclusive=False, auto_delete=False)


class QueueTests(SynchronousTestCase):
    """What a queue makes of them."""

    def test_times_are_seconds(self) -> None:
        arguments = read(x_message_ttl=1500, x_expires=2000)
        self.assertEqual((arguments.message_ttl, arguments.expires), (1.5, 2.0))

    def test_nothing_given(self) -> None:
        self.assertEqual(read(), QueueArguments())
        self.assertFalse(read().rejects)

    def test_what_rejects(self) -> None:
        self.assertTrue(read(x_overflow="reject-publish").rejects)
        self.assertTrue(read(x_overflow="reject-publish-dlx").rejects)
        self.assertFalse(read(x_overflow="reject-publish-dlx", x_queue_type="quorum").rejects)

    def test_a_limit_that_is_no_number_is_none(self) -> None:
        self.assertIs(read(x_queue_type="quorum", x_delivery_limit="3").delivery_limit, None)
        self.assertEqual(read(x_queue_type="quorum", x_delivery_limit=3).delivery_limit, 3)

    def test_what_nobody_knows_is_kept(self) -> None:
        self.assertEqual(read(mine=[1]).given, {"mine": [1]})

    def test_the_same_again(self) -> None:
        check_same_queue_arguments({"x-expires": 5, "mine": 1}, {"x-expires": 5, "mine": 2}, "q", "/")
        check_same_queue_arguments({"x-queue-type": "classic"}, {}, "q", "/")
        self.assertRaises(ReplyError, check_same_queue_arguments, {"x-queue-type": "quorum"}, {}, "q", "/")


class ConsumerTests(SynchronousTestCase):
    """What a consumer makes of them."""

    def test_a_priority(self) -> None:
        self.assertEqual(consumer_priority({"x-priority": -3}, "classic", "q", "/"), -3)
        self.assertEqual(consumer_priority({"mine": 3}, "classic", "q", "/"), 0)


class TypeTests(SynchronousTestCase):
    """RabbitMQ's names of types."""

    def test_each(self) -> None:
        for value, name in (
            ("a", "longstr"),
            (b"\xff", "longstr"),
            (1, "signedint"),
            (2**40, "long"),
            (True, "bool"),
            (1.5, "double"),
            (Decimal("1.5"), "decimal"),
            (datetime.now(UTC), "timestamp"),
            ([], "array"),
            ({}, "table"),
            (None, "void"),
        ):
            self.assertEqual(erlang_type(value), name)
