"""Publishing with confirms, in bounds of number, size and time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crew_tx.amqp.channel import AMQChannel
from crew_tx.amqp.delivery import Returned
from crew_tx.amqp.properties import encode_properties
from crew_tx.amqp.publisher import LONGEST_PROPERTIES, Publication, Publisher, encode_message_properties
from crew_tx.errors import (
    BrokerBlockedError,
    ClientStoppedError,
    ConnectionLostError,
    CrewError,
    EncodeError,
    NotFoundError,
    OutboxFullError,
    PublishNackedError,
    PublishTimeoutError,
)
from tests.amqp.peer import NUMBERS, Peer, PeerTestCase, packed


class Told(Publication):
    """
    Writes down its fate, in one log with all others.

    :ivar then: what to do besides, by the fate's name.
    """

    def __init__(self, log: list[Any], name: str, size: int = 1) -> None:
        super().__init__("x", "k", encode_properties({"message_id": name}), b"x" * size, name)
        self.log = log
        self.then: dict[str, Callable[[], object]] = {}

    def _tell(self, fate: str, *more: object) -> None:
        self.log.append((self.message_id, fate, *more))
        self.then.get(fate, int)()

    def written(self, channel: AMQChannel) -> None:
        self._tell("written")

    def confirmed(self) -> None:
        self._tell("confirmed")

    def returned(self, returned: Returned) -> None:
        self._tell("returned", returned.reply_code)

    def failed(self, error: CrewError) -> None:
        self.error = error
        self._tell("failed", type(error), getattr(error, "maybe_sent", None))

    def lost(self) -> None:
        self._tell("lost")


class PublisherTestCase(PeerTestCase):
    """Tests with a publisher on a channel in confirm mode."""

    limits: dict[str, Any] = {}  # noqa: RUF012

    def setUp(self) -> None:
        super().setUp()
        self.log: list[Any] = []
        self.publisher = Publisher(self.clock, **self.limits)
        self.addCleanup(self.publisher.stop, ClientStoppedError("the test is over"))
        self.attach()

    def attach(self) -> None:
        """Connect anew."""
        self.peer: Peer = self.log_in()
        self.channel: AMQChannel = self.open_channel(self.peer)
        self.answered(self.peer, self.channel.confirm_select())
        self.peer.read()
        self.publisher.attach(self.channel)

    def publish_mistake(self, fate: str) -> None:
        """A message, a, which makes a mistake when it is told its fate; then b, which doesn't."""
        publication = Told(self.log, "a")
        publication.then[fate] = lambda: 1 / 0
        self.publisher.publish(publication)
        self.publish("b")

    def assertMistakes(self, number: int) -> None:
        """So many were made, and logged."""
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), number)

    def publish(self, *names: str, size: int = 1) -> None:
        for name in names:
            self.publisher.publish(Told(self.log, name, size))

    def told(self) -> list[Any]:
        """What publications were told since the last time."""
        log, self.log[:] = list(self.log), []
        return log

    def sent(self) -> list[str]:
        """The ids of what went out since the last time."""
        found = [each for each in self.peer.read() if each.name == "basic.publish"]
        return [each.properties["message_id"] for each in found if each.properties]

    def confirm(self, number: int, multiple: bool = False, name: str = "basic.ack") -> None:
        self.peer.send(1, name, delivery_tag=number, multiple=multiple)

    def block(self) -> None:
        self.peer.send(0, "connection.blocked", reason="low on memory")

    def unblock(self) -> None:
        self.peer.send(0, "connection.unblocked")


