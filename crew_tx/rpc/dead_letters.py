"""The letters whose callers are gone: what there is to tell of them, and sending them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

from twisted.internet.interfaces import IReactorTime

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.inspection import Gotten, Inspector
from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.publisher import Publisher, encode_message_properties
from crew_tx.errors import ClientStoppedError, DecodeError, DeliveryError
from crew_tx.message import Properties, call_from, call_properties, dead_letter_from
from crew_tx.rpc.options import DEFAULT_EXPIRATION
from crew_tx.rpc.outgoing import Sent
from crew_tx.rpc.requeued import check_signed, signed_anew
from crew_tx.signing import RefusedError, SigningKeys
from crew_tx.topology import DEAD

#: Bytes of bodies that are held at a time: what is looked at comes here whole.
MOST_HELD = 64 * 1024 * 1024

Wanted = Callable[["Letter"], bool]


@dataclass(frozen=True, slots=True)
class Letter:
    """
    A dead letter.

    :ivar task: None where it is no call.
    :ivar age: seconds since it was sent, as far as its sender says.
    :ivar size: bytes of its body.
    """

    reason: str
    task: str | None
    id: str | None
    queue: str | None
    age: float | None
    size: int


def letter_of(gotten: Gotten, now: float) -> Letter:
    """What there is to tell of a message."""
    properties = gotten.properties
    try:
        task: str | None = call_from(properties, gotten.body).task_id
        death = dead_letter_from(properties)
    except DecodeError:
        return Letter("not a call", None, properties.get("message_id"), None, None, len(gotten.body))
    sent = properties.get("timestamp")
    age = max(0.0, now - sent) if isinstance(sent, int) and sent else None
    return Letter(death.reason, task, death.call_id, death.queue, age, len(gotten.body))


def call_again(
    gotten: Gotten, expiration: float | None, now: float, keys: SigningKeys | None = None
) -> tuple[str, Properties]:
    """
    A dead call, to be made once more and one way: nobody waits for its answer.

    :param expiration: seconds; None for as many as it had at first, where known.
    :param keys: what its signature is verified by, and signs it anew; None to send it unsigned.
    :returns: its task and its properties.
    :raises DecodeError: if it is no call.
    :raises RefusedError: if its signature is not by one of the keys.
    """
    call = call_from(gotten.properties, gotten.body)
    if keys is not None:
        check_signed(call, gotten.properties, keys)
    if expiration is None:
        expiration = dead_letter_from(gotten.properties).expiration or DEFAULT_EXPIRATION
    again = call._replace(
        reply_to=None, expiration=ceil(expiration * 1000), attempt=call.attempt + 1, timestamp=int(now)
    )
    # As it is on the wire already, in the steps of the queue.
    properties = call_properties(again) | {"priority": call.priority}
    return call.task_id, properties if keys is None else signed_anew(again, properties, keys, now)


async def look_through(inspector: Inspector, count: int, now: float) -> tuple[list[Letter], int]:
    """
    Look at dead letters; they go back when the inspector is closed.

    :param count: how many at the most.
    :returns: the letters, and how many more there are.
    :raises CrewError: as :meth:`Inspector.get`.
    """
    letters: list[Letter] = []
    left = held = 0
    while len(letters) < count and held <= MOST_HELD:
        gotten = await inspector.get(DEAD)
        if gotten is None:
            break
        letters.append(letter_of(gotten, now))
        left = gotten.left
        held += len(gotten.body)
    return letters, left


class Requeuer:
    """
    Sends dead calls again, each acknowledged only when the broker has it anew.

    :param expiration: seconds that each may wait; None for as many as it had at first.
    :param keys: as :func:`call_again` takes them.
    :param on_failed: called with a letter that could not be sent, and why.
    :ivar requeued: how many were sent.
    :ivar failed: how many could not be.
    """

    def __init__(
        self,
        clock: IReactorTime,
        inspector: Inspector,
        publisher: Publisher,
        *,
        expiration: float | None = None,
        keys: SigningKeys | None = None,
        on_failed: Callable[[Letter, Exception], object] = lambda letter, error: None,
    ) -> None:
        self._clock = clock
        self._inspector = inspector
        self._publisher = publisher
        self._expiration = expiration
        self._keys = keys
        self._on_failed = on_failed
        self._channel: AMQChannel | None = None
        self.requeued = 0
        self.failed = 0

    @classmethod
    async def on(cls, clock: IReactorTime, connection: AMQClient, **options: Any) -> Requeuer:
        """One that uses a connection, and leaves it as it was; the options are its own."""
        channel: Any = await connection.open_channel()
        await channel.confirm_select()
        publisher = Publisher(clock)
        publisher.attach(channel)
        requeuer = cls(clock, Inspector(connection), publisher, **options)
        requeuer._channel = channel
        return requeuer

    async def run(self, wanted: Wanted, count: int) -> int:
        """
        Send those that are wanted, once.

        :param count: how many letters are looked at, at the most.
        :returns: how many it did not look at.
        """
        try:
            return await self._look_through(wanted, count)
        finally:
            self._publisher.stop(ClientStoppedError("requeuing has ended"))
            # What was not acknowledged goes back.
            await self._inspector.close()
            if self._channel is not None and not self._channel.closed:
                await self._channel.channel_close(reply_code=200)

    async def _look_through(self, wanted: Wanted, count: int) -> int:
        left = held = 0
        for _ in range(count):
            gotten = await self._inspector.get(DEAD)
            if gotten is None:
                return 0
            left = gotten.left
            held += 0 if await self._again(gotten, wanted) else len(gotten.body)
            if held > MOST_HELD:
                break
        return left

    async def _again(self, gotten: Gotten, wanted: Wanted) -> bool:
        """:returns: whether it is out of the queue."""
        now = self._clock.seconds()
        letter = letter_of(gotten, now)
        if letter.task is None or not wanted(letter):
            return False
        try:
            await self._send(gotten, now)
        except (DeliveryError, DecodeError, RefusedError) as error:
            self.failed += 1
            self._on_failed(letter, error)
            return False
        self.requeued += 1
        self._inspector.ack(gotten)
        return True

    async def _send(self, gotten: Gotten, now: float) -> None:
        task, properties = call_again(gotten, self._expiration, now, self._keys)
        message = Sent(task, str(properties["message_id"]), self._publisher.withdraw)
        message.properties = encode_message_properties(properties)
        message.body = gotten.body
        sent = message.deferred
        assert sent is not None
        self._publisher.publish(message)
        await sent
