"""A client, worker processes and a broker under load, what can be done to them, and the account of it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from math import inf
from random import Random

from twisted.internet import reactor

from crew_tx import Client
from crew_tx.rpc.answers import Ack
from crew_tx.testing.rabbitmq import RabbitMQNode
from crew_tx.topology import QueueType, task_queue_name
from tests.faults.account import Account
from tests.faults.load import EXPIRATION, TIMEOUT, Load
from tests.faults.processes import Workers
from tests.faults.support import FaultTestCase, in_thread, pause, unconfirmed, until
from tests.soak import say

WORKERS = 4
_READY = 30.0
#: Seconds after a broker's end, by when its workers have begun nothing more of what they hold.
_LAST_BEGUN = 0.5
#: Seconds after its start, by when all workers have sent again what it may have lost.
_RECONNECTED = 10.0


class Scene:
    """
    :param case: the test; nothing is left after it.
    :param urls: of the brokers; the client has a proxy before each.
    :param victim: finds the node that is to be killed, by the name of the task queue; it blocks.
    :param ack: when workers acknowledge calls.
    :param seed: of what is random.
    :ivar done: how often each thing was done.
    """

    def __init__(
        self,
        case: FaultTestCase,
        urls: str,
        victim: Callable[[str], RabbitMQNode],
        *,
        queue_type: QueueType = "classic",
        ack: Ack = "written",
        seed: int = 0,
    ) -> None:
        self._case = case
        self._victim = victim
        self._acks_wait = ack == "confirmed"
        self.random = Random(seed)
        self.task_id = case.name("mark")
        self.queue = task_queue_name(self.task_id)
        marks = case.path()
        self.account = Account(marks)
        self.workers = Workers(case, urls, self.task_id, marks, f"--queue-type={queue_type}", f"--ack={ack}")
        self.proxies = [case.proxy(url) for url in urls.split(",")]
        self.client = Client(
            reactor, ",".join(proxy.url for proxy in self.proxies), reply_queue_type=queue_type
        )
        self._broker_died = self._connected_again = 0.0
        self.done: Counter[str] = Counter()

    async def begin(self) -> None:
        """Wait until all are there."""
        self._case.addCleanup(self.client.close)
        await self.client.connect()
        self.workers.start(WORKERS)
        await self.all_are_there()

    async def all_are_there(self) -> None:
        """Wait until the client is connected, and every worker answers."""
        limit = time.monotonic() + _READY
        count = 0
        while count < WORKERS:
            if time.monotonic() > limit:
                raise AssertionError(f"only {count} of {WORKERS} workers answer after {_READY:g} s")
            if self.client.status().connected:
                count = len(await self.client.control("ping", self.task_id, timeout=2, expect=WORKERS))
            else:
                await pause(0.1)

    def load(self, rate: float) -> Load:
        """So many calls a second, once it is started."""
        load = Load(self.client, self.account, self.task_id, rate)
        self._case.addCleanup(load.stop)
        return load

    # -- faults ----------------------------------------------------------------------------

    async def kill_worker(self) -> None:
        """By SIGKILL; another takes its place."""
        self.done["workers killed"] += 1
        process = await self.workers.kill_one(self.random)
        is_away = time.monotonic() < self._connected_again
        self.account.worker_killed(process, self._broker_died if is_away else None)
        if self._acks_wait:
            # The answer was here before its confirm was there.
            self.account.lose_acks_of(process, time.monotonic())

    async def cut_client(self) -> None:
        """Its connection ends without a word."""
        self.done["connections cut"] += 1
        self.account.hold(unconfirmed(self.client))
        for proxy in self.proxies:
            proxy.cut()

    async def kill_broker(self, down: float = _LAST_BEGUN) -> None:
        """
        By SIGKILL; it is started again.

        :param down: seconds in between.
        """
        self.done["brokers killed"] += 1
        node = await in_thread(self._victim, self.queue)
        self._broker_died = time.monotonic()
        self._connected_again = inf
        self.account.broker_killed(self._broker_died)
        held = self._held()
        await in_thread(node.kill)
        await pause(down)
        # No answer has come meanwhile, but for those of another node.
        self.account.hold(held | self._held())
        self.account.lose_acks(self.account.answered_since(self._broker_died))
        await in_thread(node.start)
        self._connected_again = time.monotonic() + _RECONNECTED

    def _held(self) -> set[str]:
        return self.account.begun() | set(unconfirmed(self.client))

    # -- the end ---------------------------------------------------------------------------

    async def end(self, least: float, ctl: Callable[..., str]) -> None:
        """
        Wait for all outcomes, let the workers end, print the account and check it.

        :param least: the share of calls that have to be answered.
        :param ctl: runs ``rabbitmqctl``; it blocks.
        """
        await self._all_ended(ctl)
        await self.queue_is_empty(ctl)
        await self.all_are_there()
        await self.workers.stop()
        self.account.read_marks()
        status = self.client.status()
        self.done["duplicate replies"] += status.duplicate_replies
        self.done["late replies"] += status.late_replies
        say(f"{self.account.table()}\n  {', '.join(f'{name}: {count}' for name, count in self.done.items())}")
        self.account.check(self._case.fail, least)

    async def _all_ended(self, ctl: Callable[..., str]) -> None:
        """Wait; where it takes long, tell where the calls are that are missing."""
        idle = self.account.when_idle()
        try:
            await until(lambda: idle.called, _READY, "all outcomes")
        except AssertionError:
            await self._say_where_they_are(ctl)
        await until(lambda: idle.called, EXPIRATION + TIMEOUT + _READY, "all outcomes")

    async def _say_where_they_are(self, ctl: Callable[..., str]) -> None:
        self.account.read_marks()
        missing = sorted(self.account.pending)
        fields = ("name", "messages_ready", "messages_unacknowledged", "consumers")
        queues = await in_thread(ctl, "list_queues", *fields)
        asked = [await self.client.control(command, self.task_id) for command in ("stats", "active")]
        ran = {call_id: self.account.runs.get(call_id, []) for call_id in missing[:20]}
        say(
            f"  {len(missing)} calls are missing, which ran in these processes: {ran}\n"
            f"  {self.client.status()}\n{queues}\n  {asked}"
        )

    async def queue_is_empty(self, ctl: Callable[..., str]) -> None:
        """What was answered twice is acknowledged twice, in its own time."""
        limit = time.monotonic() + _READY
        while left := await self._left(ctl):
            if time.monotonic() > limit:
                raise AssertionError(f"{left} calls are left in {self.queue}")
            await pause(0.5)

    async def _left(self, ctl: Callable[..., str]) -> int:
        queues = json.loads(await in_thread(ctl, "list_queues", "name", "messages", "--formatter", "json"))
        [left] = [queue["messages"] for queue in queues if queue["name"] == self.queue]
        return int(left)


async def again_and_again(seconds: float, action: Callable[[], object], goes_on: Callable[[], bool]) -> None:
    """Do something every so many seconds, as long as it goes on."""
    while True:
        await pause(seconds)
        if not goes_on():
            return
        await action()  # type: ignore[misc]
