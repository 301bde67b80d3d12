"""Tasks in processes of their own, which limits and cancels really end."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from crew_tx import Client, RemoteError, TaskTimeoutError
from tests.integration.support import PATIENCE, BrokerTestCase, Program, errored, gathered

SCRIPT = """\
import os, re, signal, subprocess, sys, time
from crew_tx.worker import Task, context, run

@Task("{name}.hang", isolation="process")
def hang(req):
    # re holds the interpreter's lock in C, for longer than the world will stand.
    if req:
        with open(req, "w") as file:
            file.write(str(os.getpid()))
    re.match(r"(a+)+$", "a" * 60 + "b")

@Task("{name}.tree", isolation="process")
def tree(req):
    child = subprocess.Popen(["sleep", "1000"])
    with open(req, "w") as file:
        file.write(str(child.pid))
    child.wait()

@Task("{name}.tell", isolation="process")
def tell(req):
    context.headers["pid"] = os.getpid()
    context.pubsub.publish("{name}.news", req)
    print("printed by a process")
    return [req, context.settings.counter, context.request.headers.get("from"), context.request.time_left,
            os.environ.get("CREW_BROKER"), os.environ.get("HOME")]

@Task("{name}.set", isolation="process")
def set_counter(req):
    context.settings.counter += 1

@Task("{name}.die", isolation="process")
def die(req):
    if req == "exit":
        os._exit(3)
    if req == "garbage":
        os.write(4, b"x" * 100)
        time.sleep(100)
    os.kill(os.getpid(), getattr(signal, req))

@Task("{name}.nap", isolation="process")
def nap(req):
    time.sleep(req)
    return os.getpid()

@Task("{name}.thread")
def thread(req):
    time.sleep(req or 0)
    return req

