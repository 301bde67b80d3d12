"""What is made of a worker's answers, whatever it answers."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.web.worker_facts import (
    WorkerFacts,
    calls_of,
    errors_of,
    number,
    stacks_of,
    tasks_of,
    whole,
    worker_id_of,
)

#: What no count, number, text, list or map should be.
ODD: list[Any] = [
    None,
    True,
    -1,
    10**400,
    -(2**70),
    1e308,
    float("nan"),
    float("inf"),
    "9" * 400,
    "\ud800\n\n",
    b"\xff",
    [],
    [[]],
    {},
    {"a": {}},
    object(),
]
CALL = {"task": "t", "id": "c", "caller": "me-1", "seconds": 1.5, "thread": "crew-1", "stuck": True}


class StatisticsTests(SynchronousTestCase):
    """Its answers to ``stats``."""

    def setUp(self) -> None:
        self.facts = WorkerFacts("w-1")

    def test_they_are_told(self) -> None:
        """With the mean of the waiting times, which arpc has as texts."""
        self.facts.note(
            {"host": "h", "pid": 7, "processed": 3, "paused": True, "waittimes": ["0.5000", "1.5000"]}, 10.0
        )
        told = self.facts.told()
        expected = {"wid": "w-1", "host": "h", "pid": 7, "processed": 3, "paused": True, "draining": False}
        self.assertEqual(expected, {name: told[name] for name in expected})
        self.assertEqual((1.0, None, False), (told["wait"], told["rate"], told["silent"]))

    def test_a_rate_is_of_all_that_ended_between_two_answers(self) -> None:
        """And is never negative."""
        self.facts.note({"processed": 10, "exceptions": 1, "timeouts": 1}, 10.0)
        self.facts.note({"processed": 20, "exceptions": 2, "timeouts": 5}, 12.0)
        self.assertEqual(7.5, self.facts.told()["rate"])
        self.facts.note({"processed": 1}, 13.0)
        self.assertEqual(0, self.facts.told()["rate"])

    def test_queues_are_those_of_its_tasks(self) -> None:
        """None until they are known; what is no name is left out."""
        self.assertIsNone(self.facts.queues)
        tasks = [{"id": "a", "queue": "q"}, {"id": "b", "queue": "q"}, {"queue": "\n"}, {"queue": 5}, 7, {}]
        self.facts.note_tasks({"tasks": tasks})
        self.assertEqual({"crew.tasks.q"}, self.facts.queues)
        self.facts.note_tasks({"tasks": [{"queue": "x" * 10_000}]})
        self.assertEqual(frozenset(), self.facts.queues)


class OddAnswerTests(SynchronousTestCase):
    """A worker may answer anything."""

    def test_whatever_it_says_can_be_encoded_and_is_bounded(self) -> None:
        """And nothing raises."""
        names = ("host", "pid", "processed", "threads", "paused", "started", "waittimes")
        for odd in ODD:
            facts = WorkerFacts("w-1")
            for seconds in (1.0, 2.0):
                facts.note(dict.fromkeys(names, odd), seconds)
            facts.note({"waittimes": [odd]}, 3.0)
            facts.note_active({"active": odd})
            facts.note_active({"active": [odd, dict.fromkeys(CALL, odd)]})
            facts.note_tasks({"tasks": odd})
            facts.note_tasks({"tasks": [odd, {"id": odd, "queue": odd}]})
            error = dict.fromkeys(("time", "task", "id", "kind", "type", "message"), odd)
            stack = {**dict.fromkeys(CALL, odd), "stack": odd}
            told = [
                facts.told(),
                facts.active,
                errors_of({"errors": odd}),
                errors_of({"wid": odd, "errors": [odd, error]}),
                stacks_of({"stacks": odd}),
                stacks_of({"stacks": [stack, {**stack, "stack": [odd]}]}),
                tasks_of({"tasks": [{"id": odd}]}),
                worker_id_of({"wid": odd}),
            ]
            self.assertLess(len(json.dumps(told, allow_nan=False)), 10_000)

    def test_long_texts_and_lists_are_cut(self) -> None:
        """They are for a page."""
        self.assertEqual(
            500, len(calls_of({"active": [{**CALL, "task": "x" * 10_000}]}, "active")[0]["task"])
        )
        self.assertEqual(500, len(calls_of({"active": [CALL] * 10_000}, "active")))
        self.assertEqual(50, len(stacks_of({"stacks": [{**CALL, "stack": ["l"] * 1000}]})[0]["stack"]))
        self.assertEqual(1000, len(tasks_of({"tasks": [{"id": "a"}] * 10_000})))

    def test_calls_are_as_they_were_told(self) -> None:
        """One way is no caller."""
        self.assertEqual([CALL], calls_of({"active": [CALL]}, "active"))
        self.assertIsNone(calls_of({"active": [{**CALL, "caller": None}]}, "active")[0]["caller"])
        self.assertEqual(
            [{**CALL, "stack": ["a", "b"]}], stacks_of({"stacks": [{**CALL, "stack": ["a", "b"]}]})
        )

    def test_counts_and_numbers(self) -> None:
        """Of what JSON and a browser can hold."""
        self.assertEqual([5, 0, 0, 0, 0], [whole(each) for each in (5, -5, True, 2**53, 1.5)])
        self.assertEqual([5.0, 0.5, None, None], [number(each) for each in (5, 0.5, -1, "5")])
