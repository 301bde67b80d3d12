"""
pika's adapter for Twisted.

    python pika_twisted.py URL
"""

import sys

import pika
from pika.adapters.twisted_connection import TwistedProtocolConnection
from pika.exceptions import ChannelClosedByBroker, ConnectionClosed, UnroutableError
from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.task import react

PARAMETERS = pika.URLParameters(sys.argv[1])


@inlineCallbacks
def main(reactor):
    endpoint = HostnameEndpoint(reactor, PARAMETERS.host, PARAMETERS.port)
    protocol = yield connectProtocol(endpoint, TwistedProtocolConnection(PARAMETERS))
    connection = yield protocol.ready
    yield consume(connection)
    yield get(connection)
    yield return_and_refuse(connection)
    connection.close()
    try:
        yield connection.closed
    except ConnectionClosed as error:
        print("closed:", error.reply_code, error.reply_text)


@inlineCallbacks
def consume(connection):
    channel = yield connection.channel()
    yield channel.basic_qos(prefetch_count=2)
    declared = yield channel.queue_declare("", exclusive=True)
    queue = declared.method.queue
    yield channel.exchange_declare(f"x.{queue}", "fanout", auto_delete=True)
    yield channel.queue_bind(queue, f"x.{queue}")
    deliveries, tag = yield channel.basic_consume(queue)
    for number in range(5):
        yield channel.basic_publish(f"x.{queue}", "", str(number).encode())
    seen = []
    for _ in range(5):
        delivery = yield deliveries.get()
        seen.append(delivery.body)
        yield channel.basic_ack(delivery.method.delivery_tag)
    print("consumed:", seen)
    yield channel.basic_cancel(tag)
    deleted = yield channel.queue_delete(queue)
    print("left:", deleted.method.message_count)


@inlineCallbacks
def get(connection):
    channel = yield connection.channel()
    declared = yield channel.queue_declare("", exclusive=True)
    queue = declared.method.queue
    yield channel.basic_publish("", queue, b"y" * 300_000, pika.BasicProperties(message_id="m"))
    _, method, properties, body = yield channel.basic_get(queue, auto_ack=True)
    print("got:", len(body), properties.message_id, method.message_count)
    print("empty:", (yield channel.basic_get(queue)))


@inlineCallbacks
def return_and_refuse(connection):
    channel = yield connection.channel()
    yield channel.confirm_delivery()
    declared = yield channel.queue_declare("", exclusive=True)
    confirmed = yield channel.basic_publish("", declared.method.queue, b"kept", mandatory=True)
    print("confirmed:", type(confirmed).__name__)
    try:
        yield channel.basic_publish("", "missing", b"lost", mandatory=True)
    except UnroutableError as error:
        print("returned:", [message.body for message in error.messages])
    try:
        yield channel.queue_declare("missing", passive=True)
    except ChannelClosedByBroker as error:
        print("refused:", error.reply_code, error.reply_text)


react(main)
