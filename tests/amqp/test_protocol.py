"""The connection: handshake, limits, reading, writing, and its end."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.logger import LogLevel, capturedLogs
from txamqp.client import Closed, ConnectionClosed

from crew_tx.amqp import frames
from crew_tx.amqp.errors import translated
from crew_tx.amqp.properties import encode_properties
from crew_tx.amqp.protocol import AMQClient
from crew_tx.errors import AMQPError, AuthenticationError, CallerError, EncodeError, ProtocolError
from tests.amqp import captured
from tests.amqp.peer import Peer, PeerTestCase, packed, packed_content


class LoggingInTests(PeerTestCase):
    """From the greeting to the open virtual host."""

    def test_a_connection_begins_with_the_version(self) -> None:
        """AMQP 0-9-1; and small frames are not to be held back."""
        peer = self.connect()
        self.assertEqual(peer.link.take(), b"AMQP\x00\x00\x09\x01")
        self.assertIs(peer.link.no_delay, True)

    def test_the_client_answers_each_step(self) -> None:
        """Start, tune, open."""
        peer = self.connect()
        logged_in = peer.client.authenticate("guest", "guest")
        peer.greet()
        self.answered(peer, logged_in)
        steps = ["connection.start-ok", "connection.tune-ok", "connection.open"]
        self.assertEqual(peer.names(), steps)

    def test_it_may_be_told_how_to_log_in_after_the_broker_began(self) -> None:
        """The broker waits."""
        peer = self.connect()
        peer.greet()
        self.assertEqual(peer.names(), [])
        self.answered(peer, peer.client.authenticate("guest", "guest"))

    def test_the_mechanisms_say_who_it_is(self) -> None:
        """Each in its own form."""
        amqplain = b"\x05LOGINS\x00\x00\x00\x02me\x08PASSWORDS\x00\x00\x00\x02pw"
        forms = {"PLAIN": "\0me\0pw", "EXTERNAL": "", "AMQPLAIN": amqplain.decode()}
        for mechanism, response in forms.items():
            peer = self.connect()
            peer.client.authenticate("me", "pw", mechanism, "de_DE").addErrback(lambda _: None)
            peer.greet(mechanisms="PLAIN AMQPLAIN EXTERNAL")
            fields = peer.one("connection.start-ok").fields
            self.assertEqual(fields["locale"], "de_DE")
            self.assertEqual((fields["mechanism"], fields["response"]), (mechanism, response))

    def test_an_unknown_mechanism_is_an_error(self) -> None:
        """Nothing is sent."""
        peer = self.connect()
        self.failureResultOf(peer.client.authenticate("me", "pw", mechanism="CRAM-MD5"), ValueError)

    def _login_failure(self, peer: Peer, **greeting: Any) -> Exception:
        logged_in = peer.client.authenticate("me", "secret", mechanism="PLAIN")
        peer.greet(**greeting)
        closed = self.refused(peer, logged_in, Closed)
        return translated(closed)

    def test_a_mechanism_that_is_not_offered_is_an_authentication_error(self) -> None:
        """It says what is offered."""
        error = self._login_failure(self.connect(), mechanisms="EXTERNAL ANONYMOUS")
        self.assertIsInstance(error, AuthenticationError)
        self.assertIn("EXTERNAL, ANONYMOUS", str(error))

    def test_mechanisms_that_are_not_text_are_an_authentication_error(self) -> None:
        """Whatever a broker sends there."""
        error = self._login_failure(self.connect(), mechanisms=b"\xff \xfe")
        self.assertIsInstance(error, AuthenticationError)

    def test_a_challenge_is_an_authentication_error(self) -> None:
        """None of the mechanisms has one."""
        peer = self.connect()
        peer.answers["connection.start-ok"] = lambda sent: peer.send(0, "connection.secure", challenge="?")
        self.assertIsInstance(self._login_failure(peer), AuthenticationError)

    def test_a_password_that_cannot_be_sent_is_an_error_without_it(self) -> None:
        """Errors are logged."""
        peer = self.connect()
        logged_in = peer.client.authenticate("me", "secret\ud800", mechanism="PLAIN")
        peer.greet()
        error = self.refused(peer, logged_in, Closed)
        self.assertIsInstance(translated(error), EncodeError)
        self.assertNotIn("secret", str(error))

    def test_a_refused_password_is_the_brokers_close(self) -> None:
        """As RabbitMQ has it for clients that announce that they understand it."""
        peer = self.connect()
        peer.answers["connection.start-ok"] = lambda sent: peer.feed(captured.CONNECTION_CLOSE)
        error = self._login_failure(peer)
        assert isinstance(error, AMQPError)
        self.assertEqual(error.reply_code, 403)
        self.assertEqual(peer.names()[-1], "connection.close-ok")

    def test_a_virtual_host_that_is_not_there_is_the_brokers_close(self) -> None:
        """After the login."""
        peer = self.connect()
        peer.refuse("connection.open", 530, "NOT_ALLOWED - vhost / not found")
        error = self._login_failure(peer)
        assert isinstance(error, AMQPError)
        self.assertEqual(error.reply_code, 530)
        self.assertTrue(peer.client.logged_in)

    def test_a_broker_of_another_version_is_a_protocol_error(self) -> None:
        """It answers with the header that it wants."""
        peer = self.connect()
        logged_in = peer.client.authenticate("me", "pw")
        peer.feed(b"AMQP\x00\x01\x00\x00")
        self.assertIn("1-0-0", str(self.refused(peer, logged_in, Closed)))

    def test_the_connection_may_end_at_any_step(self) -> None:
        """Who logs in hears of it."""
        for step in ("connection.start-ok", "connection.tune-ok", "connection.open"):
            peer = self.connect()
            peer.lose_at(step)
            self.assertIn("lost", str(self._login_failure(peer)))

    def test_what_the_broker_says_of_itself_is_kept(self) -> None:
        """Its product and version, as RabbitMQ sent them."""
        peer = self.connect()
        peer.feed(captured.CONNECTION_START)
        self.assertEqual(peer.client.server_properties["product"], "RabbitMQ")


class LimitsTests(PeerTestCase):
    """What both sides agree upon."""

    def agreed(self, ours: int = 0, **tune: int) -> tuple[AMQClient, dict[str, Any]]:
        peer = self.connect(self.new_client(ours), **tune)
        logged_in = peer.client.authenticate("guest", "guest")
        peer.greet()
        self.answered(peer, logged_in)
        return peer.client, peer.one("connection.tune-ok").fields

    def test_the_smaller_limit_holds(self) -> None:
        """0 is none."""
        for theirs, frame_max in ((0, 131_072), (8192, 8192), (2**20, 131_072)):
            client, fields = self.agreed(frame_max=theirs)
            self.assertEqual((client.frame_max, fields["frame_max"]), (frame_max, frame_max))
        for theirs, channel_max in ((0, 2047), (100, 100), (65_535, 2047)):
            client, fields = self.agreed(channel_max=theirs)
            self.assertEqual((client.channel_max, fields["channel_max"]), (channel_max, channel_max))

    def test_the_interval_is_the_smaller_or_the_only_one(self) -> None:
        """0 says that one does not mind."""
        for ours, theirs, interval in ((0, 0, 0), (10, 0, 10), (0, 60, 60), (10, 60, 10), (60, 10, 10)):
            client, fields = self.agreed(ours, heartbeat=theirs)
            self.assertEqual((client.heartbeatInterval, fields["heartbeat"]), (interval, interval))

    def test_frames_that_are_too_small_are_refused(self) -> None:
        """AMQP wants 4096 bytes at least."""
        peer = self.connect(frame_max=4095)
        logged_in = peer.client.authenticate("guest", "guest")
        peer.greet()
        self.assertIn("4095", str(self.refused(peer, logged_in, Closed)))

    def test_a_longer_frame_than_agreed_is_a_protocol_error(self) -> None:
        """The limit is both sides'."""
        peer = self.log_in(frame_max=4096)
        self.open_channel(peer)
        peer.feed(packed_content(1, "basic.return", b"x" * 4089))
        self.assertEqual(peer.one("connection.close").fields["reply_code"], 501)


