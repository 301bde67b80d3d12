"""Tests of crew_tx.tasks.declaration."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import ConfigurationError, DuplicateTaskIdError, InvalidArgumentError, UnknownTaskError
from crew_tx.tasks.declaration import Service, Task, TaskDefinition, UnknownMethodError


def module_of(source: str, name: str = "made_up") -> ModuleType:
    """A module with this source, without a file."""
    module = ModuleType(name)
    exec(compile("from crew_tx.tasks.declaration import Task\n" + source, f"{name}.py", "exec"), vars(module))
    return module


def definition_of(function: object) -> TaskDefinition:
    """What a task's function is marked with."""
    definition = vars(function)["__crew_task__"]
    assert isinstance(definition, TaskDefinition)
    return definition


class TaskTests(SynchronousTestCase):
    """``@Task`` marks a function and records it in its module."""

    def test_the_function_stays_what_it_was(self) -> None:
        """It can still be called, and tested, by itself."""

        def double(request: int) -> int:
            return 2 * request

        self.assertIs(Task("double")(double), double)
        self.assertEqual(double(2), 4)

    def test_the_definition_says_what_was_declared(self) -> None:
        """With a queue of its own and no limit by default."""
        double = Task("double")(lambda request: request)
        definition = definition_of(double)
        self.assertEqual((definition.task_id, definition.function), ("double", double))
        self.assertEqual((definition.timeout, definition.queue, definition.is_async), (None, "double", False))
        definition = definition_of(Task("double", timeout=30, queue="slow")(lambda request: request))
        self.assertEqual((definition.timeout, definition.queue), (30, "slow"))
        self.assertFalse(definition.skip_abandoned)
        definition = definition_of(Task("double", skip_abandoned=True)(lambda request: request))
        self.assertTrue(definition.skip_abandoned)

    def test_where_names_module_function_file_and_line(self) -> None:
        """For people who look for it."""
        module = module_of("@Task('one')\ndef one(request): pass")
        self.assertEqual(definition_of(module.one).where, "made_up.one (made_up.py:2)")

    def test_what_runs_on_the_reactor_is_known_by_its_kind_or_by_word(self) -> None:
        """Coroutine functions, objects called as one, and what was declared so."""

        async def coroutine_function(request: object) -> None:
            """A task."""

        class Callee:
            async def __call__(self, request: object) -> None:
                """A task."""

        def returns_deferred(request: object) -> Deferred[None]:
            return succeed(None)

        self.assertTrue(definition_of(Task("a")(coroutine_function)).is_async)
        self.assertTrue(definition_of(Task("b")(Callee())).is_async)
        self.assertTrue(definition_of(Task("c", reactor=True)(returns_deferred)).is_async)
        self.assertFalse(definition_of(Task("d")(returns_deferred)).is_async)

    def test_functions_of_a_module_are_recorded_in_it(self) -> None:
        """By their ids; functions inside functions aren't."""
        module = module_of(
            "@Task('one')\ndef one(request): pass\n"
            "def outer():\n    @Task('two')\n    def two(request): pass\nouter()\n"
        )
        self.assertEqual(vars(module)["__crew_tasks__"], {"one": definition_of(module.one)})

    def test_a_decorated_function_is_recorded_where_it_was_written(self) -> None:
        """Not in the module of a decorator that wraps it."""
        home = module_of("def one(request): pass", "home")

        @functools.wraps(home.one)
        def wrapper(request: object) -> None:
            """Wraps."""

        Task("one")(wrapper)
        self.assertIs(vars(home)["__crew_tasks__"]["one"].function, wrapper)
        self.assertEqual(definition_of(wrapper).where, "home.one (home.py:2)")
        self.assertNotIn("__crew_tasks__", globals())

    def test_a_second_task_with_the_id_of_another_is_refused_at_import(self) -> None:
        """The text names both."""
        source = "@Task('one')\ndef one(request): pass\n@Task('one')\ndef two(request): pass\n"
        error = self.assertRaises(DuplicateTaskIdError, module_of, source)
        self.assertIn("made_up.one (made_up.py:2)", str(error))
        self.assertIn("made_up.two (made_up.py:4)", str(error))

    def test_a_module_can_be_loaded_again(self) -> None:
        """The same function in the same place replaces the first."""
        source = "from crew_tx.tasks.declaration import Task\n@Task('one')\ndef one(request): pass"
        namespace: dict[str, Any] = {"__name__": "again"}
        exec(compile(source, "again.py", "exec"), namespace)
        first = namespace["one"]
        exec(compile(source, "again.py", "exec"), namespace)
        self.assertIsNot(namespace["one"], first)
        self.assertIs(namespace["__crew_tasks__"]["one"].function, namespace["one"])

    def test_ids_and_queues_are_checked(self) -> None:
        """As a task id is."""
        for wrong in ("", "@client", "a\nb", 5, "x" * 201):
            self.assertRaises(InvalidArgumentError, Task, wrong)
            self.assertRaises(InvalidArgumentError, Task, "fine", queue=wrong)

    def test_a_timeout_is_a_positive_number_of_seconds(self) -> None:
        """Nothing else."""
        for wrong in (0, -1, float("inf"), float("nan"), "30", True):
            self.assertRaises(InvalidArgumentError, Task, "fine", timeout=wrong)

    def test_a_task_takes_one_argument(self) -> None:
        """A method of a class doesn't; nor does what isn't a function at all."""
        wrong: list[Callable[..., object]] = [lambda: None, lambda self, request: None]
        for function in wrong:
            self.assertRaises(ConfigurationError, Task("fine"), function)
        self.assertRaises(ConfigurationError, Task("fine"), "not a function")
        Task("fine")(lambda request, database=None: None)

    def test_what_can_not_be_marked_is_refused(self) -> None:
        """A bound method, and functions written in C: the text says what to do."""
        functions: list[Callable[..., object]] = [[].append, len]
        for function in functions:
            error = self.assertRaises(ConfigurationError, Task("fine"), function)
            self.assertIn("wrap it in a function", str(error))


