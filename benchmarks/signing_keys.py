"""The key that the benchmarks sign with: no secret."""

from __future__ import annotations

from crew_tx.signing import SigningKeys

KEYS = SigningKeys({"benchmark": b"everybody who reads this knows it"})
