"""Who is heard on what a worker is told."""

from __future__ import annotations

import os

from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.cli.precedence import COMMAND_LINE, ENVIRONMENT, FILE, Given, environment_of, gather, values_of
from crew_tx.errors import ConfigurationError

DEFAULTS = {
    "broker": None,
    "host": None,
    "port": None,
    "username": None,
    "password-file": None,
    "vhost": None,
    "tls-ca": None,
    "tls-cert": None,
    "tls-key": None,
    "signing-keys": None,
    "threads": 8,
    "forks": 0,
    "prefetch": None,
    "max-stuck": None,
    "on-refusal": "end",
    "processes": None,
    "process-calls": 1000,
    "max-message-size": 16 * 1024 * 1024,
    "allow-pickle": False,
    "allow-eval": False,
    "allow-kill": False,
    "deny-steer": False,
    "monitor": None,
    "wsgi": None,
    "as": None,
    "tracing": False,
    "queue-type": "classic",
    "name": "worker",
    "config": None,
    "verbose": False,
    "logging": "info",
    "log-format": "text",
    "drain": 30.0,
    "ack": "written",
    "ack-timeout": 1800.0,
    "services": (),
}


class GatherTests(SynchronousTestCase):
    """The strongest text of each."""

    def test_the_command_line_comes_before_the_environment_and_that_before_the_file(self) -> None:
        """Each where the one before is silent."""
        given = gather(
            {"threads": "1"},
            {"CREW_THREADS": "2", "CREW_FORKS": "2", "CREW_QUEUE_TYPE": "quorum", "HOME": "/"},
            {"threads": 3, "forks": 3, "prefetch": 3, "drain": 0.5},
            "c.toml",
        )
        self.assertEqual(
            {
                "threads": Given("1", "--threads", COMMAND_LINE),
                "forks": Given("2", "CREW_FORKS in the environment", ENVIRONMENT),
                "queue-type": Given("quorum", "CREW_QUEUE_TYPE in the environment", ENVIRONMENT),
                "prefetch": Given("3", "prefetch in [worker] of c.toml", FILE),
                "drain": Given("0.5", "drain in [worker] of c.toml", FILE),
            },
            given,
        )

    def test_an_empty_variable_counts_as_none(self) -> None:
        """Compose files leave them behind."""
        self.assertEqual({}, gather({}, {"CREW_THREADS": ""}, {}))

    def test_what_kubernetes_writes_of_a_service_named_crew_is_passed_over(self) -> None:
        """Whoever reads the log knows why, and what to do; weaker ports are heard."""
        for link in ("tcp://10.0.0.1:5672", "udp://[fd00::1]:53"):
            with capturedLogs() as logs:
                given = gather({}, {"CREW_PORT": link, "CREW_SERVICE_PORT": "5672"}, {"port": 7})
            self.assertEqual("7", given["port"].text)
            [event] = logs
            self.assertEqual((LogLevel.info, "CREW_PORT"), (event["log_level"], event["variable"]))
            self.assertIn(link, event["text"])
            self.assertIn("enableServiceLinks", event["log_format"])

    def test_only_a_port_is_passed_over_and_only_in_that_form(self) -> None:
        """What somebody wrote is refused instead."""
        for variable, text in (
            ("CREW_PORT", "tcp://me:secret@host:5672"),
            ("CREW_PORT", "tcp://host"),
            ("CREW_PORT", "amqp://host:5672"),
            ("CREW_HOST", "tcp://10.0.0.1:5672"),
            ("CREW_THREADS", "tcp://10.0.0.1:5672"),
        ):
            with capturedLogs() as logs:
                error = self.assertRaises(ConfigurationError, values_of, gather({}, {variable: text}, {}))
            self.assertIn(f"{variable} in the environment: takes a ", str(error))
            self.assertEqual([], logs)

    def test_a_broker_makes_weaker_parts_of_it_void(self) -> None:
        """Else another host's name, or its password, would go to this one."""
        given = gather(
            {"broker": "amqp://a", "port": "1"}, {"CREW_HOST": "b"}, {"password-file": "p", "tls-ca": "c"}
        )
        self.assertEqual({"broker", "port"}, set(given))

    def test_a_broker_leaves_equal_and_stronger_parts(self) -> None:
        """They change it."""
        given = gather({"host": "b"}, {"CREW_BROKER": "amqp://a", "CREW_PORT": "1"}, {"vhost": "v"})
        self.assertEqual({"broker", "host", "port"}, set(given))

    def test_the_stronger_of_verbose_and_logging_counts(self) -> None:
        """They are about one thing."""
        self.assertEqual({"verbose"}, set(gather({"verbose": "yes"}, {"CREW_LOGGING": "error"}, {})))
        self.assertEqual({"logging"}, set(gather({"logging": "warn"}, {"CREW_VERBOSE": "1"}, {})))

    def test_the_types_of_files_become_texts(self) -> None:
        """Lists of brokers and services, too."""
        file = {"broker": ["amqp://a", "amqp://b"], "services": ["a.py"], "verbose": True, "port": 1}
        given = gather({}, {}, file)
        texts = {name: each.text for name, each in given.items()}
        self.assertEqual(
            {"broker": "amqp://a,amqp://b", "services": "a.py", "verbose": "yes", "port": "1"}, texts
        )

    def test_an_unknown_key_of_the_file_is_refused(self) -> None:
        """With the known ones; config is not one of them."""
        for key in ("thread", "config", "max_stuck"):
            error = self.assertRaises(ConfigurationError, gather, {}, {}, {key: 1}, "c.toml")
            self.assertIn(
                f"c.toml: [worker] has an unknown key '{key}'; known are ack, ack-timeout, allow-eval, ",
                str(error),
            )
            self.assertNotIn("config,", str(error))

    def test_a_table_in_the_file_is_refused(self) -> None:
        """No setting has parts."""
        error = self.assertRaises(ConfigurationError, gather, {}, {}, {"host": {"a": 1}}, "c.toml")
        self.assertEqual("host in [worker] of c.toml: takes a text or a number, not a dict", str(error))


