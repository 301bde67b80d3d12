"""Field tables, both ways."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from enum import IntEnum
from math import inf, nan
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.table import DEEPEST, decode_table, encode_short_string, encode_table
from crew_tx.errors import EncodeError, ProtocolError

_NOON = datetime(2024, 1, 2, 12, tzinfo=UTC)
_NOON_SECONDS = int(_NOON.timestamp()).to_bytes(8, "big")

#: One value as it is on the wire, and what it is read as.
READ = [
    (b"t\x00", False),
    (b"t\x01", True),
    (b"b\xff", -1),
    (b"B\xff", 255),
    (b"s\xff\xfe", -2),
    (b"u\xff\xfe", 65534),
    (b"I\xff\xff\xff\xfd", -3),
    (b"i\xff\xff\xff\xfd", 4294967293),
    (b"l" + b"\xff" * 8, -1),
    (b"L" + b"\xff" * 8, 2**64 - 1),
    (b"f\x3f\x00\x00\x00", 0.5),
    (b"d\x3f\xe0\x00\x00\x00\x00\x00\x00", 0.5),
    (b"D\x02\xff\xff\xff\x83", Decimal("-1.25")),
    (b"D\xff\x00\x00\x00\x01", Decimal("1E-255")),
    (b"S\x00\x00\x00\x02\xc3\xa9", "é"),
    (b"S\x00\x00\x00\x01\xff", b"\xff"),
    (b"S\x00\x00\x00\x00", ""),
    (b"A\x00\x00\x00\x08b\x01S\x00\x00\x00\x01x", [1, "x"]),
    (b"A\x00\x00\x00\x00", []),
    (b"T" + _NOON_SECONDS, _NOON),
    (b"T" + b"\xff" * 8, 2**64 - 1),
    (b"F\x00\x00\x00\x04\x01kb\x05", {"k": 5}),
    (b"V", None),
    (b"x\x00\x00\x00\x02\xc3\xa9", b"\xc3\xa9"),
]

#: A value, and how it is written.
WRITTEN = [
    (True, b"t\x01"),
    (False, b"t\x00"),
    (0, b"I\x00\x00\x00\x00"),
    (2**31 - 1, b"I\x7f\xff\xff\xff"),
    (-(2**31), b"I\x80\x00\x00\x00"),
    (2**31, b"l\x00\x00\x00\x00\x80\x00\x00\x00"),
    (-(2**31) - 1, b"l\xff\xff\xff\xff\x7f\xff\xff\xff"),
    (2**63 - 1, b"l\x7f" + b"\xff" * 7),
    (-(2**63), b"l\x80" + b"\x00" * 7),
    (0.5, b"d\x3f\xe0\x00\x00\x00\x00\x00\x00"),
    ("é", b"S\x00\x00\x00\x02\xc3\xa9"),
    (b"\xff", b"x\x00\x00\x00\x01\xff"),
    (bytearray(b"ab"), b"x\x00\x00\x00\x02ab"),
    (memoryview(b"ab"), b"x\x00\x00\x00\x02ab"),
    (Decimal("-1.25"), b"D\x02\xff\xff\xff\x83"),
    (Decimal("12E2"), b"D\x00\x00\x00\x04\xb0"),
    (_NOON, b"T" + _NOON_SECONDS),
    (_NOON.astimezone(timezone(timedelta(hours=9))), b"T" + _NOON_SECONDS),
    (None, b"V"),
    ({"k": 1}, b"F\x00\x00\x00\x07\x01kI\x00\x00\x00\x01"),
    ([1, "x"], b"A\x00\x00\x00\x0bI\x00\x00\x00\x01S\x00\x00\x00\x01x"),
    ((), b"A\x00\x00\x00\x00"),
]

UNWRITABLE = [
    (2**63, "64 bits"),
    (-(2**63) - 1, "64 bits"),
    (datetime(2024, 1, 2), "time zone"),
    (datetime(1969, 12, 31, tzinfo=UTC), "1970"),
    (nan, "finite"),
    (-inf, "finite"),
    (Decimal("NaN"), "Decimal"),
    (Decimal(2**31), "Decimal"),
    (Decimal("1E-256"), "Decimal"),
    (Decimal("1E+999999"), "Decimal"),
    (Decimal("0." + "1" * 60), "Decimal"),
    (Decimal("1" * 5000), "Decimal"),
    ("\ud800", "surrogate"),
    ({1, 2}, "builtins.set"),
]


class Colour(IntEnum):
    """An int that isn't just an int."""

    RED = 7


