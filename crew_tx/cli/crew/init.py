"""``crew init``: what clients and workers find on the broker, declared for them."""

from __future__ import annotations

from crew_tx.amqp.declare import Declarer
from crew_tx.cli.crew.exits import OK
from crew_tx.cli.crew.session import Session
from crew_tx.topology import DEAD_QUEUE, EXCHANGES, check_name, task_binding, task_queue


async def init(session: Session) -> int:
    """Declare all exchanges, the queue of dead letters, and those of the tasks that are named."""
    arguments = session.arguments
    for task in arguments.task:
        check_name("task", task)
    queues = [task_queue(task, arguments.queue_type) for task in arguments.task]
    async with session.connection() as connection:
        declarer = Declarer(connection)
        await declarer.topology()
        for queue, task in zip(queues, arguments.task, strict=True):
            await declarer.queue(queue)
            await declarer.bind([task_binding(task, task)])
        await declarer.close()
    found = [("exchange", each.name) for each in EXCHANGES]
    found += [("queue", each.name) for each in (DEAD_QUEUE, *queues)]
    session.output.table(("kind", "name"), found, [{"kind": kind, "name": name} for kind, name in found])
    return OK
