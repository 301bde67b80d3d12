"""Cancelled calls: none is begun any more, and those that run are interrupted."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import AccessRefusedError, CrewError, DuplicateCallIdError, PreconditionFailedError
from crew_tx.rpc.cancelled import CancelledCalls
from crew_tx.rpc.pending import PendingCall, PendingCalls
from crew_tx.rpc.recent import CANCELLED_SECONDS, MOST, SECONDS, RecentCalls
from crew_tx.testing import CrewHarness, MemoryReactor
from crew_tx.worker import Task, context


class CancellingTests(SynchronousTestCase):
    """Through client, broker and worker."""

    def setUp(self) -> None:
        self.runs: list[object] = []
        self.interrupted: list[object] = []

        @Task("work")
        def work(req: object) -> object:
            self.runs.append(req)
            return req

        @Task("wait", reactor=True)
        def wait(req: object) -> Deferred[Any]:
            seen = context.request
            waiting: Deferred[Any] = Deferred(lambda _: self.interrupted.append(seen.id))
            return waiting

        self.harness = CrewHarness(work, wait, worker={"threads": 2}).install(self)
        self.client = self.harness.client

    def call(self, task_id: str = "work", req: object = None, **options: Any) -> Deferred[Any]:
        """A call whose failure is its own."""
        called: Deferred[Any] = self.client.call(task_id, req, **options)
        return called

    def cancel(self, *calls: Deferred[Any]) -> None:
        """Cancel them, and let that arrive."""
        for call in calls:
            call.cancel()
            self.failureResultOf(call, CancelledError)
        self.harness.flush()

    def test_none_in_the_queue_is_begun(self) -> None:
        """Nor those that the worker holds; others are."""
        self.harness.hold("work")
        calls = [self.call(req=number) for number in range(40)]
        self.harness.flush()
        self.cancel(*calls[2:30])
        self.harness.release("work")
        self.harness.flush()
        self.assertEqual(sorted([0, 1, *range(30, 40)]), sorted(self.runs))
        self.assertEqual(self.harness.broker.queue("crew.tasks.work").unacknowledged, 0)

    def test_one_that_runs_is_interrupted(self) -> None:
        """Its thread is free again, and nobody is answered."""
        self.harness.hold("work")
        call = self.call()
        self.harness.flush()
        self.cancel(call)
        self.harness.advance(1)
        status = self.harness.worker.status()
        self.assertEqual((0, 2), (status.in_progress, status.pool.idle))
        self.assertEqual((0, 0), (status.processed, self.client.status().late_replies))
        self.harness.release("work")

    def test_one_on_the_reactor_is_cancelled(self) -> None:
        """Its Deferred is."""
        call = self.call("wait", call_id="c1")
        self.harness.flush()
        self.cancel(call)
        self.assertEqual(["c1"], self.interrupted)

    def test_one_that_is_not_written_needs_no_word(self) -> None:
        """It leaves the line, and no worker hears of it."""
        self.harness.broker.stop()
        self.harness.flush()
        call = self.call()
        call.cancel()
        self.failureResultOf(call, CancelledError)
        self.assertEqual(0, self.client.status().waiting)
        self.harness.broker.start()
        self.harness.advance(10)
        self.assertEqual([], self.runs)

    def test_workers_are_told_by_the_next_connection(self) -> None:
        """Where there is none just now."""
        self.harness.hold("work")
        running = [self.call(req=number) for number in range(2)]
        queued = self.call(req=2)
        self.harness.flush()
        self.harness.connection().cut()
        queued.cancel()
        self.failureResultOf(queued, CancelledError)
        self.harness.advance(10)
        self.harness.release("work")
        self.harness.advance(10)
        self.assertEqual([0, 1], sorted(self.runs))
        self.assertEqual([0, 1], [self.harness.result(call) for call in running])

    def test_none_that_waits_for_an_hour_is_begun(self) -> None:
        """Behind those that run; the worker has handed it back meanwhile, and gets it again."""
        self.harness.hold("work")
        calls = [self.call(req=number) for number in range(6)]
        self.harness.advance(10)
        self.cancel(*calls[2:])
        self.harness.advance(3600)
        self.assertEqual(4, self.harness.broker.queue("crew.tasks.work").ready)
        self.harness.release("work")
        self.harness.flush()
        self.assertEqual([0, 1], sorted(self.runs))
        self.assertEqual(0, self.harness.broker.queue("crew.tasks.work").ready)

    def test_its_id_is_not_given_again(self) -> None:
        """Workers would drop that call as well; one that was answered leaves its id free."""
        self.assertEqual(1, self.harness.result(self.call(req=1, call_id="same")))
        self.cancel(self.call("wait", call_id="same"))
        for _ in range(2):
            error = self.failureResultOf(self.call(call_id="same"), DuplicateCallIdError).value
            self.assertEqual("same", error.call_id)
            self.assertIn("was cancelled or given up", str(error))
        self.assertIn("was cancelled", str(self.failureResultOf(self.call_back("same")).value))
        self.harness.result(self.client.send("work", 2, call_id="same"))
        self.assertEqual(3, self.harness.result(self.harness.new_client().call("work", 3, call_id="same")))
        self.assertEqual([1, 2, 3], self.runs)

    def call_back(self, call_id: str) -> Deferred[Any]:
        """What a callback is told."""
        told: Deferred[Any] = Deferred()
        self.client.call("work", call_id=call_id, callback=lambda outcome, headers: told.errback(outcome))
        return told

    def test_one_that_was_not_sent_leaves_its_id_free(self) -> None:
        """No worker has heard of it."""
        self.harness.broker.stop()
        self.harness.flush()
        call = self.call(call_id="same")
        call.cancel()
        self.failureResultOf(call, CancelledError)
        again = self.call(req=2, call_id="same")
        self.harness.broker.start()
        self.harness.advance(10)
        self.assertEqual(2, self.harness.result(again))

    def test_an_id_is_its_callers_own(self) -> None:
        """Another client's call of the same id goes on."""
        other = self.harness.new_client()
        self.harness.hold("work")
        mine, theirs = self.call(call_id="same"), other.call("work", "theirs", call_id="same")
        self.harness.flush()
        self.cancel(mine)
        self.harness.release("work")
        self.assertEqual("theirs", self.harness.result(theirs))


