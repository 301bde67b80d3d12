"""
Run a command with a private RabbitMQ node, and end the node with it.

    python scripts/_with_broker.py COMMAND [ARGUMENT...]

RabbitMQ is installed where it is missing. The command finds the node by the
variables that ``crew_tx.testing.rabbitmq.shared_node()`` reads, and ``{url}``
in an argument becomes its URL. The command's exit code is ours. A broker that
``CREW_TEST_BROKER`` names already is used as it is.
"""

from __future__ import annotations

import os
import sys

from _child import child, exit_code, run_main

from crew_tx.testing.rabbitmq import (
    BROKER_VARIABLE,
    RabbitMQError,
    RabbitMQNode,
    find_rabbitmq,
    install_rabbitmq,
)


def main(command: list[str]) -> int:
    """Run the command with the broker that is named, or with a new one."""
    if named := os.environ.get(BROKER_VARIABLE):
        say(f"using the broker that {BROKER_VARIABLE} names")
        return run(command, named)
    try:
        if find_rabbitmq() is None:
            say("installing rabbitmq-server")
            install_rabbitmq()
        say("starting a RabbitMQ of our own")
        with RabbitMQNode() as node:
            os.environ.update(node.variables)
            return run(command, node.url)
    except RabbitMQError as error:
        print(f"no broker: {error}", file=sys.stderr)
        return 1


def say(text: str) -> None:
    """One line for a step, as the scripts print it."""
    print(f"== {text}", flush=True)


def run(command: list[str], url: str) -> int:
    """Run the command, told of the broker."""
    with child([argument.replace("{url}", url) for argument in command]) as process:
        return exit_code(process)


if __name__ == "__main__":
    run_main(main)
