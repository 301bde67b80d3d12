"""``crew top``: workers, rates, queues and what runs, looked at again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from twisted.internet.defer import FirstError, gatherResults
from twisted.internet.task import deferLater

from crew_tx.amqp.inspection import Depth, Inspector
from crew_tx.cli.crew.control import active_table, state_of
from crew_tx.cli.crew.exits import OK
from crew_tx.cli.crew.output import Output
from crew_tx.cli.crew.queues import depths_of, depths_table, queue_names
from crew_tx.cli.crew.session import Session
from crew_tx.cli.crew.text import aligned, cell
from crew_tx.client import Client
from crew_tx.errors import ConnectionLostError, PublishTimeoutError
from crew_tx.web.worker_facts import whole

_GATHER = 1.0
_SHORTEST_PAUSE = 0.05

#: A title, the columns and the rows.
NamedTable = tuple[str, Sequence[str], list[list[str]]]


@dataclass(frozen=True, slots=True)
class Look:
    """
    What was seen at one moment.

    :ivar time: in seconds, by our clock.
    :ivar rates: calls a second since the look before, by worker; none at the first.
    """

    time: float
    workers: list[dict[str, Any]]
    active: list[dict[str, Any]]
    queues: list[Depth]
    rates: dict[str, float]

    def facts(self) -> dict[str, object]:
        """For programs."""
        return {
            "time": self.time,
            "workers": [{**each, "rate": self.rates.get(each["wid"])} for each in self.workers],
            "active": self.active,
            "queues": [asdict(each) for each in self.queues],
        }

    def tables(self) -> list[NamedTable]:
        """For people."""
        columns, running = active_table(self.active)
        names, depths = depths_table(self.queues)
        workers = [self._worker_row(each) for each in self.workers]
        heads = ("wid", "host", "state", "calls/s", "processed", "exceptions", "timeouts", "held", "threads")
        tables = [
            (f"{len(workers)} workers, {sum(self.rates.values()):.1f} calls/s", heads, workers),
            ("queues", names, depths),
            (f"{len(running)} calls run", columns, running),
        ]
        return [
            (title, heads, [[cell(each) for each in row] for row in rows]) for title, heads, rows in tables
        ]

    def _worker_row(self, answer: dict[str, Any]) -> list[Any]:
        rate = self.rates.get(answer["wid"])
        names = ("processed", "exceptions", "timeouts", "held")
        return [
            answer["wid"],
            answer.get("host"),
            state_of(answer),
            None if rate is None else f"{rate:.1f}",
            *(answer.get(name) for name in names),
            f"{answer.get('busy')}/{answer.get('threads')}",
        ]


def rates_between(before: Look | None, time: float, workers: list[dict[str, Any]]) -> dict[str, float]:
    """Calls a second that ended between two looks, by worker; of those that both have."""
    if before is None or time <= before.time:
        return {}
    ended = {each["wid"]: _ended(each) for each in before.workers}
    return {
        each["wid"]: (_ended(each) - ended[each["wid"]]) / (time - before.time)
        for each in workers
        if each["wid"] in ended
    }


def pause(began: float, now: float, interval: float) -> float:
    """Seconds until the next look, which may have been quick: where no worker is, nobody is waited for."""
    return max(_SHORTEST_PAUSE, began + interval - now)


async def top(session: Session) -> int:
    """Look and show, until interrupted, or once; a connection that was there once is made anew."""
    show = _screen(session.output, session.arguments.once)
    watch = Watch(session, show)
    try:
        while not await watch.run():
            session.output.note("the connection was lost; trying again")
    finally:
        show.stop()
    return OK


class Watch:
    """
    Looks and shows.

    :ivar look: the latest.
    """

    def __init__(self, session: Session, show: Lines | Drawn) -> None:
        self._session = session
        self._show = show
        self.look: Look | None = None

    async def run(self) -> bool:
        """
        Go on as long as the connection lasts.

        :returns: whether that was all; False if there is no connection any more.
        :raises CrewError: if there is none from the start, or the broker refuses.
        """
        try:
            await self._run()
        except (ConnectionLostError, PublishTimeoutError):
            if self.look is None:
                raise
            return False
        return True

    async def _run(self) -> None:
        arguments = self._session.arguments
        async with self._session.client() as client, self._session.connection() as connection:
            inspector = Inspector(connection)
            while True:
                began = self._session.reactor.seconds()
                self.look = await _look(self._session, client, inspector, self.look)
                self._show.show(self.look)
                if arguments.once:
                    return
                await deferLater(
                    self._session.reactor, pause(began, self._session.reactor.seconds(), arguments.interval)
                )


async def _look(session: Session, client: Client, inspector: Inspector, before: Look | None) -> Look:
    timeout = min(_GATHER, session.arguments.interval)
    # All at once, since each takes as long as it may.
    asked = [client.control(name, timeout=timeout) for name in ("stats", "active", "tasks")]
    try:
        stats, active, tasks = await gatherResults(asked, consumeErrors=True)
    except FirstError as error:
        reason: Any = error.subFailure.value
        raise reason from None
    workers = sorted((each for each in stats if "error" not in each), key=lambda each: str(each["wid"]))
    depths = await depths_of(inspector, queue_names(tasks))
    now = session.reactor.seconds()
    return Look(
        now,
        workers,
        active,
        [each for each in depths.values() if each is not None],
        rates_between(before, now, workers),
    )


def _ended(answer: dict[str, Any]) -> int:
    return sum(whole(answer.get(name)) for name in ("processed", "exceptions", "timeouts"))


class Lines:
    """Shows each look below the one before."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def show(self, look: Look) -> None:
        tables = (f"{title}\n{aligned(columns, rows)}" for title, columns, rows in look.tables())
        self._output.text("\n\n".join(tables) + "\n", look.facts())

    def stop(self) -> None:
        """There is nothing to put back."""


class Drawn:
    """Shows each look in the place of the one before."""

    def __init__(self, screen: Any) -> None:
        self._screen = screen
        screen.start()

    def show(self, look: Look) -> None:
        self._screen.show(look.tables())

    def stop(self) -> None:
        self._screen.stop()


def _screen(output: Output, once: bool) -> Lines | Drawn:
    if output.as_json or once or not output.is_terminal:
        return Lines(output)
    try:
        from crew_tx.cli.crew.drawing import Screen
    except ImportError:
        return Lines(output)
    return Drawn(Screen(output.stream))
