"""
Publishing with confirms, and with bounds.

A publication is written at once where the connection allows it: it is up, not
blocked by an alarm, its transport takes more, and the number of unconfirmed
messages is under its bound. Otherwise it waits its turn, inside
``publish_timeout``, in a line that is bounded in messages and bytes.

Confirms are keyed by channel and number: each connection brings a new channel
and an empty table, so a stale confirm can't match. basic.return carries no
number; it is matched by message id, and comes before the confirm of its message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from txamqp.message import Message

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.delivery import Returned
from crew_tx.amqp.errors import translated
from crew_tx.amqp.properties import encode_properties
from crew_tx.errors import (
    BrokerBlockedError,
    ConnectionLostError,
    CrewError,
    EncodeError,
    OutboxFullError,
    PublishNackedError,
    PublishTimeoutError,
)
from crew_tx.message import Properties

if TYPE_CHECKING:
    from crew_tx.amqp.protocol import AMQClient

MAX_UNCONFIRMED = 4096
MAX_WAITING = 100_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
PUBLISH_TIMEOUT = 30.0
_CHECK_EVERY = 0.5
_PUBLISH = (60, 40)
_MISTAKE = "what became of a message could not be handled"

#: A header frame over frame_max closes the connection (501), so there is room to spare.
LONGEST_PROPERTIES = 64 * 1024


def encode_message_properties(properties: Properties) -> bytes:
    """
    Encode the properties of a message of ours.

    :raises EncodeError: naming the property that can't be written; or if all
        of them, headers included, are over 64 KiB.
    """
    encoded = encode_properties(properties)
    if len(encoded) > LONGEST_PROPERTIES:
        raise EncodeError(
            f"the message's headers and properties have {len(encoded)} bytes; "
            f"at most {LONGEST_PROPERTIES} go: put what is large into the data"
        )
    return encoded


def refused_publish(reason: object) -> CrewError | None:
    """The broker's error, if what ended a channel was a basic.publish that it would not take."""
    if isinstance(reason, Message) and reason.method.klass.name == "channel":
        if (reason.class_id, reason.method_id) == _PUBLISH:
            return translated(reason, "publishing")
    return None


class Publication:
    """
    One message on its way to the broker. Subclasses say what its fate means to them.

    :ivar properties: encoded, by :func:`~crew_tx.amqp.properties.encode_properties`.
    :ivar message_id: the property of that name; one publication has it at a time.
    :ivar since: when it was given to the publisher.
    :ivar sent: whether any of it was written.
    :ivar waits: whether it waits to be written.
    :ivar late: whether it was told that its confirm is late.
    """

    __slots__ = (
        "body",
        "exchange",
        "late",
        "mandatory",
        "message_id",
        "properties",
        "routing_key",
        "sent",
        "since",
        "waits",
    )

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        properties: bytes,
        body: bytes,
        message_id: str,
        mandatory: bool = True,
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.properties = properties
        self.body = body
        self.message_id = message_id
        self.mandatory = mandatory
        self.since = 0.0
        self.sent = False
        self.waits = False
        self.late = False

    @property
    def size(self) -> int:
        """Its bytes, about."""
        return len(self.body) + len(self.properties)

    def written(self, channel: AMQChannel) -> None:
        """All of it was written, to this channel."""

    def confirmed(self) -> None:
        """The broker has it; or had, if it was returned before."""

    def returned(self, returned: Returned) -> None:
        """No queue would take it; a confirm follows."""

    def failed(self, error: CrewError) -> None:
        """
        It won't be confirmed: nacked, refused by the channel, or not in time.

        :param error: where it is a :class:`PublishTimeoutError`, or a
            :class:`BrokerBlockedError` with ``maybe_sent``, a confirm may still come.
        """

    def lost(self) -> None:
        """The connection ended before the confirm came."""

    def refused(self, error: CrewError) -> None:
        """The broker ended the channel for this message, or for another that was out with it."""
        self.lost()


