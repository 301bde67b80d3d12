"""A ``twistd crew-broker`` that a script starts, and ends with itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from _child import end

#: Beside the Python that runs us, where pip puts it.
TWISTD = str(Path(sys.executable).with_name("twistd"))
#: A port that is free.
ARGUMENTS = ("-n", "--pidfile=", "crew-broker", "--listen", "tcp:0:interface=127.0.0.1")

START_SECONDS = 20.0

_URL = re.compile(rb"the broker listens: (amqp://\S+)")
_POLL_SECONDS = 0.02
_KEPT_OUTPUT = 8 * 1024

#: Its input ends when we do, however that comes; so a broker doesn't outlive even a SIGKILL of ours.
_WATCHER = ("sh", "-c", 'read -r _; kill -TERM "$1"', "sh")


class BrokerProcessError(Exception):
    """The broker did not start."""


@contextmanager
def broker_process() -> Iterator[str]:
    """
    Start a broker on a free port; yield its URL, and end it on the way out.

    :raises BrokerProcessError: if it does not start, with what it printed.
    """
    environment = {name: text for name, text in os.environ.items() if not name.startswith("CREW_")}
    with TemporaryFile() as log:
        # In a session of its own: a Ctrl-C meant for its clients comes to it by us, when they have ended.
        process = subprocess.Popen(
            [TWISTD, *ARGUMENTS],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        watcher = subprocess.Popen(
            [*_WATCHER, str(process.pid)], stdin=subprocess.PIPE, start_new_session=True
        )
        try:
            yield _url(process, log)
        finally:
            end(process)
            watcher.kill()
            watcher.communicate()


def _url(process: subprocess.Popen[str], log: IO[bytes]) -> str:
    """Wait until it says where it listens."""
    limit = time.monotonic() + START_SECONDS
    while (found := _URL.search(_output(log))) is None:
        if process.poll() is not None or time.monotonic() > limit:
            text = _output(log).decode(errors="replace").strip()
            raise BrokerProcessError(f"twistd crew-broker did not start; it printed:\n{text}")
        time.sleep(_POLL_SECONDS)
    return found[1].decode()


def _output(log: IO[bytes]) -> bytes:
    """What it printed first."""
    return os.pread(log.fileno(), _KEPT_OUTPUT, 0)
