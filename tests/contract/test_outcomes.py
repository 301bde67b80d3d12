"""What a call comes to, whatever the broker: the outcomes, by crew_tx's own client and worker."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from random import Random
from threading import Event
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from crew_tx import (
    BrokerBlockedError,
    Client,
    ClientStoppedError,
    ConnectionLostError,
    EncodeError,
    ExpirationError,
    MessageTooLargeError,
    NoWorkersError,
    PoisonError,
    PublishNackedError,
    QueueFullError,
    RejectedError,
    RemoteError,
    ReplyLostError,
    TaskTimeoutError,
    TimeoutError,
    UnknownTaskError,
    UnroutableError,
)
from crew_tx.amqp.uri import parse_all
from crew_tx.codec import Codec
from crew_tx.errors import DecodeError, DuplicateCallIdError
from crew_tx.message import call_from
from crew_tx.tasks.declaration import TaskDefinition
from crew_tx.testing import MemoryReactor, SteppedThreads
from crew_tx.topology import QueueType
from crew_tx.worker import Service, Task, Worker, context
from tests.contract.brokers import Behaviour, on_each_broker
from tests.contract.conversations import Conversation
from tests.integration.support import errored, gathered

_VALUES: dict[str, list[Any]] = {
    "cbor": [None, True, -(2**70), 1.5, "grün", b"\x00\xff", [1, [2]], {"a": {"b": [None]}}, {1: 2}],
    "json": [None, False, 2**53, 0.1, "grün\n", [1, "a"], {"a": {"b": []}}],
    "text": ["", "grün\u2028"],
    "bytes": [b"", bytes(range(256))],
    "pickle": [{1, 2}, (1, 2)],
}
#: More than one frame, and more than is coded on the reactor.
_LARGE = 400_000


class OutcomeBehaviour(Behaviour):
    """Clients and workers on a broker; they end with the test."""

    def task_id(self, kind: str = "task") -> str:
        """A task that no other test has; its queue is deleted after the test."""
        task_id = self.name(kind)
        self._names.append(f"crew.tasks.{task_id}")
        return task_id

    def finally_(self, end: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Do something when the test has ended."""
        waits_for = getattr(self, "waits_for", Deferred.fromCoroutine)
        self.addCleanup(lambda: waits_for(end()))

    @property
    def url(self) -> str:
        """Where the broker is."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    async def caller(self, **options: Any) -> Client:
        """A client that is connected."""
        client = Client(self.clock, self.url, **options)

        async def end() -> None:
            await client.close()

        self.finally_(end)
        await client.connect()
        return client

    async def worker(self, *tasks: Any, **options: Any) -> Worker:
        """A worker that consumes, of marked functions and services."""
        definitions: list[TaskDefinition] = []
        for each in tasks:
            definitions += each.tasks() if isinstance(each, Service) else [each.__crew_task__]
        held = options.pop("held", None)
        if isinstance(self.clock, MemoryReactor):
            threads = options["create_threads"] = SteppedThreads(held)
            self.clock.add_stepper(threads.step_free)
        worker = Worker(self.clock, parse_all(self.url), definitions, **{"drain": 0.2, **options})

        async def end() -> None:
            await self.stopped(worker)

        self.finally_(end)
        worker.startService()
        await worker.when_ready()
        return worker

    async def stopped(self, worker: Worker) -> None:
        """Stop a worker, if it runs."""
        if worker.running:
            await worker.stopService()

    async def declared(self, queue_type: QueueType = "classic") -> str:
        """A task that a worker has declared, and that nobody answers."""

        @Task(self.task_id(queue_type))
        def nothing(req: Any) -> None:
            """Does nothing."""

        await self.stopped(await self.worker(nothing, queue_type=queue_type))
        return task_id_of(nothing)

    async def answering(self, function: Callable[[Any], Any], **options: Any) -> str:
        """The id of a task that a worker answers with a function."""
        task = Task(self.task_id())(function)
        await self.worker(task, **options)
        return task_id_of(task)

    async def hanging(self, **options: Any) -> tuple[str, list[Deferred[Any]]]:
        """The id of a task that ends when the test says so, and what its calls wait for."""
        waiting: list[Deferred[Any]] = []

        async def hang(req: Any) -> Any:
            waiting.append(Deferred())
            return await waiting[-1]

        return await self.answering(hang, **options), waiting

    async def until_ready(self, talk: Conversation, task_id: str, count: int) -> None:
        """Wait until so many calls are in a task's queue."""
        while await talk.count(f"crew.tasks.{task_id}") < count:
            await talk.passes(0.02)

    async def until_confirmed(self, talk: Conversation, client: Client) -> None:
        """Wait until a client knows that the broker has all that it sent."""
        while client.status().unconfirmed:
            await talk.passes(0.02)

    async def raw_queue(self, talk: Conversation, **arguments: Any) -> str:
        """The id of a task whose queue has other arguments than a worker would give it."""
        task_id = self.task_id()
        queue = await talk.queue(f"crew.tasks.{task_id}", durable=True, **arguments)
        await talk.bind(queue, "crew.tasks", task_id)
        return task_id