class ReadingTests(PeerTestCase):
    """What becomes of what the broker sends."""

    def test_it_does_not_matter_how_the_bytes_are_cut(self) -> None:
        """One by one."""
        peer = self.log_in()
        channel = self.open_channel(peer)
        declared = channel.queue_declare(queue="q")
        for octet in packed(1, "queue.declare-ok", queue="q", message_count=3):
            peer.feed(bytes((octet,)))
        self.assertEqual(self.successResultOf(declared).message_count, 3)

    def test_the_answers_to_one_read_leave_in_one_write(self) -> None:
        """In their order."""
        peer = self.log_in()
        peer.link.take()
        self.open_channel(peer)
        peer.feed(packed(1, "channel.flow", active=True) + packed(1, "channel.flow"))
        self.assertEqual(len(peer.link.writes), 1)
        self.assertEqual([sent.fields["active"] for sent in peer.read()], [True, False])

    def _code(self, data: bytes) -> int:
        peer = self.log_in()
        self.open_channel(peer)
        with capturedLogs() as logs:
            peer.feed(data)
        self.assertEqual([event["log_level"] for event in logs], [LogLevel.error])
        self.assertTrue(peer.client.closed)
        close = peer.one("connection.close").fields
        self.assertIn(close["reply_text"][:30], str(logs[0]["error"]))
        code: int = close["reply_code"]
        return code

    def test_what_breaks_the_rules_ends_the_connection_with_its_code(self) -> None:
        """The broker is told, and so is the log."""
        cases = [
            (b"\x01\x00\x01\x00\x00\x00\x04\x00\x32\x00\x63\xce", 540),
            (b"\x01\x00\x01\x00\x00\x00\x05\x00\x3c\x00\x50\x01\xce", 502),
            (b"\x08\x00\x00\x00\x00\x00\x00\xcd", 501),
            (b"\x63\x00\x00\x00\x00\x00\x00\xce", 501),
            (packed(7, "basic.ack"), 504),
            (packed(1, "queue.declare-ok", queue="q"), 503),
            (packed(1, "basic.deliver") + packed(1, "basic.ack"), 505),
            (frames.pack_content(1, 60, b"\x00\x00", b"", 0)[0], 505),
        ]
        for data, code in cases:
            self.assertEqual(self._code(data), code, data)

    def test_a_method_that_only_clients_send_ends_the_connection(self) -> None:
        """It is none of the broker's."""
        self.assertEqual(self._code(packed(1, "queue.declare", queue="q")), 503)
        self.assertEqual(self._code(packed(0, "connection.start-ok")), 503)

    def test_limits_that_come_again_end_the_connection(self) -> None:
        """They were settled."""
        self.assertEqual(self._code(packed(0, "connection.tune", frame_max=4096)), 503)

    def test_what_comes_before_a_bad_frame_counts(self) -> None:
        """In the same read."""
        peer = self.log_in()
        declared = self.open_channel(peer).queue_declare(queue="q")
        peer.feed(packed(1, "queue.declare-ok", queue="q") + b"\xff" * 8)
        self.assertEqual(self.successResultOf(declared).queue, "q")

    def test_what_comes_after_the_end_does_not_count(self) -> None:
        """In the same read, and later."""
        peer = self.log_in()
        confirms: list[int] = []
        self.open_channel(peer).on_confirm = lambda number, multiple, acked: confirms.append(number)
        with capturedLogs() as logs:
            peer.feed(packed(0, "connection.close") + packed(1, "basic.ack", delivery_tag=1))
            peer.feed(packed(1, "basic.ack", delivery_tag=2))
        self.assertEqual((confirms, logs), ([], []))
        self.assertEqual((peer.names(), peer.link.dropped), (["connection.close-ok"], []))

    def test_garbage_after_the_end_is_not_told_again(self) -> None:
        """One error is enough."""
        peer = self.log_in()
        peer.feed(b"\xff" * 8)
        with capturedLogs() as logs:
            peer.feed(b"\xff" * 8)
        self.assertEqual(logs, [])


