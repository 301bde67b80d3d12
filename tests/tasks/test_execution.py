"""Tests of crew_tx.tasks.execution."""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random
from typing import Any

from incremental import Version
from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.codec import Codec
from crew_tx.errors import InvalidArgumentError, TimeLimitExceeded, UnknownTaskError
from crew_tx.message import Answer, Call, check_headers
from crew_tx.tasks.context import AttemptContext, Settings, context
from crew_tx.tasks.declaration import Service, Task, TaskDefinition
from crew_tx.tasks.execution import error_answer, perform, perform_async
from twisted import version as twisted_version

CBOR = "application/cbor"


def definition_of(function: Callable[[Any], object], **options: Any) -> TaskDefinition:
    definition = vars(Task("test", **options)(function))["__crew_task__"]
    assert isinstance(definition, TaskDefinition)
    return definition


class Bench:
    """Performs tasks; time is what it says."""

    def __init__(self, **options: Any) -> None:
        self.codec = Codec(**options)
        self.time = 0.0
        self.attempt_context: AttemptContext

    def call(self, value: object, **options: Any) -> Call:
        encoded = self.codec.encode(value, options.pop("serializer", None))
        values = {"body": encoded.body, "content_type": encoded.content_type, **options}
        return Call("test", "call-1", content_encoding=encoded.content_encoding, **values)

    def enter(self, call: Call) -> AttemptContext:
        self.attempt_context = AttemptContext(call, Settings(), 10.0, self.now)
        return self.attempt_context

    def now(self) -> float:
        return self.time

    def perform(self, definition: TaskDefinition, call: Call) -> Answer:
        return perform(
            definition, call, self.codec, self.enter(call), "worker-1", self.now, check_small_headers
        )

    def begin(self, definition: TaskDefinition, call: Call, **options: Any) -> Deferred[Answer]:
        entered = self.enter(call)
        return perform_async(
            definition, call, self.codec, entered, "worker-1", self.now, check_small_headers, **options
        )

    def value(self, answer: Answer) -> Any:
        return self.codec.decode(answer.body, answer.content_type, answer.content_encoding)


def check_small_headers(headers: dict[str, Any]) -> None:
    """What an encoder of tables would add to the check of names."""
    check_headers(headers)
    for name, value in headers.items():
        if type(value) is object:
            raise InvalidArgumentError(f"the header {name!r} can't be encoded")


