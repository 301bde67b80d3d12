"""RabbitMQ's users as etc/rabbitmq/roles makes them: what each can do, and what each can't."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SkipTest
from txamqp.client import ChannelClosed

from crew_tx import Client, ExpirationError
from crew_tx.amqp.declare import Declarer
from crew_tx.amqp.properties import encode_properties
from crew_tx.amqp.service import BrokerConnection
from crew_tx.amqp.uri import parse_all
from crew_tx.cli.crew.exits import UNREACHABLE
from crew_tx.cli.crew.init import init
from crew_tx.cli.crew.parser import make_parser
from crew_tx.cli.crew.session import Session
from crew_tx.errors import AccessRefusedError, PublishNackedError, UnroutableError
from crew_tx.message import Call, call_properties
from crew_tx.testing._rabbitmq_folder import NodeFolder
from crew_tx.testing.rabbitmq import FOLDER_VARIABLE, RabbitMQError, RabbitMQNode, find_rabbitmq, shared_node
from crew_tx.topology import CONTROL, DEAD, EXCHANGES, HELLO, REPLIES, TASKS, WORKERS, task_queue
from crew_tx.worker import Task, context
from tests.integration.support import ROOT, BrokerTestCase, errored

SCRIPTS = ROOT / "etc" / "rabbitmq"
ROLES = ("caller", "worker", "monitor", "manager")

Step = Callable[[Any], Awaitable[Any]]


class Place(NamedTuple):
    """
    A virtual host that has the roles.

    :ivar urls: by role; the others are refused as if they were strangers.
    """

    name: str
    urls: dict[str, str]
    environment: dict[str, str]

    def run(self, script: str, *arguments: str, **environment: str) -> None:
        """Run one of the scripts for it."""
        done = subprocess.run(
            [str(SCRIPTS / script), "-p", self.name, *arguments],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout


def command_environment() -> dict[str, str]:
    """
    What lets a program run rabbitmqctl on the tests' broker.

    :raises SkipTest: where it is not one of our own.
    """
    try:
        node = shared_node()
    except RabbitMQError as error:
        raise SkipTest(str(error)) from None
    path = (
        node.variables[FOLDER_VARIABLE] if isinstance(node, RabbitMQNode) else os.environ.get(FOLDER_VARIABLE)
    )
    if path is None or not SCRIPTS.is_dir():
        raise SkipTest("this takes a RabbitMQ of the tests' own, and the repository")
    folder = NodeFolder.open(Path(path))
    command = f"{find_rabbitmq()}/rabbitmqctl --node {folder.node_name}"
    return {**folder.environment(), "RABBITMQCTL": command}


@cache
def place() -> Place:
    """Made once for all tests here; it ends with the broker."""
    environment = command_environment()
    name = f"roles-{uuid4().hex[:8]}"
    port = urlsplit(shared_node().url).port
    shared_node().ctl("add_vhost", name)
    urls: dict[str, str] = {}
    made = Place(name, urls, environment)
    with TemporaryDirectory() as folder:
        made.run("roles", "-n", f"{name}-", "-d", folder)
        for role in ROLES:
            password = Path(folder, f"{name}-{role}.password").read_text()
            urls[role] = f"amqp://{name}-{role}:{password}@127.0.0.1:{port}/{name}"
    return made


class RoleTestCase(BrokerTestCase):
    """Tests in the place that has the roles; what all share is declared by the manager."""

    def setUp(self) -> None:
        super().setUp()
        self.place = place()
        self.url = self.place.urls["manager"]
        return Deferred.fromCoroutine(self.declared_by_manager())  # type: ignore[return-value]

    async def declared_by_manager(self) -> None:
        declarer = Declarer(await self.connected("manager"))
        await declarer.topology()
        await declarer.close()

    async def connected(self, role: str) -> Any:
        """A bare connection, on which a channel's error ends that channel alone."""

        async def prepare(client: Any) -> None:
            """Nothing to prepare."""

        connection = BrokerConnection(reactor, parse_all(self.place.urls[role]), prepare, name=role)
        connection.startService()
        self.addCleanup(connection.stopService)
        client = await connection.when_ready()
        client.on_channel_failed = lambda channel, failure: None
        return client

    async def client_of(self, role: str, **arguments: Any) -> Client:
        return await self.as_role(role, self.client, **arguments)

    async def worker_of_role(self, *tasks: Any, **arguments: Any) -> Any:
        return await self.as_role("worker", self.worker, *tasks, **arguments)

    async def as_role(self, role: str, make: Callable[..., Any], *given: Any, **arguments: Any) -> Any:
        """Make something with that role's URL; the manager deletes the queues after the test."""
        self.url = self.place.urls[role]
        try:
            return await make(*given, **arguments)
        finally:
            self.url = self.place.urls["manager"]

    async def refused(self, role: str, *steps: Step) -> None:
        """Each step is refused with 403, on a channel of its own."""
        connection = await self.connected(role)
        for number, step in enumerate(steps):
            error = await errored(Deferred.fromCoroutine(self.on_channel(connection, step)), ChannelClosed)
            self.assertEqual(403, error.args[0].reply_code, f"{role}, step {number}: {error}")

    async def allowed(self, role: str, *steps: Step) -> None:
        """The same steps, done by one who may: so it is the right that a refusal is about."""
        connection = await self.connected(role)
        for step in steps:
            await self.on_channel(connection, step)

    async def on_channel(self, connection: Any, step: Step) -> None:
        channel = await connection.open_channel()
        await channel.confirm_select()
        await step(channel)
        # A publish that is refused shows by what comes after it.
        await channel.basic_qos(prefetch_count=1)
        await channel.channel_close(reply_code=200)


