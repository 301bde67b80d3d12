"""
Calls whose callers may be gone: a task may ask that they are skipped then.

Before such a call is begun, a mandatory probe goes to its caller's reply queue. If
that is there, the broker confirms the probe, and the caller drops it; if not, it
comes back, and the call is acknowledged without having run. Where the broker says
neither for a while the call runs: better for nobody than not at all.

Meanwhile its delivery is not settled, so it counts for the prefetch, goes back with
all that is not begun, and is the broker's again when the connection is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any
from uuid import uuid4

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from crew_tx.amqp.delivery import Returned
from crew_tx.amqp.properties import encode_properties
from crew_tx.amqp.publisher import Publication, Publisher
from crew_tx.errors import CrewError
from crew_tx.interfaces import IHeldCalls
from crew_tx.message import Call, probe_properties
from crew_tx.rpc.answers import TakenDelivery
from crew_tx.timer import DeadlineTimer
from crew_tx.topology import REPLIES

#: Seconds that the broker has to say whether a caller is there.
LIMIT = 5.0
#: Milliseconds after which nobody needs a probe that lies in the queue of a caller who is away.
EXPIRES = 10_000


class CallerProbe(Publication):
    """
    Asks whether a call's caller is there.

    :ivar delivery: what settles the call.
    """

    __slots__ = ("_probing", "call", "delivery")

    def __init__(self, probing: Probing, call: Call, delivery: TakenDelivery) -> None:
        # Without a call's id, by which its caller would take it for an answer.
        message_id = f"probe.{uuid4().hex}"
        properties = encode_properties(probe_properties(message_id, EXPIRES))
        super().__init__(REPLIES, call.reply_to or "", properties, b"", message_id)
        self._probing = probing
        self.call = call
        self.delivery = delivery

    def returned(self, returned: Returned) -> None:
        self._probing.gone(self)

    def confirmed(self) -> None:
        self._probing.go_on(self)

    def failed(self, error: CrewError) -> None:
        # A queue that is full, for one, is somebody's.
        self._probing.go_on(self)


@implementer(IHeldCalls)
class Probing:
    """
    What waits to hear of its caller, before what waits for a thread.

    :param clock: an ``IReactorTime``.
    :param task_ids: the tasks that ask for it.
    :param calls: those that were let through and are not begun.
    :param begin: called with a call, and what settles it, when it may run.
    :ivar abandoned: calls that were not run, since their callers were gone.
    """

    def __init__(
        self,
        clock: IReactorTime,
        publisher: Publisher,
        task_ids: Iterable[str],
        calls: IHeldCalls,
        begin: Callable[[Call, TakenDelivery], object],
    ) -> None:
        self.task_ids = frozenset(task_ids)
        self.abandoned = 0
        self._publisher = publisher
        self._calls = calls
        self._begin = begin
        self._probes: dict[CallerProbe, None] = {}
        self._limits: DeadlineTimer[CallerProbe] = DeadlineTimer(clock, self._overdue)

    def __len__(self) -> int:
        return len(self._probes)

    def wants(self, call: Call) -> bool:
        """Whether its caller is to be asked after; nobody waits for one-way calls."""
        return call.task_id in self.task_ids and call.reply_to is not None

    def ask(self, call: Call, delivery: TakenDelivery) -> None:
        """Ask after a call's caller, and begin it if that is there."""
        probe = CallerProbe(self, call, delivery)
        self._probes[probe] = None
        self._limits.set(probe, LIMIT)
        try:
            self._publisher.publish(probe)
        except CrewError:
            # The line is full.
            self.go_on(probe)

    def find(self, call_id: str, reply_to: str | None) -> CallerProbe | None:
        """The probe for a caller's call; None if there is none."""
        for probe in self._probes:
            if (probe.call.call_id, probe.call.reply_to) == (call_id, reply_to):
                return probe
        return None

    def stop(self) -> None:
        """Leave no delayed call."""
        self._limits.stop()

    # -- what became of a probe ----------------------------------------------------------

    def go_on(self, probe: CallerProbe) -> None:
        """The caller is there, or nobody can say: the call runs, unless the broker has it again."""
        if self.forget(probe) and not probe.delivery.is_dead:
            self._begin(probe.call, probe.delivery)

    def gone(self, probe: CallerProbe) -> None:
        """Nobody would read the answer."""
        if self.forget(probe):
            self.abandoned += 1
            probe.delivery.ack()

    def forget(self, probe: CallerProbe) -> bool:
        """Wait for a probe no more. :returns: whether it was waited for."""
        if probe not in self._probes:
            return False
        del self._probes[probe]
        self._limits.clear(probe)
        self._publisher.withdraw(probe)
        return True

    def _overdue(self, probe: CallerProbe) -> None:
        self.go_on(probe)

    # -- as the consumers see it ---------------------------------------------------------

    @property
    def held(self) -> int:
        """
        The calls that wait for a thread.

        Consuming pauses where no thread gets free for them, until one does; for
        those that wait to hear of their callers there may be threads enough.
        """
        return self._calls.held

    def hand_back(self, may_go: Callable[[Any], bool] = lambda attempt: True) -> Iterable[Any]:
        """Let go of all that is not begun."""
        gone = [probe for probe in self._probes if may_go(probe)]
        for probe in gone:
            self.forget(probe)
        return chain(gone, self._calls.hand_back(may_go))

    def give_ahead(self, count: int) -> None:
        """Threads are of no concern here."""
        self._calls.give_ahead(count)
