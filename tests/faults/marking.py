"""A worker, as a program: each run of its task leaves a mark, a line in a file that all workers add to."""

from __future__ import annotations

import os
import time
from typing import Any

from crew_tx.worker import Task, context, run

#: Seconds that each run takes.
_SECONDS = 0.002


_file = os.open(os.environ["CREW_TEST_MARKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


@Task(os.environ["CREW_TEST_TASK"])
def mark(req: Any) -> Any:
    """Leave a mark, take a little time, and give back what came."""
    os.write(_file, f"{context.request.id} {os.getpid()}\n".encode())
    time.sleep(_SECONDS)
    return req


run()