class ConfirmsTests(PublisherTestCase):
    """What the broker says of what was written."""

    def test_a_message_is_written_at_once(self) -> None:
        """Mandatory, as all of ours are; it counts until it is confirmed."""
        self.publish("a")
        self.assertEqual(self.told(), [("a", "written")])
        self.assertEqual((self.publisher.unconfirmed, self.publisher.waiting), (1, 0))
        sent = self.peer.one("basic.publish")
        self.assertIs(sent.fields["mandatory"], True)
        self.assertEqual((sent.fields["exchange"], sent.fields["routing_key"], sent.body), ("x", "k", b"x"))
        self.confirm(1)
        self.assertEqual(self.told(), [("a", "confirmed")])
        self.assertEqual(self.publisher.unconfirmed, 0)

    def test_confirms_may_come_in_any_order(self) -> None:
        """Each names its message."""
        self.publish("a", "b", "c")
        self.told()
        for number in (2, 3, 1):
            self.confirm(number)
        self.assertEqual(self.told(), [("b", "confirmed"), ("c", "confirmed"), ("a", "confirmed")])

    def test_one_confirm_may_stand_for_several(self) -> None:
        """All up to it that weren't confirmed."""
        self.publish("a", "b", "c", "d")
        self.told()
        self.confirm(2)
        self.confirm(3, multiple=True)
        self.assertEqual(self.told(), [("b", "confirmed"), ("a", "confirmed"), ("c", "confirmed")])
        self.assertEqual(self.publisher.unconfirmed, 1)

    def test_a_confirm_of_nothing_is_nothing(self) -> None:
        """Of what was never written, or was confirmed already."""
        self.publish("a")
        self.confirm(1)
        self.told()
        self.confirm(1)
        self.confirm(1, multiple=True)
        self.confirm(9)
        self.assertEqual(self.told(), [])

    def test_the_broker_may_refuse_a_message(self) -> None:
        """One, or all up to it."""
        self.publish("a", "b", "c")
        self.told()
        self.confirm(2, name="basic.nack")
        self.assertEqual(self.told(), [("b", "failed", PublishNackedError, None)])
        self.confirm(3, multiple=True, name="basic.nack")
        self.assertEqual(
            self.told(),
            [("a", "failed", PublishNackedError, None), ("c", "failed", PublishNackedError, None)],
        )

    def test_a_returned_message_is_found_by_its_id(self) -> None:
        """The return has no number; the confirm follows it."""
        self.publish("a", "b")
        self.told()
        for name in ("b", "unknown"):
            self.peer.send_content(1, "basic.return", b"x", {"message_id": name}, reply_code=312)
        self.peer.send_content(1, "basic.return", b"x", {}, reply_code=312)
        self.confirm(2, multiple=True)
        self.assertEqual(self.told(), [("b", "returned", 312), ("a", "confirmed"), ("b", "confirmed")])

    def test_one_that_is_returned_may_share_its_id_with_one_before(self) -> None:
        """As when it is published again: the later one is meant."""
        self.publish("a", "a")
        self.confirm(1)
        self.told()
        self.peer.send_content(1, "basic.return", b"x", {"message_id": "a"}, reply_code=312)
        self.assertEqual(self.told(), [("a", "returned", 312)])

    def test_a_mistake_in_one_does_not_cost_the_others_their_confirm(self) -> None:
        """It is logged."""
        self.publish_mistake("confirmed")
        self.told()
        self.confirm(2, multiple=True)
        self.assertEqual(self.told(), [("a", "confirmed"), ("b", "confirmed")])
        self.assertMistakes(1)

    def test_a_mistake_in_one_does_not_cost_the_others_their_nack(self) -> None:
        """Nor their place in the window."""
        self.publish_mistake("failed")
        self.told()
        self.confirm(2, multiple=True, name="basic.nack")
        self.assertEqual([name for name, *_ in self.told()], ["a", "b"])
        self.assertMistakes(1)

    def test_a_return_after_the_confirm_is_nothing(self) -> None:
        """It is forgotten by then."""
        self.publish("a")
        self.confirm(1)
        self.told()
        self.peer.send_content(1, "basic.return", b"x", {"message_id": "a"}, reply_code=312)
        self.assertEqual(self.told(), [])

    def test_what_cannot_be_written_fails_and_has_no_number(self) -> None:
        """The next message has it."""
        bad = Told(self.log, "bad")
        bad.properties = encode_properties({"headers": {"k": "x" * 140_000}})
        self.publisher.publish(bad)
        self.assertEqual(self.publisher.unconfirmed, 0)
        self.publish("good")
        self.assertEqual(self.told(), [("bad", "failed", EncodeError, None), ("good", "written")])
        self.confirm(1)
        self.assertEqual(self.told(), [("good", "confirmed")])


