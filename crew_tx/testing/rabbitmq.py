"""
RabbitMQ of one's own, for tests and demonstrations: a node or a cluster, of the installed version or another.

It has free ports, a cookie, an epmd and a folder to itself, so it neither
disturbs nor is disturbed by a broker of the machine. Everything here blocks:
it is for scripts, and for the set-up of tests.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from crew_tx.testing._rabbitmq_cluster import RabbitMQCluster
from crew_tx.testing._rabbitmq_folder import NodeFolder
from crew_tx.testing._rabbitmq_install import RabbitMQError, RabbitMQMissingError, find_rabbitmq
from crew_tx.testing._rabbitmq_node import BROKER_VARIABLE, FOLDER_VARIABLE, Broker, RabbitMQNode
from crew_tx.testing._rabbitmq_roots import (
    CACHE_VARIABLE,
    MIRROR_VARIABLE,
    install_rabbitmq,
    rabbitmq_missing,
)

__all__ = [
    "RabbitMQNode",
    "RabbitMQCluster",
    "Broker",
    "shared_node",
    "find_rabbitmq",
    "install_rabbitmq",
    "rabbitmq_missing",
    "RabbitMQError",
    "RabbitMQMissingError",
    "BROKER_VARIABLE",
    "FOLDER_VARIABLE",
    "CACHE_VARIABLE",
    "MIRROR_VARIABLE",
]


def shared_node() -> Broker:
    """
    The broker for tests that do it no harm: that of the whole run, if there
    is one, else a node for this process, which ends with it.

    :raises RabbitMQError: if there is no RabbitMQ.
    """
    url = os.environ.get(BROKER_VARIABLE)
    if url is None:
        return _node_of_this_process()
    path = os.environ.get(FOLDER_VARIABLE)
    return Broker(url, None if path is None else NodeFolder.open(Path(path)))


@cache
def _node_of_this_process() -> RabbitMQNode:
    node = RabbitMQNode()
    node.start()
    return node
