"""pika, unmodified, on the embedded broker and on RabbitMQ."""

from __future__ import annotations

from tests.foreign.support import PROGRAMS, ForeignTestCase


class PikaTests(ForeignTestCase):
    client = "pika"

    def test_a_blocking_connection(self) -> None:
        """Declarations, confirms, gets, consumers, remote calls, heartbeats, refusals and their texts."""
        self.assert_same_on_both("pika_blocking")

    def test_its_adapter_for_twisted(self) -> None:
        """Consumers, gets, confirms, returns and refusals, by Deferreds."""
        self.assert_same_on_both("pika_twisted")

    def test_direct_reply_to_is_refused(self) -> None:
        """The embedded broker has none, and says so to whoever asks; RabbitMQ answers the same program."""
        script = PROGRAMS / "pika_direct_reply_to.py"
        for url, answer in (
            (self.rabbitmq(), "answered: b'pong'\n"),
            (
                self.embedded().url,
                "refused: 404 NOT_FOUND - no queue 'amq.rabbitmq.reply-to' in vhost '/'\n",
            ),
        ):
            program = self.start(script, url)
            self.assertEqual((self.ended(program), program.out), (0, answer), program.err)
