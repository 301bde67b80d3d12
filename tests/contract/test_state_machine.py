"""The embedded broker and RabbitMQ go through the same random steps, and look the same after each."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from crew_tx.testing.rabbitmq import RabbitMQError, shared_node
from tests.contract.machine import BrokerMachine
from tests.contract.plain import PlainClient, SocketLine

#: Later ones let quorum queues count, requeue and expire otherwise.
COMPARED = "3.10"

SETTINGS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=80,
    stateful_step_count=30,
    suppress_health_check=list(HealthCheck),
)


def skip_without_rabbitmq() -> None:
    """:raises SkipTest: if there is none to compare with."""
    try:
        url = shared_node().url
    except RabbitMQError as error:
        raise SkipTest(str(error)) from None
    client = PlainClient(SocketLine(url))
    client.close()
    if not client.version.startswith(COMPARED):
        raise SkipTest(
            f"the embedded broker does as RabbitMQ {COMPARED}, step by step; this is {client.version}"
        )


class StateMachineTests(SynchronousTestCase):
    """The same steps each time; ``scripts/test --soak`` takes others."""

    def test_both_look_the_same_after_each_step(self) -> None:
        skip_without_rabbitmq()
        run_state_machine_as_test(BrokerMachine, settings=SETTINGS)
        self.assertGreater(BrokerMachine.steps, 500)
