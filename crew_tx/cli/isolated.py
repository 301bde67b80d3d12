"""``python -m crew_tx.cli.isolated SERVICE...``: a process that runs a worker's tasks one by one."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
from collections.abc import Iterable, Sequence
from threading import Thread
from typing import Any

from crew_tx.cli.loading import load_for_process
from crew_tx.cli.settings import BROKER
from crew_tx.tasks.declaration import TaskDefinition
from crew_tx.tasks.processes.child import Child, Surroundings
from crew_tx.tasks.processes.spawner import INPUT, LIFELINE, OUTPUT
from crew_tx.worker import check_reply_headers

#: What no task is to find in its environment: the broker's URL has a password.
SECRETS = (BROKER,)


def isolated_command(modules: Sequence[str]) -> list[str]:
    """What runs a process for the tasks of some modules."""
    return [sys.executable, "-u", "-m", "crew_tx.cli.isolated", *modules]


def environment_for_tasks() -> dict[str, str]:
    """This process's, without secrets of ours."""
    return {name: text for name, text in os.environ.items() if name not in SECRETS}


def main(modules: list[str]) -> int:
    """
    Run tasks for the worker that started this process.

    :returns: the exit code.
    """
    # So that whatever tasks start is killed with this process, and not by a terminal's Ctrl-C.
    os.setsid()
    end_with_worker(LIFELINE)
    for descriptor in (INPUT, OUTPUT, LIFELINE):
        os.set_inheritable(descriptor, False)

    def load(path: list[str]) -> tuple[Iterable[TaskDefinition], dict[str, Any]]:
        sys.path += [folder for folder in path if folder not in sys.path]
        return load_for_process(modules)

    surroundings = Surroundings(load, check_reply_headers)
    return Child(lambda count: os.read(INPUT, count), _write, surroundings).run()


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(OUTPUT, view) :]


def end_with_worker(lifeline: int) -> None:
    """
    Have this process group killed when the worker is gone, even while a task holds the interpreter.

    Where the kernel can, it does so itself: the other end of the pipe is the
    worker's, nothing is ever written to it, and it sends SIGKILL when it is closed.
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
        # It may have been closed before.
        if select.select([lifeline], [], [], 0)[0]:
            _end()
    else:
        Thread(target=_wait_and_end, args=(lifeline,), daemon=True).start()


def _wait_and_end(lifeline: int) -> None:
    os.read(lifeline, 1)
    _end()


def _end() -> None:
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
