"""
How a worker's process ends: its signals and its exit code.

The reactor's own handlers make ``twistd -n`` and ``twist`` kill themselves by
the signal that stopped them, and know no exit codes. Ours are installed after
them. The first SIGTERM or SIGINT stops the reactor in order, which drains the
worker; the second stops it where it is. ``twistd`` and ``twist`` then clear up
and return, whatever happened: an exit hook, run after that, sets the code.

A process that was told to end must end. Threads of the worker are daemons, and
hold nothing up; those of others may, and so a guard leaves for them.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from threading import Timer
from types import FrameType
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from crew_tx.errors import (
    AccessRefusedError,
    AMQPError,
    ConfigurationError,
    CrewError,
    NotFoundError,
    ThreadsStuckError,
)

if TYPE_CHECKING:
    from crew_tx.worker import EndKind

OK, FAILED, USAGE, STUCK, REFUSED = 0, 1, 2, 75, 78
#: Of a supervisor's child that a command drained: it tells that no other is wanted in its place.
DRAINED = 76

#: Seconds from the end of the drain, or of a second signal, to the end of the process.
LONGEST_END = 5.0
LONGEST_HURRY = 1.0

_REMEDIES: dict[type[CrewError], str] = {
    AccessRefusedError: "give the user the permission that is missing",
    NotFoundError: "make it on the broker, or mend its name",
}

Handler = Callable[[int, FrameType | None], Any]


def say(program: str, message: str) -> None:
    """Tell whoever started the process, past the log."""
    if sys.__stderr__ is not None:
        print(f"{program}: {message}", file=sys.__stderr__, flush=True)


def leave(code: int) -> None:
    """End the process here and now."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()  # type: ignore[union-attr]
        except Exception:
            # A closed one has nothing to lose.
            continue
    os._exit(code)


def in_thread_later(seconds: float, function: Callable[[], object]) -> None:
    """Call a function after a while, if the process is there that long."""
    timer = Timer(seconds, function)
    timer.daemon = True
    timer.start()


class Ending:
    """
    The end of this process.

    :param program: its name, for people.
    :param awaits: what a stop in order waits for, for people.
    :param is_child: whether a supervisor started it; then the supervisor
        minds the terminal's Ctrl-C, and reads our log instead of stderr.
    :param leave: ends the process at once, with a code.
    :ivar code: its exit code.
    :ivar abandon: called when there is no time for order.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        program: str,
        *,
        awaits: str = "running tasks have ended",
        is_child: bool = False,
        set_handler: Callable[[int, Handler], object] = signal.signal,
        leave: Callable[[int], object] = leave,
        in_thread_later: Callable[[float, Callable[[], object]], object] = in_thread_later,
    ) -> None:
        self._reactor = reactor
        self._program = program
        self._awaits = awaits
        self._is_child = is_child
        self._set_handler = set_handler
        self._leave = leave
        self._in_thread_later = in_thread_later
        self._signals = 0
        self.code = OK
        self.stopping = False
        self.abandon: Callable[[], object] = lambda: None

    @property
    def reactor(self) -> Any:
        """What the process runs."""
        return self._reactor

    def begin(self) -> None:
        """Mind the signals, once the reactor runs."""
        self._reactor.callWhenRunning(self._take_signals)
        self._reactor.addSystemEventTrigger("before", "shutdown", self._stops)
        # Before Twisted waits for its thread pool, which it does in this phase.
        self._reactor.addSystemEventTrigger("during", "shutdown", self._guard, LONGEST_END)

    def set_code_at_exit(self) -> None:
        """
        Give the process its exit code in spite of ``twistd`` and ``twist``.

        Hooks run last in, first out: those registered before aren't run then.
        """
        atexit.register(self._at_exit)

    def stop(self) -> None:
        """Stop the reactor in order."""
        if not self.stopping:
            self.stopping = True
            self._reactor.callWhenRunning(self._reactor.stop)

    def mark(self, code: int) -> None:
        """End with this code, if there was no reason for another before."""
        self.code = self.code or code

    def fail(self, code: int, message: str) -> None:
        """Stop because it can't go on, and say why in one line."""
        self.log.critical("{message}", message=message)
        if not self._is_child:
            say(self._program, message)
        self.mark(code)
        self.stop()

    def fatal(self, reason: CrewError) -> None:
        """Stop for an error that the worker can't go on after."""
        remedies = [text for kind, text in _REMEDIES.items() if isinstance(reason, kind)]
        self.fail(_code_of(reason), "; ".join([str(reason), *remedies]))

    def asked(self, kind: EndKind) -> None:
        """
        A command asked for the end.

        :param kind: ``drain`` ends as SIGTERM does; a supervisor puts no other
            in the place of a child that ended so. ``kill`` ends at once, with
            :data:`FAILED`, so that whoever minds the process starts another.
        """
        if kind == "kill":
            self.mark(FAILED)
            self._guard(LONGEST_HURRY)
            self._hurry()
            return
        if self._is_child:
            self.mark(DRAINED)
        self._told_to_stop("a command")

    def _take_signals(self) -> None:
        self._set_handler(signal.SIGTERM, self._signalled)
        # Not SIG_IGN, which programs that tasks start would inherit.
        self._set_handler(signal.SIGINT, _ignore if self._is_child else self._signalled)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        """In the main thread, between any two of its steps."""
        self._signals += 1
        if self._signals == 1:
            self._reactor.callFromThread(self._told_to_stop, signal.Signals(number).name)
        else:
            self.mark(FAILED)
            self._guard(LONGEST_HURRY)
            self._reactor.callFromThread(self._hurry)

    def _stops(self) -> None:
        """Also when it was not by us."""
        self.stopping = True

    def _told_to_stop(self, name: str) -> None:
        self.log.info(
            "{teller}: stopping when {awaits}; a second one stops now", teller=name, awaits=self._awaits
        )
        self.stop()

    def _hurry(self) -> None:
        self.log.warn("stopping now")
        self.abandon()
        # stop() would wait for the drain that is under way.
        self._reactor.crash()

    def _guard(self, seconds: float) -> None:
        """
        Leave after a while, if the process is still there.

        By a thread, since the main one may be waiting for others that don't end.
        """
        self._in_thread_later(seconds, lambda: self._leave(self.code))

    def _at_exit(self) -> None:
        if self.code:
            self._leave(self.code)


def _code_of(reason: CrewError) -> int:
    if isinstance(reason, (AMQPError, ConfigurationError)):
        return REFUSED
    return STUCK if isinstance(reason, ThreadsStuckError) else FAILED


def _ignore(number: int, frame: FrameType | None) -> None:
    """The supervisor has this signal, too."""