def noting(ran: list[Any]) -> Callable[[Any], Any]:
    """A function that gives back what it is given, and notes it."""

    def note(req: Any) -> Any:
        ran.append(req)
        return req

    return note


def task_id_of(task: Any) -> str:
    """What a marked function is called by."""
    task_id: str = task.__crew_task__.task_id
    return task_id


class Values(OutcomeBehaviour):
    """What comes back."""

    async def values_come_back(self, serializer: str) -> None:
        """Each value as it was sent."""
        pickle = serializer == "pickle"
        echo = await self.answering(lambda req: req, allow_pickle=pickle)
        client = await self.caller(allow_pickle=pickle)
        for value in _VALUES[serializer]:
            answer = await client.call(echo, value, serializer=serializer)
            self.assertEqual((answer, type(answer)), (value, type(value)))

    async def test_cbor(self) -> None:
        """Everything that CBOR has."""
        await self.values_come_back("cbor")

    async def test_json(self) -> None:
        """What JSON has."""
        await self.values_come_back("json")

    async def test_text(self) -> None:
        """Plain text."""
        await self.values_come_back("text")

    async def test_bytes(self) -> None:
        """Bytes as they are."""
        await self.values_come_back("bytes")

    async def test_pickle_where_both_sides_allow_it(self) -> None:
        """And only there."""
        await self.values_come_back("pickle")

    async def test_bodies_of_several_frames(self) -> None:
        """Compressed, by themselves or as asked, and not."""
        echo = await self.answering(lambda req: req)
        client = await self.caller()
        for compress in (None, False, "gzip"):
            self.assertEqual(await client.call(echo, b"x" * _LARGE, compress=compress), b"x" * _LARGE)

    async def test_a_reply_that_its_codec_cannot_hold(self) -> None:
        """It comes as CBOR: a number where text was sent, or bytes where JSON was."""
        give = await self.answering(lambda req: b"\xff" if req == "b" else {"n": 1})
        client = await self.caller()
        errors = 0
        for data, serializer in (("a", "json"), ("a", "cbor"), ("b", "cbor")):
            value = await client.call(give, data, serializer=serializer)
            errors += value not in (b"\xff", {"n": 1})
        self.assertEqual(errors, 0)

    async def test_a_reply_with_all_that_is_known_of_it(self) -> None:
        """``request`` has value, headers, worker and elapsed time."""

        def tell(req: Any) -> Any:
            context.headers["colour"] = "grün"
            return context.request.headers

        task = Task(self.task_id())(tell)
        worker = await self.worker(task)
        client = await self.caller()
        reply = await client.request(task_id_of(task), headers={"from": "é"})
        self.assertEqual(
            (reply.value, reply.headers, reply.worker), ({"from": "é"}, {"colour": "grün"}, worker.worker_id)
        )
        self.assertTrue(0 <= reply.elapsed < 5)

    async def test_the_headers_of_a_reply_are_its_own(self) -> None:
        """They are empty again for the next call."""

        def once(req: Any) -> int:
            before = len(context.headers)
            context.headers["mark"] = 1
            return before

        task_id = await self.answering(once, threads=1)
        client = await self.caller()
        self.assertEqual([await client.call(task_id) for _ in range(3)], [0, 0, 0])

    async def test_a_task_knows_its_call(self) -> None:
        """Id, priority, and that it was not delivered before."""

        async def tell(req: Any) -> Any:
            request = context.request
            return [request.id, request.priority, request.redelivered]

        task_id = await self.answering(tell)
        client = await self.caller()
        # The broker has eleven steps of it.
        answer = await client.call(task_id, call_id="mine", priority=255)
        self.assertEqual((answer[0], answer[1] > 0, answer[2]), ("mine", True, False))

    async def test_the_callback_style(self) -> None:
        """The call's id is returned; the callback gets value or error, and headers."""
        task_id = await self.answering(lambda req: 1 / req)
        client = await self.caller()
        for data in (2, 0):
            called: Deferred[Any] = Deferred()
            call_id = client.call(task_id, data, callback=lambda *given, to=called: to.callback(given))
            self.assertIsInstance(call_id, str)
            value, headers = await called
            self.assertEqual(headers, {})
            self.assertEqual(value if data else value.type, 0.5 if data else "ZeroDivisionError")

    async def test_calls_in_parallel(self) -> None:
        """In the order of the calls, errors as values."""
        task_id = await self.answering(lambda req: 1 / req)
        client = await self.caller()
        with client.parallel() as calls:
            for number in (1, 0, 2):
                calls.call(task_id, number)
            one, error, half = await calls.result()
        self.assertEqual((one, half, type(error)), (1, 0.5, RemoteError))

    async def test_a_service_by_its_methods(self) -> None:
        """``service.method``, and arpc's map with ``c``."""
        name = self.task_id()

        class Example:
            def c_add(self, req: dict[str, int]) -> int:
                return req["x"] + req["y"]

        await self.worker(Service(name, Example()))
        client = await self.caller()
        self.assertEqual(await client.call(f"{name}.add", {"x": 4, "y": 8}), 12)
        self.assertEqual(await client.call(name, {"c": "add", "x": 4, "y": 8}), 12)
        await errored(client.call(name, {"c": "sub"}), UnknownTaskError)

    async def test_names_that_are_not_ascii(self) -> None:
        """As far as 200 bytes of UTF-8."""
        name = self.task_id("é" * 60)
        await self.worker(Task(name)(lambda req: req))
        client = await self.caller()
        self.assertEqual(await client.call(name, 1), 1)

    async def test_many_calls_at_once(self) -> None:
        """Each has its own answer."""
        task_id = await self.answering(lambda req: req + 1)
        client = await self.caller()
        answers = await gathered(
            [client.call(task_id, number, persistent=bool(number % 2)) for number in range(600)]
        )
        self.assertEqual(answers, list(range(1, 601)))
        self.assertEqual(client.status().duplicate_replies, 0)


