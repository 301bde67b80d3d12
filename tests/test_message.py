"""Messages and their one mapping to AMQP's properties and headers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import DecodeError, InvalidArgumentError
from crew_tx.message import (
    LONGEST_EXPIRATION,
    NO_HEADERS,
    Answer,
    Call,
    DeadLetter,
    Reply,
    answer_from,
    answer_properties,
    call_from,
    call_properties,
    check_headers,
    dead_letter_from,
    is_dead_letter,
    probe_properties,
    user_headers,
)
from crew_tx.topology import queue_priority

_LONGEST_MS = LONGEST_EXPIRATION * 1000

_text = st.text(min_size=1, max_size=20)
_names = _text.filter(lambda name: name not in ("CC", "BCC") and not name.startswith(("crew-", "x-")))
_headers = st.dictionaries(_names, st.integers() | st.text() | st.booleans(), max_size=3)
_milliseconds = st.integers(1, _LONGEST_MS)


def a_call(**changes: Any) -> Call:
    """A call with everything set."""
    call = Call(
        task_id="sum",
        call_id="c1",
        body=b"body",
        content_type="application/cbor",
        content_encoding="gzip",
        reply_to="client-1",
        expiration=60_000,
        timeout=1_500,
        attempt=2,
        priority=255,
        persistent=True,
        timestamp=1_700_000_000,
        headers={"colour": "grün"},
    )
    return call._replace(**changes)


def an_answer(**changes: Any) -> Answer:
    """A result with everything set."""
    answer = Answer(
        call_id="c1",
        body=b"body",
        content_type="application/cbor",
        content_encoding="gzip",
        error=None,
        worker="worker-1",
        elapsed=0.25,
        persistent=True,
        headers={"colour": "grün"},
    )
    return answer._replace(**changes)


class CallTests(SynchronousTestCase):
    """A call, to properties and back."""

    def test_its_properties_are_these(self) -> None:
        """What other languages rely on."""
        self.assertEqual(
            call_properties(a_call()),
            {
                "type": "crew.call",
                "correlation_id": "c1",
                "message_id": "c1",
                "reply_to": "client-1",
                "expiration": "60000",
                "delivery_mode": 2,
                "priority": 10,
                "timestamp": 1_700_000_000,
                "content_type": "application/cbor",
                "content_encoding": "gzip",
                "app_id": "crew_tx",
                "headers": {
                    "crew-task": "sum",
                    "crew-timeout": 1_500,
                    "crew-attempt": 2,
                    "CC": ["@client-1"],
                    "colour": "grün",
                },
            },
        )

    def test_what_is_not_set_is_left_out(self) -> None:
        """A one-way call has no reply-to and no CC, so its dead letters go to crew.dead."""
        properties = call_properties(Call("sum", "c1", b"", "text/plain"))
        self.assertNotIn("reply_to", properties)
        self.assertNotIn("content_encoding", properties)
        self.assertEqual(
            properties["headers"], {"crew-task": "sum", "crew-timeout": 86_400_000, "crew-attempt": 1}
        )

    def test_a_transient_call_has_delivery_mode_1(self) -> None:
        """Which is AMQP's word for one that a restart of the broker loses."""
        self.assertEqual(call_properties(a_call(persistent=False))["delivery_mode"], 1)

    def test_the_priority_is_always_there(self) -> None:
        """In the queue's steps of 0 to 10, also where it is 0."""
        steps = [call_properties(a_call(priority=priority))["priority"] for priority in (0, 25, 26, 128, 255)]
        self.assertEqual(steps, [0, 0, 1, 5, 10])

    def test_the_callers_headers_are_not_written_to(self) -> None:
        """Their dict is theirs, and may serve for the next call."""
        headers = {"colour": "red"}
        call_properties(a_call(headers=headers, reply_to="client-1"))
        self.assertEqual(headers, {"colour": "red"})

    @settings(deadline=None, derandomize=True)
    @given(
        st.builds(
            Call,
            task_id=_text,
            call_id=_text,
            body=st.binary(),
            content_type=_text,
            content_encoding=st.none() | _text,
            reply_to=st.none() | _text,
            expiration=_milliseconds,
            timeout=_milliseconds,
            attempt=st.integers(1, 2**31),
            priority=st.integers(0, 255),
            persistent=st.booleans(),
            timestamp=st.integers(0, 2**40),
            headers=_headers,
            redelivered=st.booleans(),
        )
    )
    def test_it_comes_back_from_its_properties(self, call: Call) -> None:
        """All of it, but for the priority, which is the queue's from then on."""
        read = call_from(call_properties(call), call.body, call.redelivered)
        self.assertEqual(read, call._replace(priority=queue_priority(call.priority), deliveries=0))

    def test_the_least_that_is_a_call(self) -> None:
        """A task and a correlation id; the rest has defaults that never expire it early."""
        call = call_from({"headers": {"crew-task": "sum"}, "correlation_id": "c1"}, b"body")
        self.assertEqual(
            call,
            Call(
                "sum",
                "c1",
                b"body",
                "application/octet-stream",
                expiration=_LONGEST_MS,
                timeout=_LONGEST_MS,
                persistent=False,
                headers={},
            ),
        )

    def test_the_timeout_falls_back_to_the_expiration(self) -> None:
        """As it does in the caller's arguments."""
        call = call_from({"headers": {"crew-task": "t"}, "correlation_id": "c", "expiration": "700"}, b"")
        self.assertEqual((call.expiration, call.timeout), (700, 700))

    def test_the_timeout_may_be_a_string_of_digits(self) -> None:
        """Some languages write header numbers as text."""
        self.assertEqual(self._timeout("1500"), 1500)

    def test_no_time_at_all_is_a_time(self) -> None:
        """It is up at once; RabbitMQ itself takes an expiration of 0."""
        self.assertEqual(self._timeout(0), 0)

    def test_more_than_ten_years_counts_as_ten_years(self) -> None:
        """So that no timer is set for the end of time."""
        self.assertEqual(LONGEST_EXPIRATION, 315_360_000)
        self.assertEqual(self._timeout(10**15), _LONGEST_MS)
        self.assertEqual(self._timeout("9" * 20), _LONGEST_MS)

    def test_a_timeout_that_is_no_time_is_refused(self) -> None:
        """With the header's name; a number of twenty digits is the longest that is read at all."""
        for wrong in (-1, "-1", 1.5, True, "soon", "", b"5", [], "9" * 21):
            with self.subTest(wrong=wrong):
                error = self.assertRaises(DecodeError, self._timeout, wrong)
                self.assertIn("crew-timeout", str(error))

    def test_an_expiration_that_is_no_time_is_refused(self) -> None:
        """RabbitMQ refuses it, too, but another broker may not."""
        properties = {"headers": {"crew-task": "t"}, "correlation_id": "c", "expiration": "soon"}
        self.assertIn("expiration", str(self.assertRaises(DecodeError, call_from, properties, b"")))

    def test_a_call_needs_its_task_and_its_id(self) -> None:
        """As text that isn't empty."""
        for task, call_id in ((None, "c"), ("", "c"), (b"\xff", "c"), ("t", None), ("t", "")):
            with self.subTest(task=task, call_id=call_id):
                properties = {"headers": {"crew-task": task}, "correlation_id": call_id}
                self.assertRaises(DecodeError, call_from, properties, b"")
        self.assertRaises(DecodeError, call_from, {"correlation_id": "c"}, b"")

    def test_the_attempt_is_a_whole_number(self) -> None:
        """And no truth value."""
        for wrong in ("1", 1.0, True, None):
            with self.subTest(wrong=wrong):
                headers = {"crew-task": "t", "crew-attempt": wrong}
                self.assertRaises(DecodeError, call_from, {"headers": headers, "correlation_id": "c"}, b"")

    def test_deliveries_are_what_a_quorum_queue_counts(self) -> None:
        """A classic queue counts none."""
        properties = call_properties(a_call())
        self.assertEqual(call_from(properties, b"").deliveries, 0)
        properties["headers"]["x-delivery-count"] = 3
        self.assertEqual(call_from(properties, b"").deliveries, 3)

    def test_redelivered_is_what_the_broker_says(self) -> None:
        """It is no property; the delivery has it."""
        properties = call_properties(a_call())
        self.assertTrue(call_from(properties, b"", True).redelivered)
        self.assertFalse(call_from(properties, b"").redelivered)

    def _timeout(self, timeout: object) -> int:
        headers = {"crew-task": "t", "crew-timeout": timeout}
        return call_from({"headers": headers, "correlation_id": "c"}, b"").timeout


