"""The steps of the tour, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from _gateway import TourGateway
from _page import Page, duration
from _worker_process import WorkerProcess
from twisted.internet import defer, task
from twisted.internet.defer import Deferred

from crew_tx import (
    Client,
    CrewError,
    ExpirationError,
    NoWorkersError,
    RemoteError,
    TaskTimeoutError,
    UnknownTaskError,
    UnroutableError,
)
from crew_tx.amqp.uri import parse

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("services/demo.py", "services/example.py", "services/queries.py")
FORKS = 2

READY_SECONDS = 20.0
#: An outcome that isn't there by then never comes.
OUTCOME_SECONDS = 15.0
PAUSE = 0.05
#: What somebody who looks at the page has at the most.
LOOK_SECONDS = 60.0
#: What counts as at once, on a machine that has other things to do as well.
SOON = 1.0

HANGS = 1.5
SLEEPS = 0.5
TOGETHER = 8
ROWS = 500_000
EXPIRES = 0.5


class TourError(Exception):
    """Something came out otherwise than it should."""


class Came(NamedTuple):
    """What came of a call: its value or its error, and after how long."""

    outcome: Any
    seconds: float


class Tour:
    """
    What the steps share: a client, a worker, and the page that they are shown on.

    :param database: the file for services/queries.py.
    """

    def __init__(self, reactor: Any, url: str, page: Page, database: Path) -> None:
        self.page = page
        self.client = Client(reactor, url, name="tour")
        self.broker = str(parse(url))
        self.gateway = TourGateway(reactor, url)
        self.worker = WorkerProcess(
            reactor,
            ["--forks", str(FORKS), "--drain", "5", *SERVICES],
            {"CREW_BROKER": url, "CREW_QUERIES_DATABASE": str(database)},
            ROOT,
        )
        self._reactor = reactor
        self.seconds = reactor.seconds

    async def call(self, task_id: str, *data: object, **options: Any) -> Came:
        """Call a task, and show what is asked and what comes."""
        self.page.asked(written(task_id, *data, **options))
        return await self.shown(self.client.call(task_id, *data, **options))

    async def shown(self, deferred: Deferred[Any]) -> Came:
        """Wait for an outcome, and show it."""
        came = await self.outcome(deferred)
        self.page.came(*came)
        return came

    async def outcome(self, deferred: Deferred[Any]) -> Came:
        """Wait for an outcome."""
        started = self.seconds()
        outcome: Any
        try:
            outcome = await deferred.addTimeout(OUTCOME_SECONDS, self._reactor)
        except CrewError as error:
            outcome = error
        except defer.TimeoutError:
            raise TourError(f"nothing came within {OUTCOME_SECONDS:g} s") from None
        return Came(outcome, self.seconds() - started)

    async def pause(self) -> None:
        """Let others go on."""
        await task.deferLater(self._reactor, PAUSE)

    async def end(self) -> None:
        """Leave nothing behind."""
        await self.gateway.stop()
        await self.client.close()
        await self.worker.stop()


# -- the steps -------------------------------------------------------------------------


async def start_worker(tour: Tour) -> None:
    """Start a worker, and wait until all its processes answer."""
    tour.page.asked(tour.worker.command)
    started = tour.seconds()
    tour.worker.start()
    answered: set[str] = set()
    while len(answered) < FORKS:
        if tour.worker.exit_code is not None:
            raise TourError(f"the worker ended with exit code {tour.worker.exit_code}")
        expect(tour.seconds() - started < READY_SECONDS, f"{FORKS} processes within {READY_SECONDS:g} s")
        reply, _ = await tour.outcome(tour.client.request("stat", expiration=1, require_worker=True))
        if isinstance(reply, CrewError):
            await tour.pause()
        else:
            answered.add(reply.worker)
    tour.page.done(f"{FORKS} processes answer", tour.seconds() - started)


async def call_a_task(tour: Tour) -> None:
    """With a priority: where calls wait, it goes before others."""
    came = await tour.call("test", priority=100)
    expect(came.outcome == "Wake up Neo.\n", "Neo to be woken")


async def call_a_method(tour: Tour) -> None:
    """By its own name, and arpc's way."""
    for came in (
        await tour.call("example.add", {"x": 4, "y": 8}),
        await tour.call("example", {"c": "add", "x": 4, "y": 8}),
    ):
        expect(came.outcome == {"res": 12}, "the sum")


async def query_a_database(tour: Tour) -> None:
    """The driver blocks, and holds nobody up."""
    users, _ = await tour.call("queries.users", {"flag": 1})
    expect(isinstance(users, list) and len(users) == 3, "three users")
    slow = Deferred.fromCoroutine(tour.call("queries.slow", {"rows": ROWS}))
    meanwhile = await tour.call("test")
    expect(not slow.called and meanwhile.seconds < SOON, "an answer while the slow query runs")
    expect((await slow).outcome == [{"counted": ROWS}], "the count")