class WritingTests(PeerTestCase):
    """How bytes leave."""

    def setUp(self) -> None:
        super().setUp()
        self.peer = self.log_in()
        self.peer.link.take()

    def test_what_is_written_together_leaves_at_once(self) -> None:
        """At the end of the outermost block."""
        client, link = self.peer.client, self.peer.link
        with client.corked():
            client.write(b"a")
            with client.corked():
                client.write_all([b"b", b"c"])
            self.assertEqual(link.writes, [])
        self.assertEqual(link.writes, [b"abc"])

    def test_what_is_written_together_leaves_in_spite_of_an_error(self) -> None:
        """It was promised."""
        with self.assertRaises(ZeroDivisionError), self.peer.client.corked():
            self.peer.client.write(b"a")
            raise ZeroDivisionError
        self.assertEqual(self.peer.link.writes, [b"a"])

    def test_nothing_together_is_no_write(self) -> None:
        """An empty block."""
        with self.peer.client.corked():
            pass
        self.assertEqual(self.peer.link.writes, [])

    def test_a_large_body_is_not_joined(self) -> None:
        """Its frames leave as they are."""
        self.peer.client.write_all([b"a", b"b"])
        self.assertEqual(self.peer.link.writes, [b"a", b"b"])

    def test_it_hears_whether_the_transport_takes_more(self) -> None:
        """The transport tells its producer."""
        heard: list[bool] = []
        client = self.peer.client
        client.on_flow = lambda: heard.append(client.writable)
        self.peer.link.producer.pauseProducing()
        self.peer.link.producer.resumeProducing()
        self.peer.link.producer.stopProducing()
        self.assertEqual(heard, [False, True])

    def test_it_hears_of_an_alarm(self) -> None:
        """And of its end."""
        heard: list[str | None] = []
        client = self.peer.client
        client.on_flow = lambda: heard.append(client.blocked)
        self.peer.send(0, "connection.blocked", reason="low on disk")
        self.peer.send(0, "connection.unblocked")
        self.peer.send(0, "connection.blocked")
        self.assertEqual(heard, ["low on disk", None, "no reason given"])

    def test_nobody_needs_to_hear_of_it(self) -> None:
        """The state is kept."""
        self.peer.link.producer.pauseProducing()
        self.peer.send(0, "connection.blocked", reason="low on disk")
        self.assertEqual((self.peer.client.writable, self.peer.client.blocked), (False, "low on disk"))


