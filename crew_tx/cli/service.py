"""What ``twistd`` and ``twist`` are given: a program that options ask for, and a log as these say."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.logger import ILogObserver, LogLevel

from crew_tx.cli.ending import Ending
from crew_tx.cli.logs import file_log_observer, log_observer
from crew_tx.cli.options import ProgramOptions
from crew_tx.cli.program import Program
from crew_tx.errors import CrewError

P = TypeVar("P", bound=Program)


def service_of(options: ProgramOptions, make: Callable[[Any, Ending], P], **ending_options: Any) -> P:
    """
    The program that options ask for; it ends the process where they are wrong.

    :param make: called with the reactor, and with how the process ends.
    :param ending_options: as :class:`Ending` takes them.
    """
    # Only now: an option of twistd or twist may have installed another one.
    from twisted.internet import reactor

    ending = Ending(reactor, options.program, **ending_options)
    # Before modules of tasks are loaded, so that their own exit hooks run first.
    ending.set_code_at_exit()
    try:
        program = make(reactor, ending)
    except CrewError as error:
        options.refuse(str(error))
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
