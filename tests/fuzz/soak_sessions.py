"""The long form of ``test_sessions``: other inputs each time."""

from __future__ import annotations

import gc
import tracemalloc

from tests.fuzz.fuzzing import FuzzTestCase
from tests.fuzz.targets import BrokerTarget
from tests.soak import say, seeds

#: Rounds after which everything that is filled once is full, and bytes that may come to it afterwards.
_WARM = 1000
_GROWTH = 2_000_000


class SessionSoak(FuzzTestCase):
    """Nothing crashes or hangs, and nothing grows."""

    def test_a_broker_bears_its_clients(self) -> None:
        target = BrokerTarget()
        self.addCleanup(target.end)
        self.addCleanup(tracemalloc.stop)
        for number, seed in enumerate(seeds("broker")):
            self.attack_broker(target, seed)
            if number == _WARM:
                tracemalloc.start()
                before = self.held()
        say(f"broker: closed connections by code {dict(sorted(target.closed.items()))}")
        if tracemalloc.is_tracing():
            self.assertLess(self.held() - before, _GROWTH)

    def test_a_client_bears_its_broker(self) -> None:
        for seed in seeds("client"):
            self.attack_client(seed)

    @staticmethod
    def held() -> int:
        """Bytes that are in use."""
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