class WindowTests(PublisherTestCase):
    """At most three unconfirmed, four waiting, and a hundred bytes of them."""

    limits = {"max_unconfirmed": 3, "max_waiting": 4, "max_waiting_bytes": 100}  # noqa: RUF012

    def test_only_so_many_are_unconfirmed(self) -> None:
        """The others wait, in their order."""
        self.publish("a", "b", "c", "d", "e")
        self.assertEqual(self.sent(), ["a", "b", "c"])
        self.assertEqual((self.publisher.unconfirmed, self.publisher.waiting), (3, 2))
        self.confirm(2)
        self.assertEqual(self.sent(), ["d"])
        self.confirm(4, multiple=True)
        self.assertEqual(self.sent(), ["e"])

    def test_nobody_overtakes_who_waits(self) -> None:
        """Not even when there is room, since a confirm is just being told."""
        publication = Told(self.log, "a")
        publication.then["confirmed"] = lambda: self.publish("late")
        self.publisher.publish(publication)
        self.publish("b", "c", "d")
        self.sent()
        self.confirm(3, multiple=True)
        self.assertEqual(self.sent(), ["d", "late"])

    def test_waiting_is_bounded_in_number(self) -> None:
        """One too many is an error, and nothing else changes."""
        self.publish(*"abcdefg")
        error = self.assertRaises(OutboxFullError, self.publish, "h")
        self.assertEqual(error.messages, 4)
        self.assertEqual((self.publisher.unconfirmed, self.publisher.waiting), (3, 4))
        self.confirm(1)
        self.publish("i")
        self.assertEqual(self.publisher.waiting, 4)

    def test_waiting_is_bounded_in_bytes(self) -> None:
        """Properties count."""
        self.publish("a", "b", "c")
        self.publish("d", size=80)
        error = self.assertRaises(OutboxFullError, self.publish, "e", size=80)
        self.assertEqual((error.messages, error.size), (1, 80 + 2 + 1 + 1))
        self.publish("f", size=100 - 84 - 4)
        self.assertEqual(self.publisher.waiting, 2)
        self.confirm(1)
        self.publish("g", size=80)
        self.assertEqual(self.publisher.waiting, 2)

    def test_who_waits_can_be_withdrawn(self) -> None:
        """It leaves room; one that was written stays."""
        self.publish("a", "b", "c")
        waiting, written = Told(self.log, "d", 80), Told(self.log, "z")
        self.publisher.publish(waiting)
        self.publisher.withdraw(waiting)
        self.publisher.withdraw(waiting)
        self.publisher.withdraw(written)
        self.publish("e", size=80)
        self.confirm(3, multiple=True)
        self.assertEqual(self.sent(), ["a", "b", "c", "e"])

    def test_one_that_was_lost_and_waits_again_can_be_withdrawn(self) -> None:
        """It counts as any other."""
        publication = Told(self.log, "a")
        self.publisher.publish(publication)
        self.peer.lose()
        self.publisher.publish(publication)
        self.publisher.withdraw(publication)
        self.assertEqual(self.publisher.waiting, 0)

    def test_one_that_waited_and_was_written_stays(self) -> None:
        """It can't be taken back."""
        self.publish("a", "b", "c")
        publication = Told(self.log, "d")
        self.publisher.publish(publication)
        self.confirm(1)
        self.publisher.withdraw(publication)
        self.assertEqual((self.sent(), self.publisher.unconfirmed), (["a", "b", "c", "d"], 3))


