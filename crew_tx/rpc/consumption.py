"""
What a worker lets its broker send: all it consumes, over all its connections.

It consumes by each connection in turn, until it is ended for good. In between,
consuming changes with the tasks: new consumers take the place of the old ones
when another prefetch suits them better; and where calls wait here and no thread
gets free for them, the consumers end, and the calls go back for others to take.
A beginning takes several answers of the broker, and another that is wanted
meanwhile comes behind it, once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.declare import Declarer
from crew_tx.errors import CrewError
from crew_tx.interfaces import IHeldCalls
from crew_tx.rpc.intake import Intake, IReception, QueueGone
from crew_tx.rpc.prefetch import Prefetch
from crew_tx.rpc.saturation import Saturation
from crew_tx.topology import SUSPECT_FROM

#: Seconds for which all threads are busy before unstarted calls go back for others to take.
SATURATED_AFTER = 5.0
#: The same while more was let come than the threads can begin, since tasks were short so far.
SLOWED_AFTER = 0.25


class Consumption:
    """
    :param prefetch: how many calls each queue may send ahead; its owner feeds it.
    :param queues: names of task queues, without ``crew.tasks.``.
    :param calls: what came and was not begun.
    :param reception: takes what comes.
    :param queue_gone: called when the broker ended a consumer, and its queue is gone.
    :ivar intake: the consumers of the connection that is there; None without one.
    :ivar paused: whether it waits for a thread that is free, to :meth:`resume`.
    :ivar halted: whether it was told to consume nothing, until :meth:`go_on`.
    :ivar thread_free: to be called when a thread gets free.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        prefetch: Prefetch,
        queues: list[str],
        calls: IHeldCalls,
        reception: IReception,
        queue_gone: QueueGone,
    ) -> None:
        self._prefetch = prefetch
        self._queues = queues
        self._calls = calls
        self._reception = reception
        self._queue_gone = queue_gone
        self._saturation = Saturation(clock, self._saturated)
        self._ended = False
        self._is_beginning = self._begins_again = False
        self.intake: Intake | None = None
        self.paused = False
        self.halted = False
        self.thread_free = self._saturation.thread_free

    # -- connections -------------------------------------------------------------------

    async def begin(self, channel: AMQChannel, beside: Intake | None = None) -> None:
        """
        Consume by a new connection; not after :meth:`end`, when it serves for acks alone.

        :param beside: what consumes by the same channel already.
        :raises AccessRefusedError: if the user may not.
        :raises txamqp.client.Closed: if the channel ends otherwise.
        """
        self.intake = intake = Intake(channel, self._queues, self._reception, self._consumer_ended, beside)
        if self._ended or self.halted:
            return
        self.paused = False
        self._is_beginning = True
        try:
            await intake.begin(self._prefetch.count)
        except BaseException:
            # What came already has tags that are dead.
            self.lost()
            raise
        self._begun(None, intake)

    def lost(self) -> None:
        """The connection is gone: the broker has again what was not begun here."""
        self.intake = None
        self._is_beginning = self._begins_again = False
        self._calls.hand_back(_comes_again)

    def end(self) -> Deferred[None]:
        """End for good: a Deferred that fires when no more deliveries will come."""
        self._ended = True
        self._saturation.stop()
        return succeed(None) if self.intake is None else self.intake.end()

    def halt(self) -> None:
        """Consume nothing, over all connections, and let others have what was not begun."""
        self.halted = True
        if self.intake is None:
            self.hand_back()
        else:
            self.intake.end().addCallback(lambda _: self.hand_back())

    def go_on(self) -> None:
        """Consume again after :meth:`halt`."""
        self.halted = False
        self.resume()

    def hand_back(self, may_go: Callable[[Any], bool] = lambda attempt: True) -> None:
        """Let other workers have what was not begun here."""
        for attempt in self._calls.hand_back(lambda attempt: _comes_again(attempt) and may_go(attempt)):
            attempt.delivery.hand_back()

    # -- room, and the lack of it ------------------------------------------------------

    def watch(self) -> None:
        """Calls wait here: see to it that they don't for long."""
        self._saturation.watch(SLOWED_AFTER if self._prefetch.raised else SATURATED_AFTER)

    def follow(self) -> None:
        """The prefetch changed: what the broker sends ahead, the threads are given ahead as well."""
        self._calls.give_ahead(self._prefetch.count if self._prefetch.raised else 0)
        if not self.paused:
            self._begin_anew()

    def resume(self) -> None:
        """Consume again."""
        self.paused = False
        self._begin_anew()

    def _saturated(self) -> None:
        """Nothing was started for a while: let others have what waits here."""
        if not self._calls.held or self.intake is None or self.paused:
            return
        was_raised = self._prefetch.raised
        self._prefetch.lower()
        self._calls.give_ahead(0)
        self.paused = True
        self.intake.end().addCallback(lambda _: self._share(consume=was_raised))

    def _share(self, consume: bool) -> None:
        self.hand_back(may_go_back)
        if consume and self.paused:
            self.resume()

    # -- consumers that the broker ends ------------------------------------------------

    def _consumer_ended(self, channel: AMQChannel, queue: str) -> None:
        if not self._ended:
            Deferred.fromCoroutine(self._look_for(channel, queue))

    async def _look_for(self, channel: AMQChannel, queue: str) -> None:
        """RabbitMQ 4.3 also ends a consumer that kept a call too long; its queue is there then."""
        declarer = Declarer(channel.client)
        try:
            is_there = await declarer.has_queue(queue)
            await declarer.close()
        except CrewError:
            # Where it was not the connection that ended, a new one finds out.
            is_there = False
        if channel.closed or self._ended:
            return
        if not is_there:
            self._queue_gone(channel, queue)
            return
        self.log.warn(
            "the broker ended the consumer of {queue}, which is there: consuming anew; if calls run longer "
            "than its consumer_timeout, --ack-timeout has to be no longer than that",
            queue=queue,
        )
        if not self.paused:
            self._begin_anew()

    # -- beginning anew ----------------------------------------------------------------

    def _begin_anew(self) -> None:
        intake = self.intake
        if intake is None or intake.channel.closed or self._ended or self.halted:
            return
        if self._is_beginning:
            self._begins_again = True
            return
        self._is_beginning = True
        begun = Deferred.fromCoroutine(intake.begin(self._prefetch.count))
        begun.addErrback(self._failed, intake).addCallback(self._begun, intake)

    def _failed(self, failure: Failure, intake: Intake) -> None:
        # Where the connection ended, the next one begins anew.
        if not intake.channel.closed:
            self.log.failure("consuming could not go on", failure)

    def _begun(self, result: object, intake: Intake) -> None:
        if intake is not self.intake:
            return
        self._is_beginning = False
        again, self._begins_again = self._begins_again, False
        if again and not self.paused:
            self._begin_anew()


def _comes_again(attempt: Any) -> bool:
    """Whether somebody gets what is let go of here: what was acknowledged is this worker's alone."""
    return not attempt.delivery.is_settled


def may_go_back(attempt: Any) -> bool:
    """
    Whether a call that was not begun can be handed back once more.

    Quorum queues count that before RabbitMQ 4.3: a call that only ever waited
    for a thread is not to be taken for one that ends its workers.
    """
    count: int = attempt.delivery.deliveries
    return count < SUSPECT_FROM - 1
