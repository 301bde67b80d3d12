"""What a call comes to: each row of the outcome table, on RabbitMQ."""

from __future__ import annotations

from threading import Event
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from txamqp.client import ChannelClosed

from crew_tx import (
    ClientStoppedError,
    ConnectionLostError,
    EncodeError,
    ExpirationError,
    MessageTooLargeError,
    NoWorkersError,
    RemoteError,
    TaskTimeoutError,
    TimeoutError,
    UnknownTaskError,
    UnroutableError,
)
from crew_tx.errors import (
    DecodeError,
    DuplicateCallIdError,
    PublishNackedError,
    QueueFullError,
    RejectedError,
)
from crew_tx.worker import Service, Task, context
from tests.integration.support import BrokerTestCase, errored, gathered


class HiddenError(Exception):
    """An exception that can't be printed."""

    def __str__(self) -> str:
        raise ValueError("not today")

    __repr__ = __str__


class AnsweredTests(BrokerTestCase):
    async def test_the_value_comes_back(self) -> None:
        """A call fires with what the task returned."""

        @Task(self.name())
        def add(req: dict[str, int]) -> int:
            return req["x"] + req["y"]

        await self.worker(add)
        client = await self.client()
        self.assertEqual(await client.call(add.__crew_task__.task_id, {"x": 4, "y": 8}), 12)

    async def test_a_request_tells_who_answered_and_how_long_it_took(self) -> None:
        """``request`` fires with value, headers, worker and elapsed time."""

        @Task(self.name())
        def tell(req: Any) -> Any:
            context.headers["colour"] = "grün"
            return context.request.headers

        worker = await self.worker(tell)
        client = await self.client()
        reply = await client.request(tell.__crew_task__.task_id, headers={"from": "é"})
        self.assertEqual(reply.value, {"from": "é"})
        self.assertEqual(reply.headers, {"colour": "grün"})
        self.assertEqual(reply.worker, worker.worker_id)
        self.assertTrue(0 <= reply.elapsed < 1)

    async def test_headers_of_a_reply_do_not_outlive_it(self) -> None:
        """``context.headers`` is empty again for each call."""

        @Task(self.name())
        def once(req: Any) -> int:
            before = len(context.headers)
            context.headers["mark"] = 1
            return before

        await self.worker(once, threads=1)
        client = await self.client()
        answers = [await client.call(once.__crew_task__.task_id) for _ in range(3)]
        self.assertEqual(answers, [0, 0, 0])

    async def test_an_async_task_runs_on_the_reactor(self) -> None:
        """A coroutine function may await Deferreds, and has the context."""

        @Task(self.name())
        async def later(req: Any) -> Any:
            await deferLater(reactor, 0.01, lambda: None)
            return context.request.id

        await self.worker(later)
        client = await self.client()
        self.assertEqual(await client.call(later.__crew_task__.task_id, call_id="mine"), "mine")

    async def test_the_callback_style(self) -> None:
        """With ``callback`` the call's id is returned, and the callback gets value or error, and headers."""
        from twisted.internet.defer import Deferred

        @Task(self.name())
        def tell(req: Any) -> Any:
            context.headers["a"] = 1
            return 1 / req

        await self.worker(tell)
        client = await self.client()
        first: Deferred[Any] = Deferred()
        call_id = client.call(
            tell.__crew_task__.task_id, 2, callback=lambda value, headers: first.callback((value, headers))
        )
        self.assertIsInstance(call_id, str)
        self.assertEqual(await first, (0.5, {"a": 1}))
        second: Deferred[Any] = Deferred()
        client.call(tell.__crew_task__.task_id, 0, callback=lambda value, headers: second.callback(value))
        self.assertEqual((await second).type, "ZeroDivisionError")

    async def test_calls_in_parallel_have_their_errors_as_values(self) -> None:
        """The results stand in the order of the calls; none at all is an empty list at once."""

        @Task(self.name())
        def halve(req: Any) -> Any:
            return 1 / req

        await self.worker(halve)
        client = await self.client()
        with client.parallel() as calls:
            for number in (1, 0, 2):
                calls.call(halve.__crew_task__.task_id, number)
            one, error, half = await calls.result()
        self.assertEqual((one, half), (1, 0.5))
        self.assertIsInstance(error, RemoteError)
        with client.parallel() as calls:
            self.assertEqual(self.successResultOf(calls.result()), [])

    async def test_sending_fires_when_the_broker_has_it(self) -> None:
        """``send`` is one way: no reply, but the task runs."""
        ran = Event()

        @Task(self.name())
        def run(req: Any) -> None:
            ran.set()

        worker = await self.worker(run)
        client = await self.client()
        self.assertIsNone(await client.send(run.__crew_task__.task_id, 1))
        while not worker.status().processed:
            await deferLater(reactor, 0.01, lambda: None)
        self.assertTrue(ran.is_set())
        self.assertEqual(client.status().late_replies, 0)
        await errored(client.send(self.name("nobody")), UnroutableError)

    async def test_a_service_answers_by_its_methods(self) -> None:
        """Both ``service.method`` and arpc's ``{"c": method}`` work."""
        name = self.name("service")

        class Example:
            def c_add(self, req: dict[str, int]) -> dict[str, int]:
                return {"res": req["x"] + req["y"]}

        class Definitions:
            """Stands for a marked function."""

        definitions = Service(name, Example()).tasks()
        marked = []
        for definition in definitions:
            holder: Any = Definitions()
            holder.__crew_task__ = definition
            marked.append(holder)
        await self.worker(*marked)
        client = await self.client()
        self.assertEqual(await client.call(f"{name}.add", {"x": 4, "y": 8}), {"res": 12})
        self.assertEqual(await client.call(name, {"c": "add", "x": 4, "y": 8}), {"res": 12})
        await errored(client.call(name, {"c": "nothing"}), UnknownTaskError)


