"""A private cluster of RabbitMQ nodes."""

from __future__ import annotations

import json
import time

from crew_tx.testing._rabbitmq_install import RabbitMQError
from crew_tx.testing._rabbitmq_node import Follower, RabbitMQNode

_LEADER_SECONDS = 30.0
_POLL_SECONDS = 0.2

# The board of leaders is the node's own memory, so this answers while other
# nodes are frozen; list_queues and quorum_status wait for these.
_WHO_LEADS = """
case rabbit_amqqueue:lookup(rabbit_misc:r({vhost}, queue, {queue})) of
    {{ok, Queue}} ->
        case amqqueue:get_pid(Queue) of
            {{Name, _}} ->
                case ra_leaderboard:lookup_leader(Name) of
                    {{_, Node}} -> Node;
                    undefined -> nobody
                end;
            _ -> not_a_quorum_queue
        end;
    _ -> no_such_queue
end.
"""
_REFUSALS = {
    "no_such_queue": "there is no queue {queue}",
    "not_a_quorum_queue": "{queue} is not a quorum queue",
}


class RabbitMQCluster:
    """
    Private nodes that form a cluster: ``start()`` and ``stop()`` it, or use it with ``with``.

    A node is killed, started again, frozen and thawed by its own methods; end
    one for good by ``kill()`` too, since ``stop()`` of the first takes the
    cluster's epmd with it.

    :param size: how many nodes.
    :param version: of all nodes, as ``RabbitMQNode`` has it.
    :param config: what each ``rabbitmq.conf`` has beside.
    :param advanced: each node's ``advanced.config``.
    :param plugins: plugins to enable on all.
    :ivar nodes: the nodes; those that are down as well.
    """

    def __init__(
        self,
        size: int = 3,
        *,
        version: str | None = None,
        config: str = "",
        advanced: str = "[].",
        plugins: tuple[str, ...] = (),
    ) -> None:
        if size < 1:
            raise ValueError("a cluster has at least one node")
        first = RabbitMQNode(version=version, config=config, advanced=advanced, plugins=plugins)
        followers = [
            Follower(first, version=version, config=config, advanced=advanced, plugins=plugins)
            for _ in range(size - 1)
        ]
        self.nodes: tuple[RabbitMQNode, ...] = (first, *followers)

    @property
    def urls(self) -> str:
        """The URLs of all nodes, comma-separated: what a client of crew_tx connects to."""
        return ",".join(node.url for node in self.nodes)

    def __enter__(self) -> RabbitMQCluster:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """
        Start all nodes, and wait until they are one cluster.

        :raises RabbitMQMissingError: if there is no RabbitMQ of that version.
        :raises RabbitMQError: if it can't be started; nothing of it is left then.
        """
        try:
            self._form()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all nodes and remove their folders; fine at any time."""
        # The first one last, since the epmd of all goes with it.
        for node in reversed(self.nodes):
            node.stop()

    def ctl(self, *args: str) -> str:
        """
        Run ``rabbitmqctl`` on one of the nodes that run.

        :returns: what the command printed.
        :raises RabbitMQError: if the command fails, with its output; if no node runs.
        """
        return self._running()[0].ctl(*args)

    def leader(self, queue: str, vhost: str = "/") -> RabbitMQNode:
        """
        The node that leads a quorum queue. After a leader's end, wait until another is elected.

        :raises RabbitMQError: if there is no such quorum queue; if none leads it for 30 s.
        """
        limit = time.monotonic() + _LEADER_SECONDS
        while (leader := self._leader_now(queue, vhost)) is None:
            if time.monotonic() > limit:
                raise RabbitMQError(f"no running node leads {queue} after {_LEADER_SECONDS:.0f} s")
            time.sleep(_POLL_SECONDS)
        return leader

    def _form(self) -> None:
        first, *followers = self.nodes
        first.start()
        for node in followers:
            node._boot()
        for node in followers:
            node._wait_until_up()
        status = json.loads(first.ctl("cluster_status", "--formatter", "json"))
        if missing := {node.name for node in self.nodes} - set(status["running_nodes"]):
            raise RabbitMQError(f"not in the cluster: {', '.join(sorted(missing))}")

    def _leader_now(self, queue: str, vhost: str) -> RabbitMQNode | None:
        answer = (
            self.ctl("eval", _WHO_LEADS.format(vhost=_binary(vhost), queue=_binary(queue))).strip().strip("'")
        )
        if answer in _REFUSALS:
            raise RabbitMQError(_REFUSALS[answer].format(queue=queue))
        return next((node for node in self.nodes if node.name == answer and node.running), None)

    def _running(self) -> list[RabbitMQNode]:
        running = [node for node in self.nodes if node.running]
        if not running:
            raise RabbitMQError("no node of this cluster runs")
        return running


def _binary(text: str) -> str:
    """A text as Erlang writes bytes; nothing in it can be taken for Erlang."""
    return f"<<{','.join(map(str, text.encode()))}>>"
