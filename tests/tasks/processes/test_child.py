"""Tests of the program of a task's process, over streams in memory."""

from __future__ import annotations

import os
from io import BytesIO
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.codec import Codec
from crew_tx.errors import ConfigurationError
from crew_tx.message import Answer, Call, check_headers
from crew_tx.tasks.context import context
from crew_tx.tasks.declaration import Task, TaskDefinition
from crew_tx.tasks.processes.child import Child, Surroundings
from crew_tx.tasks.processes.frames import Frame, FrameReader
from crew_tx.tasks.processes.messages import Start, read_answer, write_call, write_start

CODEC = Codec()


def task(function: Any) -> TaskDefinition:
    """The definition of a function."""
    definition: TaskDefinition = Task(function.__name__, isolation="process")(function).__crew_task__
    return definition


def call(name: str, data: object = None, **fields: Any) -> Call:
    encoded = CODEC.encode(data)
    return Call(name, f"id of {name}", encoded.body, encoded.content_type, **fields)


class ChildTests(SynchronousTestCase):
    def run_child(self, load: Any, *calls: Call) -> tuple[int, list[Frame]]:
        """What a child writes that is given some calls."""
        start = Start("w", 100_000, False, {"counter": 2}, ["/path"])
        source = BytesIO(write_start(start) + b"".join(write_call(each, 5.0) for each in calls))
        target = BytesIO()
        sizes = iter([len(write_start(start))])
        surroundings = Surroundings(load, check_headers)
        # The worker sends calls when it has heard that it is ready.
        code = Child(lambda count: source.read(next(sizes, count)), target.write, surroundings).run()
        return code, FrameReader(100_000).feed(target.getvalue())

    def answers(self, functions: list[Any], *calls: Call) -> list[Answer]:
        code, frames = self.run_child(lambda path: ([task(each) for each in functions], {"own": 1}), *calls)
        self.assertEqual((code, frames[0].kind), (0, "ready"))
        return [read_answer(frame, each, "w") for frame, each in zip(frames[1:], calls, strict=True)]

    def value(self, answer: Answer) -> Any:
        return CODEC.decode(answer.body, answer.content_type, answer.content_encoding)

    def test_calls_are_answered_one_by_one(self) -> None:
        """With values, headers and errors."""

        def double(req: Any) -> Any:
            context.headers["a"] = 1
            return 2 * req

        def fail(req: Any) -> None:
            raise ValueError(req)

        doubled, failed = self.answers([double, fail], call("double", 4), call("fail", "why"))
        self.assertEqual((self.value(doubled), doubled.headers, doubled.error), (8, {"a": 1}, None))
        self.assertEqual((failed.error, self.value(failed)["type"]), ("raised", "ValueError"))

    def test_what_a_task_sees(self) -> None:
        """The worker's settings before its own module's, the call, the time left."""

        def look(req: Any) -> Any:
            left = context.request.time_left
            return [context.settings.counter, context.settings.own, context.request.id, 4 < left <= 5]

        (answer,) = self.answers([look], call("look"))
        self.assertEqual(self.value(answer), [2, 1, "id of look", True])

    def test_settings_are_for_reading(self) -> None:
        """An error says why."""

        def count(req: Any) -> None:
            context.settings.counter += 1

        (answer,) = self.answers([count], call("count"))
        self.assertIn("context.settings.counter can't be set here", self.value(answer)["message"])

    def test_a_task_that_it_did_not_find_is_told(self) -> None:
        """With where to declare it."""
        (answer,) = self.answers([], call("local"))
        self.assertIn("declare it where the module is imported", self.value(answer)["message"])

    def test_headers_that_no_frame_can_hold_are_told(self) -> None:
        """In place of the answer."""

        def odd(req: Any) -> None:
            context.headers["a"] = object()

        (answer,) = self.answers([odd], call("odd"))
        self.assertEqual((answer.error, self.value(answer)["type"]), ("raised", "crew_tx.errors.EncodeError"))

    def test_events_come_before_the_answer(self) -> None:
        """And wrong ones are the task's own error."""

        def publish(req: Any) -> None:
            context.pubsub.publish("news", req)
            context.pubsub.publish("#", req)

        _, frames = self.run_child(lambda path: ([task(publish)], {}), call("publish", 1))
        self.assertEqual([frame.kind for frame in frames], ["ready", "event", "answer"])
        self.assertEqual(frames[1].head["channel"], "news")
        answer = read_answer(frames[2], call("publish"), "w")
        self.assertEqual(self.value(answer)["type"], "crew_tx.errors.InvalidArgumentError")

    def test_modules_that_cannot_be_imported_are_told(self) -> None:
        """Whatever they raise."""
        for error, said in ((ConfigurationError("no file"), "no file"), (SystemExit(3), "SystemExit: 3")):

            def load(path: list[str], error: BaseException = error) -> Any:
                self.assertEqual(path, ["/path"])
                raise error

            code, (frame,) = self.run_child(load)
            self.assertEqual((code, frame.kind), (1, "failed"))
            self.assertTrue(frame.head["reason"].startswith(said), frame.head)

    def test_it_ends_with_its_input(self) -> None:
        """Before it was told anything, too."""
        surroundings = Surroundings(lambda path: ([], {}), check_headers)
        self.assertEqual(Child(lambda count: b"", os.write, surroundings).run(), 0)  # type: ignore[arg-type]
