"""The broker's sessions and the client, on conversations that went wrong."""

from __future__ import annotations

from tests.fuzz.fuzzing import FuzzTestCase
from tests.fuzz.targets import BrokerTarget

ROUNDS = 600


class SessionTests(FuzzTestCase):
    """Nothing crashes or hangs, nothing is left, and the others go on; the same inputs each time."""

    def test_a_broker_bears_its_clients(self) -> None:
        target = BrokerTarget()
        self.addCleanup(target.end)
        for seed in range(ROUNDS):
            self.attack_broker(target, seed)
        self.assertLessEqual({501, 503, 504, 505, 530, 540}, set(target.closed), target.closed)

    def test_a_client_bears_its_broker(self) -> None:
        for seed in range(ROUNDS):
            self.attack_client(seed)
