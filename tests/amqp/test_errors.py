"""From txamqp's errors and AMQP's reply codes to ours."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost, DNSLookupError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from txamqp.client import ChannelClosed, Closed
from txamqp.message import Message

from crew_tx.amqp.errors import FATAL, from_reply_code, translated
from crew_tx.amqp.methods import CHANNEL_CLOSE, CHANNEL_CLOSE_OK
from crew_tx.amqp.spec import methods
from crew_tx.errors import (
    AccessRefusedError,
    AMQPError,
    ConnectionLostError,
    EncodeError,
    NotFoundError,
    PreconditionFailedError,
    ProtocolError,
    ResourceLockedError,
)


def _close(code: int, text: str | None = "a text") -> Message:
    return Message(methods()[CHANNEL_CLOSE], [code, text, 0, 0])


class ReplyCodeTests(SynchronousTestCase):
    """Each code has its error."""

    def test_each_code_has_its_error(self) -> None:
        """What isn't known is the general one."""
        kinds: dict[int | None, type[AMQPError]] = {
            403: AccessRefusedError,
            404: NotFoundError,
            405: ResourceLockedError,
            406: PreconditionFailedError,
            **dict.fromkeys((501, 502, 503, 504, 505, 540, 541), ProtocolError),
            320: AMQPError,
            506: AMQPError,
            999: AMQPError,
            None: AMQPError,
        }
        for code, kind in kinds.items():
            error = from_reply_code(code, "a text", "doing it")
            self.assertIs(type(error), kind)
            self.assertEqual((error.reply_code, error.reply_text), (code, "a text"))
            self.assertEqual(str(error), f"doing it: the broker said {code} a text")

    def test_one_code_has_three_meanings(self) -> None:
        """RabbitMQ's 530 is a virtual host that isn't there, one that is forbidden, or a limit."""
        texts: dict[str, Any] = {
            "NOT_ALLOWED - vhost nowhere not found": NotFoundError,
            "NOT_ALLOWED - access to vhost '/' refused for user 'me'": AccessRefusedError,
        }
        for text, kind in texts.items():
            self.assertIs(type(from_reply_code(530, text)), kind)

    def test_a_limit_that_is_reached_is_not_final(self) -> None:
        """The connections that hold it may be ghosts of ours, gone in a minute."""
        text = "NOT_ALLOWED - access to vhost '/' refused for user 'me': connection limit (10) is reached"
        self.assertNotIsInstance(from_reply_code(530, text), FATAL)

    def test_the_brokers_words_are_cut(self) -> None:
        """They are logged."""
        error = from_reply_code(404, "x" * 1000)
        self.assertEqual(error.reply_text, "x" * 255)
        self.assertLess(len(str(error)), 300)

    def test_the_brokers_words_have_nothing_in_them_that_a_terminal_obeys(self) -> None:
        """Nor what a log file can't hold."""
        error = from_reply_code(404, "a\x1b[2Jb\nc\udcffé")
        self.assertEqual(error.reply_text, r"a\x1b[2Jb\nc\udcffé")
        self.assertIn(error.reply_text, str(error))


class TranslationTests(SynchronousTestCase):
    """Whatever ended a channel or a connection."""

    def test_a_close_is_its_reply_code(self) -> None:
        """However it is wrapped."""
        for reason in (
            _close(404),
            Closed(_close(404)),
            ChannelClosed(_close(404)),
            Failure(Closed(_close(404))),
        ):
            error = translated(reason, "doing it")
            self.assertIs(type(error), NotFoundError)
            self.assertEqual(str(error), "doing it: the broker said 404 a text")

    def test_a_close_may_have_no_text(self) -> None:
        """Txamqp's test transport sends none."""
        self.assertEqual(str(translated(_close(320, None))), "the broker said 320 ")

    def test_a_channel_that_was_closed_here_is_an_error_of_its_own(self) -> None:
        """It ended with the broker's answer, which has no code."""
        answer = Message(methods()[CHANNEL_CLOSE_OK], [])
        self.assertEqual(str(translated(answer)), "the channel was closed here")
        error = translated(ChannelClosed(answer), "publishing")
        self.assertEqual(str(error), "publishing: the channel was closed here")

    def test_ours_stay_as_they_are(self) -> None:
        """Also inside txamqp's."""
        error = EncodeError("mine")
        for reason in (error, Closed(error), Failure(error), Closed(Failure(error))):
            self.assertIs(translated(reason, "doing it"), error)

    def test_all_else_is_a_lost_connection(self) -> None:
        """Its text says what is known."""
        cases = [
            (ConnectionDone(), "doing it: the connection to the broker was closed"),
            (Failure(ConnectionLost()), "doing it: the connection to the broker was lost"),
            (Closed(Failure(ConnectionDone())), "doing it: the connection to the broker was closed"),
            (DNSLookupError("no host"), "doing it: DNS lookup failed: no host."),
        ]
        for reason, text in cases:
            error = translated(reason, "doing it")
            self.assertIs(type(error), ConnectionLostError)
            self.assertEqual(str(error), text)
        self.assertIsInstance(translated(Closed()), ConnectionLostError)