class AnswerTests(SynchronousTestCase):
    """An answer, to properties and back."""

    def test_a_results_properties_are_these(self) -> None:
        """What other languages rely on."""
        self.assertEqual(
            answer_properties(an_answer()),
            {
                "type": "crew.result",
                "correlation_id": "c1",
                "message_id": "c1",
                "delivery_mode": 2,
                "content_type": "application/cbor",
                "content_encoding": "gzip",
                "app_id": "crew_tx",
                "headers": {"colour": "grün", "crew-worker": "worker-1", "crew-elapsed": 0.25},
            },
        )

    def test_what_is_not_set_is_left_out(self) -> None:
        """Nothing stands for nothing on the wire."""
        properties = answer_properties(an_answer(worker=None, content_encoding=None))
        self.assertNotIn("crew-worker", properties["headers"])
        self.assertNotIn("content_encoding", properties)

    def test_an_error_has_its_kind(self) -> None:
        """In a header, and a type of its own."""
        properties = answer_properties(an_answer(error="timeout"))
        self.assertEqual(properties["type"], "crew.error")
        self.assertEqual(properties["headers"]["crew-error"], "timeout")

    def test_it_is_as_persistent_as_its_call(self) -> None:
        """Delivery mode 1 or 2."""
        modes = [
            answer_properties(an_answer(persistent=persistent))["delivery_mode"] for persistent in (0, 1)
        ]
        self.assertEqual(modes, [1, 2])

    def test_the_elapsed_time_is_the_last_header(self) -> None:
        """Where the template of replies puts it in."""
        headers = answer_properties(an_answer(error="raised"))["headers"]
        self.assertEqual(list(headers)[-1], "crew-elapsed")

    def test_the_tasks_headers_are_not_written_to(self) -> None:
        """They may belong to the task."""
        headers = {"colour": "red"}
        answer_properties(an_answer(headers=headers))
        self.assertEqual(headers, {"colour": "red"})

    @settings(deadline=None, derandomize=True)
    @given(
        st.builds(
            Answer,
            call_id=_text,
            body=st.binary(),
            content_type=_text,
            content_encoding=st.none() | _text,
            error=st.sampled_from([None, "raised", "timeout", "expired", "unknown-task", "undecodable"]),
            worker=st.none() | st.text(),
            elapsed=st.floats(allow_nan=False),
            persistent=st.booleans(),
            headers=_headers,
        )
    )
    def test_it_comes_back_from_its_properties(self, answer: Answer) -> None:
        """All of it."""
        self.assertEqual(answer_from(answer_properties(answer), answer.body), answer)

    def test_the_least_that_is_an_answer(self) -> None:
        """A correlation id: all else is a worker of another language's own choice."""
        self.assertEqual(
            answer_from({"correlation_id": "c1"}, b"body"),
            Answer("c1", b"body", "application/octet-stream", persistent=False, headers={}),
        )

    def test_an_error_without_a_kind_was_raised(self) -> None:
        """It must not come as a value, whatever stands there in place of the kind."""
        for headers in ({}, {"crew-error": None}, {"crew-error": ""}):
            with self.subTest(headers=headers):
                properties = {"type": "crew.error", "correlation_id": "c1", "headers": headers}
                self.assertEqual(answer_from(properties, b"").error, "raised")

    def test_a_result_has_no_kind_of_error(self) -> None:
        """Whatever its headers say."""
        properties = {"type": "crew.result", "correlation_id": "c1", "headers": {"crew-error": "timeout"}}
        self.assertIsNone(answer_from(properties, b"").error)

    def test_odd_headers_count_as_none(self) -> None:
        """A worker's id is text, its elapsed time a number."""
        for elapsed in ("long", True, None):
            headers = {"crew-worker": 5, "crew-elapsed": elapsed}
            answer = answer_from({"correlation_id": "c1", "headers": headers}, b"")
            self.assertEqual((answer.worker, answer.elapsed), (None, 0.0))

    def test_the_elapsed_time_may_be_a_whole_number(self) -> None:
        """In many languages, 3.0 is written as 3."""
        answer = answer_from({"correlation_id": "c1", "headers": {"crew-elapsed": 3}}, b"")
        self.assertEqual(answer.elapsed, 3.0)
        self.assertIsInstance(answer.elapsed, float)

    def test_an_answer_without_its_calls_id_is_refused(self) -> None:
        """Nobody could say whose it is."""
        for wrong in ({}, {"correlation_id": ""}):
            self.assertRaises(DecodeError, answer_from, wrong, b"")


