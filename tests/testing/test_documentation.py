"""Every example of docs/testing.md, run as a user's suite is."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import TestResult

from twisted.trial.unittest import SynchronousTestCase

import crew_tx.testing
from crew_tx.testing import HarnessBroker, Wire

PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"`(?:harness|connection)?\.?(\w+)\([^`]*\)`")


def namespace() -> dict[str, Any]:
    """What all blocks of the page together define: each sees those before it, as in one file."""
    text = PAGE.read_text()
    module = ModuleType("documented")
    for match in _BLOCK.finditer(text):
        # Errors name the page, and the line in it.
        lines = "\n" * (text.count("\n", 0, match.start()) + 1)
        exec(compile(lines + match[1], str(PAGE), "exec"), vars(module))
    return vars(module)


def suites() -> Iterator[type[SynchronousTestCase]]:
    """The test cases of the page."""
    for value in namespace().values():
        if isinstance(value, type) and issubclass(value, SynchronousTestCase):
            if value is not SynchronousTestCase:
                yield value


class DocumentationTests(SynchronousTestCase):
    """The page."""

    def setUp(self) -> None:
        def never(*args: object, **kwargs: object) -> None:
            raise AssertionError("a socket was opened, or a thread was started")

        self.patch(socket, "socket", never)
        self.patch(threading.Thread, "start", never)

    def test_every_example_passes(self) -> None:
        """Each test in it, without a socket or a thread."""
        ran = 0
        for suite in suites():
            for name in sorted(filter(lambda each: each.startswith("test_"), dir(suite))):
                result = TestResult()
                suite(name).run(result)
                faults = [text for _, text in [*result.failures, *result.errors]]
                self.assertEqual(faults, [], f"{suite.__name__}.{name}")
                ran += result.testsRun
        self.assertGreaterEqual(ran, 12)

    def test_each_fault_that_it_lists_is_there(self) -> None:
        """And each that is there is listed."""
        text = PAGE.read_text()
        listed = {
            name for row in re.findall(r"^\| `.*?\|", text, re.MULTILINE) for name in _NAME.findall(row)
        }
        faults = _methods(HarnessBroker) | _methods(Wire)
        self.assertEqual(listed, faults - {"queue", "discard", "pump", "wake"})

    def test_it_names_only_what_can_be_imported(self) -> None:
        """From ``crew_tx.testing``, which has at most a dozen names."""
        self.assertLessEqual(len(crew_tx.testing.__all__), 12)
        for name in crew_tx.testing.__all__:
            self.assertTrue(hasattr(crew_tx.testing, name), name)
        imported = re.findall(r"^\s*from crew_tx\.testing import (.*)$", PAGE.read_text(), re.MULTILINE)
        names = {name.strip() for line in imported for name in line.split(",")}
        self.assertLessEqual(names, set(crew_tx.testing.__all__))


def _methods(kind: type) -> set[str]:
    return {name for name, value in vars(kind).items() if callable(value) and not name.startswith("_")}
