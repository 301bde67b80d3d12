"""
aio-pika's robust connection: closed by the broker, it comes back with its queue, binding and consumer.

    python aio_pika_robust.py URL

It has itself closed by a method that the broker does not have, and then waits to be closed from outside.
"""

import asyncio
import sys
from uuid import uuid4

import aio_pika

EXCHANGE = f"robust.{uuid4().hex}"


async def main():
    connection = await aio_pika.connect_robust(sys.argv[1], reconnect_interval=0.2, fail_fast=False)
    back = asyncio.Event()
    connection.reconnect_callbacks.add(lambda *_: back.set())
    channel = await connection.channel()
    exchange = await channel.declare_exchange(EXCHANGE, "direct", auto_delete=True)
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind(exchange, "key")
    received = asyncio.Queue()
    await queue.consume(received.put, no_ack=True)
    await talk("connected", exchange, received)

    await closed_by_own_fault(connection)
    await came_back(back, exchange, received)
    print("waiting to be closed")
    await came_back(back, exchange, received)
    await connection.close()


async def closed_by_own_fault(connection):
    channel = await connection.channel()
    try:
        await channel.default_exchange.publish(aio_pika.Message(b"now"), "any", immediate=True)
    except aio_pika.exceptions.AMQPError as error:
        print("closed:", type(error).__name__, error)


async def came_back(back, exchange, received):
    await asyncio.wait_for(back.wait(), 20)
    back.clear()
    await talk("reconnected", exchange, received)


async def talk(state, exchange, received):
    await exchange.publish(aio_pika.Message(state.encode()), "key")
    message = await asyncio.wait_for(received.get(), 5)
    print("received:", message.body)


asyncio.run(main())
