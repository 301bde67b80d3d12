"""What becomes of methods that the broker sends of its own accord."""

from __future__ import annotations

from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from txamqp.client import Closed

from crew_tx.amqp.delegate import smaller_limit
from crew_tx.amqp.protocol import CLIENT_PROPERTIES
from tests.amqp.peer import Peer, PeerTestCase


class LimitTests(SynchronousTestCase):
    """Which limit both sides keep."""

    def test_the_smaller_limit_holds(self) -> None:
        """0 is none."""
        for ours, theirs, kept in ((0, 0, 0), (5, 0, 5), (0, 7, 7), (5, 7, 5), (7, 5, 5)):
            self.assertEqual(smaller_limit(ours, theirs), kept)


class DelegateTests(PeerTestCase):
    """Each method on an open channel."""

    def setUp(self) -> None:
        super().setUp()
        self.peer: Peer = self.log_in()
        self.channel = self.open_channel(self.peer)

    def test_the_broker_is_told_who_we_are(self) -> None:
        """Product and capabilities, of the client's own copy."""
        client = self.new_client()
        client.client_properties["connection_name"] = "a worker"
        peer = self.connect(client)
        client.authenticate("guest", "guest").addErrback(lambda _: None)
        peer.greet()
        told = peer.one("connection.start-ok").fields["client_properties"]
        self.assertEqual((told["product"], told["connection_name"]), ("crew_tx", "a worker"))
        self.assertNotIn("connection_name", CLIENT_PROPERTIES)

    def test_flow_is_agreed_to(self) -> None:
        """With what was asked."""
        self.peer.send(1, "channel.flow", active=False)
        self.assertIs(self.peer.one("channel.flow-ok").fields["active"], False)

    def test_a_cancelled_consumer_is_answered_where_an_answer_is_wanted(self) -> None:
        """RabbitMQ wants none."""
        self.peer.send(1, "basic.cancel", consumer_tag="tag", nowait=True)
        self.assertEqual(self.peer.names(), [])
        self.peer.send(1, "basic.cancel", consumer_tag="tag")
        self.assertEqual(self.peer.names(), ["basic.cancel-ok"])

    def test_a_confirm_that_nobody_follows_is_nothing(self) -> None:
        """Txamqp's way of publishing has no confirms."""
        with capturedLogs() as logs:
            self.peer.send(1, "basic.ack", delivery_tag=1)
        self.assertEqual(logs, [])

    def test_a_refusal_that_nobody_follows_is_logged(self) -> None:
        """A message was lost."""
        with capturedLogs() as logs:
            self.peer.send(1, "basic.nack", delivery_tag=7)
        self.assertEqual([event["log_level"] for event in logs], [LogLevel.warn])
        self.assertEqual((logs[0]["tag"], logs[0]["channel"]), (7, 1))

    def test_a_delivery_goes_to_its_consumers_queue(self) -> None:
        """Of its own channel."""
        waiting = self.channel.consumer_queue("tag").get()
        self.peer.send_content(1, "basic.deliver", b"body", consumer_tag="tag")
        self.assertEqual(self.successResultOf(waiting).content.body, b"body")

    def test_a_close_of_the_connection_is_answered(self) -> None:
        """And ends it."""
        self.peer.send(0, "connection.close", reply_code=320)
        self.assertEqual(self.peer.names(), ["connection.close-ok"])
        self.assertTrue(self.peer.client.closed)

    def test_a_connection_that_never_was_can_end(self) -> None:
        """Who waits for its start hears of it."""
        client = self.new_client()
        started = client.started.wait()
        client.delegate.close("a reason")
        self.assertEqual(self.failureResultOf(started, Closed).value.args, ("a reason",))
