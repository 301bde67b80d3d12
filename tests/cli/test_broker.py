"""``twistd crew-broker`` as a program, without a socket."""

from __future__ import annotations

import atexit
import errno
import os
import sys
from io import StringIO
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.uri import parse
from crew_tx.cli.broker import BrokerProgram, Options, makeService
from crew_tx.cli.ending import Ending


class Reactor(MemoryReactorClock):
    """
    :ivar error: the number of the error with which listening fails.
    """

    error: int | None = None

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if self.error is not None:
            raise CannotListenError(interface, port, OSError(self.error, os.strerror(self.error)))
        return super().listenTCP(port, factory, backlog, interface)


class BrokerProgramTests(SynchronousTestCase):
    """What the options make of it."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.err = StringIO()
        self.patch(os, "environ", {})
        self.patch(sys, "__stderr__", self.err)
        self.patch(sys, "argv", ["/usr/bin/broker"])

    def options(self, *arguments: str) -> Options:
        options = Options()
        options.parseOptions(arguments)
        return options

    def program(self, *arguments: str) -> BrokerProgram:
        self.ending = Ending(self.reactor, "broker", set_handler=lambda number, handler: None)
        return BrokerProgram(self.reactor, self.ending, self.options(*arguments))

    def started(self, *arguments: str) -> list[str]:
        """What is logged at the start."""
        with capturedLogs() as events:
            self.program(*arguments).startService()
        return [event["log_format"].format(**event) for event in events]

    def password_file(self) -> str:
        path = os.path.abspath(self.mktemp())
        with open(path, "w") as file:
            file.write("secret")
        os.chmod(path, 0o600)
        return path

    def test_it_listens_where_clients_look_for_it(self) -> None:
        """On this machine alone; and says so, by a URL that can be copied."""
        said = self.started()
        [(port, _, _, interface)] = self.reactor.tcpServers
        self.assertEqual((5672, "127.0.0.1"), (port, interface))
        url = said[0].removeprefix("the broker listens: ")
        self.assertTrue(url.startswith("amqp://"), url)
        self.assertEqual(
            ("guest", "guest", "/"), (parse(url).username, parse(url).password, parse(url).vhost)
        )
        self.assertIn("it is for development, and keeps nothing when it ends", said[1])

    def test_a_users_password_is_not_shown(self) -> None:
        """The name is, and the first virtual host."""
        said = self.started("--user=u", f"--password-file={self.password_file()}", "--vhost=a", "--vhost=b")
        self.assertRegex(said[0], r"^the broker listens: amqp://u@[^:@]+:\d+/a$")
        self.assertNotIn("secret", "".join(said))

    def test_its_broker_is_as_the_options_say(self) -> None:
        """As far as it shows."""
        program = self.program(
            "--user=u",
            f"--password-file={self.password_file()}",
            "--vhost=a",
            "--vhost=b",
            "--memory-limit=2MiB",
        )
        broker = program.broker.broker
        self.assertEqual(["a", "b"], list(broker.vhosts))
        self.assertEqual(2 * 1024 * 1024, program.broker.status().memory_limit)
        logins = [("u", "secret"), ("u", "guest"), ("guest", "guest")]
        self.assertEqual([True, False, False], [broker.is_user(*login) for login in logins])

    def test_its_clients_are_proposed_what_the_options_say(self) -> None:
        """The heartbeat, and the size of messages."""
        program = self.program("--heartbeat=7", "--max-message-size=2048")
        protocol = program.broker.factory.buildProtocol(None)
        assert protocol is not None
        self.assertEqual(2048, protocol.session.max_message_size)
        self.assertEqual(7, protocol.session._proposed_heartbeat)

    def test_a_port_that_is_taken_ends_it_with_1(self) -> None:
        """Saying who may have it, and what to do; no other port is taken instead."""
        self.reactor.error = errno.EADDRINUSE
        self.started()
        self.assertEqual(1, self.ending.code)
        text = self.err.getvalue()
        self.assertIn(
            "can't listen on 127.0.0.1, port 5672: Address already in use; a RabbitMQ or another", text
        )
        self.assertIn("--listen tcp:5673:interface=127.0.0.1", text)
        self.assertEqual(([], True), (self.reactor.tcpServers, self.ending.stopping))

    def test_an_address_that_it_can_never_have_ends_it_with_78(self) -> None:
        """There is no use in another start."""
        for number, words in ((errno.EACCES, "above 1023"), (errno.EADDRNOTAVAIL, "address of this machine")):
            self.reactor.error = number
            self.started()
            self.assertEqual(78, self.ending.code)
            self.assertIn(words, self.err.getvalue())

    def test_other_errors_end_it_with_1(self) -> None:
        """Whatever they are."""
        self.reactor.error = errno.EIO
        self.started()
        self.assertEqual(1, self.ending.code)

    def test_the_plugin_makes_it(self) -> None:
        """And sees to the exit code of twistd."""
        hooks: list[Any] = []
        self.patch(atexit, "register", hooks.append)
        program = makeService(self.options())
        self.assertIsInstance(program, BrokerProgram)
        self.assertEqual((1, None), (len(hooks), program.observer))
