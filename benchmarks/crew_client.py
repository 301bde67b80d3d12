"""crew_tx's client: URL CALLS WINDOW SINGLE [--persistent] [--signed]."""

from __future__ import annotations

import sys
from typing import Any

from measure import measure
from signing_keys import KEYS
from twisted.internet import task
from twisted.internet.defer import Deferred

from crew_tx import Client


async def main(reactor: Any, url: str, calls: str, window: str, single: str, *flags: str) -> None:
    client = Client(reactor, url, signing_keys=KEYS if "--signed" in flags else None)
    await client.connect()
    persistent = "--persistent" in flags

    def call(number: int) -> Deferred[Any]:
        return client.call("benchmark.add", {"x": number, "y": 2}, persistent=persistent)

    await measure(call, int(calls), int(window), int(single))
    await client.close()


if __name__ == "__main__":
    task.react(lambda reactor, *args: Deferred.fromCoroutine(main(reactor, *args)), sys.argv[1:])
