"""Calls under load while everything is broken by turns: the account balances."""

from __future__ import annotations

from tests.faults.scene import Scene
from tests.faults.support import FaultTestCase
from tests.faults.under_load import break_under_load, new_seed


class UnderLoadTests(FaultTestCase):
    """The short form: one end of the broker."""

    timeout = 300

    async def test_every_call_ends_once(self) -> None:
        """Nearly all with the answer, the others with a reason; what ran again was held at a fault."""
        scene = Scene(self, self.url, lambda queue: self.node, seed=new_seed())
        await break_under_load(scene, calls=3000, seconds=12, broker_kills=1)
        await scene.end(0.995, self.node.ctl)
