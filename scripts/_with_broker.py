"""
Run a command with a broker of its own, and end the broker with it.

    python scripts/_with_broker.py [--embedded] COMMAND [ARGUMENT...]

``{url}`` in an argument becomes the broker's URL. The command's exit code is
ours.

The broker is a private RabbitMQ node, which the command also finds by the
variables that ``crew_tx.testing.rabbitmq.shared_node()`` reads. RabbitMQ is
installed where it is missing; a broker that ``CREW_TEST_BROKER`` names already
is used as it is. With ``--embedded`` it is a ``twistd crew-broker``.
"""

from __future__ import annotations

import os
import sys

from _broker_process import BrokerProcessError, broker_process
from _child import child, exit_code, run_main

from crew_tx.testing.rabbitmq import (
    BROKER_VARIABLE,
    RabbitMQError,
    RabbitMQNode,
    find_rabbitmq,
    install_rabbitmq,
)


def main(arguments: list[str]) -> int:
    """Run the command with a broker."""
    if arguments[:1] == ["--embedded"]:
        return with_embedded(arguments[1:])
    return with_rabbitmq(arguments)


def with_embedded(command: list[str]) -> int:
    """Run the command with the embedded broker, in a process of its own."""
    try:
        with broker_process() as url:
            return run(command, url)
    except BrokerProcessError as error:
        print(f"no broker: {error}", file=sys.stderr)
        return 1


def with_rabbitmq(command: list[str]) -> int:
    """Run the command with the RabbitMQ that is named, or with a new one."""
    if named := os.environ.get(BROKER_VARIABLE):
        say(f"using the broker that {BROKER_VARIABLE} names")
        return run(command, named)
    try:
        install_missing()
        say("starting a RabbitMQ of our own")
        with RabbitMQNode() as node:
            os.environ.update(node.variables)
            return run(command, node.url)
    except RabbitMQError as error:
        print(f"no broker: {error}", file=sys.stderr)
        return 1


def install_missing() -> None:
    """
    Install RabbitMQ where it is missing.

    :raises RabbitMQError: if that can't be done.
    """
    if find_rabbitmq() is None:
        say("installing rabbitmq-server")
        install_rabbitmq()


def say(text: str) -> None:
    """One line for a step, as the scripts print it."""
    print(f"== {text}", flush=True)


def run(command: list[str], url: str) -> int:
    """Run the command, told of the broker."""
    with child([argument.replace("{url}", url) for argument in command]) as process:
        return exit_code(process)


if __name__ == "__main__":
    run_main(main)
