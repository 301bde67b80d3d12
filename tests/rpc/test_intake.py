"""A worker's consumers."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.delivery import Delivery
from crew_tx.message import Call
from crew_tx.rpc.answers import TakenDelivery
from crew_tx.rpc.intake import Intake
from tests.rpc.fakes import Channel, delivery

_A, _B = "crew.tasks.a", "crew.tasks.b"


class Reception:
    """
    Takes calls; a delivery without a body is none.

    :ivar checked: those that were looked at, with what settles them.
    :ivar received_calls: those that were taken.
    """

    def __init__(self) -> None:
        self.checked: list[tuple[Delivery, TakenDelivery]] = []
        self.received_calls: list[tuple[Call, TakenDelivery]] = []

    def check(self, delivery: Delivery, taken: TakenDelivery) -> Call | None:
        self.checked.append((delivery, taken))
        return Call("a", "c1", delivery.body, "text/plain") if delivery.body else None

    def received(self, call: Call, taken: TakenDelivery) -> None:
        self.received_calls.append((call, taken))


class IntakeTests(SynchronousTestCase):
    """With two queues, and a broker that answers when the test says so."""

    def setUp(self) -> None:
        self.channel = Channel()
        self.reception = Reception()
        self.gone: list[tuple[Any, str]] = []
        self.intake = Intake(
            self.channel,  # type: ignore[arg-type]
            ["a", "b"],
            self.reception,
            lambda channel, queue: self.gone.append((channel, queue)),
        )

    def begin(self, prefetch: int = 10) -> Deferred[None]:
        """Begin, and go on as the broker answers."""
        return Deferred.fromCoroutine(self.intake.begin(prefetch))

    def begun(self) -> None:
        """Consumers on both queues."""
        begun = self.begin()
        self.answer(None, f"tag.{_A}", f"tag.{_B}")
        self.successResultOf(begun)
        self.channel.take()

    def answer(self, *values: object) -> None:
        """The broker answers request after request."""
        for value in values:
            self.channel.answer(value)

    def test_it_consumes_from_each_queue_in_turn(self) -> None:
        """After the prefetch is set, which counts for the consumers that come after it."""
        begun = self.begin(prefetch=10)
        self.assertEqual(self.channel.take(), [("qos", 10)])
        self.answer(None)
        self.assertEqual(self.channel.take(), [("consume", _A)])
        self.answer("tag.a")
        self.assertEqual(self.channel.take(), [("consume", _B)])
        self.assertNoResult(begun)
        self.answer("tag.b")
        self.successResultOf(begun)
        self.assertTrue(self.intake.consuming)

    def test_deliveries_come_with_what_settles_them(self) -> None:
        """On the channel that they came by."""
        self.begun()
        came = delivery({}, b"body", tag=7)
        self.channel.consumers[f"tag.{_B}"][0](came)
        [(checked, taken)] = self.reception.checked
        self.assertIs(checked, came)
        [(call, settled_by)] = self.reception.received_calls
        self.assertEqual((call.body, settled_by), (b"body", taken))
        taken.ack()
        self.assertEqual(self.channel.take(), [("ack", 7, False)])

    def test_acks_of_one_moment_leave_together(self) -> None:
        """As few as can be, at its end."""
        self.begun()
        for tag in (1, 2, 3):
            self.channel.consumers[f"tag.{_A}"][0](delivery({}, tag=tag))
        with self.intake.together():
            for _, taken in self.reception.checked:
                taken.ack()
            self.assertEqual(self.channel.take(), [])
        self.assertEqual(self.channel.take(), [("ack", 3, True)])

    def test_it_ends_all_consumers_together(self) -> None:
        """It has ended when the broker has answered for each."""
        self.begun()
        ended = self.intake.end()
        self.assertFalse(self.intake.consuming)
        self.assertEqual(self.channel.take(), [("cancel", f"tag.{_A}"), ("cancel", f"tag.{_B}")])
        self.answer(None)
        self.assertNoResult(ended)
        self.answer(None)
        self.assertIsNone(self.successResultOf(ended))

    def test_an_end_that_the_broker_does_not_take_is_an_end(self) -> None:
        """The channel died meanwhile, and its consumers with it."""
        self.begun()
        ended = self.intake.end()
        for waiting in self.channel.waiting:
            waiting.errback(ValueError("closed"))
        self.assertIsNone(self.successResultOf(ended))

    def test_on_a_dead_channel_there_is_nothing_to_end(self) -> None:
        """Nobody would answer."""
        self.begun()
        self.channel.close()
        self.assertIsNone(self.successResultOf(self.intake.end()))
        self.assertEqual(self.channel.take(), [])

    def test_it_ends_once(self) -> None:
        """The second time there is nothing to do."""
        self.begun()
        self.intake.end()
        self.channel.take()
        self.successResultOf(self.intake.end())
        self.assertEqual(self.channel.take(), [])

    def test_it_begins_again(self) -> None:
        """With new consumers."""
        self.begun()
        self.intake.end()
        self.answer(None, None)
        self.begun()
        self.assertTrue(self.intake.consuming)

    def test_new_consumers_take_the_place_of_old_ones(self) -> None:
        """The new are there before the old are ended, so that nothing is missed."""
        self.begun()
        begun = self.begin(prefetch=20)
        self.answer(None, "new a", "new b")
        self.assertEqual(
            self.channel.take(), [("qos", 20), ("consume", _A), ("consume", _B), ("cancel", f"tag.{_A}")]
        )
        self.answer(None, None)
        self.successResultOf(begun)
        self.channel.take()
        self.intake.end()
        self.assertEqual(self.channel.take(), [("cancel", "new a"), ("cancel", "new b")])

    def test_an_end_in_the_middle_of_a_beginning_wins(self) -> None:
        """Whatever consumer was begun by then, or is yet, is ended."""
        begun = self.begin()
        self.answer(None, "tag.a")
        self.intake.end()
        self.answer("tag.b")
        cancelled = [event for event in self.channel.take() if event[0] == "cancel"]
        self.assertEqual(sorted(cancelled), [("cancel", "tag.a"), ("cancel", "tag.b")])
        self.answer(None, None)
        self.successResultOf(begun)
        self.assertFalse(self.intake.consuming)

    def test_an_end_in_the_middle_of_a_beginning_anew_ends_the_old(self) -> None:
        """At once, or they would go on taking what is handed back; and once."""
        self.begun()
        begun = self.begin()
        self.channel.take()
        ended = self.intake.end()
        self.assertEqual(self.channel.take(), [("cancel", f"tag.{_A}"), ("cancel", f"tag.{_B}")])
        self.answer(None, None)
        self.assertNoResult(ended)
        self.answer(None)
        self.successResultOf(ended)
        self.answer("new a", "new b")
        self.assertEqual(
            self.channel.take(),
            [("consume", _A), ("consume", _B), ("cancel", "new a"), ("cancel", "new b")],
        )
        self.answer(None, None)
        self.successResultOf(begun)

    def test_a_beginning_that_the_broker_refuses_fails(self) -> None:
        """Whoever began has to know."""
        begun = self.begin()
        self.answer(None)
        self.channel.waiting.pop().errback(ValueError("no such queue"))
        self.failureResultOf(begun, ValueError)

    def test_a_queue_that_is_gone_is_told_of(self) -> None:
        """By its name; and on which channel."""
        self.begun()
        self.channel.consumers[f"tag.{_A}"][1](f"tag.{_A}")
        self.assertEqual(self.gone, [(self.channel, _A)])

    def test_a_consumer_that_was_ended_here_is_not(self) -> None:
        """Its queue may go when it likes."""
        self.begun()
        self.intake.end()
        self.channel.consumers[f"tag.{_A}"][1](f"tag.{_A}")
        self.assertEqual(self.gone, [])

    def test_one_beside_it_settles_and_begins_by_turns(self) -> None:
        """An ack for several must not cover what the other one has not answered."""
        beside = Intake(
            self.channel,  # type: ignore[arg-type]
            ["c"],
            self.reception,
            lambda channel, queue: None,
            self.intake,
        )
        begun = [self.begin(10), Deferred.fromCoroutine(beside.begin(3))]
        self.answer(None, f"tag.{_A}", f"tag.{_B}")
        self.assertEqual(self.channel.take(), [("qos", 10), ("consume", _A), ("consume", _B), ("qos", 3)])
        self.answer(None, "tag.crew.tasks.c")
        for each in begun:
            self.successResultOf(each)
        self.channel.take()
        for tag in (1, 2, 3):
            intake = beside if tag == 2 else self.intake
            self.channel.consumers["tag.crew.tasks.c" if intake is beside else f"tag.{_A}"][0](
                delivery({}, tag=tag)
            )
        with self.intake.together():
            for number in (0, 2):
                self.reception.checked[number][1].ack()
        self.assertEqual(self.channel.take(), [("ack", 1, False), ("ack", 3, False)])
