"""
Where a worker finds its tasks, and which of them it has.

Tasks are found in namespaces of modules: of those that the worker was given, or
of all that were imported.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping
from types import FunctionType

from crew_tx.errors import DuplicateTaskIdError
from crew_tx.tasks.declaration import MARK, RECORD, Isolation, Service, Task, TaskDefinition

__all__ = ["Registry", "Service", "Task", "TaskDefinition", "collect", "collect_imported"]


class Registry:
    """
    The tasks of one worker.

    :raises DuplicateTaskIdError: if two have one id.
    """

    def __init__(self, definitions: Iterable[TaskDefinition]) -> None:
        self._definitions: dict[str, TaskDefinition] = {}
        for definition in definitions:
            first = self._definitions.setdefault(definition.task_id, definition)
            if first is not definition:
                raise DuplicateTaskIdError(definition.task_id, first.where, definition.where)
        #: The definition of a task id, or None.
        self.get = self._definitions.get

    @property
    def task_ids(self) -> list[str]:
        """All ids, in the order of their declaration."""
        return list(self._definitions)

    @property
    def definitions(self) -> list[TaskDefinition]:
        """All definitions, in the order of their declaration."""
        return list(self._definitions.values())

    def queues(self, isolation: Isolation | None = None) -> dict[str, list[str]]:
        """
        The queues to consume from, each with the ids of its tasks.

        :param isolation: only of tasks that run so.
        """
        queues: dict[str, list[str]] = {}
        for definition in self._definitions.values():
            if isolation in (None, definition.isolation):
                queues.setdefault(definition.queue, []).append(definition.task_id)
        return queues


def collect(namespace: Mapping[str, object]) -> list[TaskDefinition]:
    """
    The tasks of a module.

    :param namespace: its dictionary.
    :returns: the tasks recorded in it, those of the marked functions that it
        has, and those of the services that it has; each once.
    """
    recorded = namespace.get(RECORD)
    found = list(recorded.values()) if isinstance(recorded, dict) else []
    for value in list(namespace.values()):
        if issubclass(type(value), Service):
            found += value.tasks()  # type: ignore[attr-defined]
        elif (definition := _mark_of(value)) is not None:
            found.append(definition)
    return _each_once(found)


def collect_imported() -> list[TaskDefinition]:
    """
    The tasks of every module that was imported and declares tasks or services.

    A program's own file counts once, even where another module imports it by
    its name.
    """
    program = getattr(sys.modules.get("__main__"), "__file__", None)
    found: list[TaskDefinition] = []
    for name, module in list(sys.modules.items()):
        namespace = getattr(module, "__dict__", None)
        if not isinstance(namespace, dict) or not _declares(namespace):
            continue
        if name == "__main__" or program is None or namespace.get("__file__") != program:
            found += collect(namespace)
    return _each_once(found)


def _declares(namespace: dict[str, object]) -> bool:
    return RECORD in namespace or any(issubclass(type(value), Service) for value in list(namespace.values()))


def _each_once(definitions: list[TaskDefinition]) -> list[TaskDefinition]:
    """Leave out what was found before; a function is the same if its file and line are."""
    once = {_identity(definition): definition for definition in reversed(definitions)}
    return list(reversed(once.values()))


def _identity(definition: TaskDefinition) -> tuple[str, object]:
    function = definition.function
    if not isinstance(function, FunctionType) or "<locals>" in function.__qualname__:
        return definition.task_id, id(definition)
    code = inspect.unwrap(function).__code__
    return definition.task_id, (code.co_filename, code.co_firstlineno)


def _mark_of(value: object) -> TaskDefinition | None:
    """The mark in an object's own dictionary, without waking a ``__getattr__``."""
    try:
        mark = value.__dict__.get(MARK)
    except Exception:
        return None
    return mark if isinstance(mark, TaskDefinition) else None
