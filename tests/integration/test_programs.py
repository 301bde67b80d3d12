"""Workers as people run them: twistd, twist and a script, in processes of their own."""

from __future__ import annotations

import os
import time
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from crew_tx import Client, ExpirationError, TaskTimeoutError
from crew_tx.testing.rabbitmq import RabbitMQNode
from crew_tx.worker import Task
from tests.integration.support import BrokerTestCase, Program, errored

ARTICLE = """\
# encoding: utf-8
from crew_tx.worker import run, context, Task
@Task('{test}')
def long_task(req):
    context.settings.counter += 1
    return 'Wake up Neo.\\n'
@Task('{dead}')
def infinite_loop_task(req):
    while True:
        pass
@Task('{stat}')
def get_counter(req):
    context.settings.counter += 1
    return 'I\\'m worker "%s". And I serve %s tasks' % (context.settings.uuid, context.settings.counter)
run(
    counter=0,      # This is a part of this worker context
)
"""

MARKING = """\
import os, time
from crew_tx.worker import Task, run

@Task({task!r})
def mark(req):
    with open(os.path.join({folder!r}, "%s.%s" % (req, os.urandom(4).hex())), "w"):
        pass
    time.sleep(0.002)
    return req

if __name__ == "__main__":
    run()
"""

STUCK = """\
import time
from crew_tx.worker import Task, run

@Task({task!r})
def stuck(req):
    time.sleep(3600)

run()
"""


class ArticleTests(BrokerTestCase):
    async def start(self, **tasks: str) -> Program:
        file = self.script()
        file.write_text(ARTICLE.format(**tasks))
        address = urlsplit(self.url)
        worker = self.process(file, "-H", address.hostname, "-P", address.port, "--logging=info")  # type: ignore[arg-type]
        await worker.says("answers")
        return worker

    async def test_the_articles_worker_runs_with_its_import_changed(self) -> None:
        """crew's own example: a priority, a hung task ended while others go on, and no thread left behind."""
        tasks = {name: self.name(name) for name in ("test", "dead", "stat")}
        worker = await self.start(**tasks)
        client = await self.client()
        self.assertEqual(await client.call(tasks["test"], priority=100), "Wake up Neo.\n")
        self.assertIn("And I serve 2 tasks", await client.call(tasks["stat"], persistent=False))

        begun = time.monotonic()
        hung = client.call(tasks["dead"], persistent=False, priority=255, expiration=3)
        latencies = []
        for _ in range(20):
            before = time.monotonic()
            await client.call(tasks["stat"])
            latencies.append(time.monotonic() - before)
        await errored(hung, TaskTimeoutError)
        self.assertTrue(3 <= time.monotonic() - begun < 4)
        self.assertLess(median(latencies), 0.1)

        threads = len(os.listdir(f"/proc/{worker.pid}/task"))
        for _ in range(7):
            calls = [client.call(tasks["dead"], expiration=0.3) for _ in range(8)]
            for call in calls:
                with self.assertRaises((TaskTimeoutError, ExpirationError)):
                    await call
        self.assertIn("I'm worker", await client.call(tasks["stat"]))
        self.assertLessEqual(len(os.listdir(f"/proc/{worker.pid}/task")), max(threads, 10))

    async def test_a_worker_with_a_stuck_thread_ends_when_told(self) -> None:
        """A thread that sleeps for an hour holds neither its caller nor the end of the process."""
        task = self.name("stuck")
        file = self.script()
        file.write_text(STUCK.format(task=task))
        worker = self.process(file, "--drain", "1", environment={"CREW_BROKER": self.url})
        await worker.says("answers")
        client = await self.client()
        await errored(client.call(task, timeout=0.3), TaskTimeoutError)
        worker.signal("TERM")
        self.assertEqual(await worker.ends(), 0)


