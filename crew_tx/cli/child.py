"""``python -m crew_tx.cli.child SERVICE...``: one worker of a supervisor."""

from __future__ import annotations

import sys

from crew_tx.cli.script import run_services

if __name__ == "__main__":
    run_services(sys.argv[1:])
