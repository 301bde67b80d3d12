"""
How tasks and services are declared.

A task is declared by a decorator that leaves the function as it was. It is
recorded in the namespace of its module, not in one global table, so that a
worker can be given some modules and not others, and a program can have two
workers. A service is an object whose ``c_`` methods are tasks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, TypeVar, get_args

from crew_tx.errors import ConfigurationError, DuplicateTaskIdError, InvalidArgumentError, UnknownTaskError
from crew_tx.topology import check_name, check_task_id

F = TypeVar("F", bound=Callable[..., Any])

#: Where a task runs: in a thread of the worker, or in a process that can be killed.
Isolation = Literal["thread", "process"]

#: What a task's function is marked by, with its definition.
MARK = "__crew_task__"
#: What a module has its own tasks in, by id.
RECORD = "__crew_tasks__"
_METHOD_PREFIX = "c_"


class UnknownMethodError(UnknownTaskError):
    """A service was asked for a method that it doesn't have."""


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """
    A task as it was declared.

    :ivar timeout: the seconds that it may run; None leaves it to the call.
    :ivar queue: the queue that its calls wait in, without ``crew.tasks.``.
    :ivar is_async: whether it runs on the reactor, and not in a thread.
    :ivar where: its module, name, file and line, for people.
    :ivar skip_abandoned: whether a call whose caller is gone is not run.
    :ivar isolation: ``process`` for one that runs in a child process.
    """

    task_id: str
    function: Callable[[Any], Any]
    timeout: float | None
    queue: str
    is_async: bool
    where: str
    skip_abandoned: bool = False
    isolation: Isolation = "thread"


class Task:
    """
    Declares a function of one argument, the request, a task: ``@Task("test", timeout=30)``.

    A coroutine function runs on the reactor; any other in a thread, unless
    ``reactor`` says that it returns a Deferred and never blocks.

    :param task_id: what callers call it.
    :param timeout: the seconds that it may run; a call can ask for less.
    :param queue: the queue that its calls wait in; one of its own by default.
    :param skip_abandoned: whether a call is not run when its caller is gone; this
        costs a message to the caller before each call.
    :param isolation: ``process`` to run it in a child process, which a time
        limit or a cancel kills, whatever the task is doing.
    :raises InvalidArgumentError: if one of these is wrong.
    """

    def __init__(
        self,
        task_id: str,
        *,
        timeout: float | None = None,
        queue: str | None = None,
        reactor: bool = False,
        skip_abandoned: bool = False,
        isolation: Isolation = "thread",
    ) -> None:
        check_task_id(task_id)
        _check_timeout(task_id, timeout)
        _check_isolation(task_id, isolation)
        if queue is not None:
            check_task_id(queue)
        self._task_id = task_id
        self._timeout = timeout
        self._queue = queue or task_id
        self._reactor = reactor
        self._skip_abandoned = skip_abandoned
        self._isolation: Isolation = isolation

    def __call__(self, function: F) -> F:
        """
        :raises ConfigurationError: if it can't be called with one argument, or
            is to run on the reactor and in a process.
        :raises DuplicateTaskIdError: if its module has a task of this id.
        """
        definition = _define(
            self._task_id,
            function,
            self._timeout,
            self._queue,
            self._reactor,
            self._skip_abandoned,
            self._isolation,
        )
        _mark(function, definition)
        _record(definition)
        return function


class Service:
    """
    An object whose methods are tasks, in one queue.

    Each method ``c_add`` is the task ``<name>.add``. ``<name>`` itself is a
    task too: its request is a map, whose ``c`` names the method that it is for.

    :param instance: the object; an instance, not its class.
    :param timeout: the seconds that each of its tasks may run.
    :param reactor: whether its methods return Deferreds and never block.
    :param skip_abandoned: as of :class:`Task`.
    :param isolation: ``process`` to run its methods in child processes, each with an instance of its own.
    :raises InvalidArgumentError: if the name, the timeout or the isolation is wrong.
    :raises ConfigurationError: if the object has no such methods.
    """

    def __init__(
        self,
        name: str,
        instance: object,
        *,
        timeout: float | None = None,
        reactor: bool = False,
        skip_abandoned: bool = False,
        isolation: Isolation = "thread",
    ) -> None:
        check_name("service", name)
        _check_timeout(name, timeout)
        _check_isolation(name, isolation)
        if isinstance(instance, type):
            raise ConfigurationError(f"the service {name!r} is given a class: make an instance of it")
        self.name = name
        functions = dict(_methods_of(instance))
        for method in functions:
            check_task_id(f"{name}.{method}")
        self._methods = {
            method: _define(f"{name}.{method}", function, timeout, name, reactor, skip_abandoned, isolation)
            for method, function in functions.items()
        }
        if not self._methods:
            raise ConfigurationError(
                f"the service {name!r} has no methods: name them {_METHOD_PREFIX}<something>"
            )
        self._dispatcher = self._make_dispatcher(instance, timeout, skip_abandoned, isolation)

    def tasks(self) -> list[TaskDefinition]:
        """The dispatching task, and one for each method."""
        return [self._dispatcher, *self._methods.values()]

    def _make_dispatcher(
        self, instance: object, timeout: float | None, skip_abandoned: bool, isolation: Isolation
    ) -> TaskDefinition:
        """
        It is async only if all methods are: it can't know before the request is read.
        """
        is_async = all(definition.is_async for definition in self._methods.values())
        where = f"{type(instance).__module__}.{type(instance).__qualname__}"
        return TaskDefinition(
            self.name, self._dispatch, timeout, self.name, is_async, where, skip_abandoned, isolation
        )

    def _dispatch(self, request: Any) -> Any:
        method = request.get("c") if isinstance(request, dict) else None
        definition = self._methods.get(method) if isinstance(method, str) else None
        if definition is None:
            raise UnknownMethodError(
                f"the service {self.name!r} has no method {_shown(method)}; "
                f'the request is a map with "c", one of: {", ".join(self._methods)}'
            )
        return definition.function(request)


