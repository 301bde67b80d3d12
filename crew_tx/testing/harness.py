"""
Clients, workers and a broker for a test: the real ones, on a clock, in memory.

No socket is opened, no thread started, and nothing sleeps. What a test starts
moves in :meth:`CrewHarness.flush`, and time goes by in
:meth:`CrewHarness.advance`.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from dataclasses import replace
from types import ModuleType, TracebackType
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from crew_tx.amqp.uri import parse_all
from crew_tx.client import Client
from crew_tx.errors import ConfigurationError
from crew_tx.signing import SigningKeys
from crew_tx.tasks.declaration import MARK
from crew_tx.tasks.registry import Service, TaskDefinition, collect
from crew_tx.testing._process import Process
from crew_tx.testing._wire import Wire
from crew_tx.testing.broker import HarnessBroker
from crew_tx.testing.memory import MemoryReactor
from crew_tx.testing.stepped import SteppedThreads
from crew_tx.worker import Worker

H = TypeVar("H", bound="CrewHarness")

#: Seconds that clients and workers have to close in, where the broker does not play along.
_CLOSE_TIMEOUT = 120.0


class CrewHarness:
    """
    A client and a worker that are connected to a broker.

    :param tasks: what the worker answers: functions marked with ``Task``,
        ``Service`` objects, or modules of them. Without any there is no worker.
    :param clock: one that was made before, for tasks to wait on; a new one by default.
        It can't be that of another harness.
    :param client: options of the client.
    :param worker: options of the worker.
    :param signing_keys: those of every client and worker that is not given others.
    :ivar clock: the reactor; give it to whatever takes one, or a clock, in your own code.
    :ivar broker: where faults of the broker are brought about.
    :ivar client: a :class:`crew_tx.Client`.
    """

    def __init__(
        self,
        *tasks: object,
        clock: MemoryReactor | None = None,
        client: Mapping[str, Any] | None = None,
        worker: Mapping[str, Any] | None = None,
        signing_keys: SigningKeys | None = None,
    ) -> None:
        if clock is not None and not isinstance(clock, MemoryReactor):
            raise TypeError(
                f"the clock of a harness is a MemoryReactor, not a {type(clock).__name__}: "
                "leave it out, and give your own code harness.clock"
            )
        self.clock = MemoryReactor() if clock is None else clock
        self.broker = HarnessBroker(self.clock)
        self._signing_keys = signing_keys
        self._held: dict[str, bool] = {}
        self._clients: list[_Client] = []
        self._workers: list[_Worker] = []
        self._closed = False
        if tasks:
            self.new_worker(*tasks, **worker or {})
        self.client: Client = self.new_client(**client or {})

    # -- programs ------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The broker's URL, for a client that your own code makes."""
        return self.broker.url

    @property
    def worker(self) -> Worker:
        """
        The first worker.

        :raises ConfigurationError: if there is none.
        """
        if not self._workers:
            raise ConfigurationError("this harness has no worker: give it tasks")
        return self._workers[0]

    def new_client(self, **options: Any) -> Client:
        """
        One more client, connected unless the broker is in its way.

        :param options: as :class:`crew_tx.Client` takes them.
        """
        options.setdefault("signing_keys", self._signing_keys)
        client = _Client(Process(self.clock), self.url, options)
        self._clients.append(client)
        client.startService()
        self.flush()
        return client

    def new_worker(self, *tasks: object, **options: Any) -> Worker:
        """
        One more worker, connected unless the broker is in its way.

        :param tasks: as the harness takes them.
        :param options: as :class:`crew_tx.worker.Worker` takes them.
        :raises ConfigurationError: if one of the tasks is none.
        """
        definitions = [_in_a_thread(each) for task in tasks for each in _definitions_of(task)]
        threads = SteppedThreads(self._held)
        self.clock.add_stepper(threads.step_free)
        options.setdefault("signing_keys", self._signing_keys)
        worker = _Worker(Process(self.clock), self.url, definitions, threads, options)
        self._workers.append(worker)
        worker.startService()
        self.flush()
        return worker

    def kill(self, program: Client | Worker) -> None:
        """
        End a client or a worker as SIGKILL does.

        What a worker had goes to others; a killed client's calls never end.
        """
        self._own(program).kill()
        self.flush()

    def connection(self, program: Client | Worker | None = None) -> Wire:
        """
        The connection that a program has now, to be cut, stalled or frozen.

        :param program: the client by default.
        :raises LookupError: if it has none.
        """
        wires = self._own(self.client if program is None else program).process.wires
        if not wires:
            raise LookupError("there is no connection now")
        return wires[-1]

    def _own(self, program: Client | Worker) -> _Client | _Worker:
        if isinstance(program, _Client | _Worker):
            return program
        raise TypeError(f"{program!r} was not made by a harness: see new_client() and new_worker()")

    # -- time ------------------------------------------------------------------------------------

    def flush(self) -> None:
        """
        Let everything arrive that is on its way, and run every task that is not held.

        Time stands still.
        """
        self.clock.flush()

    def advance(self, seconds: float) -> None:
        """Let time go by, and everything happen that is due in it."""
        self.clock.advance(seconds)

    def result(self, waiting: Deferred[Any] | Coroutine[Deferred[Any], Any, Any]) -> Any:
        """
        What a Deferred comes to now.

        :param waiting: a Deferred, or a coroutine.
        :returns: its value; if it has failed, the error is raised.
        :raises AssertionError: if it has not fired.
        """
        deferred = waiting if isinstance(waiting, Deferred) else Deferred.fromCoroutine(waiting)
        self.flush()
        results: list[Any] = []
        deferred.addBoth(_taken, results)
        if not results:
            # Whoever looks next is to find it.
            results.append(_PASSED_ON)
            held = [text for worker in self._workers for text in worker.held()]
            going_on = "; ".join(self._left() + held) or "nothing is going on"
            raise AssertionError(f"there is no result yet, at {self.clock.seconds():g} s: {going_on}")
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    # -- tasks that take long ----------------------------------------------------------------------

    def hold(self, task_id: str, *, stuck: bool = False) -> None:
        """
        Let calls to a task that runs in a thread take for ever, until :meth:`release`.

        They occupy their threads meanwhile. At its time limit such a call is
        interrupted and ends, as a task does that computes.

        :param stuck: not even that ends it, as with a task that waits in C code.
        :raises LookupError: if no worker has such a task, or it is async: that one waits by itself.
        """
        definitions = {each.task_id: each for worker in self._workers for each in worker.definitions}
        definition = definitions.get(task_id)
        if definition is None or definition.is_async:
            known = ", ".join(each for each, found in definitions.items() if not found.is_async)
            raise LookupError(f"no worker has a task {task_id!r} that runs in a thread; there are: {known}")
        self._held[task_id] = stuck

    def release(self, task_id: str | None = None) -> None:
        """
        Let calls to a task that was held run.

        :param task_id: all tasks by default.
        """
        if task_id is None:
            self._held.clear()
        else:
            self._held.pop(task_id, None)
        self.flush()

    # -- the end -------------------------------------------------------------------------------------

    def install(self: H, test_case: Any) -> H:
        """
        Close when a test ends, whatever came of it.

        :param test_case: anything with ``addCleanup``.
        :returns: this harness.
        """
        test_case.addCleanup(self.close)
        return self

    def close(self) -> None:
        """
        Close clients, workers and broker. A second time it does nothing.

        What the test holds ends with it.

        :raises AssertionError: if something was left: a call without an
            outcome, a task on the reactor, a connection, a delayed call. It is named.
        """
        if self._closed:
            return
        self._closed = True
        self.flush()
        left = self._left()
        stopping = [stopped for program in self._programs if (stopped := program.end()) is not None]
        self._wait_for(stopping)
        self.broker.stop()
        self.flush()
        left += [str(wire) for wire in self.clock.wires]
        left += [_described(call) for call in self.clock.getDelayedCalls()]
        if left:
            raise AssertionError("the test left behind: " + "; ".join(left))

    def __enter__(self: H) -> H:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """What was left is not said where the block has failed: that comes of it."""
        try:
            self.close()
        except AssertionError:
            if error is None:
                raise

    def _wait_for(self, stopping: list[Deferred[Any]]) -> None:
        """Time goes by only where somebody takes any, so that no delayed call of the test's comes due."""
        self.flush()
        end = self.clock.seconds() + _CLOSE_TIMEOUT
        while not all(stopped.called for stopped in stopping):
            due = self.clock.next_due()
            if due is None or due > end:
                raise AssertionError(f"clients and workers did not stop within {_CLOSE_TIMEOUT:g} s")
            self.advance(due - self.clock.seconds())

    @property
    def _programs(self) -> list[_Client | _Worker]:
        return [*self._clients, *self._workers]

    def _left(self) -> list[str]:
        """What has no end yet, in words."""
        return [text for program in self._programs for text in program.left()]


