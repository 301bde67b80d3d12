"""Faults in random order, between a client, two workers and their broker: no call and no reply gets lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from crew_tx import Client
from crew_tx.rpc.answers import Ack
from crew_tx.testing import CrewHarness
from crew_tx.worker import Task, Worker

_ROUNDS = 40
_STEPS = 60
#: Seconds in which all that was broken is whole again, and all that was lost was sent again.
_HEALS = 150.0
#: Seconds past all that is broken, for calls and for the time in which they may be written.
_LONG = 3600.0


@Task("double")
def double(number: int) -> int:
    """What is called."""
    return number * 2


class Round:
    """
    One round.

    :param seed: of what is random.
    :param ack: when the workers acknowledge calls.
    :ivar outcomes: what each call came to; one, unless it is lost or ends twice.
    """

    def __init__(self, seed: int, ack: Ack) -> None:
        self.random = random.Random(seed)
        self.ack: Ack = ack
        self.harness = CrewHarness(client={"publish_timeout": _LONG})
        self.broker = self.harness.broker
        self.workers = [self.worker(), self.worker()]
        self.outcomes: list[list[Any]] = []
        self.is_down = False

    def worker(self) -> Worker:
        """One more worker."""
        return self.harness.new_worker(double, ack=self.ack, threads=2)

    def run(self) -> None:
        """Let things happen, then let all be well again."""
        for _ in range(_STEPS):
            self.random.choice(self.steps())()
        self.heal()
        self.harness.advance(_HEALS)

    def steps(self) -> list[Callable[[], object]]:
        """What may happen next, the more often the oftener it is named."""
        often = [self.call, self.call, self.call, self.harness.flush, self.moment, self.moment, self.while_]
        seldom = [self.cut, self.stall, self.stall_server, self.cut_later, self.flow]
        hold, release = lambda: self.harness.hold("double"), self.harness.release
        return [*often, *often, *seldom, *seldom, self.long, self.kill, hold, release, *self.of_broker()]

    def of_broker(self) -> list[Callable[[], object]]:
        """What the broker may do next."""
        if self.is_down:
            return [self.start]
        broker = self.broker
        steps = [
            *(broker.restart, self.stop, broker.freeze, broker.thaw, broker.thaw),
            *(broker.raise_alarm, broker.clear_alarm, broker.close_connections),
        ]
        # Where the ack is out with the reply, a worker that dies has a refused one alone.
        return [*steps, self.nack] if self.ack == "confirmed" else steps

    # -- what may happen -----------------------------------------------------------------

    def call(self) -> None:
        outcomes: list[Any] = []
        self.outcomes.append(outcomes)
        called: Deferred[Any] = self.harness.client.call("double", len(self.outcomes), expiration=_LONG)
        called.addBoth(outcomes.append)

    def moment(self) -> None:
        self.harness.advance(self.random.uniform(0, 0.3))

    def while_(self) -> None:
        self.harness.advance(self.random.uniform(0.3, 8))

    def long(self) -> None:
        self.harness.advance(self.random.uniform(8, 70))

    def wire(self, program: Client | Worker | None = None) -> Any:
        """Some program's connection; what does nothing where it has none."""
        programs = [self.harness.client, self.harness.client, *self.workers]
        try:
            return self.harness.connection(program or self.random.choice(programs))
        except LookupError:
            return None

    def cut(self) -> None:
        if wire := self.wire():
            wire.cut()

    def cut_later(self) -> None:
        if wire := self.wire():
            wire.cut_after(self.random.randint(1, 3000))

    def stall(self) -> None:
        if wire := self.wire():
            wire.stall()

    def stall_server(self) -> None:
        if wire := self.wire():
            wire.server.stall()

    def flow(self) -> None:
        for program in (self.harness.client, *self.workers):
            if wire := self.wire(program):
                wire.flow()
                wire.server.flow()

    def kill(self) -> None:
        self.harness.kill(self.workers.pop(self.random.randrange(2)))
        self.workers.append(self.worker())

    def nack(self) -> None:
        self.broker.nack(1, "crew.replies")

    def stop(self) -> None:
        self.is_down = True
        self.broker.stop()

    def start(self) -> None:
        self.is_down = False
        self.broker.start()

    def heal(self) -> None:
        """Nothing is broken any more."""
        self.broker.start()
        self.broker.thaw()
        self.broker.clear_alarm()
        self.harness.release()
        self.flow()


class AnyOrderTests(SynchronousTestCase):
    """Persistent calls, in durable queues of a broker that keeps what it has."""

    def test_every_call_is_answered(self) -> None:
        """Once, and with its value: the broker comes back, and so do connections and workers."""
        for seed in range(_ROUNDS):
            for ack in ("written", "confirmed"):
                self.check(Round(seed, ack), f"the seed {seed}, acks when {ack}")

    def check(self, turn: Round, name: str) -> None:
        """Run one round."""
        # The pauses before connections are of this.
        random.seed(name)
        with turn.harness:
            turn.run()
            expected = [[2 * number] for number in range(1, len(turn.outcomes) + 1)]
            self.assertEqual(turn.outcomes, expected, name)
            self.assertEqual(turn.harness.client.status().pending, 0, name)
