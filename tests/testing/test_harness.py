"""Tests of crew_tx.testing.harness."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from crew_tx import Client, ConnectionLostError, ExpirationError, RemoteError, TaskTimeoutError
from crew_tx.errors import ConfigurationError
from crew_tx.testing import CrewHarness, MemoryReactor
from crew_tx.worker import Task, Worker
from tests.testing import tasks


class HarnessTestCase(SynchronousTestCase):
    """Tests with a harness that is closed after them."""

    def start(self, *given: object, **options: Any) -> CrewHarness:
        """A harness."""
        self.harness = CrewHarness(*given, **options).install(self)
        return self.harness

    def call(self, task_id: str, data: Any = None, **options: Any) -> Deferred[Any]:
        """A call of its client."""
        called: Deferred[Any] = self.harness.client.call(task_id, data, **options)
        return called

    def result(self, waiting: Any) -> Any:
        """What it comes to now."""
        return self.harness.result(waiting)


class CallTests(HarnessTestCase):
    """Tasks, and what calls come to."""

    def test_functions_services_and_modules_are_tasks(self) -> None:
        """As a worker takes them."""
        self.start(tasks.add, tasks.service)
        self.assertEqual(self.result(self.call("add", {"x": 4, "y": 8})), 12)
        self.assertEqual(self.result(self.call("numbers.double", {"x": 4})), 8)
        other = CrewHarness(tasks).install(self)
        self.assertEqual(set(other.worker.status().tasks) >= {"add", "slow", "wait", "numbers.double"}, True)

    def test_what_is_no_task_is_refused(self) -> None:
        """With the remedy."""
        for wrong in (len, socket, "add", Clock()):
            with self.assertRaisesRegex(ConfigurationError, "marked with Task"):
                CrewHarness(wrong)

    def test_a_plain_clock_is_refused(self) -> None:
        """Its network would have to move with it; the text says what to do instead."""
        with self.assertRaisesRegex(TypeError, r"harness\.clock"):
            CrewHarness(clock=Clock())  # type: ignore[arg-type]

    def test_without_tasks_there_is_no_worker(self) -> None:
        """And a client all the same."""
        harness = self.start()
        with self.assertRaisesRegex(ConfigurationError, "no worker"):
            harness.worker  # noqa: B018
        self.assertTrue(harness.client.status().connected)

    def test_client_and_worker_have_their_options(self) -> None:
        """Theirs, under their names."""
        harness = self.start(tasks.add, client={"name": "shop"}, worker={"threads": 3, "name": "till"})
        self.assertIn("shop-", harness.client.client_id)
        self.assertEqual(harness.worker.status().pool.size, 3)
        self.assertIsInstance(harness.client, Client)
        self.assertIsInstance(harness.worker, Worker)

    def test_a_result_is_a_value_or_is_raised(self) -> None:
        """Of a Deferred, or of a coroutine."""
        self.start(tasks.add)
        with self.assertRaises(RemoteError) as caught:
            self.result(self.call("add", {}))
        self.assertEqual(caught.exception.type, "KeyError")

        async def twice() -> int:
            first = await self.call("add", {"x": 1, "y": 1})
            return await self.call("add", {"x": first, "y": first})

        self.assertEqual(self.result(twice()), 4)

    def test_no_result_yet_is_said_with_what_is_going_on(self) -> None:
        """And whoever looks later finds it."""
        self.start(tasks.slow)
        self.harness.hold("slow")
        waiting = self.call("slow", call_id="mine")
        self.harness.advance(2)
        with self.assertRaisesRegex(
            AssertionError, "at 2 s: the call mine to 'slow'; the task 'slow', which is held"
        ):
            self.result(waiting)
        self.harness.release()
        self.assertEqual(self.result(waiting), "done")
        with self.assertRaisesRegex(AssertionError, "nothing is going on"):
            self.result(Deferred())

    def test_a_client_of_your_own_code_can_use_it(self) -> None:
        """By its clock and its URL."""
        harness = self.start(tasks.add)
        client = Client(harness.clock, harness.url)
        self.result(client.connect())
        self.assertEqual(self.result(client.call("add", {"x": 1, "y": 2})), 3)
        self.result(client.close())

    def test_large_bodies_need_no_thread(self) -> None:
        """They are read and written in the flush."""
        harness = self.start(tasks.add)
        text = "x" * 300_000
        self.assertEqual(self.result(self.call("add", {"x": text, "y": text})), text * 2)
        self.assertEqual(harness.client.status().answers, 1)


class TimeTests(HarnessTestCase):
    """What takes time."""

    def test_a_task_on_the_clock_takes_its_time(self) -> None:
        """An async task waits for the harness's clock."""
        clock = MemoryReactor()

        @tasks.Task("later")
        async def later(req: Any) -> str:
            return await deferLater(clock, req, lambda: "now")

        self.start(later, clock=clock)
        self.assertIs(self.harness.clock, clock)
        waiting = self.call("later", 60)
        self.harness.advance(59.9)
        self.assertNoResult(waiting)
        self.harness.advance(0.2)
        self.assertEqual(self.result(waiting), "now")

    def test_a_held_task_runs_into_its_limit(self) -> None:
        """And its thread is free after that."""
        self.start(tasks.slow, worker={"threads": 1})
        self.harness.hold("slow")
        waiting = self.call("slow")
        self.harness.advance(4.9)
        self.assertNoResult(waiting)
        self.harness.advance(0.1)
        self.failureResultOf(waiting, TaskTimeoutError)
        self.assertEqual(self.harness.worker.status().pool.busy, 0)

    def test_a_stuck_task_keeps_its_thread(self) -> None:
        """Which is quarantined and replaced, until it ends after all."""
        self.start(tasks.slow, tasks.add, worker={"threads": 1})
        self.harness.hold("slow", stuck=True)
        waiting = self.call("slow", call_id="mine")
        behind = self.call("add", {"x": 1, "y": 2})
        self.harness.advance(6)
        self.failureResultOf(waiting, TaskTimeoutError)
        self.assertNoResult(behind)
        self.harness.advance(5)
        self.assertEqual(self.successResultOf(behind), 3)
        [stuck] = self.harness.worker.status().pool.stuck
        self.assertEqual(stuck.call_id, "mine")
        self.harness.release("slow")
        self.assertEqual(self.harness.worker.status().pool.stuck, ())

    def test_only_tasks_in_threads_are_held(self) -> None:
        """Others are named, as those that there are."""
        self.start(tasks.wait, tasks.slow)
        for name in ("wait", "slwo"):
            with self.assertRaisesRegex(LookupError, "there are: slow"):
                self.harness.hold(name)
        self.harness.release("never held")

    def test_a_call_that_nobody_takes_expires(self) -> None:
        """On the clock, by the broker."""
        self.start(tasks.slow, worker={"drain": 1.0})
        self.result(self.harness.worker.stopService())
        waiting = self.call("slow", expiration=3600)
        self.harness.advance(3599)
        self.assertNoResult(waiting)
        self.harness.advance(1)
        error = self.failureResultOf(waiting, ExpirationError).value
        self.assertEqual((error.reason, error.queue, error.time), ("expired", "crew.tasks.slow", 3600))