class UnconnectedTests(PeerTestCase):
    """Before there is a connection."""

    def setUp(self) -> None:
        super().setUp()
        self.client = self.new_client()
        self.channel = self.successResultOf(self.client.channel(1))

    def test_a_method_is_an_error(self) -> None:
        """It says what to wait for; once connected, the channel serves."""
        error = self.failureResultOf(self.channel.queue_declare(queue="q"), CallerError).value
        self.assertIn("no connection yet", str(error))
        peer = self.log_in(self.client)
        self.assertEqual(self.answered(peer, self.channel.queue_declare(queue="q")).queue, "q")

    def test_what_is_published_is_an_error(self) -> None:
        """Of any size, also together with other things."""
        for body in (b"", b"x" * 200_000):
            with self.assertRaises(CallerError), self.client.corked():
                self.channel.publish("", "q", encode_properties({}), body)

    def test_a_channel_cannot_be_opened(self) -> None:
        """None is left behind."""
        opened = Deferred.fromCoroutine(self.client.open_channel())
        self.failureResultOf(opened, CallerError)
        self.assertEqual(list(self.client.channels), [0, 1])


class EndTests(PeerTestCase):
    """However the connection ends."""

    def setUp(self) -> None:
        super().setUp()
        self.peer = self.log_in()
        self.client = self.peer.client

    def test_the_brokers_close_is_answered_before_the_end(self) -> None:
        """All that was written goes before it."""
        channel = self.open_channel(self.peer)
        self.peer.feed(packed(1, "channel.flow", active=True) + packed(0, "connection.close", reply_code=320))
        self.assertEqual(self.peer.names(), ["channel.flow-ok", "connection.close-ok"])
        self.assertTrue(self.peer.link.ended)
        self.assertEqual(self.peer.link.dropped, [])
        self.assertTrue(channel.closed)

    def test_the_transport_ends_though_it_holds_bytes_back(self) -> None:
        """A registered producer would keep it open for good."""
        self.peer.link.producer.pauseProducing()
        self.client.close()
        self.assertTrue(self.peer.link.ended)

    def test_a_clean_close_waits_for_the_broker(self) -> None:
        """It is told the code for success."""
        closed = self.client.close(within=3)
        self.assertFalse(self.client.closed)
        self.assertIsNone(self.answered(self.peer, closed))
        self.assertEqual(self.peer.one("connection.close").fields["reply_code"], 200)
        self.assertTrue(self.peer.lost)

    def test_a_clean_close_is_limited_in_time(self) -> None:
        """A broker that doesn't answer may not read either, so nothing is waited for."""
        closed = self.client.close(within=3)
        self.clock.advance(3)
        self.assertIsNone(self.successResultOf(closed))
        self.assertTrue(self.client.closed)
        self.assertTrue(self.peer.link.aborted)

    def test_an_end_that_does_not_come_is_made(self) -> None:
        """A broker that doesn't read what is left would hold the connection for ever."""
        self.client.close()
        self.clock.advance(2.9)
        self.assertFalse(self.peer.link.aborted)
        self.clock.advance(0.1)
        self.assertTrue(self.peer.link.aborted)

    def test_an_end_that_came_leaves_no_delayed_call(self) -> None:
        """Whoever wanted it."""
        self.client.close()
        self.peer.settle()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        lost = self.log_in()
        lost.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_close_without_time_tells_nobody(self) -> None:
        """It is at once."""
        self.peer.link.take()
        self.assertIsNone(self.successResultOf(self.client.close()))
        self.assertEqual(self.peer.names(), [])

    def test_two_closes_both_succeed(self) -> None:
        """Whoever comes second waits as well."""
        first, second = self.client.close(within=3), self.client.close(within=3)
        self.peer.settle()
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertIsNone(self.successResultOf(self.client.close(within=3)))

    def test_a_close_that_crosses_the_brokers_succeeds(self) -> None:
        """Both wanted it."""
        closed = self.client.close(within=3)
        self.peer.send(0, "connection.close", reply_code=320)
        self.assertIsNone(self.successResultOf(closed))
        self.assertEqual(self.client.reason.reply_code, 320)

    def test_pending_methods_fail_with_the_reason(self) -> None:
        """On every channel."""
        channels = [self.open_channel(self.peer, number) for number in (1, 2)]
        declared = [channel.queue_declare(queue="q") for channel in channels]
        self.peer.send(0, "connection.close", reply_code=320, reply_text="shutdown")
        for each in declared:
            error = self.failureResultOf(each, ConnectionClosed).value
            self.assertEqual(error.args[0].reply_text, "shutdown")

    def test_later_methods_fail_at_once(self) -> None:
        """Nothing is written."""
        channel = self.open_channel(self.peer)
        self.peer.lose()
        self.peer.link.take()
        self.failureResultOf(channel.queue_declare(queue="q"), Closed)
        self.assertEqual(self.peer.link.writes, [])

    def test_a_method_that_is_tried_again_in_its_errback_fails_too(self) -> None:
        """It doesn't go round in circles."""
        channel = self.open_channel(self.peer)
        again = channel.queue_declare(queue="q").addErrback(lambda _: channel.queue_declare(queue="q"))
        self.peer.lose()
        self.failureResultOf(again, Closed)

    def test_the_reason_is_kept(self) -> None:
        """The first one."""
        self.client.close()
        self.client.close("another")
        self.assertIsInstance(self.client.reason, ConnectionDone)
        self.peer.lose(ConnectionLost())
        self.assertIsInstance(self.client.reason, ConnectionDone)

    def test_a_close_may_have_a_reason(self) -> None:
        """With time or without."""
        self.client.close("a reason", within=3)
        self.peer.settle()
        self.assertEqual(self.client.reason, "a reason")

    def test_a_client_that_was_never_connected_closes_at_once(self) -> None:
        """However much time it is given."""
        client = self.new_client()
        self.successResultOf(client.close(within=3))
        self.assertTrue(client.closed)

    def test_its_end_is_known_before_its_requests_fail(self) -> None:
        """Whoever reacts to that must not think that it goes on."""
        known: list[bool] = []
        declared = self.open_channel(self.peer).queue_declare(queue="q")
        declared.addErrback(lambda _: known.append(self.client.closed))
        self.client.close()
        self.assertEqual(known, [True])

    def test_who_waits_for_the_end_hears_of_it(self) -> None:
        """When the transport has ended, no earlier."""
        waiting = self.client.disconnected.wait()
        self.client.close()
        self.assertNoResult(waiting)
        self.peer.settle()
        self.assertTrue(self.successResultOf(waiting))

    def test_an_error_of_our_own_finding_is_the_reason(self) -> None:
        """Channels hear of it."""
        opened = self.successResultOf(self.client.channel(1)).channel_open()
        self.client.fail(ProtocolError("nonsense"))
        self.assertIn("nonsense", str(self.failureResultOf(opened, Closed).value))


