"""Tests of how many keys of a CBOR body may share a hash."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import cbor2
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.codec import UnreadableError
from crew_tx.codec._cbor_keys import check_keys, count_odd_keys
from tests.codec.values import CBOR_VALUES, SETTINGS

ODD: tuple[Any, ...] = (2**64, -(2**64) - 1, UUID(int=1), Decimal("1.5"), (), (1, 2), frozenset([1]))
SOUND = (
    None,
    True,
    1,
    2**64 - 1,
    -(2**64),
    1.5,
    "a",
    "a" * 30,
    b"a",
    date(1, 1, 1),
    datetime(1, 1, 1, tzinfo=UTC),
)


def is_odd(key: object) -> bool:
    """Whether anyone can work out the key's hash."""
    if isinstance(key, int):
        return not -(2**64) <= key < 2**64
    return isinstance(key, (UUID, tuple, frozenset)) or (isinstance(key, Decimal) and key.is_finite())


def odd_keys(value: object) -> int:
    """The number of odd keys and members in a value, counted in Python."""
    if isinstance(value, dict):
        inside = sum(odd_keys(item) for item in (*value, *value.values()))
        return inside + sum(is_odd(key) for key in value)
    if isinstance(value, (set, frozenset)):
        return sum(odd_keys(item) + is_odd(item) for item in value)
    return sum(map(odd_keys, value)) if isinstance(value, (list, tuple)) else 0


class CountOddKeysTests(SynchronousTestCase):
    """The pass that follows how heads nest."""

    def count(self, value: object) -> int:
        """Count the odd keys of a value on the wire."""
        return count_odd_keys(cbor2.dumps(value))

    def test_odd_keys_count(self) -> None:
        """Big integers, ids, decimals, arrays and sets."""
        for key in ODD:
            self.assertEqual(self.count({key: 0}), 1, key)
            self.assertEqual(self.count([0, {"a": {1: 0, key: 1, 2: 2}}, 3]), 1, key)

    def test_sound_keys_do_not(self) -> None:
        """Texts, bytes, times, and numbers of 64 bits."""
        for key in SOUND:
            self.assertEqual(self.count({key: 0}), 0, key)

    def test_no_form_of_a_time_counts(self) -> None:
        """Text or number, date or datetime."""
        for key in ("c06161", "c100", "d86400", "d903ec6161"):
            self.assertEqual(count_odd_keys(bytes.fromhex("a1" + key + "00")), 0, key)

    def test_members_of_sets_count_like_keys(self) -> None:
        """Each of them, and what is inside them."""
        self.assertEqual(self.count(set(ODD)), len(ODD))
        self.assertEqual(self.count(set(SOUND)), 0)
        self.assertEqual(self.count({frozenset([UUID(int=1), UUID(int=2)])}), 3)

    def test_values_and_items_do_not_count(self) -> None:
        """Nothing hashes them."""
        self.assertEqual(self.count(dict(enumerate(ODD))), 0)
        self.assertEqual(self.count(list(ODD)), 0)

    def test_keys_of_several_maps_add_up(self) -> None:
        """In a list, in a map, and in a key."""
        ids = {UUID(int=1): {UUID(int=2): 0}}
        self.assertEqual(self.count([ids, {"a": ids}]), 4)
        self.assertEqual(self.count({(frozenset([(1,)]), 2): 0}), 2)

    def test_endless_containers_and_strings_are_followed(self) -> None:
        """Their breaks end them and nothing else."""
        for body, odd in (
            ("bf80018002ff", 2),
            ("bf01800280ff", 0),
            ("d901029f8080ff", 2),
            ("829f018001ffa18000", 1),
            ("bf7f61616162ff80807f6163ffff", 1),
            ("a25f4161ff808001", 1),
        ):
            self.assertEqual(count_odd_keys(bytes.fromhex(body)), odd, body)

    def test_a_tag_of_a_set_is_for_the_next_array_only(self) -> None:
        """What follows it is no set."""
        self.assertEqual(self.count([{1}, [(), ()]]), 0)

    @SETTINGS
    @given(CBOR_VALUES)
    def test_it_counts_as_python_does(self, value: object) -> None:
        """Whatever the value is."""
        self.assertEqual(self.count([value, value]), odd_keys([value, value]))

    @SETTINGS
    @given(st.binary(min_size=1))
    def test_any_bytes_are_counted_or_refused(self, body: bytes) -> None:
        """It ends, and raises nothing else."""
        try:
            count_odd_keys(body)
        except UnreadableError as error:
            self.assertTrue(str(error))

    def test_deep_nesting_is_refused(self) -> None:
        """The pass keeps no more of the levels than a reader does."""
        self.assertEqual(count_odd_keys(b"\x81" * 204 + b"\x00"), 0)
        error = self.assertRaises(UnreadableError, count_odd_keys, b"\x81" * 205 + b"\x00")
        self.assertIn("deeply", str(error))


class CheckKeysTests(SynchronousTestCase):
    """The limit."""

    def test_a_thousand_are_the_limit(self) -> None:
        """One more is refused, and any number of sound ones is not."""
        keys = [(number,) for number in range(1001)]
        check_keys(cbor2.dumps(dict.fromkeys(keys[1:])))
        error = self.assertRaises(UnreadableError, check_keys, cbor2.dumps(dict.fromkeys(keys)))
        self.assertIn("more than 1000 keys", str(error))
        check_keys(cbor2.dumps(dict.fromkeys(range(5000))))

    def test_the_smallest_body_of_too_many_is_refused(self) -> None:
        """A byte a key, and a byte a value."""
        body = b"\xbf" + b"\x80\x00" * 1001 + b"\xff"
        self.assertRaises(UnreadableError, check_keys, body)
