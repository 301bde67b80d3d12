"""
A worker's replies: each kept until the broker has it.

The ack of a call goes out right behind its reply, on the same channel, so the
broker never sees the ack without the reply; or, where that is asked for, when
the reply is confirmed, so that none is lost where the broker dies before it has
the reply on its disk, and the worker before it can send it again. A reply that
came back settles its call in any case: nobody waits for it now, and to keep the
call would keep others away. A reply that is returned, since its caller's queue is
not there now, is sent again after 1, 5 and 30 seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.delivery import Returned
from crew_tx.amqp.publisher import Publication, Publisher, encode_message_properties
from crew_tx.errors import (
    BrokerBlockedError,
    CrewError,
    EncodeError,
    InvalidArgumentError,
    PublishNackedError,
    PublishTimeoutError,
)
from crew_tx.message import Answer, Properties, delivery_count
from crew_tx.rpc.encoding import encoded_answer
from crew_tx.rpc.settlement import Settlements
from crew_tx.timer import DeadlineTimer
from crew_tx.topology import REPLIES

RESEND_AFTER = (1.0, 5.0, 30.0)
#: Returned replies that are kept to be sent again; the oldest give way.
MAX_RETURNED = 1000
_RETRY_AFTER = 1.0
_MOST_REFUSALS = 2
#: When a call is acknowledged: once its reply is written, or once it is confirmed.
Ack = Literal["written", "confirmed"]

_GONE = "its queue is gone, or takes nothing"


class TakenDelivery:
    """
    A delivery that a worker has to settle, on the channel that it came by.

    The tag dies with the channel: settling it after that does nothing. Nor does
    settling it twice, for which the broker would close the channel.
    """

    __slots__ = ("_properties", "_settled", "_settlements", "channel", "reference", "tag")

    #: By which its reply refers to it. Set under signing alone.
    reference: bytes

    def __init__(
        self,
        channel: AMQChannel,
        tag: int,
        settlements: Settlements | None = None,
        properties: Properties | None = None,
    ) -> None:
        self.channel = channel
        self.tag = tag
        self._properties = properties
        self._settlements = settlements or channel
        self._settled = False

    @property
    def deliveries(self) -> int:
        """How often it was delivered before, where its queue counts that."""
        return delivery_count(self._properties or {})

    @property
    def is_settled(self) -> bool:
        """Whether the broker was told what became of it: it doesn't come again then."""
        return self._settled

    @property
    def is_dead(self) -> bool:
        """Whether its channel has ended: the broker gives the message again, to somebody."""
        return self.channel.closed

    def ack(self) -> None:
        """It is answered."""
        if self._settles():
            self._settlements.ack(self.tag)

    def hand_back(self) -> None:
        """Let another worker have it."""
        if self._settles():
            self._settlements.nack(self.tag, requeue=True)

    def reject(self) -> None:
        """Nobody can make anything of it: to the dead letters."""
        if self._settles():
            self._settlements.nack(self.tag, requeue=False)

    def _settles(self) -> bool:
        settled, self._settled = self._settled, True
        return not settled


class ReplyPublication(Publication):
    """One reply on its way."""

    __slots__ = ("_answers", "_delivery", "answer", "is_instead", "refusals", "resent", "was_returned")

    def __init__(self, answers: Answers, answer: Answer, reply_to: str, delivery: TakenDelivery) -> None:
        sign = answers.sign
        properties = encoded_answer(answer) if sign is None else sign(answer, delivery.reference)
        super().__init__(REPLIES, reply_to, properties, answer.body, answer.call_id)
        self._answers = answers
        self._delivery = delivery
        self.answer = answer
        self.is_instead = False
        self.refusals = 0
        self.resent = 0
        self.was_returned = False

    def written(self, channel: AMQChannel) -> None:
        if channel is self._delivery.channel:
            self._delivery.ack()

    def returned(self, returned: Returned) -> None:
        self.was_returned = True

    def confirmed(self) -> None:
        self._answers.confirmed(self)

    def failed(self, error: CrewError) -> None:
        self._answers.failed(self, error)

    def lost(self) -> None:
        self._answers.publish(self)

    def refused(self, error: CrewError) -> None:
        self._answers.refused(self, error)

    def given_up(self) -> None:
        """It is not sent again."""
        self._delivery.ack()

    @property
    def has_settled(self) -> bool:
        """Whether that has been behind which its call is settled."""
        return self.sent

    def settles(self, delivery: TakenDelivery) -> None:
        """Settle another delivery of the call, in place of the first where that died with its channel."""
        if self._delivery.is_dead and not self.has_settled:
            self._delivery = delivery
        else:
            delivery.ack()

    def say_instead(self, answer: Answer) -> None:
        """Carry another answer to the same call."""
        self.is_instead = True
        self.answer = answer
        sign = self._answers.sign
        self.properties = encoded_answer(answer) if sign is None else sign(answer, self._delivery.reference)
        self.body = answer.body


