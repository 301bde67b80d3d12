"""What was made apart, together: signing, suspects, probes, cancels, confirmed acks and lost connections."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import (
    ExpirationError,
    NoWorkersError,
    RemoteError,
    ReplyLostError,
    TaskCancelledError,
    TaskTimeoutError,
)
from crew_tx.signing import SigningKeys
from crew_tx.tasks.suspects import GATHER
from crew_tx.testing import CrewHarness
from crew_tx.topology import SUSPECT_FROM
from crew_tx.tracing import Tracing
from crew_tx.worker import Task, Worker, context

_QUEUE = "crew.tasks.work"


class TogetherTestCase(SynchronousTestCase):
    """
    A client and workers that sign, ask after callers, count deliveries, and acknowledge on the confirm.

    :ivar runs: what the task was given, in order.
    """

    def setUp(self) -> None:
        self.runs: list[Any] = []

        @Task("work", skip_abandoned=True)
        def work(req: Any) -> Any:
            self.runs.append(req)
            if req == "odd":
                context.headers["large"] = "x" * 100_000
            return req

        @Task("later", queue="work")
        async def later(req: Any) -> Any:
            self.runs.append(req)
            self.waiting: Deferred[Any] = Deferred()
            return await self.waiting

        self.tasks = (work, later)
        self.harness = CrewHarness(signing_keys=SigningKeys({"k": b"k" * 32})).install(self)
        self.broker = self.harness.broker
        self.client = self.harness.client

    def worker(self, **options: Any) -> Worker:
        """One more worker."""
        return self.harness.new_worker(
            *self.tasks, **{"threads": 1, "queue_type": "quorum", "ack": "confirmed", **options}
        )

    def call(self, req: Any = 1, task_id: str = "work", **options: Any) -> Deferred[Any]:
        """A call that is on its way."""
        called: Deferred[Any] = self.client.call(task_id, req, **options)
        self.harness.flush()
        return called

    def suspects(self, *requests: Any) -> list[Deferred[Any]]:
        """Calls that as many workers had as make suspects of them, and one that runs the first."""
        workers = [self.worker(threads=len(requests))]
        self.harness.hold("work")
        calls = [self.call(request) for request in requests]
        for _ in range(SUSPECT_FROM):
            self.harness.kill(workers.pop())
            workers.append(self.worker(threads=len(requests)))
        self.suspecting = workers.pop()
        self.harness.advance(GATHER)
        self.assertEqual((self.suspecting.status().in_progress, self.runs), (1, []))
        return calls

    def is_settled(self) -> None:
        """The broker has no call any more, and nobody refused anything."""
        self.harness.advance(1)
        counts = self.broker.queue(_QUEUE)
        self.assertEqual((counts.ready, counts.unacknowledged), (0, 0))
        self.assertEqual(self.client.status().refused, {})


class SettledTests(TogetherTestCase):
    """Each answer is signed, and of the call as its worker has it."""

    def test_what_no_task_has_answered(self) -> None:
        """Cancelled by a command, out of time, held too long, and what can't be sent."""
        worker = self.worker()
        self.harness.hold("work")
        cancelled, late = self.call(1, call_id="1"), self.call(2, timeout=2)
        held = self.call(3, expiration=2, timeout=60)
        self.assertTrue(worker.cancel_call("1"))
        self.harness.flush()
        self.failureResultOf(cancelled, TaskCancelledError)
        self.harness.advance(2.1)
        self.failureResultOf(late, TaskTimeoutError)
        self.assertEqual(self.failureResultOf(held, ExpirationError).value.reason, "held")
        self.harness.release()
        self.failureResultOf(self.call("odd"), RemoteError)
        self.is_settled()

    def test_a_call_that_comes_again_while_it_runs(self) -> None:
        """To its worker after a cut of that one, and as a second attempt after one of the client's."""
        worker = self.worker()
        self.harness.hold("work")
        call = self.call()
        self.harness.connection(worker).cut()
        self.harness.advance(10)
        self.assertEqual((self.broker.queue(_QUEUE).unacknowledged, worker.status().in_progress), (1, 1))
        self.harness.release()
        self.assertEqual((self.harness.result(call), self.runs), (1, [1]))
        self.is_settled()

    def test_a_second_attempt_while_the_first_runs(self) -> None:
        """It is another message, and signed anew; the answer is of the first."""
        self.worker()
        self.harness.hold("work")
        self.harness.connection().server.stall()
        call = self.call()
        self.harness.connection().cut()
        self.harness.advance(10)
        self.harness.release()
        self.assertEqual((self.harness.result(call), self.runs), (1, [1]))
        self.is_settled()

    def test_one_that_is_acknowledged_before_its_end(self) -> None:
        """Its answer needs no delivery, and is signed."""
        self.worker(ack_timeout=5.0)
        self.harness.hold("work")
        call = self.call()
        self.harness.advance(5)
        self.assertEqual(self.broker.queue(_QUEUE).unacknowledged, 0)
        self.harness.release()
        self.assertEqual(self.harness.result(call), 1)
        self.is_settled()

    def test_a_trace_is_signed_as_all_headers_are(self) -> None:
        """The second time that it is sent as well."""
        client = self.harness.new_client(tracing=Tracing(TracerProvider()))
        worker = self.worker(tracing=Tracing(TracerProvider()))
        self.harness.connection(client).server.stall()
        calls = [client.call(task_id, "seen") for task_id in ("work", "later")]
        self.harness.flush()
        self.harness.connection(client).cut()
        self.harness.advance(10)
        self.waiting.callback("seen")
        self.assertEqual([self.harness.result(call) for call in calls], ["seen", "seen"])
        self.assertEqual((worker.status().refused, client.status().refused), ({}, {}))


