"""Tests of plain text."""

from __future__ import annotations

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from crew_tx.codec import UnreadableError, UnwritableError
from crew_tx.codec._text import TextSerializer
from crew_tx.interfaces import ISerializer
from tests.codec.values import SETTINGS, SMALL_TEXTS, TEXTS


class TextSerializerTests(SynchronousTestCase):
    """A str as UTF-8."""

    serializer = TextSerializer()

    def test_it_is_a_serializer(self) -> None:
        """It has all that the interface names."""
        self.assertTrue(verifyObject(ISerializer, self.serializer))

    @SETTINGS
    @given(TEXTS)
    def test_a_text_comes_back(self, text: str) -> None:
        """What was written is what is read."""
        self.assertEqual(self.serializer.decode(self.serializer.encode(text)), text)

    def test_small_texts_are_plain_utf_8(self) -> None:
        """No text, one letter, an accent: their bytes are UTF-8 and no more."""
        for text in SMALL_TEXTS:
            self.assertEqual(self.serializer.encode(text), text.encode())
            self.assertEqual(self.serializer.decode(text.encode()), text)

    def test_only_a_str_is_text(self) -> None:
        """Bytes and numbers are refused by their type's name."""
        error = self.assertRaises(UnwritableError, self.serializer.encode, b"secret")
        self.assertIn("bytes", str(error))
        self.assertNotIn("secret", str(error))

    def test_a_lone_surrogate_is_refused(self) -> None:
        """UTF-8 has no bytes for it."""
        error = self.assertRaises(UnwritableError, self.serializer.encode, "a\ud800")
        self.assertIn("surrogate", str(error))

    def test_bytes_that_are_not_utf_8_are_refused(self) -> None:
        """The error says where, and shows none of them."""
        error = self.assertRaises(UnreadableError, self.serializer.decode, b"secret\xff")
        self.assertEqual(str(error), "it is not UTF-8 at byte 6")
