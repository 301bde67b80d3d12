"""
What is known of one worker, from its answers to commands.

A worker may answer anything: what comes out of here are bounded texts, finite
numbers and flags, which JSON can hold.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

from crew_tx.errors import InvalidArgumentError
from crew_tx.topology import check_task_id, task_queue_name

_COUNTS = (
    "pid",
    "processed",
    "exceptions",
    "timeouts",
    "in_progress",
    "held",
    "threads",
    "busy",
    "stuck",
    "replaced",
    "unconfirmed_replies",
)
_FLAGS = ("paused", "draining")
#: Of statistics: those whose sum is how many calls have ended.
_ENDED = ("processed", "exceptions", "timeouts")
_LONGEST = 500
_LARGEST = 2**53
_MOST_WAITS = 100
_MOST_ACTIVE = 500
_MOST_TASKS = 1000
_DEEPEST = 50

Answer = dict[str, Any]


class WorkerFacts:
    """
    One worker.

    :ivar active: the calls that run there, as the status page has them.
    :ivar queues: those of its tasks; None until it has told its tasks.
    :ivar silent: looks in a row that it did not answer.
    """

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self._stats: Answer = {}
        self._ended = 0
        self._noted: float | None = None
        self._rate: float | None = None
        self.active: list[Answer] = []
        self.queues: frozenset[str] | None = None
        self.silent = 0

    def note(self, answer: Answer, now: float) -> None:
        """
        Its statistics.

        :param now: seconds.
        """
        ended = sum(whole(answer.get(name)) for name in _ENDED)
        if self._noted is not None and now > self._noted:
            self._rate = max(0, ended - self._ended) / (now - self._noted)
        self._ended, self._noted = ended, now
        self._stats = {
            "host": text(answer.get("host")),
            **{name: whole(answer.get(name)) for name in _COUNTS},
            **{name: answer.get(name) is True for name in _FLAGS},
            "started": number(answer.get("started")),
            "wait": _mean(items_in(answer, "waittimes", _MOST_WAITS)),
        }

    def rest(self) -> None:
        """Nobody has looked for a while, and a rate over that would say nothing of now."""
        self._noted = self._rate = None

    def note_active(self, answer: Answer) -> None:
        """What runs."""
        self.active = [{"wid": self._worker_id, **call} for call in calls_of(answer, "active")]

    def note_tasks(self, answer: Answer) -> None:
        """Its tasks, and so the queues that they are in."""
        self.queues = queues_of(answer)

    def told(self) -> Answer:
        """For the page; ``rate`` is in calls a second, ``wait`` the mean of the last waits in seconds."""
        return {"wid": self._worker_id, **self._stats, "rate": self._rate, "silent": self.silent > 0}


def worker_id_of(answer: Answer) -> str | None:
    """Who answered; None where that can't be an id."""
    worker_id = answer.get("wid")
    return worker_id if _is_name(worker_id) else None


def calls_of(answer: Answer, name: str) -> list[Answer]:
    """
    The calls in an answer to ``active`` or ``stacks``.

    :param name: under which they are in it.
    """
    return [
        {
            "task": text(each.get("task")),
            "id": text(each.get("id")),
            "caller": text(each.get("caller")) or None,
            "seconds": number(each.get("seconds")) or 0.0,
            "thread": text(each.get("thread")),
            "stuck": each.get("stuck") is True,
        }
        for each in maps_in(answer, name, _MOST_ACTIVE)
    ]


def stacks_of(answer: Answer) -> list[Answer]:
    """The same calls, each with the lines where its thread is, the innermost last."""
    lines = (items_in(each, "stack", _DEEPEST) for each in maps_in(answer, "stacks", _MOST_ACTIVE))
    return [
        {**call, "stack": [text(line) for line in stack]}
        for call, stack in zip(calls_of(answer, "stacks"), lines, strict=True)
    ]


def errors_of(answer: Answer) -> list[Answer]:
    """The errors in an answer to ``errors``; ``time`` is in seconds since 1970."""
    names = ("task", "id", "kind", "type", "message")
    return [
        {
            "wid": worker_id_of(answer),
            "time": number(each.get("time")) or 0.0,
            **{name: text(each.get(name)) for name in names},
        }
        for each in maps_in(answer, "errors", _MOST_ACTIVE)
    ]


def queues_of(answer: Answer) -> frozenset[str]:
    """The queues of the tasks in an answer to ``tasks``."""
    names = (text(each.get("queue")) for each in maps_in(answer, "tasks", _MOST_TASKS))
    return frozenset(task_queue_name(name) for name in names if _is_name(name))


def tasks_of(answer: Answer) -> list[str]:
    """The ids in an answer to ``tasks``."""
    return [text(each.get("id")) for each in maps_in(answer, "tasks", _MOST_TASKS)]


def text(value: object) -> str:
    """A text as it is, but not longer than is shown; empty where it is none."""
    return value[:_LONGEST] if isinstance(value, str) else ""


def whole(value: object) -> int:
    """A count; 0 where it is none."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST
    return value if is_count else 0  # type: ignore[return-value]


def number(value: object) -> float | None:
    """A number that is not negative; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < _LARGEST else None


def _mean(waits: list[Any]) -> float | None:
    """Of seconds as text, as arpc has them."""
    read = [number(float(each)) for each in waits if _is_decimal(each)]
    found = [each for each in read if each is not None]
    return fmean(found) if found else None


def _is_decimal(value: object) -> bool:
    if not isinstance(value, str) or not value.isascii() or len(value) > 20:
        return False
    return value.replace(".", "", 1).isdecimal()


def items_in(answer: Answer, name: str, most: int) -> list[Any]:
    """What is in a list of an answer; nothing where it is none."""
    items = answer.get(name)
    return items[:most] if isinstance(items, list) else []


def maps_in(answer: Answer, name: str, most: int = _MOST_TASKS) -> list[Answer]:
    """The same, of maps."""
    return [each for each in items_in(answer, name, most) if isinstance(each, dict)]


def _is_name(value: object) -> bool:
    try:
        check_task_id(value)
    except InvalidArgumentError:
        return False
    return True
