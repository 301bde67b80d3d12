"""A connection to RabbitMQ that is cut after so many bytes of an exchange: a sample of all the numbers."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random, SystemRandom
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from crew_tx import Client
from crew_tx.worker import Task
from tests.faults.proxy import ENDS, Proxy
from tests.faults.support import FaultTestCase, pause
from tests.integration.support import gathered
from tests.soak import say

#: Names the seed, to have a failure again.
SEED_VARIABLE = "CREW_TEST_SEED"
#: Exchanges of each side, and how many there are at a time.
_EXCHANGES = 150
_AT_A_TIME = 12
#: Seconds for one.
_PATIENCE = 30.0
#: Seconds in which the ack of an answer has left, which waits a little for more.
_ACKED = 0.2
#: Seconds in which a worker that was cut has all again that it had not settled.
_AGAIN = 2.0

#: Is given a proxy, and has an exchange by the next connection that comes to it.
Exchange = Callable[[Proxy], Awaitable[None]]


class RealCutTests(FaultTestCase):
    """
    A few turns at a time have one exchange cut after the other.

    :ivar runs: how often each call ran.
    """

    def setUp(self) -> None:
        super().setUp()
        self.seed = int(os.environ.get(SEED_VARIABLE) or SystemRandom().randrange(2**32))
        self.runs: Counter[str] = Counter()
        self.numbers = 0

    def task(self) -> Callable[..., Any]:
        """One that counts its runs."""

        @Task(self.name())
        def count(req: str) -> str:
            self.runs[req] += 1
            return req

        return count

    async def cut_often(self, turns: list[tuple[Proxy, Exchange]]) -> None:
        """
        Have one exchange that is whole, and then those that are cut.

        :param turns: a proxy for each turn, and what it does again and again.
        """
        proxy, exchange = turns[0]
        await exchange(proxy)
        sizes = dict(proxy.counts)
        random = Random(self.seed)
        cuts = [(end, random.randrange(sizes[end] + 1)) for end in random.choices(ENDS, k=_EXCHANGES)]
        begun = time.monotonic()

        async def turn(proxy: Proxy, exchange: Exchange) -> None:
            while cuts:
                end, size = cuts.pop()
                proxy.cut_next_after(end, size)
                try:
                    await exchange(proxy)
                except BaseException:
                    say(f"  failed when cut after {size} bytes of the {end}, with the seed {self.seed}")
                    raise

        await gathered([Deferred.fromCoroutine(turn(*each)) for each in turns])
        done = sum(proxy.cuts for proxy, _ in turns)
        took = time.monotonic() - begun
        say(f"  {done} of {_EXCHANGES} cut in {took:.0f} s, each of {sizes} bytes; the seed is {self.seed}")
        # How much leaves before the end is not always the same.
        self.assertGreater(done, 0.9 * _EXCHANGES)

    async def is_answered(self, client: Client, task: Callable[..., Any]) -> None:
        """A call has its answer."""
        self.numbers += 1
        call_id = f"call-{self.numbers:05}"
        called: Deferred[str] = client.call(_task_id(task), call_id, call_id=call_id, expiration=60)
        self.assertEqual(await called.addTimeout(_PATIENCE, reactor), call_id)  # type: ignore[arg-type]

    async def ran_once(self) -> None:
        """Each call did, also those that were delivered again after their answer."""
        await pause(_AGAIN)
        self.assertEqual(len(self.runs), self.numbers)
        self.assertEqual([call_id for call_id, runs in self.runs.items() if runs != 1], [])

    async def test_a_clients(self) -> None:
        """From the first byte on: log in, declare, consume, call, answer, ack."""
        count = self.task()
        await self.worker(count)

        async def exchange(proxy: Proxy) -> None:
            client = Client(reactor, proxy.url)
            client.startService()
            try:
                await self.is_answered(client, count)
                await pause(_ACKED)
            finally:
                await client.close()

        await self.cut_often([(self.proxy(), exchange) for _ in range(_AT_A_TIME)])
        await self.ran_once()

    async def test_a_workers(self) -> None:
        """From the first byte of its next connection on: log in, declare, consume, run, answer, ack."""
        client = await self.client()
        await self.cut_often([await self.worker_turn(client) for _ in range(_AT_A_TIME)])
        await self.ran_once()

    async def worker_turn(self, client: Client) -> tuple[Proxy, Exchange]:
        """A proxy, behind which is the one worker of a task."""
        count = self.task()
        proxy = self.proxy()
        worker = await self.worker(count, url=proxy.url)

        async def exchange(proxy: Proxy) -> None:
            proxy.cut()
            await self.is_answered(client, count)
            await pause(_ACKED)
            self.assertEqual(worker.status().in_progress, 0)

        return proxy, exchange


def _task_id(task: Callable[..., Any]) -> str:
    task_id: str = task.__crew_task__.task_id  # type: ignore[attr-defined]
    return task_id
