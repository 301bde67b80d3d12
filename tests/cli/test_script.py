"""Worker processes without ``twistd``."""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.cli.script import script_command, services_command


class CommandTests(SynchronousTestCase):
    """What a supervisor's children run."""

    def main(self, spec_name: str | None) -> None:
        main = ModuleType("__main__")
        if spec_name is not None:
            main.__spec__ = ModuleSpec(spec_name, None)
        self.patch(sys, "argv", ["work/w.py", "--forks=2", "--broker=amqp://u:secret@h"])
        self.patch(sys, "modules", {**sys.modules, "__main__": main})

    def test_a_script_is_run_again(self) -> None:
        """By its absolute path, without its arguments: they are in the environment."""
        self.main(None)
        self.assertEqual([sys.executable, os.path.abspath("work/w.py")], script_command())

    def test_a_module_is_run_again_by_its_name(self) -> None:
        """As a package is."""
        for name, expected in (("a.b", "a.b"), ("a.__main__", "a")):
            self.main(name)
            self.assertEqual([sys.executable, "-m", expected], script_command())

    def test_services_are_given_by_absolute_paths(self) -> None:
        """Dotted modules as they are."""
        self.assertEqual(
            [sys.executable, "-m", "crew_tx.cli.child", os.path.abspath("a.py"), "b.c"],
            services_command(["a.py", "b.c"]),
        )