class FailedTests(BrokerTestCase):
    async def test_an_exception_comes_back_with_its_traceback(self) -> None:
        """``RemoteError`` says type, message, traceback and worker."""

        @Task(self.name())
        def fail(req: Any) -> None:
            raise LookupError("nothing here é")

        worker = await self.worker(fail)
        client = await self.client()
        error = await errored(client.call(fail.__crew_task__.task_id), RemoteError)
        self.assertEqual((error.type, error.message), ("LookupError", "nothing here é"))
        self.assertIn('raise LookupError("nothing here é")', error.traceback)
        self.assertIn(error.traceback.rstrip(), str(error))
        self.assertEqual(error.worker, worker.worker_id)

    async def test_no_exception_ends_the_worker(self) -> None:
        """Whatever a task raises is answered, and the next call as well."""
        raised: list[BaseException] = [
            SystemExit(3),
            KeyboardInterrupt(),
            GeneratorExit(),
            HiddenError(),
            RecursionError("deep"),
            ExceptionGroup("many", [ValueError("one"), ExceptionGroup("more", [TypeError("two")])]),
            ValueError("x" * 5_000_000),
            StopIteration(1),
        ]

        @Task(self.name())
        def fail(req: int) -> None:
            raise raised[req]

        await self.worker(fail, threads=1)
        client = await self.client()
        for number, exception in enumerate(raised):
            error = await errored(client.call(fail.__crew_task__.task_id, number), RemoteError)
            self.assertTrue(error.type.endswith(type(exception).__name__), error.type)
            self.assertLess(len(str(error)), 200_000)

    async def test_a_value_that_cannot_be_written_is_answered(self) -> None:
        """The caller hears why, in every codec."""

        @Task(self.name())
        def give(req: Any) -> Any:
            return object()

        await self.worker(give)
        client = await self.client()
        for serializer in ("cbor", "json", "text", "bytes"):
            data: Any = b"x" if serializer == "bytes" else "x"
            error = await errored(
                client.call(give.__crew_task__.task_id, data, serializer=serializer), RemoteError
            )
            self.assertIn("EncodeError", error.type)

    async def test_a_header_that_cannot_be_sent_is_answered(self) -> None:
        """What is refused in calls is refused in ``context.headers``, and the worker goes on."""
        bad: list[dict[Any, Any]] = [
            {"CC": ["x"]},
            {"x-death": 1},
            {"crew-worker": "me"},
            {"big": "x" * 70_000},
            {"number": 2**64},
            {"n" * 300: 1},
            {"what": object()},
            {1: 2},
        ]

        @Task(self.name())
        def head(req: int) -> str:
            if req < len(bad):
                context.headers.update(bad[req])
            return "fine"

        await self.worker(head)
        client = await self.client()
        for number in range(len(bad)):
            await errored(client.call(head.__crew_task__.task_id, number), RemoteError)
        self.assertEqual(await client.call(head.__crew_task__.task_id, len(bad)), "fine")

    async def test_over_its_limit_a_call_fails_at_once(self) -> None:
        """The limit of the call, or of the task if that is less; the error is the builtin one as well."""
        release = Event()
        self.addCleanup(release.set)

        @Task(self.name(), timeout=0.4)
        def wait(req: Any) -> None:
            release.wait(30)

        worker = await self.worker(wait)
        client = await self.client()
        for timeout, least in ((0.2, 0.2), (60, 0.4)):
            begun = reactor.seconds()  # type: ignore[attr-defined]
            error = await errored(client.call(wait.__crew_task__.task_id, timeout=timeout), TaskTimeoutError)
            self.assertIsInstance(error, TimeoutError)
            self.assertTrue(least <= reactor.seconds() - begun < least + 0.5)  # type: ignore[attr-defined]
        self.assertEqual(worker.status().timeouts, 2)

    async def test_a_call_held_too_long_expires(self) -> None:
        """A worker that has no free thread says so when the call's time is over."""
        release = Event()
        self.addCleanup(release.set)

        @Task(self.name())
        def wait(req: Any) -> None:
            release.wait(30)

        await self.worker(wait, threads=1)
        client = await self.client()
        first = client.call(wait.__crew_task__.task_id)
        error = await errored(
            client.call(wait.__crew_task__.task_id, expiration=0.3, timeout=5), ExpirationError
        )
        self.assertEqual(error.reason, "held")
        release.set()
        await first

    async def test_an_unknown_task_is_unroutable_at_once(self) -> None:
        """No worker ever declared it: under a second."""
        client = await self.client()
        begun = reactor.seconds()  # type: ignore[attr-defined]
        error = await errored(client.call(self.name("nobody")), UnroutableError)
        self.assertLess(reactor.seconds() - begun, 1)  # type: ignore[attr-defined]
        self.assertIn("nobody", error.task_id)

    async def test_a_worker_that_lost_a_task_says_so(self) -> None:
        """A binding that outlived its task brings the call to a worker that doesn't know it."""

        @Task(self.name())
        def known(req: Any) -> None:
            """Does nothing."""

        await self.worker(known)
        channel = await (await self.amqp()).open_channel()
        queue = known.__crew_task__.task_id
        await channel.queue_bind(
            queue=f"crew.tasks.{queue}", exchange="crew.tasks", routing_key=f"{queue}.old"
        )
        client = await self.client()
        await errored(client.call(f"{queue}.old"), UnknownTaskError)

    async def test_arguments_that_cannot_be_are_refused_at_once(self) -> None:
        """A failed Deferred, at once, and nothing is sent."""
        client = await self.client()
        cases: list[tuple[type[Exception], dict[str, Any]]] = [
            (EncodeError, {"data": object()}),
            (MessageTooLargeError, {"data": b"x" * (17 * 1024 * 1024), "compress": False}),
            (ValueError, {"priority": 256}),
            (ValueError, {"priority": -1}),
            (ValueError, {"expiration": 0}),
            (ValueError, {"expiration": 315_360_001}),
            (ValueError, {"timeout": float("nan")}),
            (ValueError, {"headers": {"CC": ["x"]}}),
            (ValueError, {"headers": {"BCC": 1}}),
            (ValueError, {"headers": {"x-match": "all"}}),
            (ValueError, {"headers": {"crew-task": "other"}}),
            (EncodeError, {"headers": {"large": "x" * 66_000}}),
            (EncodeError, {"headers": {"number": 2**63}}),
            (EncodeError, {"headers": {"n" * 256: 1}}),
            (ValueError, {"serializer": "yaml"}),
            (ValueError, {"serializer": "pickle"}),
            (ValueError, {"call_id": "x" * 256}),
        ]
        for kind, arguments in cases:
            await errored(client.call("any", **arguments), kind)
        for task_id in ("", "@x", "a\x00b", "x" * 201, None):
            await errored(client.call(task_id), ValueError)  # type: ignore[arg-type]
        status = client.status()
        self.assertEqual((status.unconfirmed, status.pending), (0, 0))

    async def test_a_call_id_is_taken_once(self) -> None:
        """Two pending calls of one id: the second one fails."""
        task = self.name()
        await self.declared(task)
        client = await self.client()
        first = client.call(task, call_id="same")
        await errored(client.call(task, call_id="same"), DuplicateCallIdError)
        first.cancel()
        await errored(first, CancelledError)

    async def test_a_reply_that_cannot_be_read(self) -> None:
        """``DecodeError`` says content type and size, not what the body has."""

        @Task(self.name())
        def pickled(req: Any) -> Any:
            return {"secret": "x"}

        await self.worker(pickled, allow_pickle=True)
        client = await self.client()
        channel = await (await self.amqp()).open_channel()
        await self.declared(task := self.name())
        waiting = client.call(task, call_id="odd")
        from crew_tx.amqp.properties import encode_properties

        properties = {
            "type": "crew.result",
            "correlation_id": "odd",
            "content_type": "application/x-python-pickle",
        }
        channel.publish("crew.replies", client.client_id, encode_properties(properties), b"secret")
        error = await errored(waiting, DecodeError)
        self.assertEqual((error.content_type, error.size), ("application/x-python-pickle", 6))
        self.assertNotIn("secret", str(error))