{end}
"""

GUARDED = 'if __name__ == "__main__":\n    run(counter=7)'


class IsolationTests(BrokerTestCase):
    """One worker script, started as people start it."""

    client_: Client
    program: Program

    async def start(self, *arguments: object, end: str = GUARDED) -> None:
        """A worker, and a client of it."""
        self.task = self.name("isolated")
        script = self.script()
        script.write_text(SCRIPT.format(name=self.task, end=end))
        for name in ("hang", "tree", "tell", "set", "die", "nap", "thread"):
            self.name(f"{self.task}.{name}")
        program = self.process(script, "--broker", self.url, "--processes=2", *arguments)
        await program.says("answers")
        self.client_ = await self.client()
        self.program = program

    def call(self, name: str, data: object = None, **options: Any) -> Deferred[Any]:
        return self.client_.call(f"{self.task}.{name}", data, **options)

    def path(self) -> Path:
        return Path(self.mktemp()).absolute()

    async def test_a_task_that_holds_the_interpreter_is_ended_ten_times_over(self) -> None:
        """Each at its limit of a second; threads and other processes answer meanwhile."""
        await self.start()
        await self.call("nap", 0)
        for _ in range(10):
            begun = time.monotonic()
            hung = errored(self.call("hang", timeout=1), TaskTimeoutError)
            waiting = Deferred.fromCoroutine(hung)
            await gathered([self.call("thread", 0, timeout=5) for _ in range(20)])
            self.assertLess(time.monotonic() - begun, 1)
            in_process = self.call("nap", 0, timeout=10)
            await waiting
            self.assertTrue(1 <= time.monotonic() - begun < 2, time.monotonic() - begun)
            await in_process
        (stats,) = await self.client_.control("stats", self.task + ".hang", timeout=10, expect=1)
        self.assertEqual(stats["processes"]["killed"], 10)
        self.assertEqual(stats["timeouts"], 10)

    async def test_a_call_goes_there_and_back(self) -> None:
        """With its headers, the settings of run(), the reply's headers and events; without secrets."""
        await self.start()
        heard: list[Any] = []
        subscription = await self.client_.subscribe(f"{self.task}.news", heard.append)
        self.addCleanup(subscription.cancel)
        reply = await self.client_.request(
            f"{self.task}.tell", {"a": [1]}, headers={"from": "me"}, timeout=20
        )
        data, counter, header, left, broker, home = reply.value
        self.assertEqual(
            (data, counter, header, broker, home), ({"a": [1]}, 7, "me", None, os.environ.get("HOME"))
        )
        self.assertTrue(0 < left < 20)
        self.assertNotEqual(reply.headers["pid"], self.program.pid)
        while not heard:
            await deferLater(reactor, 0.01, lambda: None)
        self.assertEqual(heard, [{"a": [1]}])
        self.assertIn("printed by a process", self.program.output)
        error = await errored(self.call("set"), RemoteError)
        self.assertEqual(error.type, "AttributeError")
        self.assertIn("can't be set here", error.message)

    async def test_large_bodies_cross(self) -> None:
        """A megabyte, both ways."""
        await self.start()
        data = os.urandom(1_000_000)
        self.assertEqual((await self.call("tell", data))[0], data)

    async def test_a_process_that_dies_is_answered_for(self) -> None:
        """By exit, by a signal, or since it broke the rules; the worker goes on."""
        await self.start()
        for how, said in (("exit", "exit code 3"), ("SIGSEGV", "SIGSEGV"), ("garbage", "breaks the rules")):
            error = await errored(self.call("die", how), RemoteError)
            self.assertEqual(error.type, "crew_tx.errors.TaskProcessDiedError")
            self.assertIn(said, error.message)
        self.assertIsInstance(await self.call("nap", 0), int)

    async def test_a_cancel_kills_and_what_a_task_started_goes_as_well(self) -> None:
        """The whole group of processes."""
        await self.start()
        path = self.path()
        call = self.call("tree", str(path))
        grandchild = await self.pid_in(path)
        call.cancel()
        await errored(call, CancelledError)
        await self.gone(grandchild)

    async def test_a_worker_that_is_killed_leaves_no_process(self) -> None:
        """Not even one that holds the interpreter."""
        await self.start()
        path = self.path()
        self.call("hang", str(path)).addErrback(lambda failure: None)
        child = await self.pid_in(path)
        begun = time.monotonic()
        self.program.signal("KILL")
        await self.gone(child)
        self.assertLess(time.monotonic() - begun, 1.5)
        await self.program.ends()

    async def test_a_drain_waits_for_what_runs(self) -> None:
        """And ends the processes."""
        await self.start()
        await self.call("nap", 0)
        call = self.call("nap", 1)
        await deferLater(reactor, 0.3, lambda: None)
        self.program.signal("TERM")
        child = await call
        self.assertEqual(await self.program.ends(), 0)
        await self.gone(child)

    async def test_full_processes_keep_no_thread_task_waiting_and_the_other_way_round(self) -> None:
        """Each kind has room of its own."""
        await self.start("--threads=1")
        naps = [self.call("nap", 1.5) for _ in range(8)]
        begun = time.monotonic()
        await gathered([self.call("thread", 0) for _ in range(20)])
        self.assertLess(time.monotonic() - begun, 1.4)
        await gathered(naps)
        waiting = [self.call("thread", 1) for _ in range(3)]
        begun = time.monotonic()
        await self.call("nap", 0)
        self.assertLess(time.monotonic() - begun, 0.9)
        await gathered(waiting)

    async def test_a_module_that_a_process_cannot_import_is_told(self) -> None:
        """In the log at the start, and to callers."""
        end = """
if os.environ.get("FIRST", "") != "":
    raise RuntimeError("no second time")
os.environ["FIRST"] = "1"
run(counter=7)
"""
        await self.start(end=end)
        error = await errored(self.call("nap", 0), RemoteError)
        self.assertIn("no second time", error.message)
        self.assertIn("no second time", self.program.output)
        self.assertEqual(await self.call("thread", 0), 0)

    async def pid_in(self, path: Path) -> int:
        """The number that a task writes into a file."""
        until = time.monotonic() + PATIENCE
        while not path.exists() or not path.read_text():
            self.assertLess(time.monotonic(), until)
            await deferLater(reactor, 0.01, lambda: None)
        return int(path.read_text())

    async def gone(self, pid: int) -> None:
        """Wait until a process is no more, or waits for nothing but to be reaped."""
        until = time.monotonic() + PATIENCE
        while _runs(pid):
            self.assertLess(time.monotonic(), until, "it still runs")
            await deferLater(reactor, 0.01, lambda: None)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