class FlowTests(PublisherTestCase):
    """When it may write."""

    def test_nothing_is_written_while_the_broker_is_blocked(self) -> None:
        """It waits, and goes when the alarm is over."""
        self.block()
        self.assertEqual(self.publisher.blocked, "low on memory")
        self.publish("a", "b")
        self.assertEqual(self.sent(), [])
        self.unblock()
        self.assertIsNone(self.publisher.blocked)
        self.assertEqual(self.sent(), ["a", "b"])

    def test_nothing_is_written_while_the_transport_holds_bytes_back(self) -> None:
        """Memory is bounded."""
        self.peer.link.producer.pauseProducing()
        self.publish("a", "b")
        self.assertEqual(self.sent(), [])
        self.peer.link.producer.resumeProducing()
        self.assertEqual(self.sent(), ["a", "b"])

    def test_both_must_allow_it(self) -> None:
        """The broker and the transport."""
        self.block()
        self.peer.link.producer.pauseProducing()
        self.publish("a")
        self.peer.link.producer.resumeProducing()
        self.assertEqual(self.sent(), [])
        self.unblock()
        self.assertEqual(self.sent(), ["a"])

    def test_a_transport_that_holds_back_in_the_middle_stops_it_there(self) -> None:
        """The rest of those who wait goes on waiting."""
        self.block()
        self.publish("a", "b")
        write = self.peer.link.write

        def write_and_pause(data: bytes) -> None:
            write(data)
            self.peer.link.producer.pauseProducing()

        self.peer.link.write = write_and_pause  # type: ignore[method-assign]
        self.peer.client.block_changed(None)
        self.assertEqual((self.sent(), self.publisher.waiting), (["a"], 1))

    def test_without_a_connection_it_waits(self) -> None:
        """From the start, or between two."""
        self.peer.lose()
        self.publish("a")
        self.assertIsNone(self.publisher.blocked)
        self.assertEqual(self.publisher.waiting, 1)
        self.attach()
        self.assertEqual(self.sent(), ["a"])


class LossTests(PublisherTestCase):
    """When its channel ends."""

    def test_what_is_unconfirmed_is_lost(self) -> None:
        """What waits goes on waiting."""
        self.publish("a", "b")
        self.block()
        self.publish("c")
        self.told()
        self.peer.lose()
        self.assertEqual(self.told(), [("a", "lost"), ("b", "lost")])
        self.assertEqual((self.publisher.unconfirmed, self.publisher.waiting), (0, 1))

    def test_a_channel_that_the_broker_closes_is_lost_too(self) -> None:
        """The connection goes on."""
        self.publish("a")
        self.told()
        self.peer.send(1, "channel.close", reply_code=404)
        self.assertEqual(self.told(), [("a", "lost")])

    def test_a_channel_that_ended_for_a_message_says_so(self) -> None:
        """It may have been any that was out; whoever does not care for that hears of a loss."""
        plain = Told(self.log, "a")
        caring = Told(self.log, "b")
        caring.refused = lambda error: self.log.append(("b", "refused", error))  # type: ignore[method-assign]
        for publication in (plain, caring):
            self.publisher.publish(publication)
        self.told()
        self.close_channel("basic.publish")
        lost, (_, _, error) = self.told()
        self.assertEqual(lost, ("a", "lost"))
        self.assertIsInstance(error, NotFoundError)
        self.assertIn("publishing", str(error))

    def test_a_channel_that_ended_for_something_else_lost_its_messages(self) -> None:
        """They are not to blame."""
        caring = Told(self.log, "a")
        caring.refused = self.fail  # type: ignore[assignment]
        self.publisher.publish(caring)
        self.told()
        self.close_channel("queue.declare")
        self.assertEqual(self.told(), [("a", "lost")])

    def close_channel(self, method: str) -> None:
        class_id, method_id = divmod(NUMBERS[method], 1 << 16)
        self.peer.send(1, "channel.close", reply_code=404, class_id=class_id, method_id=method_id)

    def test_a_mistake_in_one_does_not_cost_the_others_their_loss(self) -> None:
        """They may be published again, say."""
        self.publish_mistake("lost")
        self.told()
        self.peer.lose()
        self.assertEqual(self.told(), [("a", "lost"), ("b", "lost")])
        self.assertMistakes(1)

    def test_a_mistake_in_one_does_not_cost_the_others_their_refusal(self) -> None:
        """Nobody knows which of them was meant."""
        self.publish_mistake("lost")
        self.told()
        self.close_channel("basic.publish")
        self.assertEqual(self.told(), [("a", "lost"), ("b", "lost")])
        self.assertMistakes(1)

    def test_a_mistake_in_one_that_cannot_be_written_does_not_cost_the_others_their_turn(self) -> None:
        """They waited behind it."""
        self.block()
        bad = Told(self.log, "bad")
        bad.properties = encode_properties({"headers": {"k": "x" * 140_000}})
        bad.then["failed"] = lambda: 1 / 0
        self.publisher.publish(bad)
        self.publish("good")
        self.unblock()
        self.assertEqual(self.sent(), ["good"])
        self.assertMistakes(1)

    def test_what_was_lost_is_not_returned(self) -> None:
        """Whatever the next connection says of its id."""
        self.publish("a")
        self.peer.lose()
        self.attach()
        self.told()
        self.peer.send_content(1, "basic.return", b"x", {"message_id": "a"}, reply_code=312)
        self.assertEqual(self.told(), [])

    def test_what_was_lost_may_be_published_again(self) -> None:
        """By its owner, when it hears of the loss: it goes out on the next connection, first."""
        publication = Told(self.log, "a")
        publication.then["lost"] = lambda: self.publisher.publish(publication)
        self.publisher.publish(publication)
        self.peer.lose()
        self.publish("b")
        self.told()
        self.attach()
        self.assertEqual(self.sent(), ["a", "b"])
        self.confirm(2, multiple=True)
        self.assertEqual(self.told()[2:], [("a", "confirmed"), ("b", "confirmed")])

    def test_confirms_of_the_connection_before_are_none(self) -> None:
        """Numbers begin again with each channel."""
        self.publish("a")
        old_client, old_channel = self.peer.client, self.channel
        self.peer.lose()
        self.attach()
        self.publish("b")
        self.told()
        old_client.dataReceived(packed(1, "basic.ack", delivery_tag=1))
        old_channel.method_received(NUMBERS["basic.ack"], (1, False))
        self.assertEqual((self.told(), self.publisher.unconfirmed), ([], 1))

    def test_the_end_of_the_channel_before_changes_nothing(self) -> None:
        """It isn't the one in use."""
        old = self.channel
        self.peer.lose()
        self.attach()
        self.publish("a")
        self.told()
        assert old.on_closed is not None
        old.on_closed("again")
        self.assertEqual((self.told(), self.publisher.unconfirmed), ([], 1))

    def test_publishing_when_a_request_fails_with_the_channel_waits(self) -> None:
        """Whoever reacts to the end of the channel must not be told that it is open."""
        declared = self.channel.queue_declare(queue="q")
        declared.addErrback(lambda _: self.publish("a"))
        self.peer.lose()
        self.assertIsNone(self.successResultOf(declared))
        self.assertEqual(self.publisher.waiting, 1)


