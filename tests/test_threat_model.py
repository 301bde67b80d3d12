"""The threat model names tests for what it claims: they are there."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "threat-model.md"


class ThreatModelTests(SynchronousTestCase):
    """Its files, and the tests in them."""

    def setUp(self) -> None:
        if not PAGE.is_file():
            raise SkipTest("the tests do not run from the repository")
        self.page = PAGE.read_text()
        self.files = re.findall(r"`(tests/[\w/]+\.py)`", self.page)

    def test_the_files_are_there(self) -> None:
        """And several."""
        self.assertGreater(len(self.files), 5)
        for name in self.files:
            self.assertTrue((ROOT / name).is_file(), name)

    def test_the_tests_are_in_them(self) -> None:
        """Each in one that the page names."""
        there = "".join((ROOT / name).read_text() for name in self.files)
        named = re.findall(r"`(test_\w+)`", self.page)
        self.assertGreater(len(named), 20)
        self.assertEqual([], [name for name in named if f"def {name}(" not in there])
