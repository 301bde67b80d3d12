"""Cancelled calls on RabbitMQ, with workers in processes of their own: none is begun any more."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from crew_tx import Client, ClientStoppedError
from tests.integration.support import BrokerTestCase, Program

TASKS = """
import os
import time
from crew_tx.worker import Task, run

marks = os.open({marks!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@Task({task!r})
def loop(req):
    os.write(marks, b"%d\\n" % req)
    while req is not None:
        time.sleep(0.02)

@Task({task!r} + ".quick", queue={task!r})
def quick(req):
    os.write(marks, b"%d\\n" % req)
    return req

@Task({task!r} + ".careful", queue={task!r}, skip_abandoned=True)
def careful(req):
    os.write(marks, b"%d\\n" % req)
    return req

run()
"""


class CancelTestCase(BrokerTestCase):
    """
    Tests with a task that leaves a mark when it is begun.

    :ivar marks: where its marks are.
    """

    timeout = 120

    def setUp(self) -> None:
        super().setUp()
        self.task = self.name("loop")
        self.marks = Path(self.mktemp()).absolute()
        self.file = self.script()
        self.file.write_text(TASKS.format(task=self.task, marks=str(self.marks)))

    def workers(self, count: int, *options: str) -> list[Program]:
        """Processes of the task."""
        environment = {"CREW_BROKER": self.url}
        return [
            self.process(self.file, "--name", self.task, *options, environment=environment)
            for _ in range(count)
        ]

    def begun(self) -> list[int]:
        """The calls that were begun, in order."""
        return [int(line) for line in self.marks.read_text().split()] if self.marks.exists() else []

    def cancel(self, *calls: Deferred[Any]) -> None:
        for call in calls:
            call.addErrback(lambda failure: failure.trap(CancelledError) and None)
            call.cancel()

    async def wait(self, seconds: float) -> None:
        await deferLater(reactor, seconds)  # type: ignore[arg-type]


class BusyTests(CancelTestCase):
    """Four workers of 64 threads, and more calls than they can run at once."""

    async def test_none_that_is_queued_is_begun_and_all_threads_are_free(self) -> None:
        """500 calls are cancelled; those that run are interrupted, within two seconds."""
        await self.cancelled_in_order(list)

    async def test_in_whatever_order_they_are_cancelled(self) -> None:
        """At random; those that run have to be the last that workers hear of."""
        await self.cancelled_in_order(lambda calls: random.sample(calls, len(calls)))

    async def cancelled_in_order(self, ordered: Callable[[list[Any]], list[Any]]) -> None:
        for worker in self.workers(4, "--threads", "64"):
            await worker.says("answers")
        client = await self.client()
        calls = [client.call(self.task, number) for number in range(500)]
        while len(self.begun()) < 256:
            await self.wait(0.05)
        await self.wait(0.5)
        running = self.begun()
        self.assertEqual(256, len(running))
        began = time.monotonic()
        self.cancel(*ordered(calls))
        await self.all_are_free(client)
        self.assertLess(time.monotonic() - began, 2)
        # Behind all that was in the queue.
        self.assertEqual(-1, await client.call(f"{self.task}.quick", -1))
        await self.wait(0.5)
        self.assertEqual([*running, -1], self.begun())

    async def all_are_free(self, client: Client) -> None:
        busy = 1
        while busy:
            stats = await client.control("stats", self.task, expect=4, timeout=10)
            self.assertEqual(4, len(stats))
            busy = sum(each["busy"] + each["held"] + each["stuck"] for each in stats)


class LateWorkerTests(CancelTestCase):
    """No worker is there when calls are cancelled."""

    async def test_none_runs_when_one_starts(self) -> None:
        """Twenty of thirty; the others do."""
        await self.cancelled_before("classic")

    async def test_none_runs_on_a_quorum_queue(self) -> None:
        """The same."""
        await self.cancelled_before("quorum")

    async def cancelled_before(self, queue_type: str) -> None:
        [worker] = self.workers(1, "--queue-type", queue_type)
        await worker.says("answers")
        worker.signal("TERM")
        await worker.ends()
        client = await self.client()
        calls = [client.call(f"{self.task}.quick", number) for number in range(30)]
        await self.wait(0.2)
        self.cancel(*calls[:20])
        await self.wait(0.2)
        self.workers(1, "--queue-type", queue_type)
        self.assertEqual(list(range(20, 30)), [await call for call in calls[20:]])
        self.assertEqual(list(range(20, 30)), sorted(self.begun()))


class AbandonedTests(CancelTestCase):
    """Callers that leave while no worker is there."""

    async def test_calls_whose_caller_is_gone_are_skipped(self) -> None:
        """Those of another caller run; none of either is left in the queue."""
        [worker] = self.workers(1)
        await worker.says("answers")
        worker.signal("TERM")
        await worker.ends()
        leaving, staying = await self.client(), await self.client()
        for number in range(20):
            call = leaving.call(f"{self.task}.careful", number)
            call.addErrback(lambda failure: failure.trap(ClientStoppedError) and None)
        await self.wait(0.2)
        await leaving.close()
        calls = [staying.call(f"{self.task}.careful", number) for number in range(20, 30)]
        self.workers(1)
        self.assertEqual(list(range(20, 30)), [await call for call in calls])
        self.assertEqual(list(range(20, 30)), sorted(self.begun()))
        [stats] = await staying.control("stats", self.task, expect=1, timeout=10)
        self.assertEqual((20, 10, 0), (stats["abandoned"], stats["processed"], stats["held"]))
        self.assertEqual(0, staying.status().undecodable)