class _Client(Client):
    """A client that can say what it waits for."""

    def __init__(self, process: Process, url: str, options: dict[str, Any]) -> None:
        super().__init__(process, url, **options)
        self.process = process
        self._sending: dict[object, str] = {}

    def left(self) -> list[str]:
        """Its calls without an outcome, one way or not."""
        if not self.process.alive:
            return []
        calls = [f"the call {call.message_id} to {call.routing_key!r}" for call in self._pending]
        return calls + [f"a one-way call to {task_id!r}" for task_id in self._sending.values()]

    def _send(self, task_id: str, *arguments: Any) -> Deferred[None]:
        key = object()
        self._sending[key] = task_id
        return super()._send(task_id, *arguments).addBoth(self._sent, key)

    def _sent(self, result: Any, key: object) -> Any:
        del self._sending[key]
        return result

    def kill(self) -> None:
        """Run no more."""
        self.process.kill()

    def end(self) -> Deferred[Any] | None:
        """Stop; or, where that would fail calls that somebody waits for, be killed."""
        if self.left():
            self.kill()
        return self.close() if self.process.alive else None


class _Worker(Worker):
    """A worker that can say what it runs."""

    def __init__(
        self,
        process: Process,
        url: str,
        definitions: list[TaskDefinition],
        threads: SteppedThreads,
        options: dict[str, Any],
    ) -> None:
        super().__init__(process, parse_all(url), definitions, **{"create_threads": threads, **options})
        self.process = process
        self._threads = threads

    def left(self) -> list[str]:
        """Its tasks that wait on the reactor; those in threads end, but for those that the test holds."""
        if not self.process.alive:
            return []
        count = self.status().in_progress - len(self._threads.jobs)
        return ["a task that runs on the reactor"] * count

    def held(self) -> list[str]:
        """Its tasks that the test holds, and what waits for their threads."""
        jobs = [job.describe() for job in self._threads.jobs]
        return [f"the task {task_id!r}, which is held with the call {call_id}" for task_id, call_id in jobs]

    def kill(self) -> None:
        """Run no more."""
        self._threads.jobs.clear()
        self.process.kill()

    def end(self) -> Deferred[Any] | None:
        """Drain; or be killed, where a task would not end."""
        if self.left() or self._threads.jobs:
            self.kill()
        return self.stopService() if self.running and self.process.alive else None


def _definitions_of(task: object) -> list[TaskDefinition]:
    found: list[TaskDefinition] = []
    if isinstance(task, Service):
        found = task.tasks()
    elif isinstance(task, ModuleType):
        found = collect(vars(task))
    elif isinstance(definition := getattr(task, MARK, None), TaskDefinition):
        found = [definition]
    if not found:
        raise ConfigurationError(
            f"{task!r} is no task: give a function marked with Task, a Service, or a module of them"
        )
    return found


def _in_a_thread(definition: TaskDefinition) -> TaskDefinition:
    """There are no processes in memory."""
    return definition if definition.isolation == "thread" else replace(definition, isolation="thread")


_PASSED_ON = object()


def _taken(result: Any, results: list[Any]) -> Any:
    """Take what a Deferred comes to, if that comes at once."""
    if results:
        return result
    results.append(result)
    return None


def _described(call: Any) -> str:
    """A delayed call, by what it calls; a program's own has that as its first argument."""
    is_own = isinstance(getattr(call.func, "__self__", None), Process)
    function = call.args[0] if is_own else call.func
    name = getattr(function, "__qualname__", repr(function))
    return f"a delayed call of {name}, due at {call.getTime():g} s"
