"""
Real child processes: the one file that starts them.

A child has three pipes of its own, and none of its standard streams: those are
for what tasks print. Two carry frames. On the third nothing is ever written: it
is there for the kernel to kill the child by, when the worker is gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from signal import SIGKILL, Signals
from typing import Any, NamedTuple

from twisted.internet.error import ProcessTerminated
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from crew_tx.tasks.processes.frames import FrameError, FrameReader
from crew_tx.tasks.processes.messages import Start, write_start
from crew_tx.tasks.processes.pool import PROCESS_CALLS, IChild, Listener, Spawn

#: The child's file descriptors: what it reads, what it writes, and what it ends by.
INPUT, OUTPUT, LIFELINE = 3, 4, 5

#: Seconds for which the last words of a dead process are awaited: others may hold its pipe open.
_LAST_WORDS = 1.0


class ChildProcess(ProcessProtocol):
    """
    A child process.

    :param listener: told what it says, and when it is gone.
    :param longest_body: the bytes that the body of a frame may have.
    """

    transport: Any

    def __init__(self, clock: Any, listener: Listener, longest_body: int) -> None:
        self._clock = clock
        self._listener = listener
        self._reader = FrameReader(longest_body)
        self._waiting: IDelayedCall | None = None
        self.pid = 0

    def connectionMade(self) -> None:
        """It is started."""
        self.pid = self.transport.pid

    def send(self, frame: bytes) -> None:
        """Write to it."""
        self.transport.writeToChild(INPUT, frame)

    def close(self) -> None:
        """End its input."""
        self.transport.closeChildFD(INPUT)

    def kill(self) -> None:
        """Kill it, and whatever it started: it leads a process group."""
        if self.transport.pid is not None:
            self._kill_group()
            with suppress(OSError):
                os.kill(self.pid, SIGKILL)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """It wrote."""
        try:
            frames = self._reader.feed(data)
        except FrameError as error:
            self._listener.broke_rules(error)
            return
        for frame in frames:
            self._listener.received(frame)

    def childConnectionLost(self, childFD: int) -> None:
        """It closed one of its pipes, by its end most likely; without this one it is of no use."""
        if childFD == OUTPUT:
            self.kill()

    def processExited(self, reason: Failure) -> None:
        """It is gone; what it wrote may not have come yet."""
        # Its own children hold its pipes open, and serve nobody any more.
        self._kill_group()
        self._waiting = self._clock.callLater(_LAST_WORDS, self._ended, reason)

    def processEnded(self, reason: Failure) -> None:
        """It is gone, and all that it wrote has come."""
        if self._waiting is not None and self._waiting.active():
            self._waiting.cancel()
            self._ended(reason)

    def _ended(self, reason: Failure) -> None:
        # Where somebody else holds its pipes, they are of no use any more.
        self.transport.loseConnection()
        self._listener.ended(_how(reason))

    def _kill_group(self) -> None:
        with suppress(OSError):
            os.killpg(self.pid, SIGKILL)


def _how(reason: Failure) -> str:
    error = reason.value
    if isinstance(error, ProcessTerminated) and error.signal:
        return f"was ended by {_signal_name(error.signal)}"
    return f"ended with exit code {getattr(error, 'exitCode', 0) or 0}"


def _signal_name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"


class ProcessOptions(NamedTuple):
    """
    How a worker runs processes.

    :ivar command: what a process runs; the program comes first.
    :ivar environment: its variables.
    :ivar size: how many calls run at once.
    :ivar calls: how many a process runs before another takes its place.
    """

    command: list[str]
    environment: Mapping[str, str]
    size: int
    calls: int = PROCESS_CALLS


def spawner(reactor: Any, options: ProcessOptions, start: Callable[[], Start]) -> Spawn:
    """
    What starts a pool's processes.

    :param reactor: an ``IReactorProcess`` and ``IReactorTime``.
    :param start: what a process is told first.
    """

    def spawn(listener: Listener) -> IChild:
        told = start()
        child = ChildProcess(reactor, listener, told.max_message_size)
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            # Its input is not the worker's: a supervisor's worker reads its own end from there.
            pipes = {0: nothing, 1: 1, 2: 2, INPUT: "w", OUTPUT: "r", LIFELINE: "w"}
            command, environment = options.command, dict(options.environment)
            reactor.spawnProcess(child, command[0], command, env=environment, childFDs=pipes)
        finally:
            os.close(nothing)
        child.send(write_start(told))
        return child

    return spawn
