"""Tests of services/demo.py."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from crew_tx.errors import TimeLimitExceeded
from tests.services.support import ServiceTestCase

ROUNDS = 1000


class DemoTests(ServiceTestCase):
    """The tasks of crew's article."""

    def setUp(self) -> None:
        self.module = self.load("demo")

    def test_it_has_the_tasks_of_the_article(self) -> None:
        """Under the ids that it has there."""
        self.assertEqual(["test", "stat", "dead", "publish", "sleep"], self.registry.task_ids)

    def test_the_worker_counts_from_0(self) -> None:
        """The setting that run() is given."""
        self.assertEqual(0, self.settings["counter"])

    def test_test_wakes_neo(self) -> None:
        """The answer, to the letter."""
        self.assertEqual(("Wake up Neo.\n", None, {}), self.perform("test"))

    def test_stat_names_the_worker_and_counts_calls(self) -> None:
        """Its own, and those of test."""
        self.perform("test")
        self.perform("test")
        self.assertEqual('I\'m worker "worker-1". And I serve 3 tasks', self.perform("stat").value)

    def test_publish_tells_the_subscribers(self) -> None:
        """What the article's does."""
        self.perform("publish")
        self.assertEqual([("test", {"I": "was here"})], self.published)

    def test_sleep_blocks_for_as_long_as_it_is_told(self) -> None:
        """In the thread that it is called in."""
        slept: list[float] = []
        self.patch(self.module.time, "sleep", slept.append)
        self.assertEqual((0.5, None, {}), self.perform("sleep", 0.5))
        self.assertEqual([0.5], slept)

    def test_dead_ends_only_when_it_is_interrupted(self) -> None:
        """It goes round and round until the exception is there."""
        rounds = 0

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal rounds
            if frame.f_code is self.module.infinite_loop_task.__code__:
                rounds += 1
                if rounds > ROUNDS:
                    raise TimeLimitExceeded
            return trace

        self.addCleanup(sys.settrace, sys.gettrace())
        sys.settrace(trace)
        answered = self.perform("dead")
        self.assertEqual("raised", answered.error)
        self.assertEqual("crew_tx.errors.TimeLimitExceeded", answered.value["type"])
        self.assertEqual(ROUNDS + 1, rounds)
