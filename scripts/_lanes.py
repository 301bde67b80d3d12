"""
Run all tests in two lanes beside one another: most of them wait for processes, brokers and clocks.

    python scripts/_lanes.py

What the one prints comes as it is printed, what the other prints behind it. The
last line counts both, and the exit code is that of the one that failed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import IO

from _child import child, exit_code, run_main
from _counted_trial import TRIAL, count_line, relay

TESTS = Path(__file__).resolve().parent.parent / "tests"
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
    with (
        child(trial("first", FIRST), piped=True) as first,
        child(trial("second", others), piped=True) as second,
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


def trial(name: str, tests: tuple[str, ...] | list[str]) -> list[str]:
    """The command of a lane, with a folder of its own."""
    options = [f"--temp-directory=_trial_temp_{name}"]
    return [sys.executable, "-u", "-X", "faulthandler", "-c", TRIAL, *options, *tests]


def names() -> list[str]:
    """All packages and modules of tests."""
    packages = [f"tests.{each.parent.name}" for each in TESTS.glob("*/__init__.py")]
    return packages + [f"tests.{each.stem}" for each in TESTS.glob("test_*.py")]


if __name__ == "__main__":
    run_main(main)