def publish(exchange: str, key: str, **properties: Any) -> Step:
    """A step: publish something."""

    async def step(channel: Any) -> None:
        channel.publish(exchange, key, encode_properties(properties), b"")

    return step


def command_by(exchange: str, key: str, headers: dict[str, Any], kind: str = "crew.command") -> Step:
    """A step: a command that steers, or something else of a kind."""
    properties = {"type": kind, "correlation_id": "1", "reply_to": "client-1"}
    encoded = encode_properties({**properties, "content_type": "application/json", "headers": headers})

    async def step(channel: Any) -> None:
        channel.publish(exchange, key, encoded, b'{"c": "pause"}')

    return step


def do(method: str, **arguments: Any) -> Step:
    """A step: one method."""
    return lambda channel: getattr(channel, method)(**arguments)


@contextmanager
def warnings_logged() -> Iterator[list[str]]:
    """What is logged in the block; it is there when that has ended."""
    texts: list[str] = []
    with capturedLogs() as logs:
        yield texts
    texts += [formatEvent(event) for event in logs if event["log_level"] is LogLevel.warn]


def wait(seconds: float) -> Deferred[None]:
    return deferLater(reactor, seconds)  # type: ignore[arg-type]


class AllowedTests(RoleTestCase):
    """Each role can do its work."""

    async def test_callers_call_and_workers_answer(self) -> None:
        """Calls, probes, answers, errors; classic and quorum queues; one way."""
        for queue_type in ("classic", "quorum"):
            task_id, got = self.name(), []

            @Task(task_id)
            def answer(req: Any, got: list[Any] = got) -> Any:
                got.append(req)
                return req["x"] + 1

            await self.worker_of_role(answer, queue_type=queue_type)
            client = await self.client_of("caller", reply_queue_type=queue_type)
            self.assertEqual(2, await client.call(task_id, {"x": 1}, require_worker=True))
            await client.send(task_id, {"x": 2})
            while len(got) < 2:
                await wait(0.05)
            # Its dead letters come home, too.
            await errored(client.call(self.name("nobody"), {}), UnroutableError)

    async def test_dead_letters_come_home(self) -> None:
        """A caller may bind to their exchange; that queues are dead-lettered to it takes a worker's right."""
        task_id = self.name()

        @Task(task_id)
        def nothing(req: Any) -> None:
            """Does nothing."""

        await self.stop_worker(await self.worker_of_role(nothing))
        client = await self.client_of("caller")
        error = await errored(client.call(task_id, expiration=0.2), ExpirationError)
        self.assertEqual("expired", error.reason)

    async def test_callers_cancel_and_workers_that_begin_hear_of_it(self) -> None:
        """They announce themselves, and callers listen; one that may not goes on, and says so."""
        task_id, ran = self.name(), []

        @Task(task_id)
        def run(req: Any) -> Any:
            ran.append(req)
            return req

        await self.stop_worker(await self.worker_of_role(run))
        client = await self.client_of("caller")
        await self.cancelled_call(client, task_id, 1)
        await self.stop_worker(await self.worker_of_role(run))
        self.assertEqual([], ran)
        for role in ("caller", "worker"):
            self.withdraw_hello(role)
        with warnings_logged() as texts:
            other = await self.client_of("caller")
            await self.cancelled_call(other, task_id, 2)
            await self.worker_of_role(run)
            self.assertEqual(3, await other.call(task_id, 3))
        self.assertIn(3, ran)
        for text in ("workers that begin can't be heard", "the worker could not announce itself"):
            self.assertEqual(1, sum(each.startswith(text) and "403" in each for each in texts), texts)

    async def cancelled_call(self, client: Client, task_id: str, req: Any) -> None:
        call = client.call(task_id, req)
        await wait(0.2)
        call.cancel()
        await errored(call, CancelledError)
        await wait(0.2)

    def withdraw_hello(self, role: str) -> None:
        """As roles were before there were announcements, until the test is over."""
        user = f"{self.place.name}-{role}"
        rows = self.node.ctl("list_permissions", "-p", self.place.name).splitlines()
        [(_, *patterns)] = [row.split("\t") for row in rows if row.startswith(f"{user}\t")]
        without = [pattern.replace("|hello", "") for pattern in patterns]
        self.assertNotEqual(patterns, without)
        self.node.ctl("set_permissions", "-p", self.place.name, user, *without)
        self.addCleanup(self.place.run, "roles", "-n", f"{self.place.name}-", role)

    async def test_callers_and_workers_publish_and_callers_subscribe(self) -> None:
        """Also with a queue that keeps events."""
        task_id, channel = self.name(), self.name("news")

        @Task(task_id)
        def tell(req: Any) -> None:
            context.pubsub.publish(channel, req)

        await self.worker_of_role(tell)
        client = await self.client_of("caller")
        got: list[Any] = []
        await client.subscribe(channel, got.append)
        kept = await client.subscribe(f"{channel}.#", got.append, durable=self.name("kept"))
        await client.publish(channel, 1)
        await client.call(task_id, 2)
        while sorted(got) != [1, 1, 2, 2]:
            await wait(0.05)
        await kept.cancel(delete=True)

    async def test_monitors_look_and_managers_steer(self) -> None:
        """Whose answers they can read."""
        task_id = self.name()

        @Task(task_id)
        def nothing(req: Any) -> None:
            """Does nothing."""

        asked: list[str] = []
        await self.worker_of_role(nothing, on_asked=asked.append)
        monitor = await self.client_of("monitor")
        for command in ("ping", "stats", "tasks", "active"):
            [answer] = await monitor.control(command, task_id, expect=1, timeout=10)
            self.assertNotIn("error", answer)
        manager = await self.client_of("manager")
        [answer] = await manager.control("drain", task_id, expect=1, timeout=10)
        self.assertIs(True, answer["draining"])
        while not asked:
            await wait(0.05)
        self.assertEqual(["drain"], asked)

    async def test_a_worker_may_deny_to_be_steered(self) -> None:
        """To those who may send such commands, too."""
        task_id = self.name()

        @Task(task_id)
        def nothing(req: Any) -> None:
            """Does nothing."""

        manager = await self.client_of("manager")
        for allowed, is_denied in ((["look", "steer"], False), (["look"], True)):
            worker = await self.worker_of_role(nothing, allowed=allowed)
            [answer] = await manager.control("pause", task_id, expect=1, timeout=10)
            self.assertEqual(is_denied, "error" in answer, answer)
            await self.stop_worker(worker)

    async def test_managers_declare_all_and_look_after_dead_letters(self) -> None:
        """On a virtual host that has nothing, by crew init; a task's queue as well."""
        name = f"{self.place.name}-new"
        self.node.ctl("add_vhost", name)
        self.addCleanup(self.node.ctl, "delete_vhost", name)
        self.place._replace(name=name).run("roles", "-n", f"{self.place.name}-", "manager", "caller")
        await self.refused_without_topology(name)
        session = InitSession(self.place.urls["manager"].rpartition("/")[0] + f"/{name}", "init", "a.b")
        self.assertEqual(0, await init(session))  # type: ignore[arg-type]
        self.assertIn("crew.tasks.a.b", session.output.lines)
        queues = self.node.ctl("list_queues", "-p", name, "name").split()
        self.assertEqual({"crew.dead", "crew.tasks.a.b"}, set(queues) - {"name"})
        client = Client(reactor, self.place.urls["caller"].rpartition("/")[0] + f"/{name}")
        self.addCleanup(client.close)
        await client.connect()
        await client.send("a.b", 1)

    async def refused_without_topology(self, name: str) -> None:
        """A caller can't make it, and is told who can."""
        client = Client(reactor, self.place.urls["caller"].rpartition("/")[0] + f"/{name}")
        self.addCleanup(client.close)
        error = await errored(client.connect(), AccessRefusedError)
        self.assertIn("has to run 'crew init'", str(error))

    async def test_managers_read_and_requeue_dead_letters(self) -> None:
        """What nobody else may."""
        await self.allowed(
            "manager",
            do("queue_declare", queue=DEAD, passive=True),
            do("basic_get", queue=DEAD),
            publish(TASKS, "nobody"),
            do("queue_purge", queue=DEAD),
        )


