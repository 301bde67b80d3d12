"""The private RabbitMQ node; some of it on a real one, where RabbitMQ is installed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.testing._rabbitmq_folder import NodeFolder, Ports
from crew_tx.testing.rabbitmq import (
    BROKER_VARIABLE,
    FOLDER_VARIABLE,
    Broker,
    RabbitMQError,
    RabbitMQNode,
    find_rabbitmq,
    install_rabbitmq,
    shared_node,
)

MISSING = "RabbitMQ is not installed" if find_rabbitmq() is None else ""

ROOT = Path(__file__).resolve().parent.parent.parent

SECONDS = 10.0

HEADER = b"AMQP\x00\x00\x09\x01"

#: A process that starts a node, says where it is, and dies without a chance to clean up when it is told to.
KILLED = """
import os
from crew_tx.testing.rabbitmq import RabbitMQNode
node = RabbitMQNode()
node.start()
print(node.variables["CREW_TEST_BROKER_FOLDER"], flush=True)
input()
os.kill(os.getpid(), 9)
"""


def answer(port: int, seconds: float = SECONDS) -> bytes:
    """The first octet that a port answers to a client; nothing where there is nobody."""
    try:
        with socket.create_connection(("127.0.0.1", port), seconds) as connection:
            connection.sendall(HEADER)
            return connection.recv(1)
    except OSError:
        return b""


def refuses(address: tuple[str, int]) -> bool:
    """Whether nobody listens there, now or soon: a process that dies closes its sockets one by one."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            socket.create_connection(address, SECONDS).close()
        except ConnectionRefusedError:
            return True
        threading.Event().wait(0.05)
    return False


class NodeFolderTests(SynchronousTestCase):
    """Settings of a node."""

    def made(self, ports: Ports | None = None, *plugins: str) -> NodeFolder:
        """A folder that is removed after the test."""
        folder = NodeFolder.make(ports or Ports.free(), config="a = 1", advanced="[].", plugins=plugins)
        self.addCleanup(folder.remove)
        return folder

    def test_free_ports_are_different(self) -> None:
        """A port given twice would keep a node from starting."""
        ports = Ports.free()
        self.assertEqual(4, len({ports.amqp, ports.distribution, ports.epmd, ports.management}))

    def test_the_machines_own_broker_has_no_say(self) -> None:
        """What is set for it is left out of a node's environment."""
        self.patch(os, "environ", {"RABBITMQ_USE_LONGNAME": "true", "ERL_EPMD_PORT": "4369", "PATH": "/bin"})
        environment = self.made(Ports(1, 2, 3, 4)).environment()
        self.assertNotIn("RABBITMQ_USE_LONGNAME", environment)
        self.assertEqual("3", environment["ERL_EPMD_PORT"])
        self.assertEqual("/bin", environment["PATH"])

    def test_the_cookie_is_for_its_owner_alone(self) -> None:
        """Erlang refuses it otherwise."""
        cookie = self.made().path / "home" / ".erlang.cookie"
        self.assertEqual(0o400, stat.S_IMODE(cookie.stat().st_mode))

    def test_no_two_cookies_are_the_same(self) -> None:
        """Who has it rules the node."""
        cookies = {(self.made().path / "home" / ".erlang.cookie").read_text() for _ in range(2)}
        self.assertEqual(2, len(cookies))

    def test_settings_are_the_callers_and_the_plugins(self) -> None:
        """The management port is only set with the plugin, for RabbitMQ knows it from there."""
        plain = (self.made().path / "rabbitmq.conf").read_text()
        managed = (self.made(Ports(1, 2, 3, 4), "rabbitmq_management").path / "rabbitmq.conf").read_text()
        self.assertEqual("a = 1\n", plain)
        self.assertEqual("a = 1\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = 4\n", managed)

    def test_another_process_finds_all_in_the_folder(self) -> None:
        """Opened again, it is the same node's."""
        folder = self.made()
        self.assertEqual(folder, NodeFolder.open(folder.path))

    def test_the_log_is_the_end_of_what_was_printed(self) -> None:
        """A start that fails says why at the end."""
        folder = self.made()
        (folder.path / "log" / "out").write_text("x" * 20_000 + "the end")
        self.assertTrue(folder.log().endswith("the end"))
        self.assertLess(len(folder.log()), 13_000)


