"""
Why a login came to nothing: TLS's reasons, and the broker's, for people.

A client certificate that the broker does not take is a refusal, as a wrong
password is. The broker's own certificate that we don't take is not: whoever
stands in its way could bring that about, and it is mended over there.
"""

from __future__ import annotations

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import error
from twisted.python.failure import Failure
from txamqp.client import Closed

from crew_tx.amqp.errors import printable, translated
from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.uri import TLS, BrokerURL
from crew_tx.errors import AccessRefusedError, AuthenticationError, ConnectionLostError, CrewError

_GIVE_ONE = "give one as certfile= in its URL, or as --tls-cert"

#: OpenSSL's words for an alert that is about our certificate, and what to do about it.
_ALERTS = {
    "unknown ca": "have it issued by an authority that the broker trusts, with those in between in the file",
    "certificate expired": "renew it",
    "certificate revoked": "have another issued",
    "certificate": "the broker's log says why",
}

#: OpenSSL's words for what isn't TLS.
_CLEAR_TEXT = ("wrong version number", "packet length too long", "http request", "record layer failure")


def login_error(client: AMQClient, url: BrokerURL, closed: Closed) -> CrewError:
    """
    The error for a connection that ended before it was logged in.

    :param closed: what ended it.
    """
    cause = closed.args[0] if closed.args else None
    if isinstance(cause, Failure):
        cause = cause.value
    if url.tls is not None:
        tls_error = _tls_error(url, url.tls, cause, is_greeted=bool(client.server_properties))
        if tls_error is not None:
            return tls_error
    refused = translated(closed, f"logging in to {url}")
    if isinstance(refused, AccessRefusedError) and not client.logged_in:
        return AuthenticationError(
            f"{url} refused {_who(url)}: {refused.reply_text}",
            reply_code=refused.reply_code,
            reply_text=refused.reply_text,
        )
    return refused


def _who(url: BrokerURL) -> str:
    if url.mechanism == "EXTERNAL":
        certificate = url.tls.certfile if url.tls is not None else None
        return (
            f"whom the certificate in {certificate} names (EXTERNAL); make a user of that name "
            "(rabbitmqctl add_user), or mend the broker's ssl_cert_login_from"
        )
    return f"the user {url.username!r} ({url.mechanism}); mend the name or the password"


def _tls_error(url: BrokerURL, tls: TLS, cause: object, is_greeted: bool) -> CrewError | None:
    """TLS's reason, if that is what it was."""
    if isinstance(cause, VerificationError):
        return ConnectionLostError(
            f"the certificate of {url} is not for {tls.server_name or url.host}; connect by a name that it "
            "has, or say which it has as server_name_indication= in the URL"
        )
    if isinstance(cause, SSL.Error):
        return _openssl_error(url, tls, _words(cause))
    if isinstance(cause, (error.ConnectionDone, error.ConnectionLost)) and not is_greeted:
        # The alert that says why may be lost when it crosses with what we write.
        return ConnectionLostError(f"{url} ended the connection before a word; {_guess(tls)}")
    return None


def _openssl_error(url: BrokerURL, tls: TLS, words: str) -> CrewError:
    if "certificate verify failed" in words:
        authorities = f"those in {tls.cacertfile}" if tls.cacertfile else "the system's"
        return ConnectionLostError(
            f"the certificate of {url} is not to be trusted: its time is over, or none of the authorities "
            f"({authorities}) has issued it; renew it, or give its authority as cacertfile= or --tls-ca"
        )
    alert = next((alert for alert in _ALERTS if alert in words), None)
    if "alert" in words and tls.certfile is None and (alert or "handshake failure" in words):
        return AuthenticationError(f"{url} wants a client certificate ({words}); {_GIVE_ONE}")
    if "alert" in words and alert is not None:
        return AuthenticationError(
            f"{url} refused the certificate in {tls.certfile} ({words}); {_ALERTS[alert]}"
        )
    if any(each in words for each in _CLEAR_TEXT):
        return ConnectionLostError(
            f"{url} does not speak TLS at this port ({words}); give the port that is for TLS, mostly 5671"
        )
    return ConnectionLostError(f"no TLS with {url}: {words}; {_guess(tls)}")


def _guess(tls: TLS) -> str:
    if tls.certfile is None:
        return f"it may want a client certificate: {_GIVE_ONE}"
    return f"it may not take the certificate in {tls.certfile}: its log says why"


def _words(cause: SSL.Error) -> str:
    """OpenSSL's reasons."""
    entries = cause.args[0] if cause.args else ()
    texts = [str(entry[-1]) for entry in entries] if isinstance(entries, (list, tuple)) else []
    return printable(", ".join(texts) or "the peer has ended it")