class ProgramTests(HarnessTestCase):
    """Several clients and workers, and their deaths."""

    def test_there_can_be_several(self) -> None:
        """Each with a connection of its own."""
        harness = self.start(tasks.attempt)
        harness.new_worker(tasks.attempt)
        clients = [harness.client, harness.new_client(name="other")]
        calls = [client.call("attempt") for client in clients for _ in range(2)]
        harness.flush()
        self.assertEqual(len({self.successResultOf(called)[0] for called in calls}), 2)
        programs = [harness.worker, *clients]
        self.assertEqual(len({harness.connection(program) for program in programs}), 3)

    def test_what_a_killed_worker_had_goes_to_another(self) -> None:
        """Marked as redelivered; nothing of the dead one runs on."""
        harness = self.start(tasks.attempt)
        harness.hold("attempt")
        waiting = self.call("attempt")
        harness.flush()
        second = harness.new_worker(tasks.attempt)
        harness.kill(harness.worker)
        harness.release()
        self.assertEqual(self.result(waiting), [second.worker_id, True])
        harness.advance(100)
        self.assertEqual(len(harness.broker.connections), 2)
        with self.assertRaises(LookupError):
            harness.connection(harness.worker)

    def test_a_killed_client_is_forgotten(self) -> None:
        """Its calls never end, and are nobody's any more."""
        harness = self.start(tasks.wait)
        waiting = self.call("wait")
        harness.flush()
        harness.kill(harness.client)
        harness.advance(700)
        self.assertNoResult(waiting)
        self.assertEqual([name for name in harness.broker.queues if "reply" in name], [])
        harness.kill(harness.worker)

    def test_only_its_own_programs_are_known(self) -> None:
        """Others have no connection that it knows of."""
        harness = self.start()
        with self.assertRaisesRegex(TypeError, "new_client"):
            harness.connection(Client(MemoryReactor()))

    def test_a_client_comes_back_when_its_connection_is_cut(self) -> None:
        """At any byte of it."""
        harness = self.start(tasks.add)
        for size in (0, 1, 100, 250, 400, 1000):
            connection = harness.connection()
            connection.cut_after(size)
            called = self.call("add", {"x": 1, "y": size})
            harness.advance(30)
            self.assertTrue(called.called)
            called.addErrback(lambda failure: failure.trap(ConnectionLostError))
            connection.cut()
            harness.advance(10)
            self.assertEqual(self.result(self.call("add", {"x": 1, "y": size})), size + 1)


