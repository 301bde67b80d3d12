"""
Programs that tests start, and that never outlive them.

Nothing of them is worth keeping, so they are ended by SIGKILL; the beam's
helpers, which are in sessions of their own, end when the beam does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from crew_tx.testing._rabbitmq_folder import HOST

POLL_SECONDS = 0.05

_STOP_SECONDS = 10.0

_PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME = b"\x01"

# Ends with the program, and ends the program when the pipe that is its input closes: so when we die, however.
_GUARDED = """exec 3<&0; ("$@" </dev/null; kill -KILL 0) & read -r _ <&3; kill -KILL 0"""

#: The guard; its exit code says nothing about the program's.
Process = subprocess.Popen[bytes]


def spawn(
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    output: Path,
    kept_files: Sequence[int] = (),
) -> Process:
    """
    Start a program in a session of its own, so that a Ctrl-C meant for the tests passes it by.

    :param folder: where it works.
    :param output: the file to which all that it prints is added.
    :param kept_files: numbers of files that stay open as long as it lives.
    """
    with open(output, "ab") as out:
        return subprocess.Popen(
            ["sh", "-c", _GUARDED, "sh", *command],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=kept_files,
        )


def end(process: Process) -> None:
    """End a program and the whole of its process group, and wait until it is gone."""
    limit = time.monotonic() + _STOP_SECONDS
    while _kill_group(process.pid) and time.monotonic() < limit:
        process.poll()
        time.sleep(POLL_SECONDS)
    process.wait()
    assert process.stdin is not None
    process.stdin.close()


def answers(port: int, sent: bytes = b"", expected: bytes = b"") -> bool:
    """Whether a connection is taken, and answered as expected."""
    try:
        with socket.create_connection((HOST, port), timeout=5) as connection:
            connection.sendall(sent)
            return connection.recv(len(expected)) == expected
    except OSError:
        return False


def speaks_amqp(port: int) -> bool:
    """Whether a broker takes connections there."""
    return answers(port, _PROTOCOL_HEADER, _METHOD_FRAME)


def _kill_group(group: int) -> bool:
    """Whether there was anybody left to kill."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return _lives(group)


def _lives(group: int) -> bool:
    """
    Whether a process of a group does more than wait to be reaped.

    Those whose parent has died are init's to reap, and some are slow at it.
    """
    processes = Path("/proc")
    if not (processes / "self" / "stat").exists():
        return True
    for status in processes.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # Behind the name in brackets: state, parent, group.
            state, _, of = status.read_text().rpartition(")")[2].split()[:3]
            if int(of) == group and state not in "ZX":
                return True
    return False
