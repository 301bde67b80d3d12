"""pika's Twisted adapter as a worker: URL. Prints a line when it consumes."""

from __future__ import annotations

import sys
from typing import Any

import cbor2
import pika
from pika_client import connected
from twisted.internet import task
from twisted.internet.defer import Deferred

_PREFETCH = 100


async def main(reactor: Any, url: str) -> None:
    connection = await connected(reactor, url)
    channel = await connection.channel()
    await channel.basic_qos(prefetch_count=_PREFETCH)
    await channel.queue_declare(queue="benchmark.pika", durable=True)
    queue, _ = await channel.basic_consume("benchmark.pika", auto_ack=False)

    def received(item: tuple[Any, Any, Any, bytes]) -> None:
        channel_of_item, method, properties, body = item
        queue.get().addCallback(received)
        request = cbor2.loads(body)
        answer = pika.BasicProperties(
            content_type="application/cbor", correlation_id=properties.correlation_id
        )
        channel.basic_publish("", properties.reply_to, cbor2.dumps(request["x"] + request["y"]), answer)
        channel_of_item.basic_ack(method.delivery_tag)

    queue.get().addCallback(received)
    print("consuming", flush=True)
    await Deferred()


if __name__ == "__main__":
    task.react(lambda reactor, url: Deferred.fromCoroutine(main(reactor, url)), sys.argv[1:])
