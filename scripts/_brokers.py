"""
Run tests on one version of RabbitMQ after the other.

    python scripts/_brokers.py all|VERSION[,VERSION...] [TRIAL ARGUMENT...]

Without arguments for trial, the contract suite and the fault suite. The last lines count, one for
each version. A version that is asked for by name has to be there; of all those
that can be had, one that can't be had here is named and passed over.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from _child import run_main
from _counted_trial import count_line, run_trial

from crew_tx.testing.rabbitmq import RabbitMQError, RabbitMQMissingError, RabbitMQNode, install_rabbitmq

ALL = ("3.10", "4.0", "4.3")
SUITE = ("tests.contract", "tests.faults")

#: Names the version to the tests that start nodes of their own.
VERSION_VARIABLE = "CREW_TEST_RABBITMQ_VERSION"


class Outcome(NamedTuple):
    """
    What came of one version.

    :ivar ran: whether there was a broker to run the tests on.
    """

    line: str
    ran: bool
    failed: bool


def main(arguments: list[str]) -> int:
    """Run the tests on each version."""
    asked, *tests = arguments
    versions = ALL if asked == "all" else tuple(asked.split(","))
    outcomes = [outcome(version, tests or list(SUITE), required=asked != "all") for version in versions]
    print(flush=True)
    for each in outcomes:
        print(each.line, flush=True)
    return int(any(each.failed for each in outcomes) or not any(each.ran for each in outcomes))


def outcome(version: str, tests: list[str], *, required: bool) -> Outcome:
    """Run the tests on a version."""
    try:
        say(f"RabbitMQ {version}")
        install_rabbitmq(version)
        with RabbitMQNode(version=version) as node:
            os.environ.update(node.variables | {VERSION_VARIABLE: version})
            return ran(f"RabbitMQ {node.version}", tests)
    except RabbitMQMissingError as error:
        return Outcome(f"RabbitMQ {version}: not run: {error}", ran=False, failed=required)
    except RabbitMQError as error:
        return Outcome(f"RabbitMQ {version}: failed to start: {error}", ran=False, failed=True)


def ran(name: str, tests: list[str]) -> Outcome:
    """Run the tests on the broker that the environment names."""
    counts, code = run_trial(tests)
    text = "trial ended without a summary" if counts is None else count_line(counts)
    return Outcome(f"{name}: {text}", ran=True, failed=code != 0)


def say(text: str) -> None:
    """One line for a step, as the scripts print it."""
    print(f"== {text}", flush=True)


if __name__ == "__main__":
    run_main(main)
