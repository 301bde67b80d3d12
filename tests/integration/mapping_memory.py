"""How much memory a program takes that maps many items: a client and a worker, each a process."""

from __future__ import annotations

from tests.integration.support import BrokerTestCase

MIB = 1024 * 1024
#: Items between two looks.
STEP = 10_000

_WORKER = """\
from crew_tx.worker import Task, run

@Task({task!r})
def same(item):
    return item

run()
"""

_CLIENT = """\
import resource
import sys
from twisted.internet import task
from crew_tx import Client

async def main(reactor, name, count, step):
    client = Client(reactor)
    await client.connect()
    items = ("%07d" % number + "x" * 1017 for number in range(int(count)))
    number = 0
    async for value in client.map(name, items, window=200):
        assert int(value[:7]) == number and len(value) == 1024
        number += 1
        if number % int(step) == 0:
            print("done", number, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)
    await client.close()
    print("all done")

task.react(main, sys.argv[1:])
"""


class MemoryTestCase(BrokerTestCase):
    """Tests with items and results of 1 KiB each, in the order of the items."""

    timeout = 300

    async def peaks(self, count: int) -> tuple[int, int]:
        """:returns: the peak of the client's memory after one step, and after so many items, in bytes."""
        task = self.name("same")
        files = self.script(), self.script()
        for file, text in zip(files, (_WORKER.format(task=task), _CLIENT), strict=True):
            file.write_text(text)
        environment = {"CREW_BROKER": self.url}
        await self.process(files[0], environment=environment).says("answers")
        client = self.process(files[1], task, str(count), str(STEP), environment=environment)
        for number in range(STEP, count + 1, STEP):
            await client.says(f"done {number} ")
        self.assertEqual(0, await client.ends(), client.output)
        peaks = [int(line.split()[2]) for line in client.output.splitlines() if line.startswith("done ")]
        return peaks[0], peaks[-1]
