"""The table of pending calls: each ends exactly once, by whatever comes first."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.delivery import Returned
from crew_tx.errors import (
    BrokerBlockedError,
    ClientStoppedError,
    ConnectionLostError,
    CrewError,
    DuplicateCallIdError,
    ExpirationError,
    PublishNackedError,
    PublishTimeoutError,
    RemoteError,
    ReplyLostError,
    UnroutableError,
)
from crew_tx.message import Answer, Reply
from crew_tx.rpc.options import CallOptions
from crew_tx.rpc.pending import GRACE, PendingCall, PendingCalls
from crew_tx.rpc.plan import CallPlan

_ANSWER = Answer("c1", b"", "application/cbor", worker="w", elapsed=0.5, headers={"colour": "red"})
_RETURNED = Returned(312, "NO_ROUTE", "crew.tasks", "sum", {}, b"")


class PendingTestCase(SynchronousTestCase):
    """Tests with a table of calls."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.withdrawn: list[PendingCall] = []
        self.calls = PendingCalls(self.clock, self.withdrawn.append)
        self.addCleanup(self._check_nothing_is_left)

    def _check_nothing_is_left(self) -> None:
        self.calls.stop(CrewError("the test is over"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def new(
        self, call_id: str = "c1", expiration: float = 60.0, timeout: float = 30.0, wants_reply: bool = False
    ) -> tuple[PendingCall, Deferred[Any]]:
        """A pending call to the task ``sum``, and its Deferred."""
        call = self.calls.new("sum", call_id, expiration, timeout, wants_reply)
        assert call.deferred is not None
        self.addCleanup(call.deferred.addErrback, lambda _: None)
        return call, call.deferred


class AnsweredTests(PendingTestCase):
    """The good end."""

    def test_an_answer_fires_the_deferred(self) -> None:
        """With the value alone."""
        _, deferred = self.new()
        self.assertTrue(self.calls.answer("c1", 12, _ANSWER))
        self.assertEqual(self.successResultOf(deferred), 12)

    def test_who_wants_a_reply_gets_one(self) -> None:
        """With headers, worker and the time that it took."""
        _, deferred = self.new(wants_reply=True)
        self.calls.answer("c1", 12, _ANSWER)
        self.assertEqual(self.successResultOf(deferred), Reply(12, {"colour": "red"}, "w", 0.5))

    def test_a_second_answer_finds_nobody(self) -> None:
        """And is not counted as one."""
        self.new()
        answers = [self.calls.answer("c1", number, _ANSWER) for number in range(2)]
        self.assertEqual(answers, [True, False])
        self.assertEqual(self.calls.answers, 1)

    def test_an_answer_comes_to_its_own_call(self) -> None:
        """By its id, in whatever order."""
        deferreds = {call_id: self.new(call_id)[1] for call_id in ("a", "b", "c")}
        for call_id in ("b", "c", "a"):
            self.calls.answer(call_id, f"for {call_id}", _ANSWER)
        values = {call_id: self.successResultOf(deferred) for call_id, deferred in deferreds.items()}
        self.assertEqual(values, {"a": "for a", "b": "for b", "c": "for c"})

    def test_an_answered_call_never_expires(self) -> None:
        """Its deadline is forgotten with it."""
        _, deferred = self.new()
        self.calls.answer("c1", 12, _ANSWER)
        self.clock.advance(1000)
        self.assertEqual(self.successResultOf(deferred), 12)


class FailedTests(PendingTestCase):
    """The other ends."""

    def test_a_failure_fires_the_deferred(self) -> None:
        """Once; a later answer finds nobody."""
        _, deferred = self.new()
        error = RemoteError("E", "no")
        self.assertTrue(self.calls.fail("c1", error))
        self.assertFalse(self.calls.answer("c1", 12, _ANSWER))
        self.assertFalse(self.calls.fail("c1", error))
        self.assertIs(self.failureResultOf(deferred).value, error)
        self.assertEqual((self.calls.answers, self.calls.errors), (0, 1))

    def test_what_failed_is_withdrawn(self) -> None:
        """It may be waiting to be written, and nobody wants it any more."""
        call, _ = self.new()
        self.calls.fail("c1", RemoteError("E", "no"))
        self.assertEqual(self.withdrawn, [call])

    def test_nothing_heard_at_all(self) -> None:
        """After waiting, running, and two seconds for the way."""
        _, deferred = self.new(expiration=60.0, timeout=30.0)
        self.clock.advance(60 + 30 + GRACE - 0.01)
        self.assertNoResult(deferred)
        self.clock.advance(0.01)
        error = self.failureResultOf(deferred, ExpirationError).value
        self.assertEqual((error.reason, error.expiration), ("unanswered", 60.0))
        self.assertIn("'sum'", str(error))
        self.assertEqual(GRACE, 2.0)

    def test_one_that_expires_may_end_others_that_are_due(self) -> None:
        """As somebody does who cancels the rest of a group when one of it fails."""
        first, second, third = (self.new(call_id)[1] for call_id in ("a", "b", "c"))
        first.addErrback(lambda _: second.cancel())
        self.clock.advance(1000)
        self.failureResultOf(second, CancelledError)
        self.failureResultOf(third, ExpirationError)

    def test_a_returned_call_has_no_queue(self) -> None:
        """No worker ever declared its task."""
        call, deferred = self.new()
        call.returned(_RETURNED)
        self.assertEqual(self.failureResultOf(deferred, UnroutableError).value.task_id, "sum")

    def test_a_call_that_was_not_taken_fails(self) -> None:
        """Nacked, blocked, never written: with the publisher's error."""
        for error in (
            PublishNackedError("full"),
            BrokerBlockedError("memory", maybe_sent=True),
            BrokerBlockedError("memory", maybe_sent=False),
            PublishTimeoutError("not taken", maybe_sent=False),
            ConnectionLostError("no connection"),
        ):
            call, deferred = self.new()
            call.failed(error)
            self.assertIs(self.failureResultOf(deferred).value, error)

    def test_a_call_whose_confirm_is_late_goes_on(self) -> None:
        """It was written: its confirm or its answer may come yet."""
        call, deferred = self.new()
        call.late = True
        call.failed(PublishTimeoutError("not confirmed", maybe_sent=True))
        self.assertNoResult(deferred)
        self.calls.answer("c1", 12, _ANSWER)
        self.assertEqual(self.successResultOf(deferred), 12)

    def test_what_was_confirmed_can_be_failed_together(self) -> None:
        """What waits to be written, or to be confirmed, is not concerned."""
        confirmed, deferred = self.new("confirmed")
        confirmed.confirmed()
        _, waiting = self.new("waiting")
        error = ReplyLostError("gone")
        self.calls.fail_confirmed(error)
        self.assertIs(self.failureResultOf(deferred).value, error)
        self.assertNoResult(waiting)

    def test_it_is_addressed_to_its_task(self) -> None:
        """On the exchange of calls, mandatory, under its id."""
        call, _ = self.new()
        self.assertEqual(
            (call.exchange, call.routing_key, call.message_id, call.mandatory),
            ("crew.tasks", "sum", "c1", True),
        )


class LostTests(PendingTestCase):
    """The connection is lost, and another follows."""

    def lose(self, *calls: PendingCall) -> None:
        """The connection ends before these are confirmed."""
        for call in calls:
            call.sent = True
            call.lost()

    def taken(self) -> list[tuple[str, float]]:
        """The ids of what is to be sent again, and the seconds that each may wait."""
        return [(call.message_id, left) for call, left in self.calls.take_again()]

    def sent_again(self, call: PendingCall) -> None:
        """The next connection has it."""
        self.assertEqual([each for each, _ in self.calls.take_again()], [call])
        call.attempt += 1

    def test_what_was_not_confirmed_is_sent_again(self) -> None:
        """In its order, once, with the time that it has left."""
        first, _ = self.new("first")
        self.clock.advance(10)
        second, deferred = self.new("second", expiration=90)
        self.new("waiting")
        self.lose(first, second)
        self.clock.advance(5)
        self.assertEqual(self.taken(), [("first", 45.0), ("second", 85.0)])
        self.assertNoResult(deferred)
        self.assertEqual(self.taken(), [])

    def test_it_is_sent_again_and_again(self) -> None:
        """Whatever is lost once more."""
        call, deferred = self.new()
        for attempt in range(1, 5):
            self.assertEqual(call.attempt, attempt)
            self.lose(call)
            self.clock.advance(10)
            self.sent_again(call)
        self.calls.answer("c1", 12, _ANSWER)
        self.assertEqual(self.successResultOf(deferred), 12)

    def test_one_without_time_left_is_not_sent_again(self) -> None:
        """It may have run, and the error says so."""
        call, deferred = self.new(expiration=60.0)
        self.lose(call)
        self.clock.advance(60)
        self.assertNoResult(deferred)
        self.assertEqual(self.taken(), [])
        error = self.failureResultOf(deferred, ConnectionLostError).value
        self.assertTrue(error.maybe_sent)
        self.assertIn("'sum'", str(error))

    def test_one_that_fails_for_its_time_may_end_others(self) -> None:
        """What ends just then is not sent."""
        first, lost = self.new("first", expiration=10.0)
        second, other = self.new("second")
        lost.addErrback(lambda _: other.cancel())
        self.lose(first, second)
        self.clock.advance(20)
        self.assertEqual(self.taken(), [])
        self.failureResultOf(other, CancelledError)

    def test_no_connection_until_its_deadline(self) -> None:
        """Past that, nothing would be heard any more."""
        call, deferred = self.new(expiration=60.0, timeout=30.0)
        self.lose(call)
        self.clock.advance(60 + 30 + GRACE - 0.01)
        self.assertNoResult(deferred)
        self.clock.advance(0.01)
        self.assertTrue(self.failureResultOf(deferred, ConnectionLostError).value.maybe_sent)
        self.assertEqual(self.taken(), [])

    def test_one_that_is_sent_again_expires_as_others_do(self) -> None:
        """Counted from when it was made."""
        call, deferred = self.new(expiration=60.0, timeout=30.0)
        self.lose(call)
        self.clock.advance(50)
        self.sent_again(call)
        self.clock.advance(10 + 30 + GRACE)
        self.assertEqual(self.failureResultOf(deferred, ExpirationError).value.reason, "unanswered")

    def test_it_waits_again_where_there_is_no_connection_in_time(self) -> None:
        """The line has a shorter time than the call: it waits for the one after."""
        call, deferred = self.new()
        self.lose(call)
        self.sent_again(call)
        call.failed(ConnectionLostError("no connection"))
        self.assertNoResult(deferred)
        self.sent_again(call)

    def test_it_may_be_answered_meanwhile(self) -> None:
        """The broker had it, and its answer waited in the reply queue."""
        call, deferred = self.new()
        self.lose(call)
        self.calls.answer("c1", 12, _ANSWER)
        self.assertEqual(self.successResultOf(deferred), 12)
        self.assertEqual(self.taken(), [])

    def test_it_may_be_cancelled_meanwhile(self) -> None:
        """It is not sent again; nor is one that had ended before."""
        call, deferred = self.new()
        self.lose(call)
        deferred.cancel()
        self.lose(call)
        self.assertEqual(self.taken(), [])
        self.failureResultOf(deferred, CancelledError)

    def test_what_was_confirmed_waits(self) -> None:
        """It is in its queue, and its answer will be in the reply queue."""
        _, deferred = self.confirmed(persistent=True)
        self.calls.connection_lost(ConnectionLostError("gone", maybe_sent=True))
        self.assertNoResult(deferred)
        self.assertEqual(self.taken(), [])

    def test_what_was_confirmed_and_is_not_persistent_fails(self) -> None:
        """At once: a restart of the broker has lost it, and a cut looks the same."""
        self.new("waiting")
        _, deferred = self.confirmed(persistent=False)
        error = ConnectionLostError("gone", maybe_sent=True)
        self.calls.connection_lost(error)
        self.assertIs(self.failureResultOf(deferred).value, error)
        self.assertFalse(self.calls.answer("c1", 12, _ANSWER))
        self.assertEqual(len(self.calls), 1)

    def confirmed(self, persistent: bool) -> tuple[PendingCall, Deferred[Any]]:
        """A call that the broker has."""
        call, deferred = self.new()
        call.plan = CallPlan("sum", CallOptions(persistent=persistent), "client-1")
        call.confirmed()
        return call, deferred


class CancelTests(PendingTestCase):
    """Its caller does not want it any more."""

    def test_a_cancelled_call_ends_at_once(self) -> None:
        """It is withdrawn, and counts neither as an answer nor as an error."""
        call, deferred = self.new()
        deferred.cancel()
        self.failureResultOf(deferred, CancelledError)
        self.assertNotIn("c1", self.calls)
        self.assertEqual(self.withdrawn, [call])
        self.assertEqual((self.calls.answers, self.calls.errors), (0, 0))

    def test_what_comes_after_that_finds_nobody(self) -> None:
        """Neither answer, failure nor deadline."""
        _, deferred = self.new()
        deferred.cancel()
        self.assertFalse(self.calls.answer("c1", 12, _ANSWER))
        self.assertFalse(self.calls.fail("c1", RemoteError("E", "no")))
        self.clock.advance(1000)
        self.failureResultOf(deferred, CancelledError)

    def test_what_becomes_of_it_is_not_another_calls_fate(self) -> None:
        """Its id may have been given again by the time that the broker says what it did with it."""
        ended, cancelled = self.new()
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        _, deferred = self.new()
        ended.returned(_RETURNED)
        ended.failed(PublishNackedError("full"))
        ended.lost()
        self.assertNoResult(deferred)


class TableTests(PendingTestCase):
    """The table as a whole."""

    def test_it_knows_its_calls(self) -> None:
        """How many, and which."""
        self.new("a")
        self.new("b")
        self.assertEqual(len(self.calls), 2)
        self.assertIsNotNone(self.calls.find("a"))
        self.calls.answer("a", 1, _ANSWER)
        self.assertIsNone(self.calls.find("a"))
        self.assertEqual(len(self.calls), 1)

    def test_an_id_is_taken_while_its_call_is_pending(self) -> None:
        """And the first call is not touched by the second."""
        _, deferred = self.new()
        error = self.assertRaises(DuplicateCallIdError, self.calls.new, "sum", "c1", 60, 30, False)
        self.assertEqual(error.call_id, "c1")
        self.calls.answer("c1", 12, _ANSWER)
        self.assertEqual(self.successResultOf(deferred), 12)
        self.new()

    def test_stop_fails_all_and_whatever_comes_after(self) -> None:
        """With the one error, and no delayed call is left."""
        _, first = self.new("a")
        _, second = self.new("b")
        error = ClientStoppedError("stopped")
        self.calls.stop(error)
        self.assertIs(self.failureResultOf(first).value, error)
        self.assertIs(self.failureResultOf(second).value, error)
        self.assertIs(self.assertRaises(ClientStoppedError, self.new, "c"), error)
        self.assertIs(self.assertRaises(ClientStoppedError, self.calls.check_running), error)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_that_is_stopped_may_end_others(self) -> None:
        """Whoever hears of it may cancel the rest, or try again."""
        _, first = self.new("a")
        _, second = self.new("b")
        again: list[Exception] = []

        def react(failure: object) -> None:
            second.cancel()
            again.append(self.assertRaises(ClientStoppedError, self.new, "c"))

        first.addErrback(react)
        self.calls.stop(ClientStoppedError("stopped"))
        self.failureResultOf(second, CancelledError)
        self.assertEqual(len(again), 1)

    def test_it_can_be_started_again(self) -> None:
        """Calls are taken from then on."""
        self.calls.stop(ClientStoppedError("stopped"))
        self.calls.start()
        self.calls.check_running()
        _, deferred = self.new()
        self.calls.answer("c1", 12, _ANSWER)
        self.assertEqual(self.successResultOf(deferred), 12)
