"""What the tests of clients share."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from crew_tx import Client
from crew_tx.message import Answer, answer_properties
from tests.amqp.peer import Peer, Sent
from tests.roles import CODEC, URL, RoleTestCase

#: The body of an error.
FAILURE = {"type": "ValueError", "message": "no", "traceback": "Traceback ..."}


class ClientTestCase(RoleTestCase):
    """Tests with a client; its confirms and its replies go by channel 1."""

    channel = 1

    def setUp(self) -> None:
        super().setUp()
        self.reactor.advance(1000)
        self.tag = 0
        self.client = self.make()

    def make(self, **options: Any) -> Client:
        """A client that isn't connected."""
        self.client = Client(self.reactor, URL, heartbeat=0, **options)
        self.addCleanup(self.close, self.client)
        return self.client

    def close(self, client: Client) -> None:
        """Close a client, with a broker that plays along."""
        self.ended(client.close)

    def connect(self, **options: Any) -> Peer:
        """A client that is connected, and its broker."""
        if options:
            self.make(**options)
        connected = self.client.connect()
        peer = self.accept()
        self.assertIs(self.successResultOf(connected), self.client)
        self.channel = self.channel_of("basic.consume")
        peer.unread = []
        return peer

    def call(self, task_id: str = "sum", data: Any = None, **options: Any) -> Deferred[Any]:
        """A call's Deferred; whatever the test does not look at is dropped in the end."""
        deferred: Deferred[Any] = self.client.call(task_id, data, **options)
        self.addCleanup(deferred.addErrback, lambda _: None)
        return deferred

    def called(self, **options: Any) -> tuple[Deferred[Any], Sent]:
        """A call that is on the wire."""
        deferred = self.call(**options)
        [sent] = self.published()
        return deferred, sent

    def reply(self, sent: Sent, value: Any = None, **changes: Any) -> None:
        """A worker answers."""
        assert sent.properties is not None
        encoded = CODEC.encode(value)
        answer = Answer(
            sent.properties["correlation_id"], encoded.body, encoded.content_type, encoded.content_encoding
        )
        answer = answer._replace(**changes)
        self.into_reply_queue(answer_properties(answer), answer.body)

    def dead_letter(self, sent: Sent, **death: Any) -> None:
        """The broker takes a call out of its queue."""
        assert sent.properties is not None
        headers = {**sent.properties["headers"], "x-death": [death]}
        properties = {**sent.properties, "headers": headers}
        del properties["expiration"]
        self.into_reply_queue(properties, sent.body or b"")

    def into_reply_queue(self, properties: dict[str, Any], body: bytes) -> None:
        """A message comes into the reply queue."""
        self.tag += 1
        self.deliver(f"crew.reply.{self.client.client_id}", properties, body, self.tag, self.channel)
