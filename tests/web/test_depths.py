"""Looking into queues, once a second."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.inspection import Depth
from crew_tx.errors import AccessRefusedError
from crew_tx.web.depths import FRESH, Depths


class DepthsTests(SynchronousTestCase):
    """What a gateway knows of queues."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[str] = []
        self.answers: list[Deferred[Depth | None]] = []
        self.depths = Depths(self.clock, self.look)

    def look(self, queue: str) -> Deferred[Depth | None]:
        self.asked.append(queue)
        self.answers.append(Deferred())
        return self.answers[-1]

    def of(self, task_id: str = "a") -> Any:
        """What is known at once, or a list that it comes into."""
        depth = self.depths.of_task(task_id)
        if not isinstance(depth, Deferred):
            return depth
        come: list[Any] = []
        depth.addBoth(come.append)
        return come

    def test_it_is_looked_up_once_a_second(self) -> None:
        """Those who ask meanwhile wait for one look."""
        first, second = self.of(), self.of()
        depth = Depth("crew.tasks.a", 3, 1)
        self.answers[0].callback(depth)
        self.assertEqual(([depth], [depth], ["crew.tasks.a"]), (first, second, self.asked))
        self.assertEqual(depth, self.of())
        self.clock.advance(FRESH)
        self.assertEqual([], self.of())
        self.answers[1].callback(None)
        self.assertIsNone(self.of())

    def test_a_method_has_the_queue_of_its_service(self) -> None:
        """Where it has none of its own name."""
        come = self.of("b.c.add")
        self.answers[0].callback(None)
        self.answers[1].callback(Depth("crew.tasks.b.c", 1, 1))
        self.assertEqual(["crew.tasks.b.c.add", "crew.tasks.b.c"], self.asked)
        self.assertEqual(1, come[0].messages)

    def test_nobody_waits_long_for_it(self) -> None:
        """Then it isn't known."""
        come = self.of()
        self.clock.advance(2.1)
        self.assertEqual([None], come)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_what_fails_is_said_once(self) -> None:
        """Until it goes well again."""
        with capturedLogs() as logged:
            for error in (True, True, False, True):
                self.of()
                refused = AccessRefusedError("no")
                self.answers[-1].errback(refused) if error else self.answers[-1].callback(None)
                self.clock.advance(FRESH)
        self.assertEqual(2, len([event for event in logged if event["log_namespace"].startswith("crew_tx")]))

    def test_one_who_goes_away_leaves_the_others(self) -> None:
        """They are told."""
        first = self.depths.of_task("a")
        come = self.of()
        assert isinstance(first, Deferred)
        first.addErrback(lambda _: None)
        first.cancel()
        self.answers[0].callback(None)
        self.assertEqual([None], come)
