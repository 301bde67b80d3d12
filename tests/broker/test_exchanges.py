"""Routers: bindings that come and go."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.broker._exchanges import Binding, Exchange, TopicRouter


def binding(key: str = "", **arguments: Any) -> Binding:
    """A binding to nowhere."""
    return Binding("target", key, tuple(sorted(arguments.items())))  # type: ignore[arg-type]


class TopicTests(SynchronousTestCase):
    """The tree of patterns."""

    def setUp(self) -> None:
        self.router = TopicRouter()

    def matches(self, key: str) -> list[str]:
        """The patterns that match."""
        return sorted(found.routing_key for found in self.router.matching(key, {}))

    def test_each_pattern_is_found_once(self) -> None:
        for pattern in ("#.#.#", "#", "*.#", "a.#.a"):
            self.router.add(binding(pattern))
        self.assertEqual(self.matches("a.a.a"), ["#", "#.#.#", "*.#", "a.#.a"])

    def test_many_hashes_take_no_time_without_end(self) -> None:
        self.router.add(binding(".".join(["#", "a"] * 20)))
        self.assertEqual(self.matches(".".join(["b"] * 60)), [])

    def test_what_is_taken_away_leaves_no_node(self) -> None:
        patterns = ["a.b.c", "a.b", "#.a", "a.b.*"]
        for pattern in patterns:
            self.router.add(binding(pattern))
        for pattern in patterns:
            self.router.remove(binding(pattern))
        self.assertEqual((self.router._root.next, self.router._root.bindings), ({}, []))

    def test_a_longer_pattern_stays(self) -> None:
        self.router.add(binding("a"))
        self.router.add(binding("a.b"))
        self.router.remove(binding("a"))
        self.assertEqual((self.matches("a"), self.matches("a.b")), ([], ["a.b"]))


class ExchangeTests(SynchronousTestCase):
    """Every type keeps its bindings the same way."""

    def test_a_binding_counts_once(self) -> None:
        for kind in ("direct", "fanout", "headers", "topic"):
            exchange = Exchange("", kind)
            exchange.bind(binding("a"))
            exchange.bind(binding("a"))
            self.assertEqual(list(exchange.matching(["a"], {})), [binding("a")], kind)
            self.assertTrue(exchange.unbind(binding("a")))
            self.assertFalse(exchange.unbind(binding("a")))
            self.assertEqual(list(exchange.matching(["a"], {})), [], kind)

    def test_its_end_needs_a_binding_first(self) -> None:
        exchange = Exchange("", "fanout", auto_delete=True)
        self.assertFalse(exchange.is_over)
        exchange.bind(binding())
        self.assertFalse(exchange.is_over)
        exchange.unbind_target("target")  # type: ignore[arg-type]
        self.assertTrue(exchange.is_over)

    def test_a_truth_value_is_no_number(self) -> None:
        exchange = Exchange("", "headers")
        exchange.bind(binding(a=1))
        for value, count in ((1, 1), (1.0, 1), (True, 0), ("1", 0)):
            self.assertEqual(len(list(exchange.matching([""], {"a": value}))), count, value)
