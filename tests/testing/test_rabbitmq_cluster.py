"""The private cluster: its decisions with nodes that are made up, and once for real."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pika
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.uri import parse_all
from crew_tx.testing import _rabbitmq_cluster as module
from crew_tx.testing.rabbitmq import RabbitMQCluster, RabbitMQError, RabbitMQNode, rabbitmq_missing

MISSING = rabbitmq_missing()


class MadeUpTime:
    """In place of the module ``time``; it passes only while one sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class MadeUpNode:
    """
    A node that notes what is done to it.

    :ivar answers: what ``ctl`` says, one after the other; the last one for ever.
    """

    def __init__(self, name: str, log: list[str], answers: list[str]) -> None:
        self.name = name
        self.running = True
        self.asked: list[tuple[str, ...]] = []
        self._log = log
        self._answers = answers

    def __getattr__(self, name: str) -> Callable[[], None]:
        return lambda: self._log.append(f"{self.name} {name.strip('_')}")

    def ctl(self, *args: str) -> str:
        self.asked.append(args)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


class ClusterTests(SynchronousTestCase):
    """Which node does what, and when."""

    def setUp(self) -> None:
        self.log: list[str] = []
        self.time = MadeUpTime()
        self.patch(module, "time", self.time)

    def cluster(self, *answers: str) -> tuple[RabbitMQCluster, list[MadeUpNode]]:
        """One of three made-up nodes, a, b and c."""
        cluster = RabbitMQCluster()
        nodes = [MadeUpNode(name, self.log, list(answers)) for name in "abc"]
        cluster.nodes = cast(Any, tuple(nodes))
        return cluster, nodes

    def test_the_first_is_up_before_the_others_start(self) -> None:
        """These join it, all at the same time; the first ends last."""
        cluster, _ = self.cluster('{"running_nodes": ["c", "b", "a"]}')
        with cluster:
            self.assertEqual(["a start", "b boot", "c boot", "b wait_until_up", "c wait_until_up"], self.log)
            self.log.clear()
        self.assertEqual(["c stop", "b stop", "a stop"], self.log)

    def test_a_node_that_stays_alone(self) -> None:
        """It is named, and nothing is left."""
        cluster, _ = self.cluster('{"running_nodes": ["a", "c"]}')
        error = self.assertRaises(RabbitMQError, cluster.start)
        self.assertEqual("not in the cluster: b", str(error))
        self.assertEqual(["c stop", "b stop", "a stop"], self.log[-3:])

    def test_the_leader_is_the_node_of_that_name(self) -> None:
        """As Erlang prints it, quoted or not. A queue's name is no Erlang."""
        cluster, (first, second, _) = self.cluster("'b'\n")
        self.assertIs(second, cast(Any, cluster.leader("it's")))
        ((command, question),) = first.asked
        self.assertEqual("eval", command)
        self.assertIn("rabbit_misc:r(<<47>>, queue, <<105,116,39,115>>)", question)

    def test_a_leader_that_is_down_is_none(self) -> None:
        """Nor is one that nobody has elected: another is waited for. A node that runs is asked."""
        cluster, (first, second, third) = self.cluster("a", "nobody", "a", "c")
        first.running = False
        self.assertIs(third, cast(Any, cluster.leader("q")))
        self.assertEqual((0, 4), (len(first.asked), len(second.asked)))
        self.assertEqual(3 * module._POLL_SECONDS, self.time.now)

    def test_no_leader_for_long(self) -> None:
        """It is given up."""
        cluster, _ = self.cluster("nobody")
        error = self.assertRaises(RabbitMQError, cluster.leader, "q")
        self.assertEqual("no running node leads q after 30 s", str(error))

    def test_a_queue_without_a_leader(self) -> None:
        """It is said at once what is wrong."""
        for answer, text in (
            ("no_such_queue", "there is no queue q"),
            ("not_a_quorum_queue", "q is not a quorum queue"),
        ):
            error = self.assertRaises(RabbitMQError, self.cluster(answer)[0].leader, "q")
            self.assertEqual(text, str(error))
        self.assertEqual(0.0, self.time.now)

    def test_nobody_to_ask(self) -> None:
        """All nodes are down."""
        cluster, nodes = self.cluster("a")
        for node in nodes:
            node.running = False
        self.assertEqual("no node of this cluster runs", str(self.assertRaises(RabbitMQError, cluster.ctl)))

    def test_urls_are_what_a_client_takes(self) -> None:
        """One for each node, in their order."""
        cluster = RabbitMQCluster(size=2)
        self.assertEqual([node.port for node in cluster.nodes], [at.port for at in parse_all(cluster.urls)])
        self.assertEqual(2, len({node.port for node in cluster.nodes}))

    def test_nodes_share_epmd_and_cookie(self) -> None:
        """Without either they would be strangers; with their own, nodes of other clusters are."""
        nodes = [node for _ in range(2) for node in RabbitMQCluster(size=2).nodes]
        shared = [(node._ports.epmd, node._cookie) for node in nodes]
        self.assertEqual((shared[0], shared[2]), (shared[1], shared[3]))
        self.assertNotEqual(shared[0], shared[2])

    def test_one_node_at_least(self) -> None:
        """Less is a mistake."""
        self.assertRaises(ValueError, RabbitMQCluster, 0)


class RealClusterTests(SynchronousTestCase):
    """A cluster, for real."""

    if MISSING:
        skip = MISSING

    def test_a_leader_is_killed_and_comes_back(self) -> None:
        """One after the other, since a start takes many seconds."""
        cluster = RabbitMQCluster()
        self.addCleanup(cluster.stop)
        cluster.start()
        self.declare(cluster.nodes[1], "work")
        first = cluster.leader("work")
        first.kill()
        second = cluster.leader("work")
        self.assertNotEqual(first.name, second.name)
        self.assertTrue(second.running)
        first.start()
        self.assertIn(first.name, second.ctl("cluster_status"))
        cluster.stop()
        self.assertFalse(any(node.running for node in cluster.nodes))

    def declare(self, node: RabbitMQNode, queue: str) -> None:
        """Have a quorum queue of three members."""
        with pika.BlockingConnection(pika.URLParameters(node.url)) as connection:
            connection.channel().queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
