"""
pika's BlockingConnection: declare, publish with confirms, get, consume, remote calls, errors.

    python pika_blocking.py URL
"""

import sys
from decimal import Decimal
from uuid import uuid4

import pika
from pika.exceptions import (
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    UnroutableError,
)

PARAMETERS = pika.URLParameters(sys.argv[1])
RUN = uuid4().hex


def main():
    connection = pika.BlockingConnection(PARAMETERS)
    publish_with_confirms(connection)
    get(connection)
    consume(connection)
    settle(connection)
    topics(connection)
    remote_calls(connection)
    cancelled_by_broker(connection)
    refused_by_channel(connection)
    connection.close()
    refused_by_connection()
    refused_at_login()
    heartbeats()


def publish_with_confirms(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, b"one", mandatory=True)
    channel.basic_publish("", queue, b"", mandatory=True)
    count = channel.queue_declare(queue, passive=True).method.message_count
    try:
        channel.basic_publish("", f"nobody.{RUN}", b"lost", mandatory=True)
    except UnroutableError as error:
        returned = error.messages[0]
        print("returned:", returned.method.reply_code, returned.method.reply_text, returned.body)
    print("confirmed:", count, "purged:", channel.queue_purge(queue).method.message_count)
    print("generated:", queue.startswith("amq.gen-"))
    channel.close()


def get(connection):
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    properties = pika.BasicProperties(
        content_type="text/plain",
        headers={"number": 2**40, "text": "å", "list": [1, None, True], "table": {"a": Decimal("-1.5")}},
        delivery_mode=2,
        priority=3,
        correlation_id="c",
        message_id="m",
        timestamp=1_700_000_000,
        type="t",
        app_id="a",
    )
    channel.basic_publish("", queue, b"x" * 400_000, properties)
    method, received, body = channel.basic_get(queue)
    print("got:", len(body), method.delivery_tag, method.redelivered, method.message_count)
    print("properties:", {name: value for name, value in vars(received).items() if value is not None})
    channel.basic_nack(method.delivery_tag)
    method, _, _ = channel.basic_get(queue)
    print("redelivered:", method.redelivered)
    channel.basic_ack(method.delivery_tag)
    print("empty:", channel.basic_get(queue) == (None, None, None))
    channel.close()


def consume(connection):
    channel = connection.channel()
    channel.basic_qos(prefetch_count=2)
    queue = channel.queue_declare("", exclusive=True).method.queue
    for number in range(5):
        channel.basic_publish("", queue, str(number).encode())
    seen = []
    for method, _, body in channel.consume(queue, inactivity_timeout=5):
        seen.append(body)
        channel.basic_ack(method.delivery_tag)
        if len(seen) == 5:
            break
    print("consumed:", seen, "requeued:", channel.cancel())

    seen = []
    channel.basic_consume(queue, on_message_callback=lambda *delivery: stop_after(3, seen, *delivery))
    for number in range(3):
        channel.basic_publish("", queue, str(number).encode())
    channel.start_consuming()
    print("called back:", seen, "left:", channel.queue_delete(queue).method.message_count)
    channel.close()


def stop_after(count, seen, channel, method, properties, body):
    seen.append(body)
    channel.basic_ack(method.delivery_tag)
    if len(seen) == count:
        channel.stop_consuming()


def settle(connection):
    """A rejected message, and one that expires, go to the queue of the dead."""
    channel = connection.channel()
    dead = channel.queue_declare("", exclusive=True).method.queue
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, "x-message-ttl": 60_000}
    queue = channel.queue_declare("", exclusive=True, arguments=arguments).method.queue
    channel.basic_publish("", queue, b"rejected")
    method, _, _ = channel.basic_get(queue)
    channel.basic_reject(method.delivery_tag, requeue=False)
    channel.basic_publish("", queue, b"expired", pika.BasicProperties(expiration="20"))
    for _, properties, body in channel.consume(dead, auto_ack=True, inactivity_timeout=5):
        death = properties.headers["x-death"][0]
        print("dead:", body, death["reason"], death["count"], death["queue"] == queue, properties.expiration)
        if body == b"expired":
            break
    channel.close()


