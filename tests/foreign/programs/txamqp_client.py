"""
txamqp's own classes: its factory, endpoint, client, channels and queues.

    python txamqp_client.py URL SPECIFICATION

Its package has no specification in it: one is named, as its documents say.
"""

import sys
from urllib.parse import unquote, urlsplit

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import deferLater, react
from txamqp.client import ChannelClosed, Closed, ConnectionClosed
from txamqp.content import Content
from txamqp.endpoint import AMQEndpoint
from txamqp.factory import AMQFactory
from txamqp.queue import Empty

URL = urlsplit(sys.argv[1])
SPECIFICATION = sys.argv[2]


@inlineCallbacks
def main(reactor):
    yield plain()
    client = yield connected(heartbeat=1)
    yield consume(client)
    yield get(client)
    yield returned(client)
    yield refused(client)
    yield deferLater(reactor, 3.2, lambda: None)
    print("alive after heartbeats:", not client.closed)
    yield client.close(within=5)
    yield client.disconnected.wait()
    print("closed:", client.closed)
    yield closed_by_broker()
    yield refused_at_login()


@inlineCallbacks
def plain():
    """By the factory alone."""
    client = yield TCP4ClientEndpoint(reactor, URL.hostname, URL.port).connect(AMQFactory(SPECIFICATION))
    yield client.authenticate(URL.username, URL.password, mechanism="PLAIN")
    channel = yield client.channel(1)
    yield channel.channel_open()
    print("opened with PLAIN:", not channel.closed)
    yield channel.channel_close()
    yield client.close(within=5)


@inlineCallbacks
def connected(**options):
    """By its endpoint, which logs in with AMQPLAIN."""
    credentials = {"username": URL.username, "password": URL.password, "vhost": unquote(URL.path[1:])}
    endpoint = AMQEndpoint(reactor, URL.hostname, URL.port, **{**credentials, **options})
    client = yield endpoint.connect(AMQFactory(SPECIFICATION))
    return client


@inlineCallbacks
def opened(client, number):
    channel = yield client.channel(number)
    yield channel.channel_open()
    return channel


@inlineCallbacks
def consume(client):
    channel = yield opened(client, 1)
    declared = yield channel.queue_declare(exclusive=True, auto_delete=True)
    exchange = f"x.{declared.queue}"
    yield channel.exchange_declare(exchange=exchange, type="direct", auto_delete=True)
    yield channel.queue_bind(queue=declared.queue, exchange=exchange, routing_key="key")
    yield channel.basic_qos(prefetch_count=2)
    consuming = yield channel.basic_consume(queue=declared.queue, consumer_tag="tag")
    deliveries = yield client.queue(consuming.consumer_tag)
    for number in range(4):
        content = Content(str(number), properties={"delivery mode": 2, "headers": {"n": number}})
        channel.basic_publish(exchange=exchange, routing_key="key", content=content)
    seen = []
    for _ in range(4):
        message = yield deliveries.get(timeout=5)
        seen.append((message.content.body, message.content["headers"]))
        channel.basic_ack(message.delivery_tag)
    print("consumed:", seen)
    try:
        yield deliveries.get(timeout=0.1)
    except Empty:
        print("nothing more")
    yield channel.basic_cancel(consumer_tag="tag")
    yield channel.channel_close()


@inlineCallbacks
def get(client):
    channel = yield opened(client, 2)
    declared = yield channel.queue_declare(exclusive=True)
    channel.basic_publish(routing_key=declared.queue, content=Content(b"w" * 300_000))
    got = yield channel.basic_get(queue=declared.queue)
    print("got:", got.method.name, len(got.content.body), got.message_count)
    channel.basic_ack(got.delivery_tag)
    empty = yield channel.basic_get(queue=declared.queue)
    print("then:", empty.method.name)
    purged = yield channel.queue_purge(queue=declared.queue)
    deleted = yield channel.queue_delete(queue=declared.queue)
    print("purged:", purged.message_count, "deleted:", deleted.message_count)


@inlineCallbacks
def returned(client):
    channel = yield opened(client, 3)
    channel.basic_publish(routing_key="missing", mandatory=True, content=Content("lost"))
    message = yield client.basic_return_queue.get(timeout=5)
    print("returned:", message.reply_code, message.reply_text, message.content.body)


@inlineCallbacks
def refused(client):
    channel = yield opened(client, 4)
    try:
        yield channel.queue_declare(queue="missing", passive=True)
    except ChannelClosed as error:
        message = error.args[0]
        print("refused:", message.reply_code, message.reply_text)


@inlineCallbacks
def closed_by_broker():
    client = yield connected()
    channel = yield opened(client, 1)
    try:
        yield channel.exchange_declare(exchange="odd", type="odd")
    except ConnectionClosed as error:
        message = error.args[0]
        print("closed by the broker:", message.reply_code, message.reply_text)
    yield client.disconnected.wait()


@inlineCallbacks
def refused_at_login():
    try:
        yield connected(password="wrong")
    except Closed:
        print("not let in")


react(main)
