"""The scripts that can be tried without a broker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"

MODULE = """
from twisted.trial.unittest import SynchronousTestCase

class Tests(SynchronousTestCase):
    def test_passes(self): pass
    def test_passes_too(self): print("PASSED (successes=99)")
    def test_is_skipped(self): pass
    test_is_skipped.skip = "not today"
    def test_fails_as_marked(self): self.fail()
    test_fails_as_marked.todo = "some day"
"""

FAILING = """
    def test_fails(self): self.fail()
    def test_raises(self): 1 / 0
    def test_passes_though_marked(self): pass
    test_passes_though_marked.todo = "is done"
"""


class CountedTrialTests(SynchronousTestCase):
    """The line that closes a run of the tests."""

    def counted(self, source: str) -> tuple[int, list[str]]:
        """The exit code and the lines of a run of a made-up module."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "test_made_up.py").write_text(source)
        done = subprocess.run(
            [sys.executable, str(SCRIPTS / "_counted_trial.py"), "test_made_up"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.returncode, done.stdout.splitlines()

    def test_all_well(self) -> None:
        """Skipped ones are named apart; what fails as marked has passed."""
        code, lines = self.counted(MODULE)
        self.assertEqual((0, "3 passed, 0 failed, 1 skipped"), (code, lines[-1]))

    def test_failures_and_errors_are_failed(self) -> None:
        """As well as a pass that was not to be."""
        code, lines = self.counted(MODULE + FAILING)
        self.assertEqual((1, "3 passed, 3 failed, 1 skipped"), (code, lines[-1]))

    def test_a_run_that_dies_counts_nothing(self) -> None:
        """Its exit code is that of a failure."""
        code, lines = self.counted(MODULE + "    def test_dies(self): import os; os._exit(7)")
        self.assertEqual((7, "trial ended without a summary"), (code, lines[-1]))