def _of(value: bytes, name: bytes = b"\x01k") -> bytes:
    """The table that has one value."""
    return (len(name) + len(value)).to_bytes(4, "big") + name + value


def _nested(levels: int, inside: Any = "end") -> dict[str, Any]:
    table = {"k": inside}
    for _ in range(levels - 1):
        table = {"k": table}
    return table


def _nested_bytes(levels: int) -> bytes:
    table = b"\x00\x00\x00\x00"
    for _ in range(levels - 1):
        table = _of(b"F" + table)
    return table


class WritingTests(SynchronousTestCase):
    """What ``encode_table`` makes."""

    def test_every_type_is_written_in_its_own_way(self) -> None:
        """Each of Python's types has one of AMQP's."""
        for value, expected in WRITTEN:
            self.assertEqual(encode_table({"k": value}), _of(expected), value)
            self.assertEqual(
                encode_table({"k": [value]})[6:], b"A" + len(expected).to_bytes(4, "big") + expected
            )

    def test_an_empty_table_is_its_size_alone(self) -> None:
        """Four zero octets."""
        self.assertEqual(encode_table({}), b"\x00\x00\x00\x00")

    def test_subclasses_are_written_as_what_they_inherit_from(self) -> None:
        """An IntEnum is an int, an OrderedDict is a dict."""
        self.assertEqual(encode_table({"k": Colour.RED}), encode_table({"k": 7}))
        self.assertEqual(encode_table({"k": OrderedDict(a=1)}), encode_table({"k": {"a": 1}}))

    def test_names_count_in_bytes(self) -> None:
        """A name's size is that of its UTF-8."""
        self.assertEqual(encode_table({"é": None}), _of(b"V", b"\x02\xc3\xa9"))
        self.assertEqual(len(encode_table({"é" * 127: None})), 4 + 1 + 254 + 1)

    def test_a_name_over_255_bytes_is_refused(self) -> None:
        """The error has the size, and the name cut short."""
        error = self.assertRaises(EncodeError, encode_table, {"é" * 128: None})
        self.assertIn("256 bytes", str(error))
        self.assertIn("éé", str(error))
        self.assertLess(len(str(error)), 150)

    def test_a_name_that_is_no_str_is_refused(self) -> None:
        """Neither ints nor bytes are names."""
        self.assertIn("not int", str(self.assertRaises(EncodeError, encode_table, {1: "x"})))
        self.assertIn("not bytes", str(self.assertRaises(EncodeError, encode_table, {b"k": "x"})))

    def test_what_no_type_holds_is_refused_by_name(self) -> None:
        """The error says which key, and why."""
        for value, why in UNWRITABLE:
            error = self.assertRaises(EncodeError, encode_table, {"good": 1, "bad": value})
            self.assertTrue(str(error).startswith("bad: "), error)
            self.assertIn(why, str(error))

    def test_the_error_has_the_whole_path(self) -> None:
        """Keys and positions, from the outermost."""
        error = self.assertRaises(EncodeError, encode_table, {"a": {"b": [0, {"c": 2**64}]}})
        self.assertEqual(str(error), "a.b.1.c: an integer outside signed 64 bits")
        error = self.assertRaises(EncodeError, encode_table, {"a": ["x", "\ud800"]})
        self.assertIn("a.1: ", str(error))

    def test_nesting_has_a_limit(self) -> None:
        """Tables and arrays count alike, and a circle ends in an error."""
        encode_table(_nested(DEEPEST))
        encode_table(_nested(DEEPEST - 1, []))
        circle: dict[str, Any] = {}
        circle["k"] = [circle]
        for table in (_nested(DEEPEST + 1), _nested(DEEPEST, []), circle):
            self.assertIn("nests deeper", str(self.assertRaises(EncodeError, encode_table, table)))

    def test_decimals_do_not_depend_on_the_context(self) -> None:
        """A thread's precision rounds nothing."""
        with localcontext() as context:
            context.prec = 2
            encoded = encode_table({"k": Decimal("1234.567")})
            self.assertEqual(decode_table(encoded, 0)[0], {"k": Decimal("1234.567")})

    def test_short_strings_have_their_size_in_front(self) -> None:
        """In bytes of UTF-8, up to 255."""
        self.assertEqual(encode_short_string("é"), b"\x02\xc3\xa9")
        self.assertEqual(encode_short_string("a" * 255)[0], 255)
        self.assertEqual(encode_short_string("\udcff"), b"\x01\xff")

    def test_what_is_no_short_string_is_refused(self) -> None:
        """Too long, not a str, or not Unicode."""
        self.assertIn("256 bytes", str(self.assertRaises(EncodeError, encode_short_string, "a" * 256)))
        self.assertIn("256 bytes", str(self.assertRaises(EncodeError, encode_short_string, "é" * 128)))
        self.assertIn("surrogate", str(self.assertRaises(EncodeError, encode_short_string, "\ud800")))
        self.assertIn("not bytes", str(self.assertRaises(EncodeError, encode_short_string, b"x")))


