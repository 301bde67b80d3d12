"""What the tests share that break a broker: nodes that are theirs, a load, and waiting."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from crew_tx import Client
from crew_tx.testing.rabbitmq import RabbitMQCluster, RabbitMQNode
from tests.faults.proxy import Proxy
from tests.integration.support import BrokerTestCase

#: Names the version of the nodes; without it they are of the installed one.
VERSION_VARIABLE = "CREW_TEST_RABBITMQ_VERSION"

# What RabbitMQ gives up by and by; 3.10 knows no such settings.
_NOTHING_DEPRECATED = """
deprecated_features.permit.transient_nonexcl_queues = false
deprecated_features.permit.global_qos = false
"""
_OLD = ("3.",)
_POLL = 0.02


def version() -> str | None:
    """That of the nodes; None for the installed one."""
    return os.environ.get(VERSION_VARIABLE)


def node_config() -> str:
    """The settings of nodes: where a version has deprecated features, these are off."""
    return "" if (version() or "3.").startswith(_OLD) else _NOTHING_DEPRECATED


@cache
def fault_node(number: int = 0) -> RabbitMQNode:
    """A node that one test after the other may break; it ends with this process."""
    return RabbitMQNode(version=version(), config=node_config())


def new_cluster() -> RabbitMQCluster:
    """A cluster of three, for one test."""
    return RabbitMQCluster(3, version=version(), config=node_config())


class FaultTestCase(BrokerTestCase):
    """
    A test that breaks what it works with.

    :ivar brokers: its nodes; the first one is the one that clients and workers connect to.
    """

    timeout = 120
    #: Nodes that the test needs.
    nodes = 1

    def setUp(self) -> None:
        self.brokers = [fault_node(number) for number in range(self.nodes)]
        for node in self.brokers:
            self.addCleanup(self.mend, node)
            self.mend(node)
        self.addCleanup(self.nothing_deprecated, *self.brokers)
        if self.brokers:
            self.node = self.brokers[0]
            self.url = self.node.url
        self._queues = []

    def nothing_deprecated(self, *nodes: RabbitMQNode) -> None:
        """No node's log tells of a feature in use that RabbitMQ gives up."""
        self.assertEqual([line for node in nodes for line in _deprecated(node)], [])

    def mend(self, node: RabbitMQNode) -> None:
        """Have it run as if nothing had been done to it."""
        if node._frozen:
            node.thaw()
        if not node.running:
            node.start()

    def name(self, name: str = "task") -> str:
        """A task id that no other test has."""
        return f"{name}.{os.urandom(6).hex()}"

    def proxy(self, url: str | None = None) -> Proxy:
        """A way to the broker that can be broken."""
        proxy = Proxy(url or self.url)
        self.addCleanup(proxy.close)
        return proxy

    def path(self) -> Path:
        """Where a test may write a file."""
        return Path(self.mktemp()).absolute()


def unconfirmed(client: Client) -> list[str]:
    """The calls that the broker may or may not have."""
    return [call.message_id for call in client._pending if call.sent and not call.is_confirmed]


async def until(is_so: Callable[[], object], seconds: float, what: str) -> float:
    """Wait until something is so. :returns: the seconds that it took."""
    begun = time.monotonic()
    while not is_so():
        if time.monotonic() - begun > seconds:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        await pause(_POLL)
    return time.monotonic() - begun


async def pause(seconds: float) -> None:
    """Let time pass."""
    await deferLater(reactor, seconds, lambda: None)


def in_thread(function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
    """What blocks, while the reactor goes on."""
    return deferToThread(function, *arguments)


def _deprecated(node: RabbitMQNode) -> list[str]:
    """The lines of a node's logs that tell of deprecated features in use."""
    assert node._folder is not None
    logs = (path for path in (node._folder.path / "log").iterdir() if path.is_file())
    return [
        line
        for path in logs
        for line in path.read_text(errors="replace").splitlines()
        if "deprecated features:" in line.lower()
    ]
