"""A broker that takes no messages, since its memory is low: what is out goes on, and what is new waits."""

from __future__ import annotations

from collections import defaultdict
from threading import Event

from twisted.internet import reactor

from crew_tx import Client
from crew_tx.worker import Task
from tests.faults.account import Account
from tests.faults.support import FaultTestCase, in_thread, until
from tests.soak import say

_ALARM = "{resource_limit,memory,node()}"
_PUBLISH_TIMEOUT = 3.0
#: Calls of each kind.
_COUNT = 30


class AlarmTests(FaultTestCase):
    """A client by way of a proxy, and a worker whose tasks wait to be released, each kind by itself."""

    async def start(self) -> None:
        self.releases: defaultdict[str, Event] = defaultdict(Event)
        self.runs = 0

        @Task(self.name())
        def wait(req: str) -> str:
            self.releases[req].wait(60)
            self.runs += 1
            return req

        self.addCleanup(lambda: [release.set() for release in self.releases.values()])
        self.task_id = wait.__crew_task__.task_id
        self.crew = await self.worker(wait, threads=2 * _COUNT)
        self.way = self.proxy()
        self.caller = Client(reactor, self.way.url, publish_timeout=_PUBLISH_TIMEOUT)
        self.addCleanup(self.caller.close)
        await self.caller.connect()
        self.balance = Account(self.path())

    async def alarm(self, is_on: bool) -> None:
        """Set the alarm, or clear it."""
        call = f"set_alarm({{{_ALARM},[]}})" if is_on else f"clear_alarm({_ALARM})"
        await in_thread(self.node.ctl, "eval", f"rabbit_alarm:{call}.")
        if is_on:
            self.addCleanup(in_thread, self.node.ctl, "eval", f"rabbit_alarm:clear_alarm({_ALARM}).")

    def call(self, kind: str, count: int = _COUNT) -> None:
        """Calls of a kind, in the account."""
        for number in range(count):
            call_id = f"{kind}-{number}"
            called = self.caller.call(self.task_id, kind, call_id=call_id, expiration=60)
            self.balance.add(call_id, called, kind)

    async def answer_while_away(self) -> None:
        """One half of what runs ends while its caller is away: these replies are in its queue then."""
        self.call("queued")
        self.call("running")
        await until(lambda: self.crew.status().in_progress == 2 * _COUNT, 10, "the runs")
        await until(lambda: not self.caller.status().unconfirmed, 10, "the confirms")
        self.way.stall()
        self.way.cut()
        self.releases["queued"].set()
        await until(lambda: self.runs == _COUNT and not self.crew.status().unconfirmed_replies, 10, "replies")
        lines = await in_thread(self.node.ctl, "list_queues", "name", "messages", "--no-table-headers")
        self.assertIn(f"crew.reply.{self.caller.client_id}\t{_COUNT}\n", lines)

    async def test_an_alarm_comes_and_goes(self) -> None:
        """Replies that are queued arrive, later ones are kept; new calls wait, and fail; then all goes on."""
        await self.start()
        await self.answer_while_away()
        await self.alarm(True)
        self.way.go_on()
        took = await until(lambda: self.balance.answered == _COUNT, 20, "the replies that are in the queue")
        say(f"  {_COUNT} queued replies arrive under the alarm, after {took:.1f} s")

        self.releases["running"].set()
        await until(lambda: not self.crew.status().in_progress, 20, "the runs under the alarm")
        self.call("first", 1)
        await until(lambda: self.caller.status().blocked, 10, "connection.blocked")
        self.call("late", _COUNT - 1)
        self.assertEqual(self.caller.status().waiting, _COUNT - 1)
        took = await until(lambda: self.balance.reasons, 20, "the first that waits too long")
        await until(lambda: len(self.balance.pending) == _COUNT, 5, "the others")
        kept = self.crew.status().unconfirmed_replies
        say(f"  new calls fail after {took:.1f} s; the worker keeps {kept} replies")
        self.assertTrue(_PUBLISH_TIMEOUT - 1 < took < _PUBLISH_TIMEOUT + 3)
        self.assertEqual(
            {reason.partition(":")[0] for reason in self.balance.reasons}, {"BrokerBlockedError"}
        )
        self.assertEqual((self.balance.reasons.total(), kept), (_COUNT, _COUNT))
        self.assertEqual(self.balance.answered, _COUNT)

        await self.alarm(False)
        await self.balance.when_idle().addTimeout(20, reactor)  # type: ignore[arg-type]
        self.releases["again"].set()
        self.assertEqual(await self.caller.call(self.task_id, "again"), "again")
        say(self.balance.table())
        self.assertEqual(self.balance.wrong, [])
        self.assertEqual((self.balance.answered, self.balance.ended), (2 * _COUNT, 3 * _COUNT))
        self.assertEqual(self.caller.status().duplicate_replies, 0)
        await until(lambda: not self.crew.status().unconfirmed_replies, 5, "the last confirm")
