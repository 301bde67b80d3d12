"""Endpoints for AMQP URLs: where they connect to, and how TLS is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from twisted.internet import ssl
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as TCPRefusedError
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from txamqp.client import Closed

from crew_tx.amqp import AMQEndpoint, AMQFactory
from crew_tx.amqp.endpoint import client_endpoint
from crew_tx.amqp.errors import translated
from crew_tx.amqp.uri import parse
from crew_tx.errors import AuthenticationError, ConfigurationError
from tests.amqp.peer import Peer
from tests.warned import pass_over

AUTHORITY, OTHER_AUTHORITY = trustme.CA(), trustme.CA()


class ClearTextTests(SynchronousTestCase):
    """``amqp://``, and txamqp's endpoint, on a reactor in memory."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()

    def accept(self) -> Peer:
        """A peer for the first attempt."""
        peer = Peer(self.reactor.tcpClients[0][2].buildProtocol(None))
        self.addCleanup(peer.lose)
        return peer

    def connect(self, uri: str = "", **parameters: Any) -> Deferred[Any]:
        """Connect txamqp's way."""
        if uri:
            endpoint = AMQEndpoint.from_uri(self.reactor, uri)
        else:
            endpoint = AMQEndpoint(self.reactor, "127.0.0.1", 1234, **parameters)
        return endpoint.connect(AMQFactory(clock=self.reactor))

    def test_it_connects_to_host_and_port(self) -> None:
        """Within ten seconds."""
        endpoint = client_endpoint(self.reactor, parse("amqp://127.0.0.1:1234"))
        connecting = endpoint.connect(AMQFactory(clock=self.reactor))
        host, port, factory, timeout, _ = self.reactor.tcpClients[0]
        self.assertEqual((host, port, timeout), ("127.0.0.1", 1234, 10))
        factory.clientConnectionFailed(None, Failure(TCPRefusedError()))
        self.reactor.advance(0.3)
        self.failureResultOf(connecting, TCPRefusedError)

    def test_txamqps_endpoint_logs_in(self) -> None:
        """It gives the client that is ready for use."""
        connecting = self.connect(username="me", password="pw", vhost="v", heartbeat=20)
        peer = self.accept()
        peer.tune["heartbeat"] = 60
        peer.greet()
        peer.settle()
        client = self.successResultOf(connecting)
        self.assertEqual((client.vhost, client.heartbeatInterval), ("v", 20))
        self.assertEqual(client.response, {"LOGIN": "me", "PASSWORD": "pw"})
        self.assertEqual(peer.one("connection.start-ok").fields["mechanism"], "AMQPLAIN")

    def test_txamqps_endpoint_takes_a_url(self) -> None:
        """It logs in by AMQPLAIN where the URL doesn't say otherwise."""
        for uri, mechanism in (
            ("amqp://me:pw@127.0.0.1", "AMQPLAIN"),
            ("amqp://auth_mechanism:pw@127.0.0.1/v?heartbeat=7", "AMQPLAIN"),
            ("amqp://auth_mechanism:pw@127.0.0.1/v?heartbeat=7&auth_mechanism=PLAIN", "PLAIN"),
        ):
            self.reactor.tcpClients.clear()
            self.connect(uri).addErrback(lambda _: None)
            peer = self.accept()
            peer.greet()
            self.assertEqual(peer.one("connection.start-ok").fields["mechanism"], mechanism)
            peer.settle()
            peer.lose()

    def test_a_url_that_is_wrong_is_an_error(self) -> None:
        """Without its password."""
        error = self.assertRaises(
            ConfigurationError, AMQEndpoint.from_uri, self.reactor, "http://me:secret@h"
        )
        self.assertNotIn("secret", str(error))

    def test_a_login_that_is_refused_drops_the_connection(self) -> None:
        """Its error is the broker's."""
        connecting = self.connect()
        peer = self.accept()
        peer.refuse("connection.start-ok", 403, "ACCESS_REFUSED")
        peer.greet()
        peer.settle()
        self.assertEqual(self.failureResultOf(connecting, Closed).value.args[0].reply_code, 403)
        self.assertTrue(peer.lost)

    def test_a_login_that_cannot_be_tried_drops_the_connection(self) -> None:
        """Nobody else would."""
        connecting = self.connect(auth_mechanism="CRAM-MD5")
        peer = self.accept()
        peer.settle()
        self.failureResultOf(connecting, ValueError)
        self.assertTrue(peer.lost)

    def test_a_login_that_is_cancelled_drops_the_connection(self) -> None:
        """As a time limit does."""
        connecting = self.connect().addTimeout(5, self.reactor)
        peer = self.accept()
        self.reactor.advance(5)
        self.failureResultOf(connecting)
        peer.settle()
        self.assertTrue(peer.lost)


