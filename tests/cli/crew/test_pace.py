"""How quickly something goes on."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.cli.crew.pace import Pace


class PaceTests(SynchronousTestCase):
    """What people are told."""

    def test_a_rate_and_the_time_left(self) -> None:
        """Where it is known how much there is."""
        pace = Pace(100.0, 1000)
        pace.look(102.0, 40)
        self.assertEqual("20/s, 0:00:48 left", pace.text())
        pace.look(200.0, 1001)
        self.assertEqual("10/s, 0:00:00 left", pace.text())

    def test_a_small_rate_has_a_decimal(self) -> None:
        """A rate alone, where the end isn't known."""
        pace = Pace(0.0, None)
        pace.look(4.0, 1)
        self.assertEqual("0.2/s", pace.text())

    def test_nothing_is_known_before_something_is_done(self) -> None:
        """Nor if no time has passed."""
        pace = Pace(0.0, 10)
        self.assertEqual("", pace.text())
        pace.look(5.0, 0)
        self.assertEqual("", pace.text())
        pace = Pace(0.0, 10)
        pace.look(0.0, 5)
        self.assertEqual("", pace.text())

    def test_what_was_long_ago_is_forgotten(self) -> None:
        """A worker that joins is seen."""
        pace = Pace(0.0, None)
        for look in range(1, 101):
            pace.look(float(look), look)
        for look in range(1, 101):
            pace.look(100.0 + look, 100 + 50 * look)
        self.assertEqual("50/s", pace.text())
