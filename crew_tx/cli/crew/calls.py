"""``crew call`` and ``crew send``: arpc's sender."""

from __future__ import annotations

from typing import Any

from crew_tx.cli.crew import control
from crew_tx.cli.crew.data import read_data
from crew_tx.cli.crew.exits import OK, UsageError
from crew_tx.cli.crew.session import Session
from crew_tx.topology import MANAGEMENT

_COMMAND = "c"
_GATHER = 1.0


async def call(session: Session) -> int:
    """Run a task and print its value; with arpc's management keys, a command to workers."""
    arguments = session.arguments
    data = read_data(arguments.data, arguments.serializer)
    first, _, target = arguments.task.partition(".")
    if first == MANAGEMENT:
        return await _control(session, target or None, data)
    async with session.client() as client:
        reply = await client.request(
            arguments.task,
            data,
            timeout=arguments.timeout,
            require_worker=arguments.require_worker,
            **_options(session),
        )
    if arguments.verbose:
        session.output.note(f"answered by {reply.worker} in {reply.elapsed:.4f} s")
    facts = {
        "value": reply.value,
        "headers": reply.headers,
        "worker": reply.worker,
        "elapsed": reply.elapsed,
    }
    session.output.value(reply.value, facts)
    return OK


async def send(session: Session) -> int:
    """Hand a call to the broker."""
    arguments = session.arguments
    data = read_data(arguments.data, arguments.serializer)
    async with session.client() as client:
        await client.send(arguments.task, data, timeout=arguments.timeout, **_options(session))
    session.output.text("sent", {"sent": arguments.task})
    return OK


def _options(session: Session) -> dict[str, Any]:
    arguments = session.arguments
    return {
        "priority": arguments.priority,
        "expiration": arguments.expiration,
        "persistent": not arguments.transient,
        "headers": dict(arguments.header) or None,
        "serializer": arguments.serializer,
        "call_id": arguments.call_id,
    }


async def _control(session: Session, target: str | None, data: Any) -> int:
    """Print one line a worker, with all that it says, as arpc's sender did."""
    name = data.get(_COMMAND) if isinstance(data, dict) else None
    if not isinstance(name, str):
        raise UsageError('a control command is a map with c, its name, such as {"c": "ping"}')
    given = {key: value for key, value in data.items() if key != _COMMAND}
    answers = await control.ask(session, name, target, given, session.arguments.timeout or _GATHER)
    if session.output.as_json:
        session.output.value(answers.all)
    for answer in [] if session.output.as_json else answers.good:
        session.output.event(answer, control.in_one_line(answer))
    return answers.told(session)
