"""Tests of CBOR."""

from __future__ import annotations

import ipaddress
import re
import tracemalloc
from collections import OrderedDict, defaultdict, namedtuple
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any
from uuid import UUID

import cbor2
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from crew_tx.codec import UnreadableError, UnwritableError
from crew_tx.codec._cbor import MAX_DEPTH, CBORSerializer
from crew_tx.interfaces import ISerializer
from tests.codec.values import CBOR_VALUES, SETTINGS, SMALL_BYTES, SMALL_TEXTS

#: More levels than any stack holds.
TOO_DEEP = 200_000


class Level(IntEnum):
    """A number with a name."""

    HIGH = 3


class Colour(Enum):
    """A name without a number."""

    RED = "secret"


class Moment(datetime):
    """A datetime of one's own."""


class Opaque:
    """An object whose text must not be seen."""

    def __repr__(self) -> str:
        """Give it away."""
        return "secret"


def nested(value: object, depth: int) -> object:
    """A value in so many lists."""
    for _ in range(depth):
        value = [value]
    return value


def foreign_types(value: object) -> list[type]:
    """The types in a value that Python itself does not have; keys and members of sets are left out."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [kind for item in value for kind in foreign_types(item)]
    return [] if type(value).__module__ in ("builtins", "datetime", "decimal", "uuid") else [type(value)]


class WritingTests(SynchronousTestCase):
    """Values as CBOR."""

    serializer = CBORSerializer()

    def refused(self, value: Any) -> str:
        """Have a value refused, and say why."""
        return str(self.assertRaises(UnwritableError, self.serializer.encode, value))

    def round_trip(self, value: Any) -> Any:
        """Write a value, and read it."""
        return self.serializer.decode(self.serializer.encode(value))

    def test_it_is_a_serializer(self) -> None:
        """It has all that the interface names."""
        self.assertTrue(verifyObject(ISerializer, self.serializer))

    @SETTINGS
    @given(CBOR_VALUES)
    def test_a_value_comes_back(self, value: object) -> None:
        """What was written is what is read."""
        self.assertEqual(self.round_trip(value), value)

    def test_small_texts_and_bytes_come_back(self) -> None:
        """None of them, one, an accent; a str as str, bytes as bytes."""
        for value in (*SMALL_TEXTS, *SMALL_BYTES):
            self.assertEqual(self.round_trip(value), value)
            self.assertIs(type(self.round_trip(value)), type(value))

    def test_the_bytes_are_those_of_the_standard(self) -> None:
        """As RFC 8949's appendix A has them."""
        self.assertEqual(self.serializer.encode({"a": 1, "b": [2, 3]}).hex(), "a26161016162820203")
        self.assertEqual(self.serializer.encode(2**64).hex(), "c249010000000000000000")

    def test_nan_and_infinities_come_back(self) -> None:
        """CBOR has them."""
        read = self.round_trip([float("nan"), float("inf"), Decimal("NaN")])
        self.assertEqual([str(item) for item in read], ["nan", "inf", "nan"])

    def test_tuples_become_lists(self) -> None:
        """Except as keys, which must be hashable."""
        self.assertEqual(self.round_trip({(1, 2): (3, (4,))}), {(1, 2): [3, [4]]})

    def test_subclasses_become_what_they_are_of(self) -> None:
        """No class is named on the wire."""
        point = namedtuple("point", "x y")
        values = [OrderedDict(a=1), defaultdict(int, a=1), point(1, 2), Level.HIGH, bytearray(b"a")]
        read = self.round_trip(values)
        self.assertEqual(read, [{"a": 1}, {"a": 1}, [1, 2], 3, b"a"])
        self.assertEqual([type(item) for item in read], [dict, dict, list, int, bytes])

    def test_unknown_types_are_refused_by_name(self) -> None:
        """Wherever they are; the name is in the error and the value is not."""
        values: list[Any] = [Opaque(), Colour.RED, range(3), 1j, timedelta(1), memoryview(b"a"), iter([])]
        for value in values:
            for holder in (value, [value], {"a": value}, ({"a": [value]},)):
                reason = self.refused(holder)
                self.assertIn(type(value).__qualname__, reason)
                self.assertNotIn("secret", reason)

    def test_what_cbor2_alone_would_write_is_refused(self) -> None:
        """Types whose tags nobody here reads."""
        values: list[Any] = [re.compile("a"), Fraction(1, 3), ipaddress.ip_address("::1"), Moment(1, 1, 1)]
        values += [cbor2.CBORTag(35, "a"), cbor2.undefined]
        for value in values:
            self.assertIn(f"no form for {type(value).__module__}.", self.refused([value]))

    def test_unknown_types_among_keys_and_members_are_refused(self) -> None:
        """Keys and sets are looked at like values."""
        self.assertIn("Opaque", self.refused({Opaque(): 1}))
        self.assertIn("Opaque", self.refused({(1, Opaque()): 1}))
        self.assertIn("Opaque", self.refused({Opaque()}))

    def test_a_naive_datetime_is_refused(self) -> None:
        """Nobody elsewhere knows what time it means."""
        self.assertIn("aware", self.refused([datetime(2020, 1, 1)]))

    def test_an_offset_with_seconds_is_refused(self) -> None:
        """Its text could not be read."""
        self.assertIn("minutes", self.refused(datetime(2020, 1, 1, tzinfo=timezone(timedelta(seconds=30)))))

    def test_dates_times_and_ids_come_back(self) -> None:
        """With their types."""
        zone = timezone(timedelta(hours=5, minutes=30))
        times = [datetime(2020, 1, 1, 2, 3, 4, 5, zone), datetime(1, 1, 1, tzinfo=UTC)]
        values = [*times, date(2020, 1, 1), UUID(int=7)]
        read = self.round_trip(values)
        self.assertEqual(read, values)
        self.assertEqual([type(item) for item in read], [type(item) for item in values])

    def test_a_decimal_may_have_600_digits(self) -> None:
        """What is written can be read, and no more is written."""
        for largest in (Decimal("9" * 600), -Decimal("9" * 600), Decimal("1.5E+999999")):
            self.assertEqual(self.round_trip(largest), largest)
        self.assertIn("600 digits", self.refused([Decimal("1" * 601)]))

    def test_the_deepest_that_is_written_is_read(self) -> None:
        """Of lists, maps, keys, and of sets, which take the most levels on the wire."""
        lists: Any = Decimal(2**70)
        maps, keys, sets = lists, lists, lists
        for _ in range(MAX_DEPTH):
            lists, maps, sets = [lists], {"a": maps}, frozenset([sets])
        for _ in range(MAX_DEPTH - 1):
            keys = (keys,)
        for value in (lists, maps, {keys: 1}, sets):
            self.assertEqual(self.round_trip(value), value)

    def test_one_deeper_is_refused(self) -> None:
        """For lists, maps, keys and sets."""
        self.assertIn("100 deep", self.refused(nested(1, MAX_DEPTH + 1)))
        value: object = 1
        for _ in range(MAX_DEPTH + 1):
            value = {"a": value}
        self.assertIn("100 deep", self.refused(value))
        key: Any = 1
        for _ in range(MAX_DEPTH):
            key = (key,)
        self.assertIn("100 deep", self.refused({key: 1}))
        members: Any = 1
        for _ in range(MAX_DEPTH + 1):
            members = frozenset([members])
        self.assertIn("100 deep", self.refused(members))

    def test_a_value_deeper_than_the_stack_is_refused(self) -> None:
        """It would end the process in cbor2 6."""
        self.assertIn("100 deep", self.refused(nested(1, TOO_DEEP)))

    def test_what_contains_itself_is_refused(self) -> None:
        """A list, a dict, and one that does so twice, so that all its paths are never walked."""
        endless: list[object] = []
        endless += [endless, endless]
        looped: dict[str, object] = {}
        looped["a"] = [looped]
        for value in (endless, looped):
            self.assertIn("contains itself", self.refused(value))

    def test_dicts_and_sets_of_many_keys_come_back(self) -> None:
        """Of texts, bytes, numbers and times, as many as there may be."""
        moment = datetime(2020, 1, 1, tzinfo=UTC)
        for make in (str, float, lambda n: -n, lambda n: b"%d" % n, lambda n: moment + timedelta(n)):
            keys = [make(number) for number in range(1100)]
            self.assertEqual(self.round_trip(dict.fromkeys(keys)), dict.fromkeys(keys))
            self.assertEqual(self.round_trip(set(keys)), set(keys))

    def test_a_thousand_keys_of_other_types_come_back(self) -> None:
        """And no more are written, in one dict or in several, in keys of keys, or in sets."""
        ids = [UUID(int=number) for number in range(1001)]
        self.assertEqual(self.round_trip(dict.fromkeys(ids[1:])), dict.fromkeys(ids[1:]))
        self.assertEqual(self.round_trip(set(ids[1:])), set(ids[1:]))
        self.assertEqual(self.round_trip([ids, {"a": ids}]), [ids, {"a": ids}])
        several = [dict.fromkeys(ids[:600]), {"a": {"b": set(ids[600:])}}]
        inside = {1: {frozenset(ids[1:]): 2}}
        for value in (dict.fromkeys(ids), set(ids), several, inside, (dict.fromkeys(ids),)):
            self.assertIn("more than 1000 keys", self.refused(value))

    def test_a_lone_surrogate_is_refused(self) -> None:
        """UTF-8 has no bytes for it."""
        for value in ("\ud800", ["\ud800"], {"\ud800": 1}):
            self.assertIn("surrogate", self.refused(value))


