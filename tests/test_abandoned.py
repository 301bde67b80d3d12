"""Calls whose callers are gone: a task that asks for it does not run them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.message import cancel_properties
from crew_tx.rpc import probing
from crew_tx.rpc.consumption import SATURATED_AFTER
from crew_tx.rpc.probing import LIMIT
from crew_tx.testing import CrewHarness
from crew_tx.worker import Service, Task
from tests.amqp.peer import Sent
from tests.workers import WorkerTestCase


class Methods:
    """A service's."""

    def __init__(self, runs: list[Any]) -> None:
        self._runs = runs

    def c_run(self, req: Any) -> None:
        self._runs.append(req)


class AbandonedTests(SynchronousTestCase):
    """Through client, broker and worker."""

    def setUp(self) -> None:
        self.runs: list[Any] = []

        @Task("careful", skip_abandoned=True)
        def careful(req: Any) -> Any:
            self.runs.append(req)
            return req

        @Task("careless")
        def careless(req: Any) -> Any:
            self.runs.append(req)
            return req

        self.tasks = [careful, careless, Service("methods", Methods(self.runs), skip_abandoned=True)]
        self.harness = CrewHarness(*self.tasks, worker={"threads": 2}).install(self)
        self.worker = self.harness.worker

    def abandon(self, *task_ids: str) -> None:
        """Calls whose client ends before there is a worker."""
        self.harness.result(self.worker.stopService())
        caller = self.harness.new_client()
        for task_id in task_ids:
            caller.call(task_id, {"c": "run"}).addErrback(lambda _: None)
        self.harness.flush()
        self.harness.result(caller.close())
        self.worker = self.harness.new_worker(*self.tasks, threads=2)
        self.harness.advance(1)

    def test_those_of_a_client_that_is_closed_do_not_run(self) -> None:
        """They leave their queue, and are counted."""
        self.abandon("careful", "careful", "methods", "methods.run")
        self.assertEqual([], self.runs)
        self.assertEqual(4, self.worker.status().abandoned)
        self.assertEqual((0, 0), (self.worker.status().processed, self.worker.status().held))
        self.is_empty()

    def test_a_task_that_does_not_ask_runs_them(self) -> None:
        """Whatever it did may have been what they were for."""
        self.abandon("careless")
        self.assertEqual([{"c": "run"}], self.runs)
        self.assertEqual(0, self.worker.status().abandoned)

    def test_those_of_a_client_that_is_there_run(self) -> None:
        """It hears nothing of the probes."""
        calls = [self.harness.client.call("careful", number) for number in range(20)]
        self.assertEqual(list(range(20)), [self.harness.result(call) for call in calls])
        status = self.harness.client.status()
        self.assertEqual((0, 0, 0), (status.undecodable, status.late_replies, status.duplicate_replies))
        self.assertEqual(0, self.worker.status().abandoned)
        self.harness.advance(1)
        self.is_empty()

    def test_one_way_calls_run(self) -> None:
        """Nobody ever waited for them."""
        self.harness.result(self.harness.client.send("careful", 1))
        self.assertEqual([1], self.runs)

    def test_a_client_that_is_away_waits_for_them(self) -> None:
        """Its reply queue is there; the probes in it expire."""
        call = self.harness.client.call("careful", 1)
        self.harness.hold("careful")
        self.harness.flush()
        self.harness.connection().cut()
        self.harness.release()
        self.harness.advance(10)
        self.assertEqual(1, self.harness.result(call))

    def test_a_broker_that_restarts_gives_them_again(self) -> None:
        """They run once."""
        self.harness.broker.freeze()
        calls = [self.harness.client.call("careful", number) for number in range(3)]
        self.harness.flush()
        self.harness.broker.thaw()
        self.harness.broker.restart()
        self.harness.advance(20)
        self.assertEqual([0, 1, 2], [self.harness.result(call) for call in calls])
        self.assertEqual([0, 1, 2], sorted(self.runs))
        self.is_empty()

    def test_a_cancelled_call_does_not_run(self) -> None:
        """Nor is it counted as abandoned: its caller is there."""
        self.harness.hold("careful")
        calls: list[Deferred[Any]] = [self.harness.client.call("careful", number) for number in range(4)]
        self.harness.flush()
        for call in calls[2:]:
            call.cancel()
            self.failureResultOf(call, CancelledError)
        self.harness.release()
        self.harness.flush()
        self.assertEqual([0, 1], [self.harness.result(call) for call in calls[:2]])
        self.assertEqual([0, 1], sorted(self.runs))
        self.assertEqual(0, self.worker.status().abandoned)

    def is_empty(self) -> None:
        counts = {name: self.harness.broker.queue(name) for name in self.harness.broker.queues}
        self.assertEqual(
            {}, {name: each for name, each in counts.items() if each.ready or each.unacknowledged}
        )


