"""
Loading the modules that a worker is given as SERVICE.

A file is loaded as Python would run it as a script: its folder comes first on
the path. A dotted name is imported as ``python -m`` would: the working folder
is on the path.

A worker script can be a SERVICE, too: its ``run(counter=0)`` starts nothing
then, but gives its settings to the worker that loads it, and all the tasks
that were imported, as it would by itself.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

from crew_tx.control import BuiltinCommands, Command, collect_commands
from crew_tx.errors import ConfigurationError
from crew_tx.tasks.registry import TaskDefinition, collect, collect_imported

Settings = dict[str, Any]


class Loaded(NamedTuple):
    """
    What a worker is made of.

    :ivar settings: what ``run()`` was given.
    :ivar commands: its own control commands.
    :ivar modules: where its tasks are from, as SERVICE, whichever folder is the working one.
    """

    definitions: list[TaskDefinition]
    settings: Settings
    commands: list[Command]
    modules: list[str]


#: What ``run()`` was given in the module that is being loaded; none while nothing is.
_runs: ContextVar[list[Settings]] = ContextVar("crew_tx.cli.loading")

_REMEDY = "give the path of a .py file, or a dotted module"


def take_run(settings: Settings) -> bool:
    """
    Note a call of ``run()``.

    :returns: whether a module is being loaded, and so nothing is to be run.
    """
    runs = _runs.get(None)
    if runs is None:
        return False
    runs.append(settings)
    return True


def load_services(services: Iterable[str]) -> Loaded:
    """
    Load modules.

    :returns: their tasks and commands, and what they gave to ``run()``.
    :raises ConfigurationError: if there is no such module, it can't be
        imported, or it has no tasks; if two give ``run()`` the same setting,
        or have a command of the same name.
    """
    definitions: dict[int, TaskDefinition] = {}
    settings: Settings = {}
    modules: list[ModuleType] = []
    for service in services:
        module, runs = _load(service)
        modules.append(module)
        found = collect(vars(module))
        if runs:
            found += collect_imported()
        if not found:
            raise ConfigurationError(
                f"{service} has no tasks; put @Task('name') above a function, or make a Service of an object"
            )
        definitions.update((id(each), each) for each in found)
        for run in runs:
            _add_settings(settings, run, service)
    found = list(definitions.values())
    return Loaded(found, settings, commands_of(found, modules), [absolute(each) for each in services])


def load_for_process(services: Iterable[str]) -> tuple[list[TaskDefinition], Settings]:
    """
    Load modules for a process of a worker that has loaded them.

    A script's ``run()`` starts nothing, whether it is reached or not: so all
    that was imported counts.

    :returns: the tasks that run in processes, the first of each id; and what was given to ``run()``.
    :raises ConfigurationError: if one can't be imported.
    """
    definitions: dict[str, TaskDefinition] = {}
    settings: Settings = {}
    for service in services:
        module, runs = _load(service)
        for definition in [*collect(vars(module)), *collect_imported()]:
            if definition.isolation == "process":
                definitions.setdefault(definition.task_id, definition)
        for run in runs:
            settings.update(run)
    return list(definitions.values()), settings


def absolute(service: str) -> str:
    """A SERVICE that means the same in every folder."""
    return os.path.abspath(service) if service.endswith(".py") else service


def load_application(name: str) -> Callable[..., Any]:
    """
    Load a WSGI application.

    :param name: a module or a file, a colon, and what it is called there; dots lead on.
    :raises ConfigurationError: if there is none.
    """
    service, _, path = name.rpartition(":")
    found: Any = _load(service)[0]
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ConfigurationError(f"{service} has no application {path}; give --wsgi MODULE:NAME")
    application: Callable[..., Any] = found
    return application


def load_imported(settings: Settings) -> Loaded:
    """
    What a script has by now.

    :param settings: what it gives to ``run()``.
    :raises ConfigurationError: if two of its modules have a command of the same name.
    """
    found = collect_imported()
    return Loaded(found, settings, commands_of(found, [sys.modules["__main__"]]), [_main_module()])


def commands_of(definitions: Iterable[TaskDefinition], modules: Iterable[ModuleType]) -> list[Command]:
    """
    The commands of some modules, and of those that tasks are from.

    :raises ConfigurationError: if two have one name, or one has that of a command that every worker knows.
    """
    homes = (sys.modules.get(getattr(each.function, "__module__", "")) for each in definitions)
    # By files: a script may also have been imported by its name.
    files = {getattr(each, "__file__", None): each for each in [*homes, *modules] if each is not None}
    commands: dict[str, Command] = {}
    builtin = {each.name for each in BuiltinCommands(None).all()}
    for module in files.values():
        for each in collect_commands(vars(module)):
            if each.name in builtin or commands.setdefault(each.name, each) is not each:
                raise ConfigurationError(
                    f"the control command {each.name!r} is taken; "
                    f"give the one of {each.function.__module__} another name"
                )
    return list(commands.values())


def _main_module() -> str:
    """The program's own file or module, as SERVICE."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    return os.path.abspath(sys.argv[0]) if spec is None else str(spec.name)