class RefusedTests(RoleTestCase):
    """What each role must not do is refused by the broker."""

    async def test_nobody_writes_to_queues_directly(self) -> None:
        """By the default exchange every queue of the virtual host would be reached."""
        for role in ROLES:
            await self.refused(role, publish("", DEAD), publish("amq.topic", "a"), publish("amq.fanout", ""))

    async def test_exchanges_are_the_managers(self) -> None:
        """To make, change, delete and bind."""
        for role in ("caller", "worker", "monitor"):
            await self.refused(
                role,
                *(
                    do("exchange_declare", exchange=each.name, type=each.type, durable=True)
                    for each in EXCHANGES
                ),
                *(do("exchange_delete", exchange=each.name) for each in EXCHANGES),
                do("exchange_declare", exchange="other", type="fanout"),
                do("exchange_bind", destination=CONTROL, source=TASKS, routing_key="a"),
            )

    async def test_callers_take_no_calls(self) -> None:
        """Nor make, delete, empty or bind queues that aren't their own."""
        queue = await self.task_queue()
        await self.refused(
            "caller",
            do("basic_get", queue=queue),
            lambda channel: channel.consume(queue, lambda delivery: None),
            do("queue_purge", queue=queue),
            do("queue_delete", queue=queue),
            do("queue_bind", queue=queue, exchange=TASKS, routing_key="other"),
            do("queue_declare", queue="crew.tasks.other", durable=True),
            do("queue_bind", queue="crew.reply.x", exchange=TASKS, routing_key="a"),
            do("basic_get", queue=DEAD),
        )

    async def test_callers_send_no_commands(self) -> None:
        """Nor replies, nor dead letters."""
        await self.refused(
            "caller",
            *(publish(exchange, "mgt") for exchange in (CONTROL, REPLIES, "crew.dlx", DEAD, HELLO)),
        )

    async def test_monitors_steer_nothing(self) -> None:
        """Each such command is refused, and nothing ends with it: neither a question, nor the connection."""
        task_id = self.name()

        @Task(task_id)
        def nothing(req: Any) -> None:
            """Does nothing."""

        worker = await self.worker_of_role(nothing)
        monitor = await self.client_of("monitor")
        with warnings_logged() as texts:
            for command in ("pause", "drain", "kill", "eval", "version"):
                asked = monitor.control("ping", task_id, expect=1, timeout=10)
                for target in (None, task_id, "look"):
                    error = await errored(monitor.control(command, target), AccessRefusedError)
                    self.assertIn("role manager", str(error))
                [answer] = await asked
                self.assertNotIn("error", answer)
        self.assertEqual([], texts)
        self.assertFalse(worker.status().paused)

    async def test_crew_tells_a_monitor_that_it_may_not(self) -> None:
        """As of any refusal; and a caller may not even look."""
        for role, verb, words in (
            ("monitor", "drain", "take the role manager"),
            ("caller", "ping", "take the role monitor or manager"),
        ):
            crew = self.process(
                "-m",
                "crew_tx.cli.crew",
                verb,
                "somebody",
                environment={"CREW_BROKER": self.place.urls[role]},
            )
            self.assertEqual(UNREACHABLE, await crew.ends())
            self.assertIn("ACCESS_REFUSED", crew.output)
            self.assertIn(words, crew.output)

    async def test_no_way_round_makes_a_monitor_steer(self) -> None:
        """By a copy, exchanges or a queue of its own, which the broker does not refuse: the worker does."""
        task_id, own, queue = self.name(), f"crew.reply.{uuid4().hex}", f"crew.reply.{uuid4().hex}"
        key, look = f"mgt.{task_id}", f"look.{task_id}"
        self.delete_later(queue)

        @Task(task_id)
        def nothing(req: Any) -> None:
            """Does nothing."""

        worker = await self.worker_of_role(nothing)
        channel = await (await self.connected("monitor")).open_channel()
        alternate = {"alternate-exchange": CONTROL}
        dying = {"x-dead-letter-exchange": CONTROL, "x-dead-letter-routing-key": key, "x-message-ttl": 0}
        await channel.exchange_declare(exchange=own, type="direct", durable=True, arguments=alternate)
        await channel.exchange_declare(exchange=f"{own}.bound", type="topic", durable=True)
        await channel.exchange_bind(destination=CONTROL, source=f"{own}.bound", routing_key="#")
        await channel.queue_declare(queue=queue, durable=True, arguments=dying)
        await channel.queue_bind(queue=queue, exchange=own, routing_key="dying")
        for exchange, by, headers, words in (
            (CONTROL, look, {}, "by a key for looking"),
            (CONTROL, look, {"CC": [key]}, "by a key for looking"),
            (own, key, {}, f"by {own}"),
            (f"{own}.bound", key, {}, f"by {own}.bound"),
            (own, "dying", {}, "as a dead letter"),
        ):
            with capturedLogs() as logs:
                await command_by(exchange, by, headers)(channel)
                while not any(words in formatEvent(event) for event in logs):
                    await wait(0.05)
        self.assertFalse(worker.status().paused)
        with capturedLogs() as logs:
            await command_by(CONTROL, look, {}, "cancel")(channel)
            while not any("a cancel came by crew.control" in formatEvent(event) for event in logs):
                await wait(0.05)
        for exchange in (own, f"{own}.bound"):
            await channel.exchange_delete(exchange=exchange)
        # As a manager's, by the key that it tried for, it is obeyed.
        await self.allowed("manager", command_by(CONTROL, key, {}))
        while not worker.status().paused:
            await wait(0.05)

    async def test_a_callers_own_queue_is_no_way_round(self) -> None:
        """What dies in it may not go where its owner may not."""
        for exchange in ("", CONTROL, REPLIES):
            arguments = {
                "x-dead-letter-exchange": exchange,
                "x-dead-letter-routing-key": "mgt",
                "x-message-ttl": 0,
            }
            declare = do(
                "queue_declare", queue=f"crew.reply.{uuid4().hex}", durable=True, arguments=arguments
            )
            await self.refused("caller", declare)
            queue = f"crew.tasks.{uuid4().hex}"
            if exchange != REPLIES:
                await self.refused(
                    "worker", do("queue_declare", queue=queue, durable=True, arguments=arguments)
                )
            exchange_of_own = do(
                "exchange_declare",
                exchange=f"crew.reply.{uuid4().hex}",
                type="fanout",
                durable=True,
                arguments={"alternate-exchange": exchange or "amq.default"},
            )
            await self.refused("caller", exchange_of_own)

    async def test_workers_call_no_tasks_and_send_no_commands(self) -> None:
        """A worker that calls others needs the caller's role beside its own."""
        await self.refused(
            "worker",
            *(publish(exchange, "mgt") for exchange in (TASKS, WORKERS, CONTROL, DEAD)),
            do("queue_declare", queue="crew.reply.x", durable=True),
            do("basic_get", queue=DEAD),
            do("queue_bind", queue=await self.task_queue(), exchange=REPLIES, routing_key="client-1"),
            do("queue_bind", queue=await self.task_queue(), exchange=HELLO, routing_key=""),
        )

    async def test_workers_read_no_replies(self) -> None:
        """Nor may a monitor that of tasks, or call any."""
        client = await self.client_of("caller")
        queue = f"crew.reply.{client.client_id}"
        await self.refused("worker", do("basic_get", queue=queue), do("queue_delete", queue=queue))
        await self.refused(
            "monitor",
            do("basic_get", queue=await self.task_queue()),
            do("basic_get", queue=DEAD),
            *(
                publish(exchange, "a")
                for exchange in (TASKS, WORKERS, REPLIES, HELLO, "crew.pubsub", "crew.dlx")
            ),
            do("queue_bind", queue=queue, exchange=CONTROL, routing_key="#"),
            do("queue_bind", queue=queue, exchange="crew.pubsub", routing_key="#"),
        )

    async def test_nobody_gets_into_another_virtual_host(self) -> None:
        """Permissions are of one."""
        for role in ROLES:
            connection = BrokerConnection(
                reactor, parse_all(self.place.urls[role].rpartition("/")[0] + "/%2F"), _nothing, name=role
            )
            connection.startService()
            self.addCleanup(connection.stopService)
            await errored(connection.when_ready(), AccessRefusedError)

    async def task_queue(self) -> str:
        """One that is there."""
        queue = task_queue(self.name())
        declarer = Declarer(await self.connected("manager"))
        await declarer.queue(queue)
        await declarer.close()
        return queue.name