class EndTests(SynchronousTestCase):
    """What is left, and the end."""

    def left(self, harness: CrewHarness) -> str:
        """What the close of a harness complains of."""
        return str(self.assertRaises(AssertionError, harness.close))

    def test_a_clean_end_says_nothing(self) -> None:
        """And a second one does nothing."""
        harness = CrewHarness(tasks)
        harness.close()
        harness.close()
        self.assertEqual((harness.clock.getDelayedCalls(), harness.clock.wires), ([], []))
        self.assertFalse(harness.client.running or harness.worker.running)

    def test_calls_and_tasks_are_named(self) -> None:
        """But not a task that is held: it is the test that does it."""
        harness = CrewHarness(tasks)
        harness.hold("add")
        for task_id in ("add", "wait"):
            harness.client.call(task_id, call_id=f"call {task_id}")
        text = self.left(harness)
        self.assertIn("the call call add to 'add'", text)
        self.assertIn("the call call wait to 'wait'", text)
        self.assertEqual(text.count("a task that runs on the reactor"), 1)
        self.assertNotIn("the task 'add'", text)
        self.assertEqual(harness.clock.getDelayedCalls(), [])

    def test_delayed_calls_are_named(self) -> None:
        """By what they call, and when; none of them is made meanwhile."""
        harness = CrewHarness(tasks)
        harness.clock.callLater(60, self.fail)
        self.assertIn("a delayed call of _Assertions.fail, due at 60 s", self.left(harness))

    def test_connections_of_others_are_named(self) -> None:
        """A client that the code under test forgot."""
        harness = CrewHarness(tasks)
        client = Client(harness.clock, harness.url)
        harness.result(client.connect())
        self.assertIn("a delayed call of", self.left(harness))

    def test_a_broker_that_does_not_play_along_is_no_leftover(self) -> None:
        """Frozen, blocked, gone or refusing: all ends in time."""
        for fault in (
            "freeze",
            "raise_alarm",
            "stop",
            "refuse_connections",
            "cut_connections",
            "refuse_logins",
        ):
            harness = CrewHarness(tasks)
            getattr(harness.broker, fault)()
            sent = harness.client.send("add", {"x": 1, "y": 1}).addErrback(lambda failure: None)
            harness.advance(7)
            sent.cancel()
            harness.close()

    def test_one_way_calls_are_named(self) -> None:
        """Until the broker has them."""
        harness = CrewHarness(tasks)
        harness.broker.freeze()
        sent = harness.client.send("add")
        self.assertEqual(self.left(harness), "the test left behind: a one-way call to 'add'")
        self.assertNoResult(sent)

    def test_a_worker_that_was_killed_or_stopped_is_none_either(self) -> None:
        """Nor a client that was closed."""
        harness = CrewHarness(tasks)
        harness.kill(harness.worker)
        harness.result(harness.client.close())
        harness.result(harness.new_worker(tasks).stopService())
        harness.close()

    def test_as_a_context_it_is_closed(self) -> None:
        """What was left is raised, unless the block has failed by itself."""
        with CrewHarness(tasks) as harness:
            self.assertTrue(harness.client.status().connected)
        self.assertFalse(harness.client.running)
        with self.assertRaisesRegex(AssertionError, "left behind"), CrewHarness(tasks) as harness:
            harness.client.call("wait")
        with self.assertRaises(ZeroDivisionError), CrewHarness(tasks) as harness:
            harness.client.call("wait")
            raise ZeroDivisionError


