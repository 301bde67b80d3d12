"""Why a login came to nothing, in words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from txamqp.client import Closed

from crew_tx.amqp.login import login_error
from crew_tx.amqp.uri import parse
from crew_tx.errors import AuthenticationError, ConnectionLostError, CrewError

PLACE = "amqps://me:secret@h/"
CERTIFICATE = "?certfile=me.pem"


class TLSTests(SynchronousTestCase):
    """What OpenSSL and the transport say."""

    def error(self, cause: BaseException, url: str = PLACE, **client: Any) -> CrewError:
        state: Any = SimpleNamespace(**{"server_properties": {}, "logged_in": False, **client})
        error = login_error(state, parse(url), Closed(Failure(cause)))
        self.assertNotIn("secret", str(error))
        return error

    def openssl(self, words: str, url: str = PLACE) -> CrewError:
        return self.error(SSL.Error([("SSL routines", "", words)]), url)

    def test_a_certificate_that_the_broker_does_not_take_is_a_refusal(self) -> None:
        """As several releases of OpenSSL say it; each with its remedy."""
        for words, remedy in (
            ("tlsv1 alert unknown ca", "an authority that the broker trusts"),
            ("tls alert certificate expired", "renew it"),
            ("sslv3 alert certificate expired", "renew it"),
            ("sslv3 alert certificate revoked", "have another issued"),
            ("sslv3 alert bad certificate", "the broker's log says why"),
            ("sslv3 alert certificate unknown", "the broker's log says why"),
        ):
            error = self.openssl(words, PLACE + CERTIFICATE)
            self.assertIsInstance(error, AuthenticationError, words)
            for part in ("refused the certificate in me.pem", words, remedy):
                self.assertIn(part, str(error))

    def test_a_certificate_that_is_missing_is_a_refusal(self) -> None:
        """By TLS 1.3, and by 1.2, which has no word of its own for it."""
        for words in ("tlsv13 alert certificate required", "tls alert handshake failure"):
            error = self.openssl(words)
            self.assertIsInstance(error, AuthenticationError)
            self.assertIn("wants a client certificate", str(error))
            self.assertIn("certfile= in its URL, or as --tls-cert", str(error))

    def test_whatever_is_the_brokers_to_mend_is_no_refusal(self) -> None:
        """It is tried again."""
        for words, part in (
            ("certificate verify failed", "(the system's) has issued it"),
            ("wrong version number", "does not speak TLS at this port"),
            ("tlsv1 alert internal error", "it may want a client certificate"),
            ("unexpected eof", "no TLS with amqps://me@h:5671/%2F: unexpected eof"),
        ):
            error = self.openssl(words)
            self.assertIs(ConnectionLostError, type(error), words)
            self.assertIn(part, str(error))
        self.assertIn(
            "those in ca.pem", str(self.openssl("certificate verify failed", f"{PLACE}?cacertfile=ca.pem"))
        )
        self.assertIn("not for h;", str(self.error(VerificationError(errors=[]))))
        self.assertIn(
            "not for x;", str(self.error(VerificationError([]), f"{PLACE}?server_name_indication=x"))
        )

    def test_an_end_without_a_word_is_guessed_at(self) -> None:
        """The alert may have been lost; after the greeting there was none."""
        for cause in (ConnectionLost(), ConnectionDone(), SSL.Error()):
            self.assertIn("it may want a client certificate", str(self.error(cause)))
            text = str(self.error(cause, PLACE + CERTIFICATE))
            self.assertIn("it may not take the certificate in me.pem: its log says why", text)
        for url, state in ((PLACE, {"server_properties": {"product": "RabbitMQ"}}), ("amqp://h", {})):
            error = self.error(ConnectionLost(), url, **state)
            self.assertIs(ConnectionLostError, type(error))
            self.assertNotIn("certificate", str(error))