class ProbingTests(WorkerTestCase):
    """Step by step, with a broker that answers as the test says."""

    def begin(self, **options: Any) -> None:
        """A worker whose task asks for it."""

        @Task("careful", skip_abandoned=True)
        def careful(req: Any) -> Any:
            return req

        self.start(careful, **options)

    def probed(self, data: Any = None, **changes: Any) -> tuple[int, Sent]:
        """A call comes. :returns: its delivery tag, and the probe."""
        tag = self.call("careful", data, **changes)
        [probe] = self.published()
        return tag, probe

    def test_a_probe_is_a_question_to_the_callers_queue(self) -> None:
        """It is no answer; it is lost with a restart, and expires."""
        self.begin()
        _, probe = self.probed()
        properties = probe.properties
        assert properties is not None
        self.assertEqual(
            ("crew.replies", "client-1"), (probe.fields["exchange"], probe.fields["routing_key"])
        )
        self.assertTrue(probe.fields["mandatory"])
        self.assertEqual(
            ("probe", 1, str(probing.EXPIRES)),
            (properties["type"], properties["delivery_mode"], properties["expiration"]),
        )
        self.assertNotIn("correlation_id", properties)
        self.assertEqual(1, self.worker.status().held)

    def test_a_confirmed_one_lets_the_call_run(self) -> None:
        """Its reply is the next message."""
        self.begin()
        tag, _ = self.probed("x")
        self.confirm(self.channel, 1)
        self.threads.step()
        self.assertEqual([("reply", "x"), ("ack", tag)], self.sent())

    def test_a_returned_one_ends_it(self) -> None:
        """It is acknowledged, and not answered."""
        self.begin()
        tag, probe = self.probed()
        self.give_back(self.channel, probe)
        self.confirm(self.channel, 1)
        self.threads.step_all()
        self.assertEqual([("ack", tag)], self.sent())
        self.assertEqual((1, 0), (self.worker.status().abandoned, self.worker.status().held))

    def test_what_is_not_known_lets_it_run(self) -> None:
        """A nack, and no answer for five seconds; what comes after that changes nothing."""
        self.begin()
        tag, _ = self.probed("x")
        self.nack(self.channel, 1)
        self.threads.step()
        self.assertEqual([("reply", "x"), ("ack", tag)], self.sent())
        tag, probe = self.probed("y")
        self.reactor.advance(LIMIT)
        self.give_back(self.channel, probe)
        self.confirm(self.channel, 3)
        self.threads.step()
        self.assertEqual([("reply", "y"), ("ack", tag)], self.sent())
        self.assertEqual(0, self.worker.status().abandoned)

    def test_a_blocked_broker_lets_it_run(self) -> None:
        """The probe is not written then."""
        self.begin()
        self.block()
        tag = self.call("careful", "x")
        self.reactor.advance(LIMIT)
        self.threads.step()
        self.unblock()
        self.assertEqual([("reply", "x"), ("ack", tag)], self.sent())

    def test_one_that_comes_by_a_lost_connection_is_not_begun(self) -> None:
        """Whoever gets it then; here it is asked after again."""
        self.begin()
        self.probed("x")
        self.reconnect()
        self.channel = self.channel_of("basic.consume")
        self.peer.unread = []
        self.advance(LIMIT)
        self.threads.step_all()
        self.assertEqual([], self.published())
        self.tag = 0
        tag, _ = self.probed("x", redelivered=True)
        self.confirm(self.channel, 1)
        self.threads.step_all()
        self.assertEqual([("reply", "x"), ("ack", tag)], self.sent())

    def test_one_whose_channel_has_ended_is_not_begun(self) -> None:
        """The broker has it again, though the connection has not ended yet."""
        self.begin()
        self.probed("x")
        self.peer.send(self.channel, "channel.close", reply_code=406, reply_text="PRECONDITION_FAILED")
        self.reactor.advance(LIMIT)
        self.assertEqual(0, self.worker.status().in_progress)

    def test_a_worker_that_stops_hands_it_back(self) -> None:
        """The answer to the probe comes too late."""
        self.begin()
        tag, _ = self.probed()
        self.worker.stopService()
        self.confirm(self.channel, 1)
        self.peer.settle()
        self.threads.step_all()
        self.assertIn(("hand back", tag), self.sent())
        self.assertEqual(0, self.worker.status().in_progress)

    def test_a_worker_that_pauses_hands_it_back(self) -> None:
        """As all that it has not begun."""
        self.begin()
        tag, _ = self.probed()
        self.worker.pause()
        self.peer.settle()
        self.confirm(self.channel, 1)
        self.threads.step_all()
        self.assertEqual([("hand back", tag)], [each for each in self.sent() if each[0] != "basic.cancel"])

    def cancel(self, tag: int, exchange: str) -> None:
        """A cancel of a call comes to the control queue."""
        properties = cancel_properties("m1", f"c{tag}", "client-1")
        control = f"crew.control.{self.worker.worker_id}.1"
        self.deliver(control, properties, b"", 1, self.channel, exchange=exchange)

    def test_one_that_is_cancelled_meanwhile_is_not_begun(self) -> None:
        """It is acknowledged."""
        self.begin()
        tag, _ = self.probed()
        self.cancel(tag, "crew.workers")
        self.confirm(self.channel, 1)
        self.threads.step_all()
        self.assertEqual([("ack", tag)], self.sent())

    def test_a_cancel_by_the_exchange_of_commands_is_none(self) -> None:
        """Those may write there who may do no more than look."""
        self.begin()
        tag, _ = self.probed()
        with capturedLogs() as logs:
            self.cancel(tag, "crew.control")
        self.assertEqual([event["log_level"] for event in logs], [LogLevel.warn])
        self.confirm(self.channel, 1)
        self.threads.step_all()
        self.assertEqual([("reply", None), ("ack", tag)], self.sent())

    def test_one_that_comes_twice_meanwhile_runs_once(self) -> None:
        """Its caller was cut off, and sent it again."""
        self.begin()
        first, _ = self.probed("x", call_id="same")
        second = self.call("careful", "x", call_id="same", attempt=2)
        self.assertEqual([("ack", second)], self.sent())
        self.confirm(self.channel, 1)
        self.threads.step_all()
        self.assertEqual([("reply", "x"), ("ack", first)], self.sent())

    def test_it_goes_back_where_no_thread_gets_free(self) -> None:
        """With those that wait for one."""
        self.begin(threads=1)
        self.probed()
        self.confirm(self.channel, 1)
        waiting, _ = self.probed()
        self.confirm(self.channel, 2)
        self.reactor.advance(SATURATED_AFTER - 0.1)
        asked_after, _ = self.probed()
        self.reactor.advance(0.1)
        self.peer.settle()
        handed = [tag for kind, tag in self.sent() if kind == "hand back"]
        self.assertEqual([waiting, asked_after], sorted(handed))

    def test_waiting_for_the_broker_is_no_lack_of_threads(self) -> None:
        """Consuming goes on: no thread would get free to begin it anew."""
        self.begin(threads=1)
        for number in (1, 2):
            self.probed()
            self.confirm(self.channel, number)
        self.reactor.advance(1)
        self.threads.step()
        self.published()
        self.reactor.advance(SATURATED_AFTER - 0.5)
        self.probed()
        self.reactor.advance(0.5)
        self.peer.settle()
        self.assertEqual([], self.sent())

    def test_nothing_is_asked_for_other_tasks(self) -> None:
        """It would cost them."""
        self.begin()
        tag = self.call("echo", "x")
        self.threads.step()
        self.assertEqual([("reply", "x"), ("ack", tag)], self.sent())

    def test_a_full_line_lets_it_run(self) -> None:
        """There is no room for the question."""
        self.begin()
        self.block()
        self.worker._publisher._max_waiting = 0
        tag = self.call("careful", "x")
        self.assertEqual(1, self.worker.status().in_progress)
        self.worker._publisher._max_waiting = 10
        self.unblock()
        self.threads.step()
        self.assertEqual([("reply", "x"), ("ack", tag)], self.sent())