class DayTests(SynchronousTestCase):
    """A day of a user's program: expiries, time limits, reconnects and heartbeats."""

    def setUp(self) -> None:
        self.patch(socket, "socket", self._never)
        self.patch(threading.Thread, "start", self._never)
        self.patch(time, "sleep", self._never)

    def _never(self, *args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened, a thread was started, or somebody sleeps")

    def test_a_day_goes_by_in_less_than_a_second(self) -> None:
        """Without a socket or a thread, and with nothing left. One of three: the machine may be busy."""
        threads = threading.active_count()
        self.assertTrue(any(self.day() < 1 for _ in range(3)))
        self.assertEqual(threading.active_count(), threads)

    def day(self) -> float:
        """:returns: the seconds that a day took."""
        begun = time.process_time()
        harness = CrewHarness(tasks.add, tasks.slow)
        harness.result(harness.new_worker(tasks.attempt).stopService())
        kinds: list[type[BaseException] | None] = []
        for hour in range(24):
            harness.hold("slow", stuck=True)
            calls = [harness.client.call("slow", timeout=5), harness.client.call("attempt", expiration=60)]
            for called in calls:
                called.addErrback(lambda failure: kinds.append(failure.type))
            harness.advance(1800)
            harness.release("slow")
            harness.connection(harness.worker).cut()
            harness.connection().cut()
            harness.broker.restart()
            harness.advance(1800)
            self.assertEqual(harness.result(harness.client.call("add", {"x": hour, "y": 1})), hour + 1)
        self.assertEqual(kinds, [TaskTimeoutError, ExpirationError] * 24)
        self.assertEqual(harness.clock.seconds(), 86_400)
        harness.close()
        self.assertEqual((harness.clock.getDelayedCalls(), harness.clock.wires), ([], []))
        return time.process_time() - begun


class IsolationTests(HarnessTestCase):
    """There are no processes in memory."""

    def test_a_task_for_a_process_runs_as_one_in_a_thread(self) -> None:
        """Held and timed out, too."""

        @Task("isolated", isolation="process")
        def isolated(req: Any) -> Any:
            return req

        self.start(isolated)
        self.assertEqual(self.result(self.call("isolated", 1)), 1)
        self.harness.hold("isolated", stuck=True)
        called = self.call("isolated", 1, timeout=2)
        self.harness.advance(3)
        self.assertRaises(TaskTimeoutError, self.result, called)
        self.harness.release()
