"""Control of workers: the worker's side, and its commands on a worker in memory."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.delivery import Delivery
from crew_tx.control import BuiltinCommands, Command, Commands, Right, collect_commands, command
from crew_tx.errors import ClientStoppedError, InvalidArgumentError
from crew_tx.message import Answer, command_properties
from crew_tx.rpc.gathering import LOOKING
from tests.amqp.peer import Sent
from tests.roles import CODEC
from tests.threads import Threads
from tests.workers import WorkerTestCase


class CommandsTests(SynchronousTestCase):
    """Taking commands, and answering them."""

    def setUp(self) -> None:
        self.sent: list[tuple[Answer, str]] = []
        self.ran: list[Any] = []
        self.in_thread = Threads()
        self.commands = self.make()

    def make(
        self, function: Callable[[dict[str, Any]], object] | None = None, *allowed: Right, send: Any = None
    ) -> Commands:
        """With the commands ``do``, and ``end``, which a worker must allow."""
        known = [Command("do", function or self.ran.append), Command("end", self.ran.append, "kill")]
        take = send or (lambda answer, reply_to: self.sent.append((answer, reply_to)))
        return Commands("w", CODEC, self.in_thread, known, frozenset(allowed or ("look",)), take)

    def come(self, request: Any, exchange: str = "crew.control", key: str = "mgt", **changes: Any) -> None:
        """A message comes to the control queue."""
        encoded = CODEC.encode(request)
        properties = command_properties("c1", "client-1", encoded.content_type, 1000, 7)
        properties = {name: value for name, value in {**properties, **changes}.items() if value is not None}
        self.commands.received(Delivery("t", 1, False, exchange, key, properties, encoded.body))

    def answered(self) -> tuple[Any, str | None]:
        """The one answer: its value, or its error's text; and its kind."""
        [(answer, reply_to)] = self.sent
        self.assertEqual((answer.call_id, answer.worker, reply_to), ("c1", "w", "client-1"))
        value = CODEC.decode(answer.body, answer.content_type, answer.content_encoding)
        return (value["message"] if answer.error else value), answer.error

    def test_a_command_is_answered(self) -> None:
        """With what its function gives, which has the whole request."""
        self.commands = self.make(lambda request: {"had": request})
        self.come({"c": "do", "x": 1})
        self.assertEqual(self.answered(), ({"had": {"c": "do", "x": 1}}, None))

    def test_one_that_takes_its_time(self) -> None:
        """A Deferred or a coroutine: it is answered when that is done."""
        for make_async in (False, True):
            self.sent.clear()
            waiting: Deferred[Any] = Deferred()

            async def function(request: Any, waiting: Deferred[Any] = waiting) -> Any:
                return await waiting

            self.commands = self.make(function if make_async else lambda request, waiting=waiting: waiting)
            self.come({"c": "do"})
            self.assertEqual(self.sent, [])
            waiting.callback("late")
            self.assertEqual(self.answered(), ("late", None))

    def test_what_a_worker_does_not_allow(self) -> None:
        """It is refused, counted and logged; the answer says how to allow it."""
        with capturedLogs() as logs:
            self.come({"c": "end"})
        text, kind = self.answered()
        self.assertEqual(kind, "raised")
        self.assertIn("--allow-kill", text)
        self.assertEqual((self.ran, self.commands.refused), ([], 1))
        self.assertEqual([event["log_level"] for event in logs], [LogLevel.warn])

    def test_what_it_allows(self) -> None:
        """Each right by itself."""
        self.commands = self.make(None, "kill")
        self.come({"c": "end"})
        self.assertEqual((self.answered(), self.ran), ((None, None), [{"c": "end"}]))
        self.come({"c": "do"})
        self.assertEqual(self.commands.refused, 1)

    def test_what_comes_by_a_key_for_looking_may_only_look(self) -> None:
        """Whatever the worker allows: it is refused, counted and logged, and the answer names the key."""
        self.commands = self.make(None, "look", "kill")
        self.come({"c": "do"}, key="look.w")
        self.assertEqual((self.answered(), self.commands.refused), ((None, None), 0))
        for number, key in enumerate(("look", "look.mgt", "other"), 1):
            self.sent.clear()
            with capturedLogs() as logs:
                self.come({"c": "end"}, key=key)
            text, kind = self.answered()
            self.assertEqual(kind, "raised")
            self.assertIn("send it by 'mgt'", text)
            self.assertEqual((self.ran, self.commands.refused), ([{"c": "do"}], number))
            self.assertEqual([event["log_level"] for event in logs], [LogLevel.warn])

    def test_a_key_for_looking_gives_no_right(self) -> None:
        """To look takes the worker's leave as well."""
        self.commands = self.make(None, "kill")
        self.come({"c": "do"}, key="look")
        self.assertIn("does not allow", str(self.answered()[0]))

    def test_a_dead_letter_is_no_command(self) -> None:
        """Where a queue's dead letters go, and by which key, is not for the broker to refuse."""
        with capturedLogs() as logs:
            self.come({"c": "do"}, headers={"x-death": []})
        self.assertEqual((self.ran, self.sent, self.commands.refused), ([], [], 1))
        self.assertEqual([event["log_level"] for event in logs], [LogLevel.warn])
        self.come({"c": "do"}, headers={"mine": 1})
        self.assertEqual(self.ran, [{"c": "do"}])

    def test_one_that_nobody_knows(self) -> None:
        """The answer says which there are; what is no map has no command."""
        for request in ({"c": "make tea"}, {"c": ["do"]}, {}, "do", None):
            self.sent.clear()
            self.come(request)
            text, kind = self.answered()
            self.assertEqual(kind, "raised")
            self.assertIn("it has do, end", text)
        self.assertEqual(self.ran, [])

    def test_one_that_fails(self) -> None:
        """The asker is told, and so is the log; later too, and by an exit as well."""
        for error, is_logged in ((ValueError("no"), True), (SystemExit("no"), True), (_own("no"), False)):
            for make_async in (False, True):
                self.sent.clear()
                self.commands = self.make(_failing_later(error) if make_async else _failing(error))
                self.come({"c": "do"})
                self.assertEqual(self.answered(), ("no", "raised"))
                self.assertEqual(len(self.flushLoggedErrors(type(error))), int(is_logged))

    def test_an_answer_that_cannot_be_written(self) -> None:
        """Is an error."""
        self.commands = self.make(lambda request: object())
        self.come({"c": "do"})
        text, kind = self.answered()
        self.assertEqual(kind, "raised")
        self.assertIn("object", text)

    def test_one_that_cannot_be_read(self) -> None:
        """Is an error, too."""
        self.come({"c": "do"}, content_type="application/none")
        self.assertEqual(self.answered()[1], "raised")
        self.assertEqual(self.ran, [])

    def test_one_that_is_too_large(self) -> None:
        """On the wire or inflated: it is refused before anybody looks at it."""
        for serializer, size in (("json", 128 * 1024), ("cbor", 16 * 1024 * 1024)):
            self.sent.clear()
            encoded = CODEC.encode({"c": "do", "x": "x" * size}, serializer, serializer == "cbor")
            properties = command_properties("c1", "client-1", encoded.content_type, 1000, 7)
            if encoded.content_encoding is not None:
                properties["content_encoding"] = encoded.content_encoding
            self.commands.received(Delivery("t", 1, False, "crew.control", "mgt", properties, encoded.body))
            text, kind = self.answered()
            self.assertEqual(kind, "raised")
            self.assertIn("limit", text)
        self.assertEqual(self.ran, [])

    def test_a_large_answer_is_written_in_a_thread(self) -> None:
        """And what goes wrong there is the answer, too."""
        values: list[Any] = [["x"] * 2000, [object()] * 2000]
        for value, expected in zip(values, (None, "raised"), strict=True):
            self.sent.clear()
            self.commands = self.make(lambda request, value=value: value)
            self.come({"c": "do"})
            self.assertEqual(self.sent, [])
            self.in_thread.run()
            self.assertEqual(self.answered()[1], expected)

    def test_the_exchange_that_callers_may_write_to(self) -> None:
        """By it a command is refused, and not even answered."""
        for exchange in ("crew.workers", "crew.tasks", ""):
            self.come({"c": "do"}, exchange)
        self.assertEqual((self.ran, self.sent, self.commands.refused), ([], [], 3))

    def test_what_is_no_command(self) -> None:
        """A probe has been answered by having come."""
        self.come({"c": "do"}, type="crew.probe")
        self.assertEqual((self.ran, self.sent, self.commands.refused), ([], [], 0))

    def test_nobody_to_answer(self) -> None:
        """It is dropped before anything is done."""
        self.come({"c": "do"}, reply_to=None)
        self.come({"c": "do"}, correlation_id=None)
        self.assertEqual((self.ran, self.sent), ([], []))

    def test_an_answer_that_cannot_be_sent(self) -> None:
        """It is logged."""
        self.commands = self.make(send=_failing(ClientStoppedError("stopped")))
        self.come({"c": "do"})
        self.assertEqual(len(self.flushLoggedErrors(ClientStoppedError)), 1)