class Failures(OutcomeBehaviour):
    """A worker answers with an error."""

    async def test_an_exception_with_its_traceback(self) -> None:
        """Type, message, traceback and worker."""

        def fail(req: Any) -> None:
            raise LookupError("nothing here é")

        task_id = await self.answering(fail)
        error = await errored((await self.caller()).call(task_id), RemoteError)
        self.assertEqual((error.type, error.message), ("LookupError", "nothing here é"))
        self.assertIn('raise LookupError("nothing here é")', error.traceback)
        self.assertTrue(error.worker)

    async def test_no_exception_ends_the_worker(self) -> None:
        """Not even those that end programs."""
        raised: list[BaseException] = [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(1)]

        def fail(req: int) -> None:
            raise raised[req]

        task_id = await self.answering(fail, threads=1)
        client = await self.caller()
        for number, exception in enumerate(raised):
            error = await errored(client.call(task_id, number), RemoteError)
            self.assertIn(type(exception).__name__, error.type)

    async def test_a_value_that_cannot_be_written(self) -> None:
        """The caller hears why."""
        task_id = await self.answering(lambda req: object())
        error = await errored((await self.caller()).call(task_id), RemoteError)
        self.assertIn("EncodeError", error.type)

    async def test_a_reply_that_is_too_large(self) -> None:
        """The caller hears that instead, and the worker goes on."""
        # What is random can't be compressed.
        task_id = await self.answering(lambda req: Random(1).randbytes(req), max_message_size=100_000)
        client = await self.caller()
        error = await errored(client.call(task_id, 200_000), RemoteError)
        self.assertIn("MessageTooLargeError", error.type)
        self.assertEqual(len(await client.call(task_id, 3)), 3)

    async def test_a_header_that_cannot_be_sent(self) -> None:
        """The caller hears that instead."""

        def head(req: Any) -> None:
            context.headers["x-death"] = 1

        task_id = await self.answering(head)
        await errored((await self.caller()).call(task_id), RemoteError)

    async def test_a_request_that_the_worker_may_not_read(self) -> None:
        """A pickle, where the worker allows none."""
        task_id = await self.answering(lambda req: req)
        client = await self.caller(allow_pickle=True)
        error = await errored(client.call(task_id, (1,), serializer="pickle"), (DecodeError, RemoteError))  # type: ignore[arg-type]
        self.assertIn("pickle", str(error))
        self.assertEqual(await client.call(task_id, 1), 1)

    async def test_the_time_limit_of_the_call(self) -> None:
        """The error is the builtin one as well; the limit does not count the wait."""
        task_id, waiting = await self.hanging()
        error = await errored((await self.caller()).call(task_id, timeout=0.2), TaskTimeoutError)
        self.assertIsInstance(error, TimeoutError)
        self.assertEqual(len(waiting), 1)

    async def test_the_time_limit_of_the_task(self) -> None:
        """Whatever the call allows."""
        task = Task(self.task_id(), timeout=0.2, reactor=True)(lambda req: Deferred())
        worker = await self.worker(task)
        await errored((await self.caller()).call(task_id_of(task), timeout=60), TaskTimeoutError)
        self.assertEqual(worker.status().timeouts, 1)

    async def test_a_task_that_its_worker_does_not_know(self) -> None:
        """A binding outlived its task."""
        task_id = await self.answering(lambda req: req)
        talk = await self.talk()
        await talk.bind(f"crew.tasks.{task_id}", "crew.tasks", f"{task_id}.old")
        await errored((await self.caller()).call(f"{task_id}.old"), UnknownTaskError)

    async def test_a_reply_that_cannot_be_read(self) -> None:
        """Its content type and size are said, never its body."""
        client = await self.caller()
        waiting = client.call(await self.declared(), call_id="odd")
        talk = await self.talk()
        await talk.send(
            client.client_id,
            b"secret",
            exchange="crew.replies",
            type="crew.result",
            correlation_id="odd",
            content_type="application/x-python-pickle",
        )
        error = await errored(waiting, DecodeError)
        self.assertEqual((error.content_type, error.size), ("application/x-python-pickle", 6))
        self.assertNotIn("secret", str(error))