class FilesTests(SynchronousTestCase):
    """Certificate files that can't be used."""

    def file(self, name: str, content: bytes) -> str:
        path = Path(self.mktemp())
        path.mkdir()
        path /= name
        path.write_bytes(content)
        return str(path)

    def assert_refused(self, parameters: str, *words: str) -> None:
        url = parse(f"amqps://localhost/?{parameters}")
        error = self.assertRaises(ConfigurationError, client_endpoint, MemoryReactorClock(), url)
        for word in words:
            self.assertIn(word, str(error))

    def test_an_authority_that_cannot_be_read_is_named(self) -> None:
        """With the reason."""
        self.assert_refused("cacertfile=/nowhere/ca.pem", "/nowhere/ca.pem", "No such file")
        self.assert_refused("cacertfile=/", "Is a directory")

    def test_an_authority_that_is_none_is_named(self) -> None:
        """Nothing in it, or something damaged."""
        empty = self.file("empty.pem", b"nothing")
        self.assert_refused(f"cacertfile={empty}", empty, "no PEM certificate")
        text = AUTHORITY.cert_pem.bytes()
        damaged = self.file("damaged.pem", text[:100] + text[110:])
        self.assert_refused(f"cacertfile={damaged}", damaged, "damaged")

    def test_a_client_certificate_that_is_none_is_named(self) -> None:
        """Certificate and key, which belong together."""
        one, other = AUTHORITY.issue_cert("one"), AUTHORITY.issue_cert("other")
        certificate = self.file("one.pem", one.cert_chain_pems[0].bytes())
        key = self.file("other.key", other.private_key_pem.bytes())
        self.assert_refused(f"certfile={certificate}", certificate, "key")
        self.assert_refused(f"certfile={certificate}&keyfile={key}", certificate, key)
        self.assert_refused(f"certfile={certificate}&keyfile=/nowhere/key.pem", "/nowhere/key.pem")
        self.assert_refused(f"certfile={key}&keyfile={key}", key, "certfile", "no PEM certificate")
        text = one.cert_chain_pems[0].bytes()
        damaged = self.file("chain.pem", text + text[:100] + text[110:])
        self.assert_refused(f"certfile={damaged}&keyfile={key}", damaged, "damaged")

    def test_a_login_by_certificate_needs_one(self) -> None:
        """The broker would refuse it; without TLS, whoever ends it in front of the broker may have one."""
        self.assert_refused(
            "auth_mechanism=external", "auth_mechanism=external of amqps://localhost", "--tls-cert"
        )
        client_endpoint(MemoryReactorClock(), parse("amqp://localhost/?auth_mechanism=external"))

    def test_a_key_that_wants_a_password_is_named(self) -> None:
        """Nobody is there to type it."""
        issued = AUTHORITY.issue_cert("one")
        key = load_pem_private_key(issued.private_key_pem.bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
        )
        both = self.file("both.pem", key + issued.cert_chain_pems[0].bytes())
        self.assert_refused(f"certfile={both}", both)