class ForgedReplyTests(RoleTestCase):
    """A caller that lies about where replies go reaches nothing: they go by their own exchange."""

    async def test_a_forged_reply_address_reaches_no_other_queue(self) -> None:
        """Neither a task's, nor a control queue, by its name or by its keys."""
        target, forged = self.name("target"), self.name("forged")
        ran: list[str] = []

        @Task(target)
        def run_target(req: Any) -> None:
            ran.append("target")

        @Task(forged)
        def run_forged(req: Any) -> dict[str, str]:
            ran.append("forged")
            return {"c": "drain"}

        asked: list[str] = []
        worker = await self.worker_of_role(run_target, run_forged, on_asked=asked.append)
        control = f"{CONTROL}.{worker.worker_id}.1"
        addresses = (target, f"crew.tasks.{target}", control, "mgt", f"mgt.{worker.worker_id}", CONTROL, DEAD)
        depths = await self.depths()
        caller = await self.connected("caller")
        channel = await caller.open_channel()
        await channel.confirm_select()
        for address in addresses:
            call = Call(forged, uuid4().hex, b'{"c": "drain"}', "application/json", reply_to=address)
            call = call._replace(timeout=5000, persistent=False)
            channel.publish(TASKS, forged, encode_properties(call_properties(call)), call.body)
        while len(ran) < len(addresses):
            await wait(0.05)
        # They are returned, and kept to be sent again.
        while worker.status().unconfirmed_replies < len(addresses):
            await wait(0.05)
        self.assertEqual(["forged"] * len(addresses), ran)
        self.assertEqual([], asked)
        self.assertEqual((False, False), (worker.status().draining, worker.status().paused))
        self.assertEqual(depths, await self.depths())

    async def test_a_command_by_the_exchange_of_probes_is_no_command(self) -> None:
        """Callers may write there, and it reaches the control queue."""
        task_id = self.name()

        @Task(task_id)
        def nothing(req: Any) -> None:
            """Does nothing."""

        asked: list[str] = []
        worker = await self.worker_of_role(nothing, on_asked=asked.append)
        properties = {
            "type": "crew.command",
            "correlation_id": "1",
            "reply_to": "client-1",
            "content_type": "application/json",
        }
        caller = await self.connected("caller")
        channel = await caller.open_channel()
        channel.publish(WORKERS, task_id, encode_properties(properties), b'{"c": "pause"}')
        manager = await self.client_of("manager")
        # What comes after it is answered, so it was looked at.
        await manager.control("ping", task_id, expect=1, timeout=10)
        self.assertFalse(worker.status().paused)
        # As a command by its own exchange, it would have been obeyed.
        await manager.control("pause", task_id, {}, 10, 1)
        self.assertTrue(worker.status().paused)

    async def depths(self) -> str:
        return self.node.ctl("list_queues", "-p", self.place.name, "name", "messages_ready")


