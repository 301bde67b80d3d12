"""Noticing that no thread gets free."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.rpc.saturation import Saturation


class SaturationTests(SynchronousTestCase):
    """On a clock that the test moves."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.told: list[float] = []
        self.saturation = Saturation(self.clock, lambda: self.told.append(self.clock.seconds() - 1000))
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def test_it_tells_once_after_that_long(self) -> None:
        """And is quiet then, until it watches again."""
        self.saturation.watch(5)
        self.clock.advance(4.9)
        self.assertEqual(self.told, [])
        self.clock.advance(0.1)
        self.clock.advance(20)
        self.assertEqual(self.told, [5.0])
        self.saturation.watch(5)
        self.clock.advance(5)
        self.assertEqual(self.told, [5.0, 30.0])

    def test_time_counts_from_the_last_thread_that_got_free(self) -> None:
        """There is one delayed call, however many."""
        self.saturation.watch(5)
        for _ in range(3):
            self.clock.advance(2)
            self.saturation.thread_free()
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(4)
        self.assertEqual(self.told, [])
        self.clock.advance(1)
        self.assertEqual(self.told, [11.0])

    def test_a_thread_that_got_free_before_does_not_count(self) -> None:
        """Nothing waited then."""
        self.saturation.thread_free()
        self.clock.advance(4)
        self.saturation.watch(5)
        self.clock.advance(4)
        self.assertEqual(self.told, [])
        self.clock.advance(1)
        self.assertEqual(self.told, [9.0])

    def test_it_watches_once(self) -> None:
        """Each call that is held asks for it; the first counts."""
        self.saturation.watch(5)
        self.clock.advance(4)
        self.saturation.watch(5)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(1)
        self.assertEqual(self.told, [5.0])

    def test_it_can_be_stopped(self) -> None:
        """With no delayed call left, and once more with none to begin with."""
        self.saturation.watch(5)
        self.saturation.stop()
        self.saturation.stop()
        self.clock.advance(9)
        self.assertEqual(self.told, [])
