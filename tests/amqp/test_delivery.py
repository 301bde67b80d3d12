"""Queues of deliveries, and their end."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from txamqp.queue import Closed, Empty

from crew_tx.amqp.delivery import BoundedQueue, ConsumerQueue


class ConsumerQueueTests(SynchronousTestCase):
    """A :class:`ConsumerQueue` that ends."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.queue = ConsumerQueue(clock=self.clock)

    def test_what_is_put_is_got_in_order(self) -> None:
        """Whoever is first."""
        early = self.queue.get()
        for item in (1, 2):
            self.queue.put(item)
        self.assertEqual((self.successResultOf(early), self.successResultOf(self.queue.get())), (1, 2))

    def test_waiting_may_be_limited(self) -> None:
        """Nothing of it is left when an item came in time."""
        in_time, late = self.queue.get(timeout=1), self.queue.get(timeout=2)
        self.queue.put(1)
        self.assertEqual(self.successResultOf(in_time), 1)
        self.clock.advance(2)
        self.failureResultOf(late, Empty)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_everybody_who_waits_hears_of_the_end(self) -> None:
        """However many they are, and with no delayed call left."""
        waiting = [self.queue.get(timeout=60) for _ in range(2000)]
        self.queue.close()
        for each in waiting:
            self.failureResultOf(each, Closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_is_handed_out_after_the_end(self) -> None:
        """Neither what was there nor what comes."""
        self.queue.put(1)
        self.queue.close()
        self.queue.put(2)
        self.assertEqual(self.queue.pending, [])
        for _ in range(3):
            self.failureResultOf(self.queue.get(), Closed)

    def test_it_ends_once(self) -> None:
        """A second time is nothing."""
        self.queue.close()
        self.queue.close()
        self.assertTrue(self.queue.closed)


class BoundedQueueTests(SynchronousTestCase):
    """A :class:`BoundedQueue` of two."""

    def setUp(self) -> None:
        self.queue = BoundedQueue(2, clock=Clock())

    def test_the_oldest_makes_room(self) -> None:
        """It is counted."""
        for item in (1, 2, 3):
            self.queue.put(item)
        self.assertEqual(self.queue.dropped, 1)
        self.assertEqual([self.successResultOf(self.queue.get()) for _ in range(2)], [2, 3])

    def test_who_waits_gets_all(self) -> None:
        """Only what is kept is bounded."""
        waiting = [self.queue.get() for _ in range(3)]
        for item in (1, 2, 3):
            self.queue.put(item)
        self.assertEqual([self.successResultOf(each) for each in waiting], [1, 2, 3])
        self.assertEqual(self.queue.dropped, 0)

    def test_it_ends_though_it_is_full(self) -> None:
        """The end needs no room."""
        for item in (1, 2):
            self.queue.put(item)
        self.queue.close()
        self.failureResultOf(self.queue.get(), Closed)
        self.assertEqual(self.queue.dropped, 0)