class PolicyTests(RoleTestCase):
    """Lengths, by policy alone."""

    async def test_a_full_queue_refuses(self) -> None:
        """Classic and quorum: the caller hears of it."""
        self.place.run("policies", TASK_LENGTH="2")
        for name in ("crew-tasks", "crew-replies"):
            self.addCleanup(self.node.ctl, "clear_policy", "-p", self.place.name, name)
        client = await self.client_of("caller")
        for queue_type in ("classic", "quorum"):
            task_id = self.name()

            @Task(task_id)
            def nothing(req: Any) -> None:
                """Does nothing."""

            await self.stop_worker(await self.worker_of_role(nothing, queue_type=queue_type))
            await errored(Deferred.fromCoroutine(self.filled(client, task_id)), PublishNackedError)

    async def filled(self, client: Client, task_id: str) -> None:
        """A quorum queue takes some more than its length."""
        for number in range(100):
            await client.send(task_id, number)


class InitSession:
    """What the verb init is given, and what it printed."""

    def __init__(self, url: str, *words: str) -> None:
        self.arguments = make_parser().parse_args([words[0], *(f"--task={word}" for word in words[1:])])
        self._url = url
        self.output = _Output()

    def connection(self) -> Any:
        output: Any = self.output
        return Session(reactor, self.arguments, parse_all(self._url), output).connection()


class _Output:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def table(self, columns: Any, rows: Any, facts: Any) -> None:
        self.lines += [row[1] for row in rows]


async def _nothing(client: Any) -> None:
    """Nothing to prepare."""