def _define(
    task_id: str,
    function: Callable[[Any], Any],
    timeout: float | None,
    queue: str,
    reactor: bool,
    skip_abandoned: bool,
    isolation: Isolation,
) -> TaskDefinition:
    where = _where(function)
    _check_signature(task_id, function, where)
    is_async = reactor or _is_coroutine_function(function)
    if is_async and isolation == "process":
        raise ConfigurationError(
            f"the task {task_id!r}, {where}, runs on the reactor, which no child process has: "
            'make it a plain function, or leave out isolation="process"'
        )
    return TaskDefinition(task_id, function, timeout, queue, is_async, where, skip_abandoned, isolation)


def _mark(function: Callable[..., Any], definition: TaskDefinition) -> None:
    try:
        setattr(function, MARK, definition)
    except AttributeError:
        raise ConfigurationError(
            f"the task {definition.task_id!r} is a {type(function).__name__}: "
            "wrap it in a function, or use Service for methods"
        ) from None


def _record(definition: TaskDefinition) -> None:
    """Remember a task in its module; a function inside a function is for whoever asks for it by name."""
    function = inspect.unwrap(definition.function)
    namespace = getattr(function, "__globals__", None)
    if namespace is None or "<locals>" in function.__qualname__:
        return
    record = namespace.setdefault(RECORD, {})
    first = record.get(definition.task_id)
    # The same words in the same place are a module that is loaded again.
    if first is not None and first.where != definition.where:
        raise DuplicateTaskIdError(definition.task_id, first.where, definition.where)
    record[definition.task_id] = definition


def _where(function: Callable[..., Any]) -> str:
    inner = inspect.unwrap(function)
    name = f"{getattr(inner, '__module__', '?')}.{getattr(inner, '__qualname__', type(inner).__qualname__)}"
    code = getattr(inner, "__code__", None)
    return name if code is None else f"{name} ({code.co_filename}:{code.co_firstlineno})"


def _is_coroutine_function(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - the type's own is what a call uses
    )


def _check_signature(task_id: str, function: Callable[..., Any], where: str) -> None:
    if not callable(function):
        raise ConfigurationError(f"the task {task_id!r} is not a function but {type(function).__name__}")
    try:
        signature = inspect.signature(function)
    except ValueError:
        return
    try:
        signature.bind(None)
    except TypeError:
        raise ConfigurationError(
            f"the task {task_id!r}, {where}, takes one argument, the request; "
            "methods are tasks by way of Service"
        ) from None


def _check_timeout(task_id: str, timeout: object) -> None:
    if timeout is None:
        return
    if type(timeout) not in (int, float) or not 0 < timeout < inf:  # type: ignore[operator]
        raise InvalidArgumentError(
            f"the timeout of {task_id!r} is a positive number of seconds, or None; not {timeout!r}"
        )


def _check_isolation(task_id: str, isolation: object) -> None:
    if isolation not in get_args(Isolation):
        names = " or ".join(repr(name) for name in get_args(Isolation))
        raise InvalidArgumentError(f"the isolation of {task_id!r} is {names}, not {isolation!r}")


def _methods_of(instance: object) -> Iterator[tuple[str, Callable[..., Any]]]:
    for attribute in dir(instance):
        method = attribute.removeprefix(_METHOD_PREFIX)
        if method and method != attribute and callable(function := getattr(instance, attribute)):
            yield method, function


def _shown(method: object) -> str:
    return repr(method[:100]) if isinstance(method, str) else "of that name"