class UnprintableError(Exception):
    """An exception without a text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class PerformTests(SynchronousTestCase):
    """A call becomes an answer, whatever happens between."""

    def setUp(self) -> None:
        self.bench = Bench()

    def answer(self, function: Callable[[Any], object], value: object = None, **options: Any) -> Answer:
        """What a call of this comes to."""
        return self.bench.perform(definition_of(function), self.bench.call(value, **options))

    def error(
        self, function: Callable[[Any], object], value: object = None, **options: Any
    ) -> dict[str, str]:
        """The map of an error answer."""
        answer = self.answer(function, value, **options)
        self.assertEqual(answer.error, "raised")
        error: dict[str, str] = self.bench.value(answer)
        return error

    def test_a_task_gets_the_request_and_its_value_is_the_answer(self) -> None:
        """With all that the caller needs to know it by."""

        def add(request: dict[str, int]) -> int:
            self.bench.time += 1.5
            return request["x"] + request["y"]

        answer = self.answer(add, {"x": 4, "y": 8}, persistent=False)
        self.assertEqual(
            answer,
            Answer(
                "call-1",
                self.bench.codec.encode(12).body,
                CBOR,
                worker="worker-1",
                elapsed=1.5,
                persistent=False,
            ),
        )

    def test_an_answer_is_as_persistent_as_its_call(self) -> None:
        """An error, too."""
        for persistent in (True, False):
            self.assertEqual(self.answer(lambda request: 1, persistent=persistent).persistent, persistent)
            self.assertEqual(self.answer(lambda request: 1 / 0, persistent=persistent).persistent, persistent)

    def test_the_answer_is_in_the_calls_content_type(self) -> None:
        """Or in cbor, where that can't hold it."""
        answer = self.answer(lambda request: request, "é", serializer="json")
        self.assertEqual((answer.content_type, answer.body), ("application/json", '"é"'.encode()))
        answer = self.answer(lambda request: b"\0", "é", serializer="json")
        self.assertEqual((answer.content_type, self.bench.value(answer)), (CBOR, b"\0"))

    def test_the_task_sees_its_context(self) -> None:
        """While it runs, and nobody does after."""
        seen = self.bench.value(self.answer(lambda request: context.request.id))
        self.assertEqual(seen, "call-1")
        self.assertRaises(RuntimeError, lambda: context.request)
        self.answer(lambda request: 1 / 0)
        self.assertRaises(RuntimeError, lambda: context.request)

    def test_headers_go_with_the_answer(self) -> None:
        """With an error's too; and a later change of the task's own dict doesn't."""
        answer = self.answer(lambda request: context.headers.update(a=1))
        self.bench.attempt_context.headers["b"] = 2
        self.assertEqual(answer.headers, {"a": 1})

        def failing(request: object) -> None:
            context.headers["a"] = 1
            raise ValueError

        self.assertEqual(self.answer(failing).headers, {"a": 1})

    def test_headers_that_can_not_be_sent_are_an_error(self) -> None:
        """The answer names the header, and has none."""
        headers: list[dict[str, Any]] = [{"x-mine": 1}, {"CC": ["someone"]}, {"odd": object()}]
        for wrong in headers:

            def task(request: object, wrong: dict[str, Any] = wrong) -> None:
                context.headers.update(wrong)

            answer = self.answer(task)
            self.assertEqual((answer.error, answer.headers), ("raised", {}))
            self.assertIn(repr(next(iter(wrong))), self.bench.value(answer)["message"])

    def test_headers_that_can_not_be_sent_do_not_hide_an_error(self) -> None:
        """They are left out."""

        def task(request: object) -> None:
            context.headers["CC"] = 1
            raise ValueError("the task's own")

        answer = self.answer(task)
        self.assertEqual(answer.headers, {})
        self.assertEqual(self.bench.value(answer)["message"], "the task's own")

    def test_what_a_task_raises_is_an_error_answer(self) -> None:
        """Type, message and traceback; frames of crew_tx are not among them."""

        def failing(request: object) -> None:
            self.bench.time += 2
            raise KeyError("red pill")

        answer = self.answer(failing)
        self.assertEqual((answer.error, answer.worker, answer.elapsed), ("raised", "worker-1", 2))
        error = self.bench.value(answer)
        self.assertEqual((error["type"], error["message"]), ("KeyError", "'red pill'"))
        self.assertIn("in failing", error["traceback"])
        self.assertNotIn("in perform", error["traceback"])

    def test_nothing_that_a_task_raises_gets_out(self) -> None:
        """Be it no Exception, unprintable, a group, or huge."""
        errors = [
            SystemExit(1),
            KeyboardInterrupt(),
            GeneratorExit(),
            TimeLimitExceeded(),
            UnprintableError(),
            BaseExceptionGroup("several", [KeyboardInterrupt()]),
            MemoryError(),
            StopIteration(1),
            OSError("x" * 10_000_000),
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "\udcff"),
        ]
        for error in errors:

            def failing(request: object, error: BaseException = error) -> None:
                raise error

            self.assertTrue(self.error(failing)["type"].endswith(type(error).__name__))

    def test_a_recursion_without_end_is_an_error_answer(self) -> None:
        """The stack is free again by the time that it is written."""

        def recursive(request: object) -> None:
            recursive(request)

        self.assertEqual(self.error(recursive)["type"], "RecursionError")

    def test_an_error_is_in_the_calls_content_type_where_that_can_hold_a_map(self) -> None:
        """And in cbor where it can't."""
        answer = self.answer(lambda request: 1 / 0, "text", serializer="json")
        self.assertEqual(answer.content_type, "application/json")
        for serializer, value in (("text", "text"), ("bytes", b"bytes")):
            answer = self.answer(lambda request: 1 / 0, value, serializer=serializer)
            self.assertEqual((answer.content_type, answer.error), (CBOR, "raised"))

    def test_a_body_that_can_not_be_read_is_undecodable(self) -> None:
        """The task isn't run, and the body isn't in the answer."""
        ran: list[object] = []
        for options in (
            {"body": b"\xffsecret"},
            {"content_type": "application/unheard-of"},
            {"body": b"{secret", "content_type": "application/json"},
        ):
            answer = self.answer(lambda request: ran.append(request), None, **options)
            self.assertEqual(answer.error, "undecodable")
            error = self.bench.value(answer)
            self.assertEqual(error["type"], "crew_tx.errors.DecodeError")
            self.assertNotIn("secret", str(error))
        self.assertEqual(ran, [])

    def test_a_decode_error_of_the_tasks_own_is_raised(self) -> None:
        """Only the call's own body counts as undecodable."""

        def task(request: object) -> None:
            self.bench.codec.decode(b"\xff", CBOR)

        self.assertEqual(self.error(task)["type"], "crew_tx.errors.DecodeError")

    def test_a_value_that_can_not_be_written_is_an_error(self) -> None:
        """With the text of the EncodeError; a value over the limit as well."""
        self.assertEqual(self.error(lambda request: object())["type"], "crew_tx.errors.EncodeError")
        self.bench = Bench(max_message_size=100_000)
        error = self.error(lambda request: Random(1).randbytes(200_000))
        self.assertEqual(error["type"], "crew_tx.errors.MessageTooLargeError")

    def test_an_error_that_is_too_large_is_said_in_short(self) -> None:
        """Something of it always fits."""
        self.bench = Bench(max_message_size=100)
        error = self.error(lambda request: 1 / 0)
        self.assertEqual(error, {"type": "Exception", "message": "", "traceback": ""})

    def test_an_unknown_method_of_a_service_is_an_unknown_task(self) -> None:
        """But not what a task's own call to another worker came to."""

        class Example:
            def c_add(self, request: object) -> None:
                """A task."""

        dispatcher = Service("example", Example()).tasks()[0]
        answer = self.bench.perform(dispatcher, self.bench.call({"c": "multiply"}))
        self.assertEqual(answer.error, "unknown-task")
        self.assertIn("multiply", self.bench.value(answer)["message"])

        def task(request: object) -> None:
            raise UnknownTaskError("some other worker's")

        self.error(task)

    def test_a_threads_task_that_only_the_reactor_can_wait_for_is_told_to_say_so(self) -> None:
        """It returned a Deferred, or a coroutine."""

        async def coroutine() -> None:
            """Never awaited, and no warning about it."""

        values: list[Callable[[Any], object]] = [lambda request: succeed(1), lambda request: coroutine()]
        for function in values:
            error = self.error(function)
            self.assertEqual(error["type"], "crew_tx.errors.ConfigurationError")
            self.assertIn("reactor=True", error["message"])
        self.assertEqual(self.flushWarnings(), [])

    def test_a_failing_task_leaves_nothing_behind(self) -> None:
        """No cycle keeps its request alive until the collector comes."""
        requests: list[object] = []

        def failing(request: list[int]) -> None:
            requests.append(request)
            raise ValueError

        self.answer(failing, [1])
        request = requests.pop()
        self.assertLessEqual(sys.getrefcount(request), 2)


