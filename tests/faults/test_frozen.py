"""A broker whose processes are held where they are: its sockets stay open, and answer nothing."""

from __future__ import annotations

import time
from random import random
from threading import Event
from typing import Any

from twisted.internet.defer import Deferred

from crew_tx import Client, ReplyLostError
from crew_tx.amqp.service import BrokerConnection
from crew_tx.amqp.uri import parse_all
from crew_tx.worker import Task, Worker
from tests.faults.support import FaultTestCase, pause, until
from tests.integration.support import errored, gathered
from tests.soak import say

_HEARTBEAT = 2
#: Seconds that a timer may be late on a machine that is busy.
_LATE = 1.0
#: Seconds in which work goes on after the broker's waking.
_GOES_ON = 10.0
#: The call whose task runs until it is told to end.
_LONG = -1


class FrozenTests(FaultTestCase):
    """Heartbeats of two seconds."""

    nodes = 2

    async def start(self, *brokers: int) -> None:
        """A client and a worker that know these brokers."""
        self.runs: list[int] = []
        self.release = Event()
        self.addCleanup(self.release.set)

        @Task(self.name())
        def count(req: int) -> int:
            self.runs.append(req)
            if req == _LONG:
                self.release.wait(30)
            return req + 1

        self.task_id = count.__crew_task__.task_id
        self.url = ",".join(self.brokers[number].url for number in brokers)
        assert len(parse_all(self.url)) == len(brokers)
        self.begin_with_the_first()
        self.crew = await self.worker(count, heartbeat=_HEARTBEAT)
        self.caller = await self.client(heartbeat=_HEARTBEAT)

    def begin_with_the_first(self) -> None:
        """These brokers know nothing of each other, so client and worker have to be at the same."""
        chosen = iter([0.0, 0.0])
        defaults: Any = BrokerConnection.__init__.__kwdefaults__
        choose = {"random_number": lambda: next(chosen, random())}
        self.patch(BrokerConnection.__init__, "__kwdefaults__", defaults | choose)

    def call(self, number: int) -> Deferred[Any]:
        called: Deferred[Any] = self.caller.call(self.task_id, number, expiration=60)
        return called

    async def freeze(self) -> None:
        """Do that to the broker that both are connected to, and see both notice."""
        self.brokers[0].freeze()
        begun = time.monotonic()
        took = {}
        for program in (self.caller, self.crew):
            await until(lambda: not _is_connected(program), 30, f"{program} notices")  # noqa: B023
            took[type(program).__name__] = time.monotonic() - begun
        said = ", ".join(f"{name} after {seconds:.1f} s" for name, seconds in took.items())
        say(f"  the frozen broker is noticed: {said}; heartbeats of {_HEARTBEAT} s")
        self.assertLess(max(took.values()), 2 * _HEARTBEAT + _LATE)

    async def test_one_that_wakes(self) -> None:
        """Both notice within two heartbeats; within ten seconds of its waking work goes on; none is lost."""
        await self.start(0)
        self.assertEqual(await self.call(0), 1)
        waiting = [self.call(number) for number in range(1, 50)]
        await self.freeze()
        waiting += [self.call(number) for number in range(50, 100)]
        # Through a connection that the kernel takes, and the broker doesn't serve.
        await pause(2 * _HEARTBEAT)
        self.brokers[0].thaw()
        begun = time.monotonic()
        self.assertEqual(await self.call(100), 101)
        self.assertEqual(await gathered(waiting), list(range(2, 101)))
        took = time.monotonic() - begun
        say(f"  work goes on {took:.1f} s after its waking")
        self.assertLess(took, _GOES_ON)
        self.assertEqual(sorted(self.runs), list(range(101)))

    async def test_another_is_on_the_list(self) -> None:
        """Work goes on there; a call that the frozen one has confirmed fails: its reply is lost."""
        await self.start(0, 1)
        self.assertEqual(await self.call(0), 1)
        confirmed = errored(self.call(_LONG), ReplyLostError)
        failed = Deferred.fromCoroutine(confirmed)
        await until(lambda: _LONG in self.runs and not self.caller.status().unconfirmed, 10, "its run")
        await self.freeze()
        begun = time.monotonic()
        await failed
        await until(self.is_at_the_next, 30, "the next broker")
        self.assertEqual(await self.call(1), 2)
        say(f"  work goes on at the next broker {time.monotonic() - begun:.1f} s after that")

    def is_at_the_next(self) -> bool:
        """Both are connected, and not to the frozen one."""
        port = str(self.brokers[1].port)
        return all(_is_connected(each) and port in each.status().broker for each in (self.caller, self.crew))

    def tearDown(self) -> None:
        """So that what is closed then need not wait for its heartbeats."""
        for node in self.brokers:
            if node._frozen:
                node.thaw()


def _is_connected(program: Client | Worker) -> bool:
    return program.status().connected