class FirstTests(PublisherTestCase):
    """What a connection has lost goes before all that waits for the next one."""

    limits = {"publish_timeout": 10.0, "max_waiting": 1}  # noqa: RUF012

    def lost(self, *names: str) -> list[Publication]:
        """Messages that were written, and not confirmed before the connection ended."""
        lost: list[Publication] = [Told(self.log, name) for name in names]
        for publication in lost:
            self.publisher.publish(publication)
        self.peer.lose()
        self.told()
        return lost

    def test_they_keep_their_order(self) -> None:
        """Though the line is full, and before there is a channel; they are told as all are."""
        lost = self.lost("a", "b")
        self.publish("waiting")
        self.publisher.publish_first(lost)
        self.assertEqual((self.publisher.waiting, [each.waits for each in lost]), (3, [True, True]))
        self.assertRaises(OutboxFullError, self.publish, "more")
        self.attach()
        self.assertEqual(self.sent(), ["a", "b", "waiting"])
        self.assertEqual(self.told(), [(name, "written") for name in ("a", "b", "waiting")])
        self.confirm(2, multiple=True)
        self.assertEqual(self.told(), [("a", "confirmed"), ("b", "confirmed")])
        self.assertEqual((self.publisher.unconfirmed, self.publisher.waiting), (1, 0))

    def test_they_are_written_at_once_where_that_is_possible(self) -> None:
        """On a channel that is there."""
        lost = self.lost("a", "b")
        self.attach()
        self.publisher.publish_first(lost)
        self.assertEqual(self.sent(), ["a", "b"])

    def test_their_time_counts_anew(self) -> None:
        """They were sent once, and so may have arrived, whatever becomes of them now."""
        lost = self.lost("a")
        self.clock.advance(9)
        self.publisher.publish_first(lost)
        self.clock.pump([0.5] * 19)
        self.assertEqual(self.told(), [])
        self.clock.pump([0.5] * 2)
        self.assertEqual(self.told(), [("a", "failed", ConnectionLostError, True)])

    def test_an_alarm_may_keep_them(self) -> None:
        """The same holds."""
        lost = self.lost("a")
        self.attach()
        self.block()
        self.publisher.publish_first(lost)
        self.assertEqual(self.sent(), [])
        self.clock.pump([0.5] * 22)
        self.assertEqual(self.told(), [("a", "failed", BrokerBlockedError, True)])

    def test_they_can_be_taken_back(self) -> None:
        """Their bytes are no longer counted."""
        lost = self.lost("a", "b")
        self.publisher.publish_first(lost)
        self.publisher.withdraw(lost[0])
        self.attach()
        self.assertEqual(self.sent(), ["b"])
        self.assertEqual(self.publisher.waiting, 0)

    def test_none_is_none(self) -> None:
        """No delayed call is begun for it."""
        self.publisher.publish_first([])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TimeTests(PublisherTestCase):
    """Within ten seconds."""

    limits = {"publish_timeout": 10.0, "max_unconfirmed": 2}  # noqa: RUF012

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds * 4)):
            self.clock.advance(0.25)

    def test_what_is_not_confirmed_in_time_fails(self) -> None:
        """It may have arrived; it is told once, when the time is over."""
        publication = Told(self.log, "a")
        self.publisher.publish(publication)
        self.told()
        self.pass_time(9.75)
        self.assertEqual(self.told(), [])
        self.pass_time(0.25)
        self.assertIn("did not confirm the message within 10 s", str(publication.error))
        self.pass_time(30)
        self.assertEqual(self.told(), [("a", "failed", PublishTimeoutError, True)])

    def test_what_cannot_be_written_in_time_fails(self) -> None:
        """It was surely not sent."""
        publication = Told(self.log, "c")
        self.publish("a", "b")
        self.publisher.publish(publication)
        self.told()
        self.pass_time(10)
        self.assertIn("did not take the message within 10 s", str(publication.error))
        expected = [("c", "failed", PublishTimeoutError, False), ("a", "failed", PublishTimeoutError, True)]
        self.assertEqual(self.told()[:2], expected)
        self.assertEqual(self.publisher.waiting, 0)

    def test_a_mistake_in_one_does_not_keep_the_others_from_being_late(self) -> None:
        """Neither those that wait, nor those that were written, nor the ones to come."""
        self.publish_mistake("failed")
        self.publish_mistake("failed")
        self.told()
        self.pass_time(10)
        self.assertEqual([name for name, *_ in self.told()], ["a", "b", "a", "b"])
        self.publish("c")
        self.told()
        self.pass_time(10.5)
        self.assertEqual(self.told(), [("c", "failed", PublishTimeoutError, False)])
        self.confirm(2, multiple=True)
        self.assertMistakes(2)

    def test_a_late_confirm_still_comes(self) -> None:
        """Whoever wants to, hears of it; its place is free again."""
        self.publish("a")
        self.pass_time(11)
        self.told()
        self.confirm(1)
        self.assertEqual((self.told(), self.publisher.unconfirmed), ([("a", "confirmed")], 0))

    def test_an_alarm_is_the_reason_that_is_given(self) -> None:
        """Whether or not it was sent before."""
        self.publish("a")
        self.block()
        self.publish("b")
        self.told()
        self.pass_time(11)
        expected = [("b", "failed", BrokerBlockedError, False), ("a", "failed", BrokerBlockedError, True)]
        self.assertEqual(self.told(), expected)

    def test_a_missing_connection_is_the_reason_that_is_given(self) -> None:
        """What never was sent."""
        self.peer.lose()
        self.publish("a")
        self.pass_time(11)
        self.assertEqual(self.told(), [("a", "failed", ConnectionLostError, False)])

    def test_what_was_sent_once_may_have_arrived(self) -> None:
        """Though it waits for another connection now."""
        publication = Told(self.log, "a")
        self.publisher.publish(publication)
        self.peer.lose()
        self.publisher.publish(publication)
        self.told()
        self.pass_time(11)
        self.assertEqual(self.told(), [("a", "failed", ConnectionLostError, True)])

    def test_time_counts_anew_when_it_is_published_again(self) -> None:
        """And so does being late."""
        publication = Told(self.log, "a")
        self.publisher.publish(publication)
        self.pass_time(11)
        self.peer.lose()
        self.attach()
        self.publisher.publish(publication)
        self.told()
        self.pass_time(9)
        self.assertEqual(self.told(), [])
        self.pass_time(2)
        self.assertEqual(self.told(), [("a", "failed", PublishTimeoutError, True)])

    def test_one_delayed_call_serves_all(self) -> None:
        """None where nothing is on its way."""
        calls = self.clock.getDelayedCalls
        self.assertEqual(calls(), [])
        self.publish("a", "b", "c")
        self.assertEqual(len(calls()), 1)
        self.confirm(2, multiple=True)
        self.confirm(3)
        self.pass_time(1)
        self.assertEqual(calls(), [])

    def test_one_delayed_call_serves_those_that_try_again(self) -> None:
        """Whoever publishes as soon as it failed starts no second one."""
        publication = Told(self.log, "a")
        publication.then["failed"] = lambda: self.publish("again")
        self.peer.lose()
        self.publisher.publish(publication)
        self.pass_time(11)
        self.assertEqual(self.told(), [("a", "failed", ConnectionLostError, False)])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)


