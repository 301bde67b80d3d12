"""crew_tx's side of events.py: subscribe|publish URL EVENTS SUBSCRIBERS."""

from __future__ import annotations

import sys
from typing import Any

from measure_events import PREFETCH, WINDOW, Deliveries
from twisted.internet import task
from twisted.internet.defer import Deferred

from crew_tx import Client


async def subscribe(client: Client, events: int, subscribers: int) -> None:
    deliveries = Deliveries(events, subscribers)
    complete: Deferred[None] = Deferred()

    def subscriber(index: int) -> Any:
        def received(data: dict[str, int]) -> None:
            if deliveries.had(index, data["number"]):
                deliveries.report()
                complete.callback(None)

        return received

    for index in range(subscribers):
        await client.subscribe("benchmark", subscriber(index), buffer=PREFETCH)
    print("subscribed", flush=True)
    await complete


async def publish(client: Client, events: int, subscribers: int) -> None:
    waiting: list[Deferred[None]] = []
    for number in range(events):
        if len(waiting) == WINDOW:
            await waiting.pop(0)
        waiting.append(client.publish("benchmark", {"number": number, "text": "x" * 20}, persistent=False))
    for each in waiting:
        await each


async def main(reactor: Any, role: str, url: str, events: str, subscribers: str) -> None:
    client = Client(reactor, url)
    await client.connect()
    await {"subscribe": subscribe, "publish": publish}[role](client, int(events), int(subscribers))
    await client.close()


if __name__ == "__main__":
    task.react(lambda reactor, *args: Deferred.fromCoroutine(main(reactor, *args)), sys.argv[1:])