class ValuesTests(SynchronousTestCase):
    """Texts become values."""

    def test_what_is_not_given_has_its_default(self) -> None:
        """All of it, here."""
        self.assertEqual(DEFAULTS, values_of({}))

    def test_texts_are_read(self) -> None:
        """Into whole numbers, seconds, words and lists."""
        given = gather(
            {"port": "5673", "threads": "2", "drain": "1.5", "log-format": "JSON"},
            {"CREW_MAX_STUCK": "0", "CREW_SERVICES": "a.py,b"},
            {"queue-type": "quorum", "name": "x", "logging": "warning"},
        )
        changed = {
            "port": 5673,
            "threads": 2,
            "drain": 1.5,
            "log-format": "json",
            "max-stuck": 0,
            "services": ("a.py", "b"),
            "queue-type": "quorum",
            "name": "x",
            "logging": "warn",
        }
        self.assertEqual({**DEFAULTS, **changed}, values_of(given))

    def test_verbose_is_debug(self) -> None:
        """Unless a level is given as well."""
        self.assertEqual("debug", values_of(gather({"verbose": "yes"}, {}, {}))["logging"])
        both = {"verbose": "yes", "logging": "info"}
        self.assertEqual("info", values_of(gather(both, {}, {}))["logging"])

    def test_an_error_says_where_the_text_was_found(self) -> None:
        """The option, the variable, or the file and its key."""
        for given, where in (
            (gather({"threads": "x"}, {}, {}), "--threads"),
            (gather({}, {"CREW_THREADS": "x"}, {}), "CREW_THREADS in the environment"),
            (gather({}, {}, {"threads": "x"}, "c.toml"), "threads in [worker] of c.toml"),
        ):
            error = self.assertRaises(ConfigurationError, values_of, given)
            self.assertEqual(f"{where}: takes a whole number from 1 to 10000, not 'x'", str(error))


class EnvironmentTests(SynchronousTestCase):
    """Settings handed to another process."""

    def test_it_says_the_same(self) -> None:
        """Wherever each came from."""
        given = gather({"threads": "2"}, {"CREW_BROKER": "amqp://u:p@h"}, {"queue-type": "quorum"})
        self.assertEqual(
            {"CREW_THREADS": "2", "CREW_BROKER": "amqp://u:p@h", "CREW_QUEUE_TYPE": "quorum"},
            environment_of(given, values_of(given)),
        )

    def test_paths_are_absolute_and_the_file_is_left_out(self) -> None:
        """What the file says is in the environment already."""
        path = self.mktemp()
        with open(path, "w"):
            pass
        given = gather({"config": path, "password-file": path}, {}, {"services": ["a.py"]})
        self.assertEqual(
            {"CREW_PASSWORD_FILE": os.path.abspath(path)}, environment_of(given, values_of(given))
        )
