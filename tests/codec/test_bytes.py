"""Tests of bytes as they are."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from crew_tx.codec import UnwritableError
from crew_tx.codec._bytes import BytesSerializer
from crew_tx.interfaces import ISerializer
from tests.codec.values import SMALL_BYTES


class BytesSerializerTests(SynchronousTestCase):
    """Bytes, handed through."""

    serializer = BytesSerializer()

    def test_it_is_a_serializer(self) -> None:
        """It has all that the interface names."""
        self.assertTrue(verifyObject(ISerializer, self.serializer))

    def test_bytes_stay_as_they_are(self) -> None:
        """No byte, one byte, any byte."""
        for body in (*SMALL_BYTES, bytes(range(256))):
            self.assertEqual(self.serializer.encode(body), body)
            self.assertEqual(self.serializer.decode(body), body)

    def test_what_is_like_bytes_becomes_bytes(self) -> None:
        """A bytearray may change later, so it is copied."""
        for value in (bytearray(b"ab"), memoryview(b"ab")):
            body = self.serializer.encode(value)
            self.assertEqual(body, b"ab")
            self.assertIs(type(body), bytes)

    def test_only_bytes_are_bytes(self) -> None:
        """A str is refused, and so is an int, of which bytes() would make zeros."""
        for value in ("secret", 3, [1, 2], None):
            error = self.assertRaises(UnwritableError, self.serializer.encode, value)
            self.assertIn(type(value).__name__, str(error))
            self.assertNotIn("secret", str(error))