class StopTests(PublisherTestCase):
    """The end of it all."""

    limits = {"max_unconfirmed": 1}  # noqa: RUF012

    def test_a_mistake_in_one_does_not_cost_the_others_their_end(self) -> None:
        """Whether they were written or wait."""
        self.publish_mistake("failed")
        self.block()
        self.publish_mistake("failed")
        self.told()
        self.publisher.stop(ClientStoppedError("stopped"))
        self.assertEqual([name for name, *_ in self.told()], ["a", "b", "a", "b"])
        self.assertMistakes(2)

    def test_everything_fails_with_the_reason(self) -> None:
        """And no delayed call is left."""
        self.publish("a", "b")
        self.told()
        self.publisher.stop(ClientStoppedError("over"))
        expected = [("a", "failed", ClientStoppedError, None), ("b", "failed", ClientStoppedError, None)]
        self.assertEqual(self.told(), expected)
        self.assertEqual((self.publisher.unconfirmed, self.publisher.waiting), (0, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_is_told_twice(self) -> None:
        """Neither by a late confirm nor by the loss."""
        self.publish("a")
        self.publisher.stop(ClientStoppedError("over"))
        self.told()
        self.peer.send_content(1, "basic.return", b"x", {"message_id": "a"}, reply_code=312)
        self.confirm(1)
        self.peer.lose()
        self.assertEqual(self.told(), [])

    def test_what_is_published_when_it_stops_is_not_forgotten(self) -> None:
        """It waits as anything without a connection does, and fails in its time."""
        publication = Told(self.log, "a")
        publication.then["failed"] = lambda: self.publish("again")
        self.publisher.publish(publication)
        self.publisher.stop(ClientStoppedError("over"))
        self.told()
        self.assertEqual(self.publisher.waiting, 1)
        self.clock.pump([1] * 40)
        self.assertEqual(self.told(), [("again", "failed", ConnectionLostError, False)])

    def test_a_stopped_publisher_does_not_write(self) -> None:
        """Whatever the connection says."""
        self.publisher.stop(ClientStoppedError("over"))
        self.peer.read()
        self.publish("a")
        self.peer.link.producer.resumeProducing()
        self.assertEqual(self.sent(), [])


class PropertiesTests(PublisherTestCase):
    """Properties of our own messages."""

    def test_they_are_bounded(self) -> None:
        """A header frame has to fit into any connection's frames."""
        room = LONGEST_PROPERTIES - len(encode_properties({"headers": {"k": ""}}))
        encoded = encode_message_properties({"headers": {"k": "x" * room}})
        self.assertEqual(len(encoded), LONGEST_PROPERTIES)
        error = self.assertRaises(
            EncodeError, encode_message_properties, {"headers": {"k": "x" * (room + 1)}}
        )
        self.assertIn(str(LONGEST_PROPERTIES), str(error))

    def test_a_subclass_may_ignore_what_it_does_not_care_for(self) -> None:
        """Each fate has a method that does nothing."""
        plain = Publication("x", "k", b"\0\0", b"body", "1")
        self.publisher.publish(plain)
        self.confirm(1)
        plain.returned(Returned(312, "", "", "", {}, b""))
        plain.failed(CrewError())
        plain.lost()
        self.assertEqual(plain.size, 6)
        self.assertIs(plain.sent, True)
