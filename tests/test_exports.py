"""The door: what ``import crew_tx`` gives, and that it is what the rooms have."""

from __future__ import annotations

import builtins
import inspect
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

import crew_tx
import crew_tx.client
import crew_tx.errors
import crew_tx.message
import crew_tx.tasks.context
import crew_tx.tasks.registry
import crew_tx.worker

#: More than that and nobody reads the list.
_MOST_NAMES = 25
_REACTOR = "import sys, crew_tx, crew_tx.worker; sys.exit('twisted.internet.reactor' in sys.modules)"


class DoorTests(SynchronousTestCase):
    """``crew_tx`` itself."""

    def test_it_has_what_callers_need(self) -> None:
        """The very objects, not others of their names."""
        self.assertIs(crew_tx.Client, crew_tx.client.Client)
        self.assertIs(crew_tx.Reply, crew_tx.message.Reply)
        self.assertIs(crew_tx.TimeoutError, crew_tx.errors.TaskTimeoutError)
        self.assertTrue(issubclass(crew_tx.TimeoutError, builtins.TimeoutError))

    def test_its_errors_are_those_of_the_tree(self) -> None:
        """Each under its own name."""
        names = [name for name in crew_tx.__all__ if name.endswith("Error") and name != "TimeoutError"]
        self.assertGreater(len(names), 10)
        for name in names:
            self.assertIs(getattr(crew_tx, name), getattr(crew_tx.errors, name))

    def test_a_call_can_only_fail_with_what_it_exports(self) -> None:
        """Whatever is caught by a name from here is in the tree, and the base is here."""
        self.assertIn("CrewError", crew_tx.__all__)
        for name in crew_tx.__all__:
            value = getattr(crew_tx, name)
            if inspect.isclass(value) and issubclass(value, BaseException):
                self.assertTrue(issubclass(value, crew_tx.CrewError), name)

    def test_it_says_all_that_it_has(self) -> None:
        """Whatever else is there is a module or a dunder."""
        public = {
            name
            for name, value in vars(crew_tx).items()
            if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
        }
        self.assertEqual(public, set(crew_tx.__all__))

    def test_it_is_small_and_in_order(self) -> None:
        """At most 25 names, each once, sorted."""
        self.assertLessEqual(len(crew_tx.__all__), _MOST_NAMES)
        self.assertEqual(crew_tx.__all__, sorted(set(crew_tx.__all__)))

    def test_it_imports_no_reactor(self) -> None:
        """A program installs the one that it wants after that."""
        finished = subprocess.run(
            [sys.executable, "-c", _REACTOR], check=False, env={"PYTHONPATH": ":".join(sys.path)}
        )
        self.assertEqual(finished.returncode, 0)


class WorkerDoorTests(SynchronousTestCase):
    """``crew_tx.worker``: what modules of tasks import."""

    def test_it_has_what_tasks_need(self) -> None:
        """The seed's worker runs with its import line changed: Task, context, run."""
        self.assertIs(crew_tx.worker.Task, crew_tx.tasks.registry.Task)
        self.assertIs(crew_tx.worker.Service, crew_tx.tasks.registry.Service)
        self.assertIs(crew_tx.worker.context, crew_tx.tasks.context.context)
        self.assertIs(crew_tx.worker.Settings, crew_tx.tasks.context.Settings)
        self.assertTrue(callable(crew_tx.worker.run))

    def test_it_says_what_it_has(self) -> None:
        """And each of it is there."""
        self.assertEqual(
            set(crew_tx.worker.__all__), {"Service", "Settings", "Task", "Worker", "context", "run"}
        )
        for name in crew_tx.worker.__all__:
            self.assertTrue(hasattr(crew_tx.worker, name), name)
