"""``python -m crew_tx.cli.crew``."""

from __future__ import annotations

from crew_tx.cli.crew.main import script

if __name__ == "__main__":
    script()
