"""Calls that are kept nearly as long as the broker allows, on a clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from crew_tx.interfaces import IHeldCalls
from crew_tx.message import Call
from crew_tx.rpc.ack_timeout import AckTimeout
from crew_tx.rpc.answers import TakenDelivery
from tests.rpc.fakes import Channel


class Attempt:
    """A call that the worker has."""

    def __init__(self, delivery: TakenDelivery, now: float, is_started: bool) -> None:
        self.call = Call("task", f"c{delivery.tag}", b"", "text/plain")
        self.delivery = delivery
        self.received = now
        self.started = now if is_started else None


@implementer(IHeldCalls)
class Calls:
    """What the worker has."""

    def __init__(self) -> None:
        self.has: list[Attempt] = []

    @property
    def held(self) -> int:
        return len([attempt for attempt in self.has if attempt.started is None])

    def attempts(self) -> list[Attempt]:
        return list(self.has)

    def hand_back(self, may_go: Callable[[Any], bool] = lambda attempt: True) -> list[Attempt]:
        gone = [attempt for attempt in self.has if attempt.started is None and may_go(attempt)]
        self.has = [attempt for attempt in self.has if attempt not in gone]
        return gone

    def give_ahead(self, count: int) -> None:
        """No thread is here."""


class AckTimeoutTests(SynchronousTestCase):
    """With the broker's of five seconds, unless a test says otherwise."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.channel: Any = Channel()
        self.calls = Calls()
        self.timeout = self.make(5.0)
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))
        self.addCleanup(lambda: self.timeout.stop())

    def make(self, seconds: float) -> AckTimeout:
        self.timeout = AckTimeout(self.clock, seconds, self.calls, self.hand_back)
        return self.timeout

    def hand_back(self, may_go: Callable[[Any], bool]) -> None:
        for attempt in self.calls.hand_back(may_go):
            attempt.delivery.hand_back()

    def come(self, tag: int, is_started: bool = True, deliveries: int = 0) -> None:
        """A call comes."""
        properties = {"headers": {"x-delivery-count": deliveries}}
        taken = TakenDelivery(self.channel, tag, None, properties)
        self.calls.has.append(Attempt(taken, self.clock.seconds(), is_started))
        if not self.timeout.watching:
            self.timeout.watch()

    def after(self, seconds: float, step: float = 0.25) -> list[Any]:
        """What is settled in that time."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
        return self.channel.take()  # type: ignore[no-any-return]

    def test_the_double_is_one(self) -> None:
        """Of what a worker has in its place."""
        self.assertTrue(verifyObject(IHeldCalls, self.calls))

    def test_one_that_runs_is_acknowledged_a_fifth_before(self) -> None:
        """Once, and no sooner; it stays the worker's."""
        self.come(1)
        self.assertEqual(self.after(3.75), [])
        self.assertEqual(self.after(0.75), [("ack", 1, False)])
        self.assertEqual(self.after(20), [])
        self.assertEqual(len(self.calls.has), 1)

    def test_of_a_long_timeout_it_is_a_minute(self) -> None:
        """So with RabbitMQ's own."""
        self.make(1800.0)
        self.come(1)
        self.assertEqual(self.after(1739, 1), [])
        self.assertEqual(self.after(31, 1), [("ack", 1, False)])

    def test_each_has_its_own_time(self) -> None:
        """From when it came."""
        self.come(1)
        self.after(2)
        self.come(2)
        self.assertEqual(self.after(2.5), [("ack", 1, False)])
        self.assertEqual(self.after(2), [("ack", 2, False)])

    def test_one_that_is_not_begun_goes_back(self) -> None:
        """Others may have time for it; those that came later stay."""
        self.come(1, is_started=False)
        self.after(2)
        self.come(2, is_started=False)
        self.assertEqual(self.after(2.5), [("nack", 1, True)])
        self.assertEqual([attempt.delivery.tag for attempt in self.calls.has], [2])

    def test_one_that_may_not_go_back_any_more_is_answered_for(self) -> None:
        """It was handed back too often: it is acknowledged, and stays."""
        self.come(1, is_started=False, deliveries=10)
        self.assertEqual(self.after(4.5), [("ack", 1, False)])
        self.assertEqual(len(self.calls.has), 1)

    def test_it_rests_while_there_is_nothing(self) -> None:
        """And does nothing for each call while there is something."""
        self.come(1)
        for tag in range(2, 9):
            self.come(tag)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.calls.has.clear()
        self.assertEqual(self.after(1), [])
        self.assertEqual((self.clock.getDelayedCalls(), self.timeout.watching), ([], False))
        self.come(9)
        self.assertEqual(self.after(4.5), [("ack", 9, False)])

    def test_0_switches_it_off(self) -> None:
        """Nothing is looked over."""
        self.make(0.0)
        self.come(1)
        self.assertEqual((self.clock.getDelayedCalls(), self.timeout.watching), ([], True))

    def test_a_worker_that_stops_wants_none(self) -> None:
        """Whatever comes yet."""
        self.come(1)
        self.timeout.stop()
        self.come(2)
        self.assertEqual(self.clock.getDelayedCalls(), [])