class TakenIdsTests(SynchronousTestCase):
    """Which ids a client does not give again, since workers may remember them."""

    def setUp(self) -> None:
        self.clock = MemoryReactor()
        self.calls = CancelledCalls(self.clock, "u", lambda *told: None)
        self.addCleanup(self.calls.stop)

    def is_taken(self, call_id: str, reply_to: str = "client-1") -> bool:
        try:
            self.calls.check(call_id, reply_to)
        except DuplicateCallIdError:
            return True
        return False

    def test_an_id_is_taken_for_longer_than_workers_remember_it(self) -> None:
        """However soon the call is expired; and while the client itself knows of the call."""
        for call_id, expiration in (("short", 1.0), ("long", 3 * CANCELLED_SECONDS)):
            self.calls.add("work", call_id, "client-1", self.clock.seconds(), expiration)
        self.assertEqual((True, False), (self.is_taken("short"), self.is_taken("short", "client-2")))
        self.clock.advance(CANCELLED_SECONDS + 1)
        self.assertEqual((True, True), (self.is_taken("short"), self.is_taken("long")))
        self.clock.advance(CANCELLED_SECONDS)
        self.assertEqual((False, True), (self.is_taken("short"), self.is_taken("long")))
        self.clock.advance(CANCELLED_SECONDS)
        self.assertEqual((False, False), (self.is_taken("short"), self.is_taken("long")))

    def test_a_client_that_was_closed_knows_them_yet(self) -> None:
        """It comes back by the same id."""
        self.calls.add("work", "mine", "client-1", self.clock.seconds(), 60.0)
        self.calls.stop()
        self.assertTrue(self.is_taken("mine"))

    def test_ids_that_it_makes_itself_take_no_room(self) -> None:
        """It makes none twice."""
        self.calls.add("work", "u.1", "client-1", self.clock.seconds(), 1.0)
        self.clock.advance(2)
        self.assertFalse(self.is_taken("u.1"))


class RecentCallsTests(SynchronousTestCase):
    """What a worker remembers of calls."""

    def setUp(self) -> None:
        self.clock = MemoryReactor()
        self.calls = RecentCalls(self.clock)

    def test_a_call_is_its_id_and_its_caller(self) -> None:
        """Both."""
        self.calls.add("c1", "client-1")
        self.assertTrue(self.calls.has("c1", "client-1"))
        self.assertFalse(self.calls.has("c1", "client-2"))
        self.assertFalse(self.calls.has("c2", "client-1"))

    def test_it_is_forgotten_in_time(self) -> None:
        """Ids of a day ago may be anything."""
        self.calls.add("c1", None)
        self.clock.advance(SECONDS)
        self.assertTrue(self.calls.has("c1", None))
        self.clock.advance(1)
        self.assertFalse(self.calls.has("c1", None))

    def test_it_lasts_as_long_as_it_is_told_to(self) -> None:
        """Cancelled calls are remembered for a day."""
        calls = RecentCalls(self.clock, CANCELLED_SECONDS)
        calls.add("c1", None)
        self.clock.advance(86_400)
        self.assertTrue(calls.has("c1", None))
        self.clock.advance(1)
        self.assertFalse(calls.has("c1", None))

    def test_the_oldest_give_way(self) -> None:
        """So it is bounded."""
        for number in range(MOST + 1):
            self.calls.add(str(number), None)
        self.assertEqual(MOST, len(self.calls))
        self.assertFalse(self.calls.has("0", None))
        self.assertTrue(self.calls.has("1", None))


class RefusedTests(SynchronousTestCase):
    """The broker ended the channel for a call, or for another that was out with it."""

    def setUp(self) -> None:
        self.calls = PendingCalls(MemoryReactor(), lambda call: None)
        self.addCleanup(self.calls.stop, CrewError("the test is over"))

    def call(self) -> tuple[PendingCall, Deferred[Any]]:
        call = self.calls.new("work", "c1", 60.0, 60.0, False)
        assert call.deferred is not None
        return call, call.deferred

    def test_for_want_of_rights_it_fails_at_once(self) -> None:
        """They are the same for all calls, and don't come by themselves."""
        call, deferred = self.call()
        call.refused(AccessRefusedError("no write on crew.tasks"))
        self.failureResultOf(deferred, AccessRefusedError)

    def test_otherwise_it_is_sent_once_more(self) -> None:
        """The second time it is put down to itself."""
        call, deferred = self.call()
        call.refused(PreconditionFailedError("a message"))
        self.assertNoResult(deferred)
        self.assertEqual([(call, 60.0)], self.calls.take_again())
        call.refused(PreconditionFailedError("a message"))
        self.failureResultOf(deferred, PreconditionFailedError)
