"""The script that runs tests on one version of RabbitMQ after the other; no broker, no trial."""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.testing.rabbitmq import RabbitMQError, RabbitMQMissingError

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

WELL = ({"successes": 3, "skips": 1}, 0)
ILL = ({"successes": 2, "failures": 1}, 1)
DEAD = (None, 7)


class BrokersTests(SynchronousTestCase):
    """
    What is run, printed and returned.

    :ivar came: what comes of trial on each version; of one that isn't here, nothing is run.
    :ivar ran: the broker and the tests of each run.
    """

    def setUp(self) -> None:
        self.patch(sys, "path", [str(SCRIPTS), *sys.path])
        self.script: Any = import_module("_brokers")
        self.came: dict[str, Any] = {"3.10": WELL, "4.0": WELL, "4.3": WELL}
        self.ran: list[tuple[str, list[str]]] = []
        self.living: list[str] = []
        self.patch(os, "environ", {})
        self.patch(sys, "stdout", io.StringIO())
        self.patch(self.script, "install_rabbitmq", self.install)
        self.patch(self.script, "RabbitMQNode", self.node)
        self.patch(self.script, "run_trial", self.trial)

    def install(self, version: str) -> None:
        if isinstance(error := self.came.get(version, RabbitMQMissingError("not known")), Exception):
            raise error

    def node(self, *, version: str) -> MadeUpNode:
        return MadeUpNode(version, self.living)

    def trial(self, tests: list[str]) -> Any:
        self.assertEqual([os.environ["BROKER"]], self.living)
        self.assertEqual(os.environ["BROKER"], os.environ["CREW_TEST_RABBITMQ_VERSION"])
        self.ran.append((os.environ["BROKER"], tests))
        return self.came[os.environ["BROKER"]]

    def run_script(self, *arguments: str) -> tuple[int, list[str]]:
        """The exit code, and the lines that come last."""
        code = self.script.main(list(arguments))
        printed: str = sys.stdout.getvalue()  # type: ignore[attr-defined]
        return code, printed.rpartition("\n\n")[2].splitlines()

    def test_all_well(self) -> None:
        """The contract and the fault suite on each version in turn; each node ends before the next starts."""
        counted = "3 passed, 0 failed, 1 skipped"
        lines = [f"RabbitMQ {version}.9: {counted}" for version in self.came]
        self.assertEqual((0, lines), self.run_script("all"))
        suites = ["tests.contract", "tests.faults"]
        self.assertEqual([(version, suites) for version in self.came], self.ran)
        self.assertEqual([], self.living)

    def test_those_that_are_asked_for(self) -> None:
        """In that order, with those tests."""
        code, lines = self.run_script("4.3,3.10", "tests.some", "--until-failure")
        self.assertEqual((0, 2), (code, len(lines)))
        tests = ["tests.some", "--until-failure"]
        self.assertEqual([("4.3", tests), ("3.10", tests)], self.ran)

    def test_one_fails(self) -> None:
        """The next ones are run all the same."""
        self.came |= {"3.10": ILL, "4.0": DEAD}
        lines = [
            "RabbitMQ 3.10.9: 2 passed, 1 failed",
            "RabbitMQ 4.0.9: trial ended without a summary",
            "RabbitMQ 4.3.9: 3 passed, 0 failed, 1 skipped",
        ]
        self.assertEqual((1, lines), self.run_script("all"))

    def test_one_is_not_here(self) -> None:
        """Of all, it is passed over; by name, it has to be there."""
        self.came["4.0"] = RabbitMQMissingError("needs root")
        code, lines = self.run_script("all")
        self.assertEqual((0, "RabbitMQ 4.0: not run: needs root"), (code, lines[1]))
        self.assertEqual(["3.10", "4.3"], [version for version, _ in self.ran])
        code, lines = self.run_script("3.10,4.0")
        self.assertEqual((1, "RabbitMQ 4.0: not run: needs root"), (code, lines[1]))

    def test_none_is_here(self) -> None:
        """Nothing was tested, and nothing is well."""
        self.came = {}
        code, lines = self.run_script("all")
        self.assertEqual((1, 3), (code, len(lines)))

    def test_one_does_not_start(self) -> None:
        """That is a failure, whoever asked."""
        self.came["4.3"] = RabbitMQError("ended before it was up")
        code, lines = self.run_script("all")
        self.assertEqual((1, "RabbitMQ 4.3: failed to start: ended before it was up"), (code, lines[2]))


class MadeUpNode:
    """A node that lives as long as its context."""

    def __init__(self, version: str, living: list[str]) -> None:
        self.version = f"{version}.9"
        self.variables = {"BROKER": version}
        self._living = living

    def __enter__(self) -> MadeUpNode:
        self._living.append(self.variables["BROKER"])
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._living.remove(self.variables["BROKER"])
