"""
The process pool's decisions: it owns no process, and makes none itself.

Each process runs one call at a time. One is started before the first call
comes, and from then on one more than calls need, so that there is one at hand
when another has to be killed. Killing is all that an interrupt does here; the
place of a killed process is free when it is gone. After so many calls a
process is let go, and with it whatever its tasks have leaked.

A process that can't start, since a module can't be imported for instance, is
tried again later and later. Meanwhile calls are answered with the reason,
unless there are other processes that could.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from crew_tx.errors import CrewError, InvalidArgumentError, TaskProcessDiedError
from crew_tx.message import Call
from crew_tx.status import ProcessPoolStatus, TaskProcess
from crew_tx.tasks.interfaces import Job
from crew_tx.tasks.processes.frames import Frame, FrameError
from crew_tx.tasks.processes.messages import (
    ANSWER,
    EVENT,
    FAILED,
    READY,
    TaskEvent,
    read_answer,
    read_event,
    read_failed,
    write_call,
)
from crew_tx.timer import DeadlineTimer

#: Calls that a process runs before another takes its place.
PROCESS_CALLS = 1000
#: Seconds that a process has to import its modules in, and an idle one to end in.
_START_TIMEOUT = 60.0
_END_TIMEOUT = 5.0
_FIRST_DELAY, _LONGEST_DELAY = 1.0, 30.0

STARTING, IDLE, BUSY, ENDING = "starting", "idle", "busy", "ending"


class IsolatedJob(Job, Protocol):
    """A job for a process."""

    @property
    def call(self) -> Call:
        """What it is to run."""

    @property
    def time_left(self) -> float:
        """The seconds that it may run."""


class IChild(Protocol):
    """A child process."""

    pid: int

    def send(self, frame: bytes) -> None:
        """Write to it."""

    def close(self) -> None:
        """End its input, so that it ends."""

    def kill(self) -> None:
        """Kill it, and whatever it started. It may be gone already."""


class Listener(Protocol):
    """What a child process is followed by."""

    def received(self, frame: Frame) -> None:
        """It said something."""

    def broke_rules(self, error: CrewError) -> None:
        """It wrote what is no frame."""

    def ended(self, how: str) -> None:
        """It is gone; ``how`` completes "it"."""


#: Starts a process, which its first frame is sent to already.
Spawn = Callable[[Listener], IChild]


class ProcessPool:
    """
    Runs calls in processes.

    :param clock: an ``IReactorTime``.
    :param spawn: starts processes.
    :param size: how many calls run at once.
    :param process_calls: how many calls a process runs before it is let go.
    :param on_idle: called whenever there is room for another call again.
    :param on_event: called with each event that a task publishes; raises a
        :class:`CrewError` if it can't be one.
    :ivar ahead: not looked at: none is given ahead, since a call costs a process more than the wait.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        spawn: Spawn,
        *,
        worker_id: str,
        size: int,
        process_calls: int = PROCESS_CALLS,
        on_idle: Callable[[], object] = lambda: None,
        on_event: Callable[[TaskEvent], object] = lambda event: None,
    ) -> None:
        _check_number("processes", size)
        _check_number("calls of a process", process_calls)
        self._clock = clock
        self._spawn = spawn
        self._worker_id = worker_id
        self.size = size
        self.ahead = 0
        self._process_calls = process_calls
        self._on_idle = on_idle
        self._on_event = on_event
        self._processes: list[_Process] = []
        self._waiting: list[IsolatedJob] = []
        # A process by its patience: to start in, or to end in. None is the next try to start one.
        self._patience: DeadlineTimer[_Process | None] = DeadlineTimer(clock, self._out_of_patience)
        self._delay = 0.0
        self._failed = ""
        self._begun = self._stopped = False
        self._killed = self._died = 0

    def begin(self) -> None:
        """Start the first process, so that it is warm when a call comes."""
        self._begun = True
        self._start_processes()

    @property
    def idle(self) -> int:
        """How many more jobs can be started now."""
        return 0 if self._stopped else max(0, self.size - len(self._waiting) - self._taken())

    @property
    def waiting(self) -> int:
        """How many jobs were given and wait for a process to start."""
        return len(self._waiting)

    def start(self, job: IsolatedJob) -> None:
        """
        Run a job in a process.

        :raises RuntimeError: if there is no room, or the pool is stopped.
        """
        if not self.idle:
            raise RuntimeError("the pool has no room: look at its idle before you start a job")
        self._waiting.append(job)
        if self._failed and not self._has_hope():
            self._refuse_waiting()
            return
        self._serve()

    def recall(self) -> list[IsolatedJob]:
        """Take back the jobs that no process has begun."""
        jobs, self._waiting = self._waiting, []
        return jobs

    def withdraw(self, job: Job) -> bool:
        """
        Take one job back.

        :returns: False if a process has begun it.
        """
        for index, waiting in enumerate(self._waiting):
            if waiting is job:
                del self._waiting[index]
                self._tell(self._on_idle)
                return True
        return False

    def interrupt(self, job: Job) -> bool:
        """
        Kill the process that runs a job; the job is never heard of again.

        :returns: False if the job doesn't run.
        """
        if self.withdraw(job):
            return True
        process = self._process_of(job)
        if process is None:
            return False
        self._killed += 1
        self._kill(process)
        self._start_processes()
        return True

    def thread_of(self, job: Job) -> str:
        """Which process a job runs in, for people; empty if none."""
        process = self._process_of(job)
        return "" if process is None else f"process {process.child.pid}"

    def stop(self) -> Deferred[Any]:
        """
        Kill all processes.

        :returns: a Deferred that fires when they are gone.
        """
        self._stopped = True
        gone: list[Deferred[None]] = []
        for process in self._processes:
            process.gone = process.gone or Deferred()
            gone.append(process.gone)
            self._kill(process)
        self._patience.stop()
        return DeferredList(gone)

    def status(self) -> ProcessPoolStatus:
        """A snapshot."""
        processes = tuple(each.status() for each in self._processes)
        return ProcessPoolStatus(
            self.size, self.idle, self._taken(), processes, self._killed, self._died, self._failed
        )

    # -- what processes say --------------------------------------------------------------

    def received(self, process: _Process, frame: Frame) -> None:
        """A process sent a frame."""
        if process.state == ENDING:
            return
        try:
            self._handle(process, frame)
        except CrewError as error:
            self.broke_rules(process, error)

    def _handle(self, process: _Process, frame: Frame) -> None:
        if process.state == STARTING and frame.kind == READY:
            self._ready(process)
        elif process.state == STARTING and frame.kind == FAILED:
            self._start_failed(process, read_failed(frame))
        elif process.state == BUSY and frame.kind == EVENT:
            self._on_event(read_event(frame))
        elif process.state == BUSY and frame.kind == ANSWER:
            assert process.job is not None
            self._finish(process, read_answer(frame, process.job.call, self._worker_id))
        else:
            raise FrameError(f"a frame {frame.kind[:20]!r} was not due, since the process is {process.state}")

    def _ready(self, process: _Process) -> None:
        self._patience.clear(process)
        self._patience.clear(None)
        self._delay, self._failed = 0.0, ""
        process.state = IDLE
        self._serve()
        if self.idle:
            # Whoever gave up waiting for a process to start hears of nothing else.
            self._tell(self._on_idle)

    def _finish(self, process: _Process, outcome: object) -> None:
        job, process.job = process.job, None
        assert job is not None
        process.state = IDLE
        process.calls += 1
        if process.calls >= self._process_calls:
            self._let_go(process)
        self._tell(job.finished, outcome)
        self._serve()
        self._tell(self._on_idle)

    def broke_rules(self, process: _Process, error: CrewError) -> None:
        """What a process sent is not to be had from one: it is killed."""
        if process.state == ENDING:
            return
        said = f"sent what breaks the rules, and was killed: {error}"
        if process.state == STARTING:
            self._start_failed(process, f"a process {said}")
            return
        job, process.job = process.job, None
        self._kill(process)
        self._lost(process, job, f"{said}; a task must leave the file descriptors 3 to 5 alone")

    def ended(self, process: _Process, how: str) -> None:
        """A process is gone."""
        if process not in self._processes:
            return
        self._processes.remove(process)
        self._patience.clear(process)
        if process.gone is not None:
            process.gone.callback(None)
        if self._stopped:
            return
        if process.state == STARTING or (process.state == IDLE and not process.calls):
            self._start_failed(process, f"a process {how} before its first call")
            return
        job, process.job = process.job, None
        if process.state != ENDING:
            process.state = ENDING
            self._lost(process, job, how)
        self._start_processes()
        self._serve()
        self._tell(self._on_idle)

    def _lost(self, process: _Process, job: IsolatedJob | None, how: str) -> None:
        """It ended, and nobody had asked it to."""
        text = f"the process {process.child.pid} {how}"
        if job is None:
            self.log.warn("{text}; it ran no task", text=text)
            return
        self._died += 1
        task_id, call_id = job.describe()
        self.log.warn(
            "{text}: task {task_id!r}, call {call_id!r}", text=text, task_id=task_id, call_id=call_id
        )
        self._tell(job.finished, TaskProcessDiedError(f"{text}, before the task {task_id!r} had ended"))

    # -- processes -----------------------------------------------------------------------

    def _serve(self) -> None:
        """Give what waits to processes that are idle, and see to it that there are enough."""
        while self._waiting and (process := self._idle_process()) is not None:
            self._give(process, self._waiting.pop(0))
        self._start_processes()

    def _idle_process(self) -> _Process | None:
        return next((each for each in self._processes if each.state == IDLE), None)

    def _give(self, process: _Process, job: IsolatedJob) -> None:
        try:
            frame = write_call(job.call, job.time_left)
        except CrewError as error:
            self._tell(job.finished, error)
            return
        process.state = BUSY
        process.job = job
        process.child.send(frame)

    def _start_processes(self) -> None:
        """As many as calls need, and one to spare."""
        if self._stopped or not self._begun or self._delay:
            return
        needed = min(self.size, self._taken() + len(self._waiting)) + 1
        for _ in range(needed - self._living()):
            self._start_process()

    def _start_process(self) -> None:
        process = _Process(self)
        try:
            process.child = self._spawn(process)
        except (OSError, CrewError) as error:
            self._start_failed(process, f"a process can't be started: {error}")
            return
        self._processes.append(process)
        self._patience.set(process, _START_TIMEOUT)

    def _start_failed(self, process: _Process, reason: str) -> None:
        """Wait before the next try; nobody waits for that, unless another process can serve."""
        if process in self._processes:
            self._kill(process)
        self._failed = reason
        self._delay = min(_LONGEST_DELAY, 2 * self._delay or _FIRST_DELAY)
        self._patience.set(None, self._delay)
        self.log.error(
            "no process for tasks with isolation='process'; trying again in {delay:g} s: {reason}",
            delay=self._delay,
            reason=reason,
        )
        if self._waiting and not self._has_hope():
            self._refuse_waiting()
            self._tell(self._on_idle)

    def _has_hope(self) -> bool:
        """Whether there is a process that could run what waits."""
        return any(each.state in (STARTING, IDLE, BUSY) for each in self._processes)

    def _refuse_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for job in waiting:
            self._tell(job.finished, TaskProcessDiedError(f"no process could be started: {self._failed}"))

    def _let_go(self, process: _Process) -> None:
        process.state = ENDING
        process.child.close()
        self._patience.set(process, _END_TIMEOUT)

    def _kill(self, process: _Process) -> None:
        """A job that ran in it keeps its place until the process is gone."""
        process.state = ENDING
        self._patience.clear(process)
        process.child.kill()

    def _out_of_patience(self, process: _Process | None) -> None:
        if process is None:
            # One alone, until it is ready.
            self._start_process()
        elif process.state == STARTING:
            self._start_failed(process, f"a process did not start within {_START_TIMEOUT:g} s")
        else:
            self._kill(process)

    def _process_of(self, job: Job) -> _Process | None:
        running = (each for each in self._processes if each.state == BUSY)
        return next((each for each in running if each.job is job), None)

    def _taken(self) -> int:
        """How many processes run a job, or are not gone yet since they were killed for one."""
        return sum(each.job is not None for each in self._processes)

    def _living(self) -> int:
        return sum(each.state != ENDING or each.job is not None for each in self._processes)

    def _tell(self, listener: Callable[..., object], *arguments: object) -> None:
        """Call back; what a listener raises must not cost others their outcomes."""
        try:
            listener(*arguments)
        except Exception:
            self.log.failure("A callback of the process pool failed")


class _Process:
    """One process, as the pool sees it; what it says goes to the pool with it."""

    def __init__(self, pool: ProcessPool) -> None:
        self._pool = pool
        self.child: IChild
        self.state = STARTING
        self.job: IsolatedJob | None = None
        self.calls = 0
        self.gone: Deferred[None] | None = None

    def received(self, frame: Frame) -> None:
        """It sent a frame."""
        self._pool.received(self, frame)

    def broke_rules(self, error: CrewError) -> None:
        """It wrote what is no frame."""
        self._pool.broke_rules(self, error)

    def ended(self, how: str) -> None:
        """It is gone."""
        self._pool.ended(self, how)

    def status(self) -> TaskProcess:
        """A snapshot."""
        task_id, call_id = ("", "") if self.job is None else self.job.describe()
        return TaskProcess(self.child.pid, self.state, task_id, call_id, self.calls)


def _check_number(what: str, number: object) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise InvalidArgumentError(f"the number of {what} is a whole number from 1, not {number!r}")
