"""Tests of the codec."""

from __future__ import annotations

import gzip
import json
import pickle
from functools import partial
from importlib.util import find_spec
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.codec import Codec, Encoded, _compression
from crew_tx.errors import DecodeError, EncodeError, InvalidArgumentError, MessageTooLargeError
from tests.codec.values import SETTINGS

CBOR, JSON = "application/cbor", "application/json"
TEXT, BYTES = "text/plain; charset=utf-8", "application/octet-stream"
PICKLE = "application/x-python-pickle"


class Unpicklable:
    """An object that fails on the way out, in words that must not be seen."""

    def __reduce__(self) -> str:
        """Fail."""
        raise ValueError("secret")


class Loud:
    """An object that tells when it is unpickled."""

    heard: list[str] = []  # noqa: RUF012

    def __reduce__(self) -> tuple[Any, ...]:
        """Append to a list on the other side."""
        return Loud.heard.append, ("unpickled",)


class Stopping:
    """An object that ends the program when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave."""
        return exit, ()


class EncodeTests(SynchronousTestCase):
    """From a value to a body."""

    def test_the_default_is_cbor(self) -> None:
        """A small body is not compressed."""
        self.assertEqual(Codec().encode({"x": 1}), Encoded(b"\xa1\x61x\x01", CBOR, None))

    def test_another_default_can_be_chosen(self) -> None:
        """By its short name or its content type."""
        for serializer in ("json", JSON):
            self.assertEqual(Codec(serializer).encode([1]), Encoded(b"[1]", JSON, None))

    def test_each_serializer_goes_by_two_names(self) -> None:
        """The short one and the content type."""
        codec = Codec(allow_pickle=True)
        names = {"cbor": CBOR, "json": JSON, "text": TEXT, "bytes": BYTES, "pickle": PICKLE}
        for name, content_type in names.items():
            value = b"a" if name == "bytes" else "a"
            self.assertEqual(codec.encode(value, name).content_type, content_type)
            self.assertEqual(codec.encode(value, name), codec.encode(value, content_type))

    def test_an_unknown_serializer_lists_the_known_ones(self) -> None:
        """For a call and for the default."""
        for make in (lambda: Codec().encode(1, "xml"), lambda: Codec("xml")):
            error = self.assertRaises(InvalidArgumentError, make)
            self.assertIn("'xml'; there are cbor, json, text, bytes,", str(error))

    def test_pickle_is_off_and_says_how_to_switch_it_on(self) -> None:
        """By both of its names, and as the default."""
        for make in (Codec, partial(Codec().encode, 1)):
            for name in ("pickle", PICKLE):
                error = self.assertRaises(InvalidArgumentError, make, name)
                self.assertIn("allow_pickle=True", str(error))

    def test_a_value_that_does_not_fit_is_an_encode_error(self) -> None:
        """With the content type, the type's name, the reason, and no cause that has the value."""
        for serializer, content_type in (("cbor", CBOR), ("json", JSON), ("text", TEXT), ("bytes", BYTES)):
            error = self.assertRaises(EncodeError, Codec().encode, {"secret": object()}, serializer)
            self.assertEqual(error.content_type, content_type)
            self.assertIn(f"dict can't be written as {content_type}: it ", str(error))
            self.assertNotIn("secret", str(error))
            self.assertIsNone(error.__context__)

    def test_a_value_that_fails_by_itself_is_an_encode_error(self) -> None:
        """Its own words are left out."""
        error = self.assertRaises(EncodeError, Codec(allow_pickle=True).encode, Unpicklable(), "pickle")
        self.assertTrue(str(error).endswith(": ValueError"), str(error))

    def test_limits_that_make_no_sense_are_refused(self) -> None:
        """At once, not at the first message."""
        for limits in ({"max_message_size": 0}, {"max_message_size": 9, "max_inflated_size": 8}):
            self.assertRaises(InvalidArgumentError, Codec, **limits)