class MarkTests(SynchronousTestCase):
    """Commands of service modules."""

    def test_a_function_is_marked_and_found(self) -> None:
        """And is the same function; of what else a module has nothing is taken."""

        def count(request: Any) -> int:
            return 1

        marked = command("count", right="steer")(count)
        self.assertIs(marked, count)
        found = collect_commands({"a": marked, "b": len, "c": 3, "d": SimpleNamespace()})
        self.assertEqual(found, [Command("count", count, "steer")])

    def test_wrong_arguments(self) -> None:
        """A right that nobody could ever give is a mistake."""
        self.assertRaises(InvalidArgumentError, command, "")
        wrong: Any = "all"
        error = self.assertRaises(InvalidArgumentError, command, "x", right=wrong)
        self.assertIn("look, steer, kill, eval", str(error))


class BuiltinTests(WorkerTestCase):
    """What every worker knows, by its control queue."""

    def test_clients_know_which_of_them_look(self) -> None:
        """By their names: these go by other keys."""
        self.start()
        looking = [each.name for each in BuiltinCommands(self.worker).all() if each.right == "look"]
        self.assertEqual(looking, list(LOOKING))

    def ask(self, name: str, **arguments: Any) -> Any:
        """A worker's answer to a command: its value, or its error's text; ``beside`` is what else it sent."""
        encoded = CODEC.encode({**arguments, "c": name})
        self.number = getattr(self, "number", 0) + 1
        self.peer.send_content(
            self.channel,
            "basic.deliver",
            encoded.body,
            command_properties("c1", "client-9", encoded.content_type, 1000, 7),
            consumer_tag=self.tags[f"crew.control.{self.worker.worker_id}.1"],
            delivery_tag=self.number,
            exchange="crew.control",
            routing_key="mgt",
        )
        self.peer.settle()
        sent = self.peer.read()
        [answer] = [each for each in sent if _is_for(each, "client-9")]
        self.beside = [each for each in sent if each is not answer]
        value = CODEC.decode(answer.body or b"", (answer.properties or {})["content_type"])
        is_error = (answer.properties or {})["type"] == "crew.error"
        return value["message"] if is_error else value

    def test_ping(self) -> None:
        """Who it is; nobody misses the answer who is gone."""
        self.start()
        status = self.worker.status()
        self.assertEqual(
            self.ask("ping"), {"host": status.host, "wid": self.worker.worker_id, "pid": status.pid}
        )

    def test_stats(self) -> None:
        """What it has done, and does."""
        self.start()
        for task_id in ("echo", "fail", "echo"):
            self.call(task_id)
            self.reactor.advance(0.25)
        self.threads.step()
        self.threads.step()
        stats = self.ask("stats")
        self.assertEqual(
            [stats[key] for key in ("processed", "exceptions", "timeouts", "in_progress", "held", "threads")],
            [1, 1, 0, 1, 0, 2],
        )
        self.assertEqual(stats["waittimes"], ["0.0000", "0.0000", "0.2500"])
        self.assertEqual(
            (stats["busy"], stats["stuck"], stats["paused"], stats["draining"]), (1, 0, False, False)
        )

    def test_tasks(self) -> None:
        """With their limits and queues."""
        self.start(self.hanging())
        tasks = {task["id"]: task for task in self.ask("tasks")["tasks"]}
        self.assertEqual(set(tasks), {"echo", "fail", "short", "other", "hang"})
        self.assertEqual(
            tasks["short"],
            {"id": "short", "timeout": 2, "queue": "shared", "async": False, "isolation": "thread"},
        )
        self.assertTrue(tasks["hang"]["async"])

    def test_active_and_stacks(self) -> None:
        """What runs, and where; a task that has no thread has no lines."""
        self.start(self.hanging())
        self.call("hang")
        self.reactor.advance(1)
        [active] = self.ask("active")["active"]
        self.assertEqual(
            (active["task"], active["id"], active["caller"], active["seconds"], active["stuck"]),
            ("hang", "c1", "client-1", 1.0, False),
        )
        [shown] = self.ask("stacks")["stacks"]
        self.assertEqual(shown, {**active, "stack": []})
        self.waiting.callback(None)

    def test_threads(self) -> None:
        """So many from now on; the broker is asked to send as many as suit them."""
        self.start()
        for wrong in (None, 0, True, "3", 10_001):
            self.assertIn("from 1 to 10000", self.ask("threads", n=wrong))
        self.assertEqual(self.ask("threads", n=5), {"threads": 5})
        self.assertEqual(self.worker.status().pool.size, 5)
        [qos] = [sent.fields["prefetch_count"] for sent in self.beside if sent.name == "basic.qos"]
        self.assertEqual(qos, 7)

    def test_pause_and_resume(self) -> None:
        """What is not begun goes back; consuming goes on when it is told to."""
        self.start()
        for _ in range(3):
            self.call()
        self.assertEqual(self.ask("pause"), {"paused": True})
        self.assertEqual(
            [sent.fields["delivery_tag"] for sent in self.beside if sent.name == "basic.nack"], [3]
        )
        self.assertTrue(self.worker.status().paused)
        self.assertEqual(self.ask("resume"), {"paused": False})
        self.assertIn("basic.consume", [sent.name for sent in self.beside])
        self.assertFalse(self.worker.status().paused)
        self.threads.step_all()

    def test_cancel(self) -> None:
        """The call of that id, if it is here; its caller is told."""
        self.start()
        self.call()
        self.assertIn("the id of a call", self.ask("cancel"))
        self.assertEqual(self.ask("cancel", id="nobody"), {"cancelled": False})
        [active] = self.worker.active()
        self.assertEqual(self.ask("cancel", id=active.id), {"cancelled": True})
        self.assertEqual([self.told(sent) for sent in self.beside], [("reply", "cancelled"), ("ack", 1)])
        self.assertEqual(self.worker.active(), [])
        self.assertEqual(self.ask("cancel", id=active.id), {"cancelled": False})

    def test_drain_and_kill(self) -> None:
        """Whoever asks is answered before the program is asked to end."""
        asked: list[str] = []
        self.start(on_asked=asked.append, allowed=("steer", "kill"))
        self.assertEqual(self.ask("drain"), {"draining": True})
        self.assertEqual(self.ask("kill"), {"killed": True})
        self.assertEqual(asked, [])
        self.reactor.advance(0.1)
        self.assertEqual(asked, ["drain", "kill"])

    def test_eval(self) -> None:
        """Only where it is allowed: the value's repr, cut; its errors are the asker's."""
        self.start()
        self.assertIn("--allow-eval", self.ask("eval", expr="1"))
        self.stop()
        self.number = 0
        self.start(allowed=("eval",))
        self.assertEqual(self.ask("eval", expr="6 * 7"), {"result": "42"})
        self.assertEqual(self.ask("eval", expr="worker.status().name"), {"result": "'worker'"})
        self.assertLess(len(self.ask("eval", expr="list(range(10**5))")["result"]), 100)
        self.assertIn("a Python expression", self.ask("eval"))
        self.assertIn("division", self.ask("eval", expr="1/0"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_modules_own(self) -> None:
        """Beside those."""
        self.start(commands=[Command("count", lambda request: {"n": request["n"] + 1})])
        self.assertEqual(self.ask("count", n=1), {"n": 2})


def _is_for(sent: Sent, client_id: str) -> bool:
    return sent.name == "basic.publish" and sent.fields["routing_key"] == client_id


def _own(text: str) -> Exception:
    return InvalidArgumentError(text)


def _failing(error: BaseException) -> Callable[..., Any]:
    def function(*arguments: Any) -> Any:
        raise error

    return function


def _failing_later(error: BaseException) -> Callable[..., Any]:
    async def function(*arguments: Any) -> Any:
        raise error

    return function
