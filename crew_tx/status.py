"""
Frozen snapshots of a client, a worker and its pool.

They are what the status page, the control commands and the tests read: plain
values, so that a snapshot can be encoded as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StuckThread:
    """
    A thread that did not end when its job was interrupted.

    :ivar name: the thread's name; empty where the job did not even begin.
    :ivar seconds: how long ago its job was interrupted.
    """

    name: str
    task_id: str
    call_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ActiveCall:
    """
    A call that runs on a worker.

    :ivar caller: the client id that its answer goes to; None for one way.
    :ivar seconds: how long it has run.
    :ivar thread: the thread's name, or ``process`` and a pid; empty where it has none, or not yet.
    :ivar stuck: whether its caller was told of the time limit, and its thread goes on.
    """

    task: str
    id: str
    caller: str | None
    seconds: float
    thread: str
    stuck: bool = False


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """
    A thread pool at one moment.

    :ivar size: how many jobs it can run at once.
    :ivar idle: how many more it would start now.
    :ivar busy: how many it runs, stuck ones not counted.
    :ivar stuck: the threads that are quarantined now.
    :ivar replaced: how many were quarantined ever.
    """

    size: int
    idle: int
    busy: int
    stuck: tuple[StuckThread, ...] = ()
    replaced: int = 0


@dataclass(frozen=True, slots=True)
class TaskProcess:
    """
    A process for tasks with ``isolation="process"``.

    :ivar state: ``starting``, ``idle``, ``busy``, or ``ending``: it was killed, or has run enough calls.
    :ivar task_id: of the call that it runs; empty without one.
    :ivar calls: how many it has answered.
    """

    pid: int
    state: str
    task_id: str
    call_id: str
    calls: int


@dataclass(frozen=True, slots=True)
class ProcessPoolStatus:
    """
    A pool of processes at one moment.

    :ivar size: how many calls it can run at once.
    :ivar idle: how many more it would start now.
    :ivar busy: how many it runs.
    :ivar killed: processes that it killed while they ran a call.
    :ivar died: processes that ended by themselves while they ran a call.
    :ivar failed: why the last one could not start; empty since one could.
    """

    size: int
    idle: int
    busy: int
    processes: tuple[TaskProcess, ...] = ()
    killed: int = 0
    died: int = 0
    failed: str = ""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """
    A worker at one moment.

    :ivar broker: where it is connected, without the password.
    :ivar processed: calls that ended with a result.
    :ivar exceptions: calls that ended with an error, timeouts not counted.
    :ivar in_progress: calls that run now.
    :ivar unfinished: calls that still ran when the time to drain was over.
    :ivar abandoned: calls that it did not run, since their callers were gone.
    :ivar held: calls that it took and did not start yet.
    :ivar paused: whether it was told to take no calls.
    :ivar waittimes: seconds between arrival and start of the last ten calls.
    :ivar started: when, in seconds since 1970.
    :ivar processes: those of its tasks with ``isolation="process"``; None if it has no such tasks.
    :ivar refused: messages that were refused for their signatures, by the reason.
    :ivar forgotten: calls that it took under signing and remembers no more, though they are
        fresh: these can be replayed.
    """

    worker_id: str
    name: str
    host: str
    pid: int
    tasks: tuple[str, ...]
    connected: bool
    broker: str
    pool: PoolStatus
    processed: int = 0
    exceptions: int = 0
    timeouts: int = 0
    in_progress: int = 0
    unfinished: int = 0
    abandoned: int = 0
    held: int = 0
    unconfirmed_replies: int = 0
    waittimes: tuple[float, ...] = ()
    draining: bool = False
    paused: bool = False
    started: float = 0.0
    processes: ProcessPoolStatus | None = None
    refused: dict[str, int] = field(default_factory=dict)
    forgotten: int = 0


@dataclass(frozen=True, slots=True)
class ClientStatus:
    """
    A client at one moment.

    :ivar blocked: the broker's reason for blocking the connection; None where it doesn't.
    :ivar broker: where it is connected, without the password.
    :ivar pending: calls without an outcome.
    :ivar waiting: messages that wait to be written.
    :ivar unconfirmed: messages that the broker did not confirm yet.
    :ivar refused: replies and dead letters that were refused for their signatures, by the reason.
    """

    client_id: str
    connected: bool
    blocked: str | None
    broker: str
    pending: int = 0
    waiting: int = 0
    unconfirmed: int = 0
    calls: int = 0
    answers: int = 0
    errors: int = 0
    late_replies: int = 0
    duplicate_replies: int = 0
    undecodable: int = 0
    refused: dict[str, int] = field(default_factory=dict)
