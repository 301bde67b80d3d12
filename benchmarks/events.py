#!/usr/bin/env python3
"""
Events delivered a second: crew_tx beside aio-pika, on the same broker.

One process publishes EVENTS events, a window of them unconfirmed at a time, to
a channel that SUBSCRIBERS in another process are subscribed to; each has a
queue and a channel of its own, with a prefetch of 1,000, and acknowledges what
it had. Both encode a small map as CBOR. Each subscriber checks that every event
comes once and in order. Rounds alternate, and the medians are printed; the
machine is as noisy as it is: believe the ratio.

    python benchmarks/events.py                  # on a private RabbitMQ
    python benchmarks/events.py --broker URL     # on a running one

aio-pika and cbor2 may be in an environment of their own, since aio-pika has its
own mind about versions of what the tests use: its Python is named by
``--aio-pika-python``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from calls import broker

HERE = Path(__file__).resolve().parent
ROUND_LIMIT = 300
_WIDTHS = (13, 7, 17, 7, 14, 7)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--broker", help="an AMQP URL; without it a private RabbitMQ is started")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=2_000)
    parser.add_argument("--subscribers", type=int, default=50)
    parser.add_argument("--aio-pika-python", default=sys.executable)
    options = parser.parse_args()
    contenders = {
        "crew_tx": (sys.executable, HERE / "crew_events.py"),
        "aio-pika": (options.aio_pika_python, HERE / "aio_pika_events.py"),
    }
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    with broker(options.broker) as url:
        for number in range(options.rounds):
            for name, (python, script) in contenders.items():
                results[name].append(run_round(python, script, url, options))
                print(f"round {number + 1}: {name}: {results[name][-1]}", file=sys.stderr)
    report(results)


def run_round(python: str, script: Path, url: str, options: argparse.Namespace) -> dict[str, float]:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    counts = [str(options.events), str(options.subscribers)]
    subscribing = subprocess.Popen(
        [python, script, "subscribe", url, *counts], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert subscribing.stdout is not None
        subscribing.stdout.readline()
        subprocess.run(
            [python, script, "publish", url, *counts], env=environment, check=True, timeout=ROUND_LIMIT
        )
        result: dict[str, float] = json.loads(subscribing.stdout.readline())
    finally:
        subscribing.terminate()
        subscribing.wait(30)
    return result


def report(results: dict[str, list[dict[str, Any]]]) -> None:
    base = {key: median(each[key] for each in results["aio-pika"]) for key in ("rate", "cpu", "memory")}
    heads = ("delivered/s", "ratio", "CPU a delivery", "ratio", "peak memory", "ratio")
    print(f"{'':10}" + "".join(f"{head:>{width}}" for head, width in zip(heads, _WIDTHS, strict=True)))
    for name, rounds in results.items():
        rate, cpu, memory = (median(each[key] for each in rounds) for key in ("rate", "cpu", "memory"))
        print(
            f"{name:10}{rate:13.0f}{rate / base['rate']:7.2f}"
            f"{cpu * 1e6:14.1f} us{cpu / base['cpu']:7.2f}"
            f"{memory:11.0f} MB{memory / base['memory']:7.2f}"
        )


if __name__ == "__main__":
    main()