class _Wire:
    """The far end of a peer's link: a socket."""

    def __init__(self, transport: ITransport) -> None:
        self.dataReceived = transport.write

    def makeConnection(self, link: object) -> None:
        """There is a connection already."""


class _Broker(Protocol):
    """A peer at a socket."""

    factory: Any

    def connectionMade(self) -> None:
        self.peer: Peer | None = None
        self.received = b""
        self.factory.brokers.append(self)

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.received += data
        if not self.received.startswith(b"AMQP"):
            self.transport.loseConnection()
            return
        if self.peer is None:
            self.peer = Peer(_Wire(self.transport))
            self.peer.greet(mechanisms="PLAIN EXTERNAL")
        self.peer.link.write(data)
        self.peer.settle()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.lost.callback(None)


class TLSTests(TestCase):
    """``amqps://`` over loopback, to a broker whose certificate is for ``localhost`` and 127.0.0.1."""

    timeout = 20

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        # What Twisted passes to pyOpenSSL, and asks of it.
        self.addCleanup(pass_over, self, "Passing pyOpenSSL", "X509.get_subject")
        factory: Any = Factory.forProtocol(_Broker)
        self.factory = factory
        self.factory.brokers = []
        self.factory.lost = Deferred()
        self.files: dict[str, str] = {}
        for name, authority in (("ca", AUTHORITY), ("other", OTHER_AUTHORITY)):
            self.files[name] = self.file(name, authority.cert_pem.bytes())

    def file(self, name: str, content: bytes) -> str:
        path = Path(self.mktemp()).with_suffix(f".{name}.pem")
        path.write_bytes(content)
        return str(path)

    def listen(self, *names: str, clear_text: bool = False, wants_certificate: bool = False) -> None:
        """Start the broker, with a certificate for these names."""
        issued = AUTHORITY.issue_cert(*(names or ("localhost", "127.0.0.1")))
        certificate = ssl.PrivateCertificate.loadPEM(issued.private_key_and_cert_chain_pem.bytes())
        if clear_text:
            port = self.reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        else:
            context = certificate.options(*([_loaded(AUTHORITY)] if wants_certificate else []))
            port = self.reactor.listenSSL(0, self.factory, context, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        address: IPv4Address = port.getHost()
        self.port = address.port

    async def log_in(self, parameters: str = "", host: str = "127.0.0.1", mechanism: str = "PLAIN") -> Any:
        """Log in; the connection is closed at the end of the test."""
        url = parse(f"amqps://me:secret@{host}:{self.port}/?{parameters}")
        client: Any = await client_endpoint(self.reactor, url).connect(AMQFactory(clock=self.reactor))
        self.addCleanup(client.disconnected.wait)
        self.addCleanup(client.close)
        await client.authenticate(url.username, url.password, mechanism=mechanism)
        return client

    async def assert_refused(self, parameters: str = "", **more: Any) -> str:
        """It doesn't get to log in, and the broker hears nothing of it. :returns: why."""
        error = await self.assertFailure(Deferred.fromCoroutine(self.log_in(parameters, **more)), Closed)
        await self.factory.lost
        for broker in self.factory.brokers:
            self.assertEqual(broker.received, b"")
        return str(translated(error))

    async def test_a_broker_of_a_trusted_authority_is_logged_in_to(self) -> None:
        """By address or by name; what is closed ends on both sides."""
        self.listen()
        client = await self.log_in(f"cacertfile={self.files['ca']}")
        self.assertTrue(client.logged_in)
        await client.close(within=5)
        await client.disconnected.wait()
        await self.factory.lost

    async def test_a_connection_ends_though_nobody_is_told(self) -> None:
        """A registered producer would keep a TLS connection open."""
        self.listen()
        client = await self.log_in(f"cacertfile={self.files['ca']}", host="localhost")
        await client.close()
        await client.disconnected.wait()
        await self.factory.lost

    async def test_a_broker_of_another_authority_is_refused(self) -> None:
        """Ours is the only one that is trusted."""
        self.listen()
        reason = await self.assert_refused(f"cacertfile={self.files['other']}")
        self.assertIn("certificate", reason)

    async def test_an_authority_among_several_is_trusted(self) -> None:
        """A file may have many."""
        self.listen()
        both = OTHER_AUTHORITY.cert_pem.bytes() + b"\n# ours:\n" + AUTHORITY.cert_pem.bytes()
        await self.log_in(f"cacertfile={self.file('both', both)}")

    async def test_the_system_does_not_trust_ours(self) -> None:
        """Its authorities count where none is given."""
        self.listen()
        self.assertIn("certificate", await self.assert_refused())

    async def test_a_broker_of_another_name_is_refused(self) -> None:
        """Though its authority is trusted."""
        self.listen("rabbit.example")
        for host in ("127.0.0.1", "localhost"):
            self.factory.lost = Deferred()
            await self.assert_refused(f"cacertfile={self.files['ca']}", host=host)

    async def test_another_name_may_be_expected(self) -> None:
        """Where an address says less than a name."""
        self.listen("rabbit.example")
        await self.log_in(f"cacertfile={self.files['ca']}&server_name_indication=rabbit.example")

    async def test_a_client_certificate_is_shown(self) -> None:
        """EXTERNAL logs in by it, without a password."""
        self.listen(wants_certificate=True)
        issued = AUTHORITY.issue_cert("client.example", common_name="me")
        certificate = self.file("client", issued.cert_chain_pems[0].bytes())
        key = self.file("key", issued.private_key_pem.bytes())
        files = f"cacertfile={self.files['ca']}&certfile={certificate}&keyfile={key}"
        await self.log_in(files, mechanism="EXTERNAL")
        [broker] = self.factory.brokers
        shown = ssl.Certificate(broker.transport.getPeerCertificate()).getSubject()
        self.assertEqual(shown.commonName, b"me")
        self.assertNotIn(b"secret", broker.received)

    async def test_the_whole_chain_of_a_client_certificate_is_shown(self) -> None:
        """The broker has the authority at its top alone."""
        self.listen(wants_certificate=True)
        between = AUTHORITY.create_child_ca().create_child_ca()
        chain = between.issue_cert("client.example").private_key_and_cert_chain_pem.bytes()
        await self.log_in(f"cacertfile={self.files['ca']}&certfile={self.file('chain', chain)}")
        [broker] = self.factory.brokers
        # Besides ours, which a server's chain leaves out.
        self.assertEqual(len(broker.transport.getHandle().get_peer_cert_chain()), 2)

    async def test_certificate_and_key_may_be_in_one_file(self) -> None:
        """As openssl writes them."""
        self.listen(wants_certificate=True)
        both = AUTHORITY.issue_cert("client.example").private_key_and_cert_chain_pem.bytes()
        await self.log_in(f"cacertfile={self.files['ca']}&certfile={self.file('both', both)}")

    async def test_a_broker_that_wants_a_certificate_refuses_who_has_none(self) -> None:
        """It isn't logged in."""
        self.listen(wants_certificate=True)
        await self.assert_refused(f"cacertfile={self.files['ca']}")

    async def test_a_broker_without_tls_gets_no_clear_text(self) -> None:
        """Neither a greeting nor a password."""
        self.listen(clear_text=True)
        try:
            await self.log_in(f"cacertfile={self.files['ca']}")
        except (Closed, AuthenticationError):
            await self.factory.lost
        [broker] = self.factory.brokers
        self.assertEqual(broker.received[:2], b"\x16\x03")
        self.assertNotIn(b"AMQP", broker.received)
        self.assertNotIn(b"secret", broker.received)


def _loaded(authority: trustme.CA) -> ssl.Certificate:
    return ssl.Certificate.loadPEM(authority.cert_pem.bytes())
