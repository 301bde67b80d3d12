"""
Run trial, and close with a line that counts: ``N passed, N failed``.

    python scripts/_counted_trial.py [TRIAL ARGUMENT...]

Errors count as failed, and so does a test that passes though it is marked as
failing; what fails as marked counts as passed. The exit code is trial's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from _child import child, exit_code, run_main

TRIAL = [sys.executable, "-u", "-X", "faulthandler", str(Path(__file__).resolve().parent / "_trial.py")]

SUMMARY = re.compile(r"(?:PASSED|FAILED)(?: \((.*)\))?\n?")

PASSED = ("successes", "expectedFailures")
FAILED = ("failures", "errors", "unexpectedSuccesses")
SKIPPED = ("skips",)


def main(arguments: list[str]) -> int:
    """Run trial, and count."""
    counts, code = run_trial(arguments)
    print("\ntrial ended without a summary" if counts is None else count_line(counts), flush=True)
    return code


def run_trial(arguments: list[str]) -> tuple[dict[str, int] | None, int]:
    """Run trial, and print what it prints; its counts, if it has come to a summary, and its exit code."""
    with child([*TRIAL, *arguments], piped=True) as trial:
        assert trial.stdout is not None
        counts = relay(trial.stdout)
        return counts, exit_code(trial)


def relay(lines: Iterable[str]) -> dict[str, int] | None:
    """Print what trial prints; return the counts of its summary, if there is one."""
    counts = None
    for line in lines:
        print(line, end="", flush=True)
        if found := SUMMARY.fullmatch(line):
            counts = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", found[1] or "")}
    return counts


def count_line(counts: dict[str, int]) -> str:
    """The closing line."""
    passed, failed, skipped = (
        sum(counts.get(name, 0) for name in group) for group in (PASSED, FAILED, SKIPPED)
    )
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


if __name__ == "__main__":
    run_main(main)
