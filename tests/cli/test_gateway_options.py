"""The command line of the gateway."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.cli.gateway_options import GatewayOptions
from crew_tx.cli.gateway_settings import GATEWAY_OPTIONS, REPEATED
from crew_tx.web.access import Exposed
from crew_tx.web.limits import Limits

SECRET = "follow-the-white-rabbit"


class GatewayOptionsTests(SynchronousTestCase):
    """What it can be told."""

    def setUp(self) -> None:
        clean = {name: text for name, text in os.environ.items() if not name.startswith("CREW_")}
        self.patch(os, "environ", clean)
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def options(self, *arguments: str) -> GatewayOptions:
        """The options of a command line; errors are raised."""
        options = GatewayOptions()
        with mock.patch.object(GatewayOptions, "refuse", side_effect=_raise):
            options.parseOptions(list(arguments))
        return options

    def write(self, name: str, text: str, mode: int = 0o600) -> str:
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    def assert_refused(self, words: str, *arguments: str) -> None:
        error = self.assertRaises(AssertionError, self.options, *arguments)
        self.assertIn(words, str(error))
        self.assertNotIn(SECRET, str(error))

    def test_by_default_nothing_is_exposed_and_only_this_machine_may_ask(self) -> None:
        """With the limits as they are in the code."""
        options = self.options()
        self.assertEqual("tcp:8080:interface=127.0.0.1", options.settings["listen"])
        self.assertEqual((Exposed(), Limits()), (options.exposed, options.limits))
        self.assertFalse(options.credentials)
        self.assertEqual({"127.0.0.1", "localhost", "[::1]"}, options.hosts)
        self.assertEqual(["amqp://guest@127.0.0.1:5672/%2F"], [str(url) for url in options.brokers])

    def test_names_can_be_given_again(self) -> None:
        """On the command line, in the environment and in the file."""
        options = self.options("--allow-task", "a", "--allow-task=b.*", "--allow-channel=c", "--allow-host=d")
        self.assertEqual(Exposed(("a", "b.*"), ("c",)), options.exposed)
        self.assertIn("d", options.hosts or ())
        os.environ["CREW_GATEWAY_ALLOW_TASK"] = "e,f"
        self.assertEqual(("e", "f"), self.options().exposed.tasks)
        path = self.write("crew.toml", '[gateway]\nallow-channel = ["g", "h"]\nmax-wait = 5\n')
        options = self.options("--config", path)
        self.assertEqual((("g", "h"), 5.0), (options.exposed.channels, options.limits.max_wait))

    def test_other_machines_need_a_credential(self) -> None:
        """The remedy is told."""
        for listen in (
            "tcp:8080",
            "tcp:8080:interface=0.0.0.0",
            "tcp:80:interface=10.0.0.1",
            "tcp6:8080:interface=\\:\\:",
        ):
            self.assert_refused("give --tokens or --users", "--listen", listen)
        self.assert_refused("no endpoint", "--listen", "rabbit:hole")
        path = self.write("tokens", f"neo:{SECRET}\n")
        for option in ("--tokens", "--users"):
            options = self.options("--listen", "tcp:8080", option, path)
            self.assertTrue(options.credentials)
            self.assertIsNone(options.hosts)

    def test_where_it_is_watched(self) -> None:
        """On its own site; elsewhere where it is told so, which has to say who may connect."""
        self.assertIsNone(self.options().settings["monitor"])
        endpoint = "tcp:9465:interface=127.0.0.1"
        self.assertEqual(endpoint, self.options("--monitor", endpoint).settings["monitor"])
        os.environ["CREW_GATEWAY_MONITOR"] = endpoint
        self.assertEqual(endpoint, self.options().settings["monitor"])
        self.assert_refused("interface=127.0.0.1", "--monitor", "tcp:9465")

    def test_a_site_alone_is_for_other_machines_as_it_is(self) -> None:
        """Credentials would not keep anybody from it; beside tasks or channels they are needed for these."""
        site = ("--wsgi", "shop", "--listen", "tcp:8080")
        self.assertFalse(self.options(*site).credentials)
        for option in ("--allow-task", "--allow-channel"):
            self.assert_refused("give --tokens or --users", *site, option, "a")

    def test_files_of_credentials_that_are_wrong(self) -> None:
        """Each is named."""
        self.assert_refused("--tokens: the file", "--tokens", "/nowhere")
        self.assert_refused("line 1", "--tokens", self.write("a", f"{SECRET}\n"))
        self.assert_refused("has no credential", "--users", self.write("b", ""))
        self.assert_refused("is over", "--users", self.write("c", "#" * 1_100_000))
        (self.folder / "d").write_bytes(b"\xff")
        self.assert_refused("not UTF-8", "--users", str(self.folder / "d"))

    def test_what_is_wrong_is_named(self) -> None:
        """With what it takes."""
        self.assert_refused("--max-wait: takes a number of seconds", "--max-wait", "-1")
        self.assert_refused("above 0 and up to 86400", "--max-wait", "0")
        self.assert_refused("above 0 and up to 86400", "--keep", "86401")
        self.assert_refused("--max-body: takes a number of bytes", "--max-body", "1")
        self.assert_refused("takes options only", "x")
        self.assert_refused("has no table [gateway]", "--config", self.write("w.toml", "[worker]\n"))
        path = self.write("x.toml", "[gateway]\nallow-all = true\n")
        self.assert_refused("unknown key 'allow-all'", "--config", path)

    def test_hosts_have_no_port(self) -> None:
        """No request's host would be the same."""
        for name in ("crew.local:8080", "http://crew.local", "crew local"):
            self.assert_refused("--allow-host: ", "--allow-host", name)
        self.assertIn("crew.local", self.options("--allow-host=Crew.local").hosts or ())

    def test_operators_have_a_credential(self) -> None:
        """Else there would be none, and nobody would say why."""
        self.assert_refused("--operator: nobody is 'trinity'", "--operator", "trinity")
        path = self.write("tokens", f"neo:{SECRET}\n")
        self.assert_refused("--operator: nobody is 'trinity'", "--operator", "trinity", "--tokens", path)
        for option in ("--tokens", "--users"):
            self.assertEqual(("neo",), self.options("--operator=neo", option, path).settings["operator"])

    def test_every_option_has_a_variable_of_its_own(self) -> None:
        """The broker's and the logs' are those of all programs."""
        for setting in GATEWAY_OPTIONS:
            self.assertIn(setting.prefix, ("CREW", "CREW_GATEWAY"))
        names = {setting.name for setting in GATEWAY_OPTIONS}
        self.assertEqual(len(GATEWAY_OPTIONS), len(names))
        self.assertLess(set(REPEATED), names)


def _raise(message: str) -> Any:
    raise AssertionError(message)
