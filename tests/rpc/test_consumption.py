"""What a worker lets its broker send, on a clock and a channel that only notes what it is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from crew_tx.amqp.delivery import Delivery
from crew_tx.interfaces import IHeldCalls
from crew_tx.message import Call
from crew_tx.rpc.answers import TakenDelivery
from crew_tx.rpc.consumption import Consumption
from crew_tx.rpc.prefetch import Prefetch
from crew_tx.topology import SUSPECT_FROM
from tests.rpc.fakes import Channel, delivery

_QUEUE = "crew.tasks.a"


class Attempt:
    """A call that was not begun."""

    def __init__(self, taken: TakenDelivery) -> None:
        self.delivery = taken


@implementer(IHeldCalls)
class Calls:
    """
    Holds all that comes, until it is handed back.

    :ivar ahead: how many the threads are given ahead.
    """

    def __init__(self) -> None:
        self._attempts: list[Attempt] = []
        self.ahead: int | None = None

    @property
    def held(self) -> int:
        return len(self._attempts)

    def check(self, delivery: Delivery, taken: TakenDelivery) -> Call:
        return Call("a", "c1", b"", "text/plain")

    def received(self, call: Call, taken: TakenDelivery) -> None:
        self._attempts.append(Attempt(taken))

    def hand_back(self, may_go: Callable[[Any], bool] = lambda attempt: True) -> list[Attempt]:
        gone = [attempt for attempt in self._attempts if may_go(attempt)]
        self._attempts = [attempt for attempt in self._attempts if attempt not in gone]
        return gone

    def attempts(self) -> list[Attempt]:
        return self._attempts

    def give_ahead(self, count: int) -> None:
        self.ahead = count


class ConsumptionTestCase(SynchronousTestCase):
    """Tests of one queue's, for two threads."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.channel = Channel()
        self.calls = Calls()
        self.gone: list[tuple[Any, str]] = []
        self.prefetch = Prefetch(2)
        self.consumption = Consumption(
            self.clock,
            self.prefetch,
            ["a"],
            self.calls,
            self.calls,
            lambda channel, queue: self.gone.append((channel, queue)),
        )
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def begin(self) -> Deferred[None]:
        """Begin on the channel."""
        return Deferred.fromCoroutine(self.consumption.begin(self.channel))  # type: ignore[arg-type]

    def begun(self, tag: str = "first") -> None:
        """It consumes."""
        begun = self.begin()
        self.answer(None, tag)
        self.successResultOf(begun)
        self.assertEqual(self.channel.take(), [("qos", 4), ("consume", _QUEUE)])

    def answer(self, *values: object) -> None:
        """The broker answers request after request."""
        for value in values:
            self.channel.answer(value)

    def come(self, tag: int = 1, deliveries: int = 0) -> None:
        """A call comes, and is held."""
        came = delivery({"headers": {"x-delivery-count": deliveries}}, tag=tag)
        self.channel.consumers[f"tag.{_QUEUE}"][0](came)
        self.consumption.watch()

    def raise_prefetch(self) -> None:
        """Tasks are short."""
        while not self.prefetch.ran(0.0):
            pass

    def pause(self) -> None:
        """No thread gets free for what is held."""
        self.come()
        self.clock.advance(5)
        self.assertTrue(self.consumption.paused)