class DeadLetterTests(SynchronousTestCase):
    """What the broker writes about a call that it took out of its queue."""

    def dead_letter(self, **death: Any) -> DeadLetter:
        """A dead letter with one death."""
        return dead_letter_from({"correlation_id": "c1", "headers": {"x-death": [death]}})

    def test_a_call_in_the_reply_queue_is_a_dead_letter(self) -> None:
        """By its type; a result or an error isn't."""
        self.assertTrue(is_dead_letter(call_properties(a_call())))
        self.assertFalse(is_dead_letter(answer_properties(an_answer())))
        self.assertFalse(is_dead_letter({}))

    def test_all_that_rabbitmq_says_is_read(self) -> None:
        """Reason, queue, the expiration that it took away, and when."""
        letter = self.dead_letter(
            reason="expired",
            queue="crew.tasks.sum",
            time=datetime(2024, 5, 1, tzinfo=UTC),
            **{"original-expiration": "1500"},
        )
        self.assertEqual(letter, DeadLetter("c1", "expired", "crew.tasks.sum", 1.5, 1_714_521_600.0))

    def test_the_latest_death_counts(self) -> None:
        """RabbitMQ puts it first."""
        deaths = [{"reason": "rejected", "queue": "b"}, {"reason": "expired", "queue": "a"}]
        letter = dead_letter_from({"correlation_id": "c1", "headers": {"x-death": deaths}})
        self.assertEqual((letter.reason, letter.queue), ("rejected", "b"))

    def test_nothing_of_it_is_required(self) -> None:
        """Such a letter was rejected, at some time, somewhere."""
        nothing = DeadLetter("c1", "rejected", None, None, None)
        for deaths in (None, [], {}, "dead", ["dead"], [{}]):
            with self.subTest(deaths=deaths):
                letter = dead_letter_from({"correlation_id": "c1", "headers": {"x-death": deaths}})
                self.assertEqual(letter, nothing)
        self.assertEqual(dead_letter_from({"correlation_id": "c1"}), nothing)

    def test_odd_values_count_as_unknown(self) -> None:
        """An expiration that is no number, or none that Python would read; a queue that is no text."""
        for expiration in ("soon", "", "-5", 1500, "9" * 5000):
            with self.subTest(expiration=str(expiration)[:9]):
                letter = self.dead_letter(queue=b"q", time=5, **{"original-expiration": expiration})
                self.assertEqual(letter, DeadLetter("c1", "rejected", None, None, None))

    def test_it_needs_its_calls_id(self) -> None:
        """Nobody could say whose it is."""
        self.assertRaises(DecodeError, dead_letter_from, {"headers": {"x-death": [{"reason": "expired"}]}})


