"""A plain Twisted resource that does the work of gateway_tasks.py inline. Prints where it listens."""

from __future__ import annotations

import json
from typing import Any

from gateway_tasks import test
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import Site


class Test(Resource):
    """``POST /call/test``, as a program has it that needs no worker."""

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        value = json.loads(request.content.read())
        request.setHeader(b"content-type", b"application/json")
        return json.dumps(test(value)).encode()


class QuietSite(Site):
    """Logs no request, as the gateway logs none."""

    def log(self, request: Any) -> None:
        pass


async def main(reactor: Any) -> None:
    port = reactor.listenTCP(0, QuietSite(Test()), interface="127.0.0.1")
    print(f"listens: http://127.0.0.1:{port.getHost().port}/", flush=True)
    await Deferred()


if __name__ == "__main__":
    task.react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
