"""The embedded broker and RabbitMQ go through the same random steps, and look the same after each."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from crew_tx.testing.rabbitmq import RabbitMQError, shared_node
from tests.contract.machine import BrokerMachine
from tests.contract.plain import version_of

#: Later ones let quorum queues count, requeue and expire otherwise.
COMPARED = (3, 10)

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
        version = version_of(shared_node().url)
    except RabbitMQError as error:
        raise SkipTest(str(error)) from None
    if version[:2] != COMPARED:
        found = ".".join(map(str, version))
        raise SkipTest(f"step by step, the embedded broker does as RabbitMQ 3.10; this is {found}")


class StateMachineTests(SynchronousTestCase):
    """The same steps each time; ``scripts/test --soak`` takes others."""

    def test_both_look_the_same_after_each_step(self) -> None:
        skip_without_rabbitmq()
        run_state_machine_as_test(BrokerMachine, settings=SETTINGS)
        self.assertGreater(BrokerMachine.steps, 500)
