"""``twistd crew-worker`` and ``twist crew-worker``."""

from __future__ import annotations

import sys
from typing import Any

from twisted.logger import ILogObserver, LogLevel

from crew_tx.cli.ending import Ending
from crew_tx.cli.loading import load_services
from crew_tx.cli.logs import file_log_observer, log_observer
from crew_tx.cli.options import ProgramOptions, WorkerOptions
from crew_tx.cli.program import Program, make_program
from crew_tx.cli.script import services_command

Options = WorkerOptions


def makeService(options: WorkerOptions) -> Program:
    """The worker, or the supervisor of several, that the options ask for."""
    # Only now: an option of twistd or twist may have installed another one.
    from twisted.internet import reactor

    ending = Ending(reactor, options.program)
    # Before the modules of tasks, so that their own exit hooks run first.
    ending.set_code_at_exit()
    program = make_program(
        reactor, options, lambda: load_services(options.services), services_command(options.services), ending
    )
    if options.parent is not None:
        program.observer = share_logging(options, options.parent)
    return program


def share_logging(options: ProgramOptions, parent: Any) -> ILogObserver | None:
    """
    Have the options about logs obeyed by what a program runs in.

    ``twist`` is told by changing its own options. ``twistd`` has none for
    levels: where it logs to stdout, which it does with ``-n``, it is given an
    observer. Its log files and syslog stay as they are.

    :param parent: the options of ``twistd`` or ``twist``.
    :returns: what twistd's application is to log to.
    """
    if "logLevel" in parent:
        if options.has("logging", "verbose"):
            parent["logLevel"] = LogLevel.levelWithName(options.settings["logging"])
        if options.has("log-format"):
            parent["fileLogObserverFactory"] = lambda stream: file_log_observer(stream, options.settings)
        return None
    if not parent["nodaemon"] or parent["logfile"] not in (None, "-") or parent.get("syslog"):
        return None
    return log_observer(sys.stdout, options.settings)
