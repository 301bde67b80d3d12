"""
Worker processes without ``twistd``: scripts that end with ``run()``, and the
children of a supervisor.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from crew_tx.cli.ending import Ending
from crew_tx.cli.loading import load_imported, load_services, take_run
from crew_tx.cli.logs import begin_logging
from crew_tx.cli.options import ScriptOptions, WorkerOptions
from crew_tx.cli.parent import ParentWatch
from crew_tx.cli.program import Load, make_program
from crew_tx.cli.supervisor import CHILD


def run_worker(settings: dict[str, Any]) -> None:
    """
    What :func:`crew_tx.worker.run` does.

    It returns only in a module that a worker loads as SERVICE.
    """
    if take_run(settings):
        return
    options = ScriptOptions()
    options.parseOptions()
    run_process(options, lambda: load_imported(settings), script_command())


def run_services(arguments: Sequence[str]) -> NoReturn:
    """What a supervisor's child does that isn't a script: the options of ``twistd crew-worker``."""
    options = WorkerOptions()
    options.parseOptions(arguments)
    run_process(options, lambda: load_services(options.services), services_command(options.services))


def run_process(options: WorkerOptions, load: Load, command: list[str]) -> NoReturn:
    """
    Run the reactor with a worker, or a supervisor, and end the process.

    :param command: what a supervisor's children run.
    """
    from twisted.internet import reactor

    # Programs that tasks start are no children of the supervisor.
    is_child = os.environ.pop(CHILD, None) is not None
    ending = Ending(reactor, options.program, is_child=is_child)
    program = make_program(reactor, options, load, command, ending)
    begin_logging(options.settings)
    program.startService()
    _reactor: Any = reactor
    _reactor.addSystemEventTrigger("before", "shutdown", program.stopService)
    if is_child:
        _reactor.addReader(ParentWatch(ending.stop))
    _reactor.run()
    sys.exit(ending.code)


def services_command(services: Sequence[str]) -> list[str]:
    """What runs a worker of these, in whichever folder."""
    paths = [os.path.abspath(each) if each.endswith(".py") else each for each in services]
    return [sys.executable, "-m", "crew_tx.cli.child", *paths]


def script_command() -> list[str]:
    """What runs this script again, without its arguments: they are in the environment."""
    main = sys.modules["__main__"]
    if main.__spec__ is not None:
        return [sys.executable, "-m", main.__spec__.name.removesuffix(".__main__")]
    return [sys.executable, os.path.abspath(sys.argv[0])]
