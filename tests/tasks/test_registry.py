"""Tests of crew_tx.tasks.registry."""

from __future__ import annotations

import sys
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import DuplicateTaskIdError
from crew_tx.tasks.declaration import Service, Task, TaskDefinition
from crew_tx.tasks.registry import Registry, collect, collect_imported

_TASKS = """
from crew_tx.tasks.registry import Service, Task

@Task("one", queue="shared")
def one(request): pass

@Task("two", queue="shared")
def two(request): pass
"""

_SERVICE = """
from crew_tx.tasks.registry import Service

class Example:
    def c_add(self, request): pass

example = Service("example", Example())
"""


class Touchy:
    """An object that can't be looked at, as proxies are outside their place."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError("working outside of application context")


def ids(definitions: list[TaskDefinition]) -> list[str]:
    return [definition.task_id for definition in definitions]


class RegistryTests(SynchronousTestCase):
    """The tasks of one worker."""

    def registry(self, *sources: str) -> Registry:
        definitions: list[TaskDefinition] = []
        for source in sources:
            namespace: dict[str, object] = {"__name__": "made_up"}
            exec(compile(source, "made_up.py", "exec"), namespace)
            definitions += collect(namespace)
        return Registry(definitions)

    def test_a_task_is_found_by_its_id(self) -> None:
        """And None stands for one that isn't there."""
        registry = self.registry(_TASKS)
        definition = registry.get("one")
        assert definition is not None
        self.assertEqual(definition.task_id, "one")
        self.assertIsNone(registry.get("three"))

    def test_queues_are_listed_with_their_tasks(self) -> None:
        """Each queue once, however many tasks it has."""
        registry = self.registry(_TASKS, _SERVICE)
        self.assertEqual(registry.task_ids, ["one", "two", "example", "example.add"])
        self.assertEqual(registry.queues(), {"shared": ["one", "two"], "example": ["example", "example.add"]})

    def test_two_tasks_of_one_id_are_refused(self) -> None:
        """A service and a task count alike."""
        error = self.assertRaises(DuplicateTaskIdError, self.registry, _SERVICE, _SERVICE)
        self.assertEqual(error.task_id, "example")


class CollectTests(SynchronousTestCase):
    """Tasks are found in namespaces."""

    def module(self, source: str, name: str = "crew_tx_made_up", file: str = "made_up.py") -> ModuleType:
        """A module that is imported until the test's end."""
        module = ModuleType(name)
        module.__file__ = file
        self.patch_module(name, module)
        exec(compile(source, file, "exec"), vars(module))
        return module

    def patch_module(self, name: str, module: ModuleType) -> None:
        """Have a module under a name until the test's end."""
        before = sys.modules.get(name)
        if before is None:
            self.addCleanup(sys.modules.pop, name, None)
        else:
            self.addCleanup(sys.modules.__setitem__, name, before)
        sys.modules[name] = module

    def test_recorded_tasks_and_services_are_found_once(self) -> None:
        """A task is both recorded and marked."""
        self.assertEqual(
            ids(collect(vars(self.module(_TASKS + _SERVICE)))), ["one", "two", "example", "example.add"]
        )

    def test_a_function_from_elsewhere_is_found_where_it_was_imported(self) -> None:
        """By its mark; and so is one that a function made."""

        def make() -> object:
            return Task("made")(lambda request: request)

        home = self.module(_TASKS)
        self.assertEqual(ids(collect({"borrowed": home.one, "made": make()})), ["one", "made"])

    def test_what_can_not_be_looked_at_is_passed_over(self) -> None:
        """A module may hold anything."""
        self.assertEqual(collect({"touchy": Touchy(), "number": 1, "class": Example}), [])

    def test_two_functions_made_in_one_place_are_two(self) -> None:
        """A worker must not get one of them at random."""

        def make() -> object:
            return Task("made")(lambda request: request)

        definitions = collect({"first": make(), "second": make()})
        self.assertRaises(DuplicateTaskIdError, Registry, definitions)

    def test_two_services_of_one_class_and_name_are_two(self) -> None:
        """They may be different objects at heart."""
        definitions = collect({"first": Service("a", Example()), "second": Service("a", Example())})
        self.assertRaises(DuplicateTaskIdError, Registry, definitions)

    def test_tasks_of_all_imported_modules_are_found(self) -> None:
        """crew's way; a module without any is passed over."""
        self.module(_TASKS, "crew_tx_made_up_1")
        self.module(_SERVICE, "crew_tx_made_up_2", "other.py")
        found = ids(collect_imported())
        for task_id in ("one", "two", "example", "example.add"):
            self.assertEqual(found.count(task_id), 1)

    def test_a_function_that_several_modules_have_is_one_task(self) -> None:
        """It is recorded in one and imported by another."""
        home = self.module(_TASKS, "crew_tx_made_up_1")
        other = self.module(_SERVICE, "crew_tx_made_up_2", "other.py")
        vars(other)["one"] = home.one
        self.assertEqual(ids(collect_imported()).count("one"), 1)

    def test_a_program_that_is_imported_by_its_name_counts_once(self) -> None:
        """``python worker.py``, and a module of it that says ``import worker``."""
        self.module(_TASKS + _SERVICE, "__main__", "worker.py")
        self.module(_TASKS + _SERVICE, "crew_tx_worker", "worker.py")
        found = ids(collect_imported())
        self.assertEqual((found.count("one"), found.count("example")), (1, 1))

    def test_a_function_of_a_program_that_is_imported_by_its_name_counts_once(self) -> None:
        """``from worker import one`` in a module that has tasks of its own."""
        self.module(_TASKS, "__main__", "worker.py")
        copy = self.module(_TASKS, "crew_tx_worker", "worker.py")
        other = self.module(_SERVICE, "crew_tx_made_up", "other.py")
        vars(other)["one"] = copy.one
        self.assertEqual(ids(collect_imported()).count("one"), 1)


class Example:
    """A class with a method that a service has."""

    def c_add(self, request: object) -> None:
        """A task."""