class ReadingTests(SynchronousTestCase):
    """What ``decode_table`` makes of bytes."""

    def _assert_refused(self, data: bytes, why: str = "", **bound: int) -> None:
        error = self.assertRaises(ProtocolError, decode_table, data, 0, **bound)
        self.assertEqual(error.reply_code, 502)
        self.assertIn(why, str(error))

    def test_every_type_is_read(self) -> None:
        """In a table as in an array, and with Python's own type."""
        for encoded, expected in READ:
            [value] = decode_table(_of(encoded), 0)[0].values()
            self.assertEqual((value, type(value)), (expected, type(expected)))
            array = _of(b"A" + len(encoded).to_bytes(4, "big") + encoded)
            self.assertEqual(decode_table(array, 0)[0], {"k": [expected]})

    def test_what_follows_the_table_is_left_alone(self) -> None:
        """The offset returned is right behind it."""
        data = b"before" + _of(b"V") + b"behind"
        table, end = decode_table(data, 6)
        self.assertEqual((table, data[end:]), ({"k": None}, b"behind"))

    def test_names_that_are_not_utf_8_survive(self) -> None:
        """They can be written again as they came."""
        data = _of(b"V", b"\x02\xff\xfe")
        self.assertEqual(encode_table(decode_table(data, 0)[0]), data)

    def test_a_table_cut_anywhere_is_refused(self) -> None:
        """Whatever is at the cut."""
        for encoded, _ in READ:
            data = _of(encoded)
            for size in range(len(data)):
                self._assert_refused(data[:size])

    def test_a_value_never_reaches_beyond_its_table(self) -> None:
        """Though there are more bytes in the buffer."""
        for encoded, _ in READ:
            data = _of(encoded)
            shorter = (len(data) - 5).to_bytes(4, "big") + data[4:] + b"\x00" * 100
            self._assert_refused(shorter)

    def test_a_table_never_reaches_beyond_what_it_is_in(self) -> None:
        """The bound given, an array, or another table."""
        self._assert_refused(_of(b"V") + b"more", end=6)
        self._assert_refused(_of(b"F\x00\x00\x00\x05\x01kV") + b"\x01kV", "beyond what it is in")
        self._assert_refused(_of(b"A\x00\x00\x00\x02V") + b"VVV", "beyond what it is in")
        self._assert_refused(_of(b"A\x00\x00\x00\x05F\x00\x00\x00\x03") + b"\x01kV", "beyond what it is in")

    def test_an_array_ends_where_it_says(self) -> None:
        """Its last value may not reach further."""
        self._assert_refused(_of(b"A\x00\x00\x00\x02I\x00\x00\x00\x01"), "array")

    def test_a_huge_size_costs_nothing(self) -> None:
        """It is refused before anything of that size is made."""
        for kind in (b"S", b"x", b"A", b"F"):
            self._assert_refused(_of(kind + b"\xff\xff\xff\xff"))

    def test_an_unknown_type_is_refused_by_name(self) -> None:
        """Types have no sizes of their own, so it can't be skipped."""
        self._assert_refused(_of(b"Z\x00"), "0x5a")
        self._assert_refused(_of(b"A\x00\x00\x00\x01Z"), "0x5a")

    def test_nesting_has_a_limit(self) -> None:
        """The same as in writing, for tables and for arrays."""
        decode_table(_nested_bytes(DEEPEST), 0)
        self._assert_refused(_nested_bytes(DEEPEST + 1), "nests deeper")
        self._assert_refused(_nested_bytes(10_000), "nests deeper")
        array = b"A\x00\x00\x00\x00"
        for _ in range(DEEPEST):
            array = b"A" + len(array).to_bytes(4, "big") + array
        self._assert_refused(_of(array), "nests deeper")

    @settings(max_examples=300, derandomize=True, deadline=None)
    @given(st.binary(max_size=60), st.integers(0, 70))
    def test_noise_is_read_or_refused(self, noise: bytes, size: int) -> None:
        """Nothing but ``ProtocolError`` comes out, whatever goes in."""
        try:
            decode_table(size.to_bytes(4, "big") + noise, 0)
        except ProtocolError as error:
            self.assertEqual(error.reply_code, 502)
