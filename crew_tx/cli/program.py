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
from crew_tx.cli.isolated import environment_for_tasks, isolated_command
from crew_tx.cli.loading import Loaded, load_application
from crew_tx.cli.monitor import Monitoring, endpoint_of_fork
from crew_tx.cli.notify import Health, Notifier, environment_for_children, make_notifier
from crew_tx.cli.options import WorkerOptions
from crew_tx.cli.settings import SETTINGS
from crew_tx.cli.supervisor import Supervisor
from crew_tx.control import Right
from crew_tx.errors import ConfigurationError, CrewError
from crew_tx.interfaces import ICallObserver, IRequestTracing
from crew_tx.status import WorkerStatus
from crew_tx.tasks.processes.spawner import ProcessOptions
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

    def add_monitor(self, monitoring: Monitoring) -> None:
        """
        Be watched over HTTP as well.

        :raises ConfigurationError: if that may not listen where it was told to.
        """
        monitoring.service(self.health, self.ending.fail).setServiceParent(self)

    def _check(self, results: list[tuple[bool, Any]]) -> None:
        if self._notifier is not None:
            self._notifier.stop()
        # What failed is logged by Twisted, since nobody here handles it.
        if not all(succeeded for succeeded, _ in results):
            self.ending.mark(FAILED)


class WorkerProgram(Program):
    """A process with one worker."""

    def __init__(self, ending: Ending, worker: Worker, monitoring: Monitoring | None = None) -> None:
        super().__init__(ending)
        self._worker = worker
        worker.setServiceParent(self)
        if monitoring is not None:
            if monitoring.exposition is not None:
                monitoring.exposition.add_worker(worker.status)
            self.add_monitor(monitoring)

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
        return _worker_program(reactor, options, load, ending)
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


def _worker_program(reactor: Any, options: WorkerOptions, load: Load, ending: Ending) -> WorkerProgram:
    loaded = _with_application(load(), options.settings)
    monitoring: Monitoring | None = None
    if options.settings["monitor"] is not None:
        monitoring = Monitoring(reactor, options.settings["monitor"])
    task_ids = [definition.task_id for definition in loaded.definitions]
    observer = None if monitoring is None else monitoring.observer(task_ids)
    return WorkerProgram(ending, _worker(reactor, options, loaded, ending, observer), monitoring)


def _with_application(loaded: Loaded, settings: Mapping[str, Any]) -> Loaded:
    """With the task of a WSGI application, where there is one."""
    if settings["wsgi"] is None:
        return loaded
    # Not before: a process without it has no use for it.
    from crew_tx.web.wsgi import wsgi_task

    application = load_application(settings["wsgi"])
    serving = wsgi_task(application, settings["as"], settings["max-message-size"])
    return loaded._replace(definitions=[*loaded.definitions, serving])


def _worker(
    reactor: Any, options: WorkerOptions, loaded: Loaded, ending: Ending, observer: ICallObserver | None
) -> Worker:
    settings = options.settings
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
        ack=settings["ack"],
        ack_timeout=settings["ack-timeout"],
        max_message_size=settings["max-message-size"],
        allow_pickle=settings["allow-pickle"],
        settings={"options": _shown(options), **loaded.settings},
        on_refusal=settings["on-refusal"],
        on_fatal=ending.fatal,
        on_asked=ending.asked,
        allowed=allowed_rights(settings),
        commands=loaded.commands,
        observer=observer,
        tracing=new_tracing() if settings["tracing"] else None,
        processes=ProcessOptions(
            isolated_command(loaded.modules),
            environment_for_tasks(),
            settings["processes"] or os.cpu_count() or 1,
            settings["process-calls"],
        ),
        signing_keys=options.signing_keys,
    )


def new_tracing() -> IRequestTracing:
    """:raises ConfigurationError: if OpenTelemetry is not installed."""
    try:
        from crew_tx.tracing import Tracing
    except ImportError as error:
        raise ConfigurationError(f"--tracing: {error}") from None
    return Tracing()


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
        environment_of=_own_environment(settings["monitor"]),
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


def _own_environment(monitor: str | None) -> Callable[[int], dict[str, str]]:
    """What one child of several has for itself, by its number from 1."""
    if monitor is None:
        return lambda number: {}
    return lambda number: {SETTINGS["monitor"].variable: endpoint_of_fork(monitor, number)}


def _shown(options: WorkerOptions) -> dict[str, Any]:
    """The options, for ``context.settings.options``."""
    return {**options.settings, "broker": ", ".join(str(url) for url in options.brokers)}
