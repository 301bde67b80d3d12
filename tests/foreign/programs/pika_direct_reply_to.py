"""
A remote call by RabbitMQ's direct reply-to, where the broker has it.

    python pika_direct_reply_to.py URL
"""

import sys

import pika
from pika.exceptions import ChannelClosedByBroker

REPLY_TO = "amq.rabbitmq.reply-to"


def main():
    connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
    try:
        call(connection.channel())
    except ChannelClosedByBroker as error:
        print("refused:", error.reply_code, error.reply_text)
    connection.close()


def call(channel):
    calls = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_consume(calls, answer, auto_ack=True)
    channel.basic_consume(REPLY_TO, answered, auto_ack=True)
    channel.basic_publish("", calls, b"ping", pika.BasicProperties(reply_to=REPLY_TO))
    channel.start_consuming()


def answer(channel, method, properties, body):
    channel.basic_publish("", properties.reply_to, b"pong")


def answered(channel, method, properties, body):
    print("answered:", body)
    channel.stop_consuming()


main()
