"""
A task's process, from the inside: reads calls, runs them one by one, writes answers.

It needs no reactor, and waits for nothing but its next call. It ends with its
input. What else ends it comes from outside, at any moment: SIGKILL.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from time import monotonic
from typing import Any, NamedTuple

from zope.interface import implementer

from crew_tx.codec import Codec
from crew_tx.errors import ConfigurationError, CrewError
from crew_tx.message import Answer, Call, Headers, check_headers
from crew_tx.tasks.context import AttemptContext, Settings
from crew_tx.tasks.declaration import TaskDefinition
from crew_tx.tasks.execution import CheckHeaders, error_answer, perform
from crew_tx.tasks.failures import bounded, describe
from crew_tx.tasks.interfaces import IPublisher
from crew_tx.tasks.processes.frames import Frame, FrameError, FrameReader, write_frame
from crew_tx.tasks.processes.messages import (
    FAILED,
    READY,
    Start,
    TaskEvent,
    codec_of,
    read_call,
    read_start,
    write_answer,
    write_event,
)
from crew_tx.topology import check_name

_LONGEST_REASON = 16 * 1024
_CHUNK = 256 * 1024
#: Of the first frame, which has no body; its head has a limit of its own.
_NO_BODY = 0

#: Reads at most so many bytes, and none at the end.
Read = Callable[[int], bytes]
#: Writes all of some bytes.
Write = Callable[[bytes], object]
#: Finds the tasks, and what their modules gave to ``run()``.
Load = Callable[[list[str]], tuple[Iterable[TaskDefinition], dict[str, Any]]]


class ReadOnlySettings(Settings):
    """``context.settings`` in a child process: what one task sets, others would not see."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"context.settings.{name} can't be set here: a task with isolation='process' has a copy; "
            "keep what tasks share outside of the worker"
        )


class Output:
    """What the child writes; tasks may publish from threads of their own."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._lock = Lock()

    def send(self, frame: bytes) -> None:
        """Write a frame, whole."""
        with self._lock:
            self._write(frame)

    def publish(self, event: TaskEvent) -> None:
        """Have the worker publish an event."""
        self.send(write_event(event))


@implementer(IPublisher)
class ProcessPublisher:
    """
    ``context.pubsub`` in a task's process: hands events to the worker.

    :param hand_over: takes each event, in whatever thread the task publishes.
    """

    def __init__(self, codec: Codec, hand_over: Callable[[TaskEvent], object]) -> None:
        self._codec = codec
        self._hand_over = hand_over

    def publish(
        self,
        channel: str,
        data: Any = None,
        *,
        headers: Headers | None = None,
        serializer: str | None = None,
        compress: str | bool | None = None,
        persistent: bool = True,
    ) -> None:
        """
        Publish an event, and go on, as a task in a thread does.

        :raises CrewError: if it can't be sent as it is.
        """
        check_name("channel", channel)
        check_headers(headers or {})
        encoded = self._codec.encode(data, serializer, compress)
        self._hand_over(TaskEvent(channel, encoded, headers or {}, bool(persistent)))


class Surroundings(NamedTuple):
    """
    What a child gets from the program that it is a part of.

    :ivar load: is given the worker's path for modules.
    """

    load: Load
    check_headers: CheckHeaders


class Child:
    """
    The program of a task's process.

    :param read: reads from the worker.
    :param write: writes to the worker.
    """

    def __init__(self, read: Read, write: Write, surroundings: Surroundings) -> None:
        self._read = read
        self._output = Output(write)
        self._surroundings = surroundings

    def run(self) -> int:
        """
        Serve until the input ends.

        :returns: the exit code.
        """
        first = next(_frames(self._read, FrameReader(_NO_BODY)), None)
        if first is None:
            return 0
        start = read_start(first)
        try:
            server = self._load(start)
        except BaseException as error:
            self._output.send(write_frame(FAILED, {"reason": _reason(error)}))
            return 1
        self._output.send(write_frame(READY, {}))
        for frame in _frames(self._read, FrameReader(start.max_message_size)):
            self._output.send(server.answer(frame))
        return 0

    def _load(self, start: Start) -> _Server:
        definitions, own = self._surroundings.load(start.path)
        settings = ReadOnlySettings(**{**own, **start.settings})
        codec = codec_of(start)
        publisher = ProcessPublisher(codec, self._output.publish)
        return _Server(
            {each.task_id: each for each in definitions},
            codec,
            settings,
            start.worker_id,
            self._surroundings.check_headers,
            publisher,
        )


class _Server:
    """Answers calls."""

    def __init__(
        self,
        definitions: dict[str, TaskDefinition],
        codec: Codec,
        settings: Settings,
        worker_id: str,
        check_headers: CheckHeaders,
        publisher: IPublisher,
    ) -> None:
        self._definitions = definitions
        self._codec = codec
        self._settings = settings
        self._worker_id = worker_id
        self._check_headers = check_headers
        self._publisher = publisher

    def answer(self, frame: Frame) -> bytes:
        """The frame that answers a call's."""
        call, time_left = read_call(frame)
        answer = self._perform(call, time_left)
        # A kill must not cost what a task printed.
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        try:
            return write_answer(answer)
        except CrewError as error:
            return write_answer(self._failed(call, error))

    def _perform(self, call: Call, time_left: float) -> Answer:
        definition = self._definitions.get(call.task_id)
        if definition is None:
            return self._failed(call, _not_there(call.task_id))
        context = AttemptContext(call, self._settings, monotonic() + time_left, monotonic, self._publisher)
        return perform(
            definition, call, self._codec, context, self._worker_id, monotonic, self._check_headers
        )

    def _failed(self, call: Call, error: BaseException) -> Answer:
        return error_answer(call, self._codec, "raised", *describe(error), worker_id=self._worker_id)


def _frames(read: Read, reader: FrameReader) -> Iterator[Frame]:
    while data := read(_CHUNK):
        yield from reader.feed(data)


def _not_there(task_id: str) -> ConfigurationError:
    return ConfigurationError(
        f"the process found no task {task_id!r} in the worker's modules, although the worker did: declare it "
        "where the module is imported, not in a function or under if __name__ == '__main__'"
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, ConfigurationError | FrameError):
        return bounded(str(error), _LONGEST_REASON)
    said = describe(error)
    return bounded(f"{said.type}: {said.message}\n{said.traceback}", _LONGEST_REASON)
