"""What is signed goes through the broker unchanged, whatever it does with a message."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from crew_tx import Client, ExpirationError
from crew_tx.errors import MessageRefusedError
from crew_tx.signing import SigningKeys
from crew_tx.worker import Task, Worker, context
from tests.integration.support import BrokerTestCase, errored

KEYS = SigningKeys({"key": b"0123456789abcdef0123456789abcdef"})
#: Of every type that a header can have.
HEADERS: dict[str, Any] = {
    "z": "text",
    "\u00e9": "\u4e2d",
    "int": -7,
    "long": -(2**40),
    "float": 0.1,
    "yes": True,
    "no": False,
    "none": None,
    "octets": b"\x00\xff",
    "text in octets": b"text",
    "time": datetime(2026, 11, 21, tzinfo=UTC),
    "decimal": Decimal("-1.50"),
    "list": [1, "b", [None, 2.5], {"y": 1, "x": b"x"}],
    "table": {"b": 1, "a": {"d": "\u00e9", "c": None}},
    "empty": {"list": [], "table": {}, "text": ""},
}


class SigningTests(BrokerTestCase):
    """A client and a worker with one key."""

    async def programs(self, *tasks: Any, queue_type: str = "classic") -> tuple[Client, Worker]:
        worker = await self.worker(*tasks, signing_keys=KEYS, queue_type=queue_type)
        return await self.client(signing_keys=KEYS), worker

    async def everything(self, queue_type: str) -> None:
        @Task(self.name())
        def echo(req: Any) -> Any:
            context.headers.update(context.request.headers)
            return req

        client, worker = await self.programs(echo, queue_type=queue_type)
        task_id = echo.__crew_task__.task_id
        for persistent in (True, False):
            for priority in (0, 100, 255):
                options: dict[str, Any] = {"persistent": persistent, "priority": priority}
                reply = await client.request(task_id, "\u00e9", headers=HEADERS, expiration=60.5, **options)
                self.assertEqual(("\u00e9", HEADERS), (reply.value, reply.headers))
        self.assertEqual("x" * 100_000, await client.call(task_id, "x" * 100_000, compress="gzip"))
        self.assertEqual(1, await client.call(task_id, 1, serializer="json", call_id="\u00e9" * 100))
        [answer] = await client.control("stats", worker.worker_id, timeout=10, expect=1)
        self.assertEqual({}, answer["refused"])
        self.assertEqual(({}, {}), (worker.status().refused, client.status().refused))

    async def test_every_header_and_property(self) -> None:
        """By a classic queue."""
        await self.everything("classic")

    async def test_the_same_by_a_quorum_queue(self) -> None:
        """It counts deliveries in a header."""
        await self.everything("quorum")

    async def test_what_is_handed_back_and_comes_again(self) -> None:
        """The broker says so, and it is no replay."""

        @Task(self.name(), reactor=True)
        def slow(req: Any) -> Any:
            return deferLater(reactor, 0.2, lambda: req)

        client, worker = await self.programs(slow)
        calls = [client.call(slow.__crew_task__.task_id, number, headers=HEADERS) for number in range(10)]
        while not worker.status().in_progress:
            await deferLater(reactor, 0.01, lambda: None)
        connection: Any = worker._connection
        connection.client.transport.abortConnection()
        self.assertEqual(list(range(10)), [await call for call in calls])
        self.assertEqual({}, worker.status().refused)

    async def test_dead_letters_and_the_unsigned(self) -> None:
        """The one comes home with its signature, the other is told why it is refused."""

        @Task(self.name())
        def echo(req: Any) -> Any:
            return req

        client, worker = await self.programs(echo)
        task_id = echo.__crew_task__.task_id
        unsigned = await self.client()
        self.assertEqual("unsigned", (await errored(unsigned.call(task_id), MessageRefusedError)).reason)
        self.assertEqual({"unsigned": 1}, worker.status().refused)
        await self.stop_worker(worker)
        error = await errored(
            client.call(task_id, expiration=0.1, timeout=60, headers=HEADERS), ExpirationError
        )
        self.assertEqual("expired", error.reason)
        self.assertEqual({}, client.status().refused)