def _add_settings(settings: Settings, run: Settings, service: str) -> None:
    for name in run:
        if name in settings:
            raise ConfigurationError(
                f"{service} gives run() the setting {name!r}, which another SERVICE gives as well; "
                "rename one of them, or run two workers"
            )
    settings.update(run)


def _load(service: str) -> tuple[ModuleType, list[Settings]]:
    """A module, and what it gave to ``run()`` while it was loaded."""
    runs: list[Settings] = []
    token = _runs.set(runs)
    try:
        # A script need not be called .py.
        if service.endswith(".py") or os.path.isabs(service):
            return _load_file(service), runs
        return _import(service), runs
    finally:
        _runs.reset(token)


def _load_file(service: str) -> ModuleType:
    path = os.path.abspath(service)
    if not os.path.isfile(path):
        raise ConfigurationError(f"there is no file {path}; {_REMEDY}")
    folder, file = os.path.split(path)
    _put_on_path(folder)
    stem = file.removesuffix(".py")
    loaded = sys.modules.get(stem)
    if loaded is not None and getattr(loaded, "__file__", None) == path:
        return loaded
    return _loaded(service, lambda: _execute(_free_name(stem), path))


def _import(service: str) -> ModuleType:
    if not all(part.isidentifier() for part in service.split(".")):
        raise ConfigurationError(f"{service[:200]!r} is no module's name; {_REMEDY}")
    _put_on_path(os.getcwd())
    return _loaded(service, lambda: importlib.import_module(service))


def _put_on_path(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _free_name(stem: str) -> str:
    """The name by which others would import the file, unless that is another module's."""
    names = (stem if number == 1 else f"{stem}_{number}" for number in count(1))
    return next(name for name in names if name not in sys.modules)


def _execute(name: str, path: str) -> ModuleType:
    spec = spec_from_file_location(name, path, loader=SourceFileLoader(name, path))
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _loaded(service: str, load: Callable[[], ModuleType]) -> ModuleType:
    try:
        return load()
    except ConfigurationError as error:
        raise ConfigurationError(f"{service}: {error}") from None
    except ModuleNotFoundError as error:
        if f"{service}.".startswith(f"{error.name}."):
            raise ConfigurationError(f"there is no module {error.name}; {_REMEDY}") from None
        raise _import_error(service, error) from None
    except (Exception, SystemExit) as error:
        raise _import_error(service, error) from None


def _import_error(service: str, error: BaseException) -> ConfigurationError:
    text = "".join(traceback.format_exception(type(error), error, _outside_frames(error.__traceback__)))
    return ConfigurationError(f"{service} can't be imported; mend what its traceback says:\n{text.rstrip()}")


def _outside_frames(frames: TracebackType | None) -> TracebackType | None:
    """From the module's own on: how it came to be imported helps nobody."""
    while frames is not None and _is_ours(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames


def _is_ours(filename: str) -> bool:
    return filename == __file__ or filename == importlib.__file__ or filename.startswith("<frozen importlib")
