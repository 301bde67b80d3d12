"""Hung tasks take nobody with them."""

from __future__ import annotations

import time
from statistics import median
from threading import Event
from threading import enumerate as living_threads
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from crew_tx import ExpirationError, TaskTimeoutError
from crew_tx.worker import Task
from tests.integration.support import BrokerTestCase, errored, gathered


class HungTests(BrokerTestCase):
    async def test_spinning_tasks_are_ended_and_others_go_on(self) -> None:
        """``SystemExit`` ends a spinning task in its thread; quick calls stay quick meanwhile."""

        @Task(self.name())
        def spin(req: Any) -> None:
            while True:
                pass

        @Task(self.name())
        def quick(req: Any) -> Any:
            return req

        worker = await self.worker(spin, quick)
        client = await self.client()
        begun = time.monotonic()
        hung = client.call(spin.__crew_task__.task_id, expiration=3, persistent=False)
        latencies = []
        for number in range(20):
            before = time.monotonic()
            self.assertEqual(await client.call(quick.__crew_task__.task_id, number), number)
            latencies.append(time.monotonic() - before)
        await errored(hung, TaskTimeoutError)
        self.assertTrue(3 <= time.monotonic() - begun < 4)
        self.assertLess(median(latencies), 0.1)
        self.assertEqual(worker.status().pool.stuck, ())

    async def test_fifty_hung_calls_leave_no_thread_behind(self) -> None:
        """Eight at a time; the pool has its size after that, and every thread is free."""

        @Task(self.name())
        def spin(req: Any) -> None:
            while True:
                pass

        @Task(self.name())
        def quick(req: Any) -> Any:
            return req

        worker = await self.worker(spin, quick)
        client = await self.client()
        for _ in range(7):
            calls = [client.call(spin.__crew_task__.task_id, expiration=0.3, timeout=0.3) for _ in range(8)]
            for call in calls:
                with self.assertRaises((TaskTimeoutError, ExpirationError)):
                    await call
        self.assertEqual(await client.call(quick.__crew_task__.task_id, 1), 1)
        while worker.status().pool.busy:
            await deferLater(reactor, 0.01, lambda: None)
        pool = worker.status().pool
        self.assertEqual((pool.size, pool.idle, pool.stuck), (8, 8, ()))
        self.assertLessEqual(
            len([thread for thread in living_threads() if thread.name.startswith("crew")]), 8
        )

    async def test_a_stuck_thread_is_quarantined_and_replaced(self) -> None:
        """A task that can't be interrupted is answered for and named; the pool keeps its size."""
        release = Event()
        self.addCleanup(release.set)

        @Task(self.name())
        def stuck(req: Any) -> None:
            release.wait(3600)

        @Task(self.name())
        def quick(req: Any) -> Any:
            return req

        worker = await self.worker(stuck, quick, threads=1)
        client = await self.client()
        await errored(
            client.call(stuck.__crew_task__.task_id, timeout=0.2, call_id="the stuck one"), TaskTimeoutError
        )
        answer = await client.call(quick.__crew_task__.task_id, 7, timeout=20)
        self.assertEqual(answer, 7)
        pool = worker.status().pool
        self.assertEqual([thread.call_id for thread in pool.stuck], ["the stuck one"])
        self.assertEqual((pool.size, pool.replaced), (1, 1))
        release.set()
        while worker.status().pool.stuck:
            await deferLater(reactor, 0.01, lambda: None)

    async def test_a_late_worker_shares_the_backlog(self) -> None:
        """A worker whose threads are all busy for long hands back what it has not started."""
        release = Event()
        self.addCleanup(release.set)
        ran: list[str] = []
        task = self.name()

        @Task(task)
        def hold(req: Any) -> None:
            release.wait(60)

        await self.worker(hold, threads=1, prefetch=50)
        client = await self.client()
        calls = [client.call(task, number) for number in range(10)]

        @Task(task)
        def count(req: Any) -> Any:
            ran.append(req)
            return req

        await self.worker(count, threads=1)
        answers = await gathered(calls[1:])
        self.assertEqual(answers, list(range(1, 10)))
        release.set()
        await calls[0]
