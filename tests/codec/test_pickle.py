"""Tests of pickles."""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from crew_tx.codec import UnreadableError
from crew_tx.codec._pickle import PickleSerializer
from crew_tx.interfaces import ISerializer
from tests.codec.values import SMALL_BYTES, SMALL_TEXTS


class PickleSerializerTests(SynchronousTestCase):
    """Any Python value."""

    serializer = PickleSerializer()

    def test_it_is_a_serializer(self) -> None:
        """It has all that the interface names."""
        self.assertTrue(verifyObject(ISerializer, self.serializer))

    def test_a_value_comes_back_as_it_was(self) -> None:
        """Types that no other format has stay what they are."""
        for value in (*SMALL_TEXTS, *SMALL_BYTES, (1, 2), Counter("aab"), 1j, range(3)):
            read = self.serializer.decode(self.serializer.encode(value))
            self.assertEqual(read, value)
            self.assertIs(type(read), type(value))

    def test_bytes_behind_the_value_are_refused(self) -> None:
        """A body is one value."""
        self.assertRaises(UnreadableError, self.serializer.decode, self.serializer.encode(1) + b"x")
