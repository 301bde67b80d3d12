"""The command line of a worker."""

from __future__ import annotations

import os
import sys
from io import StringIO

from twisted.trial.unittest import SynchronousTestCase

from crew_tx._version import __version__
from crew_tx.cli.options import ScriptOptions, WorkerOptions
from tests.cli.test_precedence import DEFAULTS


class OptionsTestCase(SynchronousTestCase):
    """Command lines in an environment of one's own."""

    kind: type[WorkerOptions] = WorkerOptions

    def setUp(self) -> None:
        self.environment: dict[str, str] = {}
        self.err = StringIO()
        self.patch(os, "environ", self.environment)
        self.patch(sys, "__stderr__", self.err)
        self.patch(sys, "argv", ["/usr/bin/work.py"])

    def parsed(self, *arguments: str) -> WorkerOptions:
        options = self.kind()
        options.parseOptions(arguments)
        return options

    def refused(self, *arguments: str) -> str:
        """What is printed on stderr; one line, whatever it is."""
        error = self.assertRaises(SystemExit, self.parsed, *arguments)
        self.assertEqual(2, error.code)
        text = self.err.getvalue()
        self.assertEqual(1, text.count("\n"), text)
        self.assertTrue(text.startswith("work.py: "), text)
        return text

    def file(self, content: str) -> str:
        path = os.path.abspath(self.mktemp())
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
        return path