class NotTaken(OutcomeBehaviour):
    """No worker answers."""

    async def expires(self, queue_type: QueueType) -> None:
        """A call that nobody takes."""
        task_id = await self.declared(queue_type)
        client, before = await self.caller(), self.clock.seconds()
        error = await errored(client.call(task_id, expiration=0.5), ExpirationError)
        self.assertEqual(
            (error.reason, error.queue, error.expiration), ("expired", f"crew.tasks.{task_id}", 0.5)
        )
        self.assertTrue(-1 <= error.time - before <= 5, error.time - before)

    async def test_expired_in_a_classic_queue(self) -> None:
        """The dead letter says where and when."""
        await self.expires("classic")

    async def test_expired_in_a_quorum_queue(self) -> None:
        """As in a classic one."""
        await self.expires("quorum")

    async def test_expired_behind_another(self) -> None:
        """A queue looks at its head: the caller's own clock ends it."""
        task_id = await self.declared()
        client = await self.caller()
        first = client.call(task_id, priority=255)
        error = await errored(client.call(task_id, expiration=0.2, timeout=0.2), ExpirationError)
        self.assertEqual(error.reason, "unanswered")
        first.cancel()
        await errored(first, CancelledError)

    async def test_held_by_a_worker_for_too_long(self) -> None:
        """It says so itself: its only thread is busy."""
        release = Event()
        task = Task(self.task_id())(lambda req: release.wait(10))
        threads = await self.held_worker(task)
        client, talk = await self.caller(), await self.talk()
        first = client.call(task_id_of(task))
        await talk.passes(0.1)
        error = await errored(client.call(task_id_of(task), expiration=0.3, timeout=5), ExpirationError)
        self.assertEqual(error.reason, "held")
        release.set()
        threads.clear()
        self.assertTrue(await first)

    async def held_worker(self, task: Any) -> dict[str, bool]:
        """A worker with one thread; one that is stepped holds the task, until what is returned is empty."""
        held = {task_id_of(task): False}
        await self.worker(task, threads=1, held=held)
        return held

    async def test_a_known_task_waits_for_a_worker(self) -> None:
        """And is answered when there is one."""
        task_id = await self.declared()
        waiting = (await self.caller()).call(task_id, 1)
        await self.worker(Task(task_id)(lambda req: req + 1))
        self.assertEqual(await waiting, 2)

    async def test_an_unknown_task(self) -> None:
        """At once."""
        task_id, before = self.task_id("nobody"), self.clock.seconds()
        error = await errored((await self.caller()).call(task_id), UnroutableError)
        self.assertEqual(error.task_id, task_id)
        self.assertLess(self.clock.seconds() - before, 2)

    async def test_a_worker_is_required_and_there(self) -> None:
        """The call goes its way."""
        task_id = await self.answering(lambda req: req)
        self.assertEqual(await (await self.caller()).call(task_id, 1, require_worker=True), 1)

    async def test_a_worker_is_required_and_not_there(self) -> None:
        """At once; nothing is left in the queue."""
        task_id = await self.declared()
        error = await errored((await self.caller()).call(task_id, require_worker=True), NoWorkersError)
        self.assertEqual(error.task_id, task_id)
        self.assertEqual(await (await self.talk()).count(f"crew.tasks.{task_id}"), 0)

    async def test_rejected(self) -> None:
        """By whoever consumes there."""
        task_id = await self.declared()
        waiting = (await self.caller()).call(task_id)
        talk = await self.talk()
        got = await talk.taken(f"crew.tasks.{task_id}", no_ack=False)
        talk.channel.nack(got.delivery_tag, requeue=False)
        error = await errored(waiting, RejectedError)
        self.assertEqual(error.queue, f"crew.tasks.{task_id}")

    async def test_pushed_out_of_a_full_queue(self) -> None:
        """The oldest goes."""
        talk, client = await self.talk(), await self.caller()
        task_id = await self.raw_queue(talk, x_dead_letter_exchange="crew.dlx", x_max_length=1)
        first, second = client.call(task_id), client.call(task_id)
        await errored(first, QueueFullError)
        second.cancel()
        await errored(second, CancelledError)

    async def test_refused_by_a_full_queue(self) -> None:
        """The publish is nacked."""
        talk, client = await self.talk(), await self.caller()
        task_id = await self.raw_queue(talk, x_max_length=1, x_overflow="reject-publish")
        await client.send(task_id)
        await errored(client.call(task_id), PublishNackedError)

    async def test_delivered_too_often(self) -> None:
        """A quorum queue counts."""
        talk, client = await self.talk(), await self.caller()
        task_id = await self.raw_queue(
            talk, x_dead_letter_exchange="crew.dlx", x_queue_type="quorum", x_delivery_limit=2
        )
        waiting = client.call(task_id)
        for _ in range(3):
            taker = await self.talk()
            await taker.taken(f"crew.tasks.{task_id}", no_ack=False)
            await taker.channel.channel_close()
        await errored(waiting, PoisonError)

    async def test_blocked_by_an_alarm(self) -> None:
        """It waits, for as long as a publication may; after the alarm all is well."""
        task_id, talk = await self.answering(lambda req: req), await self.talk()
        client = await self.caller(publish_timeout=0.5)
        self.raise_alarm()
        # The broker blocks who publishes, and says so then.
        first = client.call(task_id, 1)
        await talk.until(lambda: client.status().blocked is not None)
        second = client.call(task_id, 2)
        if self.is_rabbitmq:
            self.assertTrue((await errored(first, BrokerBlockedError)).maybe_sent)
        else:
            # It takes the one message that shows it that somebody publishes; RabbitMQ leaves it unread.
            self.assertEqual(await first, 1)
        self.assertFalse((await errored(second, BrokerBlockedError)).maybe_sent)
        self.clear_alarm()
        await talk.until(lambda: client.status().blocked is None)
        self.assertEqual(await client.call(task_id, 3), 3)

    async def test_blocked_for_a_moment(self) -> None:
        """What waited is answered, in any order."""
        task_id, talk = await self.answering(lambda req: req), await self.talk()
        client = await self.caller()
        self.raise_alarm()
        first = client.call(task_id, 1)
        await talk.until(lambda: client.status().blocked is not None)
        second = client.call(task_id, 2)
        await talk.passes(0.2)
        self.assertFalse(second.called)
        self.clear_alarm()
        self.assertEqual(await gathered([first, second]), [1, 2])


