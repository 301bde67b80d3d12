"""All faults in random turns, under a steady load: what is left of memory, files, threads and queues."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random, SystemRandom
from typing import Any
from urllib.parse import urlencode

from twisted.internet.task import LoopingCall

from crew_tx.worker import THREADS
from tests.faults.load import EXPIRATION, TIMEOUT
from tests.faults.processes import TASK_VARIABLE, Usage, Workers, slope, usage_of
from tests.faults.support import FaultTestCase, in_thread, pause, until
from tests.integration.support import ROOT, Program
from tests.soak import minutes, say

_RATE = 150
_WORKERS = 4
_SAMPLE_EVERY = 5.0
#: The share of the time in which what is remembered up to a bound fills up.
_WARM_UP = 0.35
#: Where a run is so long, memory has to be flat: so many bytes a minute are the noise.
_LONG_MINUTES = 10.0
_FLAT = 512 * 1024
_KIB = 1024
_ALARM = "{resource_limit,memory,node()}"
_LEAST = 0.99
#: A reactor's, and a worker's pool.
_MOST_THREADS = {"client": 1, "worker": 1 + THREADS}


class FaultsSoak(FaultTestCase):
    """A client's process and a worker's go through all of it; other workers come and go."""

    timeout = 24 * 3600

    async def test_nothing_is_left(self) -> None:
        """Each call ends; memory is flat; no file, thread, queue or binding is there that was not before."""
        seed = SystemRandom().randrange(2**32)
        say(f"faults: {minutes():g} minutes, the seed {seed}")
        self.random = Random(seed)
        self.done: Counter[str] = Counter()
        await self.prepare()
        before = await in_thread(self.on_broker)
        await self.begin()
        first = self.sampled()
        sampling = LoopingCall(self.sample)
        sampling.start(_SAMPLE_EVERY)
        self.addCleanup(lambda: sampling.running and sampling.stop())
        self.order("load")
        await self.break_things(time.monotonic() + minutes() * 60)
        counts = await self.rest()
        sampling.stop()
        last = self.sampled()
        await self.stop()
        self.report(counts, first, last)
        self.assertEqual(await in_thread(self.on_broker), before)
        self.assertEqual(await in_thread(self.node.ctl, "list_connections", "pid"), "")
        self.check(counts, first, last)

    # -- who takes part ------------------------------------------------------------------

    async def prepare(self) -> None:
        """Have the task declared; its queue stays."""
        url = f"{self.url}?{urlencode({'heartbeat': 2})}"
        self.task_id = self.name("mark")
        self.marks = self.path()
        self.way = self.proxy(url)
        self.workers = Workers(self, url, self.task_id, self.marks, "--logging=info", spared=1)
        self.workers.start()
        await self.workers.running[0].says("answers")
        await self.workers.stop()

    async def begin(self) -> None:
        """Start the workers and the client."""
        self.workers.start(_WORKERS)
        for worker in self.workers.running:
            await worker.says("answers")
        variables = {"CREW_BROKER": self.way.url, TASK_VARIABLE: self.task_id, "CREW_TEST_RATE": str(_RATE)}
        self.caller = self.process(ROOT / "tests" / "faults" / "calling.py", environment=variables)
        await self.caller.says("connected")
        self.followed: dict[str, Program] = {"client": self.caller, "worker": self.workers.running[0]}
        self.memory: dict[str, list[tuple[float, float]]] = {name: [] for name in self.followed}
        # Once, so that what they start for good is there.
        self.order("load")
        await pause(2)
        await self.rest()
        self.caller.output = ""
        self.begun = time.monotonic()

    def order(self, what: str) -> None:
        """Tell the client."""
        self.caller.transport.write(f"{what}\n".encode())  # type: ignore[union-attr]

    async def rest(self) -> dict[str, Any]:
        """Let the client wait for all outcomes. :returns: what they were."""
        self.order("rest")
        try:
            await until(self.is_at_rest, 30, "the last outcome")
        except AssertionError:
            # The deadlines of what is missing tell its caller, long after: here is where it may be.
            fields = ("name", "messages_ready", "messages_unacknowledged", "consumers")
            say(await in_thread(self.node.ctl, "list_queues", *fields))
            stats = await (await self.client()).control("stats")
            say("\n".join(map(str, stats)))
            await until(self.is_at_rest, EXPIRATION + TIMEOUT + 30, "the last outcome")
        counts: dict[str, Any] = json.loads(self.caller.output.rpartition("rests")[2])
        return counts

    def is_at_rest(self) -> bool:
        """Whether the client has said so."""
        return "rests" in self.caller.output

    async def stop(self) -> None:
        """End all in good order."""
        self.order("end")
        self.assertEqual(await self.caller.ends(), 0, self.caller.output[-2000:])
        await self.workers.stop()

    def on_broker(self) -> list[str]:
        """The queues and bindings that there are."""
        queues = self.node.ctl("list_queues", "name", "--no-table-headers").splitlines()
        fields = ("source_name", "destination_name", "routing_key")
        return sorted(queues) + sorted(
            self.node.ctl("list_bindings", *fields, "--no-table-headers").splitlines()
        )

    # -- faults --------------------------------------------------------------------------

    async def break_things(self, end: float) -> None:
        """One thing after the other; each once at first, since memory that was taken is not given back."""
        often = [self.kill_worker, self.cut_client, self.stall_client, self.slow_client, self.freeze]
        faults: list[Callable[[], Awaitable[object]]] = [*often, self.alarm, self.kill_broker]
        first = self.random.sample(faults, len(faults))
        while time.monotonic() < end:
            fault = first.pop() if first else self.random.choice([*often, *faults])
            name = fault.__name__.replace("_", " ")
            self.done[name] += 1
            begun = time.monotonic() - self.begun
            said = await fault()
            say(f"  {begun:.1f} to {time.monotonic() - self.begun:.1f} s: {name} {said or ''}")
            await pause(self.random.uniform(0.5, 4))

    async def kill_worker(self) -> str:
        return f"{await self.workers.kill_one(self.random)}"

    async def cut_client(self) -> None:
        self.way.cut()

    async def stall_client(self) -> None:
        self.way.stall()
        await pause(self.random.uniform(1, 7))
        self.way.go_on()

    async def slow_client(self) -> None:
        self.way.slow(20_000)
        self.way.cut()
        await pause(self.random.uniform(2, 6))
        self.way.slow(0)
        self.way.cut()

    async def freeze(self) -> None:
        self.node.freeze()
        await pause(self.random.uniform(1, 7))
        self.node.thaw()

    async def alarm(self) -> None:
        await in_thread(self.node.ctl, "eval", f"rabbit_alarm:set_alarm({{{_ALARM},[]}}).")
        await pause(self.random.uniform(1, 5))
        await in_thread(self.node.ctl, "eval", f"rabbit_alarm:clear_alarm({_ALARM}).")

    async def kill_broker(self) -> None:
        await in_thread(self.node.kill)
        await pause(self.random.uniform(0, 3))
        await in_thread(self.node.start)

    # -- what they take --------------------------------------------------------------------

    def sampled(self) -> dict[str, Usage]:
        """What each takes now."""
        return {name: usage_of(program.pid) for name, program in self.followed.items()}

    def sample(self) -> None:
        """Note the memory."""
        for name, usage in self.sampled().items():
            self.memory[name].append((time.monotonic() - self.begun, usage.memory))

    def growth(self, name: str) -> float:
        """Bytes a minute, after the warm-up."""
        points = self.memory[name]
        return 60 * slope(points[int(len(points) * _WARM_UP) :])

    def report(self, counts: dict[str, Any], first: dict[str, Usage], last: dict[str, Usage]) -> None:
        """For people."""
        done = ", ".join(f"{name}: {count}" for name, count in sorted(self.done.items()))
        marks = sum(1 for _ in self.marks.open())
        lines = [f"  {done}", f"  calls: {counts}; runs: {marks}"]
        for name in self.followed:
            (a, b), grows = (first[name], last[name]), self.growth(name) / _KIB
            lines.append(
                f"  {name}: memory {a.memory // _KIB} to {b.memory // _KIB} KiB, "
                f"{grows:+.1f} KiB a minute after the warm-up; "
                f"files {a.files} to {b.files}; threads {a.threads} to {b.threads}"
            )
        failed = dict.fromkeys(re.findall(r"^failed (\S+)", self.caller.output, re.MULTILINE), "")
        for line in self.marks.open():
            call_id, process = line.split()
            if call_id in failed:
                failed[call_id] += f" {process}"
        lines.append(f"  failed calls, and the processes in which they ran: {failed}")
        say("\n".join(lines))

    def check(self, counts: dict[str, Any], first: dict[str, Usage], last: dict[str, Usage]) -> None:
        """Fail unless it balances."""
        self.assertEqual(counts["answered"] + sum(counts["reasons"].values()), counts["submitted"])
        self.assertEqual(counts["wrong"], 0)
        self.assertGreater(counts["answered"], _LEAST * counts["submitted"])
        for name in self.followed:
            self.assertLessEqual(last[name].files, first[name].files, name)
            self.assertLessEqual(last[name].threads, _MOST_THREADS[name], name)
            if minutes() >= _LONG_MINUTES:
                self.assertLess(self.growth(name), _FLAT, name)
