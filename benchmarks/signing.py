#!/usr/bin/env python3
"""
What signing costs: CPU a call of the client's and of the worker's process, with it and without.

The same job as in ``calls.py``, persistent calls, one client process and one
worker process, with the calls of one round in flight a hundred at a time.
Rounds alternate, and medians are printed. It exits with 1 if signing adds more
than 15% on either side.

    python benchmarks/signing.py                  # on a private RabbitMQ
    python benchmarks/signing.py --broker URL     # on a running one
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from statistics import median
from typing import Any

from calls import HERE, ROUND_LIMIT, broker

#: What it may add.
MOST = 0.15
#: As ``measure`` makes them.
_WARM_UP = 500
_SINGLE = 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--broker", help="an AMQP URL; without it a private RabbitMQ is started")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=20_000, help="calls of each round")
    parser.add_argument("--window", type=int, default=100, help="calls in flight")
    options = parser.parse_args()
    results: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    with broker(options.broker) as url:
        for number in range(options.rounds):
            for signed, rounds in results.items():
                rounds.append(run_round(url, signed, options))
                print(f"round {number + 1}: {'signed' if signed else 'plain'}: {rounds[-1]}", file=sys.stderr)
    sys.exit(max([report(side, results) for side in ("client", "worker")]) > MOST)


def run_round(url: str, signed: bool, options: argparse.Namespace) -> dict[str, float]:
    """Microseconds of CPU a call, of the client and of the worker; and calls a second."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    flags = ["--signed"] if signed else []
    working = subprocess.Popen(
        [sys.executable, HERE / "crew_worker.py", url, *flags],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert working.stdout is not None
        working.stdout.readline()
        begun = cpu_of(working.pid)
        counts = [str(options.calls), str(options.window), str(_SINGLE)]
        output = subprocess.run(
            [sys.executable, HERE / "crew_client.py", url, *counts, "--persistent", *flags],
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
            timeout=ROUND_LIMIT,
        ).stdout
        worker = (cpu_of(working.pid) - begun) / (options.calls + _WARM_UP + _SINGLE)
    finally:
        working.terminate()
        working.wait(30)
    said: dict[str, Any] = json.loads(output)
    return {"client": said["cpu"] * 1e6, "worker": worker * 1e6, "rate": said["rate"]}


def cpu_of(pid: int) -> float:
    """Seconds of CPU of a process, by the clock that Linux has for each (clock_getcpuclockid)."""
    return time.clock_gettime((~pid << 3) | 2)


def report(side: str, results: dict[bool, list[dict[str, float]]]) -> float:
    """:returns: what signing adds on one side."""
    plain, signed = (median(each[side] for each in results[kind]) for kind in (False, True))
    added = signed / plain - 1
    print(f"{side}: {plain:.1f} us a call, {signed:.1f} us signed: {added:+.1%}")
    return added


if __name__ == "__main__":
    main()