async def call_in_parallel(tour: Tour) -> None:
    """Each worker process has eight threads."""
    alone = await tour.call("sleep", SLEEPS)
    expect(alone.outcome == SLEEPS, "the sleeper's answer")
    tour.page.asked(f"{written('sleep', SLEEPS)}, {TOGETHER} times in parallel()")
    with tour.client.parallel() as calls:
        for _ in range(TOGETHER):
            calls.call("sleep", SLEEPS)
        together = await tour.shown(calls.result())
    expect(together.outcome == [SLEEPS] * TOGETHER, "an answer of each")
    expect(together.seconds < SLEEPS * TOGETHER / 2, "them to sleep at the same time")


async def end_a_hung_task(tour: Tour) -> None:
    """Its caller hears at once; in its thread ``SystemExit`` is raised; others go on."""
    hung = Deferred.fromCoroutine(tour.call("dead", persistent=False, priority=255, timeout=HANGS))
    tour.page.asked(f"{written('stat', persistent=False)}, again and again meanwhile")
    times = []
    while not hung.called:
        stat = await tour.outcome(tour.client.call("stat", persistent=False))
        expect(not isinstance(stat.outcome, CrewError), "stat to answer")
        times.append(stat.seconds)
        await tour.pause()
    expect(isinstance((await hung).outcome, TaskTimeoutError), "a TaskTimeoutError")
    tour.page.note(f"{len(times)} answers of stat meanwhile, the slowest after {duration(max(times))}")
    expect(max(times) < SOON, "stat to answer soon")


async def see_a_remote_error(tour: Tour) -> None:
    """With the traceback of where it happened."""
    error, _ = await tour.call("example.divide", {"x": 1, "y": 0})
    expect(isinstance(error, RemoteError) and "c_divide" in error.traceback, "a RemoteError from c_divide")


async def call_what_is_not_there(tour: Tour) -> None:
    """No call waits for what nobody has ever offered."""
    error, seconds = await tour.call("tour.nobody-has-this")
    expect(isinstance(error, UnroutableError) and seconds < SOON, "an UnroutableError at once")
    error, seconds = await tour.call("example", {"c": "multiply"})
    expect(isinstance(error, UnknownTaskError), "an UnknownTaskError")


async def show_the_page(tour: Tour) -> None:
    """In a browser; who runs the tour at a terminal has time to look."""
    tour.page.asked(f"twistd crew-gateway --listen tcp:0:interface=127.0.0.1 --broker {tour.broker}")
    started = tour.seconds()
    address = await tour.gateway.start()
    while len(tour.gateway.overview.get("workers", ())) < FORKS:
        expect(tour.seconds() - started < READY_SECONDS, f"{FORKS} workers on the page")
        await tour.pause()
    shown = tour.gateway.overview
    tour.page.done(
        f"{address} shows {len(shown['workers'])} workers and {len(shown['errors'])} recent errors",
        tour.seconds() - started,
    )
    if tour.page.is_watched:
        tour.page.note(f"open it in a browser; Enter goes on, or {LOOK_SECONDS:g} s")
        await tour.gateway.until_enter(LOOK_SECONDS)


async def stop_the_worker(tour: Tour) -> None:
    """It ends what it has begun."""
    tour.page.asked("SIGTERM to the worker")
    started = tour.seconds()
    exit_code = await tour.worker.stop()
    tour.page.done(f"exit code {exit_code}", tour.seconds() - started)
    expect(exit_code == 0, "exit code 0")


async def call_when_all_are_gone(tour: Tour) -> None:
    """The task is known, so the call may wait for a worker to come; or not."""
    error, seconds = await tour.call("test", require_worker=True)
    expect(isinstance(error, NoWorkersError) and seconds < SOON, "a NoWorkersError at once")
    error, _ = await tour.call("test", expiration=EXPIRES)
    expect(isinstance(error, ExpirationError) and error.reason == "expired", "an ExpirationError")


STEPS: tuple[tuple[str, Callable[[Tour], Coroutine[Any, Any, None]]], ...] = (
    ("A worker is started, in two processes", start_worker),
    ("A task is called, with a priority", call_a_task),
    ("A service's method is called, in two ways", call_a_method),
    ("A database is queried, and a slow query holds nobody up", query_a_database),
    ("Eight calls take no longer than one", call_in_parallel),
    ("A task that hangs is ended at its limit, and others go on", end_a_hung_task),
    ("A task fails, and its caller sees where", see_a_remote_error),
    ("What nobody offers is refused at once", call_what_is_not_there),
    ("A page of live workers is there for browsers", show_the_page),
    ("The worker is told to end", stop_the_worker),
    ("All workers are gone", call_when_all_are_gone),
)


def expect(holds: bool, wanted: str) -> None:
    """:raises TourError: if it does not hold."""
    if not holds:
        raise TourError(f"expected {wanted}")


def written(task_id: str, *data: object, **options: object) -> str:
    """A call as it stands in a program."""
    arguments = [repr(task_id), *map(repr, data), *(f"{name}={value!r}" for name, value in options.items())]
    return f"call({', '.join(arguments)})"
