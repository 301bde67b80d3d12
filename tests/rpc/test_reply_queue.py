"""A client's reply queue on its connection."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from crew_tx.amqp.delivery import Delivery
from crew_tx.amqp.protocol import AMQClient
from crew_tx.errors import CrewError, ReplyLostError
from crew_tx.rpc.reply_queue import ReplyQueue
from tests.amqp.peer import Peer, PeerTestCase, Sent

_NAME = "crew.reply.client-1"


class ReplyQueueTests(PeerTestCase):
    """
    From one connection to the next.

    :ivar log: what it was told, in order.
    """

    def setUp(self) -> None:
        super().setUp()
        self.log: list[object] = []
        self.known: set[str] = set()
        self.queue = ReplyQueue(
            self.clock, "client-1", "classic", self.read, self.log.append, self.gone, self.renew
        )
        self.told: Callable[[], object] = list

    def gone(self, error: CrewError) -> None:
        """The queue is gone."""
        self.log.append(error)
        self.told()

    def renew(self) -> str:
        """Another id."""
        self.log.append("renewed")
        return "client-2"

    def read(self, delivery: Delivery) -> bytes | None:
        """A reply came; one without a body is nobody's."""
        return delivery.body or None

    def consume(self) -> Peer:
        """A connection that it consumes on."""
        self.peer = peer = self.log_in()
        peer.answers["queue.declare"] = self.declare
        client: AMQClient = peer.client
        consuming = Deferred.fromCoroutine(self.queue.consume(client))
        self.channel = self.answered(peer, consuming)
        return peer

    def deliver(self, peer: Peer, tag: int, body: bytes = b"a reply") -> None:
        """A reply comes by the channel."""
        peer.send_content(
            self.channel.id,
            "basic.deliver",
            body,
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
        """Many at a time; those that are nobody's as well."""
        peer = self.consume()
        peer.read()
        for tag in (1, 2):
            self.deliver(peer, tag)
        self.deliver(peer, 3, b"")
        self.assertEqual((self.log, peer.read()), ([b"a reply"] * 2, []))
        self.clock.advance(0.02)
        self.assertEqual(peer.one("basic.ack").fields, {"delivery_tag": 3, "multiple": True})

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

    def test_it_is_found_again(self) -> None:
        """By the next connection, under its name; nobody is told anything."""
        self.lost(self.consume())
        sent = self.consume().read()
        self.assertEqual(self.declarations(sent), [(_NAME, True), (_NAME, False)])
        self.assertEqual(self.log, [])

    def test_one_that_is_gone_is_followed_by_another(self) -> None:
        """Expired, say: under another id, which is there before those are told who waited for answers."""
        self.lost(self.consume())
        self.known.clear()
        self.told = lambda: self.log.append("told")
        sent = self.consume().read()
        self.assertEqual(self.declarations(sent), [(_NAME, True), ("crew.reply.client-2", False)])
        renewed, error, told = self.log
        self.assertEqual((renewed, told), ("renewed", "told"))
        self.assertIsInstance(error, ReplyLostError)
        self.assertIn(_NAME, str(error))
        keys = [each.fields["routing_key"] for each in sent if each.name == "queue.bind"]
        self.assertEqual({"client-2", "@client-2"} & set(keys), {"client-2", "@client-2"})
        [consume] = [each for each in sent if each.name == "basic.consume"]
        self.assertEqual(consume.fields["queue"], "crew.reply.client-2")

    def test_the_other_one_is_found_again_as_well(self) -> None:
        """And deleted in the end."""
        for _ in range(2):
            self.lost(self.consume())
            self.known -= {_NAME}
        peer = self.consume()
        self.assertEqual(self.log.count("renewed"), 1)
        deleted = self.delete()
        peer.settle()
        self.successResultOf(deleted)
        self.assertEqual(peer.one("queue.delete").fields["queue"], "crew.reply.client-2")

    def test_one_that_was_deleted_is_not_missed(self) -> None:
        """A client that was closed and connects again makes its own anew."""
        peer = self.consume()
        deleted = self.delete()
        peer.settle()
        self.successResultOf(deleted)
        self.known.clear()
        sent = self.consume().read()
        self.assertEqual((self.declarations(sent), self.log), ([(_NAME, False)], []))

    def lost(self, peer: Peer) -> None:
        """A connection is."""
        peer.lose()
        self.queue.lost()

    def declarations(self, sent: list[Sent]) -> list[tuple[str, bool]]:
        """Of reply queues: their names, and whether it was only asked for them."""
        return [
            (each.fields["queue"], each.fields["passive"])
            for each in sent
            if each.name == "queue.declare" and each.fields["queue"].startswith("crew.reply.")
        ]

    def declare(self, sent: Sent) -> None:
        """A broker that knows the queues that were declared."""
        name = sent.fields["queue"]
        if name.startswith("crew.reply.") and sent.fields["passive"] and name not in self.known:
            self.peer.send(sent.channel, "channel.close", reply_code=404, reply_text="NOT_FOUND")
            return
        self.known.add(name)
        self.peer.send(sent.channel, "queue.declare-ok", queue=name)
