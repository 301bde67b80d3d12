"""AMQP URLs."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.uri import DEFAULT_URL, TLS, BrokerURL, parse, parse_all
from crew_tx.errors import ConfigurationError


class ParsingTests(SynchronousTestCase):
    """What a URL says."""

    def test_every_part_is_read(self) -> None:
        """As RabbitMQ's URI specification has it."""
        self.assertEqual(
            parse("amqp://me:pw@host.example:1234/vhost?heartbeat=20&auth_mechanism=amqplain"),
            BrokerURL("host.example", 1234, "me", "pw", "vhost", 20, "AMQPLAIN"),
        )

    def test_what_is_left_out_has_a_default(self) -> None:
        """Guest, the default port and virtual host."""
        expected = BrokerURL("host", 5672, "guest", "guest", "/", None, "PLAIN", None)
        for url in ("amqp://host", "amqp://host/", "amqp://host/%2F", "amqp://host:5672/%2f"):
            self.assertEqual(parse(url), expected)
        self.assertEqual(parse(DEFAULT_URL), BrokerURL("127.0.0.1", 5672))

    def test_every_part_is_percent_decoded(self) -> None:
        """In UTF-8."""
        url = parse("amqp://a%40b:p%2F%3A%C3%A9@h%2Dx/v%2Fh%20")
        self.assertEqual((url.username, url.password), ("a@b", "p/:é"))
        self.assertEqual((url.host, url.vhost), ("h-x", "v/h "))

    def test_an_at_sign_or_a_colon_in_a_password_is_part_of_it(self) -> None:
        """The last at sign and the first colon count."""
        self.assertEqual(parse("amqp://me:p@s:s@host/").password, "p@s:s")

    def test_user_and_password_may_be_empty(self) -> None:
        """That is something else than left out."""
        url = parse("amqp://:@host/")
        self.assertEqual((url.username, url.password), ("", ""))

    def test_a_user_without_a_password_has_an_empty_one(self) -> None:
        """That of guest is for guest alone, where no user is named."""
        for user in ("me", "guest", ""):
            url = parse(f"amqp://{user}@host/")
            self.assertEqual((url.username, url.password), (user, ""))

    def test_an_ipv6_address_is_in_brackets(self) -> None:
        """With a port or without one; it is shown so, too."""
        self.assertEqual((parse("amqp://[::1]/").host, parse("amqp://[::1]/").port), ("::1", 5672))
        url = parse("amqp://me:pw@[fe80::1]:1234/v")
        self.assertEqual((url.host, url.port), ("fe80::1", 1234))
        self.assertEqual(str(url), "amqp://me@[fe80::1]:1234/v")

    @settings(max_examples=100, derandomize=True, deadline=None, database=None)
    @given(*[st.text(st.characters(exclude_categories=["Cs"]), min_size=1)] * 3)
    def test_what_is_percent_encoded_comes_back(self, user: str, password: str, vhost: str) -> None:
        """Whatever it is."""
        encoded = [quote(part, safe="") for part in (user, password, vhost)]
        url = parse("amqp://{}:{}@host/{}".format(*encoded))
        self.assertEqual((url.username, url.password, url.vhost), (user, password, vhost))

    def test_parts_can_be_changed(self) -> None:
        """None leaves a part as it is."""
        url = parse("amqp://me:pw@host/v").changed(host="other", password=None, heartbeat=5)
        self.assertEqual(url, BrokerURL("other", 5672, "me", "pw", "v", 5))


class TLSTests(SynchronousTestCase):
    """``amqps``, and its parameters."""

    def test_amqps_is_tls_with_a_port_of_its_own(self) -> None:
        """The system's authorities are trusted."""
        url = parse("amqps://host")
        self.assertEqual((url.port, url.tls), (5671, TLS()))
        self.assertEqual(str(url), "amqps://guest@host:5671/%2F")

    def test_every_parameter_is_read(self) -> None:
        """Files and names."""
        parameters = "cacertfile=/ca.pem&certfile=/c.pem&keyfile=/k.pem&server_name_indication=name"
        url = parse(f"amqps://host/?{parameters}&auth_mechanism=EXTERNAL&verify=verify_peer")
        self.assertEqual(url.tls, TLS("/ca.pem", "/c.pem", "/k.pem", "name"))
        self.assertEqual(url.mechanism, "EXTERNAL")

    def test_the_brokers_certificate_is_always_verified(self) -> None:
        """There is no way to switch that off."""
        error = self.assertRaises(ConfigurationError, parse, "amqps://host/?verify=verify_none")
        self.assertIn("cacertfile", str(error))

    def test_parameters_of_tls_need_amqps(self) -> None:
        """Whoever wrote them does not want clear text."""
        error = self.assertRaises(ConfigurationError, parse, "amqp://host/?cacertfile=/ca.pem")
        self.assertIn("cacertfile needs amqps://", str(error))


