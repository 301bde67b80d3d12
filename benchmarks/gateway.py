#!/usr/bin/env python3
"""
Requests a second of the web gateway, beside a plain Twisted resource that does the same work inline.

wrk posts two numbers to /call/test on many connections at once. Behind the
gateway the work goes through the broker to a worker, so that no request holds
up another; the plain resource does it on its reactor. For each are printed:
requests a second, errors, latencies, and for each process its CPU a request
and its memory before and after. The machine is as noisy as it is: of two runs,
compare the CPU. It exits with 1 if a request failed.

    python benchmarks/gateway.py                  # on a private RabbitMQ
    python benchmarks/gateway.py --broker URL     # on a running one
    python benchmarks/gateway.py --embedded       # on the embedded broker

It needs wrk (https://github.com/wg/wrk).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from calls import HERE, broker
from signing import cpu_of

TWISTD = str(Path(sys.executable).with_name("twistd"))
ANYWHERE = "--listen=tcp:0:interface=127.0.0.1"
#: Seconds before what is measured: some ten thousand requests fill what is remembered of the latest ones.
WARM_UP = 10
_LISTENS = re.compile(r"listens: (http://\S+)/")

#: What wrk runs; the first line that it prints in the end is for us.
SCRIPT = """
wrk.method = "POST"
wrk.path = "/call/test"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"x": 1, "y": 2}'

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"rate": %f, "requests": %d, "status": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d, '
      .. '"median": %f, "p90": %f, "p99": %f}\\n',
    summary.requests / summary.duration * 1e6, summary.requests, errors.status, errors.connect,
    errors.read, errors.write, errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3))
end
"""
ERRORS = ("status", "connect", "read", "write", "timeout")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--broker", help="an AMQP URL; without it a private RabbitMQ is started")
    parser.add_argument("--embedded", action="store_true", help="start the embedded broker instead")
    parser.add_argument("--seconds", type=int, default=30, help="of each measurement [30]")
    parser.add_argument("--connections", type=int, default=200, help="requests at a time [200]")
    parser.add_argument("--no-plain", action="store_true", help="measure the gateway alone")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not there: apt-get install wrk, or build it from https://github.com/wg/wrk")
    results = {"gateway": of_gateway(options)}
    if not options.no_plain:
        results["plain resource"] = of_plain(options)
    report(results)
    sys.exit(any(result[name] for result in results.values() for name in ERRORS))


def of_gateway(options: argparse.Namespace) -> dict[str, Any]:
    """With a broker and a worker of its own."""
    with ExitStack() as stack:
        url = stack.enter_context(_broker(options))
        tasks = str(HERE / "gateway_tasks.py")
        worker = stack.enter_context(program(url, TWISTD, "-n", "--pidfile=", "crew-worker", tasks))
        _wait_for(worker, re.compile("answers"))
        command = [TWISTD, "-n", "--pidfile=", "crew-gateway", ANYWHERE, "--allow-task=test"]
        gateway = stack.enter_context(program(url, *command))
        return measured(gateway, options, {"gateway": gateway.pid, "worker": worker.pid})


def of_plain(options: argparse.Namespace) -> dict[str, Any]:
    """In one process."""
    with program("", sys.executable, str(HERE / "gateway_plain.py")) as plain:
        return measured(plain, options, {"plain": plain.pid})


def measured(
    server: subprocess.Popen[str], options: argparse.Namespace, pids: dict[str, int]
) -> dict[str, Any]:
    """What wrk finds, and what it took of each process."""
    place = _wait_for(server, _LISTENS)[1]
    load(place, options.connections, WARM_UP)
    before = {name: (memory(pid), cpu_of(pid)) for name, pid in pids.items()}
    result = load(place, options.connections, options.seconds)
    result["processes"] = {
        name: (before[name][0], memory(pid), (cpu_of(pid) - before[name][1]) / result["requests"])
        for name, pid in pids.items()
    }
    return result


def load(place: str, connections: int, seconds: int) -> dict[str, Any]:
    """What wrk finds."""
    with NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT)
        script.flush()
        command = ["wrk", "-t2", f"-c{connections}", f"-d{seconds}s", "--timeout=10s", "-s", script.name]
        output = subprocess.run(
            [*command, place], stdout=subprocess.PIPE, text=True, check=True, timeout=seconds + 60
        ).stdout
    result: dict[str, Any] = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
    return result


@contextmanager
def program(url: str, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended after use."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("CREW_")}
    process = subprocess.Popen(
        command,
        env={**clean, "PYTHONPATH": str(HERE.parent), "PYTHONUNBUFFERED": "1", "CREW_BROKER": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


def memory(pid: int) -> float:
    """MiB that a process has in memory, where Linux says so; else 0."""
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        found = None
    return 0.0 if found is None else int(found[1]) / 1024


def report(results: dict[str, dict[str, Any]]) -> None:
    for name, result in results.items():
        failed = ", ".join(f"{result[error]} {error}" for error in ERRORS if result[error]) or "none"
        print(
            f"{name}: {result['rate']:,.0f} requests/s, {result['requests']:,} in all; "
            f"median {result['median']:.1f} ms, 90% {result['p90']:.1f} ms, 99% {result['p99']:.1f} ms; "
            f"errors: {failed}"
        )
        for process, (before, after, cpu) in result["processes"].items():
            took = f"{cpu * 1e6:.0f} us of CPU a request"
            print(f"  {process}: {took}; {before:.1f} MiB before, {after:.1f} MiB after")
    print(
        f"load average: {', '.join(f'{load:.2f}' for load in os.getloadavg())}; {os.cpu_count()} processors"
    )


@contextmanager
def _broker(options: argparse.Namespace) -> Iterator[str]:
    if not options.embedded:
        with broker(options.broker) as url:
            yield url
        return
    from _broker_process import broker_process

    with broker_process() as url:
        yield url


def _wait_for(process: subprocess.Popen[str], pattern: re.Pattern[str]) -> re.Match[str]:
    """Read until it says so."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if found := pattern.search(line):
            return found
    sys.exit("".join(["it did not start; it printed:\n", *said]))


if __name__ == "__main__":
    main()
