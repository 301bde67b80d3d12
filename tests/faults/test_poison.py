"""A call that kills its worker's process each time, among a hundred, on a quorum queue of a real RabbitMQ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from crew_tx import PoisonError
from crew_tx.topology import DELIVERY_LIMIT
from tests.integration.support import BrokerTestCase, Program

_TASKS = """\
import os, signal, time
from crew_tx.worker import Task, run

@Task({task!r})
def work(req):
    if req == {poison}:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    return req

if __name__ == "__main__":
    run()
"""
_CALLS = 100
_POISON = 40
_WORKERS = 2
_LOOK_EVERY = 0.05


class PoisonTests(BrokerTestCase):
    """Two workers at a time; when one dies another is started."""

    timeout = 120

    async def test_it_takes_no_other_call_with_it(self) -> None:
        """Ninety-nine are answered, and one ends as poison."""
        task = self.name()
        script = self.script()
        script.write_text(_TASKS.format(task=task, poison=_POISON))
        await self.declared(task, queue_type="quorum")
        client = await self.client()
        calls: list[Deferred[Any]] = [client.call(task, number, expiration=100) for number in range(_CALLS)]
        outcomes = [call.addErrback(lambda failure: failure.value) for call in calls]
        deaths = await self.keep_working(script, outcomes)
        results = [await outcome for outcome in outcomes]
        others = [number for number in range(_CALLS) if number != _POISON]
        self.assertEqual([results[number] for number in others], others)
        self.assertIsInstance(results[_POISON], PoisonError)
        self.assertEqual(deaths, DELIVERY_LIMIT + 1)

    async def keep_working(self, script: Path, outcomes: list[Deferred[Any]]) -> int:
        """
        Start a worker for each that has died, until all calls have ended.

        :returns: how many have died.
        """
        workers: list[Program] = []
        deaths = 0
        while not all(outcome.called for outcome in outcomes):
            living = [worker for worker in workers if worker.code is None]
            deaths += len(workers) - len(living)
            workers = living + [self.start(script) for _ in range(_WORKERS - len(living))]
            await deferLater(reactor, _LOOK_EVERY, lambda: None)  # type: ignore[arg-type]
        return deaths + len([worker for worker in workers if worker.code is not None])

    def start(self, script: Path) -> Program:
        return self.process(script, "--broker", self.url, "--queue-type", "quorum")
