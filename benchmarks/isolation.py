"""
What a call to a task in a process costs beside one in a thread.

    python benchmarks/isolation.py [URL] [CALLS]

One worker with one process and one thread, one call at a time, then eight in
flight. Each round does both kinds by turns; the medians of five are printed,
and what was still to wait for the first process when the worker was there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from statistics import median
from typing import Any

from twisted.internet.task import deferLater, react

from crew_tx import Client

from measure import in_flight  # isort: skip

CALLS = 500
ROUNDS = 5
URL = "amqp://guest:guest@127.0.0.1:5672/%2F"

WORKER = """
from crew_tx.worker import Task, run

@Task("benchmark.thread")
def in_thread(req):
    return req + 2

@Task("benchmark.process", isolation="process")
def in_process(req):
    return req + 2

if __name__ == "__main__":
    run()
"""


async def main(reactor: Any, url: str = URL, calls: str = str(CALLS)) -> None:
    """Measure, and print a line for each kind."""
    path = os.path.abspath(f"isolation-{os.getpid()}.py")
    with open(path, "w") as file:
        file.write(WORKER)
    command = [sys.executable, path, "--broker", url, "--processes=1", "--threads=1", "--logging=info"]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert worker.stdout is not None
    try:
        next(line for line in worker.stdout if "answers" in line)
        client = Client(reactor, url)
        await client.connect()
        begun = time.perf_counter()
        await client.call("benchmark.process", 1, timeout=30)
        print(f"{time.perf_counter() - begun:.2f} s until the first process had started")
        # The spare one starts meanwhile.
        await deferLater(reactor, 2)
        for window in (1, 8):
            await compare(client, int(calls), window)
        await client.close()
    finally:
        worker.terminate()
        worker.wait()
        os.remove(path)


async def compare(client: Client, calls: int, window: int) -> None:
    """Both kinds by turns."""
    rates: dict[str, list[float]] = {"thread": [], "process": []}
    for _ in range(ROUNDS):
        for kind, found in rates.items():
            found.append(await rate(client, f"benchmark.{kind}", calls, window))
    thread, process = (median(found) for found in rates.values())
    print(
        f"{window} in flight: thread {thread:,.0f}/s, {1e6 / thread:,.0f} us a call; "
        f"process {process:,.0f}/s, {1e6 / process:,.0f} us a call; "
        f"{thread / process:.2f} times, {1e6 / process - 1e6 / thread:,.0f} us more"
    )


async def rate(client: Client, task: str, calls: int, window: int) -> float:
    """Calls a second."""
    begun = time.perf_counter()
    await in_flight(lambda number: client.call(task, number, persistent=False), calls, window)
    return calls / (time.perf_counter() - begun)


if __name__ == "__main__":
    react(main, sys.argv[1:])
