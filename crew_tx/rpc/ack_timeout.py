"""
Answering for calls before the broker's patience is over.

RabbitMQ gives up a consumer that keeps a delivery longer than its ack timeout,
30 minutes by default: it takes all back that the consumer has, and others run it
a second time. So a worker acknowledges a call that runs that long shortly
before, and answers for it alone from then on: if it dies, the call is lost.
What it has not begun by then it hands back; and where that may not be any
more, since a quorum queue counts it, it answers for that, too.

Nothing is done for a single call: now and then all that the worker has is
looked over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from crew_tx.interfaces import IKeptCalls
from crew_tx.rpc.consumption import may_go_back

#: RabbitMQ's own, in seconds.
ACK_TIMEOUT = 1800.0
#: How long before it calls are acknowledged; of a short timeout, a fifth.
_MARGIN = 60.0
_SHARE = 5
_LEAST = 0.1


class AckTimeout:
    """
    Acknowledges what a worker keeps long.

    :param clock: an ``IReactorTime``.
    :param seconds: the broker's ack timeout; 0 if it has none.
    :param calls: what the worker has.
    :param hand_back: lets other workers have what is not begun, where a function of it says so.
    :ivar watching: whether it need not be told, by :meth:`watch`, that a call came.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        seconds: float,
        calls: IKeptCalls,
        hand_back: Callable[[Callable[[Any], bool]], object],
    ) -> None:
        margin = min(_MARGIN, seconds / _SHARE)
        self._clock = clock
        self._after = seconds - margin
        self._every = max(margin / 2, _LEAST)
        self._calls = calls
        self._hand_back = hand_back
        self._look: IDelayedCall | None = None
        self.watching = seconds == 0

    def watch(self) -> None:
        """Look the calls over from now on, as long as there are any."""
        if not self.watching:
            self.watching = True
            self._look = self._clock.callLater(self._every, self._look_over)

    def stop(self) -> None:
        """Watch no more, and leave no delayed call."""
        self.watching = True
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _look_over(self) -> None:
        self._look = None
        self.watching = False
        due = self._clock.seconds() - self._after
        attempts = list(self._calls.attempts())
        old = [each for each in attempts if each.received <= due and not each.delivery.is_settled]
        if any(each.started is None for each in old):
            self._hand_back(lambda attempt: attempt in old and may_go_back(attempt))
        for attempt in old:
            if not attempt.delivery.is_settled:
                self._answer_for(attempt)
        if attempts:
            self.watch()

    def _answer_for(self, attempt: Any) -> None:
        attempt.delivery.ack()
        self.log.info(
            "the call {call_id} to {task_id!r} came {age:.0f} s ago: it is acknowledged now, before the "
            "broker's ack timeout, and lost if this worker dies",
            call_id=attempt.call.call_id,
            task_id=attempt.call.task_id,
            age=self._clock.seconds() - attempt.received,
        )
