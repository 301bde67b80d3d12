"""What a caller may ask for, and what is refused before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from math import inf, nan
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import InvalidArgumentError
from crew_tx.message import LONGEST_EXPIRATION
from crew_tx.rpc.options import CallOptions, checked_call_id


class CallOptionsTests(SynchronousTestCase):
    """Each argument: what it may be, and that the error names it."""

    def assertGood(self, name: str, values: Iterable[Any]) -> None:
        """These are taken."""
        for value in values:
            CallOptions(**{name: value}).check()

    def assertRefused(self, name: str, values: Iterable[Any], words: str | None = None) -> None:
        """These are refused, with an error that has the argument's name."""
        for value in values:
            with self.assertRaisesRegex(InvalidArgumentError, words or name, msg=repr(value)):
                CallOptions(**{name: value}).check()

    def test_the_defaults_are_good(self) -> None:
        """A day to wait in the queue, a day to run, persistent, of the lowest priority."""
        options = CallOptions()
        options.check()
        self.assertEqual(options, (0, 86_400.0, None, True, None, None, False, None))

    def test_a_priority_is_a_whole_number_from_0_to_255(self) -> None:
        """And no truth value."""
        self.assertGood("priority", (0, 1, 255))
        self.assertRefused("priority", (-1, 256, 1.0, True, "1", None))

    def test_an_expiration_is_at_least_a_millisecond_and_at_most_ten_years(self) -> None:
        """What RabbitMQ takes; 0 would expire before any worker could take it."""
        self.assertGood("expiration", (0.001, 1, 86_400.0, LONGEST_EXPIRATION))
        self.assertRefused("expiration", (0, 0.0009, -1, LONGEST_EXPIRATION + 1, 10**400))

    def test_an_expiration_is_a_number(self) -> None:
        """No text, no truth value, no Decimal, nothing that has no end."""
        self.assertRefused("expiration", ("5", None, True, Decimal(5), inf, -inf, nan, [5]))

    def test_a_timeout_is_such_a_number_or_none(self) -> None:
        """With the same bounds."""
        self.assertGood("timeout", (None, 0.001, 5, LONGEST_EXPIRATION))
        self.assertRefused("timeout", (0, -1, LONGEST_EXPIRATION + 1, "5", False, nan))

    def test_it_may_run_as_long_as_it_may_wait(self) -> None:
        """Unless its timeout says otherwise, as the seed had it."""
        self.assertEqual(CallOptions(expiration=7.0).runs, 7.0)
        self.assertEqual(CallOptions(expiration=7.0, timeout=2.0).runs, 2.0)

    def test_headers_are_a_dict_of_names_that_are_free(self) -> None:
        """Anything else is refused here, and not where they are written."""
        self.assertGood("headers", (None, {}, {"colour": "red"}))
        self.assertRefused("headers", ({"CC": 1}, {"crew-task": 1}, {"x-a": 1}, {5: 1}), "header")
        self.assertRefused("headers", (["colour"], "colour", [("colour", 1)], 5))

    def test_a_serializer_is_named_by_text(self) -> None:
        """Which names there are is the codec's matter."""
        self.assertGood("serializer", (None, "json", "anything"))
        self.assertRefused("serializer", (5, ["cbor"], b"cbor"))

    def test_a_call_id_is_text_of_1_to_255_bytes(self) -> None:
        """Of UTF-8, which half a character is not."""
        for call_id in ("a", "x" * 255, "é" * 127):
            self.assertIs(checked_call_id(call_id), call_id)
        wrong: tuple[Any, ...] = ("", "x" * 256, "é" * 128, 5, b"a", "\ud800")
        for call_id in wrong:
            with self.assertRaisesRegex(InvalidArgumentError, "call_id", msg=repr(call_id)):
                checked_call_id(call_id)
