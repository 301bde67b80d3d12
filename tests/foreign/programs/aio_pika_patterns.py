"""
aio-pika's own patterns, RPC and Master, and its publisher confirms.

    python aio_pika_patterns.py URL
"""

import asyncio
import sys
from uuid import uuid4

import aio_pika
from aio_pika.exceptions import ChannelNotFoundEntity, DeliveryError, MessageProcessError, QueueEmpty
from aio_pika.patterns import RPC, Master, NackMessage, RejectMessage

URL = sys.argv[1]
RUN = uuid4().hex


async def main():
    connection = await aio_pika.connect(URL)
    async with connection:
        await confirms(connection)
        await remote_calls(connection)
        await tasks(connection)
        await exchanges(connection)


async def confirms(connection):
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    queue = await channel.declare_queue(exclusive=True)
    message = aio_pika.Message(b"z" * 300_000, headers={"a": 1}, expiration=60, priority=2)
    confirmation = await channel.default_exchange.publish(message, queue.name)
    print("confirmed:", type(confirmation).__name__)
    got = await queue.get()
    print("got:", len(got.body), got.headers, got.expiration, got.priority)
    await got.ack()
    try:
        await queue.get()
    except QueueEmpty:
        print("empty")
    try:
        await channel.default_exchange.publish(aio_pika.Message(b"lost"), f"nobody.{RUN}")
    except DeliveryError as error:
        print("returned:", error.message.body)
    try:
        await channel.declare_queue("missing", passive=True)
    except ChannelNotFoundEntity as error:
        print("refused:", error)


async def remote_calls(connection):
    channel = await connection.channel()
    rpc = await RPC.create(channel)
    await rpc.register(f"multiply.{RUN}", multiply, auto_delete=True)
    answers = await asyncio.gather(*(rpc.call(f"multiply.{RUN}", {"x": x, "y": 3}) for x in range(20)))
    print("answers:", answers)
    try:
        await rpc.call(f"multiply.{RUN}", {"x": None, "y": None})
    except TypeError as error:
        print("raised:", error)
    try:
        await rpc.call(f"nobody.{RUN}", {})
    except MessageProcessError as error:
        print("returned:", error.args[0])
    await expired_call(connection)
    await rpc.close()


async def multiply(*, x, y):
    return x * y


async def expired_call(connection):
    """A call that nobody takes in time comes back as a dead letter, by an exchange of headers."""
    channel = await connection.channel()
    rpc = await RPC.create(channel)
    name = f"unheard.{RUN}"
    await channel.declare_queue(
        name, auto_delete=True, arguments={"x-dead-letter-exchange": rpc.DLX_NAME, "x-expires": 60_000}
    )
    try:
        await rpc.call(name, {}, expiration=1)
    except TimeoutError as error:
        print("expired:", error.args[0])
    await rpc.close()


async def tasks(connection):
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=1)
    seen, last = [], asyncio.Event()

    async def work(*, number):
        seen.append(number)
        if number == 3 and seen.count(3) == 1:
            raise NackMessage(requeue=True)
        if number == 4:
            last.set()
            raise RejectMessage(requeue=False)

    master = Master(channel)
    worker = await master.create_worker(f"work.{RUN}", work, auto_delete=True)
    for number in range(4):
        await master.create_task(f"work.{RUN}", {"number": number})
    await getattr(master.proxy, f"work.{RUN}")(number=4)
    await last.wait()
    await worker.close()
    print("worked:", seen)


async def exchanges(connection):
    channel = await connection.channel()
    source = await channel.declare_exchange(f"source.{RUN}", "topic", auto_delete=True)
    target = await channel.declare_exchange(f"target.{RUN}", "fanout", auto_delete=True)
    queue = await channel.declare_queue(exclusive=True)
    await target.bind(source, "a.#")
    await queue.bind(target)
    for key in ("a.b", "b.a", "a"):
        await source.publish(aio_pika.Message(key.encode()), key, mandatory=False)
    seen = []
    async with queue.iterator() as messages:
        async for message in messages:
            async with message.process():
                seen.append(message.body)
            if len(seen) == 2:
                break
    print("bound exchanges:", seen)
    print("deleted:", type(await queue.delete()).__name__)


asyncio.run(main())
