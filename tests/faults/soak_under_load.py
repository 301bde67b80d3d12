"""The long forms of ``test_under_load``: one node, and a cluster of three."""

from __future__ import annotations

from crew_tx.testing.rabbitmq import RabbitMQCluster
from tests.faults.scene import Scene
from tests.faults.support import FaultTestCase, new_cluster
from tests.faults.under_load import break_under_load
from tests.soak import say, seeds

_ROUND = {"calls": 20_000, "seconds": 60}


class UnderLoadSoak(FaultTestCase):
    """As long as the time lasts, and once at least."""

    timeout = 24 * 3600

    async def test_a_node_that_is_killed(self) -> None:
        """Three times in a round."""
        for seed in seeds("a node under load"):
            say(f"a node under load: the seed {seed}")
            scene = Scene(self, self.url, lambda queue: self.node, seed=seed)
            await break_under_load(scene, **_ROUND, broker_kills=3)
            await scene.end(0.995, self.node.ctl)


class ClusterSoak(FaultTestCase):
    """
    Quorum queues for tasks and replies, and acks that wait for the replies' confirms: a node and the worker
    whose replies it did not confirm may be killed in one instant.
    """

    timeout = 24 * 3600
    nodes = 0

    async def test_a_leader_that_is_killed(self) -> None:
        """Twice in a round, and every call is answered."""
        for seed in seeds("a cluster under load"):
            say(f"a cluster under load: the seed {seed}")
            await self.round(new_cluster(), seed)

    async def round(self, cluster: RabbitMQCluster, seed: int) -> None:
        """On a new cluster."""
        with cluster:
            scene = Scene(self, cluster.urls, cluster.leader, queue_type="quorum", ack="confirmed", seed=seed)
            await break_under_load(scene, **_ROUND, broker_kills=2, down=5)
            await scene.end(1.0, cluster.ctl)
            self.nothing_deprecated(*cluster.nodes)
