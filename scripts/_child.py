"""Programs that start another one and end it with themselves, however they are ended."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SECONDS = 20


@contextmanager
def child(
    command: list[str], *, piped: bool = False, patience: float = STOP_SECONDS
) -> Iterator[subprocess.Popen[str]]:
    """
    Start a program; end it, if it still runs, on the way out.

    :param piped: what it prints comes by its ``stdout``.
    :param patience: seconds that it may take to end, once it was told.
    """
    stdout, stderr = (subprocess.PIPE, subprocess.STDOUT) if piped else (None, None)
    process = subprocess.Popen(command, stdout=stdout, stderr=stderr, text=True, errors="replace")
    try:
        yield process
    finally:
        if process.poll() is None:
            end(process, patience)


def end(process: subprocess.Popen[str], patience: float = STOP_SECONDS) -> None:
    """Ask it to end, and make it."""
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def exit_code(process: subprocess.Popen[str]) -> int:
    """Wait for it; a shell's way of saying that a signal ended it."""
    code = process.wait()
    return code if code >= 0 else 128 - code


def run_main(main: Callable[[list[str]], int]) -> None:
    """Run a program whose ``finally`` clauses are run for signals, too."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, _leave)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
