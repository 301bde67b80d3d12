"""The factory of client protocols."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp import AMQClient, AMQFactory, TwistedDelegate
from crew_tx.amqp.spec import SPEC_PATH, load
from tests.amqp.peer import Peer


class FactoryTests(SynchronousTestCase):
    """What an :class:`AMQFactory` builds."""

    def test_a_client_has_our_classes_and_specification(self) -> None:
        """All share one reading of the file."""
        client = AMQFactory(clock=Clock()).buildProtocol(None)
        self.assertIsInstance(client, AMQClient)
        self.assertIsInstance(client.delegate, TwistedDelegate)
        self.assertIs(client.spec, load())
        self.assertIs(AMQFactory(spec=SPEC_PATH, clock=Clock()).buildProtocol(None).spec, load())

    def test_virtual_host_heartbeat_and_clock_are_handed_on(self) -> None:
        """As txamqp's endpoint sets them."""
        clock = Clock()
        factory = AMQFactory(clock=clock)
        factory.set_vhost("v")
        factory.set_heartbeat(7)
        client = factory.buildProtocol(None)
        self.assertEqual((client.vhost, client.heartbeatInterval, client.clock), ("v", 7, clock))
        self.assertIs(client.factory, factory)

    def test_another_specification_gives_the_methods_their_names(self) -> None:
        """A program may have its own."""
        path = Path(self.mktemp())
        path.write_text(Path(SPEC_PATH).read_text().replace('name="ticket"', 'name="reserved-1"'))
        client = AMQFactory(spec=str(path), clock=Clock()).buildProtocol(None)
        self.assertEqual(client.spec.file, str(path))
        channel = self.successResultOf(client.channel(1))
        peer = Peer(client)
        self.successResultOf(channel.queue_declare(reserved_1=0, queue="q", nowait=True))
        self.assertEqual(peer.one("queue.declare").fields["queue"], "q")
