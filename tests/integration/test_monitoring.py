"""Processes that are watched over HTTP."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.web.client import Agent, FileBodyProducer, readBody
from twisted.web.http_headers import Headers

from tests.integration.support import BrokerTestCase

TASKS = """
from crew_tx.worker import Task, run

@Task({task!r})
def double(req):
    return 2 * req

run()
"""


class WatchedTestCase(BrokerTestCase):
    """A test that asks as those who watch do."""

    async def get(self, port: int, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{port}{path}".encode()
        response = await Agent(reactor).request(b"GET", url)
        return response.code, (await readBody(response)).decode()


class MonitoredWorkerTests(WatchedTestCase):
    """A worker process, by whoever asks, on a port of its own."""

    async def test_calls_are_counted_and_it_is_ready(self) -> None:
        """Once it consumes."""
        task = self.name()
        script = self.script()
        script.write_text(TASKS.format(task=task))
        worker = self.process(
            script,
            "--monitor=tcp:0:interface=127.0.0.1",
            "--forks=1",
            environment={"CREW_BROKER": self.url},
        )
        await worker.says("answers")
        await worker.says("are served on")
        found = re.search(r"served on IPv4Address\(.*?port=(\d+)\)", worker.output)
        assert found is not None, worker.output
        port = int(found[1])
        client = await self.client()
        self.assertEqual(4, await client.call(task, 2))
        self.assertEqual((200, "ok\n"), await self.get(port, "/healthz"))
        code, text = await self.get(port, "/readyz")
        self.assertEqual((200, True), (code, text.startswith("consumes from")))
        code, text = await self.get(port, "/metrics")
        self.assertIn(f'crew_worker_calls_total{{outcome="ok",task="{task}"}} 1.0', text)
        self.assertIn("crew_worker_connected 1.0", text)


class WatchedGatewayTests(WatchedTestCase):
    """A gateway process that serves the same beside its calls, and on a port of its own."""

    async def test_calls_are_counted_and_it_is_ready(self) -> None:
        """Once it is connected; strangers are told no more than that."""
        task = self.name()
        script = self.script()
        script.write_text(TASKS.format(task=task))
        worker = self.process(script, environment={"CREW_BROKER": self.url})
        await worker.says("answers")
        listen, monitor = "--listen=tcp:0:interface=127.0.0.1", "--monitor=tcp:0:interface=127.0.0.1"
        gateway = self.process(
            # As its script does it: older ones need setuptools for "python -m twisted".
            "-c",
            "from twisted.application.twist._twist import Twist; Twist.main()",
            "crew-gateway",
            "--log-format=text",
            listen,
            monitor,
            f"--allow-task={task}",
            environment={"CREW_BROKER": self.url},
        )
        await gateway.says("are served on")
        await gateway.says("the gateway listens")
        found = re.search(r"the gateway listens: http://127.0.0.1:(\d+)/", gateway.output)
        beside = re.search(r"served on IPv4Address\(.*?port=(\d+)\)", gateway.output)
        assert found is not None and beside is not None, gateway.output
        port, other = int(found[1]), int(beside[1])
        while (await self.get(port, "/readyz"))[0] == 503:
            await deferLater(reactor, 0.05)  # type: ignore[arg-type]
        self.assertEqual((200, "ready\n"), await self.get(port, "/readyz"))
        response: Any = await Agent(reactor).request(
            b"POST",
            f"http://127.0.0.1:{port}/call/{task}".encode(),
            Headers({"Content-Type": ["application/json"]}),
            FileBodyProducer(BytesIO(b"2")),
        )
        self.assertEqual((200, b"4"), (response.code, await readBody(response)))
        for place in (port, other):
            self.assertEqual((200, "ok\n"), await self.get(place, "/healthz"))
            code, text = await self.get(place, "/metrics")
            self.assertEqual(200, code)
            self.assertIn(f'crew_gateway_calls_total{{outcome="ok",task="{task}"}} 1.0', text)
            self.assertIn('crew_gateway_requests_total{method="POST",route="call",status="200"} 1.0', text)
            self.assertIn("crew_client_connected 1.0", text)