class Publisher:
    """
    Writes publications to whatever channel is attached, and follows their confirms.

    :param clock: an ``IReactorTime``.
    :param publish_timeout: seconds that a message may wait to be written, and
        then to be confirmed.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        *,
        publish_timeout: float = PUBLISH_TIMEOUT,
        max_unconfirmed: int = MAX_UNCONFIRMED,
        max_waiting: int = MAX_WAITING,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        self._clock = clock
        self._timeout = publish_timeout
        self._max_unconfirmed = max_unconfirmed
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._channel: AMQChannel | None = None
        self._open = False
        self._unconfirmed: dict[int, Publication] = {}
        self._by_id: dict[str, Publication] = {}
        self._waiting: deque[Publication] = deque()
        self._waiting_bytes = 0
        self._check: IDelayedCall | None = None

    @property
    def unconfirmed(self) -> int:
        """How many messages are written and not confirmed."""
        return len(self._unconfirmed)

    @property
    def waiting(self) -> int:
        """How many messages wait to be written."""
        return len(self._waiting)

    @property
    def blocked(self) -> str | None:
        """The broker's reason while an alarm blocks the connection."""
        connection = self._connection
        return None if connection is None else connection.blocked

    @property
    def _connection(self) -> AMQClient | None:
        """The one that there is."""
        return None if self._channel is None else self._channel.client

    def attach(self, channel: AMQChannel) -> None:
        """
        Publish on this channel from now on, what waits first.

        :param channel: open, and in confirm mode.
        """
        self._channel = channel
        channel.on_confirm = self._confirmed
        channel.on_return = self._returned
        channel.on_closed = lambda reason: self._detached(channel, reason)
        self._follow_flow(channel.client)
        self._flow_changed()

    def publish(self, publication: Publication) -> None:
        """
        Write a message, or let it wait.

        :raises OutboxFullError: if too much waits already.
        """
        publication.since = self._clock.seconds()
        publication.late = False
        if self._open and not self._waiting and len(self._unconfirmed) < self._max_unconfirmed:
            self._write(publication)
        else:
            self._wait(publication)
        if self._check is None:
            self._watch()

    def publish_first(self, publications: list[Publication]) -> None:
        """
        Write these before all that waits.

        They were in the line before, so it has room for them. The broker may have
        them from then: they count as sent.
        """
        now = self._clock.seconds()
        for publication in reversed(publications):
            publication.since = now
            publication.late = False
            publication.waits = True
            self._waiting.appendleft(publication)
            self._waiting_bytes += publication.size
        self._write_waiting()
        self._watch()

    def withdraw(self, publication: Publication) -> None:
        """Take back a message that is still waiting; one that was written stays."""
        if publication.waits:
            publication.waits = False
            self._waiting.remove(publication)
            self._waiting_bytes -= publication.size

    def stop(self, error: CrewError) -> None:
        """Fail all that waits or is unconfirmed, and leave no delayed call."""
        if self._check is not None:
            self._check.cancel()
            self._check = None
        self._channel = None
        self._open = False
        publications = [*self._unconfirmed.values(), *self._waiting]
        self._clear()
        for publication in publications:
            self._tell(publication.failed, error)

    # -- out -----------------------------------------------------------------------

    def _write(self, publication: Publication) -> None:
        channel = self._channel
        assert channel is not None
        try:
            # The number is known, and the table has it, before any byte can be answered.
            number = channel.published + 1
            self._unconfirmed[number] = self._by_id[publication.message_id] = publication
            channel.publish(
                publication.exchange,
                publication.routing_key,
                publication.properties,
                publication.body,
                publication.mandatory,
            )
        except CrewError as error:
            self._forget(number)
            self._tell(publication.failed, error)
            return
        publication.sent = True
        publication.written(channel)

    def _wait(self, publication: Publication) -> None:
        size = self._waiting_bytes + publication.size
        if len(self._waiting) >= self._max_waiting or size > self._max_waiting_bytes:
            raise OutboxFullError(len(self._waiting), self._waiting_bytes)
        self._waiting.append(publication)
        self._waiting_bytes = size
        publication.waits = True

    def _next_waiting(self) -> Publication:
        publication = self._waiting.popleft()
        self._waiting_bytes -= publication.size
        publication.waits = False
        return publication

    def _follow_flow(self, client: AMQClient) -> None:
        client.on_flow = self._flow_changed

    def _flow_changed(self) -> None:
        channel = self._channel
        self._open = (
            channel is not None
            and not channel.closed
            and channel.client.writable
            and channel.client.blocked is None
        )
        self._write_waiting()

    def _write_waiting(self) -> None:
        waiting = self._waiting
        while waiting and self._open and len(self._unconfirmed) < self._max_unconfirmed:
            self._write(self._next_waiting())

    # -- in ------------------------------------------------------------------------

    def _confirmed(self, number: int, multiple: bool, acked: bool) -> None:
        for publication in self._settled(number, multiple):
            # As _tell does it, without a call more for each message.
            try:
                if acked:
                    publication.confirmed()
                else:
                    publication.failed(
                        PublishNackedError("the broker refused the message (basic.nack): its queue is full")
                    )
            except Exception:
                self.log.failure(_MISTAKE)
        if self._waiting:
            self._write_waiting()

    def _settled(self, number: int, multiple: bool) -> list[Publication]:
        if not multiple:
            publication = self._forget(number)
            return [] if publication is None else [publication]
        numbers = []
        for earlier in self._unconfirmed:
            if earlier > number:
                break
            numbers.append(earlier)
        return [self._unconfirmed_now(earlier) for earlier in numbers]

    def _unconfirmed_now(self, number: int) -> Publication:
        publication = self._unconfirmed.pop(number)
        # By now another message may have its id.
        if self._by_id.get(publication.message_id) is publication:
            del self._by_id[publication.message_id]
        return publication

    def _forget(self, number: int) -> Publication | None:
        return self._unconfirmed_now(number) if number in self._unconfirmed else None

    def _returned(self, returned: Returned) -> None:
        publication = self._by_id.get(returned.properties.get("message_id", ""))
        if publication is not None:
            publication.returned(returned)

    def _detached(self, channel: AMQChannel, reason: object) -> None:
        if self._channel is not channel:
            return
        self._channel = None
        self._open = False
        lost = list(self._unconfirmed.values())
        self._unconfirmed.clear()
        self._by_id.clear()
        refused = refused_publish(reason)
        for publication in lost:
            if refused is None:
                self._tell(publication.lost)
            else:
                self._tell(publication.refused, refused)

    def _tell(self, fate: Callable[..., object], *error: CrewError) -> None:
        """Tell one publication its fate: a mistake that it makes must not cost the others theirs."""
        try:
            fate(*error)
        except Exception:
            self.log.failure(_MISTAKE)

    def _clear(self) -> None:
        self._unconfirmed.clear()
        self._by_id.clear()
        while self._waiting:
            self._next_waiting()

    # -- time ----------------------------------------------------------------------

    def _check_times(self) -> None:
        self._check = None
        # Both lines are in the order in which they were given to us, near enough.
        due = self._clock.seconds() - self._timeout
        while self._waiting and self._waiting[0].since <= due:
            self._too_late(self._next_waiting())
        for publication in self._late(due):
            publication.late = True
            self._too_late(publication)
        # Whoever was told may have published again.
        self._watch()

    def _watch(self) -> None:
        if self._check is None and (self._waiting or self._unconfirmed):
            self._check = self._clock.callLater(_CHECK_EVERY, self._check_times)

    def _late(self, due: float) -> list[Publication]:
        late = []
        for publication in self._unconfirmed.values():
            if publication.since > due:
                break
            if not publication.late:
                late.append(publication)
        return late

    def _too_late(self, publication: Publication) -> None:
        self._tell(publication.failed, self._late_error(publication))

    def _late_error(self, publication: Publication) -> CrewError:
        blocked = self.blocked
        if blocked is not None:
            return BrokerBlockedError(blocked, maybe_sent=publication.sent)
        if self._connection is None:
            return ConnectionLostError(
                f"no connection to the broker within {self._timeout:g} s", maybe_sent=publication.sent
            )
        doing = "confirm" if publication.sent else "take"
        return PublishTimeoutError(
            f"the broker did not {doing} the message within {self._timeout:g} s", maybe_sent=publication.sent
        )
