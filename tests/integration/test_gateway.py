"""The web gateway on a real broker."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import deferLater
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers

from crew_tx.amqp.uri import parse_all
from crew_tx.web.access import Exposed
from crew_tx.web.depths import FRESH
from crew_tx.web.limits import Limits
from crew_tx.web.service import Gateway
from crew_tx.worker import Task
from tests.integration.support import BrokerTestCase


class GatewayTests(BrokerTestCase):
    """What depends on what the broker says."""

    async def gateway(self, **limits: Any) -> Gateway:
        gateway = Gateway(
            reactor, parse_all(self.url), Exposed(("*",), ("*",)), limits=Limits(**limits), drain=1.0
        )
        gateway.startService()
        self.addCleanup(gateway.stopService)
        port: Any = await gateway.listen(serverFromString(reactor, "tcp:0:interface=127.0.0.1"))
        self.place = f"http://127.0.0.1:{port.getHost().port}"
        await gateway.client.connect()
        return gateway

    async def ask(self, path: str, value: Any = None) -> tuple[int, Any]:
        """Post a value, or get where there is none."""
        pool = HTTPConnectionPool(reactor, persistent=False)
        body = FileBodyProducer(BytesIO(json.dumps(value).encode())) if value is not None else None
        headers = Headers({"Content-Type": ["application/json"]})
        method = b"GET" if body is None else b"POST"
        response: Any = await Agent(reactor, pool=pool).request(
            method, f"{self.place}{path}".encode(), headers, body
        )
        content = await readBody(response)
        return response.code, json.loads(content) if content else None

    async def test_calls_and_queues(self) -> None:
        """A task is answered, one that nobody has is 404, and a queue that is full is 429."""
        echo, full = self.name("echo"), self.name("full")

        @Task(echo)
        def answer(req: Any) -> Any:
            """Give it back."""
            return req

        gateway = await self.gateway(max_queue=2)
        await self.worker(answer)
        for value in (1, {"a": [2]}):
            self.assertEqual((200, value), await self.ask(f"/call/{echo}", value))
        # A queue that is not there closes a channel: neither connection may end by it.
        for _ in range(2):
            self.assertEqual(404, (await self.ask(f"/call/{self.name('nobody')}", 1))[0])
        self.assertEqual((200, 3), await self.ask(f"/call/{echo}", 3))
        await self.declared(full)
        self.assertEqual(503, (await self.ask(f"/call/{full}", 1))[0])
        for _ in range(2):
            await gateway.client.send(full, 1)
        # What was seen before is good for a second.
        await deferLater(reactor, FRESH)  # type: ignore[arg-type]
        self.assertEqual(429, (await self.ask(f"/call/{full}", 1))[0])

    async def test_events(self) -> None:
        """By a long poll."""
        await self.gateway()
        channel = self.name("news")
        polling = self.ask(f"/subscribe/{channel}")
        polled = Deferred.fromCoroutine(polling)
        while not polled.called:
            self.assertEqual((204, None), await self.ask(f"/publish/{channel}", {"a": 1}))
            await deferLater(reactor, 0.1)  # type: ignore[arg-type]
        status, answer = await polled
        self.assertEqual((200, {"a": 1}), (status, answer["events"][0]["data"]))
