#!/usr/bin/env python3
"""
Calls a second, latency and CPU a call: crew_tx at its defaults beside pika's Twisted adapter.

Both do the same job on the same broker: a map of two numbers goes out, their
sum comes back, coded as CBOR. crew_tx runs its tasks in a thread pool, confirms
what it publishes, and acknowledges replies in a durable queue; pika's worker
answers inline with a prefetch of 100, its replies need no acks, and nothing is
confirmed. One client process and one worker process each; rounds alternate, and
the medians are printed. The machine is as noisy as it is: believe the ratios.

    python benchmarks/calls.py                  # on a private RabbitMQ
    python benchmarks/calls.py --broker URL     # on a running one
    python benchmarks/calls.py --embedded       # crew_tx alone, on the embedded broker and on a RabbitMQ

With ``--embedded`` the two brokers are compared, and it exits with 1 if the
embedded one answers less than a quarter as many calls a second.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "scripts")]

#: A name to show, the client's and the worker's script, and arguments of the client.
CONTENDERS = {
    "crew_tx": ("crew_client.py", "crew_worker.py", ["--persistent"]),
    "crew_tx, persistent=False": ("crew_client.py", "crew_worker.py", []),
    "pika's Twisted adapter": ("pika_client.py", "pika_worker.py", []),
}
#: What the embedded broker has to reach, of RabbitMQ's rate.
LEAST_RATIO = 0.25
ROUND_LIMIT = 300
_WIDTHS = (9, 7, 16, 7, 20, 7)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--broker", help="an AMQP URL; without it a private RabbitMQ is started")
    parser.add_argument("--embedded", action="store_true", help="compare the embedded broker with RabbitMQ")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=10_000, help="calls in flight mode, each round")
    parser.add_argument("--window", type=int, default=100, help="calls in flight")
    parser.add_argument("--single", type=int, default=500, help="calls one at a time, each round")
    options = parser.parse_args()
    if options.embedded:
        compare_brokers(options)
        return
    with broker(options.broker) as url:
        runs = {name: (name, url) for name in CONTENDERS}
        report(run_rounds(runs, options), "pika's Twisted adapter")


def compare_brokers(options: argparse.Namespace) -> None:
    from _broker_process import broker_process

    with broker(options.broker) as rabbitmq, broker_process() as embedded:
        brokers = {"on RabbitMQ": rabbitmq, "on the embedded broker": embedded}
        runs = {name: ("crew_tx", url) for name, url in brokers.items()}
        results = run_rounds(runs, options)
    report(results, "on RabbitMQ")
    theirs, ours = (median(each["rate"] for each in results[name]) for name in brokers)
    print(f"the embedded broker has {ours / theirs:.2f} of RabbitMQ's rate; {LEAST_RATIO} is due")
    sys.exit(ours / theirs < LEAST_RATIO)


def run_rounds(
    runs: dict[str, tuple[str, str]], options: argparse.Namespace
) -> dict[str, list[dict[str, Any]]]:
    """Each in turn, round after round; ``runs`` has a contender and a broker's URL for each."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in runs}
    for number in range(options.rounds):
        for name, (contender, url) in runs.items():
            results[name].append(run_round(contender, url, options))
            print(f"round {number + 1}: {name}: {results[name][-1]['rate']:.0f}/s", file=sys.stderr)
    return results


@contextmanager
def broker(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    from crew_tx.testing.rabbitmq import RabbitMQNode

    with RabbitMQNode() as node:
        yield node.url


def run_round(name: str, url: str, options: argparse.Namespace) -> dict[str, float]:
    client, worker, arguments = CONTENDERS[name]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    working = subprocess.Popen(
        [sys.executable, HERE / worker, url], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert working.stdout is not None
        working.stdout.readline()
        counts = [str(options.calls), str(options.window), str(options.single)]
        output = subprocess.run(
            [sys.executable, HERE / client, url, *counts, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
            timeout=ROUND_LIMIT,
        ).stdout
    finally:
        working.terminate()
        working.wait(30)
    result: dict[str, float] = json.loads(output)
    return result


def report(results: dict[str, list[dict[str, Any]]], base_name: str) -> None:
    base = {key: median(r[key] for r in results[base_name]) for key in ("rate", "latency", "cpu")}
    heads = ("calls/s", "ratio", "one at a time", "ratio", "client CPU a call", "ratio")
    print(f"{'':28}" + "".join(f"{head:>{width}}" for head, width in zip(heads, _WIDTHS, strict=True)))
    for name, rounds in results.items():
        rate, latency, cpu = (median(r[key] for r in rounds) for key in ("rate", "latency", "cpu"))
        print(
            f"{name:28}{rate:9.0f}{rate / base['rate']:7.2f}"
            f"{latency * 1e6:13.0f} us{latency / base['latency']:7.2f}"
            f"{cpu * 1e6:17.0f} us{cpu / base['cpu']:7.2f}"
        )


if __name__ == "__main__":
    main()