class CompressionTests(SynchronousTestCase):
    """When a body is compressed, and how large it may be."""

    def test_a_body_over_the_threshold_is_gzipped(self) -> None:
        """One of just the threshold is not."""
        codec = Codec("text", compress_over=1000)
        self.assertIsNone(codec.encode("a" * 1000).content_encoding)
        encoded = codec.encode("a" * 1001)
        self.assertEqual(encoded.content_encoding, "gzip")
        self.assertEqual(gzip.decompress(encoded.body), b"a" * 1001)

    def test_the_threshold_is_32_kib(self) -> None:
        """Where nothing else is said."""
        self.assertIsNone(Codec("text").encode("a" * 32768).content_encoding)
        self.assertEqual(Codec("text").encode("a" * 32769).content_encoding, "gzip")

    def test_compression_that_does_not_help_is_dropped(self) -> None:
        """The body goes as it is."""
        body = gzip.compress(bytes(range(256)) * 8)
        self.assertEqual(Codec("bytes", compress_over=1).encode(body), Encoded(body, BYTES, None))

    def test_it_can_be_switched_off(self) -> None:
        """By False or by name."""
        codec = Codec("text", compress_over=1)
        for compress in (False, "identity"):
            self.assertEqual(codec.encode("a" * 99, compress=compress), Encoded(b"a" * 99, TEXT, None))

    def test_it_can_be_asked_for(self) -> None:
        """By True or by name, even where it makes a body longer."""
        for compress in (True, "gzip"):
            encoded = Codec("text").encode("a", compress=compress)
            self.assertEqual(encoded.content_encoding, "gzip")
            self.assertEqual(Codec().decode(*encoded), "a")

    def test_zstd_can_be_asked_for(self) -> None:
        """Where its package is installed."""
        encoded = Codec("text").encode("a" * 99, compress="zstd")
        self.assertEqual(encoded.content_encoding, "zstd")
        self.assertEqual(Codec().decode(*encoded), "a" * 99)

    if find_spec("zstandard") is None:
        test_zstd_can_be_asked_for.skip = "the package zstandard is not installed"  # type: ignore[attr-defined]

    def test_zstd_without_its_package_is_an_encode_error(self) -> None:
        """That names the package."""

        def fail(_name: str) -> None:
            raise ImportError

        self.patch(_compression, "import_module", fail)
        error = self.assertRaises(EncodeError, Codec("text").encode, "a", compress="zstd")
        self.assertIn("zstandard", str(error))

    def test_an_unknown_compression_lists_the_known_ones(self) -> None:
        """Whatever it is."""
        for compress in ("lzma", "", 7):
            error = self.assertRaises(InvalidArgumentError, Codec().encode, 1, compress=compress)
            self.assertIn("gzip, zstd and identity", str(error))

    def test_the_wire_s_limit_is_for_the_body_as_sent(self) -> None:
        """What is over it uncompressed may go compressed."""
        codec = Codec("text", max_message_size=100, compress_over=1000)
        self.assertEqual(len(codec.encode("a" * 100).body), 100)
        error = self.assertRaises(MessageTooLargeError, codec.encode, "a" * 101)
        self.assertEqual((error.size, error.limit), (101, 100))
        self.assertEqual(codec.decode(*codec.encode("a" * 101, compress=True)), "a" * 101)

    def test_the_wire_s_limit_is_16_mib(self) -> None:
        """Where nothing else is said: RabbitMQ 4's own."""
        error = self.assertRaises(
            MessageTooLargeError, Codec("bytes").encode, bytes(2**24 + 1), compress=False
        )
        self.assertEqual(error.limit, 2**24)

    def test_the_limit_before_compression_is_four_times_as_much(self) -> None:
        """So that what is sent can be read."""
        codec = Codec("text", max_message_size=100)
        codec.encode("a" * 400, compress=True)
        error = self.assertRaises(MessageTooLargeError, codec.encode, "a" * 401, compress=True)
        self.assertEqual((error.size, error.limit), (401, 400))

    def test_a_body_over_the_limit_after_compression_is_refused(self) -> None:
        """Its compressed size counts."""
        codec = Codec("bytes", max_message_size=100, max_inflated_size=1000)
        self.assertRaises(MessageTooLargeError, codec.encode, bytes(range(256)), compress=True)