class ReadingTests(SynchronousTestCase):
    """CBOR as values."""

    serializer = CBORSerializer()

    def refused(self, body: bytes) -> str:
        """Have a body refused, and say why."""
        return str(self.assertRaises(UnreadableError, self.serializer.decode, body))

    def test_every_truncation_is_refused(self) -> None:
        """Wherever it is cut."""
        body = self.serializer.encode({"a": [1, 2**70, "é", b"\xff" * 30, 1.5, UUID(int=1)], 70_000: None})
        for size in range(len(body)):
            self.refused(body[:size])

    def test_bytes_behind_the_value_are_refused(self) -> None:
        """A body is one value, with or without bytes that are looked at closely."""
        for value in (0, [], None, "a", "é", [1.5], UUID(int=1)):
            self.assertIn("follow", self.refused(self.serializer.encode(value) * 2))

    def test_tags_of_shared_references_are_refused(self) -> None:
        """28 and 29 make cycles."""
        self.assertIn("tag 28", self.refused(bytes.fromhex("d81c81d81d00")))
        self.assertIn("tag 29", self.refused(bytes.fromhex("82d81d0000")))

    def test_tags_that_run_code_are_refused(self) -> None:
        """35 compiles a regular expression, 36 parses mail."""
        self.assertIn("tag 35", self.refused(bytes.fromhex("d8236161")))
        self.assertIn("tag 36", self.refused(bytes.fromhex("d8246161")))

    def test_unknown_tags_are_refused(self) -> None:
        """They are not handed out as tags."""
        self.assertIn("tag 4660", self.refused(bytes.fromhex("d9123401")))

    def test_deep_nesting_is_refused(self) -> None:
        """Of lists, maps, keys, tags and indefinite lists."""
        for opening in (b"\x81", b"\xa1\x00", b"\xa1", b"\xc1", b"\xd9\x01\x02\x81", b"\x9f"):
            for depth in (250, TOO_DEEP):
                self.refused(opening * depth + b"\x00")
        self.assertIn("too deeply", self.refused(b"\x81" * 250 + b"\x00"))

    def test_giant_lengths_take_no_memory(self) -> None:
        """What is declared is not made room for."""
        bodies = [bytes([first]) + (2**40).to_bytes(8, "big") for first in (0x5B, 0x7B, 0x9B, 0xBB)]
        bodies += [b"\x99\xff\xff" * 200, b"\x9a\x08\x00\x00\x00" * 100]
        tracemalloc.start()
        for body in bodies:
            self.refused(body)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        self.assertLess(peak, 256 * 1024)

    def test_keys_of_one_hash_are_refused(self) -> None:
        """They would take time with the square of their number."""
        ids = [cbor2.dumps(UUID(int=number * (2**61 - 1))) for number in range(1001)]
        self.assertIn("more than 1000 keys", self.refused(b"\xb9\x03\xe9" + b"\x00".join(ids) + b"\x00"))
        self.assertIn("more than 1000 keys", self.refused(b"\xd9\x01\x02\x99\x03\xe9" + b"".join(ids)))
        self.assertEqual(len(self.serializer.decode(b"\x99\x03\xe9" + b"".join(ids))), 1001)

    def test_text_that_is_not_utf_8_is_refused(self) -> None:
        """As a value and as a key."""
        for body in (b"\x61\xff", b"\xa1\x61\xff\x00", b"\x7f\x61\xff\xff"):
            self.assertIn("malformed", self.refused(body))

    def test_breaks_and_undefined_are_refused(self) -> None:
        """Some cbor2 hand them out as objects of theirs."""
        for body in ("ff", "81ff", "9f81ffff", "f7", "81f7", "81e0"):
            self.refused(bytes.fromhex(body))

    def test_indefinite_lengths_are_read(self) -> None:
        """Other languages write them."""
        body = bytes.fromhex("9f01bf6161f5ff7f61616162ff5f41ffffff")
        self.assertEqual(self.serializer.decode(body), [1, {"a": True}, "ab", b"\xff"])

    def test_the_last_of_equal_keys_wins(self) -> None:
        """As in most readers."""
        self.assertEqual(self.serializer.decode(bytes.fromhex("a2616101616102")), {"a": 2})

    @SETTINGS
    @given(CBOR_VALUES, st.data())
    def test_a_damaged_body_is_read_or_refused(self, value: object, data: st.DataObject) -> None:
        """One byte changed: a value of Python's own types or an exception, never a crash."""
        body = bytearray(self.serializer.encode([value, value]))
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        try:
            read = self.serializer.decode(bytes(body))
        except Exception:
            return
        self.assertEqual(foreign_types(read), [])
