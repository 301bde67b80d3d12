#!/usr/bin/env python3
"""
How much sooner two worker processes count words than one.

The mapper of services/wordcount.py, with its combiner, on pieces of Python's own
library that are given out several times over, each counted ten times for one
answer, so that there is work for a processor; the caller reduces by key. Each
worker is a process with one thread, so that one has one processor's work. Rounds
alternate, and the medians are printed, with how much of a processor the caller
took beside, since it needs one as well. Every count is compared with a Counter's.

    python benchmarks/mapreduce.py                  # on a private RabbitMQ
    python benchmarks/mapreduce.py --broker URL     # on a running one
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain, repeat
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "services")]

WORKERS = (1, 2)
ROUND_LIMIT = 600
_SERVICE = HERE.parent / "services" / "wordcount.py"

#: Counting once is little beside the way there and back, which is the caller's and the broker's work.
_PROGRAM = """
import runpy

globals().update(runpy.run_path({service!r}))

from crew_tx.worker import Task, run

@Task("wordcount.heavy")
def heavy(text):
    for _ in range({work} - 1):
        count(text)
    return count(text)

run()
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--broker", help="an AMQP URL; without it a private RabbitMQ is started")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=int, default=3, help="how often the texts are given out, each round")
    parser.add_argument("--work", type=int, default=10, help="how often a worker counts each piece")
    parser.add_argument("--count", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count:
        count_once(options)
        return
    from calls import broker

    with broker(options.broker) as url:
        measure(url, options)


def measure(url: str, options: argparse.Namespace) -> None:
    results: dict[int, list[dict[str, float]]] = {workers: [] for workers in WORKERS}
    for number in range(options.rounds):
        for workers in WORKERS:
            results[workers].append(run_round(url, workers, options))
            seconds = results[workers][-1]["seconds"]
            print(f"round {number + 1}: {seconds:.2f} s with {workers}", file=sys.stderr)
    one, two = (median(each["seconds"] for each in results[workers]) for workers in WORKERS)
    for workers in WORKERS:
        seconds, caller = (median(each[key] for each in results[workers]) for key in ("seconds", "caller"))
        print(f"{workers} worker{'s'[: workers - 1]}: {seconds:.2f} s; the caller's own work: {caller:.2f} s")
    print(f"ratio: {one / two:.2f}, with {os.cpu_count()} processors")


def run_round(url: str, workers: int, options: argparse.Namespace) -> dict[str, float]:
    with started(url, workers, options.work):
        command = [sys.executable, __file__, "--count", "--broker", url, "--times", str(options.times)]
        output = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=ROUND_LIMIT).stdout
    result: dict[str, float] = json.loads(output)
    return result


@contextmanager
def started(url: str, count: int, work: int) -> Iterator[None]:
    """Workers that consume."""
    program = _PROGRAM.format(service=str(_SERVICE), work=work)
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "CREW_BROKER": url}
    command = [sys.executable, "-c", program, "--threads", "1"]
    with ExitStack() as stack:
        workers = [stack.enter_context(ended(command, environment)) for _ in range(count)]
        for worker in workers:
            assert worker.stdout is not None
            line = " "
            while "answers" not in line:
                line = worker.stdout.readline()
                assert line, "a worker did not start"
        yield


@contextmanager
def ended(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended after use."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


# -- the caller, a process of its own ----------------------------------------------------


def count_once(options: argparse.Namespace) -> None:
    from twisted.internet.task import react

    react(count, (options.broker, options.times))


async def count(reactor: Any, url: str, times: int) -> None:
    from wordcount import WORD, library, pieces

    from crew_tx import Client

    texts = list(pieces(library()))
    client = Client(reactor, url)
    await client.connect()
    # The first calls of a worker cost it more than others.
    await client.map_reduce_by_key("wordcount.heavy", operator.add, texts[:8])
    cpu, begun = time.process_time(), time.perf_counter()
    counted = await client.map_reduce_by_key(
        "wordcount.heavy", operator.add, chain.from_iterable(repeat(texts, times)), window=20
    )
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    await client.close()
    words = Counter(word for text in texts for word in WORD.findall(text.lower()))
    assert counted == {word: number * times for word, number in words.items()}
    json.dump({"seconds": seconds, "caller": cpu}, sys.stdout)


if __name__ == "__main__":
    main()
