"""Tests of crew_tx.tasks.context."""

from __future__ import annotations

import threading
from contextvars import copy_context
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.message import Call
from crew_tx.tasks.context import AttemptContext, Settings, context, current


def attempt_context(**options: Any) -> AttemptContext:
    """An attempt's context at time 0, due at 10."""
    call = Call(
        "test",
        "call-1",
        b"",
        "application/cbor",
        headers={"user": "neo"},
        priority=5,
        attempt=2,
        redelivered=True,
        deliveries=3,
    )
    values = {"settings": Settings(counter=0), "deadline": 10.0, "seconds": lambda: 0.0, **options}
    return AttemptContext(call, **values)


class ContextTests(SynchronousTestCase):
    """``context`` shows the attempt that runs here."""

    def enter(self, entered: AttemptContext) -> None:
        """Be inside an attempt until the test's end."""
        self.addCleanup(current.reset, current.set(entered))

    def test_settings_are_what_the_worker_has(self) -> None:
        """A task may change them, as the seed's does."""
        entered = attempt_context()
        self.enter(entered)
        context.settings.counter += 1
        self.assertEqual(entered.settings.counter, 1)

    def test_headers_are_the_attempts_own(self) -> None:
        """Empty at first."""
        entered = attempt_context()
        self.enter(entered)
        self.assertEqual(context.headers, {})
        context.headers["answer"] = 42
        self.assertEqual(entered.headers, {"answer": 42})
        self.assertEqual(attempt_context().headers, {})

    def test_the_request_says_what_was_called(self) -> None:
        """Its id and all that the caller gave with it."""
        self.enter(attempt_context())
        request = context.request
        self.assertEqual((request.id, request.task_id, request.headers), ("call-1", "test", {"user": "neo"}))
        self.assertEqual((request.priority, request.attempt, request.redelivered), (5, 2, True))
        self.assertEqual(request.deliveries, 3)
        self.assertIs(context.request, request)

    def test_the_request_can_not_be_changed(self) -> None:
        """It is what came."""
        self.enter(attempt_context())
        self.assertRaises(AttributeError, setattr, context.request, "id", "other")

    def test_time_left_runs_down(self) -> None:
        """By the worker's clock, below zero after the limit."""
        time = [0.0]
        self.enter(attempt_context(seconds=lambda: time[0]))
        request = context.request
        self.assertEqual(request.time_left, 10)
        time[0] = 12.5
        self.assertEqual(request.time_left, -2.5)

    def test_cancelled_is_what_the_worker_says(self) -> None:
        """While the task runs."""
        entered = attempt_context()
        self.enter(entered)
        self.assertFalse(context.cancelled)
        entered.cancelled = True
        self.assertTrue(context.cancelled)

    def test_publishing_goes_to_the_workers_publisher(self) -> None:
        """And what it returns comes back."""
        published: list[tuple[str, object]] = []

        class Publisher:
            def publish(self, channel: str, data: object) -> str:
                published.append((channel, data))
                return "published"

        self.enter(attempt_context(publisher=Publisher()))
        self.assertEqual(context.pubsub.publish("news", 1), "published")
        self.assertEqual(published, [("news", 1)])

    def test_publishing_without_a_publisher_says_so(self) -> None:
        """A worker may have none."""
        self.enter(attempt_context())
        error = self.assertRaises(RuntimeError, context.pubsub.publish, "news", 1)
        self.assertIn("context.pubsub", str(error))

    def test_outside_a_task_there_is_no_context(self) -> None:
        """The text says where it is."""
        for name in ("settings", "headers", "request", "cancelled", "pubsub"):
            error = self.assertRaises(RuntimeError, getattr, context, name)
            self.assertIn("only inside a task", str(error))

    def test_another_thread_has_its_own(self) -> None:
        """What one task sees is not what the one beside it sees."""
        self.enter(attempt_context())
        errors: list[str] = []

        def look() -> None:
            try:
                context.headers.clear()
            except RuntimeError as error:
                errors.append(str(error))

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        self.assertEqual(len(errors), 1)

    def test_a_copied_context_has_its_own(self) -> None:
        """As each coroutine's is."""
        outer, inner = attempt_context(), attempt_context()
        self.enter(outer)
        copied = copy_context()
        copied.run(current.set, inner)
        self.assertIs(context.headers, outer.headers)
        self.assertIs(copied.run(lambda: context.headers), inner.headers)

    def test_the_repr_of_settings_has_no_values(self) -> None:
        """One of them may be a password."""
        self.assertEqual(repr(Settings(uuid="1", password="secret")), "<Settings uuid, password>")