class DrainTests(BrokerTestCase):
    """SIGTERM to one of two workers while a thousand calls are out."""

    async def drained(self, *command: str) -> None:
        task = self.name("mark")
        file = self.script()
        folder = file.with_suffix("")
        folder.mkdir()
        file.write_text(MARKING.format(task=task, folder=str(folder)))
        environment = {"CREW_BROKER": self.url}
        workers = [self.process(*command, file, environment=environment) for _ in range(2)]
        for worker in workers:
            await worker.says("answers")
        client = await self.client()
        calls = [client.call(task, number) for number in range(1000)]
        while client.status().answers < 200:
            await deferLater(reactor, 0.01, lambda: None)
        workers[0].signal("TERM")
        self.assertLess(client.status().answers, 1000)
        self.assertEqual(await workers[0].ends(), 0)
        self.assertEqual(await gatherResults(calls), list(range(1000)))
        marks = sorted(int(mark.split(".")[0]) for mark in os.listdir(folder))
        self.assertEqual(marks, list(range(1000)))
        status = client.status()
        self.assertEqual((status.duplicate_replies, status.late_replies), (0, 0))
        workers[1].signal("INT")
        self.assertEqual(await workers[1].ends(), 0)

    async def test_under_twistd(self) -> None:
        """1,000 marks, 1,000 answers, exit code 0."""
        await self.drained(
            "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", "crew-worker"
        )

    async def test_under_twist(self) -> None:
        """The same by Twisted's newer runner."""
        # As its script does it: older ones need setuptools for "python -m twisted".
        await self.drained(
            "-c", "from twisted.application.twist._twist import Twist; Twist.main()", "crew-worker"
        )

    async def test_as_a_script(self) -> None:
        """The same for ``python worker.py``."""
        await self.drained()


class ClientTests(BrokerTestCase):
    async def test_two_clients_in_one_process(self) -> None:
        """Each has its own queue, and its own answers."""
        task = self.name()

        @Task(task)
        def echo(req: Any) -> Any:
            return req

        await self.worker(echo)
        first, second = await self.client(name="first"), await self.client(name="second")
        answers = await gatherResults(
            [client.call(task, [client.client_id, n]) for n in range(50) for client in (first, second)]
        )
        self.assertEqual(answers, [[client.client_id, n] for n in range(50) for client in (first, second)])
        self.assertEqual((first.status().answers, second.status().answers), (50, 50))

    async def test_one_client_in_each_of_four_processes(self) -> None:
        """A program of a few lines, four times."""
        task = self.name()

        @Task(task)
        def double(req: Any) -> Any:
            return 2 * req

        await self.worker(double)
        file = self.script()
        file.write_text(
            "from twisted.internet import task\n"
            "from crew_tx import Client\n"
            "async def main(reactor):\n"
            "    client = Client(reactor)\n"
            "    await client.connect()\n"
            f"    print([await client.call({task!r}, n) for n in range(20)])\n"
            "    await client.close()\n"
            "task.react(main)\n"
        )
        programs = [self.process(file, environment={"CREW_BROKER": self.url}) for _ in range(4)]
        for program in programs:
            self.assertEqual(await program.ends(), 0, program.output)
            self.assertIn(str([2 * n for n in range(20)]), program.output)

    async def test_a_client_made_before_the_broker_is_up(self) -> None:
        """Calls wait for the broker; so does a worker."""
        node = RabbitMQNode()
        node.start()
        url = node.url
        node.kill()
        self.addCleanup(node.stop)
        client = Client(reactor, url)
        client.startService()
        self.addCleanup(client.close)
        task = "before"
        file = self.script()
        file.with_suffix("").mkdir()
        file.write_text(MARKING.format(task=task, folder=str(file.with_suffix(""))))
        worker = self.process(file, environment={"CREW_BROKER": url})
        connecting = client.connect(timeout=50)
        await worker.says("no connection")
        node.start()
        await worker.says("answers")
        await connecting
        self.assertEqual(await client.call(task, 5), 5)
