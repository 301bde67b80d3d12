"""Endpoints for AMQP URLs, by TCP and by TLS."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from OpenSSL import crypto
from twisted.internet import ssl
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import VerifyError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure

from crew_tx.amqp.factory import AMQFactory
from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.uri import TLS, BrokerURL, parse
from crew_tx.errors import ConfigurationError

CONNECT_TIMEOUT = 10.0


def client_endpoint(reactor: Any, url: BrokerURL, timeout: float = CONNECT_TIMEOUT) -> IStreamClientEndpoint:
    """
    Where to connect to for a URL: by TLS whenever it says ``amqps``.

    :raises ConfigurationError: if a certificate file can't be used, or one is missing.
    """
    endpoint = _clear_text(reactor, url.host, url.port, timeout)
    if url.tls is None:
        return endpoint
    if url.mechanism == "EXTERNAL" and url.tls.certfile is None:
        raise ConfigurationError(
            f"auth_mechanism=external of {url} logs in by a certificate; give it as certfile= in the URL, "
            "or as --tls-cert"
        )
    return wrapClientTLS(_tls_options(url.host, url.tls), endpoint)


def _clear_text(reactor: Any, host: str, port: int, timeout: float) -> IStreamClientEndpoint:
    """An address needs no resolver."""
    if isIPAddress(host):
        return TCP4ClientEndpoint(reactor, host, port, timeout=timeout)
    if isIPv6Address(host):
        return TCP6ClientEndpoint(reactor, host, port, timeout=timeout)
    return HostnameEndpoint(reactor, host, port, timeout=timeout)


def _tls_options(host: str, tls: TLS) -> Any:
    options: dict[str, Any] = {}
    if tls.cacertfile is not None:
        options["trustRoot"] = ssl.trustRootFromCertificates(_certificates("cacertfile", tls.cacertfile))
    if tls.certfile is not None:
        certificates = _certificates("certfile", tls.certfile)
        options["clientCertificate"] = _with_key(certificates[0], tls.certfile, tls.keyfile or tls.certfile)
        # Those between ours and an authority that the broker trusts: it need not have them.
        chain = [certificate.original for certificate in certificates[1:]]
        options["extraCertificateOptions"] = {"extraCertChain": chain}
    return ssl.optionsForClientTLS(tls.server_name or host, **options)


def _certificates(parameter: str, path: str) -> list[ssl.Certificate]:
    end = b"-----END CERTIFICATE-----"
    blocks = [block + end for block in _read(path).split(end) if b"-----BEGIN CERTIFICATE-----" in block]
    if not blocks:
        raise ConfigurationError(f"{parameter} {path} has no PEM certificate")
    try:
        return [ssl.Certificate.loadPEM(block) for block in blocks]
    except crypto.Error:
        raise ConfigurationError(f"{parameter} {path} has a damaged certificate") from None


def _with_key(certificate: ssl.Certificate, certfile: str, keyfile: str) -> ssl.PrivateCertificate:
    try:
        # With a passphrase, if only an empty one: without, OpenSSL would ask for it at the terminal.
        key = crypto.load_privatekey(crypto.FILETYPE_PEM, _read(keyfile), b"")
        private: ssl.PrivateCertificate = ssl.PrivateCertificate.fromCertificateAndKeyPair(
            certificate, ssl.KeyPair(key)
        )
    except (crypto.Error, VerifyError):
        raise ConfigurationError(
            f"keyfile {keyfile} is not the PEM key, without a passphrase, of the first certificate "
            f"in certfile {certfile}"
        ) from None
    return private


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigurationError(f"the certificate file {path} can't be read: {error.strerror}") from None


class AMQEndpoint:
    """
    txamqp's endpoint: connects and logs in.

    The parameters are txamqp's; ``tls`` comes in addition.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int | str,
        username: str = "",
        password: str = "",
        vhost: str = "/",
        heartbeat: int = 0,
        auth_mechanism: str = "AMQPLAIN",
        timeout: float = 30,
        tls: TLS | None = None,
    ) -> None:
        self._url = BrokerURL(host, int(port), username, password, vhost, int(heartbeat), auth_mechanism, tls)
        self._endpoint = client_endpoint(reactor, self._url, timeout)

    @classmethod
    def from_uri(cls, reactor: Any, uri: str) -> AMQEndpoint:
        """
        An endpoint for an AMQP URL.

        :raises ConfigurationError: if it isn't one.
        """
        url = parse(uri)
        # txamqp logs in by AMQPLAIN where the URL does not say otherwise.
        mechanism = url.mechanism if "auth_mechanism" in urlsplit(uri).query else "AMQPLAIN"
        return cls(
            reactor,
            url.host,
            url.port,
            url.username,
            url.password,
            url.vhost,
            url.heartbeat or 0,
            mechanism,
            tls=url.tls,
        )

    def connect(self, protocol_factory: AMQFactory) -> Deferred[AMQClient]:
        """A Deferred of a client that is logged in; its connection is dropped if that fails."""
        url = self._url
        protocol_factory.set_vhost(url.vhost)
        protocol_factory.set_heartbeat(url.heartbeat or 0)

        def log_in(client: AMQClient) -> Deferred[AMQClient]:
            opened = client.authenticate(url.username, url.password, mechanism=url.mechanism)
            return opened.addCallbacks(lambda _: client, drop, errbackArgs=(client,))

        def drop(failure: Failure, client: AMQClient) -> Failure:
            client.close()
            return failure

        connecting: Deferred[Any] = self._endpoint.connect(protocol_factory)
        return connecting.addCallback(log_in)
