"""crew_tx's client: URL CALLS WINDOW SINGLE [--persistent]."""

from __future__ import annotations

import sys
from typing import Any

from measure import measure
from twisted.internet import task
from twisted.internet.defer import Deferred

from crew_tx import Client


async def main(reactor: Any, url: str, calls: str, window: str, single: str, *flags: str) -> None:
    client = Client(reactor, url)
    await client.connect()
    persistent = "--persistent" in flags

    def call(number: int) -> Deferred[Any]:
        return client.call("benchmark.add", {"x": number, "y": 2}, persistent=persistent)

    await measure(call, int(calls), int(window), int(single))
    await client.close()


if __name__ == "__main__":
    task.react(lambda reactor, *args: Deferred.fromCoroutine(main(reactor, *args)), sys.argv[1:])
