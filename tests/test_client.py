"""A client's connections: coming to one, losing it, closing it; on a reactor in memory."""

from __future__ import annotations

import os
from typing import Any

from twisted.application.service import MultiService

from crew_tx import Client
from crew_tx.amqp import service
from crew_tx.codec import LARGE
from crew_tx.errors import (
    AccessRefusedError,
    AuthenticationError,
    BrokerBlockedError,
    ClientStoppedError,
    ConfigurationError,
    ConnectionLostError,
    InvalidArgumentError,
    PublishTimeoutError,
    ReplyLostError,
)
from tests.amqp.peer import Sent
from tests.clients import FAILURE, ClientTestCase
from tests.roles import CODEC, URL


class ConnectTests(ClientTestCase):
    """Coming to a connection."""

    def test_it_makes_ready_what_it_needs(self) -> None:
        """Its reply queue, bound for replies and dead letters; confirms; a consumer, on one channel."""
        self.client.connect()
        sent = self.accept().read()
        queue = f"crew.reply.{self.client.client_id}"
        [declared] = [each for each in sent if each.name == "queue.declare" and not each.fields["passive"]]
        self.assertEqual(declared.fields["queue"], queue)
        self.assertTrue(declared.fields["durable"])
        self.assertFalse(declared.fields["exclusive"])
        self.assertEqual(declared.fields["arguments"], {"x-expires": 600_000})
        bound = [
            (each.fields["queue"], each.fields["exchange"], each.fields["routing_key"])
            for each in sent
            if each.name == "queue.bind"
        ]
        self.assertEqual(
            bound,
            [
                ("crew.dead", "crew.dead", ""),
                (queue, "crew.replies", self.client.client_id),
                (queue, "crew.dlx", f"@{self.client.client_id}"),
            ],
        )
        [confirm] = [each for each in sent if each.name == "confirm.select"]
        [consume] = [each for each in sent if each.name == "basic.consume"]
        self.assertEqual((consume.fields["queue"], consume.fields["no_ack"]), (queue, False))
        self.assertEqual(confirm.channel, consume.channel)
        self.assertLess(sent.index(confirm), sent.index(consume))

    def test_exchanges_are_only_looked_for(self) -> None:
        """A caller needs no right to make them."""
        self.client.connect()
        declared = [each.fields for each in self.accept().read() if each.name == "exchange.declare"]
        self.assertIn("crew.tasks", [fields["exchange"] for fields in declared])
        self.assertEqual({fields["passive"] for fields in declared}, {True})

    def test_a_quorum_queue_for_replies(self) -> None:
        """Where the broker is a cluster."""
        self.make(reply_queue_type="quorum").connect()
        sent = self.accept().read()
        [declared] = [each for each in sent if each.name == "queue.declare" and not each.fields["passive"]]
        self.assertEqual(declared.fields["arguments"]["x-queue-type"], "quorum")

    def test_the_broker_comes_from_the_environment(self) -> None:
        """Where no URL is given; and is on this machine where nothing says so."""
        for environment, url, expected in (
            ({"CREW_BROKER": "amqp://127.0.0.1:5000"}, None, ("127.0.0.1", 5000)),
            ({"CREW_BROKER": "amqp://127.0.0.1:5000"}, "amqp://127.0.0.1:6000", ("127.0.0.1", 6000)),
            ({}, None, ("127.0.0.1", 5672)),
        ):
            self.patch(os, "environ", environment)
            client = Client(self.reactor, url)
            client.connect().addErrback(lambda _: None)
            self.assertEqual(self.attempts, [expected])
            self.reactor.tcpClients.clear()
            self.close(client)

    def test_calls_wait_for_the_first_connection(self) -> None:
        """They go out when it is there, in their order."""
        for number in range(3):
            self.call(data=number)
        self.assertEqual(self.client.status().waiting, 3)
        self.client.connect()
        self.accept()
        bodies = [CODEC.decode(sent.body or b"", "application/cbor") for sent in self.published()]
        self.assertEqual(bodies, [0, 1, 2])

    def test_it_tries_until_there_is_a_broker(self) -> None:
        """The Deferred waits for it."""
        connected = self.client.connect()
        for _ in range(3):
            self.refuse()
            self.assertNoResult(connected)
            self.advance(5)
        self.accept()
        self.successResultOf(connected)
        self.assertTrue(self.client.status().connected)

    def test_no_connection_in_time(self) -> None:
        """An error that says why; the client goes on trying, and may be asked again."""
        connected = self.client.connect(timeout=2)
        self.refuse()
        self.advance(2)
        error = self.failureResultOf(connected, ConnectionLostError).value
        self.assertIn("within 2 s", str(error))
        self.assertIn("127.0.0.1", str(error))
        again = self.client.connect()
        self.advance(5)
        self.accept()
        self.successResultOf(again)

    def test_half_a_minute_is_enough_to_connect(self) -> None:
        """Where nothing else is said."""
        connected = self.client.connect()
        self.advance(29.5)
        self.assertNoResult(connected)
        self.advance(0.5)
        self.failureResultOf(connected, ConnectionLostError)

    def test_a_wrong_password_is_final(self) -> None:
        """Connecting fails with it, what waits fails with it, and so does every call after that."""
        waiting, sending = self.call(), self.client.send("sum")
        connected = self.client.connect()
        self.accept(lambda peer: peer.refuse("connection.start-ok", 403, "ACCESS_REFUSED"))
        error = self.failureResultOf(connected, AuthenticationError).value
        self.assertIs(self.failureResultOf(waiting).value, error)
        self.assertIs(self.failureResultOf(sending).value, error)
        self.assertIs(self.failureResultOf(self.call()).value, error)
        sent = self.client.send("sum")
        self.assertIs(self.failureResultOf(sent).value, error)
        self.assertEqual(self.attempts, [])

    def test_asking_again_after_a_refusal_is_answered_at_once(self) -> None:
        """Nothing has changed."""
        connected = self.client.connect()
        self.accept(lambda peer: peer.refuse("connection.start-ok", 403, "ACCESS_REFUSED"))
        self.failureResultOf(connected, AuthenticationError)
        self.failureResultOf(self.client.connect(), AuthenticationError)

    def test_one_that_is_told_to_wait_takes_a_refusal_for_a_delay(self) -> None:
        """It says what it waits for; its calls go out when it is let in."""
        self.patch(service, "wait_before", lambda attempt, **more: 5.0)
        self.make(on_refusal="wait")
        soon, late = self.client.connect(4), self.client.connect(6)
        deferred = self.call()
        self.accept(lambda peer: peer.refuse("connection.start-ok", 403, "ACCESS_REFUSED"))
        self.advance(4)
        error = self.failureResultOf(soon, ConnectionLostError).value
        self.assertIn("refused the user 'guest'", str(error))
        self.assertNoResult(late)
        self.advance(1)
        self.accept()
        self.successResultOf(late)
        self.assertNoResult(deferred)
        self.assertEqual(["basic.publish"], [sent.name for sent in self.published()])

    def test_what_the_broker_does_not_allow_is_final(self) -> None:
        """The error says what could not be done."""
        connected = self.client.connect()
        self.accept(lambda peer: peer.refuse("queue.bind", 403, "ACCESS_REFUSED"))
        error = self.failureResultOf(connected, AccessRefusedError).value
        self.assertIn("crew.replies", str(error))

    def test_it_is_a_service(self) -> None:
        """It connects when its parent starts, and closes when that stops."""
        parent = MultiService()
        self.client.setServiceParent(parent)
        parent.startService()
        self.accept()
        self.assertTrue(self.client.status().connected)
        self.ended(parent.stopService)
        self.assertFalse(self.client.status().connected)

    def test_wrong_arguments_are_refused(self) -> None:
        """Each at once, with an error that names it."""
        for options, kind, words in (
            ({"url": "http://127.0.0.1"}, ConfigurationError, "amqp://"),
            ({"name": "a*"}, InvalidArgumentError, "client"),
            ({"name": "x" * 201}, InvalidArgumentError, "200"),
            ({"reply_queue_type": "stream"}, InvalidArgumentError, "stream"),
            ({"serializer": "yaml"}, InvalidArgumentError, "yaml"),
            ({"serializer": "pickle"}, InvalidArgumentError, "allow_pickle"),
            ({"on_refusal": "retry"}, InvalidArgumentError, "on_refusal"),
            ({"max_message_size": 0}, InvalidArgumentError, "max_message_size"),
        ):
            with self.assertRaisesRegex(kind, words):
                Client(self.reactor, **{"url": URL, **options})

    def test_its_id_has_its_name(self) -> None:
        """And is no other's."""
        ids = {Client(self.reactor, URL, name="shop").client_id for _ in range(2)}
        self.assertEqual(len(ids), 2)
        self.assertTrue(all(client_id.startswith("shop-") for client_id in ids))
        self.assertTrue(self.client.client_id.startswith("client-"))