class WorkerOptionsTests(OptionsTestCase):
    """``twistd crew-worker``."""

    def test_services_are_what_is_left(self) -> None:
        """All settings have their defaults."""
        options = self.parsed("a.py", "b.c")
        self.assertEqual(("a.py", "b.c"), options.services)
        self.assertEqual(DEFAULTS, options.settings)

    def test_every_option_is_read(self) -> None:
        """In its long form."""
        path = self.file("x")
        config = self.file("[worker]")
        given = {
            "broker": "amqps://a:b@c:1/d",
            "host": "h",
            "port": "1",
            "username": "u",
            "password-file": path,
            "vhost": "v",
            "tls-ca": path,
            "tls-cert": path,
            "tls-key": path,
            "on-refusal": "wait",
            "signing-keys": self.file(f"k = {'A' * 44}"),
            "threads": "1",
            "forks": "2",
            "prefetch": "3",
            "max-stuck": "4",
            "processes": "5",
            "process-calls": "6",
            "max-message-size": "5000",
            "monitor": "unix:/m",
            "wsgi": "shop.wsgi:application",
            "as": "shop",
            "queue-type": "quorum",
            "name": "n",
            "config": config,
            "logging": "error",
            "log-format": "json",
            "ack": "confirmed",
            "ack-timeout": "60",
            "drain": "0",
        }
        arguments = [f"--{name}={text}" for name, text in given.items()]
        names = ("verbose", "allow-pickle", "allow-eval", "allow-kill", "deny-steer", "tracing")
        options = self.parsed(*arguments, *(f"--{name}" for name in names), "a.py")
        numbers = {"port": 1, "threads": 1, "forks": 2, "prefetch": 3, "max-stuck": 4, "drain": 0.0}
        numbers |= {"processes": 5, "process-calls": 6}
        numbers["max-message-size"] = 5000
        numbers["ack-timeout"] = 60.0
        flags = dict.fromkeys(names, True)
        self.assertEqual({**given, **numbers, **flags, "services": ()}, options.settings)
        self.assertEqual(["amqps://u@h:1/v"], [str(url) for url in options.brokers])
        assert options.signing_keys is not None
        self.assertEqual(["k"], options.signing_keys.ids)

    def test_the_seeds_short_options_are_there(self) -> None:
        """``-H HOST -P PORT -v``."""
        options = self.parsed("-H", "h", "-P", "7", "-v", "a.py")
        self.assertEqual(["amqp://guest@h:7/%2F"], [str(url) for url in options.brokers])
        self.assertEqual("debug", options.settings["logging"])

    def test_the_environment_is_heard(self) -> None:
        """And handed on."""
        self.environment.update(CREW_THREADS="3", CREW_BROKER="amqp://u:p@h", CREW_SERVICES="a.py")
        options = self.parsed("--threads=2")
        self.assertEqual(2, options.settings["threads"])
        self.assertEqual(("a.py",), options.services)
        self.assertEqual({"CREW_THREADS": "2", "CREW_BROKER": "amqp://u:p@h"}, options.environment)

    def test_the_file_is_heard(self) -> None:
        """It may name the services, too."""
        path = self.file('[worker]\nthreads = 3\nservices = ["a.py"]\n[other]\nx = 1\n')
        for arguments, environment in (((f"--config={path}",), {}), ((), {"CREW_CONFIG": path})):
            self.environment.clear()
            self.environment.update(environment)
            options = self.parsed(*arguments)
            self.assertEqual((3, ("a.py",)), (options.settings["threads"], options.services))

    def test_services_of_the_command_line_replace_those_of_the_file(self) -> None:
        """As with every setting."""
        path = self.file('[worker]\nservices = ["a.py"]')
        self.assertEqual(("b.py",), self.parsed(f"--config={path}", "b.py").services)

    def test_a_file_that_cannot_be_used_is_refused(self) -> None:
        """Missing, no TOML, without the table, with an unknown key."""
        for path, words in (
            ("/nowhere/c.toml", "--config: the file /nowhere/c.toml can't be read: No such file"),
            (self.file("threads"), "is not TOML: "),
            (self.file("threads = 1"), "has no table [worker]"),
            (
                self.file("[worker]\nthread = 1"),
                "[worker] has an unknown key 'thread'; known are ack, ack-timeout, allow-eval, ",
            ),
        ):
            self.err.truncate(0)
            self.err.seek(0)
            self.assertIn(words, self.refused(f"--config={path}", "a.py"))

    def test_a_wrong_option_ends_the_process_with_2(self) -> None:
        """With one line on stderr that leads to the help."""
        self.assertEqual(
            "work.py: --threads: takes a whole number from 1 to 10000, not 'x' (see work.py --help)\n",
            self.refused("--threads=x", "a.py"),
        )

    def test_an_unknown_option_is_refused(self) -> None:
        """As all wrong use."""
        self.assertIn("work.py: option --nope not recognized", self.refused("--nope"))

    def test_no_service_is_refused(self) -> None:
        """There would be nothing to answer."""
        self.assertIn("no SERVICE: give the path of a .py file", self.refused())

    def test_an_option_behind_a_service_is_refused(self) -> None:
        """It would be taken for another one."""
        self.assertIn("--forks=2: options come before the first SERVICE", self.refused("a.py", "--forks=2"))

    def test_a_password_is_not_taken_and_not_shown(self) -> None:
        """Nor is it taken for the beginning of --password-file."""
        text = self.refused("--password=secret", "a.py")
        self.assertIn("write it into a file for --password-file", text)
        self.assertNotIn("secret", text)

    def test_help_and_version_are_shown(self) -> None:
        """On stdout, and the process ends well."""
        for argument, words in (("-h", "--queue-type="), ("--version", f"crew_tx {__version__}\n")):
            out = StringIO()
            self.patch(sys, "stdout", out)
            error = self.assertRaises(SystemExit, self.parsed, argument)
            self.assertEqual(0, error.code)
            self.assertIn(words, out.getvalue())

    def test_has_tells_what_was_given(self) -> None:
        """Defaults are not."""
        options = self.parsed("--logging=info", "a.py")
        self.assertTrue(options.has("verbose", "logging"))
        self.assertFalse(options.has("verbose", "threads"))


class ScriptOptionsTests(OptionsTestCase):
    """``python worker.py``."""

    kind = ScriptOptions

    def test_no_service_is_needed(self) -> None:
        """The script has the tasks."""
        options = self.parsed("-H", "h", "-P", "7")
        self.assertEqual(["amqp://guest@h:7/%2F"], [str(url) for url in options.brokers])

    def test_a_service_is_refused(self) -> None:
        """It would not be loaded."""
        self.assertIn("takes no SERVICE, such as 'a.py'", self.refused("a.py"))

    def test_its_usage_names_the_script(self) -> None:
        """As the seed's does."""
        self.assertTrue(str(self.kind()).startswith("Usage: work.py [options]\n"))
