"""``crew dead``: the letters whose callers are gone."""

from __future__ import annotations

import sys
from dataclasses import asdict

from crew_tx.amqp.inspection import Inspector
from crew_tx.cli.crew.exits import FAILED, OK, UsageError, text_of
from crew_tx.cli.crew.session import Session
from crew_tx.rpc.dead_letters import Requeuer, Wanted, look_through
from crew_tx.rpc.options import CallOptions
from crew_tx.topology import DEAD


async def show(session: Session) -> int:
    """List dead letters; they stay where they are."""
    async with session.connection() as connection:
        inspector = Inspector(connection)
        letters, left = await look_through(inspector, session.arguments.count, session.reactor.seconds())
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
        requeuer = await Requeuer.on(
            session.reactor,
            connection,
            expiration=arguments.expiration,
            keys=session.signing_keys,
            on_failed=lambda letter, error: session.output.note(f"{letter.id}: {text_of(error)}"),
        )
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
