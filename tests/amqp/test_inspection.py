"""Looking into queues."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred

from crew_tx.amqp.inspection import Depth, Gotten, Inspector
from crew_tx.errors import AccessRefusedError, ConnectionLostError, NotFoundError
from tests.amqp.peer import Peer, PeerTestCase, Sent

PROPERTIES = {"content_type": "text/plain", "message_id": "m", "headers": {"a": 1}}


class InspectorTests(PeerTestCase):
    """A broker with one queue, ``q``."""

    def setUp(self) -> None:
        super().setUp()
        self.peer: Peer = self.log_in()
        self.inspector = Inspector(self.peer.client)
        self.peer.client.on_channel_failed = lambda channel, failure: None
        self.peer.answers["queue.declare"] = lambda sent: self._answer(
            sent, "queue.declare-ok", queue="q", message_count=4, consumer_count=2
        )
        self.peer.answers["queue.purge"] = lambda sent: self._answer(sent, "queue.purge-ok", message_count=7)

    def _answer(self, sent: Sent, name: str, **fields: Any) -> None:
        if sent.fields["queue"] == "q":
            self.peer.send(sent.channel, name, **fields)
        else:
            code = 403 if sent.fields["queue"] == "forbidden" else 404
            self.peer.send(sent.channel, "channel.close", reply_code=code, reply_text="no")

    def _get(self, sent: Sent) -> None:
        self.peer.send_content(
            sent.channel,
            "basic.get-ok",
            b"body",
            PROPERTIES,
            delivery_tag=5,
            routing_key="t",
            message_count=3,
        )

    def done(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.answered(self.peer, Deferred.fromCoroutine(work))

    def fails(self, work: Coroutine[Any, Any, Any], kind: type[Exception]) -> Any:
        return self.refused(self.peer, Deferred.fromCoroutine(work), kind)

    def names(self) -> list[str]:
        return [sent.name for sent in self.peer.read()]

    def test_the_depth_of_a_queue_is_asked_for_and_nothing_made(self) -> None:
        """By declaring it passively."""
        self.assertEqual(Depth("q", 4, 2), self.done(self.inspector.depth("q")))
        (declared,) = [sent for sent in self.peer.read() if sent.name == "queue.declare"]
        self.assertTrue(declared.fields["passive"])

    def test_a_queue_that_is_not_there_has_no_depth(self) -> None:
        """That ends the channel; another is opened, and only then."""
        self.assertIsNone(self.done(self.inspector.depth("missing")))
        self.assertEqual(Depth("q", 4, 2), self.done(self.inspector.depth("q")))
        self.assertEqual(Depth("q", 4, 2), self.done(self.inspector.depth("q")))
        self.assertEqual(2, self.names().count("channel.open"))

    def test_a_refusal_is_told_with_what_was_done(self) -> None:
        """Of each question."""
        error = self.fails(self.inspector.depth("forbidden"), AccessRefusedError)
        self.assertIn("looking for the queue forbidden", str(error))
        self.fails(self.inspector.purge("missing"), NotFoundError)

    def test_a_message_is_taken_and_acknowledged_apart(self) -> None:
        """With its properties as messages have them."""
        self.peer.answers["basic.get"] = self._get
        gotten = self.done(self.inspector.get("q"))
        self.assertEqual(Gotten(5, PROPERTIES, b"body", "t", 3), gotten)
        self.assertNotIn("basic.ack", self.names())
        self.inspector.ack(gotten)
        (ack,) = [sent for sent in self.peer.read() if sent.name == "basic.ack"]
        self.assertEqual((5, False), (ack.fields["delivery_tag"], ack.fields["multiple"]))

    def test_an_empty_queue_has_no_message(self) -> None:
        """It is no error."""
        self.peer.answers["basic.get"] = lambda sent: self.peer.send(sent.channel, "basic.get-empty")
        self.assertIsNone(self.done(self.inspector.get("q")))

    def test_purging_tells_how_many_there_were(self) -> None:
        """All of them are gone."""
        self.assertEqual(7, self.done(self.inspector.purge("q")))

    def test_closing_ends_its_channel_once(self) -> None:
        """Whether or not there is one."""
        self.done(self.inspector.close())
        self.done(self.inspector.depth("q"))
        self.done(self.inspector.close())
        self.done(self.inspector.close())
        self.assertEqual(1, self.names().count("channel.close"))

    def test_a_lost_connection_is_told_of(self) -> None:
        """As one of our errors."""
        self.peer.lose()
        self.fails(self.inspector.depth("q"), ConnectionLostError)
