"""The verbs that ask workers something, or tell them to do something."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from crew_tx.cli.crew.exits import FAILED, OK, NoAnswerError, UsageError
from crew_tx.cli.crew.session import Session
from crew_tx.cli.crew.text import cell, json_text
from crew_tx.web.worker_facts import calls_of, errors_of, items_in, maps_in, stacks_of

Answer = dict[str, Any]

#: A worker's id, of which there is one: its name, a hyphen and a uuid.
_WORKER_ID = re.compile(r".+-[0-9a-f]{32}")
_MOST_WAITS = 10


@dataclass(frozen=True, slots=True)
class Answers:
    """What workers answered, by their ids."""

    all: list[Answer]

    @property
    def good(self) -> list[Answer]:
        """Those without an error."""
        return [answer for answer in self.all if "error" not in answer]

    def told(self, session: Session) -> int:
        """Tell people of the errors. :returns: the exit code."""
        bad = [answer for answer in self.all if "error" in answer]
        for answer in bad:
            session.output.note(f"{answer['wid']}: {answer['error']}")
        return FAILED if bad else OK


async def ask(
    session: Session,
    name: str,
    target: str | None,
    given: dict[str, Any],
    timeout: float,
    expect: int | None = None,
) -> Answers:
    """
    Send a command to workers and gather their answers.

    :raises NoAnswerError: if there are none.
    """
    if expect is None and target is not None and _WORKER_ID.fullmatch(target):
        expect = 1
    async with session.client() as client:
        answers = await client.control(name, target, given, timeout, expect)
    if not answers:
        who = "worker" if target is None else f"worker of the name, service or task {target!r}"
        raise NoAnswerError(f"no {who} answered within {timeout:g} s; start one, or raise --timeout")
    return Answers(sorted(answers, key=lambda answer: str(answer.get("wid"))))


async def ping(session: Session) -> int:
    """Who is there."""
    return await _listed(session, "ping", ("wid", "host", "pid"))


async def stats(session: Session) -> int:
    """What each has done, and does."""
    answers = await _asked(session, "stats")
    columns, rows = stats_table(answers.good)
    session.output.table(columns, rows, answers.all)
    return answers.told(session)


async def tasks(session: Session) -> int:
    """The tasks of all, and how many workers have each."""
    answers = await _asked(session, "tasks")
    found: dict[str, list[Any]] = {}
    for answer in answers.good:
        for task in maps_in(answer, "tasks"):
            kind = "reactor" if task.get("async") else task.get("isolation", "thread")
            row = [task.get("id"), task.get("queue"), task.get("timeout"), kind]
            found.setdefault(json_text(row), [*row, 0])[-1] += 1
    columns = ("task", "queue", "time limit", "runs in", "workers")
    session.output.table(columns, [found[key] for key in sorted(found)], answers.all)
    return answers.told(session)


async def active(session: Session) -> int:
    """What runs."""
    answers = await _asked(session, "active")
    columns, rows = active_table(answers.good)
    session.output.table(columns, rows, answers.all, "nothing runs")
    return answers.told(session)


async def stacks(session: Session) -> int:
    """What runs, and where in its code that is."""
    answers = await _asked(session, "stacks")
    texts = [_stack_text(answer["wid"], each) for answer in answers.good for each in stacks_of(answer)]
    if texts or session.output.as_json:
        session.output.text("\n\n".join(texts), answers.all)
    else:
        session.output.note("nothing runs")
    return answers.told(session)


async def errors(session: Session) -> int:
    """What ended with an error lately, the latest first."""
    answers = await _asked(session, "errors")
    found = [each for answer in answers.good for each in errors_of(answer)]
    found.sort(key=lambda each: each["time"], reverse=True)
    columns = ("time", "wid", "task", "id", "kind", "type", "message")
    rows = [[_time_text(each["time"]), *(each[name] for name in columns[1:])] for each in found]
    session.output.table(columns, rows, answers.all, "no call has ended with an error")
    return answers.told(session)


async def order(session: Session) -> int:
    """``pause``, ``resume``, ``drain`` and ``kill``: the verb is the command."""
    return await _ordered(session, session.arguments.verb, {})


async def threads(session: Session) -> int:
    """Run so many tasks at once."""
    return await _ordered(session, "threads", {"n": session.arguments.number})


async def evaluate(session: Session) -> int:
    """Evaluate an expression in workers."""
    return await _ordered(session, "eval", {"expr": session.arguments.expression})


async def cancel(session: Session) -> int:
    """
    End a call, on whichever worker has it.

    :raises NoAnswerError: if none has it.
    """
    answers = await _asked(session, "cancel", {"id": session.arguments.call_id})
    holders = [answer["wid"] for answer in answers.good if answer.get("cancelled")]
    if not holders and len(answers.good) == len(answers.all):
        raise NoAnswerError("no worker has that call: it has ended, or waits in its queue")
    if holders:
        session.output.text(f"cancelled on {', '.join(map(cell, holders))}", answers.all)
    code = answers.told(session)
    return OK if holders else code


def stats_table(answers: list[Answer]) -> tuple[tuple[str, ...], list[list[Any]]]:
    """The columns and rows of what workers say of themselves."""
    columns = ("wid", "host", "pid", "state", "processed", "exceptions", "timeouts")
    more = ("running", "held", "threads", "stuck", "waittimes")
    return columns + more, [_stats_row(answer) for answer in answers]


def active_table(answers: list[Answer]) -> tuple[tuple[str, ...], list[list[Any]]]:
    """The columns and rows of what runs, the longest first."""
    columns = ("task", "id", "seconds", "thread", "stuck", "caller", "wid")
    rows = [
        [*(each[column] for column in columns[:-1]), answer["wid"]]
        for answer in answers
        for each in calls_of(answer, "active")
    ]
    return columns, sorted(rows, key=lambda row: -row[2])


def state_of(answer: Answer) -> str:
    """Whether a worker takes calls."""
    return "draining" if answer.get("draining") else "paused" if answer.get("paused") else "ready"


def in_one_line(answer: Answer) -> str:
    """A worker's answer with all that it says, its id first."""
    return json_text({"wid": answer.get("wid"), **answer})