class HeaderTests(SynchronousTestCase):
    """Whose headers are whose."""

    def test_names_that_are_taken_are_refused(self) -> None:
        """RabbitMQ routes by CC and BCC, and writes x- itself; crew- is ours."""
        for name in ("CC", "BCC", "crew-task", "crew-", "crew-mine", "x-death", "x-"):
            with self.subTest(name=name):
                error = self.assertRaises(InvalidArgumentError, check_headers, {"good": 1, name: 1})
                self.assertIn(repr(name), str(error))

    def test_other_names_are_the_users(self) -> None:
        """Case counts, as it does to RabbitMQ."""
        check_headers({"cc": 1, "X-Mine": 1, "crew": 1, "traceparent": "00-", "é": None})

    def test_a_name_is_text(self) -> None:
        """The error has its type, and not the name itself."""
        error = self.assertRaises(InvalidArgumentError, check_headers, {5: 1})
        self.assertIn("int", str(error))

    def test_the_users_own_are_what_is_left(self) -> None:
        """Ours and the broker's never reach a task or a caller."""
        headers = {"crew-task": "t", "x-death": [], "CC": ["@a"], "BCC": ["b"], "mine": 1, "cc": 2}
        self.assertEqual(user_headers(headers), {"mine": 1, "cc": 2})

    def test_no_headers_cannot_be_written_to(self) -> None:
        """All messages without headers share it."""
        with self.assertRaises(TypeError):
            NO_HEADERS["mine"] = 1
        self.assertEqual(NO_HEADERS, {})


class OtherTests(SynchronousTestCase):
    """Probes, and what ``request`` gives."""

    def test_a_probe_is_transient_and_asks_for_no_answer(self) -> None:
        """That it is not returned is the answer."""
        self.assertEqual(
            probe_properties("p1"),
            {"type": "probe", "message_id": "p1", "delivery_mode": 1, "app_id": "crew_tx"},
        )

    def test_a_reply_is_frozen(self) -> None:
        """Several callbacks may look at one."""
        reply = Reply(1, {}, "worker", 0.5)
        with self.assertRaises(AttributeError):
            reply.value = 2  # type: ignore[misc]