class Ends(OutcomeBehaviour):
    """A call ends on the caller's side, or with its connection."""

    async def test_cancelled(self) -> None:
        """At once; its answer is late, and counted."""
        task_id, waiting = await self.hanging()
        client, talk = await self.caller(), await self.talk()
        called = client.call(task_id)
        await talk.until(lambda: bool(waiting))
        called.cancel()
        await errored(called, CancelledError)
        waiting[0].callback("too late")
        await talk.until(lambda: client.status().late_replies == 1)

    async def test_cancelled_before_there_is_a_worker(self) -> None:
        """The one that begins then is told, on classic and on quorum queues; it runs the others."""
        client, talk = await self.caller(), await self.talk()
        for queue_type in ("classic", "quorum"):
            task_id, ran = await self.declared(queue_type), list[Any]()
            calls = [client.call(task_id, number) for number in range(4)]
            await self.until_ready(talk, task_id, 4)
            for call in calls[:3]:
                call.cancel()
                await errored(call, CancelledError)
            await talk.passes(0.2)
            await self.worker(Task(task_id)(noting(ran)), queue_type=queue_type)
            self.assertEqual(3, await calls[3])
            self.assertEqual([3], ran)

    async def test_a_worker_that_begins_under_an_alarm(self) -> None:
        """It says that it is there, which blocks its connection; it takes calls by the next."""
        task_id, client, talk, ran = (
            await self.declared(),
            await self.caller(),
            await self.talk(),
            list[Any](),
        )
        call = client.call(task_id, 1)
        await self.until_ready(talk, task_id, 1)
        self.raise_alarm()
        await self.worker(Task(task_id)(noting(ran)))
        await talk.until(lambda: ran == [1])
        self.clear_alarm()
        self.assertEqual(1, await call)

    async def test_the_caller_is_gone(self) -> None:
        """A task that asks for it is not run."""
        task_id, talk, ran = await self.declared(), await self.talk(), list[Any]()
        leaving, staying = await self.caller(), await self.caller()
        left = leaving.call(task_id, 1)
        await self.until_ready(talk, task_id, 1)
        await leaving.close()
        await errored(left, ClientStoppedError)
        call = staying.call(task_id, 2)
        await self.until_ready(talk, task_id, 2)
        worker = await self.worker(Task(task_id, skip_abandoned=True)(noting(ran)))
        self.assertEqual(2, await call)
        self.assertEqual([2], ran)
        self.assertEqual(1, worker.status().abandoned)
        self.assertEqual(0, staying.status().undecodable)

    async def test_answered_twice(self) -> None:
        """The second reply is dropped, and counted."""
        client, talk = await self.caller(), await self.talk()
        called = client.call(await self.declared(), call_id="one")
        encoded = Codec().encode("value")
        for _ in range(2):
            await talk.send(
                client.client_id,
                encoded.body,
                exchange="crew.replies",
                type="crew.result",
                correlation_id="one",
                content_type=encoded.content_type,
            )
        self.assertEqual(await called, "value")
        await talk.until(
            lambda: client.status().duplicate_replies + client.status().late_replies == 1,
            lambda: repr(client.status()),
        )

    async def test_a_call_id_is_taken_once(self) -> None:
        """While its call is pending."""
        client, task_id = await self.caller(), await self.declared()
        first = client.call(task_id, call_id="same")
        await errored(client.call(task_id, call_id="same"), DuplicateCallIdError)
        first.cancel()
        await errored(first, CancelledError)

    async def test_what_can_not_be_sent(self) -> None:
        """At once; and nothing is written."""
        client = await self.caller()
        cases: list[tuple[type[Exception], dict[str, Any]]] = [
            (EncodeError, {"data": object()}),
            (MessageTooLargeError, {"data": b"x" * (17 * 1024 * 1024), "compress": False}),
            (ValueError, {"priority": 256}),
            (ValueError, {"expiration": 0}),
            (ValueError, {"headers": {"CC": ["x"]}}),
            (ValueError, {"serializer": "pickle"}),
        ]
        for kind, arguments in cases:
            await errored(client.call("any", **arguments), kind)
        self.assertEqual(client.status().unconfirmed, 0)

    async def test_the_client_is_stopped(self) -> None:
        """What is pending fails, and its reply queue is gone."""
        client, talk = await self.caller(), await self.talk()
        waiting = client.call(await self.declared())
        await client.close()
        await errored(waiting, ClientStoppedError)
        await errored(client.call("any"), ClientStoppedError)
        refusal = await talk.refused(
            talk.channel.queue_declare(queue=f"crew.reply.{client.client_id}", passive=True)
        )
        self.assertEqual(refusal[:2], ("channel", 404))

    async def test_the_connection_is_lost(self) -> None:
        """A call that was not persistent fails; the next one goes by the next connection."""
        client, echo = await self.caller(), await self.answering(lambda req: req)
        task_id = await self.declared()
        waiting = client.call(task_id, persistent=False)
        talk = await self.talk()
        await self.until_ready(talk, task_id, 1)
        await self.until_confirmed(talk, client)
        client._connection.client.transport.abortConnection()  # type: ignore[union-attr]
        error = await errored(waiting, ConnectionLostError)
        self.assertTrue(error.maybe_sent)
        self.assertEqual(await client.call(echo, 1), 1)

    async def test_a_call_outlives_its_connection(self) -> None:
        """One that is persistent waits, and is answered by the next connection; its task runs once."""
        task_id, running = await self.hanging()
        client, talk = await self.caller(), await self.talk()
        waiting = client.call(task_id)
        while not running:
            await talk.passes(0.02)
        await self.until_confirmed(talk, client)
        client._connection.client.transport.abortConnection()  # type: ignore[union-attr]
        await talk.passes(0.1)
        self.assertNoResult(waiting)
        running[0].callback("done")
        self.assertEqual((await waiting, len(running)), ("done", 1))

    async def test_a_call_that_the_broker_may_not_have(self) -> None:
        """It is sent again until the broker has it; a second answer would be dropped."""
        client, echo = await self.caller(), await self.answering(lambda req: req)
        calls = [client.call(echo, number, persistent=bool(number % 2)) for number in range(20)]
        # Written perhaps, and not confirmed.
        client._connection.client.transport.abortConnection()  # type: ignore[union-attr]
        self.assertEqual(await gathered(calls), list(range(20)))

    async def test_the_reply_queue_expires_while_the_client_is_away(self) -> None:
        """The client has another then, under another id; what was confirmed is lost."""
        client, talk = await self.caller(), await self.talk()
        echo = await self.answering(lambda req: req)
        task_id = await self.declared()
        waiting = client.call(task_id)
        await self.until_ready(talk, task_id, 1)
        await self.until_confirmed(talk, client)
        first = client.client_id
        client._connection.client.transport.abortConnection()  # type: ignore[union-attr]
        await talk.channel.queue_delete(queue=f"crew.reply.{first}")
        await errored(waiting, ReplyLostError)
        self.assertEqual(await client.call(echo, 1), 1)
        self.assertNotEqual(client.client_id, first)

    async def test_the_reply_queue_is_deleted(self) -> None:
        """What waits for it fails, and the client has one again."""
        client, talk = await self.caller(), await self.talk()
        echo = await self.answering(lambda req: req)
        task_id = await self.declared()
        waiting = client.call(task_id)
        await self.until_ready(talk, task_id, 1)
        await self.until_confirmed(talk, client)
        await talk.channel.queue_delete(queue=f"crew.reply.{client.client_id}")
        await errored(waiting, ReplyLostError)
        self.assertEqual(await client.call(echo, 1), 1)

    async def test_the_task_queue_is_deleted(self) -> None:
        """Its worker declares it anew, and answers on."""
        worker_has: list[Any] = []

        def note(req: Any) -> Any:
            worker_has.append(req)
            return req

        client, talk, task_id = await self.caller(), await self.talk(), await self.answering(note)
        await talk.channel.queue_delete(queue=f"crew.tasks.{task_id}")
        answer = None
        while answer is None:
            try:
                answer = await client.call(task_id, 1)
            except UnroutableError:
                await talk.passes(0.1)
        self.assertEqual((answer, worker_has), (1, [1]))


