"""txamqp's own classes, unmodified, on the embedded broker and on RabbitMQ."""

from __future__ import annotations

from crew_tx.amqp.spec import SPEC_PATH
from tests.foreign.support import ForeignTestCase


class TxAMQPTests(ForeignTestCase):
    client = "txamqp"

    def test_its_client(self) -> None:
        """It greets as AMQP 0-9, logs in by either mechanism, consumes, gets and is refused."""
        self.assert_same_on_both("txamqp_client", SPEC_PATH)
