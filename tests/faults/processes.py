"""Worker processes that are started, killed and replaced, and what they take of the machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.integration.support import BrokerTestCase, Program

#: Names the workers' task.
TASK_VARIABLE = "CREW_TEST_TASK"
#: Names the file for the marks.
MARKS_VARIABLE = "CREW_TEST_MARKS"

_PROGRAM = Path(__file__).with_name("marking.py")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Workers:
    """
    Workers of one task, each a process.

    :param case: the test, after which none of them is left.
    :param url: the brokers.
    :param arguments: further options of each.
    :param spared: how many of the first are never killed.
    :ivar running: those that were not killed.
    """

    def __init__(
        self, case: BrokerTestCase, url: str, task_id: str, marks: Path, *arguments: str, spared: int = 0
    ) -> None:
        self._case = case
        self._arguments = ("--broker", url, "--logging=warn", "--drain=5", *arguments)
        self._environment = {TASK_VARIABLE: task_id, MARKS_VARIABLE: str(marks)}
        self._spared = spared
        self.running: list[Program] = []

    def start(self, count: int = 1) -> None:
        """Start some more; they connect in their own time."""
        for _ in range(count):
            self.running.append(self._case.process(_PROGRAM, *self._arguments, environment=self._environment))

    async def kill_one(self, random: Random) -> int:
        """Kill one by SIGKILL, wait for its end, and start another. :returns: the process id that it had."""
        program = self.running.pop(random.randrange(self._spared, len(self.running)))
        process = program.pid
        await self._kill(program)
        self.start()
        return process

    async def _kill(self, program: Program) -> None:
        if (ended := program.kill()) is not None:
            await ended

    async def stop(self) -> None:
        """Tell all to end, and wait for that: each has to end well."""
        running, self.running = self.running, []
        for program in running:
            program.signal("TERM")
        codes = [await program.ends() for program in running]
        output = "\n".join(program.output[-2000:] for program in running)
        self._case.assertEqual(codes, [0] * len(codes), output)


@dataclass(frozen=True)
class Usage:
    """
    What a process has of the machine.

    :ivar memory: resident bytes.
    """

    memory: int
    files: int
    threads: int


def usage_of(process: int) -> Usage:
    """:raises OSError: if it has ended."""
    folder = Path("/proc", str(process))
    memory = int((folder / "statm").read_text().split()[1]) * _PAGE
    # Behind the name in brackets: state, and sixteen others, then the number of threads.
    threads = int((folder / "stat").read_text().rpartition(")")[2].split()[17])
    return Usage(memory, len(list((folder / "fd").iterdir())), threads)


def slope(points: list[tuple[float, float]]) -> float:
    """That of the line with the least squares; 0 for fewer than two points."""
    count = len(points)
    if count < 2:
        return 0.0
    middle_x = sum(x for x, _ in points) / count
    middle_y = sum(y for _, y in points) / count
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0
