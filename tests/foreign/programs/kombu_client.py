"""
kombu by itself: its simple queues, producers with confirms and returns, consumers and heartbeats.

    python kombu_client.py URL
"""

import sys
import time
from uuid import uuid4

from amqp.exceptions import NotFound, PreconditionFailed
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.simple import SimpleQueue

RUN = uuid4().hex


def main():
    with Connection(sys.argv[1], heartbeat=1, transport_options={"confirm_publish": True}) as connection:
        simple(connection)
        declared_by_producer(connection)
        returned(connection)
        refused(connection)
        heartbeats(connection)
    cloned(connection)


def simple(connection):
    arguments = {"queue_opts": {"auto_delete": True}, "exchange_opts": {"auto_delete": True}}
    with connection.SimpleQueue(f"simple.{RUN}", **arguments) as queue:
        for value in ({"text": "å", "list": [1, 2]}, "plain", None):
            queue.put(value, headers={"a": 1}, priority=2, expiration=60)
        print("waiting:", queue.qsize())
        for _ in range(2):
            message = queue.get(timeout=5)
            headers = {name: value for name, value in message.headers.items() if name == "a"}
            print("got:", message.payload, headers, message.properties["expiration"], message.content_type)
            message.ack()
        message = queue.get(timeout=5)
        message.requeue()
        message = queue.get(timeout=5)
        print("again:", message.payload, message.delivery_info["redelivered"])
        message.reject()
        try:
            queue.get(block=False)
        except SimpleQueue.Empty:
            print("empty")


def declared_by_producer(connection):
    """With compression, a queue that the producer declares, and retries."""
    exchange = Exchange(f"kombu.{RUN}", "topic", auto_delete=True)
    queue = Queue(f"kombu.{RUN}", exchange, "a.#", auto_delete=True, max_priority=5, message_ttl=60.0)
    channel = connection.channel()
    producer = Producer(channel, exchange)
    seen = []
    for priority in (0, 5, 1):
        producer.publish(
            {"priority": priority, "long": "l" * 200_000},
            "a.b",
            declare=[exchange, queue],
            retry=True,
            compression="zlib",
            serializer="json",
            priority=priority,
        )
    with Consumer(channel, [queue], prefetch_count=1, accept=["json"]) as consumer:
        consumer.register_callback(lambda body, message: taken(seen, body, message))
        drain(connection, lambda: len(seen) == 3)
    print("by priority:", seen)
    print("deleted with its consumer:", is_missing(connection, queue))
    channel.close()


def taken(seen, body, message):
    seen.append((body["priority"], len(body["long"])))
    message.ack()


def drain(connection, is_enough, seconds=10):
    limit = time.monotonic() + seconds
    while not is_enough() and time.monotonic() < limit:
        try:
            connection.drain_events(timeout=0.2)
        except TimeoutError:
            connection.heartbeat_check()


def is_missing(connection, queue):
    try:
        queue(connection.channel()).queue_declare(passive=True)
    except NotFound:
        return True
    return False


def returned(connection):
    back = []
    producer = Producer(connection.channel(), on_return=lambda error, *where: back.append((error, where[:2])))
    producer.publish("lost", "missing", mandatory=True)
    drain(connection, lambda: back, 1)
    print("returned:", [(error.code, error.reply_text, *where) for error, where in back])


def refused(connection):
    for attempt in (
        lambda channel: channel.queue_declare("missing", passive=True),
        lambda channel: channel.exchange_declare("amq.topic", "fanout", durable=True),
    ):
        try:
            attempt(connection.channel())
        except (NotFound, PreconditionFailed) as error:
            print("refused:", type(error).__name__, error.code, error.reply_text)


def heartbeats(connection):
    connection.heartbeat_check()
    drain(connection, lambda: False, 3.2)
    print("alive after heartbeats:", connection.connected)


def cloned(connection):
    other = connection.clone()
    print("before:", other.connected, "after:", other.ensure_connection(max_retries=1).connected)
    other.release()


main()