class ChannelsTests(PeerTestCase):
    """The channels of a connection, and their consumers' queues."""

    def test_a_number_is_one_channel(self) -> None:
        """Made when it is first asked for."""
        client = self.log_in().client
        first, again = self.successResultOf(client.channel(5)), self.successResultOf(client.channel(5))
        self.assertIs(first, again)
        self.assertEqual(first.id, 5)

    def test_an_opened_channel_has_a_number_of_its_own(self) -> None:
        """The lowest that is free."""
        peer = self.log_in()
        channels = [self.answered(peer, Deferred.fromCoroutine(peer.client.open_channel())) for _ in range(3)]
        self.assertEqual([channel.id for channel in channels], [1, 2, 3])
        self.answered(peer, channels[1].channel_close())
        again = self.answered(peer, Deferred.fromCoroutine(peer.client.open_channel()))
        self.assertEqual(again.id, 2)

    def test_the_number_of_channels_is_limited(self) -> None:
        """By what both sides agreed upon."""
        peer = self.log_in(channel_max=1)
        self.answered(peer, Deferred.fromCoroutine(peer.client.open_channel()))
        refused = self.refused(peer, Deferred.fromCoroutine(peer.client.open_channel()), AMQPError)
        self.assertIn("all 1 channels", str(refused))

    def test_a_channel_that_is_given_up_while_it_opens_is_closed(self) -> None:
        """Its number is free when the broker has answered both, no earlier."""
        peer = self.log_in()
        given_up = Deferred.fromCoroutine(peer.client.open_channel())
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        sent = [(each.channel, each.name) for each in peer.read()]
        self.assertEqual(sent, [(1, "channel.open"), (1, "channel.close")])
        peer.send(1, "channel.open-ok")
        other = Deferred.fromCoroutine(peer.client.open_channel())
        self.assertEqual(self.answered(peer, other).id, 2)
        peer.send(1, "channel.close-ok")
        again = Deferred.fromCoroutine(peer.client.open_channel())
        self.assertEqual(self.answered(peer, again).id, 1)

    def test_a_channel_may_be_given_up_as_the_connection_ends(self) -> None:
        """Nobody is left to hear of it."""
        peer = self.log_in()
        given_up = Deferred.fromCoroutine(peer.client.open_channel())
        peer.client.on_channel_failed = self.fail
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        peer.lose()
        self.assertTrue(peer.client.channels[1].closed)

    def test_a_queue_may_be_asked_for_before_its_consumer_is_there(self) -> None:
        """It is the same one."""
        peer = self.log_in()
        early = self.successResultOf(peer.client.queue("tag"))
        channel = self.open_channel(peer)
        self.answered(peer, channel.basic_consume(queue="q", consumer_tag="tag"))
        self.assertIs(self.successResultOf(peer.client.queue("tag")), early)
        self.assertIs(channel.consumer_queue("tag"), early)

    def test_a_tag_of_two_channels_is_asked_of_the_channel(self) -> None:
        """The connection can't know which."""
        peer = self.log_in()
        for number in (1, 2):
            channel = self.open_channel(peer, number)
            self.answered(peer, channel.basic_consume(queue="q", consumer_tag="tag"))
        self.failureResultOf(peer.client.queue("tag"), ValueError)
