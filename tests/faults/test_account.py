"""What the fault suite counts by: an account that doesn't balance fails."""

from __future__ import annotations

import os
import time
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from crew_tx import ConnectionLostError
from tests.faults.account import Account
from tests.faults.processes import slope, usage_of


class AccountTests(SynchronousTestCase):
    """Two calls."""

    def setUp(self) -> None:
        self.file = Path(self.mktemp())
        self.account = Account(self.file)
        self.calls: dict[str, Deferred[int]] = {name: Deferred() for name in ("a", "b")}
        for name, called in self.calls.items():
            self.account.add(name, called, 1)

    def marks(self, text: str) -> None:
        with self.file.open("a") as file:
            file.write(text)

    def answered(self) -> None:
        self.marks("a 1\nb 2\n")
        for called in self.calls.values():
            called.callback(1)

    def wrong(self, least: float = 1.0) -> str:
        """What the check says, without the table."""
        said: list[str] = []
        self.account.check(said.append, least)
        return said[0].partition("\n  ")[0] if said else ""

    def test_one_that_balances(self) -> None:
        """All have fired, with what was expected, and ran once."""
        self.answered()
        self.assertEqual(self.wrong(), "")

    def test_a_call_that_has_not_ended(self) -> None:
        """Nobody is idle then."""
        idle = self.account.when_idle()
        self.marks("a 1\n")
        self.calls["a"].callback(1)
        self.assertEqual(self.wrong(0.5), "2 calls, and 1 have ended")
        self.assertNoResult(idle)
        self.marks("b 2\n")
        self.account.worker_killed(2, broker_died=0)
        self.calls["b"].errback(ConnectionLostError("gone"))
        self.successResultOf(idle)
        self.assertEqual(self.wrong(0.5), "")

    def test_too_few_answers(self) -> None:
        """A stated reason is an end, and no answer."""
        self.marks("a 1\n")
        self.calls["a"].callback(1)
        self.calls["b"].errback(ConnectionLostError("gone"))
        self.assertIn(
            "these failed, though no worker that had them died with its broker: ['b']", self.wrong(0.5)
        )
        self.account.lost_with_both.add("b")
        self.assertEqual(self.wrong(0.6), "only 1 of 2 calls were answered")
        self.assertRegex(self.account.table(), "ConnectionLostError: gone +1\n")

    def test_a_worker_that_died_just_before_its_broker(self) -> None:
        """Its answers may not have been on the broker's disk; those of long before were."""
        self.marks("a 1\nb 2\n")
        self.account.worker_killed(1)
        now = time.monotonic()
        self.account.broker_killed(now + 10)
        self.assertEqual(self.account.lost_with_both, set())
        self.account.broker_killed(now + 1)
        self.assertEqual(self.account.lost_with_both, {"a"})

    def test_ends_that_are_wrong(self) -> None:
        """Another call's answer, and an error that is none of ours."""
        self.marks("a 1\n")
        self.calls["a"].callback(2)
        self.calls["b"].errback(ZeroDivisionError())
        self.assertIn("a is answered with 2 in place of 1", self.wrong(0.5))
        self.assertIn("b has no stated reason", self.wrong(0.5))

    def test_an_answer_without_a_run(self) -> None:
        """Somebody made it up."""
        for called in self.calls.values():
            called.callback(1)
        self.assertEqual(self.wrong(), "2 calls were answered, and 0 have run")

    def test_runs_that_a_fault_explains(self) -> None:
        """A worker that was killed held what it had begun; it alone, and once."""
        self.marks("a 1\nb 2\n")
        self.account.worker_killed(1)
        for called in self.calls.values():
            called.callback(1)
        self.marks("a 3\n")
        self.assertEqual((self.wrong(), dict(self.account.holds)), ("", {"a": 1}))
        self.marks("a 4\n")
        self.assertIn("more runs beyond one a call than calls held", self.wrong())

    def test_runs_that_none_explains(self) -> None:
        """Each is told."""
        self.answered()
        self.marks("b 3\n")
        self.assertIn("no fault explains why these ran again: ['b']", self.wrong())
        self.account.lose_acks(["b"])
        self.assertEqual(self.wrong(), "")

    def test_one_worker_twice(self) -> None:
        """It should have remembered, whatever the fault."""
        self.answered()
        self.marks("b 2\n")
        self.account.hold(["b"])
        self.assertEqual(self.wrong(), "one worker ran a call twice: ['b']")

    def test_a_mark_that_is_half_written(self) -> None:
        """It counts when it is whole."""
        self.marks("a 1\nb")
        self.account.read_marks()
        self.marks(" 2\n")
        self.account.read_marks()
        self.assertEqual(dict(self.account.runs), {"a": [1], "b": [2]})


class UsageTests(SynchronousTestCase):
    """What a process takes."""

    def test_of_this_one(self) -> None:
        """A file more is seen."""
        before = usage_of(os.getpid())
        self.assertTrue(before.memory > 1 << 20 and before.threads >= 1)
        with open(os.devnull):
            self.assertEqual(usage_of(os.getpid()).files, before.files + 1)

    def test_the_slope(self) -> None:
        """That of a line is the line's."""
        self.assertAlmostEqual(slope([(0, 1), (1, 3), (2, 5)]), 2)
        self.assertEqual(slope([(0, 5), (4, 5)]), 0)
        self.assertEqual(slope([(1, 5)]), 0)
