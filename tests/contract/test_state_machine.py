"""The embedded broker and RabbitMQ go through the same random steps, and look the same after each."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from crew_tx.testing.rabbitmq import RabbitMQError, shared_node
from tests.contract.machine import BrokerMachine
from tests.contract.plain import version_of
from tests.contract.sides import Side

#: The release that the embedded broker does as, quorum queues included.
COMPARED = (3, 10)

SETTINGS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=80,
    stateful_step_count=30,
    suppress_health_check=list(HealthCheck),
)


def prepare() -> None:
    """
    Compare what can be compared with the RabbitMQ that there is.

    Later ones let quorum queues count, requeue and expire otherwise, and order ``x-death`` otherwise.

    :raises SkipTest: if there is none.
    """
    try:
        is_later = version_of(shared_node().url)[:2] != COMPARED
    except RabbitMQError as error:
        raise SkipTest(str(error)) from None
    BrokerMachine.classic_alone = is_later
    Side.deaths_in_order = not is_later


class StateMachineTests(SynchronousTestCase):
    """The same steps each time; ``scripts/test --soak`` takes others."""

    def test_both_look_the_same_after_each_step(self) -> None:
        prepare()
        run_state_machine_as_test(BrokerMachine, settings=SETTINGS)
        self.assertGreater(BrokerMachine.steps, 500)
