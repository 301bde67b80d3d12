"""
A tour of crew_tx: starts a worker, calls its tasks in all sorts of ways, and ends it.

    python scripts/tour.py BROKER_URL

It exits with 1 where anything comes out otherwise than it should, and leaves
nothing running in any case. scripts/demo runs it on a broker of its own.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from _page import Page, duration
from _steps import STEPS, Tour, TourError
from twisted.internet import task
from twisted.internet.defer import CancelledError, Deferred

from crew_tx import CrewError

CONNECT_SECONDS = 10.0


async def take(tour: Tour) -> None:
    """Take all the steps, in their order."""
    started = tour.seconds()
    await tour.client.connect(CONNECT_SECONDS)
    tour.page.heading(f"A tour of crew_tx, on the broker {tour.client.status().broker}")
    for title, step in STEPS:
        tour.page.step(title)
        await step(tour)
    took = duration(tour.seconds() - started)
    tour.page.closing(
        f"{len(STEPS)} steps in {took}; all came out as they should. The tasks are in services/."
    )


async def run(reactor: Any, url: str) -> None:
    """:raises SystemExit: with 1 if a step went wrong, with 128 and the signal's number if one came."""
    page = Page(sys.stdout)
    with TemporaryDirectory(prefix="crew-tour-") as folder:
        try:
            tour = Tour(reactor, url, page, Path(folder, "queries.sqlite3"))
        except CrewError as error:
            sys.exit(f"tour: {error}")
        taken = Deferred.fromCoroutine(take(tour))
        signals = watch_signals(reactor, taken)
        try:
            await taken
        except (CancelledError, CrewError, TourError) as error:
            if signals:
                raise SystemExit(128 + signals[0]) from None
            where = f"Step {page.steps} went wrong: " if page.steps else ""
            page.went_wrong(f"{where}{error}", tour.worker.output)
            raise SystemExit(1) from None
        finally:
            await tour.end()


def watch_signals(reactor: Any, taken: Deferred[None]) -> list[int]:
    """
    Have a signal end the tour.

    :returns: a list, for the numbers of those that came.
    """
    came: list[int] = []

    def interrupted(number: int) -> None:
        came.append(number)
        # The first one; the way out has its time limits, and needs no hurrying.
        if len(came) == 1:
            taken.cancel()

    def install() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, frame: reactor.callFromThread(interrupted, number))

    # The reactor installs its own when it starts.
    reactor.callWhenRunning(install)
    return came


def main() -> None:
    """Read the command line, and go."""
    if len(sys.argv) != 2:
        sys.exit("usage: tour.py BROKER_URL, such as amqp://guest:guest@127.0.0.1:5672/%2F")
    task.react(run, sys.argv[1:])


if __name__ == "__main__":
    main()