def topics(connection):
    channel = connection.channel()
    exchange = f"topics.{RUN}"
    channel.exchange_declare(exchange, "topic", auto_delete=True)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, exchange, "a.*")
    channel.queue_bind(queue, exchange, "#.z")
    for key in ("a.b", "a.b.c", "q.w.z", "a.z"):
        channel.basic_publish(exchange, key, key.encode())
    seen = []
    while body := channel.basic_get(queue, auto_ack=True)[2]:
        seen.append(body)
    print("topics:", seen)
    channel.queue_unbind(queue, exchange, "a.*")
    channel.queue_delete(queue)
    channel.close()


def remote_calls(connection):
    """As in the tutorial: one queue for calls, an exclusive one for answers."""
    calls = f"calls.{RUN}"
    server = pika.BlockingConnection(PARAMETERS)
    serving = server.channel()
    serving.queue_declare(calls, auto_delete=True)
    serving.basic_consume(calls, answer)

    channel = connection.channel()
    answers = channel.queue_declare("", exclusive=True).method.queue
    received = {}
    channel.basic_consume(answers, lambda c, m, p, body: received.update({p.correlation_id: body}), True)
    for number in range(3):
        properties = pika.BasicProperties(reply_to=answers, correlation_id=str(number))
        channel.basic_publish("", calls, str(number).encode(), properties)
    while len(received) < 3:
        server.process_data_events(0.05)
        connection.process_data_events(0.05)
    print("answers:", sorted(received.items()))
    server.close()
    channel.close()
    print("deleted with its consumer:", is_missing(connection, calls))


def answer(channel, method, properties, body):
    reply = pika.BasicProperties(correlation_id=properties.correlation_id)
    channel.basic_publish("", properties.reply_to, body * 2, reply)
    channel.basic_ack(method.delivery_tag)


def is_missing(connection, queue):
    channel = connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
    except ChannelClosedByBroker as error:
        return error.reply_code == 404
    channel.close()
    return False


def cancelled_by_broker(connection):
    channel, other = connection.channel(), connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    cancelled = []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    tag = channel.basic_consume(queue, lambda *delivery: None)
    other.queue_delete(queue)
    while not cancelled:
        connection.process_data_events(0.05)
    print("cancelled:", cancelled == [tag])
    other.close()
    channel.close()


def refused_by_channel(connection):
    for refused in (
        lambda channel: channel.queue_declare("missing", passive=True),
        lambda channel: channel.basic_consume("amq.rabbitmq.trace", lambda *delivery: None),
        lambda channel: channel.exchange_declare("amq.mine"),
        lambda channel: channel.exchange_declare("amq.topic", "fanout"),
        lambda channel: acknowledge_nothing(connection, channel),
    ):
        try:
            refused(connection.channel())
        except ChannelClosedByBroker as error:
            print("refused:", error.reply_code, error.reply_text)
    print("open still:", connection.is_open)


def acknowledge_nothing(connection, channel):
    channel.basic_ack(7)
    channel.queue_declare("", exclusive=True)


def refused_by_connection():
    connection = pika.BlockingConnection(PARAMETERS)
    try:
        connection.channel().exchange_declare(f"odd.{RUN}", "odd")
    except ConnectionClosedByBroker as error:
        print("closed:", error.reply_code, error.reply_text)


def refused_at_login():
    for change, expected in (
        ({"credentials": pika.PlainCredentials("guest", "wrong")}, ProbableAuthenticationError),
        ({"virtual_host": "missing"}, ProbableAccessDeniedError),
    ):
        parameters = pika.URLParameters(sys.argv[1])
        for name, value in change.items():
            setattr(parameters, name, value)
        try:
            pika.BlockingConnection(parameters)
        except expected as error:
            print("not let in:", type(error).__name__)


def heartbeats():
    parameters = pika.URLParameters(sys.argv[1])
    parameters.heartbeat = 1
    connection = pika.BlockingConnection(parameters)
    connection.sleep(3.2)
    print("alive after heartbeats:", connection.is_open)
    connection.close()


main()
