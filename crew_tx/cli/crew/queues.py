"""``crew queues``: how much waits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from crew_tx.amqp.inspection import Depth, Inspector
from crew_tx.cli.crew.exits import FAILED, OK
from crew_tx.cli.crew.session import Session
from crew_tx.topology import DEAD, TASKS, task_queue_name
from crew_tx.web.worker_facts import queues_of


async def queues(session: Session) -> int:
    """Show the depths of queues: those that are named, or all that workers and dead letters have."""
    given = [task_queue_name(name.removeprefix(f"{TASKS}.")) for name in session.arguments.queue]
    names = given or await _known(session)
    async with session.connection() as connection:
        depths = await depths_of(Inspector(connection), names)
    there = [depth for depth in depths.values() if depth is not None]
    columns, rows = depths_table(there)
    facts = [{"queue": each.queue, "messages": each.messages, "consumers": each.consumers} for each in there]
    session.output.table(columns, rows, facts)
    missing = [name for name in given if depths[name] is None]
    for name in missing:
        session.output.note(f"there is no queue {name}: no worker ever declared it")
    return FAILED if missing else OK


async def depths_of(inspector: Inspector, names: Iterable[str]) -> dict[str, Depth | None]:
    """How much is in each of some queues; None for those that aren't there."""
    return {name: await inspector.depth(name) for name in names}


def depths_table(depths: Iterable[Depth]) -> tuple[tuple[str, ...], list[list[Any]]]:
    """The columns and rows of queues."""
    return ("queue", "messages", "consumers"), [
        [each.queue, each.messages, each.consumers] for each in depths
    ]


def queue_names(answers: Iterable[dict[str, Any]]) -> list[str]:
    """The queues of all tasks in workers' answers to ``tasks``, and that of dead letters."""
    return [*sorted({name for answer in answers for name in queues_of(answer)}), DEAD]


async def _known(session: Session) -> list[str]:
    async with session.client() as client:
        return queue_names(await client.control("tasks", timeout=session.arguments.timeout))
