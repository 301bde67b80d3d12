"""The long form of ``test_state_machine``: other steps each time."""

from __future__ import annotations

from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from tests.contract.machine import BrokerMachine
from tests.contract.test_state_machine import SETTINGS, prepare
from tests.soak import say, seeds

#: A failure is shown as it was met: to look for shorter steps can take longer than the time that is given.
LONG = settings(SETTINGS, derandomize=False, max_examples=20, stateful_step_count=60, phases=[Phase.generate])


class StateMachineSoak(SynchronousTestCase):
    """As long as the time lasts."""

    def test_both_look_the_same_after_each_step(self) -> None:
        prepare()
        before = BrokerMachine.steps
        for number in seeds("state machine"):
            try:
                run_state_machine_as_test(seed(number)(BrokerMachine), settings=LONG)
            except BaseExceptionGroup as group:
                say(f"state machine: failed once with the seed {number}: {group.exceptions}")
                raise
            except BaseException:
                say(f"state machine: failed with the seed {number}")
                raise
        say(f"state machine: {BrokerMachine.steps - before} steps")
        self.assertGreater(BrokerMachine.steps, before)
