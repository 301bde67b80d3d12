"""The folder of a private RabbitMQ node: its settings, its cookie, what it stores and logs."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HOST = "127.0.0.1"

#: Where a node of another version, which runs inside a root folder of its own, finds its folder.
INSIDE = Path("/mnt")

# Enough for what went wrong first: Erlang reports a failed start once for each supervisor above it.
_TAIL = 12_000


@dataclass(frozen=True)
class Ports:
    """The ports of one node."""

    amqp: int
    distribution: int
    epmd: int
    management: int

    @classmethod
    def free(cls) -> Ports:
        """Four that are free now."""
        sockets = [socket.socket() for _ in range(4)]
        try:
            # All are bound before one is let go, so that no two are the same.
            for each in sockets:
                each.bind((HOST, 0))
            return cls(*(each.getsockname()[1] for each in sockets))
        finally:
            for each in sockets:
                each.close()

    @property
    def node_name(self) -> str:
        """What the node with these ports is called in Erlang."""
        return f"crew{self.amqp}@localhost"


def new_cookie() -> str:
    """What lets nodes and ``rabbitmqctl`` talk to one another; like no other."""
    return secrets.token_hex(16)


@dataclass(frozen=True)
class NodeFolder:
    """
    A node's folder; what is in it suffices to run ``rabbitmqctl`` on the node.

    :ivar root: the root folder of the system that the node's programs are from; None for this one.
    """

    path: Path
    ports: Ports
    root: Path | None = None

    @classmethod
    def make(
        cls,
        ports: Ports,
        *,
        config: str,
        advanced: str,
        plugins: Sequence[str],
        cookie: str | None = None,
        root: Path | None = None,
    ) -> NodeFolder:
        """
        Make a new one, somewhere temporary.

        :param cookie: that of the node's cluster; by default one that no other node has.
        """
        path = Path(tempfile.mkdtemp(prefix="crew-rabbitmq-"))
        for name in ("home", "db", "log"):
            (path / name).mkdir()
        cookie_file = path / "home" / ".erlang.cookie"
        cookie_file.touch(0o600)
        cookie_file.write_text(cookie or new_cookie())
        cookie_file.chmod(0o400)
        (path / "env.conf").touch()
        (path / "plugins").write_text(f"[{','.join(plugins)}].\n")
        (path / "advanced.config").write_text(advanced)
        (path / "rabbitmq.conf").write_text(_settings(config, ports, plugins))
        (path / "ports.json").write_text(json.dumps(asdict(ports)))
        if root is not None:
            (path / "root").symlink_to(root)
        return cls(path, ports, root)

    @classmethod
    def open(cls, path: Path) -> NodeFolder:
        """One that another process made."""
        ports = Ports(**json.loads((path / "ports.json").read_text()))
        root = path / "root"
        return cls(path, ports, root.readlink() if root.is_symlink() else None)

    @property
    def node_name(self) -> str:
        """The node's name in Erlang."""
        return self.ports.node_name

    def environment(self) -> dict[str, str]:
        """
        The variables that both the node and ``rabbitmqctl`` must have.

        Those that the machine's own broker goes by are left out.
        """
        path = self.path if self.root is None else INSIDE
        foreign = ("RABBITMQ_", "ERL_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return kept | {
            "HOME": str(path / "home"),
            # The one locale that every system has; without UTF-8 rabbitmqctl prints warnings.
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(self.ports.epmd),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(path / "advanced.config"),
            "RABBITMQ_CONFIG_FILE": str(path / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(path / "env.conf"),
            "RABBITMQ_DIST_PORT": str(self.ports.distribution),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(path / "plugins"),
            "RABBITMQ_LOG_BASE": str(path / "log"),
            "RABBITMQ_MNESIA_BASE": str(path / "db"),
            "RABBITMQ_NODENAME": self.node_name,
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self.ports.amqp),
            "RABBITMQ_PID_FILE": str(path / "pid"),
            # The distribution on loopback as well; Erlang takes no space in the address.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 -kernel inet_dist_use_interface {127,0,0,1}",
        }

    def log(self) -> str:
        """The last of what the node printed and logged."""
        logs = (path for path in sorted((self.path / "log").iterdir()) if path.is_file())
        return "\n".join(path.read_text(errors="replace")[-_TAIL:] for path in logs)

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)


def _settings(config: str, ports: Ports, plugins: Sequence[str]) -> str:
    lines = [config]
    if "rabbitmq_management" in plugins:
        lines.append(f"management.tcp.ip = {HOST}")
        lines.append(f"management.tcp.port = {ports.management}")
    return "\n".join(lines) + "\n"