class NotTakenTests(BrokerTestCase):
    async def test_a_call_without_a_worker_expires(self) -> None:
        """On classic and on quorum queues; the error says queue, reason and time."""
        client = await self.client()
        for queue_type in ("classic", "quorum"):
            task = self.name(queue_type)
            await self.declared(task, queue_type=queue_type)
            begun = reactor.seconds()  # type: ignore[attr-defined]
            error = await errored(client.call(task, expiration=1), ExpirationError)
            self.assertLess(reactor.seconds() - begun, 3)  # type: ignore[attr-defined]
            self.assertEqual((error.reason, error.queue), ("expired", f"crew.tasks.{task}"))
            self.assertLess(abs(error.time - reactor.seconds()), 5)  # type: ignore[attr-defined]
            self.assertEqual(error.expiration, 1.0)

    async def test_a_call_behind_others_ends_by_the_callers_own_clock(self) -> None:
        """A TTL acts at the head of a queue only; the caller does not wait for that."""
        client = await self.client()
        for queue_type in ("classic", "quorum"):
            task = self.name(queue_type)
            await self.declared(task, queue_type=queue_type)
            others = [client.call(task, priority=number * 25) for number in range(10)]
            begun = reactor.seconds()  # type: ignore[attr-defined]
            await errored(client.call(task, expiration=1, timeout=1), ExpirationError)
            self.assertLess(reactor.seconds() - begun, 6)  # type: ignore[attr-defined]
            for other in others:
                other.cancel()
                await errored(other, CancelledError)

    async def test_a_known_task_waits_for_a_worker(self) -> None:
        """Nobody consumes now: the call waits, and is answered when somebody does."""

        @Task(self.name())
        def add(req: Any) -> Any:
            return req + 1

        await self.stop_worker(await self.worker(add))
        client = await self.client()
        waiting = client.call(add.__crew_task__.task_id, 1)
        await self.worker(add)
        self.assertEqual(await waiting, 2)

    async def test_a_worker_can_be_required(self) -> None:
        """``require_worker=True`` fails at once while there is none."""

        @Task(self.name())
        def add(req: Any) -> Any:
            return req + 1

        client = await self.client()
        worker = await self.worker(add)
        task = add.__crew_task__.task_id
        self.assertEqual(await client.call(task, 1, require_worker=True), 2)
        await self.stop_worker(worker)
        error = await errored(client.call(task, 1, require_worker=True), NoWorkersError)
        self.assertEqual(error.task_id, task)

    async def test_dead_letters_come_home_with_their_reason(self) -> None:
        """Pushed out of a full queue, or rejected by a consumer."""
        client = await self.client()
        task = self.name()
        await self.declared(task)
        channel = await (await self.amqp()).open_channel()
        waiting = client.call(task)
        message = await channel.basic_get(queue=f"crew.tasks.{task}")
        while message.method.name != "get-ok":
            message = await channel.basic_get(queue=f"crew.tasks.{task}")
        channel.nack(message.delivery_tag, requeue=False)
        await errored(waiting, RejectedError)

        full = self.name("full")
        arguments = {"x-dead-letter-exchange": "crew.dlx", "x-max-length": 1}
        await channel.queue_declare(queue=f"crew.tasks.{full}", durable=True, arguments=arguments)
        await channel.queue_bind(queue=f"crew.tasks.{full}", exchange="crew.tasks", routing_key=full)
        first, second = client.call(full), client.call(full)
        await errored(first, QueueFullError)
        second.cancel()
        await errored(second, CancelledError)

    async def test_a_full_queue_that_refuses_nacks_the_call(self) -> None:
        """``PublishNackedError`` at once."""
        client = await self.client()
        channel = await (await self.amqp()).open_channel()
        full = self.name("full")
        arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
        await channel.queue_declare(queue=f"crew.tasks.{full}", durable=True, arguments=arguments)
        await channel.queue_bind(queue=f"crew.tasks.{full}", exchange="crew.tasks", routing_key=full)
        await client.send(full)
        await errored(client.call(full), PublishNackedError)

    async def test_a_cancelled_call_fails_at_once(self) -> None:
        """Its worker is told, and answers nobody."""
        release = Event()
        self.addCleanup(release.set)

        @Task(self.name())
        def wait(req: Any) -> str:
            release.wait(30)
            return "done"

        await self.worker(wait, threads=2)
        client = await self.client()
        task = wait.__crew_task__.task_id
        first, second = client.call(task), client.call(task)
        first.cancel()
        await errored(first, CancelledError)
        release.set()
        self.assertEqual(await second, "done")
        self.assertEqual(client.status().late_replies, 0)

    async def test_a_stopped_client_fails_what_is_pending(self) -> None:
        """And every call after that; its reply queue is gone."""
        task = self.name()
        await self.declared(task)
        client = await self.client()
        waiting = client.call(task)
        await client.close()
        await errored(waiting, ClientStoppedError)
        await errored(client.call(task), ClientStoppedError)
        channel = await (await self.amqp()).open_channel()
        await errored(
            channel.queue_declare(queue=f"crew.reply.{client.client_id}", passive=True), ChannelClosed
        )

    async def test_a_lost_connection_fails_the_calls_that_a_broker_may_lose(self) -> None:
        """At once; the others are answered when it is back."""
        task = self.name()

        @Task(task)
        def add(req: Any) -> Any:
            return (req or 0) + 1

        await self.declared(task)
        client = await self.client()
        waiting = [client.call(task, persistent=False) for _ in range(10)]
        persistent = client.call(task, 1)
        while client.status().unconfirmed:
            await deferLater(reactor, 0.01, lambda: None)
        client._connection.client.transport.abortConnection()  # type: ignore[union-attr]
        for call in waiting:
            error = await errored(call, ConnectionLostError)
            self.assertIsInstance(error, ConnectionError)
            self.assertTrue(error.maybe_sent)
        await self.worker(add)
        self.assertEqual(await persistent, 2)

    async def test_many_calls_at_once_are_all_answered(self) -> None:
        """More than the window of unconfirmed messages."""

        @Task(self.name())
        def add(req: Any) -> Any:
            return req + 1

        worker = await self.worker(add)
        client = await self.client()
        task = add.__crew_task__.task_id
        answers = await gathered([client.call(task, number, persistent=False) for number in range(6000)])
        self.assertEqual(answers, [number + 1 for number in range(6000)])
        self.assertEqual(worker.status().processed, 6000)
        self.assertEqual(client.status().duplicate_replies, 0)
