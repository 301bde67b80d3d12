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


@dataclass(frozen=True)
class NodeFolder:
    """A node's folder; what is in it suffices to run ``rabbitmqctl`` on the node."""

    path: Path
    ports: Ports

    @classmethod
    def make(cls, ports: Ports, *, config: str, advanced: str, plugins: Sequence[str]) -> NodeFolder:
        """Make a new one, somewhere temporary."""
        path = Path(tempfile.mkdtemp(prefix="crew-rabbitmq-"))
        for name in ("home", "db", "log"):
            (path / name).mkdir()
        cookie = path / "home" / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        (path / "env.conf").touch()
        (path / "plugins").write_text(f"[{','.join(plugins)}].\n")
        (path / "advanced.config").write_text(advanced)
        (path / "rabbitmq.conf").write_text(_settings(config, ports, plugins))
        (path / "ports.json").write_text(json.dumps(asdict(ports)))
        return cls(path, ports)

    @classmethod
    def open(cls, path: Path) -> NodeFolder:
        """One that another process made."""
        return cls(path, Ports(**json.loads((path / "ports.json").read_text())))

    @property
    def node_name(self) -> str:
        """The node's name in Erlang."""
        return f"crew{self.ports.amqp}@localhost"

    def environment(self) -> dict[str, str]:
        """
        The variables that both the node and ``rabbitmqctl`` must have.

        Those that the machine's own broker goes by are left out.
        """
        path = self.path
        foreign = ("RABBITMQ_", "ERL_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return kept | {
            "HOME": str(path / "home"),
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
