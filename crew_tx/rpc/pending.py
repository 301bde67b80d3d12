"""
Calls that have no outcome yet: id to Deferred.

A call ends exactly once, by whichever comes first: an answer, a failure, its
deadline, or its caller's ``cancel``. Whatever comes later finds no entry.
After :meth:`PendingCalls.stop` a new call fails at once.

A call outlives its connection. Where the broker had not confirmed it, nobody
knows whether the broker has it: it is sent again by the next connection, with
the same id, until its time is up. Where it was confirmed it is in its queue, and
its answer will be in the reply queue, which outlives the connection as well;
unless it was not persistent, since a restart of the broker has lost it then, and
a cut looks the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from crew_tx.amqp.delivery import Returned
from crew_tx.amqp.publisher import Publication
from crew_tx.errors import (
    AccessRefusedError,
    BrokerBlockedError,
    ConnectionLostError,
    CrewError,
    DuplicateCallIdError,
    ExpirationError,
    PublishTimeoutError,
    UnroutableError,
)
from crew_tx.message import Answer, Reply
from crew_tx.timer import DeadlineTimer
from crew_tx.topology import TASKS

#: Seconds past ``expiration`` and ``timeout`` for an answer to travel.
GRACE = 2.0
#: Times that the broker may end a channel while a call is out, before that is put down to the call.
_MOST_REFUSALS = 2


class PendingCall(Publication):
    """
    One call, from when it was made until it ends.

    :ivar deferred: fires with the value, or with a :class:`Reply` if
        ``wants_reply``; dropped when the call ends, since the two hold each
        other and would be left to the garbage collector.
    :ivar plan: what its properties are made by, and ``encoded`` its body, for
        when it has to be sent again.
    :ivar signatures: those that it was sent with; none where nothing is signed.
    :ivar doubts: how many replies to it were refused, by the reason; None where none was.
    :ivar made: when.
    :ivar attempt: 1, and more where it was sent again.
    :ivar refusals: how often the broker ended the channel for it, or for another that was out with it.
    :ivar is_confirmed: whether the broker has it.
    """

    __slots__ = (
        "_calls",
        "attempt",
        "deferred",
        "doubts",
        "encoded",
        "expiration",
        "is_confirmed",
        "made",
        "plan",
        "refusals",
        "signatures",
        "wants_reply",
    )

    def __init__(
        self, calls: PendingCalls, task_id: str, call_id: str, expiration: float, wants_reply: bool
    ) -> None:
        super().__init__(TASKS, task_id, b"", b"", call_id)
        self._calls = calls
        self.expiration = expiration
        self.wants_reply = wants_reply
        self.made = 0.0
        self.attempt = 1
        self.refusals = 0
        self.is_confirmed = False
        self.plan: Any = None
        self.encoded: Any = None
        self.signatures: tuple[bytes, ...] = ()
        self.doubts: dict[str, int] | None = None
        self.deferred: Deferred[Any] | None = Deferred(self._cancelled)

    @property
    def persistent(self) -> bool:
        """Whether the broker keeps it over a restart."""
        persistent: bool = self.plan.options.persistent
        return persistent

    def _cancelled(self, deferred: Deferred[Any]) -> None:
        self._calls.cancelled(self)

    def confirmed(self) -> None:
        self.is_confirmed = True

    def returned(self, returned: Returned) -> None:
        if self.deferred is None:
            self._calls.unroutable(self)
        self._fail(UnroutableError(self.routing_key))

    def failed(self, error: CrewError) -> None:
        if isinstance(error, PublishTimeoutError) and error.maybe_sent:
            if not self.late:
                # It was about to be sent again, and has left the line.
                self._calls.wait_on(self)
            # Its confirm or its answer may come yet, and its deadline ends it otherwise.
            return
        if isinstance(error, BrokerBlockedError) and error.maybe_sent:
            self._calls.give_up(self, error)
            return
        if isinstance(error, ConnectionLostError) and self.attempt > 1:
            # It may be in its queue from the time before: it waits for a connection until its deadline.
            self.lost()
            return
        self._fail(error)

    def lost(self) -> None:
        if self.deferred is not None:
            self._calls.send_again(self)

    def refused(self, error: CrewError) -> None:
        self.refusals += 1
        if isinstance(error, AccessRefusedError) or self.refusals == _MOST_REFUSALS:
            # By rights, which are the same for all calls; or it is this one that the broker doesn't take.
            self._fail(error)
        else:
            self.lost()

    def _fail(self, error: CrewError) -> None:
        # Once it has ended, its id may be another call's.
        if self.deferred is not None:
            self._calls.fail(self.message_id, error)


class PendingCalls:
    """
    The table of pending calls.

    :param clock: an ``IReactorTime``.
    :param withdraw: called with a call that ended before it was written, perhaps.
    :param abandoned: called with a call that nobody waits for any more, and that
        workers may have, or get.
    :param unroutable: called with a call that had ended when the broker said that
        no worker can get it.
    :param publish: called with a call that has to wait on to be written.
    :ivar find: a call by its id; None if it isn't pending.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        withdraw: Callable[[PendingCall], object],
        abandoned: Callable[[PendingCall], object] = lambda call: None,
        unroutable: Callable[[PendingCall], object] = lambda call: None,
        publish: Callable[[PendingCall], object] = lambda call: None,
    ) -> None:
        self._withdraw = withdraw
        self._abandoned = abandoned
        self.unroutable = unroutable
        self._publish = publish
        self._clock = clock
        self._calls: dict[str, PendingCall] = {}
        self.find: Callable[[str], PendingCall | None] = self._calls.get
        self._again: dict[PendingCall, None] = {}
        self._deadlines: DeadlineTimer[str] = DeadlineTimer(clock, self._overdue)
        self._stopped: CrewError | None = None
        self.answers = 0
        self.errors = 0

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[PendingCall]:
        return iter(list(self._calls.values()))

    def new(
        self, task_id: str, call_id: str, expiration: float, timeout: float, wants_reply: bool
    ) -> PendingCall:
        """
        Make a pending call; its deadline runs from now.

        :raises DuplicateCallIdError: if one of that id is pending.
        :raises CrewError: what :meth:`stop` was given.
        """
        self.check_running()
        if call_id in self._calls:
            raise DuplicateCallIdError(call_id)
        call = self._calls[call_id] = PendingCall(self, task_id, call_id, expiration, wants_reply)
        call.made = self._clock.seconds()
        self._deadlines.set(call_id, expiration + timeout + GRACE)
        return call

    def answer(self, call_id: str, value: Any, answer: Answer) -> bool:
        """
        End a call with its answer.

        :param value: what the answer's body says.
        :returns: whether it was pending.
        """
        call = self._end(call_id)
        if call is None or call.deferred is None:
            return False
        self.answers += 1
        if call.wants_reply:
            value = Reply(value, answer.headers, answer.worker, answer.elapsed)
        deferred, call.deferred = call.deferred, None
        deferred.callback(value)
        return True

    def fail(self, call_id: str, error: Exception) -> bool:
        """End a call with an error. :returns: whether it was pending."""
        call = self._end(call_id)
        if call is None or call.deferred is None:
            return False
        self.errors += 1
        self._withdraw(call)
        deferred, call.deferred = call.deferred, None
        # The error may have this frame until garbage is collected, and the call has its body.
        del call
        deferred.errback(error)
        return True

    def doubt(self, call_id: str, reason: str) -> None:
        """A reply to a call was refused: it goes on waiting for another."""
        call = self._calls.get(call_id)
        if call is not None:
            call.doubts = call.doubts or {}
            call.doubts[reason] = call.doubts.get(reason, 0) + 1

    def give_up(self, call: PendingCall, error: CrewError) -> None:
        """Fail a call that workers may get all the same."""
        if self._calls.get(call.message_id) is call:
            self._abandon(call)
            self.fail(call.message_id, error)

    def fail_confirmed(self, error: CrewError) -> None:
        """The reply queue is gone: fail every call whose answer would have come to it."""
        for call in [call for call in self._calls.values() if call.is_confirmed]:
            self.fail(call.message_id, error)

    def connection_lost(self, error: CrewError) -> None:
        """Fail the calls that the broker has confirmed and may lose."""
        for call in [call for call in self._calls.values() if call.is_confirmed and not call.persistent]:
            self.fail(call.message_id, error)

    def send_again(self, call: PendingCall) -> None:
        """The broker has not confirmed it, and the connection is lost."""
        self._again[call] = None

    def wait_on(self, call: PendingCall) -> None:
        """The broker may have it from a connection before; by this one it could not be written so far."""
        if call.deferred is None:
            return
        try:
            self._publish(call)
        except CrewError as error:
            self.fail(call.message_id, error)

    def take_again(self) -> list[tuple[PendingCall, float]]:
        """
        The calls that are to be sent again, by a new connection, in their order.

        :returns: each with the seconds that it may still wait in its queue;
            those that have none left fail.
        """
        again, self._again = self._again, {}
        now = self._clock.seconds()
        calls = [(call, call.made + call.expiration - now) for call in again]
        for call, left in calls:
            if left <= 0:
                self.fail(call.message_id, _lost(call))
        # What failed may have ended others.
        return [(call, left) for call, left in calls if left > 0 and call.deferred is not None]

    def cancelled(self, call: PendingCall) -> None:
        """Its caller cancelled it: the Deferred fails by itself."""
        if self._end(call.message_id) is not None:
            call.deferred = None
            self._withdraw(call)
            self._abandon(call)

    def _abandon(self, call: PendingCall) -> None:
        if call.sent or call.attempt > 1:
            self._abandoned(call)

    def stop(self, error: CrewError) -> None:
        """Fail every pending call, and every one to come."""
        self._stopped = error
        self._deadlines.stop()
        for call_id in list(self._calls):
            self.fail(call_id, error)

    def start(self) -> None:
        """Take calls again."""
        self._stopped = None

    def check_running(self) -> None:
        """:raises CrewError: what :meth:`stop` was given."""
        if self._stopped is not None:
            raise self._stopped

    def _end(self, call_id: str) -> PendingCall | None:
        self._deadlines.clear(call_id)
        call = self._calls.pop(call_id, None)
        if call is not None and self._again:
            self._again.pop(call, None)
        return call

    def _overdue(self, call_id: str) -> None:
        call = self._calls.get(call_id)
        if call is None:
            # Ended by what an earlier one of the same moment set off.
            return
        if call in self._again:
            self.fail(call_id, _lost(call))
            return
        self._abandon(call)
        self.fail(
            call_id,
            ExpirationError(
                f"nothing was heard of the call to {call.routing_key!r} in all the time that it had"
                + _refused_replies(call),
                reason="unanswered",
                expiration=call.expiration,
            ),
        )


def _refused_replies(call: PendingCall) -> str:
    if call.doubts is None:
        return ""
    counts = ", ".join(f"{count} {reason}" for reason, count in call.doubts.items())
    return f", but for replies that were refused ({counts}): the log says why"


def _lost(call: PendingCall) -> ConnectionLostError:
    return ConnectionLostError(
        f"the connection to the broker was lost before it confirmed the call to {call.routing_key!r}, and "
        "did not come back in all the time that it had; its task may have run",
        maybe_sent=True,
    )