class ConsumptionTests(ConsumptionTestCase):
    """Connections, room, and beginning anew."""

    def test_the_double_is_one(self) -> None:
        """Of what a worker has in its place."""
        self.assertTrue(verifyObject(IHeldCalls, self.calls))

    # -- connections -------------------------------------------------------------------

    def test_it_consumes_by_the_connection_that_is_there(self) -> None:
        """By the next one when that is lost, when nothing is held that came by it; no tag of it is used."""
        self.begun()
        self.come()
        self.channel.close()
        self.consumption.lost()
        self.assertEqual((self.calls.held, self.consumption.intake), (0, None))
        lost, self.channel = self.channel, Channel()
        self.begun()
        self.come()
        self.consumption.hand_back()
        self.assertEqual((lost.take(), self.channel.take()), ([], [("nack", 1, True)]))
        self.consumption.end()

    def test_a_beginning_that_fails_leaves_nothing(self) -> None:
        """Of what came meanwhile; whoever began has to know."""
        begun = self.begin()
        self.answer(None)
        self.come()
        self.channel.waiting.pop().errback(ValueError("closed"))
        self.failureResultOf(begun, ValueError)
        self.assertEqual((self.calls.held, self.consumption.intake), (0, None))
        self.consumption.end()

    def test_a_queue_that_is_gone_is_told_of(self) -> None:
        """Its name, and where."""
        self.begun()
        self.channel.consumers[f"tag.{_QUEUE}"][1]("first")
        self.assertEqual(self.gone, [])
        self.channel.client.answer_scratch(self.channel.client.not_found())
        self.assertEqual(self.gone, [(self.channel, _QUEUE)])

    def test_a_consumer_that_alone_is_ended_is_begun_anew(self) -> None:
        """The broker did so, and the queue is there."""
        self.begun()
        self.channel.consumers[f"tag.{_QUEUE}"][1]("first")
        self.channel.client.answer_scratch()
        self.answer(None, "second")
        self.assertEqual((self.gone, self.channel.take()), ([], [("qos", 4), ("consume", _QUEUE)]))

    def test_one_that_is_ended_while_nothing_is_consumed_waits(self) -> None:
        """As the others do, for a thread that is free."""
        self.begun()
        self.channel.consumers[f"tag.{_QUEUE}"][1]("first")
        self.pause()
        self.channel.client.answer_scratch()
        self.assertEqual([event for event in self.channel.take() if event[0] == "consume"], [])
        self.consumption.end()

    def test_what_was_acknowledged_stays(self) -> None:
        """Nobody else has it, whatever is handed back or comes again."""
        self.begun()
        self.come()
        self.come(tag=2)
        self.calls.attempts()[0].delivery.ack()
        self.consumption.hand_back()
        self.assertEqual(self.channel.take(), [("ack", 1, False), ("nack", 2, True)])
        self.come(tag=3)
        self.consumption.lost()
        self.assertEqual([attempt.delivery.tag for attempt in self.calls.attempts()], [1])
        self.consumption.end()

    def test_it_ends_for_good(self) -> None:
        """A next connection is for acks alone, and room is no reason to begin."""
        self.begun()
        ended = self.consumption.end()
        self.assertNoResult(ended)
        self.answer(None)
        self.successResultOf(ended)
        self.channel = Channel()
        self.successResultOf(self.begin())
        self.consumption.resume()
        self.consumption.follow()
        self.assertEqual(self.channel.take(), [])
        assert self.consumption.intake is not None
        self.assertIs(self.consumption.intake.channel, self.channel)

    def test_without_a_connection_it_has_ended(self) -> None:
        """And there is nothing to begin anew."""
        self.consumption.resume()
        self.consumption.follow()
        self.successResultOf(self.consumption.end())

    # -- the prefetch ------------------------------------------------------------------

    def test_it_follows_the_prefetch(self) -> None:
        """With new consumers; the threads are given as many ahead as may come."""
        self.begun()
        self.raise_prefetch()
        self.consumption.follow()
        self.answer(None, "second", None)
        self.assertEqual(self.channel.take(), [("qos", 128), ("consume", _QUEUE), ("cancel", "first")])
        self.assertEqual(self.calls.ahead, 128)
        self.prefetch.lower()
        self.consumption.follow()
        self.assertEqual((self.calls.ahead, self.channel.take()), (0, [("qos", 4)]))

    def test_a_change_while_it_begins_comes_after_that(self) -> None:
        """However many there are: once."""
        self.begun()
        for _ in range(3):
            self.consumption.follow()
        self.answer(None, "second")
        self.channel.take()
        self.answer(None)
        self.assertEqual(self.channel.take(), [("qos", 4)])
        self.answer(None, "third", None)
        self.assertEqual(self.channel.take(), [("consume", _QUEUE), ("cancel", "second")])

    def test_a_beginning_anew_that_fails_is_logged(self) -> None:
        """And no obstacle to the next; on a channel that ended it is none of our business."""
        self.begun()
        self.consumption.follow()
        self.channel.waiting.pop().errback(ValueError("no"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.channel.take()
        self.consumption.follow()
        self.assertEqual(self.channel.take(), [("qos", 4)])
        self.channel.close()
        self.channel.waiting.pop().errback(ValueError("closed"))
        self.consumption.follow()
        self.assertEqual((self.channel.take(), self.flushLoggedErrors()), ([], []))

    def test_a_beginning_on_a_lost_connection_is_none_of_the_next(self) -> None:
        """Which begins by itself."""
        self.begun()
        self.consumption.follow()
        lost, self.channel = self.channel, Channel()
        lost.close()
        self.consumption.lost()
        begun = self.begin()
        lost.waiting.pop().errback(ValueError("closed"))
        self.consumption.follow()
        self.assertEqual(self.channel.take(), [("qos", 4)])
        self.answer(None, "first")
        self.successResultOf(begun)

    # -- room --------------------------------------------------------------------------

    def test_what_waits_for_five_seconds_goes_back(self) -> None:
        """When the consumers have ended; they come again when there is room."""
        self.begun()
        self.come(tag=1)
        self.clock.advance(4.9)
        self.assertEqual(self.channel.take(), [])
        self.clock.advance(0.1)
        self.assertEqual((self.channel.take(), self.calls.ahead), ([("cancel", "first")], 0))
        self.answer(None)
        self.assertEqual(self.channel.take(), [("nack", 1, True)])
        self.consumption.resume()
        self.answer(None, "second")
        self.assertEqual(self.channel.take(), [("qos", 4), ("consume", _QUEUE)])
        self.assertFalse(self.consumption.paused)

    def test_a_thread_that_got_free_begins_the_time_anew(self) -> None:
        """Something was begun."""
        self.begun()
        self.come()
        self.clock.advance(3)
        self.consumption.thread_free()
        self.clock.advance(4)
        self.assertFalse(self.consumption.paused)
        self.clock.advance(1)
        self.assertTrue(self.consumption.paused)

    def test_where_nothing_is_held_any_more_it_goes_on(self) -> None:
        """Others would have nothing to take."""
        self.begun()
        self.come()
        self.calls.attempts().clear()
        self.clock.advance(5)
        self.assertEqual((self.channel.take(), self.consumption.paused), ([], False))

    def test_what_went_back_often_stays(self) -> None:
        """Once more, and it would be run alone."""
        self.begun()
        self.come(tag=1, deliveries=SUSPECT_FROM - 1)
        self.come(tag=2, deliveries=SUSPECT_FROM - 2)
        self.clock.advance(5)
        self.answer(None)
        self.assertEqual(self.channel.take(), [("cancel", "first"), ("nack", 2, True)])
        self.assertEqual(self.calls.held, 1)

    def test_where_tasks_were_short_it_takes_a_quarter_of_a_second(self) -> None:
        """And it consumes on at once, as little as it can."""
        self.begun()
        self.raise_prefetch()
        self.come()
        self.clock.advance(0.25)
        self.answer(None)
        self.assertEqual(self.channel.take(), [("cancel", "first"), ("nack", 1, True), ("qos", 4)])

    def test_another_prefetch_has_time_while_it_is_paused(self) -> None:
        """It counts when there is room."""
        self.begun()
        self.pause()
        self.channel.take()
        self.consumption.follow()
        self.assertEqual(self.channel.take(), [])

    def test_room_while_it_begins_is_not_forgotten(self) -> None:
        """What is paused meanwhile has ended by then, and no thread may get free after it."""
        self.begun()
        self.consumption.follow()
        self.pause()
        self.consumption.resume()
        # The prefetch, the end of the first consumer, the second and its end.
        self.answer(None, None, "second")
        self.assertEqual(self.channel.take()[-2:], [("nack", 1, True), ("cancel", "second")])
        self.answer(None)
        self.assertEqual(self.channel.take(), [("qos", 4)])
        self.answer(None, "third")
        assert self.consumption.intake is not None
        self.assertTrue(self.consumption.intake.consuming)

    def test_one_that_is_paused_while_it_begins_stays_so(self) -> None:
        """Whatever else was to come after the beginning."""
        self.begun()
        self.consumption.follow()
        self.consumption.follow()
        self.pause()
        while self.channel.waiting:
            self.answer("answer")
        self.assertEqual(
            self.channel.take(),
            [("qos", 4), ("cancel", "first"), ("consume", _QUEUE), ("nack", 1, True), ("cancel", "answer")],
        )
        assert self.consumption.intake is not None
        self.assertFalse(self.consumption.intake.consuming)


class HaltTests(ConsumptionTestCase):
    """Told to consume nothing, and to go on."""

    def test_what_was_not_begun_goes_back(self) -> None:
        """Once the broker sends no more."""
        self.begun()
        self.come(1)
        self.consumption.halt()
        self.assertEqual(self.channel.take(), [("cancel", "first")])
        self.come(2)
        self.answer(None)
        self.assertEqual(self.channel.take(), [("nack", 1, True), ("nack", 2, True)])
        self.assertEqual((self.calls.held, self.consumption.halted), (0, True))
        self.clock.advance(5)

    def test_it_goes_on(self) -> None:
        """With the same queues."""
        self.begun()
        self.consumption.halt()
        self.answer(None)
        self.channel.take()
        self.consumption.go_on()
        self.answer(None, "second")
        self.assertEqual(self.channel.take(), [("qos", 4), ("consume", _QUEUE)])
        self.assertFalse(self.consumption.halted)

    def test_nothing_else_makes_it_go_on(self) -> None:
        """Not a prefetch that changes, nor a thread that gets free, nor a new connection."""
        self.begun()
        self.consumption.halt()
        self.answer(None)
        self.channel.take()
        self.raise_prefetch()
        self.consumption.follow()
        self.consumption.resume()
        self.consumption.lost()
        self.successResultOf(self.begin())
        self.assertEqual(self.channel.take(), [])
        self.consumption.go_on()
        self.assertEqual([event[0] for event in self.channel.take()], ["qos"])

    def test_without_a_connection(self) -> None:
        """The next one begins with nothing."""
        self.consumption.halt()
        self.successResultOf(self.begin())
        self.assertEqual(self.channel.take(), [])

    def test_while_it_begins(self) -> None:
        """The consumer that comes is ended."""
        begun = self.begin()
        self.answer(None)
        self.consumption.halt()
        self.answer("late")
        self.assertEqual(self.channel.take()[-1], ("cancel", "late"))
        self.answer(None)
        self.successResultOf(begun)

    def test_one_that_waits_for_a_thread_goes_on_as_well(self) -> None:
        """It waits for none any more."""
        self.begun()
        self.pause()
        self.answer(None)
        self.consumption.halt()
        self.consumption.go_on()
        self.assertFalse(self.consumption.paused)
        self.assertEqual(self.channel.take()[-1], ("qos", 4))
