"""A client's reply queue on its connection."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from crew_tx.amqp.delivery import Delivery
from crew_tx.amqp.protocol import AMQClient
from crew_tx.errors import CrewError, ReplyLostError
from crew_tx.rpc.reply_queue import ReplyQueue
from tests.amqp.peer import Peer, PeerTestCase

_NAME = "crew.reply.client-1"


class ReplyQueueTests(PeerTestCase):
    """
    From one connection to the next.

    :ivar log: what it was told, in order.
    """

    def setUp(self) -> None:
        super().setUp()
        self.log: list[object] = []
        self.queue = ReplyQueue(self.clock, "client-1", "classic", self.received, self.gone)
        self.told: Callable[[], object] = list

    def gone(self, error: CrewError) -> None:
        """The queue is gone."""
        self.log.append(error)
        self.told()

    def received(self, delivery: Delivery) -> None:
        """A reply came."""
        self.log.append(delivery.body)

    def consume(self) -> Peer:
        """A connection that it consumes on."""
        peer = self.log_in()
        client: AMQClient = peer.client
        consuming = Deferred.fromCoroutine(self.queue.consume(client))
        self.channel = self.answered(peer, consuming)
        return peer

    def deliver(self, peer: Peer, tag: int) -> None:
        """A reply comes by the channel."""
        peer.send_content(
            self.channel.id,
            "basic.deliver",
            b"a reply",
            consumer_tag=f"tag.{self.channel.id}.{_NAME}",
            delivery_tag=tag,
        )

    def delete(self) -> Deferred[None]:
        """The queue's end."""
        return Deferred.fromCoroutine(self.queue.delete())

    def test_it_is_declared_bound_and_consumed_from(self) -> None:
        """Confirms come by the same channel."""
        sent = self.consume().read()
        names = [each.name for each in sent if each.channel == self.channel.id]
        self.assertEqual(names[-2:], ["confirm.select", "basic.consume"])
        [consume] = [each for each in sent if each.name == "basic.consume"]
        self.assertEqual(consume.fields["queue"], _NAME)
        keys = [each.fields["routing_key"] for each in sent if each.name == "queue.bind"]
        self.assertIn("client-1", keys)
        self.assertIn("@client-1", keys)

    def test_replies_are_handed_on_and_acknowledged(self) -> None:
        """Many at a time."""
        peer = self.consume()
        peer.read()
        for tag in (1, 2):
            self.deliver(peer, tag)
        self.assertEqual((self.log, peer.read()), ([b"a reply"] * 2, []))
        self.clock.advance(0.02)
        self.assertEqual(peer.one("basic.ack").fields, {"delivery_tag": 2, "multiple": True})

    def test_what_came_is_acknowledged_before_it_is_deleted(self) -> None:
        """Once; the second time there is nothing to do."""
        peer = self.consume()
        self.deliver(peer, 1)
        peer.read()
        deleted = self.delete()
        self.assertNoResult(deleted)
        peer.settle()
        self.successResultOf(deleted)
        self.successResultOf(self.delete())
        self.assertEqual(peer.names(), ["basic.ack", "queue.delete"])

    def test_a_broker_that_does_not_answer_is_not_waited_for(self) -> None:
        """The queue expires by itself."""
        self.consume()
        deleted = self.delete()
        self.clock.advance(2.9)
        self.assertNoResult(deleted)
        self.clock.advance(0.1)
        self.assertIsNone(self.successResultOf(deleted))

    def test_without_a_connection_there_is_nothing_to_delete(self) -> None:
        """Before the first one, or after one that was lost."""
        self.successResultOf(self.delete())
        peer = self.consume()
        self.deliver(peer, 1)
        peer.lose()
        self.queue.lost()
        self.successResultOf(self.delete())

    def test_a_cancel_by_its_own_deletion_ends_nothing(self) -> None:
        """A broker may send it before it answers."""
        peer = self.consume()
        deleted = self.delete()
        peer.send(self.channel.id, "basic.cancel", consumer_tag=f"tag.{self.channel.id}.{_NAME}", nowait=True)
        self.assertEqual([], self.log)
        self.assertFalse(peer.client.closed)
        self.clock.advance(3)
        self.successResultOf(deleted)

    def test_a_queue_that_is_gone_ends_the_connection(self) -> None:
        """Before anybody who waits for replies is told: who calls again then calls by the next one."""
        peer = self.consume()
        closed: list[bool] = []
        self.told = lambda: closed.append(peer.client.closed)
        peer.send(self.channel.id, "basic.cancel", consumer_tag=f"tag.{self.channel.id}.{_NAME}", nowait=True)
        [error] = self.log
        self.assertIsInstance(error, ReplyLostError)
        self.assertIn(_NAME, str(error))
        self.assertEqual(closed, [True])
