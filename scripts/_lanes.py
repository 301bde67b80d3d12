"""
Run all tests in two lanes beside one another: most of them wait for processes, brokers and clocks.

    python scripts/_lanes.py

Each has a RabbitMQ of its own: a test that asks all workers something is answered by none
of the other lane's. What the one prints comes as it is printed, what the other prints behind it. The
last line counts both, and the exit code is that of the one that failed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import IO

from _child import STOP_SECONDS, child, exit_code, run_main
from _counted_trial import TRIAL, count_line, relay
from _with_broker import install_missing

from crew_tx.testing.rabbitmq import RabbitMQError

SCRIPTS = Path(__file__).resolve().parent
TESTS = SCRIPTS.parent / "tests"
WITH_BROKER = str(SCRIPTS / "_with_broker.py")
#: Seconds that a lane may take to end: its tests, and then its broker.
PATIENCE = 2 * STOP_SECONDS
#: About as long as all others.
FIRST = ("tests.cli", "tests.contract", "tests.faults")


class Reader(Thread):
    """Reads what a program prints while somebody else is listened to."""

    def __init__(self, lines: IO[str]) -> None:
        super().__init__(daemon=True)
        self._source = lines
        self.lines: list[str] = []

    def run(self) -> None:
        """Until the program has ended."""
        self.lines.extend(self._source)


def main(arguments: list[str]) -> int:
    """Run both lanes."""
    others = sorted(set(names()) - set(FIRST))
    try:
        # Here, so that they do not both do it.
        install_missing()
    except RabbitMQError as error:
        print(f"no broker: {error}", file=sys.stderr)
        return 1
    with (
        child(lane("first", FIRST), piped=True, patience=PATIENCE) as first,
        child(lane("second", others), piped=True, patience=PATIENCE) as second,
    ):
        assert first.stdout is not None and second.stdout is not None
        reader = Reader(first.stdout)
        reader.start()
        counted = [relay(second.stdout)]
        reader.join()
        counted.append(relay(reader.lines))
        return closed(counted, [first, second])


def closed(counted: list[dict[str, int] | None], lanes: list[subprocess.Popen[str]]) -> int:
    """Print the closing line. :returns: the exit code."""
    codes = [exit_code(lane) for lane in lanes]
    if None in counted:
        print("\ntrial ended without a summary", flush=True)
        return max([1, *codes])
    found = [counts for counts in counted if counts is not None]
    names = {name for counts in found for name in counts}
    print(count_line({name: sum(counts.get(name, 0) for counts in found) for name in names}), flush=True)
    return max(codes)


def lane(name: str, tests: tuple[str, ...] | list[str]) -> list[str]:
    """The command of a lane, with a broker and a folder of its own."""
    return [sys.executable, "-u", WITH_BROKER, *TRIAL, f"--temp-directory=_trial_temp_{name}", *tests]


def names() -> list[str]:
    """All packages and modules of tests."""
    packages = [f"tests.{each.parent.name}" for each in TESTS.glob("*/__init__.py")]
    return packages + [f"tests.{each.stem}" for each in TESTS.glob("test_*.py")]


if __name__ == "__main__":
    run_main(main)
