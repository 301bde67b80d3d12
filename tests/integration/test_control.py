"""Commands to workers that are busy."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from crew_tx import Client
from tests.integration.support import BrokerTestCase

ROUNDS = 30

TASKS = """
import time
from crew_tx.worker import Task, run

@Task({spin!r})
def spin(req):
    while True:
        pass  # spins here

@Task({sleep!r})
def sleep(req):
    time.sleep(3600)  # sleeps here

run()
"""


class StuckTests(BrokerTestCase):
    """Every thread of a worker is stuck: half of them spin, half of them sleep."""

    async def busy(self) -> tuple[Client, str]:
        """A client, and the name of a worker that it has kept busy."""
        spin, sleep = self.name("spin"), self.name("sleep")
        script = self.script()
        script.write_text(TASKS.format(spin=spin, sleep=sleep))
        worker = self.process(
            script, "--threads", "8", "--name", "stuck", environment={"CREW_BROKER": self.url}
        )
        await worker.says("answers")
        self.addCleanup(worker.signal, "KILL")
        client = await self.client()
        calls = [client.call(task, timeout=600) for task in (spin, sleep) for _ in range(4)]
        for call in calls:
            call.addErrback(lambda _: None)
        while (await client.control("stats", "stuck", timeout=10, expect=1))[0]["busy"] < 8:
            pass
        return client, "stuck"

    async def test_it_answers_all_the_same(self) -> None:
        """In under 200 ms, by the median; and it says where each thread is."""
        client, name = await self.busy()
        answers: dict[str, Any] = {}
        for command in ("ping", "stats", "stacks"):
            latencies = []
            for _ in range(ROUNDS):
                begun = time.monotonic()
                [answers[command]] = await client.control(command, name, timeout=10, expect=1)
                latencies.append(time.monotonic() - begun)
            self.assertLess(median(latencies), 0.2, command)
        self.assertEqual(8, answers["stats"]["busy"])
        innermost = [each["stack"][-1] for each in answers["stacks"]["stacks"]]
        self.assertEqual(4, sum("# sleeps here" in line for line in innermost), innermost)
        self.assertEqual(4, sum("in spin:" in line for line in innermost), innermost)
