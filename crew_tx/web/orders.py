"""Orders to one worker, and questions to it."""

from __future__ import annotations

import re
from typing import Any

from crew_tx.client import Client
from crew_tx.web.problems import ProblemError
from crew_tx.web.worker_facts import Answer, stacks_of, tasks_of, text

_ORDERS = ("drain", "pause", "resume", "cancel")
#: As workers make them: nothing else is one worker alone, since a name may be that of many.
_WORKER_ID = re.compile(r"[^@\s][^\s]{0,160}-[0-9a-f]{32}")
#: Seconds that a worker has to answer.
_TIMEOUT = 2.0


class Orders:
    """
    Asks single workers.

    :param client: what commands are sent with.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def give(self, given: dict[str, Any]) -> Answer:
        """
        Give an order.

        :param given: ``command``, ``worker``, which is an id, and ``id``, that of a call, for ``cancel``.
        :returns: what the worker says.
        :raises ProblemError: 422, if it is no order; 404, if there is no such
            worker; 409, if the worker refuses it.
        """
        name, call_id = given.get("command"), given.get("id")
        if name not in _ORDERS:
            raise ProblemError(422, f'an order is {{"command": ..., "worker": ...}}, of {", ".join(_ORDERS)}')
        if name == "cancel" and not isinstance(call_id, str):
            raise ProblemError(422, "cancel has the id of a call as id")
        arguments = {"id": call_id} if name == "cancel" else {}
        answer = await self._ask(name, given.get("worker"), arguments)
        if answer is None:
            raise ProblemError(404, "that worker does not answer; it may have left")
        return {key: answer[key] is True for key in ("draining", "paused", "cancelled") if key in answer}

    async def look(self, worker_id: str) -> Answer:
        """
        What a worker runs, with ``stacks``, and its ``tasks``; both None where it does not answer.

        :raises ProblemError: 422, if that is no worker's id; 409, if it refuses to say.
        """
        stacks = await self._ask("stacks", worker_id, {})
        tasks = None if stacks is None else await self._ask("tasks", worker_id, {})
        return {
            "wid": worker_id,
            "stacks": None if stacks is None else stacks_of(stacks),
            "tasks": None if tasks is None else tasks_of(tasks),
        }

    async def _ask(self, name: str, worker_id: object, arguments: dict[str, Any]) -> Answer | None:
        if not isinstance(worker_id, str) or not _WORKER_ID.fullmatch(worker_id):
            raise ProblemError(422, "worker is the id of a worker, as the overview has it")
        answers = await self._client.control(name, worker_id, arguments, timeout=_TIMEOUT, expect=1)
        if answers and "error" in answers[0]:
            raise ProblemError(409, text(answers[0]["error"]))
        return answers[0] if answers else None
