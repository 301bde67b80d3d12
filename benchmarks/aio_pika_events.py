"""aio-pika's side of events.py: subscribe|publish URL EVENTS SUBSCRIBERS."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import aio_pika
import cbor2
from measure_events import PREFETCH, WINDOW, Deliveries

_EXCHANGE = "benchmark.events"


async def subscribe(connection: Any, events: int, subscribers: int) -> None:
    deliveries = Deliveries(events, subscribers)
    complete = asyncio.Event()

    def subscriber(index: int) -> Any:
        async def received(message: Any) -> None:
            if deliveries.had(index, cbor2.loads(message.body)["number"]):
                deliveries.report()
                complete.set()
            await message.ack()

        return received

    for index in range(subscribers):
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        exchange = await channel.declare_exchange(_EXCHANGE, aio_pika.ExchangeType.TOPIC)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, "benchmark")
        await queue.consume(subscriber(index))
    print("subscribed", flush=True)
    await complete.wait()


async def publish(connection: Any, events: int, subscribers: int) -> None:
    channel = await connection.channel(publisher_confirms=True)
    exchange = await channel.declare_exchange(_EXCHANGE, aio_pika.ExchangeType.TOPIC)
    waiting: list[asyncio.Task[Any]] = []
    for number in range(events):
        if len(waiting) == WINDOW:
            await waiting.pop(0)
        body = cbor2.dumps({"number": number, "text": "x" * 20})
        message = aio_pika.Message(body, content_type="application/cbor")
        publishing = exchange.publish(message, "benchmark", mandatory=False)
        waiting.append(asyncio.create_task(publishing))
    await asyncio.gather(*waiting)


async def main(role: str, url: str, events: str, subscribers: str) -> None:
    connection = await aio_pika.connect(url)
    await {"subscribe": subscribe, "publish": publish}[role](connection, int(events), int(subscribers))
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
