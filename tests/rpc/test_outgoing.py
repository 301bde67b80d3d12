"""One-way messages, and probes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.delivery import Returned
from crew_tx.errors import (
    ClientStoppedError,
    ConnectionLostError,
    CrewError,
    NoWorkersError,
    OutboxFullError,
    PublishNackedError,
    UnroutableError,
)
from crew_tx.rpc.outgoing import Probe, Sent
from crew_tx.rpc.pending import PendingCall, PendingCalls
from tests.rpc.fakes import Channel, attached

_RETURNED = Returned(312, "NO_ROUTE", "crew.tasks", "sum", {}, b"")


class SentTests(SynchronousTestCase):
    """A call that nobody answers."""

    def setUp(self) -> None:
        self.message = Sent("sum", "m1")
        assert self.message.deferred is not None
        self.deferred = self.message.deferred
        self.addCleanup(self.deferred.addErrback, lambda _: None)

    def test_it_is_a_mandatory_call_to_its_task(self) -> None:
        """It goes the way of all calls."""
        message = self.message
        self.assertEqual(
            (message.exchange, message.routing_key, message.message_id, message.mandatory),
            ("crew.tasks", "sum", "m1", True),
        )

    def test_it_fires_when_the_broker_has_it(self) -> None:
        """With nothing."""
        self.assertNoResult(self.deferred)
        self.message.confirmed()
        self.assertIsNone(self.successResultOf(self.deferred))

    def test_a_returned_one_fails_and_its_confirm_is_no_success(self) -> None:
        """The broker confirms what it returned, too."""
        self.message.returned(_RETURNED)
        self.message.confirmed()
        self.assertEqual(self.failureResultOf(self.deferred, UnroutableError).value.task_id, "sum")

    def test_it_fails_as_the_publisher_says(self) -> None:
        """Once; a late confirm changes nothing."""
        error = PublishNackedError("full")
        self.message.failed(error)
        self.message.failed(CrewError("again"))
        self.message.confirmed()
        self.assertIs(self.failureResultOf(self.deferred).value, error)

    def test_a_lost_one_may_have_been_sent(self) -> None:
        """Nobody can tell."""
        self.message.lost()
        self.assertTrue(self.failureResultOf(self.deferred, ConnectionLostError).value.maybe_sent)

    def test_a_cancelled_one_is_left_alone(self) -> None:
        """Whatever becomes of it."""
        self.deferred.cancel()
        for fate in (self.message.confirmed, self.message.lost):
            fate()
            fate()
        self.failureResultOf(self.deferred, CancelledError)


class ProbeTests(SynchronousTestCase):
    """Is there a worker of a task now? Only then is it called."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.channel = Channel()
        self.publisher = attached(self.clock, self.channel, max_waiting=1)
        self.calls = PendingCalls(self.clock, self.publisher.withdraw)
        self.addCleanup(self._check_nothing_is_left)

    def _check_nothing_is_left(self) -> None:
        self.publisher.stop(CrewError("the test is over"))
        self.calls.stop(CrewError("the test is over"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def called(self, call_id: str = "c1") -> tuple[PendingCall, Deferred[Any]]:
        """A call that is not published, and its Deferred."""
        call = self.calls.new("sum", call_id, 60.0, 60.0, False)
        assert call.deferred is not None
        self.addCleanup(call.deferred.addErrback, lambda _: None)
        return call, call.deferred

    def probed(self, call_id: str = "c1") -> Deferred[Any]:
        """A probe that is published; the Deferred of its call."""
        call, deferred = self.called(call_id)
        self.publisher.publish(Probe(call, self.publisher))
        return deferred

    def test_the_probe_goes_first(self) -> None:
        """Mandatory, to the exchange where workers are bound by their tasks."""
        self.probed()
        self.assertEqual(self.channel.take(), [("publish", "crew.workers", "sum", b"")])
        self.assertTrue(self.channel.mandatory)
        self.assertEqual(self.channel.properties["type"], "probe")

    def test_each_probe_has_an_id_of_its_own(self) -> None:
        """By which it is known when it is returned."""
        ids = set()
        for call_id in ("a", "b"):
            self.probed(call_id)
            ids.add(self.channel.properties["message_id"])
        self.assertEqual(len(ids), 2)

    def test_the_call_follows_when_a_worker_has_the_probe(self) -> None:
        """That is, when the probe is confirmed and was not returned."""
        deferred = self.probed()
        self.channel.take()
        self.channel.confirm()
        self.assertEqual(self.channel.take(), [("publish", "crew.tasks", "sum", b"")])
        self.assertNoResult(deferred)

    def test_a_returned_probe_means_no_workers(self) -> None:
        """The call is never made, though the probe is confirmed as well."""
        deferred = self.probed()
        self.channel.take()
        self.channel.give_back()
        self.assertEqual(self.failureResultOf(deferred, NoWorkersError).value.task_id, "sum")
        self.assertEqual(self.channel.take(), [])

    def test_a_nacked_probe_says_the_same(self) -> None:
        """RabbitMQ 4.3 nacks it while it takes the queue of a worker away that has just left."""
        deferred = self.probed()
        self.channel.confirm(acked=False)
        self.failureResultOf(deferred, NoWorkersError)

    def test_a_call_that_ended_meanwhile_is_not_made(self) -> None:
        """Nobody waits for it."""
        deferred = self.probed()
        self.channel.take()
        deferred.cancel()
        self.channel.confirm()
        self.assertEqual(self.channel.take(), [])

    def test_it_says_nothing_of_another_call_of_the_same_id(self) -> None:
        """Once its own has ended."""
        for fate in (self.channel.confirm, self.channel.give_back, self.channel.close):
            self.probed().cancel()
            self.channel.take()
            _, other = self.called()
            fate()
            self.assertEqual(self.channel.take(), [])
            self.assertNoResult(other)
            other.cancel()

    def test_a_probe_that_is_lost_is_asked_again(self) -> None:
        """By the next connection, and the next; the call follows when it is confirmed at last."""
        deferred = self.probed()
        for _ in range(2):
            self.channel.close()
            self.assertNoResult(deferred)
            self.channel = Channel()
            self.publisher.attach(self.channel)
            self.assertEqual(self.channel.take(), [("publish", "crew.workers", "sum", b"")])
        self.channel.confirm()
        self.assertEqual(self.channel.take(), [("publish", "crew.tasks", "sum", b"")])

    def test_a_probe_that_is_lost_for_good_fails_the_call(self) -> None:
        """After the time that the publisher has; nothing of the call was sent, and the error says so."""
        deferred = self.probed()
        self.channel.close()
        self.clock.pump([0.5] * 100)
        self.assertFalse(self.failureResultOf(deferred, ConnectionLostError).value.maybe_sent)

    def test_a_probe_that_is_lost_and_finds_no_room_fails_the_call(self) -> None:
        """What waits for the next connection is bounded."""
        deferred = self.probed()
        self.channel.client.block("memory")
        other = Sent("other", "m1")
        assert other.deferred is not None
        other.deferred.addErrback(lambda _: None)
        self.publisher.publish(other)
        self.channel.close()
        self.failureResultOf(deferred, OutboxFullError)

    def test_a_call_that_finds_no_room_fails(self) -> None:
        """The line filled up while the probe was out."""
        deferred = self.probed()
        self.channel.client.block("memory")
        other = Sent("other", "m1")
        assert other.deferred is not None
        other.deferred.addErrback(lambda _: None)
        self.publisher.publish(other)
        self.channel.confirm()
        self.failureResultOf(deferred, OutboxFullError)

    def test_the_longest_call_id_can_be_probed_for(self) -> None:
        """The probe's own id is a short string, too."""
        self.probed("x" * 255)
        self.assertEqual(len(self.channel.take()), 1)

    def test_a_stopped_client_leaves_nothing(self) -> None:
        """Neither the probe nor the call."""
        deferred = self.probed()
        self.calls.stop(ClientStoppedError("stopped"))
        self.publisher.stop(ClientStoppedError("stopped"))
        self.failureResultOf(deferred, ClientStoppedError)