def _stats_row(answer: Answer) -> list[Any]:
    names = ("processed", "exceptions", "timeouts", "in_progress", "held")
    waits = " ".join(str(each) for each in items_in(answer, "waittimes", _MOST_WAITS))
    return [
        answer.get("wid"),
        answer.get("host"),
        answer.get("pid"),
        state_of(answer),
        *(answer.get(name) for name in names),
        f"{answer.get('busy')}/{answer.get('threads')}",
        answer.get("stuck"),
        waits or None,
    ]


def _stack_text(worker: str, call: Answer) -> str:
    stuck = ", stuck" if call["stuck"] else ""
    head = f"{call['task']} {call['id']} on {worker}, {call['seconds']:.1f} s{stuck}"
    return "\n".join([head, *(f"  {line}" for line in call["stack"])])


async def _listed(session: Session, name: str, columns: tuple[str, ...]) -> int:
    answers = await _asked(session, name)
    rows = [[answer.get(column) for column in columns] for answer in answers.good]
    session.output.table(columns, rows, answers.all)
    return answers.told(session)


async def _asked(session: Session, name: str, given: dict[str, Any] | None = None) -> Answers:
    arguments = session.arguments
    return await ask(session, name, arguments.target, given or {}, arguments.timeout, arguments.expect)


async def _ordered(session: Session, name: str, given: dict[str, Any]) -> int:
    """:raises UsageError: if neither a target nor all workers are meant."""
    arguments = session.arguments
    if (arguments.target is None) == (not arguments.all):
        raise UsageError("give a TARGET, or --all for all workers")
    answers = await _asked(session, name, given)
    columns = ("wid", *dict.fromkeys(key for answer in answers.good for key in answer if key != "wid"))
    rows = [[answer.get(column) for column in columns] for answer in answers.good]
    session.output.table(columns, rows, answers.all)
    return answers.told(session)


def _time_text(seconds: float) -> str | None:
    """Local time, to the second; None where that is no time."""
    try:
        return datetime.fromtimestamp(seconds).isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):
        return None
