"""aio-pika, unmodified, on the embedded broker and on RabbitMQ."""

from __future__ import annotations

from crew_tx.testing.rabbitmq import RabbitMQError, shared_node
from tests.foreign.support import PROGRAMS, ForeignTestCase

ROBUST = PROGRAMS / "aio_pika_robust.py"
WAITING = "waiting to be closed"


class AioPikaTests(ForeignTestCase):
    client = "aio-pika"

    def test_its_patterns(self) -> None:
        """RPC, its calls that expire among them, Master, and confirms."""
        self.assert_same_on_both("aio_pika_patterns")


class RobustConnectionTests(ForeignTestCase):
    """It reconnects, and declares, binds and consumes anew."""

    client = "aio-pika"

    def test_it_outlives_a_broker_that_is_started_anew(self) -> None:
        """The first one ends as a service manager ends it, and tells its clients."""
        broker = self.embedded()
        program = self.start(ROBUST, broker.url)
        program.wait_for(WAITING)
        broker.program.signal()
        self.assertEqual(self.ended(broker.program), 0, broker.program.err)
        self.embedded(broker.port)
        self.assert_saw(program, ROBUST.with_suffix(".txt"), "the embedded broker")

    def test_it_outlives_rabbitmqs_closing_it(self) -> None:
        """The program is right: it sees the same there."""
        program = self.start(ROBUST, self.rabbitmq())
        program.wait_for(WAITING)
        try:
            shared_node().ctl("close_all_connections", "for a test")
        except RabbitMQError as error:
            self.skipTest(str(error))
        self.assert_saw(program, ROBUST.with_suffix(".txt"), "RabbitMQ")
