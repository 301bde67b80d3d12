"""``crew dead``: the letters whose callers are gone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from crew_tx.amqp.inspection import Gotten, Inspector
from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.publisher import Publisher, encode_message_properties
from crew_tx.cli.crew.exits import FAILED, OK, UsageError, text_of
from crew_tx.cli.crew.session import Session
from crew_tx.errors import ClientStoppedError, DecodeError, DeliveryError
from crew_tx.message import Properties, call_from, call_properties, dead_letter_from
from crew_tx.rpc.options import DEFAULT_EXPIRATION, CallOptions
from crew_tx.rpc.outgoing import Sent
from crew_tx.topology import DEAD

#: Bytes of bodies that are held at a time: what is looked at comes here whole.
_MOST_HELD = 64 * 1024 * 1024

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


def call_again(gotten: Gotten, expiration: float | None, now: float) -> tuple[str, Properties]:
    """
    A dead call, to be made once more and one way: nobody waits for its answer.

    :param expiration: seconds; None for as many as it had at first, where known.
    :returns: its task and its properties.
    :raises DecodeError: if it is no call.
    """
    call = call_from(gotten.properties, gotten.body)
    if expiration is None:
        expiration = dead_letter_from(gotten.properties).expiration or DEFAULT_EXPIRATION
    again = call._replace(
        reply_to=None, expiration=ceil(expiration * 1000), attempt=call.attempt + 1, timestamp=int(now)
    )
    # As it is on the wire already, in the steps of the queue.
    return call.task_id, call_properties(again) | {"priority": call.priority}


async def show(session: Session) -> int:
    """List dead letters; they stay where they are."""
    async with session.connection() as connection:
        inspector = Inspector(connection)
        letters, left = await _listed(inspector, session)
        await inspector.close()
    columns = ("reason", "task", "id", "queue", "age", "size")
    rows = [[*list(asdict(each).values())[:4], _age(each.age), each.size] for each in letters]
    facts = {"letters": [asdict(each) for each in letters], "total": len(letters) + left}
    session.output.table(columns, rows, facts, "there are no dead letters")
    if left:
        session.output.note(f"{left} more are there; raise --count to see them")
    return OK


async def requeue(session: Session) -> int:
    """Send dead calls to their tasks again; what can't be stays where it is."""
    arguments = session.arguments
    if arguments.expiration is not None:
        CallOptions(expiration=arguments.expiration).check()
    async with session.connection() as connection:
        requeuer = await Requeuer.on(session, connection)
        left = await requeuer.run(_wanted(arguments.task, arguments.id), arguments.count)
    facts = {"requeued": requeuer.requeued, "failed": requeuer.failed, "not_looked_at": left}
    session.output.text(f"{requeuer.requeued} requeued, {requeuer.failed} failed", facts)
    if left:
        session.output.note(f"{left} more were not looked at; raise --count, or call it again")
    return FAILED if requeuer.failed else OK


async def purge(session: Session) -> int:
    """
    Delete all dead letters.

    :raises UsageError: if nobody can be asked.
    """
    if not session.arguments.yes and not _agreed(session):
        return FAILED
    async with session.connection() as connection:
        count = await Inspector(connection).purge(DEAD)
    session.output.text(f"{count} deleted", {"deleted": count})
    return OK


class Requeuer:
    """
    Sends dead calls again, each acknowledged only when the broker has it anew.

    :ivar requeued: how many were sent.
    :ivar failed: how many could not be.
    """

    def __init__(self, session: Session, inspector: Inspector, publisher: Publisher) -> None:
        self._session = session
        self._inspector = inspector
        self._publisher = publisher
        self.requeued = 0
        self.failed = 0

    @classmethod
    async def on(cls, session: Session, connection: AMQClient) -> Requeuer:
        """One that uses a connection."""
        channel: Any = await connection.open_channel()
        await channel.confirm_select()
        publisher = Publisher(session.reactor)
        publisher.attach(channel)
        return cls(session, Inspector(connection), publisher)

    async def run(self, wanted: Wanted, count: int) -> int:
        """:returns: how many letters it did not look at."""
        try:
            left = 0
            held = 0
            for _ in range(count):
                gotten = await self._inspector.get(DEAD)
                if gotten is None:
                    left = 0
                    break
                left = gotten.left
                held += 0 if await self._again(gotten, wanted) else len(gotten.body)
                if held > _MOST_HELD:
                    break
            # What was not acknowledged goes back.
            await self._inspector.close()
            return left
        finally:
            self._publisher.stop(ClientStoppedError("requeuing has ended"))

    async def _again(self, gotten: Gotten, wanted: Wanted) -> bool:
        """:returns: whether it is out of the queue."""
        now = self._session.reactor.seconds()
        letter = letter_of(gotten, now)
        if letter.task is None or not wanted(letter):
            return False
        try:
            await self._send(gotten, now)
        except (DeliveryError, DecodeError) as error:
            self.failed += 1
            self._session.output.note(f"{letter.id}: {text_of(error)}")
            return False
        self.requeued += 1
        self._inspector.ack(gotten)
        return True

    async def _send(self, gotten: Gotten, now: float) -> None:
        task, properties = call_again(gotten, self._session.arguments.expiration, now)
        message = Sent(task, str(properties["message_id"]), self._publisher.withdraw)
        message.properties = encode_message_properties(properties)
        message.body = gotten.body
        sent = message.deferred
        assert sent is not None
        self._publisher.publish(message)
        await sent


async def _listed(inspector: Inspector, session: Session) -> tuple[list[Letter], int]:
    """Letters, and how many more there are."""
    letters: list[Letter] = []
    left = held = 0
    while len(letters) < session.arguments.count and held <= _MOST_HELD:
        gotten = await inspector.get(DEAD)
        if gotten is None:
            break
        letters.append(letter_of(gotten, session.reactor.seconds()))
        left = gotten.left
        held += len(gotten.body)
    return letters, left


def _wanted(task: str | None, call_id: str | None) -> Wanted:
    return lambda letter: task in (None, letter.task) and call_id in (None, letter.id)


def _age(seconds: float | None) -> str | None:
    """In the two largest units."""
    if seconds is None:
        return None
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days:.0f} d {hours % 24:.0f} h"
    if hours:
        return f"{hours:.0f} h {minutes % 60:.0f} min"
    return f"{minutes:.0f} min {seconds % 60:.0f} s"


def _agreed(session: Session) -> bool:
    """Ask, before there is a connection that waiting would cost."""
    if not sys.stdin.isatty():
        raise UsageError("this deletes all dead letters; say so by --yes")
    question = f"delete all dead letters of {', '.join(map(str, session.brokers))}? [y/N] "
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