class Deliveries(OutcomeBehaviour):
    """What workers get, and in which order."""

    async def test_by_priority(self) -> None:
        """The most urgent first, and the oldest of those."""
        ran: list[int] = []
        task_id, client = await self.declared(), await self.caller()
        given = [0, 255, 100, 30, 200, 255]
        calls = [client.call(task_id, number, priority=priority) for number, priority in enumerate(given)]
        talk = await self.talk()
        await self.until_ready(talk, task_id, len(given))
        await self.worker(Task(task_id)(lambda req: ran.append(req)), threads=1, prefetch=1)
        await gathered(calls)
        self.assertEqual(ran, [1, 5, 4, 2, 3, 0])

    async def test_a_quorum_queue_in_its_order(self) -> None:
        """As they came, where priorities are equal."""
        ran: list[int] = []
        task_id, client = await self.declared("quorum"), await self.caller()
        calls = [client.call(task_id, number) for number in range(6)]
        await self.until_ready(await self.talk(), task_id, 6)
        await self.worker(
            Task(task_id)(lambda req: ran.append(req)), threads=1, prefetch=1, queue_type="quorum"
        )
        await gathered(calls)
        self.assertEqual(ran, list(range(6)))

    async def test_two_workers_share(self) -> None:
        """Each has some of the calls."""
        ran: list[str] = []
        task_id = self.task_id()

        async def run(req: Any) -> None:
            ran.append(context.settings.uuid)

        task = Task(task_id)(run)
        workers = [await self.worker(task) for _ in range(2)]
        client = await self.caller()
        await gathered([client.call(task_id) for _ in range(20)])
        self.assertEqual(set(ran), {worker.worker_id for worker in workers})
        self.assertEqual(len(ran), 20)

    async def test_two_tasks_share_a_queue(self) -> None:
        """Each is answered as itself."""
        queue, names = self.task_id("queue"), [self.task_id(), self.task_id()]
        await self.worker(*[Task(name, queue=queue)(lambda req, name=name: name) for name in names])
        client = await self.caller()
        self.assertEqual(await gathered([client.call(name) for name in names]), names)

    async def test_a_worker_that_dies_leaves_its_calls_to_another(self) -> None:
        """Which knows that they were delivered before."""
        task_id = self.task_id()
        hung: list[Deferred[Any]] = []

        async def hang(req: Any) -> Any:
            hung.append(Deferred())
            return await hung[-1]

        async def tell(req: Any) -> Any:
            return context.request.redelivered

        dying = await self.worker(Task(task_id)(hang))
        client, talk = await self.caller(), await self.talk()
        waiting = client.call(task_id)
        await talk.until(lambda: bool(hung))
        await self.worker(Task(task_id)(tell))
        dying._connection.client.transport.abortConnection()  # type: ignore[union-attr]
        self.assertIs(await waiting, True)

    async def test_a_worker_that_drains(self) -> None:
        """What runs is answered; what it had not begun goes to another."""
        task_id = self.task_id()
        hung: list[Deferred[Any]] = []

        async def hang(req: Any) -> Any:
            hung.append(Deferred())
            return await hung[-1]

        draining = await self.worker(Task(task_id)(hang), drain=5.0)
        client, talk = await self.caller(), await self.talk()
        running = client.call(task_id)
        await talk.until(lambda: bool(hung))
        stopped = draining.stopService()
        later = client.call(task_id, 7)
        await self.worker(Task(task_id)(lambda req: req))
        self.assertEqual(await later, 7)
        hung[0].callback("ended")
        self.assertEqual(await running, "ended")
        await stopped
        self.assertEqual(draining.status().unfinished, 0)

    async def test_one_way(self) -> None:
        """It runs, and nobody answers; an unknown task is an error there, too."""
        ran: list[Any] = []
        task_id, client, talk = (
            await self.answering(lambda req: ran.append(req)),
            await self.caller(),
            await self.talk(),
        )
        self.assertIs(await client.send(task_id, 5), None)
        await talk.until(lambda: ran == [5])
        status = client.status()
        self.assertEqual((status.answers, status.late_replies), (0, 0))
        await errored(client.send(self.task_id("nobody")), UnroutableError)

    async def dead_letter(self, talk: Conversation, message_id: str) -> Any:
        """The message of that id in crew.dead; others there are older."""
        while (got := await talk.taken("crew.dead")).properties["message_id"] != message_id:
            """Another test's."""
        return got

    async def test_the_dead_letter_of_a_one_way_call(self) -> None:
        """It has no caller to come home to, and is kept in crew.dead, as it was."""
        task_id, client, talk = await self.declared(), await self.caller(), await self.talk()
        call_id = f"{task_id}.call"
        await client.send(task_id, "data", expiration=0.3, call_id=call_id, headers={"mine": 1})
        got = await self.dead_letter(talk, call_id)
        death = got.headers["x-death"][0]
        self.assertEqual((death["reason"], death["queue"]), ("expired", f"crew.tasks.{task_id}"))
        call = call_from(got.properties, got.body, got.redelivered)
        self.assertEqual((call.task_id, call.reply_to, call.headers), (task_id, None, {"mine": 1}))

    async def test_the_dead_letter_of_a_caller_who_is_gone(self) -> None:
        """The same."""
        task_id, talk = await self.declared(), await self.talk()
        client = await self.caller()
        call_id = f"{task_id}.call"
        waiting = client.call(task_id, expiration=0.5, call_id=call_id)
        await self.until_ready(talk, task_id, 1)
        await client.close()
        await errored(waiting, ClientStoppedError)
        got = await self.dead_letter(talk, call_id)
        self.assertEqual(got.properties["reply_to"], client.client_id)

    async def test_a_reply_that_is_returned_is_sent_again(self) -> None:
        """Its caller's queue is not there at once."""
        task_id, talk = await self.answering(lambda req: req), await self.talk()
        caller = self.name("caller")
        encoded = Codec().encode("value")
        await talk.send(
            task_id,
            encoded.body,
            exchange="crew.tasks",
            type="crew.call",
            message_id="m",
            correlation_id="m",
            reply_to=caller,
            content_type=encoded.content_type,
            headers={"crew-task": task_id, "crew-timeout": 5000, "crew-attempt": 1},
        )
        await talk.passes(0.3)
        queue = await talk.queue(caller)
        await talk.bind(queue, "crew.replies", caller)
        got = await talk.taken(queue)
        self.assertEqual((got.properties["correlation_id"], got.properties["type"]), ("m", "crew.result"))

    async def test_a_call_on_the_wire(self) -> None:
        """Persistent or not, with its expiration, and its caller as a copy's key."""
        task_id, client, talk = await self.declared(), await self.caller(), await self.talk()
        for persistent, mode in ((True, 2), (False, 1)):
            called = client.call(task_id, persistent=persistent, expiration=2.5)
            properties = (await talk.taken(f"crew.tasks.{task_id}")).properties
            called.cancel()
            await errored(called, CancelledError)
            self.assertEqual(
                (properties["delivery_mode"], properties["expiration"], properties["type"]),
                (mode, "2500", "crew.call"),
            )
            self.assertEqual(properties["headers"]["CC"], [f"@{client.client_id}"])

    async def test_what_is_no_call(self) -> None:
        """It is rejected, and kept in crew.dead; the worker goes on."""
        task_id, client, talk = await self.answering(lambda req: req), await self.caller(), await self.talk()
        message_id = f"{task_id}.odd"
        await talk.send(task_id, b"?", exchange="crew.tasks", message_id=message_id)
        self.assertEqual((await self.dead_letter(talk, message_id)).body, b"?")
        self.assertEqual(await client.call(task_id, 1), 1)


globals().update(on_each_broker(Values, Failures, NotTaken, Ends, Deliveries))
