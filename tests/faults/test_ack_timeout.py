"""
Tasks that run longer than the ack timeout of a real RabbitMQ, of five seconds.

Up to 4.2 it closes the channel of a consumer that keeps a delivery longer; 4.3
ends the consumer alone, and of quorum queues only. The call goes to others.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest

from crew_tx import Client
from crew_tx.testing.rabbitmq import RabbitMQNode, rabbitmq_missing
from tests.faults.support import VERSION_VARIABLE
from tests.integration.support import BrokerTestCase, Program

_ADVANCED = "[{rabbit,[{channel_tick_interval,1000},{consumer_timeout,5000}]}]."
_SECONDS = 9
_TASKS = """\
import os, time
from crew_tx.worker import Task, run

@Task({task!r})
def work(req):
    with open(os.path.join({folder!r}, os.urandom(8).hex()), "w") as mark:
        mark.write(str(req))
    time.sleep(req)
    return req

if __name__ == "__main__":
    run()
"""


class AckTimeoutTestCase(BrokerTestCase):
    """
    Tests with a broker of their own.

    :cvar version: that of the broker; None for the one that is installed.
    """

    timeout = 60
    version: str | None = None

    def setUp(self) -> None:
        if missing := rabbitmq_missing(self.version):
            raise SkipTest(missing)
        self.node = RabbitMQNode(version=self.version, advanced=_ADVANCED)
        self.addCleanup(self.node.stop)
        self.node.start()
        self.url = self.node.url
        # They go with the broker.
        self._queues = []

    async def workers(self, queue_type: str, *options: str, count: int = 2) -> tuple[str, Path]:
        """Workers of a task. :returns: its id, and where each run of it leaves a mark."""
        task, folder = self.name(), Path(self.mktemp()).absolute()
        folder.mkdir()
        script = self.script()
        script.write_text(_TASKS.format(task=task, folder=str(folder)))
        arguments = ("--broker", self.url, "--queue-type", queue_type, *options)
        self.programs: list[Program] = [self.process(script, *arguments) for _ in range(count)]
        for program in self.programs:
            await program.says(f" answers {task} from ")
        return task, folder

    async def once(self, client: Client, queue_type: str) -> None:
        """A call that takes long runs once, and is answered."""
        task, folder = await self.workers(queue_type, "--ack-timeout", "5")
        self.assertEqual(await client.call(task, _SECONDS, expiration=60), _SECONDS)
        # Time enough for another worker to have run it, too.
        await deferLater(reactor, 1.0, lambda: None)  # type: ignore[arg-type]
        self.assertEqual(len(list(folder.iterdir())), 1)
        self.assertNotIn("connecting anew", "".join(program.output for program in self.programs))


class InstalledTests(AckTimeoutTestCase):
    """On the version that is installed."""

    async def test_with_a_classic_queue(self) -> None:
        """It runs once, and its caller gets the answer."""
        await self.once(await self.client(), "classic")


class LatestTests(AckTimeoutTestCase):
    """On 4.3, where that is asked for: to make it takes longer than all of these."""

    version = "4.3"

    def setUp(self) -> None:
        if os.environ.get(VERSION_VARIABLE) != self.version:
            raise SkipTest("scripts/test --brokers 4.3 runs this")
        super().setUp()

    async def test_with_a_classic_queue(self) -> None:
        """The same, though nothing would happen to it there."""
        await self.once(await self.client(), "classic")

    async def test_with_a_quorum_queue(self) -> None:
        """The same."""
        await self.once(await self.client(), "quorum")

    async def test_a_consumer_that_the_broker_ended_is_begun_anew(self) -> None:
        """Where it is not told of the timeout: the connection stays, and the next call is answered."""
        client = await self.client()
        task, folder = await self.workers("quorum", "--ack-timeout", "0", count=1)
        long: Any = client.call(task, _SECONDS, expiration=60)
        [program] = self.programs
        await program.says("which is there: consuming anew")
        self.assertEqual(await client.call(task, 0, expiration=30), 0)
        self.assertEqual(await long, _SECONDS)
        self.assertEqual(len(list(folder.iterdir())), 2)
        self.assertEqual(await client.call(task, 0, expiration=30), 0)
