"""
crew's article's web server, with Twisted's pages: it never blocks, since workers do the work.

It needs a worker of ``services/demo.py``, and is no module of tasks itself::

    twistd -n --pidfile= crew-worker services/demo.py
    python services/site.py 8888

``CREW_BROKER`` in the environment is the broker's URL. It listens on
127.0.0.1, and is an example: it asks nobody who they are.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import endpoints, task
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from crew_tx import Client, CrewError, ExpirationError, TimeoutError

CHANNEL = "test"
MOST_LISTENERS = 1000


class Page(Resource):
    """
    A page that is finished when a coroutine has its text.

    If the browser goes away, its calls are cancelled.
    """

    isLeaf = True

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client = client

    async def text(self, request: Any) -> str:
        """What is on it."""
        raise NotImplementedError

    def render(self, request: Any) -> int:
        text = Deferred.fromCoroutine(self.text(request))
        request.notifyFinish().addErrback(lambda gone: text.cancel())
        text.addErrback(said, request)
        text.addCallback(lambda text: finish(request, text))
        text.addErrback(lambda failure: failure.check(CancelledError) or request.processingFailed(failure))
        return NOT_DONE_YET


class Main(Page):
    """A task is called."""

    async def text(self, request: Any) -> str:
        return shown(await self.client.call("test", priority=100))


class Stat(Page):
    """One that counts."""

    async def text(self, request: Any) -> str:
        return shown(await self.client.call("stat", persistent=False, priority=0))


class Fast(Page):
    """One that never ends: after three seconds it is over."""

    async def text(self, request: Any) -> str:
        try:
            return shown(await self.client.call("dead", persistent=False, priority=255, expiration=3))
        except TimeoutError:
            return "Timeout"
        except ExpirationError:
            return "All workers are gone"


class Parallel(Page):
    """Two at a time; an error stands in its call's place."""

    async def text(self, request: Any) -> str:
        with self.client.parallel() as calls:
            calls.call("test")
            calls.call("stat")
            test_result, stat_result = await calls.result()
        return f"Test result: {test_result}\nStat result: {stat_result}"


class LongPolling(Resource):
    """A request that hangs until there is an event."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Any] = []

    def render_GET(self, request: Any) -> int | bytes:
        """Wait, if not too many do."""
        if len(self.waiting) >= MOST_LISTENERS:
            request.setResponseCode(503)
            return b"too many wait already"
        self.waiting.append(request)
        request.notifyFinish().addErrback(self._gone, request)
        return NOT_DONE_YET

    def _gone(self, reason: Failure, request: Any) -> None:
        if request in self.waiting:
            self.waiting.remove(request)

    def heard(self, data: object) -> None:
        """Give all who wait what has come."""
        waiting, self.waiting = self.waiting, []
        for request in waiting:
            finish(request, str(data))


class Publish(Page):
    """A worker publishes what is posted."""

    async def text(self, request: Any) -> str:
        return str(await self.client.call("publish", request.content.read().decode(errors="replace")))


class PublishDirectly(Page):
    """Without a worker."""

    async def text(self, request: Any) -> str:
        await self.client.publish(CHANNEL, request.content.read().decode(errors="replace"))
        return "published"


def shown(value: object) -> str:
    """A value as the article shows it."""
    return f"{type(value).__name__}: {value}"


def said(failure: Failure, request: Any) -> str:
    """The name of an error, with a status that says so."""
    failure.trap(CrewError)
    request.setResponseCode(503)
    return type(failure.value).__name__


def finish(request: Any, text: str) -> None:
    """Send a page."""
    request.setHeader("Content-Type", "text/plain; charset=utf-8")
    request.write(text.encode())
    request.finish()


async def main(reactor: Any, port: str = "8888") -> None:
    """Serve, until the process ends."""
    client = Client(reactor)
    await client.connect()
    long_polling = LongPolling()
    await client.subscribe(CHANNEL, long_polling.heard)
    root = Resource()
    root.putChild(b"", Main(client))
    root.putChild(b"stat", Stat(client))
    root.putChild(b"fast", Fast(client))
    root.putChild(b"subscribe", long_polling)
    root.putChild(b"publish", Publish(client))
    root.putChild(b"publish2", PublishDirectly(client))
    root.putChild(b"parallel", Parallel(client))
    endpoint = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
    listening = await endpoint.listen(Site(root))
    print(f"http://127.0.0.1:{listening.getHost().port}/", flush=True)
    await Deferred()


if __name__ == "__main__":
    task.react(main, sys.argv[1:])
