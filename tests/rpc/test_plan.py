"""What calls to one task have in common: by template or not, the bytes are the same."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.properties import decode_properties, encode_properties
from crew_tx.amqp.publisher import LONGEST_PROPERTIES
from crew_tx.codec import Encoded
from crew_tx.errors import EncodeError, InvalidArgumentError
from crew_tx.message import Call, call_properties
from crew_tx.rpc.options import CallOptions
from crew_tx.rpc.plan import CallPlan, CallPlans

_CBOR = Encoded(b"body", "application/cbor", None)


class CallPlanTests(SynchronousTestCase):
    """Calls."""

    def plan(self, task_id: str = "sum", reply_to: str | None = "client-1", **options: Any) -> CallPlan:
        """A plan of calls with these options."""
        return CallPlan(task_id, CallOptions(**options), reply_to)

    def test_options_are_what_the_message_says(self) -> None:
        """Seconds in whole milliseconds, never fewer; the timeout falls back to the expiration."""
        for options, fields in (
            ({}, {}),
            ({"priority": 255}, {"priority": 255}),
            ({"expiration": 1.5}, {"expiration": 1500, "timeout": 1500}),
            ({"expiration": 0.0011}, {"expiration": 2, "timeout": 2}),
            ({"timeout": 0.0011}, {"timeout": 2}),
            ({"persistent": False}, {"persistent": False}),
            ({"headers": {"colour": "red"}}, {"headers": {"colour": "red"}}),
        ):
            call = Call("sum", "c1", b"", "application/cbor", reply_to="client-1", timestamp=5)
            call = call._replace(**fields)  # type: ignore[arg-type]
            made = self.plan(**options).properties(_CBOR, "c1", 5)
            self.assertEqual(made, encode_properties(call_properties(call)), options)

    def test_one_way_calls_have_no_reply_to(self) -> None:
        """Nor CC."""
        made = self.plan(reply_to=None).properties(_CBOR, "c1", 5)
        call = Call("sum", "c1", b"", "application/cbor", timestamp=5)
        self.assertEqual(made, encode_properties(call_properties(call)))

    def test_one_plan_serves_for_many_calls(self) -> None:
        """Of other ids, times, content types and encodings; in whatever order."""
        plan = self.plan()
        kinds = [("application/cbor", None), ("application/json", None), ("application/cbor", "gzip")]
        for number, (content_type, content_encoding) in enumerate(kinds * 2):
            made = plan.properties(Encoded(b"", content_type, content_encoding), f"c{number}", number)
            call = Call(
                "sum", f"c{number}", b"", content_type, content_encoding, "client-1", timestamp=number
            )
            self.assertEqual(made, encode_properties(call_properties(call)))

    def test_a_call_that_is_sent_again_says_so(self) -> None:
        """With its attempt, and the time that it has left; all else is as it was."""
        for options, left, milliseconds in (
            ({"expiration": 60, "timeout": 5, "priority": 7}, 1.5, 1500),
            ({"expiration": 60, "timeout": 5, "headers": {"colour": "red"}}, 0.0004, 1),
        ):
            plan = self.plan(**options)
            first = plan.properties(_CBOR, "c1", 5)
            read = decode_properties(first, 0, len(first))
            read["headers"] = {**read["headers"], "crew-attempt": 3}
            again = plan.properties_again(_CBOR, "c1", 5, 3, left)
            expected = {**read, "expiration": str(milliseconds)}
            self.assertEqual(decode_properties(again, 0, len(again)), expected)
            self.assertEqual(plan.properties(_CBOR, "c1", 5), first)

    def test_it_is_addressed_anew_where_the_client_is_another(self) -> None:
        """The same plan where it is not."""
        plan = self.plan(priority=7)
        self.assertIs(plan.addressed("client-1"), plan)
        one_way = self.plan(reply_to=None)
        self.assertIs(one_way.addressed("client-1"), one_way)
        other = plan.addressed("client-2")
        self.assertEqual(
            other.properties(_CBOR, "c1", 5),
            self.plan(reply_to="client-2", priority=7).properties(_CBOR, "c1", 5),
        )

    def test_wrong_arguments_are_refused_when_it_is_made(self) -> None:
        """The task's id, and each option."""
        with self.assertRaisesRegex(InvalidArgumentError, "task id"):
            self.plan("@sum")
        with self.assertRaisesRegex(InvalidArgumentError, "priority"):
            self.plan(priority=256)

    def test_headers_that_cannot_be_sent_are_refused(self) -> None:
        """Too large, for which the broker would close the connection, or of a type that AMQP doesn't have."""
        for headers, words in (
            ({"large": "x" * LONGEST_PROPERTIES}, "65536"),
            ({"colour": object()}, "colour"),
        ):
            with self.assertRaisesRegex(EncodeError, words):
                self.plan(headers=headers).properties(_CBOR, "c1", 5)
        self.plan(headers={"large": "x" * (LONGEST_PROPERTIES - 1000)}).properties(_CBOR, "c1", 5)


class CallPlansTests(SynchronousTestCase):
    """Plans that are kept for calls to come."""

    def setUp(self) -> None:
        self.plans = CallPlans("client-1")

    def plan(self, task_id: Any = "sum", headers: Any = None, **changes: Any) -> CallPlan:
        """The plan of a call with these options."""
        options = CallOptions(**changes)[:-1]
        return self.plans.plan(task_id, options, headers)

    def test_calls_that_are_alike_have_one_plan(self) -> None:
        """Empty headers are none."""
        self.assertIs(self.plan(priority=5), self.plan(priority=5))
        self.assertIs(self.plan(priority=5), self.plan(priority=5, headers={}))

    def test_each_option_makes_a_plan_of_its_own(self) -> None:
        """And so does each task."""
        plans = {
            self.plan(),
            self.plan("other"),
            self.plan(priority=5),
            self.plan(expiration=5),
            self.plan(timeout=5),
            self.plan(persistent=False),
            self.plan(serializer="json"),
            self.plan(compress="gzip"),
            self.plan(require_worker=True),
        }
        self.assertEqual(len(plans), 9)

    def test_options_are_in_their_place(self) -> None:
        """Those of the plan are those that it was asked for."""
        options = CallOptions(7, 8.0, 9.0, False, "json", "gzip", True, {"colour": "red"})
        self.assertEqual(self.plans.plan("sum", options[:-1], options.headers).options, options)
        self.assertEqual(self.plans.plan("sum", options[:-1]).options, options._replace(headers=None))

    def test_headers_are_for_one_call_alone(self) -> None:
        """They may be changed, and a plan of theirs would serve for few."""
        headers = {"colour": "red"}
        self.assertIsNot(self.plan(headers=headers), self.plan(headers=headers))

    def test_what_is_equal_is_not_taken_for_what_is_right(self) -> None:
        """Equal keys are told apart by their types."""
        self.plan(priority=1)
        for wrong in (True, 1.0, Decimal(1)):
            with self.assertRaisesRegex(InvalidArgumentError, "priority", msg=repr(wrong)):
                self.plan(priority=wrong)

    def test_what_cannot_be_hashed_is_refused_as_what_it_is(self) -> None:
        """By the argument's name."""
        with self.assertRaisesRegex(InvalidArgumentError, "priority"):
            self.plan(priority=[])
        with self.assertRaisesRegex(InvalidArgumentError, "task id"):
            self.plan(["sum"])