class RefusalTests(SynchronousTestCase):
    """URLs that are wrong."""

    def assert_refused(self, url: str, *words: str) -> None:
        """The error names what is wrong."""
        error = self.assertRaises(ConfigurationError, parse, url)
        for word in words:
            self.assertIn(word, str(error))

    def test_what_is_wrong_is_named(self) -> None:
        """With the remedy."""
        self.assert_refused("http://host/", "amqp://", "amqps://")
        self.assert_refused("host:5672", "amqp://")
        self.assert_refused("", "amqp://")
        self.assert_refused("amqp:///v", "no host")
        self.assert_refused("amqp://host:port/", "port")
        self.assert_refused("amqp://host:70000/", "port")
        self.assert_refused("amqp://[::1/", "host")
        self.assert_refused("amqp://host/a/b", "%2F")
        self.assert_refused("amqp://host/v#x", "percent-encoded")
        self.assert_refused("amqp://host/?heartbeat=soon", "heartbeat", "'soon'")
        self.assert_refused("amqp://host/?heartbeat=-1", "heartbeat")
        self.assert_refused("amqp://host/?heartbeat=65536", "heartbeat", "65535")
        self.assert_refused("amqp://host/?auth_mechanism=ntlm", "auth_mechanism", "'ntlm'")
        self.assert_refused("amqp://host/?hartbeat=1", "'hartbeat'", "heartbeat")

    def test_a_parameter_that_says_nothing_is_wrong(self) -> None:
        """As if it weren't a number."""
        self.assert_refused("amqp://host/?heartbeat=", "heartbeat")
        self.assert_refused("amqp://host/?heartbeat", "heartbeat")

    def test_the_longest_interval_is_that_of_the_wire(self) -> None:
        """Two octets."""
        self.assertEqual(parse("amqp://host/?heartbeat=65535").heartbeat, 65_535)

    def test_a_list_needs_one_url_at_least(self) -> None:
        """A text or a list."""
        none: list[str] = []
        for urls in ("", " , ", none):
            self.assertRaises(ConfigurationError, parse_all, urls)


class SeveralTests(SynchronousTestCase):
    """A list of brokers."""

    def test_commas_part_them(self) -> None:
        """With or without spaces, in their order."""
        urls = parse_all("amqp://a, amqps://b:1234,amqp://c/v,")
        self.assertEqual(
            [str(url) for url in urls],
            ["amqp://guest@a:5672/%2F", "amqps://guest@b:1234/%2F", "amqp://guest@c:5672/v"],
        )

    def test_a_list_may_be_one_already(self) -> None:
        """Then a comma is part of a URL."""
        [url] = parse_all(["amqp://me:p,w@host"])
        self.assertEqual(url.password, "p,w")


class PasswordTests(SynchronousTestCase):
    """A password is nowhere to be seen."""

    def test_it_is_not_shown(self) -> None:
        """Neither to people nor in a debugger."""
        url = parse("amqp://me:secret@host/v")
        for text in (str(url), repr(url), f"{url}", repr([url])):
            self.assertNotIn("secret", text)
            self.assertIn("me", text)

    def test_it_is_in_no_error(self) -> None:
        """Whatever is wrong, and where it has a character that should have been encoded."""
        wrong = [
            "http://me:secret@host/",
            "amqp://me:secret@/",
            "amqp://me:secret@host:port/",
            "amqp://me:secret@[::1/",
            "amqp://me:secret@host/a/b",
            "amqp://me:secret@host/?heartbeat=x",
            "amqp://me:secret@host/?nonsense=1",
            *(f"amqp://me:{before}{mark}secret@host/" for before in ("", "12") for mark in "/?#["),
            *(f"amqp://me:12{mark}secret@host" for mark in "/?#["),
            *(f"amqp://me:12{mark}a=secret@host" for mark in "/?#["),
        ]
        for url in wrong:
            error = self.assertRaises(ConfigurationError, parse, url)
            self.assertNotIn("secret", str(error), url)
            self.assertIsNone(error.__cause__)
            self.assertTrue(error.__suppress_context__ or error.__context__ is None)
