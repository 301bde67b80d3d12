"""
Runs the calls of one worker: holds them, starts them, limits their time.

It knows nothing of AMQP: attempts go in with :meth:`TaskRunner.take`, and each
comes out once through ``answered``, or is handed back unstarted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from crew_tx.codec import Codec
from crew_tx.interfaces import IHeldCalls, IKeptCalls
from crew_tx.message import Answer, Call, ErrorKind
from crew_tx.status import ActiveCall
from crew_tx.tasks import attempt as states
from crew_tx.tasks.attempt import Attempt
from crew_tx.tasks.context import AttemptContext, Settings
from crew_tx.tasks.execution import CheckHeaders, InThread, error_answer, perform, perform_async
from crew_tx.tasks.failures import describe
from crew_tx.tasks.interfaces import IPublisher
from crew_tx.tasks.lane import Lane
from crew_tx.tasks.pool import ThreadPool
from crew_tx.tasks.processes.pool import ProcessPool
from crew_tx.tasks.registry import Registry, TaskDefinition
from crew_tx.tasks.suspects import GATHER, Suspects
from crew_tx.timer import DeadlineTimer
from crew_tx.topology import SUSPECT_FROM

_WAIT_TIMES = 10


class Execution:
    """One running attempt: the pool's job, or what a Deferred stands for."""

    __slots__ = ("attempt", "context", "definition", "runner", "waiting")

    def __init__(
        self, runner: TaskRunner, attempt: Attempt, definition: TaskDefinition, context: AttemptContext
    ) -> None:
        self.runner = runner
        self.attempt = attempt
        self.definition = definition
        self.context = context
        self.waiting: Deferred[Answer] | None = None

    def run(self) -> Answer:
        """In a thread."""
        runner = self.runner
        return perform(
            self.definition,
            self.attempt.call,
            runner.codec,
            self.context,
            runner.worker_id,
            runner.seconds,
            runner.check_headers,
        )

    def finished(self, outcome: Answer | BaseException) -> None:
        """On the reactor."""
        self.runner.finished(self, outcome)

    def describe(self) -> tuple[str, str]:
        return self.attempt.call.task_id, self.attempt.call.call_id

    @property
    def call(self) -> Call:
        """What a process is to run."""
        return self.attempt.call

    @property
    def time_left(self) -> float:
        """The seconds that a process may run it."""
        return self.context.request.time_left


