"""The brokers that a worker is told of."""

from __future__ import annotations

import os

from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.uri import TLS, BrokerURL
from crew_tx.cli.brokers import broker_urls
from crew_tx.cli.precedence import gather, values_of
from crew_tx.errors import ConfigurationError


def brokers(**options: str) -> list[BrokerURL]:
    """The brokers of a command line; ``password_file`` for ``--password-file``."""
    given = gather({name.replace("_", "-"): text for name, text in options.items()}, {}, {})
    return broker_urls(given, values_of(given))


class BrokerTests(SynchronousTestCase):
    """A URL, and what changes it."""

    def file(self, content: bytes = b"x", mode: int = 0o600) -> str:
        path = os.path.abspath(self.mktemp())
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, mode)
        return path

    def refused(self, words: str, **options: str) -> None:
        error = str(self.assertRaises(ConfigurationError, brokers, **options))
        self.assertIn(words, error)
        self.assertNotIn("secret", error)
        self.assertNotIn("\n", error)

    def test_without_a_word_it_is_guest_on_this_machine(self) -> None:
        """What a fresh RabbitMQ lets in."""
        self.assertEqual([BrokerURL("127.0.0.1", 5672, "guest", "guest", "/")], brokers())

    def test_options_change_the_parts_of_the_url(self) -> None:
        """Those that are given."""
        self.assertEqual(
            [BrokerURL("b", 1, "u", "p", "v", heartbeat=7)],
            brokers(broker="amqp://x:p@a/y?heartbeat=7", host="b", port="1", username="u", vhost="v"),
        )

    def test_several_urls_are_taken_as_they_are(self) -> None:
        """In their order."""
        self.assertEqual(["a", "b"], [url.host for url in brokers(broker="amqp://a,amqps://b")])

    def test_a_part_of_several_urls_is_refused(self) -> None:
        """Which of them is meant can't be known."""
        words = "--vhost: changes the URL of one broker, and --broker has several; write it into each of them"
        self.refused(words, broker="amqp://u:secret@a,amqp://b", vhost="v")
        self.refused(words, broker="amqp://u:secret@a,amqp://b", vhost="v", password_file=self.file())

    def test_several_urls_share_the_password_of_a_file(self) -> None:
        """Those that have none of their own; an empty one is one."""
        path = self.file(b"p\n")
        urls = brokers(broker="amqp://u@a,amqp://u:own@b,amqp://u:@c,amqp://d,amqp://e@e", password_file=path)
        self.assertEqual(
            [("u", "p"), ("u", "own"), ("u", ""), ("guest", "p"), ("e", "p")],
            [(url.username, url.password) for url in urls],
        )

    def test_a_password_that_serves_none_of_several_urls_is_refused(self) -> None:
        """It would be changed in the file, to no effect."""
        words = "--password-file: is for URLs without a password, and each of --broker has one; take it out"
        self.refused(words, broker="amqp://u:secret@a,amqp://u:secret@b", password_file=self.file(b"p"))

    def test_a_password_on_the_command_line_is_warned_of(self) -> None:
        """But taken; from elsewhere, or guest's, it is quiet."""
        events: list[dict[str, object]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        url = "amqp://u:secret@a"
        given = gather({}, {"CREW_BROKER": url}, {})
        self.assertEqual("secret", broker_urls(given, values_of(given))[0].password)
        brokers(broker="amqp://guest:guest@a,amqp://u@b")
        self.assertEqual([], events)
        brokers(broker=f"amqp://a,{url}")
        self.assertEqual(["--broker"], [each["where"] for each in events])
        self.assertNotIn("secret", str(events))

    def test_a_bad_url_is_refused_by_the_name_of_its_option(self) -> None:
        """Without its password."""
        self.refused("--broker: the broker URL does not begin with amqp://", broker="http://u:secret@a")
        self.refused("--broker: the broker URL has a bad host or port", broker="amqp://u:secret@a:port")

    def test_the_password_is_what_the_file_has(self) -> None:
        """Without the newline at its end, and only that."""
        for content, password in ((b"s e\n", "s e"), (b"\xc3\xa9\r\n", "é"), (b" x\n\n", " x\n")):
            (url,) = brokers(broker="amqp://u:old@h", password_file=self.file(content))
            self.assertEqual(("u", password), (url.username, url.password))

    def test_a_password_file_without_a_password_is_refused(self) -> None:
        """Also one that is no text."""
        self.refused("is empty; write the password into it", password_file=self.file(b"\n"))
        self.refused("is not UTF-8 text", password_file=self.file(b"secret\xff"))
        self.refused("--password-file: the file ", password_file="/nowhere/at-all")

    def test_a_password_file_that_everybody_can_read_is_warned_of(self) -> None:
        """But taken; a private one is quiet."""
        events: list[dict[str, object]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        brokers(password_file=self.file(b"p", 0o600))
        self.assertEqual([], events)
        path = self.file(b"p", 0o644)
        brokers(password_file=path)
        self.assertEqual([("--password-file", path)], [(each["where"], each["path"]) for each in events])

    def test_tls_options_alone_make_it_amqps(self) -> None:
        """On its own port, unless one is given."""
        path = self.file()
        (url,) = brokers(host="h", tls_ca=path)
        self.assertEqual(("h", 5671, TLS(path)), (url.host, url.port, url.tls))
        (url,) = brokers(host="h", port="1", tls_ca=path)
        self.assertEqual(1, url.port)

    def test_tls_options_change_an_amqps_url(self) -> None:
        """And leave what isn't given."""
        one, two = self.file(), self.file()
        (url,) = brokers(broker="amqps://h?cacertfile=c&server_name_indication=s", tls_cert=one, tls_key=two)
        self.assertEqual(TLS("c", one, two, "s"), url.tls)

    def test_tls_options_are_refused_for_clear_text(self) -> None:
        """The connection would not be what they ask for."""
        self.refused("--tls-ca: is for TLS, and --broker says amqp://", broker="amqp://h", tls_ca=self.file())

    def test_a_key_without_its_certificate_is_refused(self) -> None:
        """It is of no use."""
        self.refused("--tls-key: needs its certificate; give it as --tls-cert", tls_key=self.file())
