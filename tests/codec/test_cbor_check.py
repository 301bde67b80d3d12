"""Tests of what a CBOR body may hold."""

from __future__ import annotations

import cbor2
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.codec import UnreadableError
from crew_tx.codec._cbor_check import check_body
from tests.codec.values import CBOR_VALUES, SETTINGS

#: Tags that cbor2 acts on, and we don't want.
UNWANTED_TAGS = (5, 25, 28, 29, 30, 35, 36, 256, 260, 261, 43000, 55799)


def head(major: int, argument: int, length: int) -> bytes:
    """A head, its argument in so many bytes."""
    return bytes([major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[length]]) + argument.to_bytes(length, "big")


class CheckBodyTests(SynchronousTestCase):
    """One flat pass over the heads."""

    def refused(self, body: bytes) -> str:
        """Have a body refused, and say why."""
        return str(self.assertRaises(UnreadableError, check_body, body))

    @SETTINGS
    @given(CBOR_VALUES)
    def test_all_that_we_write_passes(self, value: object) -> None:
        """Nothing of ours is refused, beside a text that has every byte above ASCII, too."""
        check_body(cbor2.dumps([value, "é", b"\xd8\x1c", 1.5]))

    @SETTINGS
    @given(st.binary())
    def test_any_bytes_pass_or_are_refused(self, body: bytes) -> None:
        """Nothing else is raised, whatever comes."""
        try:
            check_body(body)
        except UnreadableError as error:
            self.assertTrue(str(error))

    def test_unwanted_tags_are_refused_by_number(self) -> None:
        """The error says which it was."""
        for tag in (*UNWANTED_TAGS, 6, 23, 99, 4660, 2**32, 2**64 - 1):
            reason = self.refused(b"\x82\x00" + head(6, tag, 8) + b"\x80")
            self.assertEqual(reason, f"it has the tag {tag}, which is not allowed")

    def test_a_tag_is_not_hidden_by_a_longer_head(self) -> None:
        """28 is 28 in one byte, and in eight; a tag below 24 is in the head itself."""
        self.assertIn("tag 5,", self.refused(b"\xc5\x00"))
        for length in (1, 2, 4, 8):
            self.assertIn("tag 28,", self.refused(head(6, 28, length) + b"\x80"))

    def test_wanted_tags_pass(self) -> None:
        """Those that stand for the types that we have."""
        for tag in (0, 1, 2, 3, 37, 100, 258, 1004):
            check_body(head(6, tag, 2) + b"\x80")

    def test_odd_keys_are_counted(self) -> None:
        """Of large maps and of sets, wherever they are; and of small maps not."""
        keys = [(number,) for number in range(1001)]
        for crowd in (dict.fromkeys(keys), set(keys)):
            self.assertIn("1000 keys", self.refused(cbor2.dumps([1, {"a": crowd}])))
        check_body(cbor2.dumps([dict.fromkeys(keys[start : start + 23]) for start in range(0, 1001, 23)]))

    def test_tags_inside_strings_are_text(self) -> None:
        """Bytes of a string are no heads, in strings of every length."""
        for size in (2, 23, 24, 300, 70_000):
            string = cbor2.dumps(b"\xd8\x1c".ljust(size, b"\xff"))
            check_body(b"\x82" + string + b"\x01")
            self.assertIn("tag 28,", self.refused(b"\x82" + string + b"\xd8\x1c\x80"))

    def test_tags_behind_every_kind_of_head_are_found(self) -> None:
        """The pass keeps in step."""
        for value in (0, 24, 256, 65536, 2**32, -1, -(2**40), 1.5, True, None, {"a": 1}, [1] * 30, b"a", "é"):
            self.assertIn("tag 29,", self.refused(b"\x82" + cbor2.dumps(value) + b"\xd8\x1d\x00"))
        for float_of_other_size in (b"\xf9\x3c\x00", b"\xfa\x3f\x80\x00\x00"):
            self.assertIn("tag 29,", self.refused(b"\x82" + float_of_other_size + b"\xd8\x1d\x00"))

    def test_items_that_cannot_be_there_are_refused(self) -> None:
        """A container of more items than the body has bytes."""
        for major in (4, 5):
            for count, length in ((2**16 - 1, 2), (2**31, 4), (2**60, 8), (2**64 - 1, 8)):
                self.assertIn("more items", self.refused(head(major, count, length) + b"\x00" * 9))

    def test_declared_items_are_added_up(self) -> None:
        """Each container within bounds, all together not."""
        inner = head(4, 600, 2)
        self.assertIn("more items", self.refused(head(4, 600, 2) + inner + bytes(700)))
        check_body(head(4, 2, 2) + (head(4, 600, 2) + bytes(600)) * 2)

    def test_a_map_takes_two_bytes_an_entry(self) -> None:
        """A key and a value."""
        check_body(head(5, 300, 2) + bytes(600))
        self.assertIn("more items", self.refused(head(5, 302, 2) + bytes(600)))

    def test_a_string_beyond_the_end_is_refused(self) -> None:
        """Before anyone makes room for it."""
        for major in (2, 3):
            self.assertIn("cut short", self.refused(b"\x82\xc1\x00" + head(major, 2**40, 8)))

    def test_values_without_a_meaning_are_refused(self) -> None:
        """Undefined, simple values, and heads that no one has defined."""
        for body in (b"\xf7", b"\xe0", b"\xf3", b"\xf8\x20"):
            self.assertIn("simple value", self.refused(b"\x81" + body))
        for body in (b"\x9c", b"\xdf", b"\xfc", b"\xbe", b"\xde"):
            self.assertIn("reserved", self.refused(b"\x81" + body))

    def test_indefinite_lengths_are_read(self) -> None:
        """Other languages write them."""
        check_body(bytes.fromhex("9f01bf6161f5ff7f61616162ff5f41ffffff"))

    def test_breaks_that_end_nothing_are_refused(self) -> None:
        """Alone, as an item, or inside one that is ended all the same."""
        for body in ("ff", "81ff", "9f81ffff", "00ff", "9fffff"):
            self.assertIn("break", self.refused(bytes.fromhex(body)))

    def test_decimals_have_a_bound(self) -> None:
        """Digits up to 255 bytes of a big integer; beyond, time grows with the square."""
        largest = b"\xc3\x58\xff" + bytes(255)
        for digits in (b"\x00", b"\x1b" + bytes(8), b"\x3a" + bytes(4), b"\xc2\x49" + bytes(9), largest):
            check_body(b"\xc4\x82\x01" + digits)
        for digits in (b"\xc2\x59\x01\x00" + bytes(256), b"\xc2\x5f\x41\x01\xff", b"\x61a", b"\xf9\x3c\x00"):
            self.assertIn("decimal", self.refused(b"\xc4\x82\x01" + digits))

    def test_a_decimal_is_an_exponent_and_digits(self) -> None:
        """Nothing else is handed to the decimal module."""
        for content in ("8101", "83010101", "01", "9f0101ff", "82c2410101"):
            self.assertIn("decimal", self.refused(b"\xc4" + bytes.fromhex(content)))
