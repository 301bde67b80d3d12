"""Tests of the heads of CBOR's items."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.codec import UnreadableError
from crew_tx.codec._cbor_heads import ENDLESS, STEPS, split_head


class SplitHeadTests(SynchronousTestCase):
    """A head, taken apart."""

    def test_every_length_of_argument_is_read(self) -> None:
        """In the head itself, and in one, two, four or eight bytes behind it."""
        for major in range(7):
            for body, argument in (("17", 23), ("18ff", 255), ("190100", 256), ("1a00010000", 65536)):
                head = bytes.fromhex(body)
                head = bytes([head[0] | major << 5]) + head[1:]
                self.assertEqual(split_head(b"\xff" + head + b"\xff", 1), (major, argument, len(head)))
        self.assertEqual(split_head(b"\x9b" + b"\xff" * 8, 0), (4, 2**64 - 1, 9))

    def test_heads_without_a_length_are_endless(self) -> None:
        """Strings, containers, and the break that ends them."""
        for first, major in ((0x5F, 2), (0x7F, 3), (0x9F, 4), (0xBF, 5), (0xFF, 7)):
            self.assertEqual(split_head(bytes([first]), 0), (major, ENDLESS, 1))

    def test_reserved_heads_are_refused(self) -> None:
        """Three of each major type, and endless numbers and tags."""
        reserved = [major << 5 | low for major in range(8) for low in (28, 29, 30)]
        for first in (*reserved, 0x1F, 0x3F, 0xDF):
            self.assertRaises(UnreadableError, split_head, bytes([first]), 0)


class StepsTests(SynchronousTestCase):
    """The table for heads that take no closer look."""

    def test_numbers_and_short_strings_step_to_the_next_head(self) -> None:
        """As their heads say."""
        for first in range(256):
            if STEPS[first] and first < 0xE0:
                major, argument, length = split_head(bytes([first]) + bytes(8), 0)
                self.assertEqual(STEPS[first], length + (argument if major in (2, 3) else 0))

    def test_simple_values_are_false_true_null_and_floats(self) -> None:
        """Others have no meaning."""
        steps = {first: STEPS[first] for first in range(0xE0, 0x100) if STEPS[first]}
        self.assertEqual(steps, {0xF4: 1, 0xF5: 1, 0xF6: 1, 0xF9: 3, 0xFA: 5, 0xFB: 9})

    def test_what_can_be_wrong_takes_a_closer_look(self) -> None:
        """Tags, breaks, large containers and long strings."""
        for first in (*range(0xC0, 0xE0), 0xFF, 0x98, 0x9B, 0x9F, 0xB8, 0xBB, 0xBF, 0x58, 0x5F, 0x78, 0x7F):
            self.assertEqual(STEPS[first], 0)
