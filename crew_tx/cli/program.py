"""Putting a worker's process together: its settings become one service."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver
from twisted.python.components import Componentized

from crew_tx.cli.ending import FAILED, Ending
from crew_tx.cli.loading import Loaded
from crew_tx.cli.notify import Health, Notifier, environment_for_children, make_notifier
from crew_tx.cli.options import WorkerOptions
from crew_tx.cli.settings import SETTINGS
from crew_tx.cli.supervisor import Supervisor
from crew_tx.control import Right
from crew_tx.errors import CrewError
from crew_tx.status import WorkerStatus
from crew_tx.worker import Worker

#: What finds the tasks.
Load = Callable[[], Loaded]

#: Seconds that a thread runs while others wait for it. With Python's own 5 ms and eight threads
#: that compute, a call took 100 ms to be answered at the median; with this it took 13 ms.
SWITCH_INTERVAL = 0.0005


class Program(MultiService):
    """
    A worker, or a supervisor of workers, that makes the process its own when it starts.

    :ivar observer: where an application that this becomes a part of logs to; None leaves it as it is.
    """

    observer: ILogObserver | None = None
    _notifier: Notifier | None = None

    def __init__(self, ending: Ending) -> None:
        super().__init__()
        self.ending = ending

    def setServiceParent(self, parent: Any) -> None:
        if self.observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self.observer)
        super().setServiceParent(parent)

    def startService(self) -> None:
        # Not before: twistd makes the service in another process than it runs it in.
        self.ending.begin()
        super().startService()
        self._notifier = make_notifier(self.ending.reactor, self.health, os.environ)
        if self._notifier is not None:
            self._notifier.start()

    def stopService(self) -> Deferred[Any]:
        """A Deferred that fires when all has stopped, well or not."""
        if self._notifier is not None:
            self._notifier.stopping()
        stopped: Deferred[Any] = super().stopService()
        return stopped.addCallback(self._check)

    def health(self) -> Health:
        """What the service manager is told."""
        return Health(True, "running")

    def _check(self, results: list[tuple[bool, Any]]) -> None:
        if self._notifier is not None:
            self._notifier.stop()
        # What failed is logged by Twisted, since nobody here handles it.
        if not all(succeeded for succeeded, _ in results):
            self.ending.mark(FAILED)


class WorkerProgram(Program):
    """A process with one worker."""

    def __init__(self, ending: Ending, worker: Worker) -> None:
        super().__init__(ending)
        self._worker = worker
        worker.setServiceParent(self)

    def startService(self) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL)
        super().startService()

    def stopService(self) -> Deferred[Any]:
        """A Deferred that fires when the worker has drained."""
        return super().stopService().addCallback(self._check_drained)

    def health(self) -> Health:
        """Well while it is connected and its pool takes calls."""
        return worker_health(self._worker.status())

    def _check_drained(self, result: object) -> None:
        if self._worker.status().unfinished:
            self.ending.mark(FAILED)


class SupervisorProgram(Program):
    """A process with several workers below it."""

    def __init__(self, ending: Ending, supervisor: Supervisor) -> None:
        super().__init__(ending)
        ending.abandon = supervisor.kill
        self._supervisor = supervisor
        supervisor.setServiceParent(self)

    def health(self) -> Health:
        """Well while all of its workers are."""
        return self._supervisor.health()


def make_program(
    reactor: Any, options: WorkerOptions, load: Load, command: list[str], ending: Ending
) -> Program:
    """
    The service that a process runs.

    :param load: is not called by a supervisor, so its process stays small.
    :param command: what a supervisor's children run.
    """
    try:
        if options.settings["forks"]:
            return SupervisorProgram(ending, _supervisor(reactor, options, command, ending))
        return WorkerProgram(ending, _worker(reactor, options, load, ending))
    except CrewError as error:
        options.refuse(str(error))


def worker_health(status: WorkerStatus) -> Health:
    """Of a worker."""
    pool = status.pool
    if not status.connected:
        return Health(False, f"no connection to {status.broker}")
    text = f"consumes from {status.broker}; {status.in_progress} running, {status.processed} done"
    if status.paused:
        text = f"paused; {text}"
    if pool.stuck:
        text = f"{text}, {len(pool.stuck)} threads stuck"
    return Health(bool(pool.idle or pool.busy), text)


def _worker(reactor: Any, options: WorkerOptions, load: Load, ending: Ending) -> Worker:
    settings = options.settings
    loaded = load()
    return Worker(
        reactor,
        options.brokers,
        loaded.definitions,
        name=settings["name"],
        threads=settings["threads"],
        prefetch=settings["prefetch"],
        queue_type=settings["queue-type"],
        max_stuck=settings["max-stuck"],
        drain=settings["drain"],
        max_message_size=settings["max-message-size"],
        allow_pickle=settings["allow-pickle"],
        settings={"options": _shown(options), **loaded.settings},
        on_fatal=ending.fatal,
        on_asked=ending.asked,
        allowed=allowed_rights(settings),
        commands=loaded.commands,
    )


def allowed_rights(settings: Mapping[str, Any]) -> list[Right]:
    """What commands may do, by the settings: anybody may look."""
    given: dict[Right, bool] = {
        "look": True,
        "steer": not settings["deny-steer"],
        "kill": settings["allow-kill"],
        "eval": settings["allow-eval"],
    }
    return [right for right, is_given in given.items() if is_given]


def _supervisor(reactor: Any, options: WorkerOptions, command: list[str], ending: Ending) -> Supervisor:
    settings = options.settings
    ours = {setting.variable for setting in SETTINGS.values()}
    environment = {name: text for name, text in os.environ.items() if name not in ours}
    return Supervisor(
        reactor,
        command,
        {**environment, **_child_environment(options)},
        forks=settings["forks"],
        drain=settings["drain"],
        ending=ending,
    )


def _child_environment(options: WorkerOptions) -> dict[str, str]:
    """The broker's password is in it, and so not in the command line, which all users of the machine see."""
    return {
        **options.environment,
        **environment_for_children(os.environ),
        SETTINGS["forks"].variable: "0",
        SETTINGS["logging"].variable: options.settings["logging"],
        SETTINGS["log-format"].variable: "json",
        # What tasks print is passed on line by line.
        "PYTHONUNBUFFERED": "1",
    }


def _shown(options: WorkerOptions) -> dict[str, Any]:
    """The options, for ``context.settings.options``."""
    return {**options.settings, "broker": ", ".join(str(url) for url in options.brokers)}
