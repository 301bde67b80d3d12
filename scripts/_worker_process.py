"""A worker that a Twisted program starts, and ends with itself."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

#: Beside the Python that runs us, where pip puts it.
TWISTD = str(Path(sys.executable).with_name("twistd"))

#: Its input ends when we do, however that comes; so a worker doesn't outlive even a SIGKILL of ours.
_WATCHER = ["sh", "-c", 'read -r _; kill -TERM "$1"', "sh"]

_KEPT_OUTPUT = 8 * 1024
#: Seconds after the first signal. The second makes a worker leave what it does.
_ASK_AGAIN_AFTER = 6.0
_KILL_AFTER = 10.0


class WorkerProcess(ProcessProtocol):
    """
    ``twistd crew-worker`` in a process of its own.

    :param arguments: those of ``crew-worker``.
    :param environment: what it has beside our environment, whose settings for workers are not meant for it.
    :param folder: where it runs.
    :ivar exit_code: negative if a signal ended it; None as long as it runs, and before.
    """

    def __init__(
        self, reactor: Any, arguments: list[str], environment: Mapping[str, str], folder: Path
    ) -> None:
        self._reactor = reactor
        self._arguments = ["-n", "--pidfile=", "crew-worker", *arguments]
        ours = {name: text for name, text in os.environ.items() if not name.startswith("CREW_")}
        self._environment = {**ours, **environment}
        self._folder = str(folder)
        self._output = b""
        self._watcher: Any = None
        self._stops: list[Deferred[int | None]] = []
        self._reminders: list[IDelayedCall] = []
        self.exit_code: int | None = None

    @property
    def command(self) -> str:
        """How it would be started in a shell."""
        return shlex.join(["twistd", *self._arguments])

    @property
    def output(self) -> str:
        """What it printed last."""
        return self._output.decode(errors="replace").strip()

    def start(self) -> None:
        """Start it."""
        command = [TWISTD, *self._arguments]
        process = self._reactor.spawnProcess(self, TWISTD, command, env=self._environment, path=self._folder)
        self._watcher = self._reactor.spawnProcess(
            ProcessProtocol(), "/bin/sh", [*_WATCHER, str(process.pid)], env=None
        )

    def stop(self) -> Deferred[int | None]:
        """
        Tell it to end, more firmly as time goes by.

        :returns: a Deferred of its exit code, once it does not run any more.
        """
        if self._watcher is None or self.exit_code is not None:
            return succeed(self.exit_code)
        _signal(self.transport, "TERM")
        if not self._reminders:
            self._reminders = [
                self._reactor.callLater(_ASK_AGAIN_AFTER, _signal, self.transport, "TERM"),
                self._reactor.callLater(_KILL_AFTER, _signal, self.transport, "KILL"),
            ]
        stop: Deferred[int | None] = Deferred(self._stops.remove)
        self._stops.append(stop)
        return stop

    # -- what the reactor calls ----------------------------------------------------

    def outReceived(self, data: bytes) -> None:
        self._output = (self._output + data)[-_KEPT_OUTPUT:]

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        status: Any = reason.value
        self.exit_code = -status.signal if status.exitCode is None else status.exitCode
        _signal(self._watcher, "KILL")
        for reminder in self._reminders:
            if reminder.active():
                reminder.cancel()
        stops, self._stops = self._stops, []
        for stop in stops:
            stop.callback(self.exit_code)


def _signal(process: Any, name: str) -> None:
    with suppress(ProcessExitedAlready):
        process.signalProcess(name)
