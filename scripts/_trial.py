"""
trial, which a SIGTERM ends in order: the test that runs is interrupted and cleans up, and no other begins.

    python scripts/_trial.py [TRIAL ARGUMENT...]

By itself trial goes on after the interruption of a synchronous test, and leaves an
asynchronous one with its reactor, cleanups and all.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType

# Not `-m twisted.trial`: in older Twisted it wants pkg_resources, which newer setuptools lack.
from twisted.internet.base import ReactorBase
from twisted.scripts.trial import run
from twisted.trial.reporter import TestResult

#: The name of what trial calls when the time of an asynchronous test is over.
_TIME_IS_OVER = "onTimeout"


def end(number: int, frame: FrameType | None = None) -> None:
    """Interrupt the synchronous test that runs, and let it be the last."""
    _begin_no_more()
    raise KeyboardInterrupt


def end_with_reactor(reactor: ReactorBase, number: int, frame: FrameType | None = None) -> None:
    """
    The same in place of the reactor's own handler.

    That stays when the reactor does not run, between asynchronous tests. The time of
    the one that runs is over.
    """
    if not reactor.running:
        end(number)
    _begin_no_more()
    for call in reactor.getDelayedCalls():
        if getattr(call.func, "__name__", "") == _TIME_IS_OVER:  # type: ignore[attr-defined]
            reactor.callFromThread(call.reset, 0)


def _begin_no_more() -> None:
    for each in gc.get_objects():
        if isinstance(each, TestResult):
            each.stop()


if __name__ == "__main__":
    # As trial's own script has it.
    sys.path[0] = os.getcwd()
    signal.signal(signal.SIGTERM, end)
    ReactorBase.sigTerm = end_with_reactor  # type: ignore[assignment, method-assign]
    run()