class ConnectionErrorTests(ClientTestCase):
    """Alarms, and connections that end."""

    def test_a_blocked_broker_is_waited_for(self) -> None:
        """The call goes out when the alarm is over."""
        self.connect()
        self.block("low on disk")
        self.assertEqual(self.client.status().blocked, "low on disk")
        deferred = self.call()
        self.advance(20)
        self.assertEqual((self.published(), self.client.status().waiting), ([], 1))
        self.unblock()
        self.assertEqual(len(self.published()), 1)
        self.assertNoResult(deferred)
        self.assertIsNone(self.client.status().blocked)

    def test_a_blocked_broker_is_waited_for_no_longer_than_30_seconds(self) -> None:
        """Nothing was written, and nothing is any more."""
        self.connect()
        self.block("low on disk")
        deferred = self.call()
        self.advance(29.5)
        self.assertNoResult(deferred)
        self.advance(1)
        error = self.failureResultOf(deferred, BrokerBlockedError).value
        self.assertEqual((error.reason, error.maybe_sent), ("low on disk", False))
        self.unblock()
        self.assertEqual(self.published(), [])

    def test_a_call_that_was_written_before_the_alarm(self) -> None:
        """Nobody knows whether the broker has read it."""
        self.connect(publish_timeout=5)
        deferred, _ = self.called()
        self.block()
        self.advance(4.5)
        self.assertNoResult(deferred)
        self.advance(1)
        self.assertTrue(self.failureResultOf(deferred, BrokerBlockedError).value.maybe_sent)

    def test_replies_come_through_an_alarm(self) -> None:
        """What is blocked is publishing."""
        self.connect()
        deferred, sent = self.called()
        self.block()
        self.reply(sent, 12)
        self.assertEqual(self.successResultOf(deferred), 12)

    def test_a_confirm_that_does_not_come_is_no_end(self) -> None:
        """The answer may, and does."""
        self.connect(publish_timeout=5)
        deferred, sent = self.called()
        self.advance(100)
        self.reply(sent, 12)
        self.assertEqual(self.successResultOf(deferred), 12)

    def test_a_call_that_the_socket_does_not_take(self) -> None:
        """It waits no longer than for anything else, and was not sent."""
        self.connect(publish_timeout=5)
        self.peer.link.producer.pauseProducing()
        deferred = self.call()
        self.advance(6)
        self.assertFalse(self.failureResultOf(deferred, PublishTimeoutError).value.maybe_sent)
        self.peer.link.producer.resumeProducing()
        self.assertEqual(self.published(), [])

    def test_a_call_that_cannot_be_sent_again_for_long(self) -> None:
        """The broker may have it: it waits on, and is written in its turn."""
        self.connect(publish_timeout=5)
        self.call(data=1)
        self.call(data=2)
        self.assertEqual(len(self.published()), 2)
        self.peer.lose()
        self.client._publisher._max_unconfirmed = 1
        self.reactor.advance(10)
        self.accept()
        self.channel = self.channel_of("basic.consume")
        self.assertEqual(len(self.published()), 1)
        self.advance(20)
        self.assertEqual(self.client.status().waiting, 1)
        self.confirm(self.channel, 1)
        [again] = self.published()
        self.reply(again, 12)
        self.assertEqual(self.client.status().pending, 1)

    def test_no_connection_for_30_seconds(self) -> None:
        """The call was not sent, and the error says so."""
        deferred = self.call()
        self.advance(29.5)
        self.assertNoResult(deferred)
        self.advance(1)
        self.assertFalse(self.failureResultOf(deferred, ConnectionLostError).value.maybe_sent)
        self.connect()
        self.assertEqual(self.published(), [])

    def test_a_call_made_while_there_is_no_connection(self) -> None:
        """It goes out by the next one, and its reply comes by that."""
        self.connect()
        self.peer.lose()
        deferred = self.call()
        self.advance(5)
        self.accept()
        [sent] = self.published_at_once()
        self.reply(sent, 12)
        self.assertEqual(self.successResultOf(deferred), 12)

    def published_at_once(self) -> list[Sent]:
        """What was published as soon as there was a connection; the reply queue's channel with it."""
        self.channel = self.channel_of("basic.consume")
        return self.published()

    def test_a_confirmed_transient_call_is_lost_with_its_connection(self) -> None:
        """A broker that was restarted has lost it, and a cut looks the same; a late reply is dropped."""
        self.connect()
        deferred, sent = self.called(persistent=False)
        self.confirm(self.channel, 1)
        self.peer.lose()
        self.assertTrue(self.failureResultOf(deferred, ConnectionLostError).value.maybe_sent)
        self.advance(5)
        self.accept()
        self.channel = self.channel_of("basic.consume")
        self.reply(sent, 12)
        self.assertEqual(self.client.status().late_replies, 1)

    def test_the_reply_queue_is_gone(self) -> None:
        """Nobody can answer what was confirmed; a new connection brings a new queue."""
        self.connect()
        deferred, _ = self.called()
        self.confirm(self.channel, 1)
        self.cancel(f"crew.reply.{self.client.client_id}", self.channel)
        self.failureResultOf(deferred, ReplyLostError)
        self.peer.settle()
        self.advance(5)
        self.accept()
        self.assertTrue(self.client.status().connected)

    def test_a_channel_that_the_broker_closes_brings_a_new_connection(self) -> None:
        """A client that hears no replies any more is worse than one that is gone."""
        self.connect()
        self.peer.send(self.channel, "channel.close", reply_code=406, reply_text="PRECONDITION_FAILED")
        self.peer.settle()
        self.advance(5)
        self.accept()
        self.assertTrue(self.client.status().connected)

    def test_a_frozen_broker_is_noticed(self) -> None:
        """By its silence of two heartbeats."""
        self.make()
        client = Client(self.reactor, URL, heartbeat=10)
        self.addCleanup(self.close, client)
        client.connect()
        peer = self.accept()
        self.advance(19)
        self.assertTrue(client.status().connected)
        self.advance(1.5)
        self.assertTrue(peer.link.aborted)


