"""Questions to workers: sent, and their answers gathered."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.codec import Codec
from crew_tx.errors import (
    AccessRefusedError,
    ClientStoppedError,
    ConnectionLostError,
    EncodeError,
    InvalidArgumentError,
    MessageTooLargeError,
    NotFoundError,
    OutboxFullError,
    PublishNackedError,
    PublishTimeoutError,
)
from crew_tx.message import Answer
from crew_tx.rpc.gathering import LOOKING, Gatherings
from tests.rpc.fakes import Channel, attached
from tests.threads import Threads

_CODEC = Codec()


class GatheringTests(SynchronousTestCase):
    """The caller's side, on a channel that only notes."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.channel = Channel()
        self.publisher = attached(self.clock, self.channel)
        self.in_thread = Threads()
        self.stopped: ClientStoppedError | None = None
        self.gatherings = Gatherings(
            self.clock, self.publisher, _CODEC, self.in_thread, "client-1", self.check_running
        )
        self.addCleanup(self.end)

    def check_running(self) -> None:
        if self.stopped is not None:
            raise self.stopped

    def end(self) -> None:
        self.gatherings.stop(ClientStoppedError("the test ends"))
        self.publisher.stop(ClientStoppedError("the test ends"))
        self.assertEqual(self.clock.getDelayedCalls(), [], "a delayed call is left")

    def ask(self, name: str = "ping", *arguments: Any, **options: Any) -> Deferred[Any]:
        """A question that is on the wire; its error is dropped if the test does not look at it."""
        asked = self.gatherings.ask(name, *arguments, **options)
        self.addCleanup(asked.addErrback, lambda _: None)
        return asked

    def answer(self, value: Any, worker: str | None = "w", error: Any = None, **changes: Any) -> bool:
        """A worker answers the last question."""
        answer = Answer(self.channel.properties["correlation_id"], *_CODEC.encode(value), error, worker)
        return self.gatherings.answered(answer._replace(**changes))

    def test_what_is_sent(self) -> None:
        """arpc's keys and map; transient, gone when nobody waits any more, returned where nobody is."""
        self.ask("drain", None, {"x": 1}, timeout=1.5)
        self.ask("drain", "w-1")
        events = self.channel.take()
        self.assertEqual(
            [event[:3] for event in events],
            [("publish", "crew.control", "mgt"), ("publish", "crew.control", "mgt.w-1")],
        )
        self.assertEqual(_CODEC.decode(events[0][3], "application/cbor"), {"c": "drain", "x": 1})
        properties = self.channel.properties
        self.assertEqual(
            (properties["type"], properties["reply_to"], properties["expiration"]),
            ("crew.command", "client-1", "1000"),
        )
        self.assertEqual((properties["delivery_mode"], properties["timestamp"]), (1, 1000))
        self.assertTrue(self.channel.mandatory)

    def test_what_only_looks_goes_by_other_keys(self) -> None:
        """What every worker has, that is; nobody knows here what users' own commands do."""
        for name in (*LOOKING, "version", "PING"):
            self.ask(name)
        self.ask("ping", "w-1")
        keys = [event[2] for event in self.channel.take()]
        self.assertEqual(keys, ["look"] * 6 + ["mgt"] * 2 + ["look.w-1"])

    def test_one_that_the_user_may_not_send(self) -> None:
        """The broker's words, and who may."""
        for name, words in (("drain", "role manager"), ("ping", "monitor or manager")):
            asked = self.ask(name)
            self.channel.close_for(403, "ACCESS_REFUSED - write access")
            error = self.failureResultOf(asked, AccessRefusedError).value
            self.assertIn("403 ACCESS_REFUSED - write access", str(error))
            self.assertIn(words, str(error))
            self.assertEqual((error.reply_code, error.reply_text), (403, "ACCESS_REFUSED - write access"))
            self.channel = Channel()
            self.publisher.attach(self.channel)  # type: ignore[arg-type]

    def test_one_that_the_broker_refuses_otherwise(self) -> None:
        """As it says."""
        asked = self.ask("drain")
        self.channel.close_for(404, "NOT_FOUND - no exchange")
        self.assertNotIn("role", str(self.failureResultOf(asked, NotFoundError).value))

    def test_a_large_question_is_compressed(self) -> None:
        """And says so."""
        self.ask("eval", None, {"expr": "x" * 100_000})
        self.assertEqual(self.channel.properties["content_encoding"], "gzip")

    def test_answers_are_gathered_until_the_time_is_up(self) -> None:
        """Each with its worker's id; a later one is nobody's."""
        asked = self.ask()
        self.assertTrue(self.answer({"pid": 1}, "w1"))
        self.assertTrue(self.answer("text", "w2"))
        self.clock.advance(0.9)
        self.assertNoResult(asked)
        self.clock.advance(0.2)
        self.assertEqual(
            self.successResultOf(asked), [{"wid": "w1", "pid": 1}, {"wid": "w2", "result": "text"}]
        )
        self.assertFalse(self.answer({"pid": 3}, "w3"))

    def test_no_answer(self) -> None:
        """An empty list."""
        asked = self.ask()
        self.channel.confirm()
        self.clock.advance(1.1)
        self.assertEqual(self.successResultOf(asked), [])

    def test_a_question_that_workers_would_refuse(self) -> None:
        """It is not sent."""
        self.failureResultOf(self.ask("eval", None, {"expr": "x" * 200_000}), MessageTooLargeError)
        self.assertEqual(self.channel.take(), [])

    def test_a_large_answer_is_read_in_a_thread(self) -> None:
        """One that came in time counts, though it is read later; and what can't be read is told."""
        asked = self.ask()
        self.assertTrue(self.answer("x" * 200_000, "w1"))
        self.assertTrue(self.answer(None, "w2", body=b"no gzip", content_encoding="gzip"))
        self.assertTrue(self.answer("small", "w3"))
        self.clock.advance(1.1)
        self.assertNoResult(asked)
        self.assertFalse(self.answer("late", "w4"))
        self.in_thread.run()
        self.assertNoResult(asked)
        self.in_thread.run()
        small, large, unreadable = self.successResultOf(asked)
        self.assertEqual((small["wid"], len(large["result"])), ("w3", 200_000))
        self.assertIn("not gzip", unreadable["error"])

    def test_a_thread_that_fails(self) -> None:
        """Its answer says so."""
        asked = self.ask(expect=1)
        self.answer("x" * 200_000)
        self.in_thread.waiting[0][0].errback(MemoryError("no room"))
        self.assertEqual(self.successResultOf(asked), [{"wid": "w", "error": "no room"}])

    def test_an_answer_that_was_read_too_late(self) -> None:
        """Its asker has given up; and another's question does not get it."""
        asked, given_up = self.ask(expect=1), self.ask()
        self.answer("x" * 200_000)
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        self.in_thread.run()
        self.assertNoResult(asked)

    def test_as_many_as_are_expected(self) -> None:
        """It does not wait for the rest of the time."""
        asked = self.ask(expect=2)
        self.answer({}, "w1")
        self.assertNoResult(asked)
        self.answer({}, "w2")
        self.assertEqual([each["wid"] for each in self.successResultOf(asked)], ["w1", "w2"])
        self.assertFalse(self.answer({}, "w3"))

    def test_an_answer_that_comes_again(self) -> None:
        """After a lost connection: it is told once, and nobody is missed for it."""
        asked = self.ask(expect=2)
        for worker in ("w1", "w1", "w2"):
            self.assertTrue(self.answer({}, worker))
        self.assertEqual([each["wid"] for each in self.successResultOf(asked)], ["w1", "w2"])

    def test_each_question_has_its_own_answers(self) -> None:
        """By its id."""
        first = self.ask(expect=1)
        call_id = self.channel.properties["correlation_id"]
        second = self.ask(expect=1)
        self.answer({"n": 2})
        self.assertNoResult(first)
        self.answer({"n": 1}, call_id=call_id)
        self.assertEqual(self.successResultOf(first), [{"wid": "w", "n": 1}])
        self.assertEqual(self.successResultOf(second), [{"wid": "w", "n": 2}])

    def test_a_worker_that_could_not_do_it(self) -> None:
        """Says why, in its place."""
        asked = self.ask(expect=3)
        self.answer({"type": "ValueError", "message": "no", "traceback": ""}, "w1", "raised")
        self.answer("odd", "w2", "raised")
        self.answer({"a": 1}, "w3", content_type="application/none")
        first, second, third = self.successResultOf(asked)
        self.assertEqual(first, {"wid": "w1", "error": "no"})
        self.assertEqual(second, {"wid": "w2", "error": "the command failed"})
        self.assertEqual(third["wid"], "w3")
        self.assertIn("application/none", third["error"])

    def test_there_is_no_such_worker(self) -> None:
        """The broker returns it: an empty list at once."""
        asked = self.ask("ping", "nobody")
        self.channel.give_back()
        self.assertEqual(self.successResultOf(asked), [])

    def test_it_does_not_reach_the_broker(self) -> None:
        """The error is the Deferred's, once."""
        nacked = self.ask()
        self.channel.confirm(acked=False)
        self.failureResultOf(nacked, PublishNackedError)
        lost = self.ask()
        self.channel.close()
        self.assertTrue(self.failureResultOf(lost, ConnectionLostError).value.maybe_sent)
        self.clock.advance(2)

    def test_without_a_connection(self) -> None:
        """No empty list, which would say that nobody is there; and it is not sent any more."""
        self.channel.close()
        asked = self.ask()
        self.clock.advance(1.1)
        self.assertFalse(self.failureResultOf(asked, PublishTimeoutError).value.maybe_sent)
        again = Channel()
        self.publisher.attach(again)  # type: ignore[arg-type]
        self.assertEqual(again.take(), [])

    def test_a_broker_that_says_nothing(self) -> None:
        """It was written, and perhaps no worker has it: no empty list either. An answer shows it."""
        unheard, answered = self.ask(), self.ask()
        self.answer({})
        self.clock.advance(1.1)
        error = self.failureResultOf(unheard, PublishTimeoutError).value
        self.assertEqual((error.maybe_sent, "did not confirm" in str(error)), (True, True))
        self.assertEqual(self.successResultOf(answered), [{"wid": "w"}])

    def test_the_connection_comes_in_time(self) -> None:
        """It is sent then."""
        self.channel.close()
        asked = self.ask(expect=1)
        self.channel = Channel()
        self.publisher.attach(self.channel)  # type: ignore[arg-type]
        self.answer({})
        self.assertEqual(self.successResultOf(asked), [{"wid": "w"}])

    def test_cancelling(self) -> None:
        """Its answers are nobody's; one that waits is not sent."""
        asked = self.ask()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertFalse(self.answer({}))
        self.channel.close()
        waiting = self.ask()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.publisher.waiting, 0)

    def test_wrong_arguments(self) -> None:
        """Nothing is sent."""
        for arguments, options, kind in (
            (("",), {}, InvalidArgumentError),
            (("ping", ""), {}, InvalidArgumentError),
            (("ping", None, [1]), {}, InvalidArgumentError),
            (("ping", None, {"x": object()}), {}, EncodeError),
            (("ping",), {"timeout": 0}, InvalidArgumentError),
            (("ping",), {"timeout": True}, InvalidArgumentError),
            (("ping",), {"timeout": "1"}, InvalidArgumentError),
            (("ping",), {"timeout": 3601}, InvalidArgumentError),
            (("ping",), {"expect": 0}, InvalidArgumentError),
            (("ping",), {"expect": True}, InvalidArgumentError),
            (("ping",), {"expect": 1.0}, InvalidArgumentError),
        ):
            self.failureResultOf(self.gatherings.ask(*arguments, **options), kind)
        self.assertEqual(self.channel.take(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_outbox_is_full(self) -> None:
        """It fails at once, and leaves nothing behind."""
        self.channel.close()
        self.publisher.stop(ClientStoppedError("another"))
        publisher = attached(self.clock, self.channel, max_waiting=0)
        gatherings = Gatherings(self.clock, publisher, _CODEC, self.in_thread, "c")
        self.failureResultOf(gatherings.ask("ping"), OutboxFullError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopping(self) -> None:
        """All fail, and so do those to come."""
        asked = [self.ask(), self.ask()]
        self.gatherings.stop(ClientStoppedError("stopped"))
        for each in asked:
            self.failureResultOf(each, ClientStoppedError)
        self.stopped = ClientStoppedError("stopped")
        self.failureResultOf(self.ask(), ClientStoppedError)
