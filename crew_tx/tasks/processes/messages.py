"""
What the frames between a worker and a task's process say.

To the child: ``start``, then one ``call`` at a time. From the child: ``ready``
or ``failed`` for the first, an ``answer`` for each call, and before it any
number of ``event``. What a child says is checked here as what a wire says: it
is a task's process, and the task may have written to its file descriptors.
"""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple, get_args

from crew_tx.codec import Codec, Encoded
from crew_tx.errors import CrewError
from crew_tx.message import Answer, Call, ErrorKind, Headers, check_headers
from crew_tx.tasks.processes.frames import LONGEST_HEAD, Frame, FrameError, write_frame
from crew_tx.topology import check_name

START, READY, FAILED, CALL, ANSWER, EVENT = "start", "ready", "failed", "call", "answer", "event"

_LONGEST_TEXT = 255
_LONGEST_REASON = 20_000
#: Bytes of all settings together.
_MOST_SETTINGS = LONGEST_HEAD // 2


class Start(NamedTuple):
    """
    What a child is told first.

    :ivar settings: what its tasks find in ``context.settings``.
    :ivar path: where it looks for modules.
    """

    worker_id: str
    max_message_size: int
    allow_pickle: bool
    settings: dict[str, Any]
    path: list[str]


class TaskEvent(NamedTuple):
    """An event that a task publishes, encoded."""

    channel: str
    encoded: Encoded
    headers: Headers
    persistent: bool


# -- to the child --------------------------------------------------------------------


def write_start(start: Start) -> bytes:
    """Settings that CBOR can't hold are left out, and those that are too large."""
    settings = {}
    left: float = _MOST_SETTINGS
    for name, value in start.settings.items():
        if (size := _size(name, value)) <= left:
            settings[name] = value
            left -= size
    return write_frame(START, {**start._asdict(), "settings": settings})


def read_start(frame: Frame) -> Start:
    """:raises FrameError: if it is none."""
    if frame.kind != START:
        raise FrameError(f"a {START} frame was due")
    return Start(**frame.head)


def write_call(call: Call, time_left: float) -> bytes:
    """:param time_left: the seconds that it may run."""
    fields = {**call._asdict(), "headers": dict(call.headers), "time_left": time_left}
    del fields["body"]
    return write_frame(CALL, fields, call.body)


def read_call(frame: Frame) -> tuple[Call, float]:
    """
    :returns: the call, and the seconds that it may run.
    :raises FrameError: if it is none.
    """
    if frame.kind != CALL:
        raise FrameError(f"a {CALL} frame was due")
    time_left = frame.head.pop("time_left")
    return Call(body=frame.body, **frame.head), time_left


def _size(name: str, value: object) -> float:
    """The bytes of one setting; more than any if it can't be sent."""
    try:
        return len(write_frame(START, {"settings": {name: value}}))
    except CrewError:
        return inf


# -- from the child ------------------------------------------------------------------


def write_answer(answer: Answer) -> bytes:
    """:raises CrewError: if its headers can't be sent."""
    fields = {
        "call_id": answer.call_id,
        "content_type": answer.content_type,
        "content_encoding": answer.content_encoding,
        "error": answer.error,
        "elapsed": answer.elapsed,
        "headers": dict(answer.headers),
    }
    return write_frame(ANSWER, fields, answer.body)


def read_answer(frame: Frame, call: Call, worker_id: str) -> Answer:
    """
    The answer to a call.

    :raises FrameError: if it is none, or another call's.
    """
    head = frame.head
    if head.get("call_id") != call.call_id:
        raise FrameError("an answer is to another call than the one that runs")
    error: Any = head.get("error")
    if error is not None and error not in get_args(ErrorKind):
        raise FrameError("an answer has an unknown kind of error")
    return Answer(
        call.call_id, *_encoded(frame), error, worker_id, _elapsed(head), call.persistent, _headers(head)
    )


def write_event(event: TaskEvent) -> bytes:
    """:raises CrewError: if its headers can't be sent."""
    body, content_type, content_encoding = event.encoded
    fields = {
        "channel": event.channel,
        "content_type": content_type,
        "content_encoding": content_encoding,
        "headers": dict(event.headers),
        "persistent": event.persistent,
    }
    return write_frame(EVENT, fields, body)


def read_event(frame: Frame) -> TaskEvent:
    """
    An event.

    :raises FrameError: if it is none.
    """
    head = frame.head
    persistent = head.get("persistent")
    if not isinstance(persistent, bool):
        raise FrameError("an event doesn't say whether it is persistent")
    channel = _text(head, "channel")
    try:
        check_name("channel", channel)
    except CrewError as error:
        raise FrameError(str(error)) from None
    return TaskEvent(channel, _encoded(frame), _headers(head), persistent)


def read_failed(frame: Frame) -> str:
    """Why a child could not start, bounded."""
    reason = frame.head.get("reason")
    return reason[:_LONGEST_REASON] if isinstance(reason, str) else "it doesn't say why"


def _encoded(frame: Frame) -> Encoded:
    encoding = frame.head.get("content_encoding")
    return Encoded(
        frame.body,
        _text(frame.head, "content_type"),
        None if encoding is None else _text(frame.head, "content_encoding"),
    )


def _text(head: dict[str, Any], name: str) -> str:
    value = head.get(name)
    if isinstance(value, str) and 0 < len(value.encode("utf-8", "replace")) <= _LONGEST_TEXT:
        return value
    raise FrameError(f"the {name} of a frame is no text, or too long")


def _elapsed(head: dict[str, Any]) -> float:
    elapsed = head.get("elapsed")
    if isinstance(elapsed, float) and 0 <= elapsed < inf:
        return elapsed
    raise FrameError("an answer doesn't say how long it took")


def _headers(head: dict[str, Any]) -> Headers:
    headers = head.get("headers")
    if not isinstance(headers, dict):
        raise FrameError("the headers of a frame are no map")
    try:
        check_headers(headers)
    except CrewError as error:
        raise FrameError(str(error)) from None
    return headers


def codec_of(start: Start) -> Codec:
    """What a child reads and writes bodies with."""
    return Codec(allow_pickle=start.allow_pickle, max_message_size=start.max_message_size)
