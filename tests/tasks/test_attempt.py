"""Tests of crew_tx.tasks.attempt."""

from __future__ import annotations

from typing import get_args

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.message import Call
from crew_tx.tasks.attempt import (
    CANCELLED,
    DONE,
    EXPIRED,
    FAILED,
    MOVES,
    REPLIED,
    RETURNED,
    RUNNING,
    SETTLED,
    TAKEN,
    TIMED_OUT,
    Attempt,
    State,
)


def attempt() -> Attempt:
    return Attempt(Call("test", "call-1", b"", "application/cbor"), "delivery", 5.0)


class AttemptTests(SynchronousTestCase):
    """An attempt makes the moves of the table."""

    def test_it_begins_as_taken(self) -> None:
        """With what came with it."""
        taken = attempt()
        self.assertEqual((taken.state, taken.delivery), (TAKEN, "delivery"))
        self.assertEqual((taken.received, taken.started), (5.0, None))

    def test_starting_notes_the_time(self) -> None:
        """And can be done once."""
        running = attempt()
        running.start(7.0)
        self.assertEqual((running.state, running.started), (RUNNING, 7.0))
        self.assertRaises(RuntimeError, running.start, 8.0)
        self.assertEqual(running.started, 7.0)

    def test_one_that_no_thread_began_can_be_taken_back(self) -> None:
        """As if it had not been started; it can be again."""
        running = attempt()
        running.start(7.0)
        running.take_back()
        self.assertEqual((running.state, running.started), (TAKEN, None))
        running.start(8.0)
        self.assertEqual((running.state, running.started), (RUNNING, 8.0))

    def test_every_outcome_is_replied_to_and_settled(self) -> None:
        """In that order, or settled alone for a one-way call."""
        paths: list[list[State]] = [[RUNNING, outcome] for outcome in (DONE, FAILED, TIMED_OUT, CANCELLED)]
        paths += [[outcome] for outcome in (FAILED, TIMED_OUT, CANCELLED, EXPIRED)]
        ends: list[list[State]] = [[REPLIED, SETTLED], [SETTLED]]
        for path in paths:
            for end in ends:
                one = attempt()
                for state in path + end:
                    one.move(state)
                self.assertEqual(one.state, SETTLED)

    def test_any_other_move_is_refused(self) -> None:
        """The text says which, and the state stays."""
        for state, legal in MOVES.items():
            for target in set(get_args(State)) - legal:
                one = attempt()
                one.state = state
                error = self.assertRaises(RuntimeError, one.move, target)
                self.assertEqual(str(error), f"the call 'call-1' is {state}: it can't be {target} now")
                self.assertEqual(one.state, state)

    def test_what_runs_is_not_handed_back(self) -> None:
        """It would run twice."""
        running = attempt()
        running.start(6.0)
        self.assertRaises(RuntimeError, running.move, RETURNED)

    def test_an_outcome_is_final(self) -> None:
        """A task that ends after its limit doesn't answer again."""
        for outcome in (DONE, FAILED, TIMED_OUT, CANCELLED, EXPIRED):
            self.assertEqual(MOVES[outcome], {REPLIED, SETTLED})

    def test_the_table_has_every_state(self) -> None:
        """None can be entered without a way on or an end."""
        self.assertEqual(set(MOVES), set(get_args(State)))