class SuspectTests(TogetherTestCase):
    """Calls that were delivered often, and what else may become of them."""

    def test_they_are_asked_after_first(self) -> None:
        """They stay suspects, and run one by one."""
        calls = self.suspects(1, 2, 3)
        self.assertEqual(self.suspecting.status().held, 2)
        self.harness.release()
        self.assertEqual([self.harness.result(call) for call in calls], [1, 2, 3])
        self.is_settled()

    def test_one_in_line_is_cancelled(self) -> None:
        """It has no turn; what it held up goes on."""
        calls = self.suspects(1, 2, 3)
        new = self.call(4, "later")
        for call in calls:
            call.cancel()
            self.failureResultOf(call, CancelledError)
        self.harness.flush()
        self.waiting.callback("new")
        self.assertEqual((self.harness.result(new), self.runs), ("new", [4]))
        self.is_settled()

    def test_their_worker_is_cut_off(self) -> None:
        """The one that runs is not run twice, and the others have their turn."""
        calls = self.suspects(1, 2, 3)
        self.harness.connection(self.suspecting).cut()
        self.harness.advance(10)
        self.harness.release()
        self.harness.advance(1)
        self.assertEqual([self.harness.result(call) for call in calls], [1, 2, 3])
        self.assertEqual(sorted(self.runs), [1, 2, 3])
        self.is_settled()

    def test_their_worker_drains(self) -> None:
        """The one that runs ends, and another worker has the others."""
        calls = self.suspects(1, 2, 3)
        stopped = self.suspecting.stopService()
        self.harness.flush()
        self.harness.release()
        self.harness.advance(1)
        self.harness.result(stopped)
        self.assertEqual(len(self.runs), 1)
        self.worker()
        self.harness.advance(1)
        self.assertEqual([self.harness.result(call) for call in calls], [1, 2, 3])
        self.is_settled()

    def test_one_runs_longer_than_the_ack_timeout(self) -> None:
        """It alone is acknowledged; those behind it may not go back, and are as well."""
        calls = self.suspects(1, 2)
        self.harness.advance(1800)
        self.assertEqual(self.broker.queue(_QUEUE).unacknowledged, 0)
        self.harness.release()
        self.assertEqual([self.harness.result(call) for call in calls], [1, 2])
        self.is_settled()


class CallerTests(TogetherTestCase):
    """Clients that are gone, or go by another id now."""

    def renewed(self) -> None:
        """The client's reply queue goes, and it has another."""
        before = self.client.client_id
        self.broker.delete(f"crew.reply.{before}")
        self.harness.advance(10)
        self.assertNotEqual(before, self.client.client_id)

    def test_a_call_cancelled_before_is_not_begun(self) -> None:
        """Workers that begin later are told by the id that it was sent with."""
        self.harness.result(self.worker().stopService())
        call, lost = self.call("cancelled"), self.call("lost")
        call.cancel()
        self.failureResultOf(call, CancelledError)
        self.renewed()
        self.failureResultOf(lost, ReplyLostError)
        worker = self.worker()
        self.harness.advance(1)
        # The other was abandoned by the broker's word: nobody reads there any more.
        self.assertEqual((self.runs, worker.status().abandoned), ([], 1))
        self.assertEqual((self.harness.result(self.call("new")), self.runs), ("new", ["new"]))
        self.assertEqual(worker.status().refused, {})
        self.is_settled()

    def test_a_call_cancelled_after_is_interrupted(self) -> None:
        """By its new id, and signed."""
        worker = self.worker()
        self.renewed()
        call = self.call("cancelled", "later")
        call.cancel()
        self.failureResultOf(call, CancelledError)
        self.harness.flush()
        self.assertEqual((worker.status().in_progress, worker.status().refused), (0, {}))
        self.is_settled()

    def test_a_call_that_wants_a_worker_and_a_worker_that_wants_a_caller(self) -> None:
        """Each asks after the other, and neither takes the question for an answer."""
        self.harness.result(self.worker().stopService())
        self.failureResultOf(self.call(require_worker=True), NoWorkersError)
        worker = self.worker()
        self.assertEqual(self.harness.result(self.call(2, require_worker=True)), 2)
        status = self.client.status()
        self.assertEqual((status.undecodable, status.late_replies, worker.status().abandoned), (0, 0, 0))
        self.is_settled()

    def test_a_client_that_ends_leaves_nothing(self) -> None:
        """Its last cancels reach the worker before it goes."""
        worker = self.worker()
        self.harness.hold("work")
        client = self.harness.new_client()
        cancelled, pending = client.call("work", 1), client.call("later", 2)
        self.harness.flush()
        pending.addErrback(lambda failure: None)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.harness.result(client.close())
        self.assertEqual(worker.status().refused, {})
        self.assertEqual([each.task for each in worker.active()], ["later"])
        self.waiting.callback(None)
        self.harness.advance(40)