class Example:
    """arpc's own example."""

    def c_add(self, request: dict[str, int]) -> dict[str, int]:
        return {"res": request["x"] + request["y"]}

    def c_negate(self, request: dict[str, int]) -> dict[str, int]:
        return {"res": -request["x"]}

    def helper(self) -> None:
        """Not exposed."""

    c_constant = 5


class ServiceTests(SynchronousTestCase):
    """A service's methods are tasks."""

    def tasks(self, instance: object, **options: Any) -> dict[str, TaskDefinition]:
        return {task.task_id: task for task in Service("example", instance, **options).tasks()}

    def test_each_method_is_a_task_and_so_is_the_service(self) -> None:
        """All in one queue."""
        tasks = self.tasks(Example())
        self.assertEqual(set(tasks), {"example", "example.add", "example.negate"})
        self.assertEqual({task.queue for task in tasks.values()}, {"example"})

    def test_a_method_gets_the_request(self) -> None:
        """As it is."""
        self.assertEqual(self.tasks(Example())["example.add"].function({"x": 4, "y": 8}), {"res": 12})

    def test_the_service_calls_the_method_that_the_request_names(self) -> None:
        """arpc's way."""
        function = self.tasks(Example())["example"].function
        self.assertEqual(function({"c": "add", "x": 4, "y": 8}), {"res": 12})
        self.assertEqual(function({"c": "negate", "x": 4}), {"res": -4})

    def test_an_unknown_method_is_an_unknown_task(self) -> None:
        """The text names the service and what it has."""
        function = self.tasks(Example())["example"].function
        for request in ({"c": "multiply"}, {"c": "helper"}, {"c": ["add"]}, {}, None, "add"):
            error = self.assertRaises(UnknownMethodError, function, request)
            self.assertIsInstance(error, UnknownTaskError)
            self.assertIn("'example'", str(error))
            self.assertIn("add, negate", str(error))

    def test_the_name_of_an_unknown_method_is_cut(self) -> None:
        """It comes from outside."""
        error = self.assertRaises(
            UnknownMethodError, self.tasks(Example())["example"].function, {"c": "x" * 10_000}
        )
        self.assertLess(len(str(error)), 300)

    def test_its_timeout_is_that_of_all_its_tasks(self) -> None:
        """And is checked as theirs are."""
        self.assertEqual({task.timeout for task in self.tasks(Example(), timeout=3).values()}, {3})
        self.assertRaises(InvalidArgumentError, Service, "example", Example(), timeout=0)

    def test_a_service_of_coroutine_methods_runs_on_the_reactor(self) -> None:
        """The service as a whole only if all of them do."""

        class Coroutines:
            async def c_one(self, request: object) -> None:
                """A task."""

        class Mixed(Coroutines):
            def c_two(self, request: object) -> None:
                """A task."""

        self.assertEqual({task.is_async for task in self.tasks(Coroutines()).values()}, {True})
        mixed = {task_id: task.is_async for task_id, task in self.tasks(Mixed()).items()}
        self.assertEqual(mixed, {"example": False, "example.one": True, "example.two": False})
        self.assertEqual({task.is_async for task in self.tasks(Example(), reactor=True).values()}, {True})

    def test_names_with_the_signs_of_a_pattern_are_refused(self) -> None:
        """Services are addressed by topic keys."""
        for wrong in ("example.*", "#", "", "@x", 5):
            self.assertRaises(InvalidArgumentError, Service, wrong, Example())

    def test_a_class_is_not_a_service(self) -> None:
        """It has no self to call its methods with."""
        error = self.assertRaises(ConfigurationError, Service, "example", Example)
        self.assertIn("instance", str(error))

    def test_an_object_without_methods_is_not_a_service(self) -> None:
        """The text says how they are named."""
        error = self.assertRaises(ConfigurationError, Service, "example", object())
        self.assertIn("c_", str(error))

    def test_a_method_without_a_request_is_refused(self) -> None:
        """When the service is made, not when it is called."""

        class Wrong:
            def c_now(self) -> None:
                """Takes nothing."""

        self.assertRaises(ConfigurationError, Service, "example", Wrong())