class NotRunningTests(SynchronousTestCase):
    """What is said where there is no node."""

    def test_stopping_what_never_started_is_fine(self) -> None:
        """Clean-up needs no condition."""
        node = RabbitMQNode()
        node.stop()
        node.stop()

    def test_rabbitmqctl_needs_a_folder(self) -> None:
        """A broker that is only known by its URL has none."""
        error = self.assertRaises(RabbitMQError, Broker("amqp://host:1234/").ctl, "status")
        self.assertIn("amqp://host:1234/", str(error))

    def test_a_node_that_does_not_run_is_not_frozen(self) -> None:
        """It is said so, plainly."""
        self.assertRaises(RabbitMQError, RabbitMQNode().freeze)

    def test_the_remedy_is_one_line_without_rabbitmq_and_apt(self) -> None:
        """What to install, where it can't be installed from here."""
        self.patch(os, "environ", {"PATH": "/nowhere"})
        self.assertIs(None, find_rabbitmq())
        for attempt in (install_rabbitmq, RabbitMQNode().start):
            text = str(self.assertRaises(RabbitMQError, attempt))
            self.assertIn("rabbitmq-server", text)
            self.assertNotIn("\n", text)

    def test_the_shared_node_is_the_one_that_is_named(self) -> None:
        """By its URL alone, or with its folder."""
        self.patch(os, "environ", {BROKER_VARIABLE: "amqp://guest:guest@127.0.0.1:4711/%2F"})
        self.assertEqual(4711, shared_node().port)


class RealNodeTests(SynchronousTestCase):
    """A node of one's own, for real."""

    if MISSING:
        skip = MISSING

    def node(self, config: str = "") -> RabbitMQNode:
        """One that is stopped after the test."""
        node = RabbitMQNode(config=config)
        self.addCleanup(node.stop)
        return node

    def test_it_starts_crashes_starts_again_and_is_gone(self) -> None:
        """One after the other, since a start takes seconds."""
        node = self.node()
        node.start()
        self.assertRaises(RabbitMQError, node.start)
        self.assertEqual(b"\x01", answer(node.port))

        self.patch(os, "environ", {**os.environ, **node.variables})
        shared = shared_node()
        self.assertEqual(node.url, shared.url)
        shared.ctl("add_user", "neo", "secret")
        error = self.assertRaises(RabbitMQError, node.ctl, "no_such_command")
        self.assertIn("no_such_command", str(error))

        node.freeze()
        self.assertEqual(b"", answer(node.port, seconds=0.2))
        node.thaw()
        self.assertEqual(b"\x01", answer(node.port))

        node.kill()
        self.assertEqual(b"", answer(node.port))
        node.start()
        self.assertIn("neo", node.ctl("list_users"))

        folder = Path(node.variables[FOLDER_VARIABLE])
        node.stop()
        self.assertEqual(b"", answer(node.port))
        self.assertFalse(folder.exists())

    def test_a_start_that_fails_says_why_and_leaves_nothing(self) -> None:
        """The end of the log is in the error."""
        node = self.node("no_such_setting = 1")
        folder = Path(node.variables[FOLDER_VARIABLE])
        error = self.assertRaises(RabbitMQError, node.start)
        self.assertIn("RabbitMQ ended before it was up", str(error))
        self.assertIn("no_such_setting", str(error))
        self.assertFalse(folder.exists())

    def test_a_node_ends_with_a_process_that_is_killed(self) -> None:
        """Nothing runs on when there is nobody left to stop it."""
        with subprocess.Popen(
            [sys.executable, "-c", KILLED], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            folder = NodeFolder.open(Path(process.stdout.readline().strip()))
            self.addCleanup(folder.remove)
            addresses = [("127.0.0.1", port) for port in (folder.ports.amqp, folder.ports.epmd)]
            connections = [socket.create_connection(address, SECONDS) for address in addresses]
            process.communicate("die\n")
        self.assertEqual(-signal.SIGKILL, process.returncode)
        for address, connection in zip(addresses, connections, strict=True):
            # RabbitMQ's sockets are reset when it dies, epmd's are closed.
            with connection, contextlib.suppress(ConnectionResetError):
                self.assertEqual(b"", connection.recv(1))
            self.assertTrue(refuses(address), address)
