"""What Prometheus reads of a worker and a client."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from crew_tx.interfaces import ICallObserver
from crew_tx.status import ClientStatus, PoolStatus, StuckThread, WorkerStatus
from crew_tx.testing import CrewHarness
from crew_tx.web.metrics import UNKNOWN, CallMetrics, Exposition
from crew_tx.worker import Task

POOL = PoolStatus(8, 5, 2, (StuckThread("t", "a", "1", 3.0),), 4)
WORKER = WorkerStatus(
    "w-1",
    "w",
    "h",
    1,
    ("a",),
    True,
    "amqp://h",
    POOL,
    in_progress=2,
    abandoned=5,
    held=3,
    started=1700000000.0,
)
CLIENT = ClientStatus("c-1", True, "low on memory", "amqp://h", pending=7, calls=9, late_replies=1)


def values(exposition: Exposition) -> dict[str, float]:
    """The samples, by name and labels, as Prometheus would read them."""
    return {
        sample.name + "".join(f" {name}={text}" for name, text in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(exposition.text().decode())
        for sample in family.samples
    }


class SnapshotTests(SynchronousTestCase):
    """Figures that are read when they are asked for."""

    def setUp(self) -> None:
        self.exposition = Exposition()

    def test_a_workers_figures(self) -> None:
        """With which worker it is."""
        self.exposition.add_worker(lambda: WORKER)
        found = values(self.exposition)
        expected = {
            "crew_worker_connected": 1,
            "crew_worker_paused": 0,
            "crew_worker_calls_in_progress": 2,
            "crew_worker_calls_held": 3,
            "crew_worker_calls_abandoned_total": 5,
            "crew_worker_threads": 8,
            "crew_worker_threads_busy": 2,
            "crew_worker_threads_stuck": 1,
            "crew_worker_threads_replaced_total": 4,
            "crew_worker_start_time_seconds": 1700000000.0,
        }
        self.assertEqual(expected, {name: found.get(name) for name in expected})
        self.assertIn("crew_worker_info name=w", " ".join(found))

    def test_a_clients_figures(self) -> None:
        """Whether it is blocked is a number."""
        self.exposition.add_client(lambda: CLIENT)
        found = values(self.exposition)
        expected = {
            "crew_client_blocked": 1,
            "crew_client_calls_pending": 7,
            "crew_client_calls_total": 9,
            "crew_client_late_replies_total": 1,
        }
        self.assertEqual(expected, {name: found.get(name) for name in expected})

    def test_refused_messages_count_by_reason(self) -> None:
        """A worker's and a client's."""
        refused = {"unsigned": 2, "replayed": 1}
        self.exposition.add_worker(lambda: replace(WORKER, refused=refused))
        self.exposition.add_client(lambda: replace(CLIENT, refused=refused))
        found = values(self.exposition)
        for process in ("worker", "client"):
            name = f"crew_{process}_messages_refused_total reason"
            counts = tuple(found[f"{name}={reason}"] for reason in (*refused, "expired"))
            self.assertEqual((2, 1, 0), counts)

    def test_they_are_read_each_time(self) -> None:
        """And not before."""
        taken: list[WorkerStatus] = []

        def status() -> WorkerStatus:
            taken.append(WORKER)
            return WORKER

        self.exposition.add_worker(status)
        self.assertEqual([], taken)
        self.exposition.text()
        self.exposition.text()
        self.assertEqual(2, len(taken))

    def test_the_process_is_there_too(self) -> None:
        """Its memory, for one."""
        self.assertGreater(values(self.exposition)["process_resident_memory_bytes"], 1_000_000)


class CallTests(SynchronousTestCase):
    """Figures that are counted call by call."""

    def setUp(self) -> None:
        self.exposition = Exposition()
        self.calls = CallMetrics(self.exposition.registry, ["a", "b"])

    def test_it_observes_calls(self) -> None:
        """As the interface has it."""
        self.assertTrue(verifyObject(ICallObserver, self.calls))

    def test_calls_count_by_task_and_outcome(self) -> None:
        """And how long they took."""
        self.calls.answered("a", "ok", 0.5, 2.0)
        self.calls.answered("a", "timeout", 0.25, 4.0)
        found = values(self.exposition)
        self.assertEqual(1, found["crew_worker_calls_total outcome=ok task=a"])
        self.assertEqual(1, found["crew_worker_calls_total outcome=timeout task=a"])
        self.assertEqual(6.0, found["crew_worker_call_duration_seconds_sum task=a"])
        self.assertEqual(0.75, found["crew_worker_call_wait_seconds_sum task=a"])
        self.assertEqual(0, found["crew_worker_call_duration_seconds_count task=b"])

    def test_unknown_tasks_are_one(self) -> None:
        """Whoever calls can't make labels."""
        for number in range(100):
            self.calls.answered(f"x{number}", "unknown-task", 0.0, 0.0)
        found = values(self.exposition)
        self.assertEqual(100, found[f"crew_worker_calls_total outcome=unknown-task task={UNKNOWN}"])
        self.assertFalse([name for name in found if "task=x" in name])


@Task("fails")
def fails(request: object) -> None:
    """A task that fails."""
    raise ValueError("no")


@Task("works")
def works(request: object) -> object:
    """A task that works."""
    return request


class ObservedWorkerTests(SynchronousTestCase):
    """A worker that is given an observer."""

    def test_each_answer_is_observed_once(self) -> None:
        """With its outcome, and the time that it waited."""
        seen: list[tuple[str, str, float, float]] = []

        class Observer:
            def answered(self, *observed: object) -> None:
                seen.append(observed)  # type: ignore[arg-type]

        harness = CrewHarness(works, fails)
        self.addCleanup(harness.close)
        harness.worker._observer = Observer()
        for task_id in ("works", "fails"):
            harness.client.call(task_id).addErrback(lambda failure: None)
        harness.flush()
        self.assertEqual({("works", "ok"), ("fails", "raised")}, {each[:2] for each in seen})
        self.assertTrue(all(each[2:] >= (0.0, 0.0) for each in seen))
