"""How many calls a worker lets its broker send ahead."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.rpc.prefetch import MOST, Prefetch


class PrefetchTests(SynchronousTestCase):
    """It follows how long tasks take."""

    def run_tasks(self, prefetch: Prefetch, seconds: float, count: int = 1024) -> list[int]:
        """So many tasks that take so long. :returns: what was changed to."""
        return [prefetch.count for _ in range(count) if prefetch.ran(seconds)]

    def test_it_is_two_more_than_threads_at_first(self) -> None:
        """What one worker holds, another can't take."""
        prefetch = Prefetch(8)
        self.assertEqual((prefetch.count, prefetch.raised), (10, False))

    def test_it_stays_that_where_tasks_are_long(self) -> None:
        """Long is anything from some milliseconds."""
        prefetch = Prefetch(8)
        self.assertEqual(self.run_tasks(prefetch, 0.05), [])
        self.assertEqual(prefetch.count, 10)

    def test_it_rises_where_tasks_are_short(self) -> None:
        """To what the threads can do in a twentieth of a second; 128 at most."""
        for seconds, count in ((0.01, 40), (0.0, MOST)):
            prefetch = Prefetch(8)
            changes = self.run_tasks(prefetch, seconds)
            self.assertTrue(count / 2 < changes[-1] <= count, changes)
            self.assertTrue(prefetch.raised)
        self.assertEqual(MOST, 128)

    def test_a_few_short_tasks_are_no_reason(self) -> None:
        """It takes a hundred to know."""
        self.assertEqual(self.run_tasks(Prefetch(8), 0.0, 127), [])

    def test_it_changes_by_a_factor_of_two_at_least(self) -> None:
        """Each change costs a new consumer of each queue."""
        prefetch = Prefetch(8)
        self.run_tasks(prefetch, 0.01)
        self.assertEqual(self.run_tasks(prefetch, 0.008), [])
        self.assertEqual(self.run_tasks(prefetch, 0.013), [])

    def test_it_falls_again_where_tasks_get_longer(self) -> None:
        """Never under two more than threads."""
        prefetch = Prefetch(8)
        self.run_tasks(prefetch, 0.0)
        self.run_tasks(prefetch, 1.0)
        self.assertEqual((prefetch.count, prefetch.raised), (10, False))

    def test_it_can_be_lowered_at_once(self) -> None:
        """And rises again when there is reason to."""
        prefetch = Prefetch(8)
        self.run_tasks(prefetch, 0.0)
        prefetch.lower()
        self.assertEqual((prefetch.count, prefetch.raised), (10, False))
        self.assertEqual(self.run_tasks(prefetch, 0.0)[-1], MOST)

    def test_what_the_user_asked_for_stays(self) -> None:
        """However short the tasks."""
        prefetch = Prefetch(8, fixed=3)
        self.assertEqual(self.run_tasks(prefetch, 0.0), [])
        self.assertEqual((prefetch.count, prefetch.raised), (3, False))
        prefetch.lower()
        self.assertEqual(prefetch.count, 3)

    def test_another_number_of_threads(self) -> None:
        """It starts from the least again; whether anything changed is told."""
        prefetch = Prefetch(8)
        self.assertFalse(prefetch.resize(8))
        self.assertTrue(prefetch.resize(20))
        self.assertEqual((prefetch.count, prefetch.raised), (22, False))
        self.assertFalse(Prefetch(8, fixed=3).resize(20))

    def test_a_number_of_threads_that_needs_what_it_has(self) -> None:
        """It is not raised any more, which counts as a change."""
        prefetch = Prefetch(8)
        self.run_tasks(prefetch, 0.0)
        self.assertTrue(prefetch.resize(MOST - 2))
        self.assertEqual((prefetch.count, prefetch.raised), (MOST, False))
