"""Tests of JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from crew_tx.codec import UnreadableError, UnwritableError
from crew_tx.codec._json import JSONSerializer
from crew_tx.interfaces import ISerializer
from tests.codec.values import JSON_VALUES, SETTINGS, SMALL_TEXTS

#: More levels than any Python reads or writes.
TOO_DEEP = 200_000


class WritingTests(SynchronousTestCase):
    """Values as JSON."""

    serializer = JSONSerializer()

    def refused(self, value: Any) -> str:
        """Have a value refused, and say why."""
        return str(self.assertRaises(UnwritableError, self.serializer.encode, value))

    def test_it_is_a_serializer(self) -> None:
        """It has all that the interface names."""
        self.assertTrue(verifyObject(ISerializer, self.serializer))

    @SETTINGS
    @given(JSON_VALUES)
    def test_a_value_comes_back(self, value: object) -> None:
        """What was written is what is read."""
        self.assertEqual(self.serializer.decode(self.serializer.encode(value)), value)

    def test_it_is_compact_utf_8(self) -> None:
        """No spaces, and no escapes for letters."""
        self.assertEqual(self.serializer.encode({"é": [1, None, True]}), '{"é":[1,null,true]}'.encode())

    def test_small_texts_come_back(self) -> None:
        """No text, one letter, an accent, a control character."""
        for text in SMALL_TEXTS:
            self.assertEqual(self.serializer.decode(self.serializer.encode(text)), text)

    def test_nan_and_infinities_are_refused(self) -> None:
        """JSON has no word for them, and other languages can't read Python's."""
        for value in (float("nan"), [float("inf")], {"a": -float("inf")}):
            self.assertIn("NaN", self.refused(value))

    def test_other_types_are_refused_by_name(self) -> None:
        """The name is in the error, and the value is not."""
        for value in (b"secret", {"secret"}, datetime(2020, 1, 1, tzinfo=UTC)):
            reason = self.refused({"a": value})
            self.assertIn(type(value).__name__, reason)
            self.assertNotIn("secret", reason)

    def test_keys_that_json_lacks_are_refused(self) -> None:
        """A tuple is no key."""
        self.assertIn("key", self.refused({("secret", 2): 3}))

    def test_a_list_that_contains_itself_is_refused(self) -> None:
        """It has no end."""
        endless: list[object] = []
        endless.append(endless)
        self.assertIn("contains itself", self.refused(endless))

    def test_a_list_nested_too_deeply_is_refused(self) -> None:
        """The stack holds."""
        value: list[object] = []
        for _ in range(TOO_DEEP):
            value = [value]
        self.assertIn("deep", self.refused(value))

    def test_an_integer_of_too_many_digits_is_refused(self) -> None:
        """Python doesn't write decimal digits without bound."""
        self.assertIn("digits", self.refused(10**5000))

    def test_a_lone_surrogate_is_refused(self) -> None:
        """UTF-8 has no bytes for it."""
        self.assertIn("surrogate", self.refused(["\ud800"]))


class ReadingTests(SynchronousTestCase):
    """JSON as values."""

    serializer = JSONSerializer()

    def refused(self, body: bytes) -> str:
        """Have a body refused, and say why."""
        return str(self.assertRaises(UnreadableError, self.serializer.decode, body))

    def test_spaces_and_escapes_are_read(self) -> None:
        """Other writers are less terse."""
        self.assertEqual(self.serializer.decode(b' { "\\u00e9" : [ 1 , 2 ] }\n'), {"é": [1, 2]})

    def test_the_last_of_equal_keys_wins(self) -> None:
        """As in most readers."""
        self.assertEqual(self.serializer.decode(b'{"a":1,"a":2}'), {"a": 2})

    def test_a_malformed_body_is_refused_without_being_shown(self) -> None:
        """The error says where it went wrong, not what stands there."""
        for body in (b"", b"[", b'{"secret":}', b"'secret'", b"secret", b'"\\s"', b"\xef\xbb\xbf1"):
            reason = self.refused(body)
            self.assertTrue(reason.startswith("it is malformed at character "), reason)

    def test_bytes_behind_the_value_are_refused(self) -> None:
        """A body is one value."""
        self.assertEqual(self.refused(b"[1]2"), "it is malformed at character 3")

    def test_python_s_own_words_are_refused(self) -> None:
        """NaN and the infinities are not JSON."""
        for body in (b"NaN", b"[Infinity]", b'{"a":-Infinity}'):
            self.assertIn("NaN", self.refused(body))

    def test_bytes_that_are_not_utf_8_are_refused(self) -> None:
        """The error says where."""
        self.assertEqual(self.refused(b'"\xe9"'), "it is not UTF-8 at byte 1")

    def test_deep_nesting_is_refused(self) -> None:
        """The stack holds, for lists and for maps."""
        for opening in (b"[", b'{"a":'):
            self.assertIn("deep", self.refused(opening * TOO_DEEP))

    def test_a_huge_integer_is_refused(self) -> None:
        """Reading it would take time with the square of its digits."""
        self.assertIn("digits", self.refused(b"9" * 100_000))
