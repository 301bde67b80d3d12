"""What comes into a reply queue: answers and dead letters, read, counted and acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.codec import LARGE, Codec
from crew_tx.errors import CrewError, DecodeError, ExpirationError, RemoteError
from crew_tx.message import Answer, Call, Properties, answer_properties, call_properties
from crew_tx.rpc.pending import PendingCalls
from crew_tx.rpc.replies import BatchedAcks, ReplyReader
from tests.rpc.fakes import Channel, delivery

_CODEC = Codec()


class NoGatherings:
    """Nobody waits for answers to commands."""

    def find(self, call_id: str) -> None:
        return None

    def answered(self, answer: Answer) -> bool:
        raise AssertionError


class ReaderTestCase(SynchronousTestCase):
    """Tests with a reader, and a thread that runs when the test says so."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.calls = PendingCalls(self.clock, lambda call: None)
        self.in_thread: list[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = []
        self.reader = ReplyReader(self.calls, _CODEC, self._in_thread, NoGatherings())
        self.addCleanup(self.calls.stop, CrewError("the test is over"))

    def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        self.in_thread.append((waiting, function, arguments))
        return waiting

    def run_thread(self) -> None:
        """Run the oldest function that was given to the thread."""
        waiting, function, arguments = self.in_thread.pop(0)
        waiting.callback(function(*arguments))

    def call(self, call_id: str = "c1") -> Deferred[Any]:
        """A pending call's Deferred."""
        deferred = self.calls.new("sum", call_id, 60.0, 60.0, False).deferred
        assert deferred is not None
        self.addCleanup(deferred.addErrback, lambda _: None)
        return deferred

    def receive(self, properties: Properties, body: bytes = b"") -> None:
        """A message comes."""
        reading = self.reader.read(delivery(properties, body))
        if reading is not None:
            self.reader.received(reading)

    def answer(self, value: object, call_id: str = "c1", compress: bool = False, **changes: Any) -> None:
        """An answer comes, with this value in its body."""
        encoded = _CODEC.encode(value, compress=compress)
        answer = Answer(call_id, encoded.body, encoded.content_type, encoded.content_encoding)
        answer = answer._replace(**changes)
        self.receive(answer_properties(answer), answer.body)

    def counts(self) -> tuple[int, int, int]:
        """Late, duplicate, undecodable."""
        return self.reader.late, self.reader.duplicates, self.reader.undecodable


class AnswerTests(ReaderTestCase):
    """Answers."""

    def test_an_answer_ends_its_call(self) -> None:
        """With the value of its body."""
        deferred = self.call()
        self.answer({"sum": 12})
        self.assertEqual(self.successResultOf(deferred), {"sum": 12})
        self.assertEqual(self.counts(), (0, 0, 0))

    def test_an_error_ends_it_as_well(self) -> None:
        """Its body is a map, and the Deferred fails."""
        deferred = self.call()
        self.answer({"type": "ValueError", "message": "no"}, error="raised")
        self.assertEqual(self.failureResultOf(deferred, RemoteError).value.message, "no")

    def test_none_is_a_value(self) -> None:
        """And so is an exception's map, where it is no error."""
        first, second = self.call("a"), self.call("b")
        self.answer(None, "a")
        self.answer({"type": "ValueError"}, "b")
        self.assertIsNone(self.successResultOf(first))
        self.assertEqual(self.successResultOf(second), {"type": "ValueError"})

    def test_a_small_body_is_read_at_once(self) -> None:
        """A thread would cost more than it."""
        self.call()
        self.answer(b"x" * (LARGE // 2))
        self.assertEqual((self.in_thread, len(self.calls)), ([], 0))

    def test_a_large_body_is_read_in_a_thread(self) -> None:
        """Other calls go on meanwhile."""
        deferred = self.call()
        self.answer(b"x" * LARGE)
        self.assertNoResult(deferred)
        self.run_thread()
        self.assertEqual(len(self.successResultOf(deferred)), LARGE)

    def test_a_compressed_body_is_read_in_a_thread(self) -> None:
        """However small: what it inflates to is anybody's guess."""
        deferred = self.call()
        self.answer("small", compress=True)
        self.assertNoResult(deferred)
        self.run_thread()
        self.assertEqual(self.successResultOf(deferred), "small")

    def test_an_error_in_a_large_body_is_an_error(self) -> None:
        """The thread gives both, errors and values."""
        deferred = self.call()
        self.answer({"type": "E", "message": "x" * LARGE}, error="raised")
        self.run_thread()
        self.failureResultOf(deferred, RemoteError)

    def test_a_body_that_cannot_be_read_fails_its_call(self) -> None:
        """With content type and size; in a thread or not."""
        for encoding in (None, "gzip"):
            deferred = self.call()
            self.answer(None, body=b"\xff\xff", content_type="application/cbor", content_encoding=encoding)
            if encoding:
                self.run_thread()
            error = self.failureResultOf(deferred, DecodeError).value
            self.assertEqual((error.content_type, error.size), ("application/cbor", 2))

    def test_an_error_that_cannot_be_read_fails_its_call(self) -> None:
        """It says that much less, but it ends."""
        deferred = self.call()
        self.answer(None, body=b"\xff\xff", error="raised")
        self.failureResultOf(deferred, DecodeError)

    def test_a_thread_that_fails_fails_the_call(self) -> None:
        """Be it out of memory, or stopped."""
        deferred = self.call()
        self.answer(b"x" * LARGE)
        self.in_thread.pop()[0].errback(MemoryError())
        self.failureResultOf(deferred, MemoryError)

    def test_a_call_that_ended_while_its_answer_was_read(self) -> None:
        """The answer is late by then, and counted as that."""
        deferred = self.call()
        self.answer(b"x" * LARGE)
        deferred.cancel()
        self.run_thread()
        self.failureResultOf(deferred)
        self.assertEqual(self.counts(), (1, 0, 0))


class StrayTests(ReaderTestCase):
    """What comes for no pending call: counted, never raised."""

    def test_a_second_answer_is_a_duplicate(self) -> None:
        """A redelivered call was answered twice."""
        self.call()
        self.answer(1)
        self.answer(1)
        self.assertEqual(self.counts(), (0, 1, 0))

    def test_an_answer_to_an_ended_call_is_late(self) -> None:
        """So is one to a call that never was."""
        self.call().cancel()
        self.answer(1)
        self.answer(1, "unknown")
        self.assertEqual(self.counts(), (2, 0, 0))

    def test_an_answer_after_the_dead_letter_is_a_duplicate(self) -> None:
        """The call has had its outcome by this queue."""
        self.call()
        self.receive(call_properties(Call("sum", "c1", b"", "a/b")))
        self.answer(1)
        self.assertEqual(self.counts(), (0, 1, 0))

    def test_two_large_answers_to_one_call(self) -> None:
        """The second is found to be one too many when it is read."""
        self.call()
        self.answer(b"x" * LARGE)
        self.answer(b"x" * LARGE)
        self.run_thread()
        self.run_thread()
        self.assertEqual(self.counts(), (0, 1, 0))

    def test_one_that_is_decoded_is_for_its_own_call(self) -> None:
        """Not for another that has got its id meanwhile."""
        self.call()
        self.answer(b"x" * LARGE)
        self.answer(b"y" * LARGE)
        self.run_thread()
        other = self.call()
        self.run_thread()
        self.assertNoResult(other)
        self.assertEqual(self.counts(), (0, 1, 0))

    def test_one_that_is_read_is_for_its_own_call(self) -> None:
        """Nor is what nobody waited for when it was read."""
        properties = answer_properties(Answer("c1", _CODEC.encode(1).body, _CODEC.encode(1).content_type))
        early, failed = delivery(properties, _CODEC.encode(1).body), {**properties, "type": "crew.call"}
        self.assertIsNone(self.reader.read(early))
        call = self.call()
        readings = [self.reader.read(each) for each in (early, early, delivery(failed))]
        for reading in readings:
            assert reading is not None
            self.reader.received(reading)
            if call.called:
                call = self.call()
        self.assertNoResult(call)
        self.assertEqual(self.counts(), (1, 2, 0))

    def test_only_the_last_ten_thousand_answers_are_remembered(self) -> None:
        """One to an older call counts as late."""
        for number in range(10_001):
            self.call(str(number))
            self.answer(1, str(number))
        self.answer(1, "1")
        self.answer(1, "0")
        self.assertEqual(self.counts(), (1, 1, 0))

    def test_a_message_that_is_neither_is_counted(self) -> None:
        """A reply queue takes what anybody sends it."""
        self.receive({})
        self.receive({"type": "crew.call"})
        self.assertEqual(self.counts(), (0, 0, 2))


class DeadLetterTests(ReaderTestCase):
    """Calls that come back."""

    def test_a_dead_letter_fails_its_call(self) -> None:
        """With the broker's reason."""
        deferred = self.call()
        properties = call_properties(Call("sum", "c1", b"", "a/b"))
        properties["headers"]["x-death"] = [{"reason": "expired", "queue": "crew.tasks.sum"}]
        self.receive(properties)
        error = self.failureResultOf(deferred, ExpirationError).value
        self.assertEqual((error.reason, error.queue), ("expired", "crew.tasks.sum"))
        self.assertEqual(self.counts(), (0, 0, 0))

    def test_a_dead_letter_of_an_ended_call_is_late(self) -> None:
        """A cancelled call may well expire."""
        self.receive(call_properties(Call("sum", "c1", b"", "a/b")))
        self.assertEqual(self.counts(), (1, 0, 0))


class BatchedAcksTests(SynchronousTestCase):
    """Acknowledgements, many at a time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.channel = Channel()
        self.acks = BatchedAcks(self.clock, self.channel)  # type: ignore[arg-type]
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def test_they_go_out_after_20_milliseconds(self) -> None:
        """All up to the last, in one."""
        for tag in (1, 2, 3):
            self.acks.add(tag)
        self.clock.advance(0.019)
        self.assertEqual(self.channel.take(), [])
        self.clock.advance(0.001)
        self.assertEqual(self.channel.take(), [("ack", 3, True)])

    def test_they_go_out_at_64(self) -> None:
        """A busy client waits for no timer."""
        for tag in range(1, 131):
            self.acks.add(tag)
        self.assertEqual(self.channel.take(), [("ack", 64, True), ("ack", 128, True)])
        self.clock.advance(0.02)
        self.assertEqual(self.channel.take(), [("ack", 130, True)])

    def test_time_counts_from_the_first_of_a_batch(self) -> None:
        """Later ones don't put it off."""
        self.acks.add(1)
        self.clock.advance(0.015)
        self.acks.add(2)
        self.clock.advance(0.005)
        self.assertEqual(self.channel.take(), [("ack", 2, True)])

    def test_flush_acknowledges_now(self) -> None:
        """Once."""
        self.acks.add(1)
        self.acks.flush()
        self.acks.flush()
        self.clock.advance(1)
        self.assertEqual(self.channel.take(), [("ack", 1, True)])

    def test_nothing_is_acknowledged_where_nothing_came(self) -> None:
        """Tag 0 with ``multiple`` would mean all there is."""
        self.acks.flush()
        self.assertEqual(self.channel.take(), [])

    def test_stop_leaves_the_rest_to_be_delivered_again(self) -> None:
        """The channel is dead by then."""
        self.acks.add(1)
        self.acks.stop()
        self.acks.stop()
        self.clock.advance(1)
        self.assertEqual(self.channel.take(), [])
