"""The command line of the embedded broker."""

from __future__ import annotations

import os
import sys
from io import StringIO

from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.cli.broker_options import BrokerOptions
from crew_tx.cli.listening import is_loopback
from crew_tx.cli.settings import BROKER_OPTIONS, SETTINGS

MIB = 1024 * 1024
DEFAULTS = {
    "listen": "tcp:5672:interface=127.0.0.1",
    "user": "guest",
    "password-file": None,
    "vhost": ("/",),
    "memory-limit": 256 * MIB,
    "heartbeat": 60,
    "max-message-size": 16 * MIB,
    "verbose": False,
    "logging": "info",
    "log-format": "text",
}


class BrokerOptionsTests(SynchronousTestCase):
    """``twistd crew-broker``, in an environment of one's own."""

    def setUp(self) -> None:
        self.environment: dict[str, str] = {}
        self.err = StringIO()
        self.patch(os, "environ", self.environment)
        self.patch(sys, "__stderr__", self.err)
        self.patch(sys, "argv", ["/usr/bin/broker"])

    def parsed(self, *arguments: str) -> BrokerOptions:
        options = BrokerOptions()
        options.parseOptions(arguments)
        return options

    def refused(self, *arguments: str) -> str:
        """What is printed on stderr; one line, whatever it is."""
        error = self.assertRaises(SystemExit, self.parsed, *arguments)
        self.assertEqual(2, error.code)
        text = self.err.getvalue()
        self.err.truncate(0)
        self.err.seek(0)
        self.assertEqual(1, text.count("\n"), text)
        return text

    def password_file(self, content: str = "secret\n") -> str:
        path = os.path.abspath(self.mktemp())
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
        os.chmod(path, 0o600)
        return path

    def test_without_a_word_it_is_for_guest_on_this_machine(self) -> None:
        """All settings have their defaults."""
        options = self.parsed()
        self.assertEqual(DEFAULTS, options.settings)
        self.assertEqual("guest", options.password)

    def test_every_option_is_read(self) -> None:
        """In its long form; a virtual host may be given more than once."""
        path = self.password_file()
        options = self.parsed(
            "--listen=tcp:1",
            "--user=u",
            f"--password-file={path}",
            "--vhost=a",
            "--vhost=b",
            "--vhost=a",
            "--memory-limit=64MiB",
            "--heartbeat=0",
            "--max-message-size=1024",
            "--verbose",
            "--logging=warn",
            "--log-format=json",
        )
        expected = {
            "listen": "tcp:1",
            "user": "u",
            "password-file": path,
            "vhost": ("a", "b"),
            "memory-limit": 64 * MIB,
            "heartbeat": 0,
            "max-message-size": 1024,
            "verbose": True,
            "logging": "warn",
            "log-format": "json",
        }
        self.assertEqual(expected, options.settings)
        self.assertEqual({option.name for option in BROKER_OPTIONS}, set(expected))
        self.assertEqual("secret", options.password)

    def test_the_environment_has_the_same(self) -> None:
        """What is about logs is for all programs; the command line comes first."""
        self.environment |= {
            "CREW_BROKER_LISTEN": "tcp:1:interface=127.0.0.1",
            "CREW_BROKER_VHOST": "a, b",
            "CREW_BROKER_HEARTBEAT": "5",
            "CREW_LOGGING": "warn",
        }
        settings = self.parsed("--heartbeat=6").settings
        expected = {"listen": "tcp:1:interface=127.0.0.1", "vhost": ("a", "b"), "heartbeat": 6}
        self.assertEqual({**DEFAULTS, **expected, "logging": "warn"}, settings)

    def test_what_a_worker_is_told_is_not_meant_for_it(self) -> None:
        """``CREW_BROKER`` is the URL that workers and clients connect to."""
        self.environment |= {
            "CREW_BROKER": "amqp://elsewhere",
            "CREW_VHOST": "v",
            "CREW_MAX_MESSAGE_SIZE": "1",
        }
        self.assertEqual(DEFAULTS, self.parsed().settings)

    def test_no_variable_means_two_things(self) -> None:
        """But those about logs, which mean the same."""
        logs = {"CREW_VERBOSE", "CREW_LOGGING", "CREW_LOG_FORMAT"}
        workers = {setting.variable for setting in SETTINGS.values()}
        self.assertEqual(logs, workers & {setting.variable for setting in BROKER_OPTIONS})

    def test_guest_is_for_this_machine_alone(self) -> None:
        """The refusal has two remedies; and each is one."""
        self.environment["CREW_BROKER_LISTEN"] = "tcp:5672"
        text = self.refused()
        self.assertIn(
            "CREW_BROKER_LISTEN in the environment: others than this machine could connect as guest", text
        )
        self.assertIn("add :interface=127.0.0.1, or let another user in by --user and --password-file", text)
        self.refused(f"--password-file={self.password_file()}")
        self.parsed("--listen=tcp:5672:interface=127.0.0.1")
        self.parsed("--user=u", f"--password-file={self.password_file()}")

    def test_a_user_needs_a_password(self) -> None:
        """From a file; nobody guesses one that is not there."""
        self.assertIn(
            "--user: needs a password; write it into a file for --password-file", self.refused("--user=u")
        )
        self.assertIn("is empty", self.refused("--user=u", f"--password-file={self.password_file('')}"))
        self.assertIn("all users of the machine would see it", self.refused("--password=x"))

    def test_wrong_values_are_refused_by_name(self) -> None:
        """With what would be right."""
        for argument, words in (
            ("--memory-limit=1", "--memory-limit: takes a number of bytes from 1048576"),
            ("--heartbeat=-1", "--heartbeat: takes a whole number from 0 to 65535"),
            ("--vhost=,", "--vhost: is empty"),
            ("--listen=nowhere", "--listen: 'nowhere' is no endpoint"),
            ("--unknown", "unknown"),
            ("tcp:5672", "takes options only, no 'tcp:5672'"),
        ):
            self.assertIn(words, self.refused(argument))

    def test_the_endpoint_is_twisteds(self) -> None:
        """Of the text."""
        self.assertIsInstance(
            self.parsed("--listen=tcp:1:interface=127.0.0.1").endpoint(None), TCP4ServerEndpoint
        )


class LoopbackTests(SynchronousTestCase):
    """Whom an endpoint lets in."""

    def test_only_this_machine(self) -> None:
        """Its addresses, or no network at all."""
        for endpoint in (
            "tcp:5672:interface=127.0.0.1",
            "tcp:port=5672:interface=127.1.2.3:backlog=5",
            "tcp:5672:interface=localhost",
            "tcp6:5672:interface=\\:\\:1",
            "ssl:5671:interface=127.0.0.1",
            "unix:/run/crew",
        ):
            self.assertTrue(is_loopback(endpoint), endpoint)

    def test_others_too(self) -> None:
        """Or perhaps; the last word counts, as it does for Twisted."""
        for endpoint in (
            "tcp:5672",
            "tcp:5672:interface=",
            "tcp:5672:interface=0.0.0.0",
            "tcp:5672:interface=192.0.2.1",
            "tcp:5672:interface=127.0.0.1:interface=0.0.0.0",
            "tcp:5672:interface=127.0.0.1:inter\\face=0.0.0.0",
            "tcp:5672:interface=127.0.0.1\\:x",
            "tcp6:5672:interface=\\:\\:",
            "systemd:domain=INET:index=0",
            "unixes:interface=example.net",
        ):
            self.assertFalse(is_loopback(endpoint), endpoint)
