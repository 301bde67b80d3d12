"""Where threads are just now."""

from __future__ import annotations

import types
from collections.abc import Callable
from threading import Event, Thread

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.tasks.stacks import stacks


class StackTests(SynchronousTestCase):
    """Of a thread that waits at a known line."""

    def setUp(self) -> None:
        self.waits, self.go_on = Event(), Event()

    def wait(self) -> None:
        self.waits.set()
        self.go_on.wait(10)  # here it stands

    def started(self, name: str, function: Callable[[], object]) -> None:
        """A thread that stands there."""
        thread = Thread(target=function, name=name, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 10)
        self.addCleanup(self.go_on.set)
        self.assertTrue(self.waits.wait(10))

    def test_the_innermost_is_the_last(self) -> None:
        """A line a frame: file, number, function, text; what leads to a task's first line is left out."""
        self.started("one", self.wait)
        [name] = found = stacks(["one", "nobody"])
        self.assertEqual(name, "one")
        first, *_, last = found["one"]
        self.assertIn(f"{__file__.removesuffix('c')}:", first)
        self.assertIn("in wait: self.go_on.wait(10)  # here it stands", first)
        self.assertIn("threading.py", last)

    def test_a_module_of_the_users_with_a_name_like_ours(self) -> None:
        """It is the user's."""
        module = types.ModuleType("threadingtools")
        exec("def run(function):\n    function()\n", vars(module))
        self.started("one", lambda: module.run(self.wait))
        self.assertIn("in run", "".join(stacks(["one"])["one"]))

    def test_a_deep_stack_is_cut(self) -> None:
        """Its innermost frames are kept."""

        def deeper(depth: int) -> None:
            if depth:
                deeper(depth - 1)
            else:
                self.wait()

        self.started("one", lambda: deeper(100))
        lines = stacks(["one"])["one"]
        self.assertEqual(len(lines), 50)
        self.assertIn("here it stands", "".join(lines))

    def test_a_long_line_is_cut(self) -> None:
        """So that an answer stays small."""
        namespace = {"wait": self.wait}
        code = compile(f"wait(){' ' * 10}", "f" * 1000, "exec")
        self.started("one", lambda: exec(code, namespace))
        self.assertEqual(max(map(len, stacks(["one"])["one"])), 500)

    def test_no_thread(self) -> None:
        """Nothing is asked for."""
        self.assertEqual(stacks([]), {})
