"""The examples of docs/rabbitmq-fixtures.md, run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from crew_tx.testing.rabbitmq import rabbitmq_missing

PAGE = Path(__file__).resolve().parents[2] / "docs" / "rabbitmq-fixtures.md"
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SECONDS = 120


class PageTests(SynchronousTestCase):
    """A test suite with a node, and a program with a cluster."""

    def setUp(self) -> None:
        if missing := rabbitmq_missing():
            raise SkipTest(missing)
        self.suite, self.program = _BLOCK.findall(PAGE.read_text())

    def run_python(self, *arguments: str) -> str:
        """What a Python program prints that has to end well."""
        done = subprocess.run(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
        )
        self.assertEqual(0, done.returncode, done.stdout)
        return done.stdout

    def test_the_suite_passes(self) -> None:
        """Under trial."""
        file = Path(self.mktemp()).absolute().with_suffix(".py")
        file.write_text(self.suite)
        folder = f"--temp-directory={file.with_suffix('')}"
        trial = "from twisted.scripts.trial import run; run()"
        self.assertIn("PASSED (successes=1)", self.run_python("-c", trial, folder, str(file)))

    def test_the_program_runs(self) -> None:
        """With one node of three away."""
        self.assertEqual(3, self.run_python("-c", self.program).count("amqp://"))