class EncodeLikeTests(SynchronousTestCase):
    """Answers in the content type of what they answer."""

    def test_an_answer_is_in_the_call_s_content_type(self) -> None:
        """Where that can hold it."""
        self.assertEqual(Codec().encode_like([1], JSON), Encoded(b"[1]", JSON, None))
        self.assertEqual(Codec().encode_like("a", TEXT), Encoded(b"a", TEXT, None))

    def test_parameters_of_the_content_type_do_not_matter(self) -> None:
        """The answer says it in our spelling."""
        for content_type in ("application/json; charset=utf-8", "Application/JSON"):
            self.assertEqual(Codec().encode_like([1], content_type), Encoded(b"[1]", JSON, None))
        self.assertEqual(Codec().encode_like("a", "text/plain"), Encoded(b"a", TEXT, None))

    def test_cbor_takes_what_it_cannot_hold(self) -> None:
        """No answer is lost for its type."""
        self.assertEqual(Codec().encode_like(None, TEXT), Encoded(b"\xf6", CBOR, None))
        self.assertEqual(Codec().encode_like({"a": b"b"}, JSON).content_type, CBOR)

    def test_cbor_takes_what_answers_an_unknown_content_type(self) -> None:
        """Whatever the default is, and whether pickle is on or not."""
        for content_type in (None, "", "image/png", PICKLE, "text/plain; charset=latin-1"):
            self.assertEqual(Codec("json").encode_like([1], content_type), Encoded(b"\x81\x01", CBOR, None))

    def test_what_cbor_cannot_hold_is_an_encode_error(self) -> None:
        """There is nothing left to try."""
        for content_type in (JSON, CBOR, None):
            error = self.assertRaises(EncodeError, Codec().encode_like, object(), content_type)
            self.assertEqual(error.content_type, CBOR)

    def test_an_answer_over_the_limit_is_not_tried_again(self) -> None:
        """CBOR would not make it small."""
        codec = Codec(max_message_size=10)
        self.assertRaises(MessageTooLargeError, codec.encode_like, "a" * 99, TEXT)


