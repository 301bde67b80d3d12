"""A worker's replies: each kept until the broker has it, each call settled behind its reply."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from txamqp.message import Message

from crew_tx.amqp import methods
from crew_tx.amqp.spec import methods as spec_methods
from crew_tx.errors import CrewError, EncodeError, InvalidArgumentError
from crew_tx.message import Answer
from crew_tx.rpc.answers import MAX_RETURNED, RESEND_AFTER, Answers, TakenDelivery, sendable_headers
from tests.rpc.fakes import Channel, attached


def _instead(answer: Answer, error: CrewError) -> Answer:
    return Answer(answer.call_id, str(error).encode()[:20], "text/plain", error="raised")


_ANSWER = Answer("c1", b"12", "application/cbor", worker="w", elapsed=0.5)
_PUBLISHED = ("publish", "crew.replies", "client-1", b"12")


class AnswersTestCase(SynchronousTestCase):
    """Tests with a channel."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.channel: Any = Channel()
        self.publisher = attached(self.clock, self.channel, publish_timeout=30.0, max_waiting=2)
        self.answers = Answers(self.clock, self.publisher, _instead)
        self.addCleanup(self._check_nothing_is_left)

    def _check_nothing_is_left(self) -> None:
        self.answers.stop()
        self.publisher.stop(CrewError("the test is over"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def send(self, tag: int = 1, reply_to: str | None = "client-1", **changes: Any) -> None:
        """An answer to the call that came with a tag, on the channel there is."""
        answer = _ANSWER._replace(**changes)
        self.answers.send(answer, reply_to, TakenDelivery(self.channel, tag))

    def advance(self, seconds: float, step: float = 0.5) -> list[Any]:
        """Let time go by. :returns: what was asked of the channel meanwhile."""
        for _ in range(int(seconds / step)):
            self.clock.advance(step)
        return self.channel.take()  # type: ignore[no-any-return]

    def reconnect(self) -> None:
        """The connection is lost, and another is there."""
        self.channel.close()
        self.channel = Channel()
        self.publisher.attach(self.channel)


class SendTests(AnswersTestCase):
    """The way of a reply that nothing goes wrong with."""

    def test_the_ack_goes_right_behind_the_reply(self) -> None:
        """On the same channel, so the broker never has the ack without the reply."""
        self.send(tag=7)
        self.assertEqual(self.channel.take(), [_PUBLISHED, ("ack", 7, False)])

    def test_the_reply_is_mandatory_and_has_its_calls_id(self) -> None:
        """On the exchange for replies, by the client's id."""
        self.send()
        self.assertTrue(self.channel.mandatory)
        self.assertEqual(self.channel.properties["correlation_id"], "c1")
        self.assertEqual(self.channel.properties["headers"], {"crew-worker": "w", "crew-elapsed": 0.5})

    def test_it_is_kept_until_it_is_confirmed(self) -> None:
        """And then forgotten."""
        self.send()
        self.assertEqual(self.answers.unconfirmed, 1)
        self.channel.confirm()
        self.assertEqual(self.answers.unconfirmed, 0)
        self.channel.take()
        self.reconnect()
        self.assertEqual(self.channel.take(), [])

    def test_a_one_way_call_is_only_settled(self) -> None:
        """Nobody waits for a reply."""
        self.send(tag=7, reply_to=None)
        self.assertEqual(self.channel.take(), [("ack", 7, False)])
        self.assertEqual(self.answers.unconfirmed, 0)

    def test_a_reply_that_cannot_be_written_settles_nothing(self) -> None:
        """So another may be sent in its place."""
        self.assertRaises(EncodeError, self.send, headers={"odd": object()})
        self.assertEqual((self.channel.take(), self.answers.unconfirmed), ([], 0))


def refusal() -> Message:
    """What ends a channel for a message that the broker does not take."""
    text = "PRECONDITION_FAILED - message size 9 is larger than configured max size 8"
    return Message(spec_methods()[methods.CHANNEL_CLOSE], (406, text, 60, 40))


class TroubleTests(AnswersTestCase):
    """What is not taken is kept, and sent again."""

    def test_a_reply_that_the_broker_refuses_is_replaced(self) -> None:
        """Sent again once, then its caller is told why; should that be refused as well, it is given up."""
        self.send(tag=7)
        bodies = []
        for _ in range(4):
            bodies += [event[3] for event in self.channel.take() if event[0] == "publish"]
            on_closed, self.channel.closed = self.channel.on_closed, True
            self.channel = Channel()
            on_closed(refusal())
            self.publisher.attach(self.channel)
        self.assertEqual(bodies, [b"12", b"12", b"publishing: the brok"])
        self.assertEqual((self.answers.unconfirmed, self.answers.undeliverable), (0, 1))

    def test_headers_that_a_small_frame_does_not_hold_are_told_instead(self) -> None:
        """Nothing of such a reply was written; where that can't be told either, its call is settled."""
        written, self.channel.publish = self.channel.publish, Mock(side_effect=EncodeError("too large"))
        self.send(tag=7, headers={"large": "x" * 100})
        self.assertEqual((self.channel.take(), self.answers.undeliverable), ([("ack", 7, False)], 1))
        self.channel.publish = Mock(side_effect=[EncodeError("too large"), None])
        self.send(tag=8, headers={"large": "x" * 100})
        self.assertEqual(self.channel.publish.call_args.args[3], b"too large")
        self.assertEqual(self.channel.take(), [("ack", 8, False)])
        self.channel.publish = written

    def test_a_reply_that_is_nacked_again_and_again_is_given_up(self) -> None:
        """As one that is returned is: its caller's queue takes nothing."""
        self.send()
        for seconds in (*RESEND_AFTER, 60.0):
            self.channel.confirm(acked=False)
            self.advance(seconds)
        self.assertEqual((self.answers.unconfirmed, self.answers.undeliverable), (0, 1))

    def test_a_blocked_reply_waits_with_its_ack(self) -> None:
        """Both go out when the alarm is over."""
        self.channel.client.block("memory")
        self.send(tag=7)
        self.assertEqual(self.advance(5), [])
        self.channel.client.block(None)
        self.assertEqual(self.channel.take(), [_PUBLISHED, ("ack", 7, False)])

    def test_a_reply_is_kept_over_a_lost_connection(self) -> None:
        """It is sent again by the new one; the tag died with the old."""
        self.send(tag=7)
        old = self.channel
        old.take()
        self.reconnect()
        self.assertEqual(self.channel.take(), [_PUBLISHED])
        self.assertEqual(old.take(), [])
        self.channel.confirm()
        self.assertEqual(self.answers.unconfirmed, 0)

    def test_a_reply_that_is_made_without_a_connection(self) -> None:
        """It waits for one; its call was taken by a channel that is dead."""
        old = self.channel
        old.close()
        self.answers.send(_ANSWER, "client-1", TakenDelivery(old, 7))
        self.reconnect()
        self.assertEqual((old.take(), self.channel.take()), ([], [_PUBLISHED]))

    def test_a_reply_outlives_a_long_time_without_a_connection(self) -> None:
        """Its line has a limit of 30 s, and it stands in line again."""
        self.channel.close()
        self.send()
        self.advance(300)
        self.assertEqual(self.answers.unconfirmed, 1)
        self.reconnect()
        self.assertEqual(self.advance(2), [_PUBLISHED])

    def test_a_call_that_comes_again_before_its_reply_leaves(self) -> None:
        """It is settled behind that, as any: until then the broker keeps it for another worker."""
        self.channel.close()
        self.send()
        self.advance(30)
        self.reconnect()
        self.answers.came_again("c1", "client-1", TakenDelivery(self.channel, 8))
        self.assertEqual(self.channel.take(), [])
        self.answers.came_again("c1", "client-1", TakenDelivery(self.channel, 9))
        self.assertEqual(self.channel.take(), [("ack", 9, False)])
        self.assertEqual(self.advance(1), [_PUBLISHED, ("ack", 8, False)])

    def test_a_call_that_comes_again_behind_its_reply(self) -> None:
        """It is settled at once, whether or not that is confirmed."""
        self.send(tag=7)
        self.reconnect()
        self.assertEqual(self.channel.take(), [_PUBLISHED])
        self.answers.came_again("c1", "client-1", TakenDelivery(self.channel, 8))
        self.assertEqual(self.channel.take(), [("ack", 8, False)])
        self.channel.confirm()
        self.answers.came_again("c1", "client-1", TakenDelivery(self.channel, 9))
        self.assertEqual(self.channel.take(), [("ack", 9, False)])

    def test_a_reply_outlives_a_long_alarm(self) -> None:
        """Whether it was written before the alarm or waits for its end."""
        self.send(tag=1)
        self.channel.take()
        self.channel.client.block("memory")
        self.send(tag=2, call_id="c2", body=b"13")
        self.assertEqual(self.advance(300), [])
        self.channel.client.block(None)
        self.assertEqual(self.advance(2), [("publish", "crew.replies", "client-1", b"13"), ("ack", 2, False)])
        self.channel.confirm(1)
        self.channel.confirm(2)
        self.assertEqual(self.answers.unconfirmed, 0)

    def test_a_reply_outlives_a_broker_that_reads_nothing(self) -> None:
        """No alarm, but the socket is full for minutes."""
        self.channel.client.writable = False
        self.channel.client.on_flow()
        self.send(tag=7)
        self.assertEqual(self.advance(300), [])
        self.channel.client.writable = True
        self.channel.client.on_flow()
        self.assertEqual(self.advance(2), [_PUBLISHED, ("ack", 7, False)])

    def test_a_confirm_that_is_late_is_waited_for(self) -> None:
        """Sending it again would make two of it."""
        self.send()
        self.channel.take()
        self.assertEqual(self.advance(300), [])
        self.channel.confirm()
        self.assertEqual(self.answers.unconfirmed, 0)

    def test_a_nacked_reply_is_sent_again_after_a_second(self) -> None:
        """Its call was settled by the first: settling it twice would close the channel."""
        self.send(tag=7)
        self.assertEqual(self.channel.take(), [_PUBLISHED, ("ack", 7, False)])
        self.channel.confirm(acked=False)
        self.assertEqual(self.answers.unconfirmed, 1)
        self.assertEqual(self.advance(0.5), [])
        self.assertEqual(self.advance(0.5), [_PUBLISHED])

    def test_a_reply_that_finds_the_line_full_comes_again(self) -> None:
        """Nothing that was answered is dropped for want of room."""
        self.channel.client.block("memory")
        for tag in (1, 2, 3):
            self.send(tag, call_id=f"c{tag}")
        self.assertEqual(self.answers.unconfirmed, 3)
        self.channel.client.block(None)
        self.assertEqual(len(self.channel.take()), 4)
        self.assertEqual(self.advance(1), [_PUBLISHED, ("ack", 3, False)])


class ReturnedTests(AnswersTestCase):
    """The caller's queue is not there now."""

    def returned(self) -> None:
        """A reply that was sent and returned."""
        self.send(tag=7)
        self.channel.take()
        self.channel.give_back()

    def test_it_is_sent_again_after_1_5_and_30_seconds(self) -> None:
        """Each time counted from when it came back; its call is not settled again."""
        self.assertEqual(RESEND_AFTER, (1.0, 5.0, 30.0))
        self.returned()
        for seconds in RESEND_AFTER:
            self.assertEqual(self.advance(seconds - 0.5), [])
            self.assertEqual(self.advance(0.5), [_PUBLISHED])
            self.assertEqual((self.answers.unconfirmed, self.answers.undeliverable), (1, 0))
            self.channel.give_back()

    def test_after_that_it_is_undeliverable(self) -> None:
        """Counted, and forgotten."""
        self.returned()
        for seconds in RESEND_AFTER:
            self.advance(seconds)
            self.channel.give_back()
        self.assertEqual((self.answers.unconfirmed, self.answers.undeliverable), (0, 1))
        self.assertEqual(self.advance(100), [])

    def test_a_caller_that_came_back_gets_it(self) -> None:
        """And it is forgotten."""
        self.returned()
        self.advance(1)
        self.channel.confirm()
        self.assertEqual((self.answers.unconfirmed, self.answers.undeliverable), (0, 0))
        self.assertEqual(self.advance(100), [])

    def test_its_time_goes_on_over_a_reconnect(self) -> None:
        """It is with us then, and with no connection."""
        self.returned()
        self.reconnect()
        self.assertEqual(self.channel.take(), [])
        self.assertEqual(self.advance(1), [_PUBLISHED])

    def test_only_so_many_are_kept(self) -> None:
        """The oldest give way."""
        for number in range(MAX_RETURNED + 2):
            self.send(number, call_id=f"c{number}")
            self.channel.give_back()
        self.assertEqual((self.answers.unconfirmed, self.answers.undeliverable), (MAX_RETURNED, 2))
        self.channel.take()
        self.assertEqual(len(self.advance(1)), MAX_RETURNED)
        self.assertEqual(MAX_RETURNED, 1000)


class ConfirmedTests(AnswersTestCase):
    """Where a call is settled once its reply is confirmed."""

    def setUp(self) -> None:
        super().setUp()
        self.answers = Answers(self.clock, self.publisher, _instead, "confirmed")

    def sent(self, tag: int = 7) -> None:
        """A reply is out; nothing is settled."""
        self.send(tag=tag)
        self.assertEqual(self.channel.take(), [_PUBLISHED])

    def test_the_ack_waits_for_the_confirm(self) -> None:
        """So that the reply is not lost with the broker and the worker together."""
        self.sent()
        self.channel.confirm()
        self.assertEqual(self.channel.take(), [("ack", 7, False)])
        self.assertEqual(self.answers.unconfirmed, 0)

    def test_a_one_way_call_is_settled_at_once(self) -> None:
        """It has no reply."""
        self.send(tag=7, reply_to=None)
        self.assertEqual(self.channel.take(), [("ack", 7, False)])

    def test_a_reply_that_comes_back_settles_its_call(self) -> None:
        """It is kept and sent again; the call would keep others away for 36 seconds."""
        self.sent()
        self.channel.give_back()
        self.assertEqual(self.channel.take(), [("ack", 7, False)])
        self.assertEqual(self.advance(1), [_PUBLISHED])
        self.channel.confirm()
        self.assertEqual((self.channel.take(), self.answers.unconfirmed), ([], 0))

    def test_one_that_is_nacked_does_not(self) -> None:
        """The broker does not have it; not before it is given up."""
        self.sent()
        for seconds in RESEND_AFTER:
            self.channel.confirm(acked=False)
            self.assertEqual(self.advance(seconds), [_PUBLISHED])
        self.channel.confirm(acked=False)
        self.assertEqual(self.channel.take(), [("ack", 7, False)])

    def test_a_confirm_by_another_channel_settles_nothing(self) -> None:
        """The tag died with the old one."""
        self.sent()
        old = self.channel
        self.reconnect()
        self.assertEqual(self.channel.take(), [_PUBLISHED])
        self.channel.confirm()
        self.assertEqual((old.take(), self.channel.take(), self.answers.unconfirmed), ([], [], 0))

    def test_a_call_that_comes_again_is_settled_with_its_reply(self) -> None:
        """That may not have arrived yet."""
        self.sent()
        self.reconnect()
        self.channel.take()
        again = TakenDelivery(self.channel, 1)
        self.answers.came_again("c1", "client-1", again)
        self.assertEqual(self.channel.take(), [])
        self.channel.confirm()
        self.assertEqual(self.channel.take(), [("ack", 1, False)])

    def test_one_that_comes_twice_by_one_channel(self) -> None:
        """The first delivery goes with the reply, the second at once."""
        self.sent()
        self.answers.came_again("c1", "client-1", TakenDelivery(self.channel, 8))
        self.assertEqual(self.channel.take(), [("ack", 8, False)])
        self.channel.confirm()
        self.assertEqual(self.channel.take(), [("ack", 7, False)])

    def test_there_is_no_third_way(self) -> None:
        """It says which there are."""
        with self.assertRaisesRegex(InvalidArgumentError, "'written' or 'confirmed', not 'never'"):
            Answers(self.clock, self.publisher, _instead, "never")  # type: ignore[arg-type]

    def test_one_whose_reply_has_arrived_is_settled_at_once(self) -> None:
        """So is one of another caller."""
        self.sent()
        self.answers.came_again("c1", "client-2", TakenDelivery(self.channel, 8))
        self.channel.confirm()
        self.answers.came_again("c1", "client-1", TakenDelivery(self.channel, 9))
        self.assertEqual(self.channel.take(), [("ack", 8, False), ("ack", 7, False), ("ack", 9, False)])


class SettledTests(AnswersTestCase):
    """When a worker may stop."""

    def test_with_nothing_out_it_is_settled(self) -> None:
        """At once."""
        self.assertIsNone(self.successResultOf(self.answers.when_settled()))

    def test_it_is_settled_when_the_last_is_confirmed(self) -> None:
        """Whoever asked is told."""
        self.send(1)
        self.send(2, call_id="c2")
        first, second = self.answers.when_settled(), self.answers.when_settled()
        self.channel.confirm(1)
        self.assertNoResult(first)
        self.channel.confirm(2)
        self.successResultOf(first)
        self.successResultOf(second)

    def test_what_waits_for_its_caller_is_not_waited_for(self) -> None:
        """It could be 36 seconds."""
        self.send()
        settled = self.answers.when_settled()
        self.assertNoResult(settled)
        self.channel.give_back()
        self.successResultOf(settled)

    def test_what_is_to_be_sent_again_is_waited_for(self) -> None:
        """A nack is the broker's trouble, and may be over in a second."""
        self.send()
        settled = self.answers.when_settled()
        self.channel.confirm(acked=False)
        self.assertNoResult(settled)
        self.advance(1)
        self.channel.confirm()
        self.successResultOf(settled)

    def test_who_gave_up_waiting_is_not_told(self) -> None:
        """The others are."""
        self.send()
        first, second = self.answers.when_settled(), self.answers.when_settled()
        first.addErrback(lambda _: None).cancel()
        self.channel.confirm()
        self.successResultOf(second)

    def test_stop_gives_up_what_is_left(self) -> None:
        """It is counted."""
        self.send(1)
        self.send(2, call_id="c2")
        self.channel.give_back()
        self.answers.stop()
        self.assertEqual((self.answers.unconfirmed, self.answers.undeliverable), (0, 2))

    def test_nothing_is_sent_after_stop(self) -> None:
        """Whatever the broker, or a publisher that stops, says of it then."""
        for fate in (
            lambda: self.channel.confirm(acked=False),
            self.channel.give_back,
            self.channel.close,
            lambda: self.publisher.stop(CrewError("stopped")),
        ):
            self.send()
            self.channel.take()
            self.answers.stop()
            fate()
            self.assertEqual((self.answers.unconfirmed, self.publisher.waiting), (0, 0))
            self.assertEqual(self.advance(50), [])
            self.publisher.attach(self.channel)


class TakenDeliveryTests(SynchronousTestCase):
    """What settles a call."""

    def test_it_is_settled_on_its_channel_by_its_tag(self) -> None:
        """Answered, handed back, or rejected."""
        for settle, event in (
            (TakenDelivery.ack, ("ack", 7, False)),
            (TakenDelivery.hand_back, ("nack", 7, True)),
            (TakenDelivery.reject, ("nack", 7, False)),
        ):
            channel: Any = Channel()
            settle(TakenDelivery(channel, 7))
            self.assertEqual(channel.take(), [event])

    def test_it_is_settled_once(self) -> None:
        """A second time would close the channel, with all that is on it."""
        channel: Any = Channel()
        taken = TakenDelivery(channel, 7)
        taken.ack()
        taken.ack()
        taken.hand_back()
        taken.reject()
        self.assertEqual(channel.take(), [("ack", 7, False)])

    def test_on_a_dead_channel_nothing_happens(self) -> None:
        """The broker has the call back by then."""
        channel: Any = Channel()
        channel.close()
        for settle in (TakenDelivery.ack, TakenDelivery.hand_back, TakenDelivery.reject):
            settle(TakenDelivery(channel, 7))
        self.assertEqual(channel.take(), [])


class SendableHeadersTests(SynchronousTestCase):
    """What a task's own headers may be."""

    def test_what_can_be_sent_passes(self) -> None:
        """Text, numbers, lists, maps."""
        sendable_headers({"a": "é", "b": [1, {"c": None}], "d": 0.5})

    def test_what_cannot_is_refused(self) -> None:
        """With the header's name; and all of them together, where they are too large."""
        with self.assertRaisesRegex(EncodeError, "odd"):
            sendable_headers({"odd": object()})
        with self.assertRaisesRegex(EncodeError, "65536"):
            sendable_headers({"large": "x" * 65_536})