class IsolationTests(SynchronousTestCase):
    """Where a task runs."""

    def test_a_task_may_ask_for_a_process(self) -> None:
        """A thread is what it has without a word."""

        def one(request: object) -> None: ...

        self.assertEqual(definition_of(Task("one")(one)).isolation, "thread")
        self.assertEqual(definition_of(Task("one", isolation="process")(one)).isolation, "process")

    def test_all_tasks_of_a_service_run_alike(self) -> None:
        """The one that looks for the method as well."""
        tasks = Service("example", Example(), isolation="process").tasks()
        self.assertEqual({each.isolation for each in tasks}, {"process"})

    def test_what_runs_on_the_reactor_can_not_ask_for_a_process(self) -> None:
        """By its kind or by word."""

        async def coroutine_function(request: object) -> None: ...

        def returns_deferred(request: object) -> None: ...

        task = Task("one", isolation="process")
        self.assertIn(
            "runs on the reactor", str(self.assertRaises(ConfigurationError, task, coroutine_function))
        )
        task = Task("one", isolation="process", reactor=True)
        self.assertRaises(ConfigurationError, task, returns_deferred)
        self.assertRaises(ConfigurationError, Service, "a", Example(), reactor=True, isolation="process")

    def test_another_word_is_refused(self) -> None:
        """With those that there are."""
        error = self.assertRaises(InvalidArgumentError, Task, "one", isolation="fork")
        self.assertEqual("the isolation of 'one' is 'thread' or 'process', not 'fork'", str(error))
        self.assertRaises(InvalidArgumentError, Service, "one", Example(), isolation=None)
