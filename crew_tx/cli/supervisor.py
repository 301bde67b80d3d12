"""
Several worker processes under one.

One that a command drained is not started again, and when all were, the
supervisor ends as well; one that a command killed is, as any that crashed.

They are told to drain by the end of their standard input: which is also what
they see when the supervisor dies. SIGTERM would be a second one where the
service manager sends it to every process of the group.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IProcessProtocol, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.runner.procmon import ProcessMonitor
from zope.interface import implementer

from crew_tx.cli.ending import DRAINED, FAILED, REFUSED, USAGE, Ending
from crew_tx.cli.notify import PIPE, Health, PipedNotices
from crew_tx.cli.relay import Relay

#: In the environment of a child: its name.
CHILD = "CREW_CHILD"

#: Exit codes that would be the same at the next try.
FATAL = (USAGE, REFUSED)

#: Seconds after which a process that dies is started again at once; before, another waits longer each time.
_LONG_ENOUGH = 10
_LONGEST_RESTART_DELAY = 30
_SPARE_KILL_TIME = 5.0
#: Seconds for which the output of a dead process is awaited: its own children may hold it open for ever.
_LAST_WORDS = 1.0

Ended = Callable[[str, Failure, str, Callable[[], object]], object]
Noticed = Callable[[str, bytes], object]


class Supervisor(ProcessMonitor):
    """
    Keeps worker processes running.

    :param reactor: the reactor; a test gives it a clock that spawns.
    :param command: what each of them runs.
    :param environment: its variables.
    :param environment_of: gives those that one of them has for itself, by its number from 1.
    :param forks: how many.
    :param drain: the seconds that a worker takes to drain.
    :param ending: what this process ends by, if a worker can't go on.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        command: list[str],
        environment: dict[str, str],
        *,
        forks: int,
        drain: float,
        ending: Ending,
        environment_of: Callable[[int], dict[str, str]] = lambda number: {},
    ) -> None:
        self._notices = PipedNotices(reactor)
        self._spawner = Spawner(reactor, self._ended, self._notices.received)
        super().__init__(self._spawner)
        self.threshold = _LONG_ENOUGH
        self.maxRestartDelay = _LONGEST_RESTART_DELAY
        self.killTime = ceil(drain + _SPARE_KILL_TIME)
        self._ending = ending
        self._waiting: list[Deferred[None]] = []
        self._wanted: set[str] = set()
        for number in range(1, forks + 1):
            name = f"fork-{number}"
            self._wanted.add(name)
            self.addProcess(name, command, env={**environment, **environment_of(number), CHILD: name})

    def stopProcess(self, name: str) -> None:
        """Let a process drain, and kill it if it takes too long."""
        protocol = self.protocols.get(name)
        if protocol is None or protocol.transport is None or name in self.murder:
            return
        transport: Any = protocol.transport
        transport.closeStdin()
        self.murder[name] = self._spawner.callLater(self.killTime, self._kill, name)

    def stopService(self) -> Deferred[None]:  # type: ignore[override]
        """A Deferred that fires when all processes have ended."""
        super().stopService()
        stopped: Deferred[None] = Deferred()
        self._waiting.append(stopped)
        self._tell_stopped()
        return stopped

    def health(self) -> Health:
        """What the service manager is told of all processes."""
        return self._notices.health(self._wanted)

    def kill(self) -> None:
        """End all processes at once."""
        for name in list(self.protocols):
            self._kill(name)

    def _kill(self, name: str) -> None:
        transport: Any = self.protocols[name].transport
        try:
            transport.signalProcess("KILL")
        except ProcessExitedAlready:
            return
        self.log.warn("{name} is killed: it did not end in time", name=name)
        self._ending.mark(FAILED)

    def _ended(self, name: str, reason: Failure, last_words: str, restart: Callable[[], object]) -> None:
        self._notices.gone(name)
        code = getattr(reason.value, "exitCode", None)
        if self.running and code in FATAL:
            # Else it would be started again.
            self.removeProcess(name)
            self._ending.fail(code, last_words or f"{name} ended with exit code {code}; its lines say why")
        elif self.running and code == DRAINED:
            self._drained(name)
        elif self.running:
            self.log.warn("{name} ended ({how}), another is started", name=name, how=_how(reason))
        restart()
        self._tell_stopped()

    def _drained(self, name: str) -> None:
        self.log.info("{name} was drained by a command: no other is started", name=name)
        self.removeProcess(name)
        self._wanted.discard(name)
        if not self._wanted:
            self._ending.stop()

    def _tell_stopped(self) -> None:
        if not self.running and not self.protocols:
            waiting, self._waiting = self._waiting, []
            for stopped in waiting:
                stopped.callback(None)


@implementer(IReactorProcess, IReactorTime)
class Spawner:
    """
    The reactor that the monitor is given: its processes speak our protocol, and the monitor's inside.

    :param ended: called with a process's name, the reason, its last words, and what tells the monitor.
    :param noticed: called with a process's name and what it tells of its health.
    """

    def __init__(self, reactor: Any, ended: Ended, noticed: Noticed) -> None:
        self._reactor = reactor
        self._ended = ended
        self._noticed = noticed
        self.seconds = reactor.seconds
        self.callLater = reactor.callLater
        self.getDelayedCalls = reactor.getDelayedCalls

    def spawnProcess(
        self, processProtocol: IProcessProtocol, executable: Any, args: Any = (), *more: Any, **options: Any
    ) -> Any:
        fork = ForkProtocol(self._reactor, processProtocol, self._ended, self._noticed)
        pipes = {0: "w", 1: "r", 2: "r", PIPE: "r"}
        return self._reactor.spawnProcess(fork, executable, args, *more, childFDs=pipes, **options)


class ForkProtocol(ProcessProtocol):
    """
    One process.

    :param monitored: the monitor's own protocol for it.
    """

    def __init__(self, reactor: Any, monitored: Any, ended: Ended, noticed: Noticed) -> None:
        self._reactor = reactor
        self._monitored = monitored
        self._tell = ended
        self._noticed = noticed
        self._relay = Relay(monitored.name)
        self._linger: IDelayedCall | None = None
        self.outReceived = self._relay.out_received  # type: ignore[method-assign]
        self.errReceived = self._relay.err_received  # type: ignore[method-assign]

    def connectionMade(self) -> None:
        self._monitored.makeConnection(self.transport)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD == PIPE:
            self._noticed(self._monitored.name, data)
        else:
            super().childDataReceived(childFD, data)

    def processExited(self, reason: Failure) -> None:
        self._linger = self._reactor.callLater(_LAST_WORDS, self._ended, reason)

    def processEnded(self, reason: Failure) -> None:
        """Its output has ended, too."""
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
            self._ended(reason)

    def _ended(self, reason: Failure) -> None:
        self._relay.end()
        self._tell(
            self._monitored.name, reason, self._relay.last_words, lambda: self._monitored.processEnded(reason)
        )


def _how(reason: Failure) -> str:
    signal = getattr(reason.value, "signal", None)
    return f"exit code {getattr(reason.value, 'exitCode', None)}" if signal is None else f"signal {signal}"
