"""The long form of ``test_mapreduce``'s: ten times as many items."""

from __future__ import annotations

from tests.integration.mapping_memory import MIB, MemoryTestCase
from tests.soak import say


class MappingSoak(MemoryTestCase):
    """However long it takes."""

    timeout = 3600

    async def test_a_million_pieces(self) -> None:
        """As much memory as ten thousand take."""
        early, peak = await self.peaks(1_000_000)
        say(f"a million pieces: {peak / MIB:.1f} MiB at the peak, {early / MIB:.1f} MiB after ten thousand")
        self.assertLess(peak - early, 10 * MIB)