class DecodeTests(SynchronousTestCase):
    """From a body to a value."""

    def refused(
        self, body: bytes, content_type: str | None, encoding: str | None = None, **limits: Any
    ) -> str:
        """Have a body refused, in an error that knows about it and does not show it."""
        error = self.assertRaises(DecodeError, Codec(**limits).decode, body, content_type, encoding)
        self.assertEqual((error.content_type, error.size), (content_type, len(body)))
        self.assertIn(f"{len(body)} bytes", str(error))
        self.assertNotIn("secret", repr(error))
        self.assertIsNone(error.__context__)
        self.assertIsNone(error.__cause__)
        return str(error)

    def test_what_was_encoded_is_decoded(self) -> None:
        """In every content type, compressed or not."""
        codec = Codec(allow_pickle=True)
        for serializer in ("cbor", "json", "text", "pickle"):
            for value in ("", "a", "é" * 50_000):
                self.assertEqual(codec.decode(*codec.encode(value, serializer)), value)
        for body in (b"", b"a", bytes(50_000)):
            self.assertEqual(codec.decode(*codec.encode(body, "bytes")), body)

    def test_parameters_and_capitals_are_tolerated(self) -> None:
        """As other writers spell them."""
        for spelling in (
            "application/json; charset=utf-8",
            'Application/JSON;charset="UTF-8"',
            f"{JSON} ; a=b",
        ):
            self.assertEqual(Codec().decode(b"[1]", spelling), [1])
        self.assertEqual(Codec().decode(b"a", "text/plain"), "a")

    def test_another_charset_is_refused(self) -> None:
        """Rather than misread."""
        self.assertIn("charset is not UTF-8", self.refused(b"a", "text/plain; charset=ISO-8859-1"))
        self.assertEqual(Codec().decode(b"a", "text/plain; charset=US-ASCII"), "a")

    def test_an_unknown_content_type_is_refused(self) -> None:
        """And so is none at all; a short name is no content type."""
        for content_type in ("image/png", "cbor", "application/cborx", ";"):
            self.assertIn("unknown", self.refused(b"secret", content_type))
        for nothing in (None, ""):
            self.assertIn("nothing says what it is", self.refused(b"secret", nothing))

    def test_a_content_type_from_the_wire_is_escaped_and_cut(self) -> None:
        """It may end in a log."""
        text = self.refused(b"", "a\n\x1b[31m" + "b" * 300)
        self.assertNotIn("\n", text)
        self.assertNotIn("\x1b", text)
        self.assertNotIn("b" * 100, text)

    def test_an_unknown_content_encoding_is_refused(self) -> None:
        """Identity and none are not unknown."""
        self.assertIn("content encoding is unknown", self.refused(b"[1]", JSON, "br"))
        for encoding in (None, "", "identity"):
            self.assertEqual(Codec().decode(b"[1]", JSON, encoding), [1])

    def test_a_pickle_is_not_read_unless_it_is_switched_on(self) -> None:
        """Its code does not run."""
        body = pickle.dumps(Loud())
        text = self.refused(body, PICKLE)
        self.refused(body, PICKLE + "; a=b")
        self.assertIn("allow_pickle=True", text)
        self.assertEqual(Loud.heard, [])

    def test_a_pickle_that_raises_is_a_decode_error(self) -> None:
        """Whatever it raises."""
        self.refused(b"secret", PICKLE, allow_pickle=True)

    def test_an_exit_on_the_way_is_not_swallowed(self) -> None:
        """A time limit's SystemExit goes through."""
        self.assertRaises(SystemExit, Codec(allow_pickle=True).decode, pickle.dumps(Stopping()), PICKLE)

    def test_a_malformed_body_is_refused_without_being_shown(self) -> None:
        """In every content type that has a form, nor in what the error came from."""
        self.refused(b'{"secret": secret}', JSON)
        self.refused(b"\x66secret\x00", CBOR)
        self.refused(b"\xc0\x66secret", CBOR)
        self.refused(b"secret\xff", TEXT)

    def test_an_exception_of_a_library_is_a_decode_error(self) -> None:
        """A date that is none, a UUID of one byte, a set of a number, an exponent out of range."""
        bodies = (
            "d8641b7fffffffffffffff",
            "d903ec6161",
            "c11b7fffffffffffffff",
            "c1fb7ff0000000000000",
            "c06161",
        )
        for body in (
            *bodies,
            "d8254101",
            "d9010201",
            "c4821b7fffffffffffffff01",
            "a1d901028100d9010281a1000000",
        ):
            self.refused(bytes.fromhex(body), CBOR)

    def test_a_body_over_the_limit_is_refused_unread(self) -> None:
        """One of just the limit is read."""
        self.assertEqual(Codec(max_message_size=4).decode(b'"aa"', JSON), "aa")
        self.assertIn("limit of 4 bytes", self.refused(b'"aaa"', JSON, max_message_size=4))

    def test_a_bomb_is_refused(self) -> None:
        """Of one member, and of many."""
        limits: dict[str, Any] = {"max_message_size": 10_000, "max_inflated_size": 20_000}
        for bomb in (gzip.compress(bytes(20_001)), gzip.compress(bytes(10_000)) * 3):
            self.assertIn("more than the limit", self.refused(bomb, BYTES, "gzip", **limits))
        self.assertEqual(len(Codec(**limits).decode(gzip.compress(bytes(20_000)), BYTES, "gzip")), 20_000)

    def test_a_truncated_gzip_is_refused(self) -> None:
        """Its missing end may be what mattered."""
        self.assertIn("cut short", self.refused(gzip.compress(b"secret")[:-1], BYTES, "gzip"))

    @SETTINGS
    @given(st.binary(), st.sampled_from([CBOR, JSON, TEXT]), st.sampled_from([None, "gzip"]))
    def test_any_bytes_are_read_or_refused(
        self, body: bytes, content_type: str, encoding: str | None
    ) -> None:
        """Nothing but a DecodeError is raised, whatever comes."""
        try:
            Codec().decode(body, content_type, encoding)
        except DecodeError as error:
            self.assertEqual(error.size, len(body))


class ThreadHintTests(SynchronousTestCase):
    """What the codec says about threads."""

    def test_it_knows_what_is_large(self) -> None:
        """A megabyte is, a number isn't, and a compressed body is."""
        codec = Codec()
        self.assertTrue(codec.is_large(json.dumps("a" * 1_000_000)))
        self.assertFalse(codec.is_large({"x": 1}))
        self.assertTrue(codec.is_large(b"a", "gzip"))