class PerformAsyncTests(SynchronousTestCase):
    """The same on the reactor."""

    def setUp(self) -> None:
        self.bench = Bench()

    def begin(
        self, function: Callable[[Any], object], value: object = None, **options: Any
    ) -> Deferred[Answer]:
        return self.bench.begin(definition_of(function, reactor=True), self.bench.call(value), **options)

    def error(self, deferred: Deferred[Answer]) -> dict[str, str]:
        answer = self.successResultOf(deferred)
        self.assertEqual(answer.error, "raised")
        error: dict[str, str] = self.bench.value(answer)
        return error

    def test_a_coroutine_is_waited_for(self) -> None:
        """Its value is the answer, its time the elapsed."""
        waiting: Deferred[int] = Deferred()

        async def task(request: int) -> int:
            return request + await waiting

        deferred = self.begin(task, 1)
        self.assertNoResult(deferred)
        self.bench.time += 2.5
        waiting.callback(2)
        self.assertEqual(
            self.successResultOf(deferred),
            Answer("call-1", self.bench.codec.encode(3).body, CBOR, worker="worker-1", elapsed=2.5),
        )

    def test_a_deferred_is_waited_for(self) -> None:
        """And a plain value is taken as it is."""
        waiting: Deferred[int] = Deferred()
        deferred = self.begin(lambda request: waiting)
        waiting.callback(2)
        self.assertEqual(self.bench.value(self.successResultOf(deferred)), 2)
        self.assertEqual(self.bench.value(self.successResultOf(self.begin(lambda request: 3))), 3)

    def test_a_coroutine_has_its_context_after_it_waited(self) -> None:
        """Whatever ran meanwhile; and so has a function of inlineCallbacks."""
        waits: list[Deferred[None]] = [Deferred(), Deferred()]

        async def coroutine(request: object) -> str:
            await waits[0]
            return context.request.id

        @inlineCallbacks
        def generator(request: object) -> Any:
            yield waits[1]
            return context.request.id

        first, second = self.begin(coroutine), self.begin(generator)
        self.assertRaises(RuntimeError, lambda: context.request)
        for waiting in waits:
            waiting.callback(None)
        self.assertEqual(self.bench.value(self.successResultOf(first)), "call-1")
        self.assertEqual(self.bench.value(self.successResultOf(second)), "call-1")

    def test_what_it_raises_is_an_error_answer(self) -> None:
        """At once, later, or by a failed Deferred; SystemExit among it."""

        async def coroutine(request: object) -> None:
            await succeed(None)
            raise ValueError("at last")

        def at_once(request: object) -> None:
            raise SystemExit(1)

        error = self.error(self.begin(coroutine))
        self.assertEqual((error["type"], error["message"]), ("ValueError", "at last"))
        self.assertIn("in coroutine", error["traceback"])
        self.assertNotIn("defer.py", error["traceback"])
        self.assertEqual(self.error(self.begin(at_once))["type"], "SystemExit")
        self.assertEqual(self.error(self.begin(lambda request: fail(KeyError("k"))))["type"], "KeyError")

    def test_frames_of_twisted_at_the_top_of_a_traceback_are_cut_off(self) -> None:
        """They are the same for every task."""

        @inlineCallbacks
        def generator(request: object) -> Any:
            yield succeed(None)
            raise ValueError

        traceback = self.error(self.begin(generator))["traceback"]
        if twisted_version >= Version("Twisted", 24, 10, 0):
            # Those before lose the frames of such a generator.
            self.assertIn("in generator", traceback)
        self.assertIn("ValueError", traceback)
        self.assertNotIn("twisted", traceback)

    def test_cancelling_cancels_what_the_task_waits_for(self) -> None:
        """The task can clean up, and there is an answer all the same."""
        cancelled: list[object] = []
        waiting: Deferred[None] = Deferred(cancelled.append)
        cleaned: list[int] = []

        async def task(request: object) -> None:
            try:
                await waiting
            finally:
                cleaned.append(1)

        deferred = self.begin(task)
        deferred.cancel()
        self.assertEqual((cancelled, cleaned), ([waiting], [1]))
        self.assertEqual(self.error(deferred)["type"], "twisted.internet.defer.CancelledError")

    def test_a_small_body_is_coded_on_the_reactor(self) -> None:
        """A thread would cost more than it."""
        deferred = self.begin(lambda request: request, [1], in_thread=self.fail)
        self.assertEqual(self.bench.value(self.successResultOf(deferred)), [1])

    def test_a_large_body_is_coded_in_a_thread(self) -> None:
        """Reading and writing."""
        functions: list[str] = []

        def in_thread(function: Callable[..., object], *arguments: object) -> Deferred[object]:
            functions.append(function.__name__)
            return succeed(function(*arguments))

        large = "x" * 200_000
        deferred = self.begin(lambda request: request, large, in_thread=in_thread)
        self.assertEqual(self.bench.value(self.successResultOf(deferred)), large)
        self.assertEqual(functions, ["decode", "encode_like"])

    def test_an_unreadable_body_is_undecodable(self) -> None:
        """The task isn't run."""
        call = self.bench.call(None, body=b"\xff")
        deferred = self.bench.begin(definition_of(lambda request: self.fail(), reactor=True), call)
        self.assertEqual(self.successResultOf(deferred).error, "undecodable")

    def test_headers_go_with_the_answer_or_are_an_error(self) -> None:
        """As in a thread."""
        deferred = self.begin(lambda request: context.headers.update(a=1))
        self.assertEqual(self.successResultOf(deferred).headers, {"a": 1})
        error = self.error(self.begin(lambda request: context.headers.update({"x-mine": 1})))
        self.assertIn("x-mine", error["message"])


class ErrorAnswerTests(SynchronousTestCase):
    """The worker's own errors."""

    def test_it_says_what_it_is_given(self) -> None:
        """In the call's content type."""
        bench = Bench()
        call = bench.call(1, serializer="json", persistent=False)
        answer = error_answer(
            call,
            bench.codec,
            "timeout",
            "crew_tx.errors.TaskTimeoutError",
            "over its limit",
            worker_id="worker-1",
            elapsed=3.0,
        )
        self.assertEqual(
            (answer.call_id, answer.error, answer.worker, answer.elapsed, answer.persistent, answer.headers),
            ("call-1", "timeout", "worker-1", 3.0, False, {}),
        )
        self.assertEqual(answer.content_type, "application/json")
        self.assertEqual(
            bench.value(answer),
            {"type": "crew_tx.errors.TaskTimeoutError", "message": "over its limit", "traceback": ""},
        )
