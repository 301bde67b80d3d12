"""pika's Twisted adapter as a client: URL CALLS WINDOW SINGLE."""

from __future__ import annotations

import sys
from itertools import count
from typing import Any

import cbor2
import pika
from measure import measure
from pika.adapters.twisted_connection import TwistedProtocolConnection
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientCreator


async def connected(reactor: Any, url: str) -> Any:
    parameters = pika.URLParameters(url)
    connection = await ClientCreator(reactor, TwistedProtocolConnection, parameters).connectTCP(
        parameters.host, parameters.port
    )
    await connection.ready
    return connection


async def main(reactor: Any, url: str, calls: str, window: str, single: str) -> None:
    connection = await connected(reactor, url)
    channel = await connection.channel()
    replies = (await channel.queue_declare(queue="", exclusive=True)).method.queue
    queue, _ = await channel.basic_consume(replies, auto_ack=True)
    pending: dict[str, Deferred[Any]] = {}
    numbers = count()

    def received(item: tuple[Any, Any, Any, bytes]) -> None:
        _, _, properties, body = item
        queue.get().addCallback(received)
        pending.pop(properties.correlation_id).callback(cbor2.loads(body))

    queue.get().addCallback(received)

    def call(number: int) -> Deferred[Any]:
        call_id = str(next(numbers))
        answer = pending[call_id] = Deferred()
        properties = pika.BasicProperties(
            content_type="application/cbor", correlation_id=call_id, reply_to=replies, expiration="86400000"
        )
        channel.basic_publish("", "benchmark.pika", cbor2.dumps({"x": number, "y": 2}), properties)
        return answer

    await measure(call, int(calls), int(window), int(single))
    await connection.close()


if __name__ == "__main__":
    task.react(lambda reactor, *args: Deferred.fromCoroutine(main(reactor, *args)), sys.argv[1:])
