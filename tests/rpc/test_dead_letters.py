"""Letters whose callers are gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.delivery import Delivery
from crew_tx.amqp.inspection import Gotten
from crew_tx.amqp.properties import decode_properties
from crew_tx.errors import ConnectionLostError, DecodeError
from crew_tx.message import Call, call_from, call_properties
from crew_tx.rpc.dead_letters import Letter, Requeuer, call_again, letter_of
from crew_tx.rpc.gates import WorkerGate
from crew_tx.rpc.plan import signed_call
from crew_tx.signing import RefusedError, SigningKeys
from tests.rpc.fakes import Channel, attached


class DeadLetterTests(SynchronousTestCase):
    """A dead call, as it lies there."""

    def gotten(self, **changes: Any) -> Gotten:
        call = Call("t", "c", b"body", "application/json", reply_to="me-1", expiration=500, timeout=9000)
        properties = call_properties(call._replace(priority=255, timestamp=100, headers={"a": "b"}))
        properties.pop("expiration")
        death = {"reason": "rejected", "queue": "crew.tasks.t", "original-expiration": "500"}
        properties["headers"] |= {"x-death": [death], "x-first-death-reason": "rejected"}
        return Gotten(1, {**properties, **changes}, b"body", "t", 0)

    def test_it_is_told_of(self) -> None:
        """Its age by the sender's clock, which may be wrong."""
        self.assertEqual(
            Letter("rejected", "t", "c", "crew.tasks.t", 60.0, 4), letter_of(self.gotten(), 160.0)
        )
        self.assertEqual(0.0, letter_of(self.gotten(), 50.0).age)
        self.assertIsNone(letter_of(self.gotten(timestamp=0), 50.0).age)

    def test_what_is_no_call_is_told_of_as_well(self) -> None:
        """Anybody may have put it there."""
        odd = Gotten(1, {"message_id": "m"}, b"xy", "", 0)
        self.assertEqual(Letter("not a call", None, "m", None, None, 2), letter_of(odd, 0.0))
        self.assertRaises(DecodeError, call_again, odd, None, 0.0)

    def test_it_is_sent_again_as_it_was_and_one_way(self) -> None:
        """With its own expiration, or another; without the broker's marks."""
        task, properties = call_again(self.gotten(), None, 200.0)
        again = call_from(properties, b"body")
        self.assertEqual("t", task)
        self.assertEqual(
            Call("t", "c", b"body", "application/json", None, None, 500, 9000, 2, 10, True, 200, {"a": "b"}),
            again,
        )
        self.assertEqual({"crew-task", "crew-timeout", "crew-attempt", "a"}, properties["headers"].keys())
        self.assertEqual("7000", call_again(self.gotten(), 7.0, 200.0)[1]["expiration"])

    def test_under_signing_it_is_signed_anew_where_it_was_signed(self) -> None:
        """By one of the keys; the broker has taken its expiration out, and the old caller gets nothing."""
        keys, now = SigningKeys({"k": b"k" * 32}), 10_000.0
        call = Call(
            "t", "c", b"body", "application/json", None, "r", 500, 9000, priority=200, headers={"a": 1}
        )
        encoded, _ = signed_call(call, call.body, keys, 0.0)
        properties = decode_properties(encoded, 0, len(encoded))
        del properties["expiration"]
        properties["headers"]["x-death"] = [{"reason": "expired", "original-expiration": "500"}]
        letter = Gotten(1, properties, call.body, "", 0)
        task, again = call_again(letter, None, now, keys)
        delivery = Delivery("", 1, False, "crew.tasks", task, again, call.body)
        WorkerGate(keys, lambda: now).call(call_from(again, call.body), delivery)
        other = SigningKeys({"k": b"o" * 32})
        unsigned = replace(letter, properties=call_properties(call))
        for dead, known in ((letter, other), (replace(letter, body=b"Body"), keys), (unsigned, keys)):
            self.assertRaises(RefusedError, call_again, dead, None, now, known)

    def test_without_an_expiration_known_it_has_a_day(self) -> None:
        """As every call."""
        headers = {"crew-task": "t"}
        self.assertEqual("86400000", call_again(self.gotten(headers=headers), None, 0.0)[1]["expiration"])


class Inspection:
    """
    In place of an inspector: letters that are there.

    :ivar acked: the tags of those that were acknowledged.
    """

    def __init__(self, letters: list[Gotten]) -> None:
        self.letters = letters
        self.acked: list[int] = []

    async def get(self, queue: str) -> Gotten | None:
        return self.letters.pop(0) if self.letters else None

    def ack(self, gotten: Gotten) -> None:
        self.acked.append(gotten.delivery_tag)

    async def close(self) -> None:
        """Its channel is closed."""


class RequeueTests(SynchronousTestCase):
    """Dead calls that are sent again, on a channel that only notes."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.channel = Channel()
        self.publisher = attached(self.clock, self.channel)
        self.told: list[str | None] = []

    def requeuer(self, inspection: Inspection) -> Requeuer:
        return Requeuer(
            self.clock,
            inspection,  # type: ignore[arg-type]
            self.publisher,
            on_failed=lambda letter, error: self.told.append(letter.id),
        )

    def letter(self, tag: int, body: bytes = b"body") -> Gotten:
        call = Call("t", f"c{tag}", body, "application/json", expiration=500, timestamp=100)
        return Gotten(tag, call_properties(call), body, "t", 0)

    def test_one_that_its_queue_refuses_does_not_keep_the_others(self) -> None:
        """It is counted, told of, and stays where it is."""
        inspection = Inspection([self.letter(tag) for tag in (1, 2, 3)])
        requeuer = self.requeuer(inspection)
        run = Deferred.fromCoroutine(requeuer.run(lambda letter: True, 10))
        for tag in (1, 2, 3):
            self.channel.confirm(tag, acked=tag != 2)
        self.assertEqual(0, self.successResultOf(run))
        self.assertEqual((2, 1, [1, 3]), (requeuer.requeued, requeuer.failed, inspection.acked))
        self.assertEqual(["c2"], self.told)

    def test_a_lost_connection_ends_it(self) -> None:
        """There is nothing more that could be sent."""
        requeuer = self.requeuer(Inspection([self.letter(1)]))
        run = Deferred.fromCoroutine(requeuer.run(lambda letter: True, 10))
        self.publisher.stop(ConnectionLostError("gone"))
        self.failureResultOf(run, ConnectionLostError)
