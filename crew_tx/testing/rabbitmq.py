"""
A RabbitMQ node of one's own, for tests and demonstrations.

It has free ports, a cookie, an epmd and a folder to itself, so it neither
disturbs nor is disturbed by a broker of the machine. Everything here blocks:
it is for scripts, and for the set-up of tests.

Nothing of a node is worth keeping, so it is ended by SIGKILL; the beam's
helpers, which are in sessions of their own, end when the beam does.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from crew_tx.testing._rabbitmq_folder import HOST, NodeFolder, Ports
from crew_tx.testing._rabbitmq_install import RabbitMQError, find_rabbitmq, install_rabbitmq

__all__ = ["Broker", "RabbitMQError", "RabbitMQNode", "find_rabbitmq", "install_rabbitmq", "shared_node"]

#: Names the broker that a whole test run shares, by its URL; and its folder, where it is a private node.
BROKER_VARIABLE = "CREW_TEST_BROKER"
FOLDER_VARIABLE = "CREW_TEST_BROKER_FOLDER"

_START_SECONDS = 90.0
_STOP_SECONDS = 10.0
_COMMAND_SECONDS = 90.0
_POLL_SECONDS = 0.05

_AMQP_PORT = 5672
_PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME = b"\x01"

# Ends with the program, and ends the program when the pipe that is its input closes: so when we die, however.
_GUARDED = """exec 3<&0; ("$@" </dev/null; kill -KILL 0) & read -r _ <&3; kill -KILL 0"""

_Process = subprocess.Popen[bytes]


class Broker:
    """
    A broker that runs, whoever started it.

    :ivar url: what a client connects to.
    :ivar port: its AMQP port.
    """

    def __init__(self, url: str, folder: NodeFolder | None = None) -> None:
        self.url = url
        self.port = urlsplit(url).port or _AMQP_PORT
        self._folder = folder

    def ctl(self, *args: str) -> str:
        """
        Run ``rabbitmqctl`` on it.

        :returns: what the command printed.
        :raises RabbitMQError: if the command fails, with its output; if it isn't a private node.
        """
        if self._folder is None:
            raise RabbitMQError(f"no private node is running here, so there is no rabbitmqctl for {self.url}")
        done = subprocess.run(
            [str(_bins() / "rabbitmqctl"), "--node", self._folder.node_name, "--quiet", *args],
            env=self._folder.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_COMMAND_SECONDS,
        )
        if done.returncode:
            raise RabbitMQError(f"rabbitmqctl {' '.join(args)} failed:\n{done.stdout.strip()}")
        return done.stdout


class RabbitMQNode(Broker):
    """
    A private node: ``start()`` and ``stop()`` it, or use it with ``with``.

    :param management: also run the management plugin, at ``management_url``.
    :param config: what its ``rabbitmq.conf`` has beside.
    :param advanced: its ``advanced.config``.
    :param plugins: further plugins to enable.
    """

    def __init__(
        self,
        management: bool = False,
        *,
        config: str = "",
        advanced: str = "[].",
        plugins: tuple[str, ...] = (),
    ) -> None:
        self._ports = Ports.free()
        super().__init__(f"amqp://guest:guest@{HOST}:{self._ports.amqp}/%2F")
        self._config = config
        self._advanced = advanced
        self._plugins = (*plugins, "rabbitmq_management") if management else plugins
        self._epmd: _Process | None = None
        self._server: _Process | None = None

    @property
    def management_url(self) -> str:
        """Where the management plugin answers, user and password ``guest``."""
        return f"http://{HOST}:{self._ports.management}"

    @property
    def variables(self) -> dict[str, str]:
        """The environment by which ``shared_node()`` of another process finds this node."""
        return {BROKER_VARIABLE: self.url, FOLDER_VARIABLE: str(self._made_folder().path)}

    def __enter__(self) -> RabbitMQNode:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """
        Start it, and wait until it takes connections. After ``kill()`` it has what it had stored.

        :raises RabbitMQError: if it can't; nothing of it is left then.
        """
        if self._server is not None:
            raise RabbitMQError("this node runs already")
        try:
            self._boot()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it and remove its folder; fine at any time."""
        self.kill()
        if self._epmd is not None:
            _end(self._epmd)
            self._epmd = None
        if self._folder is not None:
            self._folder.remove()
            self._folder = None
        atexit.unregister(self.stop)

    def kill(self) -> None:
        """Crash it. What it stored is kept for another ``start()``."""
        if self._server is not None:
            _end(self._server)
            self._server = None

    def freeze(self) -> None:
        """Hold its processes where they are: its sockets stay open and answer nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after ``freeze()``."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._server is None:
            raise RabbitMQError("this node does not run")
        os.killpg(self._server.pid, number)

    def _boot(self) -> None:
        bins = _bins()
        atexit.register(self.stop)
        folder = self._made_folder()
        if self._epmd is None:
            self._epmd = _spawn("epmd", "-address", HOST, "-port", str(self._ports.epmd), folder=folder)
            _wait(self._epmd, "epmd", folder, lambda: _answers(self._ports.epmd))
        self._server = _spawn(str(bins / "rabbitmq-server"), folder=folder)
        _wait(self._server, "RabbitMQ", folder, lambda: _speaks_amqp(self._ports.amqp))

    def _made_folder(self) -> NodeFolder:
        if self._folder is None:
            self._folder = NodeFolder.make(
                self._ports, config=self._config, advanced=self._advanced, plugins=self._plugins
            )
        return self._folder


def shared_node() -> Broker:
    """
    The broker for tests that do it no harm: that of the whole run, if there
    is one, else a node for this process, which ends with it.

    :raises RabbitMQError: if there is no RabbitMQ.
    """
    url = os.environ.get(BROKER_VARIABLE)
    if url is None:
        return _node_of_this_process()
    path = os.environ.get(FOLDER_VARIABLE)
    return Broker(url, None if path is None else NodeFolder.open(Path(path)))


@cache
def _node_of_this_process() -> RabbitMQNode:
    node = RabbitMQNode()
    node.start()
    return node


def _bins() -> Path:
    bins = find_rabbitmq()
    if bins is None:
        raise RabbitMQError("RabbitMQ is not installed: install the package rabbitmq-server")
    return bins


def _spawn(*command: str, folder: NodeFolder) -> _Process:
    """Start a program in a session of its own, so that a Ctrl-C meant for the tests passes it by."""
    with open(folder.path / "log" / "out", "ab") as out:
        return subprocess.Popen(
            ["sh", "-c", _GUARDED, "sh", *command],
            cwd=folder.path,
            env=folder.environment(),
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait(process: _Process, name: str, folder: NodeFolder, is_up: Callable[[], bool]) -> None:
    limit = time.monotonic() + _START_SECONDS
    while not is_up():
        if process.poll() is not None:
            raise RabbitMQError(f"{name} ended before it was up:\n{folder.log()}")
        if time.monotonic() > limit:
            raise RabbitMQError(f"{name} was not up after {_START_SECONDS:.0f} s:\n{folder.log()}")
        time.sleep(_POLL_SECONDS)


def _answers(port: int, sent: bytes = b"", expected: bytes = b"") -> bool:
    """Whether a connection is taken, and answered as expected."""
    try:
        with socket.create_connection((HOST, port), timeout=5) as connection:
            connection.sendall(sent)
            return connection.recv(len(expected)) == expected
    except OSError:
        return False


def _speaks_amqp(port: int) -> bool:
    return _answers(port, _PROTOCOL_HEADER, _METHOD_FRAME)


def _end(process: _Process) -> None:
    """End a program and the whole of its process group, and wait until it is gone."""
    limit = time.monotonic() + _STOP_SECONDS
    while _kill_group(process.pid) and time.monotonic() < limit:
        process.poll()
        time.sleep(_POLL_SECONDS)
    process.wait()
    assert process.stdin is not None
    process.stdin.close()


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
