"""Pieces, and which of them are late."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.rpc.stragglers import FEWEST, Piece, Stragglers


class PieceTests(SynchronousTestCase):
    """The one outcome of an item's calls."""

    def setUp(self) -> None:
        self.ended: list[Any] = []
        self.cancelled: list[int] = []
        self.piece = Piece(0, "item", 0.0, lambda piece, result: self.ended.append(result))

    def call(self, number: int) -> Deferred[Any]:
        call: Deferred[Any] = Deferred(lambda _: self.cancelled.append(number))
        self.piece.add(call)
        return call

    def test_the_first_answer_stands(self) -> None:
        """The other call is cancelled."""
        self.call(1)
        self.call(2).callback("two")
        self.assertEqual((["two"], [1]), (self.ended, self.cancelled))

    def test_an_error_waits_for_the_other(self) -> None:
        """That may do better; if it doesn't, the last error is the outcome."""
        first, second = self.call(1), self.call(2)
        first.errback(KeyError("first"))
        self.assertEqual([], self.ended)
        second.errback(KeyError("second"))
        (failure,) = self.ended
        self.assertIsInstance(failure, Failure)
        self.assertEqual("second", failure.value.args[0])
        self.assertEqual([], self.cancelled)

    def test_cancelling_it(self) -> None:
        """There is no outcome; a call that comes later is cancelled as well."""
        self.call(1)
        self.piece.cancel()
        late: Deferred[Any] = Deferred()
        self.piece.add(late)
        self.assertEqual(([], [1]), (self.ended, self.cancelled))
        self.assertTrue(late.called)
        self.assertIsNone(self.successResultOf(late))

    def test_a_cancelled_error_of_somebody_else_is_an_outcome(self) -> None:
        """Only our own is none."""
        self.call(1).errback(CancelledError())
        self.assertIsInstance(self.ended[0].value, CancelledError)


class StragglersTests(SynchronousTestCase):
    """
    With pieces that the test has.

    :ivar again: the numbers of the pieces that were called for again.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.addCleanup(lambda: self.assertEqual([], self.clock.getDelayedCalls()))
        self.pieces: list[Piece] = []
        self.again: list[int] = []

    def stragglers(self, most: int = 10, *, took: float = 1.0) -> Stragglers:
        """Some that have seen as many answers as they need, each after so long; others are out now."""
        stragglers = Stragglers(self.clock, most, lambda: self.pieces, lambda p: self.again.append(p.number))
        self.addCleanup(stragglers.stop)
        done = [self.piece(number) for number in range(FEWEST)]
        self.clock.advance(took)
        for piece in done:
            stragglers.answered(piece)
        return stragglers

    def piece(self, number: int) -> Piece:
        return Piece(number, number, self.clock.seconds(), lambda piece, result: None)

    def test_who_is_out_three_times_as_long_as_the_median_is_late(self) -> None:
        """Each at its own time, and once."""
        stragglers = self.stragglers(took=2.0)
        self.pieces.append(self.piece(7))
        self.clock.advance(1)
        self.pieces.append(self.piece(8))
        stragglers.watch()
        self.clock.advance(4.9)
        self.assertEqual([], self.again)
        self.clock.advance(0.2)
        self.assertEqual([7], self.again)
        self.clock.advance(1)
        self.assertEqual([7, 8], self.again)
        self.clock.advance(100)
        stragglers.watch()
        self.assertEqual([7, 8], self.again)

    def test_nobody_is_late_within_a_second(self) -> None:
        """However quick the others were."""
        stragglers = self.stragglers(took=0.01)
        self.pieces.append(self.piece(7))
        stragglers.watch()
        self.clock.advance(0.9)
        self.assertEqual([], self.again)
        self.clock.advance(0.2)
        self.assertEqual([7], self.again)

    def test_there_are_only_so_many_in_all(self) -> None:
        """The first ones."""
        stragglers = self.stragglers(2)
        self.pieces += [self.piece(number) for number in range(7, 12)]
        self.clock.advance(100)
        stragglers.watch()
        self.assertEqual([7, 8], self.again)

    def test_after_the_last_of_these_nobody_is_looked_at(self) -> None:
        """It would be done for each answer, and there may be many."""
        looked: list[int] = []
        stragglers = self.stragglers(1)
        self.pieces += [self.piece(number) for number in range(7, 12)]
        stragglers._pieces = lambda: looked.append(1) or self.pieces  # type: ignore[func-returns-value]
        self.clock.advance(100)
        for _ in range(5):
            stragglers.watch()
        self.assertEqual(([7], 1), (self.again, len(looked)))

    def test_before_enough_are_done_nothing_is_known(self) -> None:
        """So nobody is late."""
        stragglers = Stragglers(self.clock, 5, lambda: self.pieces, lambda p: self.again.append(p.number))
        self.pieces.append(self.piece(7))
        stragglers.answered(self.piece(0))
        self.clock.advance(1000)
        stragglers.watch()
        self.assertEqual([], self.again)

    def test_whatever_ends_it_all_ends_it_here(self) -> None:
        """From inside of a second call: pieces that are over are let be."""
        stragglers = self.stragglers()
        self.pieces += [self.piece(7), self.piece(8)]

        def call_again(piece: Piece) -> None:
            self.again.append(piece.number)
            for each in self.pieces:
                each.cancel()

        self.patch(stragglers, "_call_again", call_again)
        self.clock.advance(100)
        stragglers.watch()
        self.assertEqual([7], self.again)
