"""One private node of RabbitMQ."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from crew_tx.testing._rabbitmq_folder import HOST, NodeFolder, Ports, new_cookie
from crew_tx.testing._rabbitmq_install import RabbitMQError
from crew_tx.testing._rabbitmq_process import POLL_SECONDS, Process, answers, end, spawn, speaks_amqp
from crew_tx.testing._rabbitmq_roots import command, programs_of, root_of, version_of

#: Names the broker that a whole test run shares, by its URL; and its folder, where it is a private node.
BROKER_VARIABLE = "CREW_TEST_BROKER"
FOLDER_VARIABLE = "CREW_TEST_BROKER_FOLDER"

_START_SECONDS = 90.0
_COMMAND_SECONDS = 90.0

_AMQP_PORT = 5672


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
            command(self._folder, "rabbitmqctl", "--node", self._folder.node_name, "--quiet", *args),
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
    :param version: ``"3.10"``, ``"4.0"`` or ``"4.3"``; by default the one that
        is installed. Another one is installed in the cache folder when it is
        first started, which takes a minute; this needs root and debootstrap.
    :param config: what its ``rabbitmq.conf`` has beside. A node of another
        version doesn't see the files of this system.
    :param advanced: its ``advanced.config``.
    :param plugins: further plugins to enable.
    """

    def __init__(
        self,
        management: bool = False,
        *,
        version: str | None = None,
        config: str = "",
        advanced: str = "[].",
        plugins: tuple[str, ...] = (),
    ) -> None:
        self._ports = Ports.free()
        super().__init__(f"amqp://guest:guest@{HOST}:{self._ports.amqp}/%2F")
        self._version = version
        self._config = config
        self._advanced = advanced
        self._plugins = (*plugins, "rabbitmq_management") if management else plugins
        self._cookie = new_cookie()
        self._epmd: Process | None = None
        self._server: Process | None = None
        self._frozen = False

    @property
    def name(self) -> str:
        """What it is called in Erlang, and so by ``rabbitmqctl``."""
        return self._ports.node_name

    @property
    def version(self) -> str:
        """Its version, such as ``4.0.5``; empty if that isn't installed yet, or can't be told."""
        return version_of(self._version)

    @property
    def running(self) -> bool:
        """Whether it was started, and neither killed nor frozen since."""
        return self._server is not None and not self._frozen

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

        :raises RabbitMQMissingError: if there is no RabbitMQ of its version.
        :raises RabbitMQError: if it can't be started; nothing of it is left then.
        """
        if self._server is not None:
            raise RabbitMQError("this node runs already")
        try:
            self._boot()
            self._wait_until_up()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it and remove its folder; fine at any time."""
        self.kill()
        if self._epmd is not None:
            end(self._epmd)
            self._epmd = None
        if self._folder is not None:
            self._folder.remove()
            self._folder = None
        atexit.unregister(self.stop)

    def kill(self) -> None:
        """Crash it. What it stored is kept for another ``start()``."""
        if self._server is not None:
            end(self._server)
            self._server = None
        self._frozen = False

    def freeze(self) -> None:
        """Hold its processes where they are: its sockets stay open and answer nothing."""
        self._signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let it go on after ``freeze()``."""
        self._signal(signal.SIGCONT)
        self._frozen = False

    def _signal(self, number: signal.Signals) -> None:
        if self._server is None:
            raise RabbitMQError("this node does not run")
        os.killpg(self._server.pid, number)

    def _boot(self) -> None:
        programs_of(self._version)
        atexit.register(self.stop)
        folder = self._made_folder()
        self._start_epmd(folder)
        self._server = _spawn(folder, "rabbitmq-server")

    def _start_epmd(self, folder: NodeFolder) -> None:
        if self._epmd is None:
            self._epmd = _spawn(folder, "epmd", "-address", HOST, "-port", str(self._ports.epmd))
            _wait(self._epmd, "epmd", folder, lambda: answers(self._ports.epmd))

    def _wait_until_up(self) -> None:
        assert self._server is not None
        _wait(self._server, "RabbitMQ", self._made_folder(), lambda: speaks_amqp(self._ports.amqp))

    def _made_folder(self) -> NodeFolder:
        if self._folder is None:
            self._folder = NodeFolder.make(
                self._ports,
                config=self._config,
                advanced=self._advanced,
                plugins=self._plugins,
                cookie=self._cookie,
                root=root_of(self._version),
            )
        return self._folder


class Follower(RabbitMQNode):
    """
    A further node of a cluster.

    It uses the first node's cookie and epmd, and when it starts with nothing
    stored it joins the first node, which must be up.
    """

    def __init__(
        self,
        first: RabbitMQNode,
        *,
        version: str | None,
        config: str,
        advanced: str,
        plugins: tuple[str, ...],
    ) -> None:
        super().__init__(version=version, advanced=advanced, plugins=plugins)
        self._ports = replace(self._ports, epmd=first._ports.epmd)
        self._cookie = first._cookie
        self._config = f"{config}\n{_peers(first.name, self.name)}"

    def _start_epmd(self, folder: NodeFolder) -> None:
        """The first node has started it."""


def _peers(*names: str) -> str:
    """The settings by which a node finds its cluster."""
    lines = ["cluster_formation.peer_discovery_backend = classic_config"]
    lines += [f"cluster_formation.classic_config.nodes.{at} = {name}" for at, name in enumerate(names, 1)]
    return "\n".join(lines)


def _spawn(folder: NodeFolder, program: str, *args: str) -> Process:
    return spawn(
        command(folder, program, *args),
        folder=folder.path,
        environment=folder.environment(),
        output=folder.path / "log" / "out",
    )


def _wait(process: Process, name: str, folder: NodeFolder, is_up: Callable[[], bool]) -> None:
    limit = time.monotonic() + _START_SECONDS
    while not is_up():
        if process.poll() is not None:
            raise RabbitMQError(f"{name} ended before it was up:\n{folder.log()}")
        if time.monotonic() > limit:
            raise RabbitMQError(f"{name} was not up after {_START_SECONDS:.0f} s:\n{folder.log()}")
        time.sleep(POLL_SECONDS)