@implementer(IHeldCalls, IKeptCalls)
class TaskRunner:
    """
    The calls that one worker has.

    :param clock: an ``IReactorTime``.
    :param pool: where tasks run that are not asynchronous.
    :param processes: where those run that are to be killed at their time limit; None where there are none.
    :param answered: called with each attempt and its answer, once.
    :param check_headers: raises, naming the header, if a reply can't carry it.
    :param in_thread: calls a function in a thread of the reactor's pool.
    :param on_room: called when more may be started than before, where no thread tells that.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        registry: Registry,
        codec: Codec,
        pool: ThreadPool,
        answered: Callable[[Attempt, Answer], object],
        *,
        worker_id: str,
        settings: Settings,
        check_headers: CheckHeaders,
        in_thread: InThread,
        publisher: IPublisher | None = None,
        processes: ProcessPool | None = None,
        on_room: Callable[[], object] = lambda: None,
    ) -> None:
        self.codec = codec
        self.worker_id = worker_id
        self.check_headers = check_headers
        self.seconds = clock.seconds
        self._clock = clock
        self._registry = registry
        self._pool = pool
        self._answered = answered
        self._settings = settings
        self._in_thread = in_thread
        self._publisher = publisher
        self._on_room = on_room
        self._suspects: Suspects[Attempt] = Suspects(worker_id)
        # From a suspect's arrival until something ends and none is left: more may be started then.
        self._held_up = False
        self._begins_suspects = False
        self._gathers: IDelayedCall | None = None
        self.threads = Lane(pool, self._suspects, self._let_go)
        self.processes = None if processes is None else Lane(processes, self._suspects, self._let_go)
        self._lanes = [lane for lane in (self.threads, self.processes) if lane is not None]
        self._backlog = self.threads.backlog
        self._running: dict[Attempt, Execution] = {}
        self._limits: DeadlineTimer[Attempt] = DeadlineTimer(clock, self._overdue)
        self._ended: list[Deferred[None]] = []
        self.processed = 0
        self.exceptions = 0
        self.timeouts = 0
        self.waittimes: deque[float] = deque(maxlen=_WAIT_TIMES)

    @property
    def held(self) -> int:
        """Calls that no thread and no process has begun."""
        return len(self._suspects) + sum(lane.waiting for lane in self._lanes)

    @property
    def in_progress(self) -> int:
        """Calls that run and are not answered."""
        return len(self._running)

    def take(self, call: Call, delivery: object) -> None:
        """
        Take a call: start it, hold it, or answer at once that nobody knows its task.

        Asynchronous tasks need no thread, and so never wait for one: how many
        run at once is bounded by what the broker sends ahead.
        """
        attempt = Attempt(call, delivery, self.seconds())
        definition = self._registry.get(call.task_id)
        if definition is None:
            self._refuse(attempt, "unknown-task", f"this worker has no task {call.task_id!r}")
        elif call.deliveries >= SUSPECT_FROM:
            self._take_suspect(attempt, definition)
        elif self._begins_at_once(definition):
            self._start(attempt, definition)
        else:
            self._hold(attempt, definition)

    def _begins_at_once(self, definition: TaskDefinition) -> bool:
        """Whether there is room for a call, and none that came before it waits for that."""
        if self._suspects.present:
            return False
        if definition.isolation == "thread":
            return definition.is_async or (not self._backlog and self._pool.idle > 0)
        lane = self._lane(definition)
        return not lane.backlog and lane.has_room

    def _take_suspect(self, attempt: Attempt, definition: TaskDefinition) -> None:
        if not self._suspects.present:
            # Nothing waits in line for a thread behind which a suspect would have to wait.
            for lane in self._lanes:
                for recalled in [*self._recalled(lane), *lane.backlog.drain()]:
                    self._keep(recalled)
            if self._gathers is None:
                self._gathers = self._clock.callLater(GATHER, self._gathered)
        self._held_up = True
        self._hold(attempt, definition)

    def _gathered(self) -> None:
        self._gathers = None
        self.start_held()

    def _hold(self, attempt: Attempt, definition: TaskDefinition) -> None:
        self._keep(attempt)
        # Held that long it counts as never taken; and a limit runs from now in any case.
        self._limits.set(attempt, min(_limit(attempt.call, definition), attempt.call.expiration / 1000))

    def _keep(self, attempt: Attempt) -> None:
        call = attempt.call
        if call.deliveries >= SUSPECT_FROM:
            self._suspects.push(call.deliveries, call.call_id, attempt)
        else:
            definition = self._definition(attempt)
            self._lane(definition).backlog.push(definition.queue, call.priority, attempt)

    def _lane(self, definition: TaskDefinition) -> Lane:
        if definition.isolation == "thread" or self.processes is None:
            return self.threads
        return self.processes

    def start_held(self) -> None:
        """Start what is held, as far as there is room."""
        if self._held_up:
            self._start_suspects()
        for lane in self._lanes:
            while lane.backlog and lane.has_room:
                attempt = lane.backlog.pop()
                self._start(attempt, self._definition(attempt))

    def _start_suspects(self) -> None:
        """One, with nothing beside it; when none is left, all that needs no thread and was held up."""
        suspects = self._suspects
        ended_at_once = False
        self._begins_suspects = True
        try:
            while len(suspects) and not self._running and self._is_free and self._gathers is None:
                attempt = suspects.begin()
                self._start(attempt, self._definition(attempt))
                if not self._running:
                    suspects.ended()
                    ended_at_once = True
            if not suspects.present:
                self._start_asynchronous()
        finally:
            self._begins_suspects = False
        if ended_at_once and not suspects.present:
            # Nothing that ends later would tell of it.
            self._held_up = False
            self._on_room()

    @property
    def _is_free(self) -> bool:
        """Whether a call of any kind could begin, with nothing before it in line."""
        return self._pool.free > 0 and all(lane.pool.idle for lane in self._lanes)

    def _start_asynchronous(self) -> None:
        for attempt in list(self._backlog):
            definition = self._definition(attempt)
            if definition.is_async and self._backlog.remove(attempt):
                self._start(attempt, definition)

    def _after_suspect(self) -> None:
        """Something ended while there are suspects, or since they were handed back."""
        if self._begins_suspects:
            # A task on the reactor ended as it began: whoever began it goes on.
            return
        if not self._running:
            self._suspects.ended()
        self.start_held()
        self._held_up = self._suspects.present
        self._on_room()

    def hand_back(self, may_go: Callable[[Attempt], bool] = lambda attempt: True) -> list[Attempt]:
        """
        Let go of all that is not started.

        :param may_go: whether to let go of one; those it says no to stay held.
        """
        return self._let_go(self._lanes, may_go)

    def _let_go(self, lanes: list[Lane], may_go: Callable[[Attempt], bool]) -> list[Attempt]:
        """Suspects hold up all lanes, and so go with each."""
        attempts = self._suspects.drain()
        for lane in lanes:
            attempts += [*lane.backlog.drain(), *self._recalled(lane)]
        if not self._running:
            self._suspects.ended()
        kept = [attempt for attempt in attempts if not may_go(attempt)]
        for attempt in kept:
            self._keep(attempt)
        gone = [attempt for attempt in attempts if attempt not in kept]
        for attempt in gone:
            self._limits.clear(attempt)
            attempt.move(states.RETURNED)
        if self._held_up:
            self.start_held()
        return gone

    def _recalled(self, lane: Lane) -> list[Attempt]:
        """What was given to a pool and not begun, taken back."""
        attempts = []
        for job in lane.pool.recall():
            assert isinstance(job, Execution)
            del self._running[job.attempt]
            job.attempt.take_back()
            attempts.append(job.attempt)
        return attempts

    def give_ahead(self, count: int) -> None:
        """Give the threads so many calls that they can't begin at once."""
        self._pool.ahead = count

    def active(self) -> list[ActiveCall]:
        """What runs, and what goes on in threads although it was answered."""
        stuck = [job for job in self._pool.stuck if isinstance(job, Execution)]
        return [
            *(self._active(execution) for execution in self._running.values()),
            *(self._active(execution, stuck=True) for execution in stuck),
        ]

    def _active(self, execution: Execution, stuck: bool = False) -> ActiveCall:
        attempt = execution.attempt
        started = attempt.received if attempt.started is None else attempt.started
        return ActiveCall(
            attempt.call.task_id,
            attempt.call.call_id,
            attempt.call.reply_to,
            self.seconds() - started,
            self._pool_of(execution).thread_of(execution),
            stuck,
        )

    def cancel(self, call_id: str) -> bool:
        """
        End a call, held or running, and tell its caller.

        :returns: whether it was here.
        """
        attempt = next(self._attempts(call_id), None)
        if attempt is None:
            return False
        self.end(attempt, f"the call to {attempt.call.task_id!r} was cancelled on its worker")
        return True

    def end(self, attempt: Attempt, why: str) -> None:
        """End a call that is held or runs, and tell its caller why."""
        self.drop(attempt)
        answer = self._own_answer(attempt, "cancelled", "crew_tx.errors.TaskCancelledError", why)
        self._answered(attempt, answer)

    def drop(self, attempt: Attempt) -> None:
        """End a call that is held or runs; it is not answered."""
        self._limits.clear(attempt)
        execution = self._running.pop(attempt, None)
        if execution is None:
            self._remove_held(attempt)
        attempt.move(states.CANCELLED)
        if execution is not None:
            self._interrupt(execution)
        self._tell_ended()

    def find(self, call_id: str, reply_to: str | None) -> Attempt | None:
        """The attempt at a caller's call that is held or runs here; None if there is none."""
        return next((each for each in self._attempts(call_id) if each.call.reply_to == reply_to), None)

    def _attempts(self, call_id: str) -> Iterator[Attempt]:
        """Ids are callers' own: there may be several of one."""
        return (attempt for attempt in self.attempts() if attempt.call.call_id == call_id)

    def attempts(self) -> list[Attempt]:
        """All that it has and has not answered."""
        return [*self._running, *self._suspects, *chain.from_iterable(lane.backlog for lane in self._lanes)]

    def _remove_held(self, attempt: Attempt) -> bool:
        lane = self._lane(self._definition(attempt))
        return lane.backlog.remove(attempt) or self._suspects.remove(attempt)

    def when_ended(self) -> Deferred[None]:
        """A Deferred that fires when nothing is left that isn't answered."""
        ended: Deferred[None] = Deferred(self._forget_waiter)
        self._ended.append(ended)
        self._tell_ended()
        return ended

    def _forget_waiter(self, ended: Deferred[None]) -> None:
        # It may be among those that are being told just now.
        if ended in self._ended:
            self._ended.remove(ended)

    def stop(self) -> None:
        """Interrupt what still runs, without an answer; leave no delayed call."""
        self.hand_back()
        self._limits.stop()
        if self._gathers is not None:
            self._gathers.cancel()
            self._gathers = None
        # Forgotten first, so that the outcome of an interrupt answers nobody.
        running, self._running = self._running, {}
        for execution in running.values():
            self._interrupt(execution)
        self._pool.stop()

    # -- starting and ending ---------------------------------------------------------

    def _start(self, attempt: Attempt, definition: TaskDefinition) -> None:
        now = self.seconds()
        call = attempt.call
        attempt.start(now)
        self.waittimes.append(now - attempt.received)
        limit = _limit(call, definition)
        context = AttemptContext(
            call, self._settings, attempt.received + limit, self.seconds, self._publisher
        )
        execution = self._running[attempt] = Execution(self, attempt, definition, context)
        self._limits.set(attempt, attempt.received + limit - now)
        if definition.is_async:
            self._start_async(execution)
        elif definition.isolation == "thread":
            self._pool.start(execution)
        else:
            self._pool_of(execution).start(execution)

    def _start_async(self, execution: Execution) -> None:
        execution.waiting = perform_async(
            execution.definition,
            execution.attempt.call,
            self.codec,
            execution.context,
            self.worker_id,
            self.seconds,
            self.check_headers,
            self._in_thread,
        )
        execution.waiting.addErrback(_value).addCallback(execution.finished)

    def finished(self, execution: Execution, outcome: Answer | BaseException) -> None:
        """A task ended, however late: only the first outcome of an attempt counts."""
        attempt = execution.attempt
        if self._running.pop(attempt, None) is None:
            return
        self._limits.clear(attempt)
        answer = outcome if isinstance(outcome, Answer) else self._failure_answer(attempt, outcome)
        if answer.error is None:
            attempt.move(states.DONE)
            self.processed += 1
        else:
            attempt.move(states.FAILED)
            self.exceptions += 1
        self._answered(attempt, answer)
        self._tell_ended()

    def _failure_answer(self, attempt: Attempt, error: BaseException) -> Answer:
        """For what escaped: an interrupt that came as the task was ending."""
        return error_answer(attempt.call, self.codec, "raised", *describe(error), worker_id=self.worker_id)

    def _refuse(self, attempt: Attempt, kind: ErrorKind, text: str) -> None:
        attempt.move(states.FAILED)
        self.exceptions += 1
        self._answered(attempt, self._own_answer(attempt, kind, "crew_tx.errors.UnknownTaskError", text))

    def _own_answer(self, attempt: Attempt, kind: ErrorKind, error_type: str, text: str) -> Answer:
        elapsed = 0.0 if attempt.started is None else self.seconds() - attempt.started
        return error_answer(
            attempt.call, self.codec, kind, error_type, text, worker_id=self.worker_id, elapsed=elapsed
        )

    # -- time limits -------------------------------------------------------------------

    def _overdue(self, attempt: Attempt) -> None:
        execution = self._running.pop(attempt, None)
        if execution is not None:
            self._ran_too_long(execution)
        elif self._remove_held(attempt):
            self._held_too_long(attempt)
        self._tell_ended()

    def _ran_too_long(self, execution: Execution) -> None:
        attempt = execution.attempt
        if self._pool_of(execution).withdraw(execution):
            attempt.take_back()
            self._held_too_long(attempt)
            return
        self._time_out(attempt, f"the task {attempt.call.task_id!r} ran over its time limit")
        self._interrupt(execution)

    def _held_too_long(self, attempt: Attempt) -> None:
        call = attempt.call
        if self.seconds() - attempt.received < call.expiration / 1000:
            limit = _limit(call, self._definition(attempt))
            waited = f"waited in the worker for a thread for {limit:g} s, which is its time limit"
            self._time_out(attempt, f"the task {call.task_id!r} {waited}")
            return
        attempt.move(states.EXPIRED)
        text = f"the worker held the call for {call.expiration / 1000:g} s without a free thread"
        self._answered(attempt, self._own_answer(attempt, "expired", "crew_tx.errors.ExpirationError", text))

    def _time_out(self, attempt: Attempt, text: str) -> None:
        attempt.move(states.TIMED_OUT)
        self.timeouts += 1
        self._answered(attempt, self._own_answer(attempt, "timeout", "crew_tx.errors.TaskTimeoutError", text))

    def _interrupt(self, execution: Execution) -> None:
        execution.context.cancelled = True
        if execution.waiting is not None:
            execution.waiting.cancel()
        else:
            self._pool_of(execution).interrupt(execution)

    def _pool_of(self, execution: Execution) -> Any:
        """The thread pool or the process pool."""
        return self._lane(execution.definition).pool

    def _definition(self, attempt: Attempt) -> TaskDefinition:
        """Of a call that is held or runs, so its task is known."""
        definition = self._registry.get(attempt.call.task_id)
        assert definition is not None
        return definition

    def _tell_ended(self) -> None:
        if self._held_up:
            self._after_suspect()
        if self._ended and not self._running and not self.held:
            ended, self._ended = self._ended, []
            for deferred in ended:
                deferred.callback(None)


def _limit(call: Call, definition: TaskDefinition) -> float:
    """Seconds that a call may run: the smaller of its own limit and its task's."""
    limit = call.timeout / 1000
    return limit if definition.timeout is None else min(limit, definition.timeout)


def _value(failure: Failure) -> Any:
    if failure.check(CancelledError):
        return CancelledError("the task was cancelled at its time limit")
    return failure.value
