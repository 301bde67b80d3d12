"""Credentials, and what is exposed."""

from __future__ import annotations

import hashlib

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import ConfigurationError
from crew_tx.web.access import Exposed, allowed_hosts, host_of, read_credentials

SECRET = "follow-the-white-rabbit"
DIGEST = hashlib.sha256(SECRET.encode()).digest()


class CredentialFileTests(SynchronousTestCase):
    """Files of names and secrets."""

    def test_secrets_are_kept_as_digests(self) -> None:
        """Written in the clear or so; colons may be in them."""
        text = f"# who may\n\nneo:{SECRET}\n trinity:sha256:{DIGEST.hex().upper()}\nm:a:b:c:d:e:f:g:h:i:j\n"
        found = read_credentials(text, "file")
        self.assertEqual((DIGEST, DIGEST), (found["neo"], found["trinity"]))
        self.assertEqual(hashlib.sha256(b"a:b:c:d:e:f:g:h:i:j").digest(), found["m"])

    def test_a_hash_is_never_a_secret(self) -> None:
        """However it is written: else who reads the file has it."""
        for text in (f"neo: {SECRET}", f"neo: sha256:{DIGEST.hex()}", f"neo:SHA256:{DIGEST.hex()}"):
            self.assertEqual({"neo": DIGEST}, read_credentials(text, "file"))

    def test_what_is_wrong_is_named_and_not_shown(self) -> None:
        """The line, and the remedy."""
        for text, words in (
            ("", "has no credential"),
            ("neo", "line 1: write NAME:SECRET"),
            (f"\n{SECRET} x:{SECRET}", "line 2: write NAME:SECRET"),
            ("neo:short", "line 1: a secret has 16"),
            ("neo:sha256:abc", "line 1: a secret has 16"),
            ("neo: Sha256:" + "a" * 63, "line 1: a secret has 16"),
            (f"neo:{SECRET}\nneo:{SECRET}", "line 2: the name neo is there twice"),
        ):
            error = self.assertRaises(ConfigurationError, read_credentials, text, "file")
            self.assertIn(words, str(error))
            self.assertNotIn(SECRET, str(error))


class ExposedTests(SynchronousTestCase):
    """Names and patterns."""

    def test_nothing_is_there_that_is_not_named(self) -> None:
        """And names are what they are, letter by letter."""
        self.assertFalse(Exposed().has_task("a"))
        exposed = Exposed(("a", "b.*", "c?"), ("news",))
        for name, is_there in (
            ("a", True),
            ("A", False),
            ("b.x.y", True),
            ("b", False),
            ("c1", True),
            ("c12", False),
        ):
            self.assertEqual(is_there, exposed.has_task(name), name)
        self.assertEqual((False, True), (exposed.has_channel("a"), exposed.has_channel("news")))
        self.assertEqual(("a",), exposed.named_tasks)

    def test_patterns_of_the_broker_are_no_channels(self) -> None:
        """Not even where all is exposed."""
        exposed = Exposed((), ("*",))
        self.assertEqual([True, False, False], [exposed.has_channel(name) for name in ("a.b", "a.*", "#")])


class HostTests(SynchronousTestCase):
    """The header Host."""

    def test_a_host_is_read_without_its_port(self) -> None:
        """Or not at all."""
        for header, host in (
            ("LocalHost:8080", "localhost"),
            ("[::1]:80", "[::1]"),
            ("a_b-c.d", "a_b-c.d"),
            (None, None),
            ("", None),
            ("a:b", None),
            ("a:80:80", None),
            ("a b", None),
            ("a,b", None),
            ("a@b", None),
            ("a/b", None),
            ("x" * 300, None),
        ):
            self.assertEqual(host, host_of(header), header)

    def test_this_machines_names_are_allowed(self) -> None:
        """And those that are given."""
        self.assertEqual({"127.0.0.1", "localhost", "[::1]", "crew.local"}, allowed_hosts(["Crew.Local"]))
