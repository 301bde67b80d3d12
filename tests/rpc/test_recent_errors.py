"""Errors that a worker remembers."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.codec import Codec
from crew_tx.errors import RemoteError
from crew_tx.message import Answer, Call
from crew_tx.rpc.recent_errors import MOST, RecentErrors
from crew_tx.testing import CrewHarness
from crew_tx.worker import Task


class RecentErrorsTests(SynchronousTestCase):
    """What is told of them."""

    def setUp(self) -> None:
        self.codec = Codec()
        self.errors = RecentErrors(self.codec)

    def add(self, number: int, said: Any = None) -> None:
        call = Call("t", f"c{number}", b"body", "application/json")
        encoded = self.codec.encode({"type": "ValueError", "message": "no"} if said is None else said, "json")
        self.errors.add(float(number), call, Answer(call.call_id, *encoded, "raised"))

    def test_the_latest_comes_first(self) -> None:
        """With all that is known of it."""
        self.add(1)
        self.add(2)
        latest, first = self.errors.told()
        expected = {
            "time": 2.0,
            "task": "t",
            "id": "c2",
            "kind": "raised",
            "type": "ValueError",
            "message": "no",
        }
        self.assertEqual((expected, "c1"), (latest, first["id"]))

    def test_there_are_so_many_and_no_more(self) -> None:
        """The oldest give way."""
        for number in range(MOST + 5):
            self.add(number)
        self.assertEqual(MOST, len(self.errors.told()))

    def test_texts_are_cut(self) -> None:
        """They are shown to people."""
        self.add(1, {"type": "x" * 10_000, "message": "y" * 10_000})
        (told,) = self.errors.told()
        self.assertEqual((500, 500), (len(told["type"]), len(told["message"])))

    def test_what_says_nothing_is_told_of_all_the_same(self) -> None:
        """By its call."""
        self.add(1, "text")
        self.errors.add(
            2.0, Call("t", "c2", b"", "x"), Answer("c2", b"\xff", "application/json", None, "raised")
        )
        self.assertEqual(["", ""], [each["message"] for each in self.errors.told()])


@Task("fails")
def fails(request: Any) -> Any:
    """A task that raises."""
    raise ValueError("no")


class CommandTests(SynchronousTestCase):
    """The command ``errors``."""

    def test_a_worker_tells_its_errors(self) -> None:
        """And not its results."""
        harness = CrewHarness(fails).install(self)
        self.assertRaises(RemoteError, harness.result, harness.client.call("fails"))
        asked = harness.client.control("errors", expect=1)
        (answer,) = harness.result(asked)
        (told,) = answer["errors"]
        self.assertEqual(("fails", "ValueError", "no"), (told["task"], told["type"], told["message"]))