class CloseTests(ClientTestCase):
    """The end."""

    def test_the_reply_queue_is_deleted_and_the_connection_closed(self) -> None:
        """In that order; replies that came are acknowledged first."""
        peer = self.connect()
        _, sent = self.called()
        self.reply(sent)
        closed = self.client.close()
        peer.settle()
        names = peer.names()
        self.assertEqual(names, ["basic.ack", "queue.delete", "connection.close"])
        self.successResultOf(closed)
        self.assertTrue(peer.lost)

    def test_pending_calls_fail(self) -> None:
        """Those that wait to be written, and those that were."""
        self.connect()
        written, _ = self.called()
        self.block()
        waiting = self.call()
        self.close(self.client)
        self.failureResultOf(written, ClientStoppedError)
        self.failureResultOf(waiting, ClientStoppedError)

    def test_calls_after_that_fail_at_once(self) -> None:
        """In whatever style."""
        self.connect()
        self.close(self.client)
        got: list[Any] = []
        self.failureResultOf(self.call(), ClientStoppedError)
        self.failureResultOf(self.client.request("sum"), ClientStoppedError)
        self.failureResultOf(self.client.send("sum"), ClientStoppedError)
        self.failureResultOf(self.client.send("sum", object()), ClientStoppedError)
        self.client.call("sum", callback=lambda outcome, headers: got.append(outcome))
        self.assertIsInstance(got[0], ClientStoppedError)

    def test_a_message_that_waits_fails(self) -> None:
        """One-way ones as well."""
        self.connect()
        self.block()
        sent = self.client.send("sum")
        self.close(self.client)
        self.failureResultOf(sent, ClientStoppedError)

    def test_what_is_being_encoded_fails(self) -> None:
        """And is not sent when that is done."""
        self.connect()
        large = b"x" * (2 * LARGE)
        call, sent = self.call(data=large), self.client.send("sum", large)
        self.close(self.client)
        self.reactor.threads.step()
        self.reactor.threads.step()
        self.failureResultOf(call, ClientStoppedError)
        self.failureResultOf(sent, ClientStoppedError)

    def test_a_client_that_never_connected(self) -> None:
        """Or that is just trying to."""
        self.successResultOf(self.client.close())
        connecting = self.client.connect()
        self.close(self.client)
        self.failureResultOf(connecting, ConnectionLostError)

    def test_it_may_be_closed_twice(self) -> None:
        """The second time there is nothing to do."""
        self.connect()
        self.close(self.client)
        self.successResultOf(self.client.close())

    def test_a_broker_that_answers_nothing_is_not_waited_for(self) -> None:
        """Three seconds for the queue, three for the connection."""
        peer = self.connect()
        closed = self.client.close()
        self.advance(5.5)
        self.assertFalse(peer.link.ended)
        self.advance(0.5)
        self.assertTrue(peer.link.aborted)
        peer.lose()
        self.successResultOf(closed)

    def test_a_connection_that_is_lost_meanwhile(self) -> None:
        """It is closed then."""
        peer = self.connect()
        closed = self.client.close()
        peer.lose()
        self.successResultOf(closed)

    def test_it_may_connect_again(self) -> None:
        """With the queue of its name."""
        self.connect()
        self.close(self.client)
        self.connect()
        deferred, sent = self.called()
        self.reply(sent, 12)
        self.assertEqual(self.successResultOf(deferred), 12)

    def test_connecting_before_it_is_closed_is_refused(self) -> None:
        """The error says what to wait for; the close goes on, and it may connect after that."""
        peer = self.connect()
        closed = self.client.close()
        error = self.failureResultOf(self.client.connect(), ClientStoppedError).value
        self.assertIn("wait for the Deferred of close()", str(error))
        self.assertNoResult(closed)
        self.assertEqual(self.attempts, [])
        peer.settle()
        self.successResultOf(closed)
        self.assertTrue(peer.lost)
        self.connect()
        self.assertTrue(self.client.status().connected)

    def test_starting_it_before_it_is_closed_is_refused(self) -> None:
        """As a service, too: it does not run then."""
        peer = self.connect()
        stopped = self.client.stopService()
        self.assertRaises(ClientStoppedError, self.client.startService)
        self.assertFalse(self.client.running)
        peer.settle()
        self.successResultOf(stopped)

    def test_closing_twice_at_once(self) -> None:
        """Both wait for the end, and may connect then."""
        peer = self.connect()
        first, second = self.client.close(), self.client.close()
        again = [closed.addCallback(lambda _: self.client.connect()) for closed in (first, second)]
        self.assertNoResult(first)
        self.assertNoResult(second)
        peer.settle()
        self.accept()
        self.assertEqual([self.successResultOf(each) for each in again], [self.client] * 2)

    def test_closing_as_soon_as_it_is_connected(self) -> None:
        """In the callback of the connection."""
        closed = self.client.connect().addCallback(lambda client: client.close())
        peer = self.accept()
        self.successResultOf(closed)
        self.assertTrue(peer.lost)
        self.connect()

    def test_closing_while_nobody_has_answered_the_phone(self) -> None:
        """The attempt is given up, and there is no other."""
        connecting = self.client.connect()
        self.successResultOf(self.client.close())
        self.failureResultOf(connecting, ConnectionLostError)
        self.reactor.tcpClients.clear()
        self.advance(10)
        self.assertEqual(self.attempts, [])
        self.connect()

    def test_closing_between_two_attempts(self) -> None:
        """There is no other."""
        self.patch(service, "wait_before", lambda attempt, **more: 5.0)
        connecting = self.client.connect()
        self.refuse()
        self.successResultOf(self.client.close())
        self.failureResultOf(connecting, ConnectionLostError)
        self.advance(10)
        self.assertEqual(self.attempts, [])
        self.connect()

    def test_closing_at_any_step_of_a_connection(self) -> None:
        """Wherever the broker takes its time: the connection is cut, and another can be made."""
        for step in (
            "connection.start-ok",
            "connection.open",
            "channel.open",
            "exchange.declare",
            "queue.declare",
            "queue.bind",
            "confirm.select",
            "basic.consume",
        ):
            connecting = self.client.connect()
            peer = self.accept(lambda peer, step=step: peer.answers.update({step: lambda sent: None}))
            self.assertNoResult(connecting)
            self.successResultOf(self.client.close())
            self.failureResultOf(connecting, ConnectionLostError)
            self.assertTrue(peer.link.aborted, step)
        self.connect()
        deferred, sent = self.called()
        self.reply(sent, 12)
        self.assertEqual(self.successResultOf(deferred), 12)


class StatusTests(ClientTestCase):
    """A frozen snapshot."""

    def test_it_counts(self) -> None:
        """Calls, answers, errors, and what is out."""
        self.connect()
        before = self.client.status()
        _, answered = self.called()
        self.reply(answered)
        _, failed = self.called()
        self.reply(failed, FAILURE, error="raised")
        self.called()
        self.confirm(self.channel, 2, multiple=True)
        status = self.client.status()
        self.assertEqual((status.calls, status.answers, status.errors), (3, 1, 1))
        self.assertEqual((status.pending, status.unconfirmed, status.waiting), (1, 1, 0))
        self.assertEqual((before.calls, before.pending), (0, 0))

    def test_it_says_where_the_client_is(self) -> None:
        """Without the password."""
        self.assertFalse(self.client.status().connected)
        self.connect()
        status = self.client.status()
        self.assertTrue(status.connected)
        self.assertEqual((status.client_id, status.blocked), (self.client.client_id, None))
        self.assertEqual(status.broker, "amqp://guest@127.0.0.1:5672/%2F")
        self.peer.lose()
        self.assertFalse(self.client.status().connected)
