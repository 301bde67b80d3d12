"""The program: its arguments are read, one verb is run, and its outcome becomes an exit code."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from typing import Any, NoReturn

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    globalLogBeginner,
)
from zope.interface import provider

from crew_tx.cli.crew.exits import FAILED, INTERRUPTED, OK, code_of
from crew_tx.cli.crew.output import Output, make_output
from crew_tx.cli.crew.parser import PROGRAM, make_parser
from crew_tx.cli.crew.running import RunInterruptedError, Running
from crew_tx.cli.crew.session import Session
from crew_tx.cli.crew.told import brokers_of, signing_keys_of
from crew_tx.cli.settings import BROKER_SETTINGS
from crew_tx.errors import CrewError

Verb = Callable[[Session], Coroutine[Any, Any, int]]


def script() -> NoReturn:
    """What the installed ``crew`` runs."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """
    Run one command.

    :returns: its exit code.
    """
    parsed = make_parser().parse_args(arguments)
    output = make_output(f"{PROGRAM} {parsed.verb}", parsed.json)
    try:
        return _run(parsed, output)
    except CrewError as error:
        if parsed.verbose:
            output.note(_traceback())
        output.error(error)
        return code_of(error)
    except (RunInterruptedError, KeyboardInterrupt):
        return OK if parsed.ends_by_interrupt else INTERRUPTED
    except BrokenPipeError:
        # Whoever read the answers has had enough; Python's own last flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        where = _traceback() if parsed.verbose else "--verbose shows where"
        output.note(f"{type(error).__name__}: {error}; {where}")
        return FAILED


def _run(arguments: Namespace, output: Output) -> int:
    begin_logging(output, arguments.verbose)
    verb = _verb(arguments.run)
    if not arguments.needs_broker:
        local: Any = verb
        return int(local(arguments, output))
    told = {name: text for name, text in vars(arguments).items() if name in BROKER_SETTINGS}
    brokers, keys = brokers_of(told), signing_keys_of(told)
    # Only now: what is wrong is told quicker without it.
    from twisted.internet import reactor

    session = Session(reactor, arguments, brokers, output, keys)
    return Running(reactor).run(lambda: verb(session))


def begin_logging(output: Output, verbose: bool) -> None:
    """Tell people of warnings, such as a lost connection; with ``--verbose`` of more, with tracebacks."""

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        text = eventAsText(event, includeTimestamp=False, includeSystem=verbose, includeTraceback=verbose)
        if text:
            output.note(text.rstrip())

    level = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
    if verbose:
        level.setLogLevelForNamespace("crew_tx", LogLevel.debug)
    globalLogBeginner.beginLoggingTo([FilteringLogObserver(observe, [level])], redirectStandardIO=False)


def _verb(name: str) -> Verb:
    """By ``module:function``, the module in this package."""
    module, _, function = name.partition(":")
    found: Verb = getattr(import_module(f"crew_tx.cli.crew.{module}"), function)
    return found


def _traceback() -> str:
    import traceback

    return traceback.format_exc()