class ConfirmedReply(ReplyPublication):
    """One whose call is settled once the broker has it, or once that is not to be expected."""

    __slots__ = ()

    def written(self, channel: AMQChannel) -> None:
        """The confirm is waited for."""

    def returned(self, returned: Returned) -> None:
        super().returned(returned)
        self._delivery.ack()

    def confirmed(self) -> None:
        self._delivery.ack()
        super().confirmed()

    @property
    def has_settled(self) -> bool:
        """It is forgotten when it has."""
        return False


class CommandAnswer(Publication):
    """The answer to a command: nobody misses it who doesn't wait for it any more."""

    def __init__(self, answer: Answer, reply_to: str, properties: bytes) -> None:
        super().__init__(REPLIES, reply_to, properties, answer.body, answer.call_id, mandatory=False)


class Answers:
    """
    Sends replies.

    :param clock: an ``IReactorTime``.
    :param instead: makes an error's answer of an answer that can't be sent, and why.
    :param ack: when calls are acknowledged.
    :param sign: encodes the properties of a reply, by it and the reference to what it
        answers; None signs nothing.
    :raises InvalidArgumentError: if that is neither.
    :ivar undeliverable: replies that were given up, since their callers' queues are gone.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        publisher: Publisher,
        instead: Callable[[Answer, CrewError], Answer],
        ack: Ack = "written",
        sign: Callable[[Answer, bytes], bytes] | None = None,
    ) -> None:
        if ack not in ("written", "confirmed"):
            raise InvalidArgumentError(f"ack is 'written' or 'confirmed', not {ack!r:.40}")
        self._reply = ConfirmedReply if ack == "confirmed" else ReplyPublication
        self.sign = sign
        self._publisher = publisher
        self._instead = instead
        self._outstanding: set[ReplyPublication] = set()
        self._returned: dict[ReplyPublication, None] = {}
        self._resends: DeadlineTimer[ReplyPublication] = DeadlineTimer(clock, self.publish)
        self._settled: list[Deferred[None]] = []
        self.undeliverable = 0

    @property
    def unconfirmed(self) -> int:
        """Replies that the broker does not have yet."""
        return len(self._outstanding)

    def send(self, answer: Answer, reply_to: str | None, delivery: TakenDelivery) -> None:
        """
        Send a reply, and settle its call behind it; a one-way call is only settled.

        :raises EncodeError: if its headers can't be written; nothing was sent.
        """
        if reply_to is None:
            delivery.ack()
            return
        reply = self._reply(self, answer, reply_to, delivery)
        self._outstanding.add(reply)
        self.publish(reply)

    def came_again(self, call_id: str, reply_to: str | None, delivery: TakenDelivery) -> None:
        """Settle another delivery of a call that was answered: now, or with a reply that has not left."""
        for reply in self._outstanding:
            if reply.message_id == call_id and reply.routing_key == reply_to:
                reply.settles(delivery)
                return
        delivery.ack()

    def send_command_answer(self, answer: Answer, reply_to: str, reference: bytes = b"") -> None:
        """
        Answer a control command: its message needs no settling, and its asker may be gone.

        :param reference: to the command, under signing.
        """
        sign = self.sign
        properties = encoded_answer(answer) if sign is None else sign(answer, reference)
        self._publisher.publish(CommandAnswer(answer, reply_to, properties))

    def publish(self, reply: ReplyPublication) -> None:
        """Publish a reply, for the first time or again; unless it was given up."""
        if reply not in self._outstanding:
            return
        self._returned.pop(reply, None)
        reply.was_returned = reply.sent = reply.late = False
        try:
            self._publisher.publish(reply)
        except CrewError:
            # The line is full: the reply is kept here, and comes again.
            self._resends.set(reply, _RETRY_AFTER)

    def confirmed(self, reply: ReplyPublication) -> None:
        """The broker has it, or returned it."""
        if reply.was_returned and reply in self._outstanding:
            self._resend_later(reply)
        else:
            self._done(reply)

    def failed(self, reply: ReplyPublication, error: CrewError) -> None:
        """It was not taken; it stays ours unless a confirm may still come."""
        if isinstance(error, (PublishTimeoutError, BrokerBlockedError)) and error.maybe_sent:
            return
        if reply not in self._outstanding:
            return
        if isinstance(error, EncodeError):
            self._say_instead(reply, error)
        elif isinstance(error, PublishNackedError):
            self._resend_nacked(reply)
        else:
            self._resends.set(reply, _RETRY_AFTER)

    def refused(self, reply: ReplyPublication, error: CrewError) -> None:
        """
        The broker ended the channel for one of the replies that were out, perhaps this one.

        Once it is sent again; the second time its caller is told why it can't come.
        """
        reply.refusals += 1
        if reply.refusals < _MOST_REFUSALS:
            self.publish(reply)
        elif reply in self._outstanding:
            self._say_instead(reply, error)

    def _say_instead(self, reply: ReplyPublication, error: CrewError) -> None:
        if reply.is_instead:
            self._give_up(reply, str(error))
            return
        reply.say_instead(self._instead(reply.answer, error))
        self.publish(reply)

    def when_settled(self) -> Deferred[None]:
        """A Deferred that fires when every reply is confirmed, or waits only for its caller to come back."""
        settled: Deferred[None] = Deferred(self._forget_waiter)
        self._settled.append(settled)
        self._tell_settled()
        return settled

    def _forget_waiter(self, settled: Deferred[None]) -> None:
        # It may be among those that are being told just now.
        if settled in self._settled:
            self._settled.remove(settled)

    def stop(self) -> None:
        """Give up what is left, and leave no delayed call."""
        self._resends.stop()
        if self._outstanding:
            self.log.warn(
                "{count} replies are given up, which the broker has not confirmed or their callers' queues "
                "have not taken",
                count=len(self._outstanding),
            )
        self.undeliverable += len(self._outstanding)
        self._outstanding.clear()
        self._returned.clear()

    def _resend_later(self, reply: ReplyPublication) -> None:
        if reply.resent >= len(RESEND_AFTER):
            self._give_up(reply, _GONE)
            return
        if len(self._returned) >= MAX_RETURNED:
            self._give_up(next(iter(self._returned)), _GONE)
        self._returned[reply] = None
        self._resends.set(reply, RESEND_AFTER[reply.resent])
        reply.resent += 1
        self._tell_settled()

    def _resend_nacked(self, reply: ReplyPublication) -> None:
        if reply.resent >= len(RESEND_AFTER):
            self._give_up(reply, _GONE)
            return
        self._resends.set(reply, RESEND_AFTER[reply.resent])
        reply.resent += 1

    def _give_up(self, reply: ReplyPublication, why: str) -> None:
        self.undeliverable += 1
        self._resends.clear(reply)
        self._returned.pop(reply, None)
        reply.given_up()
        self.log.warn("a reply to {client} was given up: {why}", client=reply.routing_key, why=why)
        self._done(reply)

    def _done(self, reply: ReplyPublication) -> None:
        self._outstanding.discard(reply)
        self._tell_settled()

    def _tell_settled(self) -> None:
        if len(self._outstanding) == len(self._returned):
            settled, self._settled = self._settled, []
            for deferred in settled:
                deferred.callback(None)


def sendable_headers(headers: dict[str, Any]) -> None:
    """
    Check that a reply can carry a task's headers.

    :raises EncodeError: naming the header, or if all of them are too large.
    """
    encode_message_properties({"headers": headers})
