"""Tests of the content encodings."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from importlib.util import find_spec
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.codec import UnreadableError, UnwritableError, _compression
from crew_tx.codec._compression import ENCODINGS, deflate, inflate
from tests.codec.values import SETTINGS, SMALL_BYTES

MIB = 1024 * 1024


def peak_of(function: Any, *arguments: Any) -> tuple[Any, int]:
    """Call a function; return what it raised, and the most memory it held."""
    tracemalloc.start()
    try:
        function(*arguments)
    except UnreadableError as error:
        raised: Any = error
    else:
        raised = None
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return raised, peak


class GzipTests(SynchronousTestCase):
    """The encoding that every Python has."""

    def refused(self, body: bytes, limit: int = MIB) -> str:
        """Have a body refused, and say why."""
        return str(self.assertRaises(UnreadableError, inflate, body, "gzip", limit))

    @SETTINGS
    @given(st.binary())
    def test_a_body_comes_back(self, body: bytes) -> None:
        """What was compressed is what is inflated."""
        self.assertEqual(inflate(deflate(body, "gzip"), "gzip", MIB), body)

    def test_small_bodies_come_back(self) -> None:
        """No byte, one byte."""
        for body in SMALL_BYTES:
            self.assertEqual(inflate(deflate(body, "gzip"), "gzip", 2), body)

    def test_other_programs_read_it_and_are_read(self) -> None:
        """It is gzip, not bare deflate, and the same bytes each time."""
        self.assertEqual(gzip.decompress(deflate(b"a" * 99, "gzip")), b"a" * 99)
        self.assertEqual(inflate(gzip.compress(b"a" * 99), "gzip", 99), b"a" * 99)
        self.assertEqual(deflate(b"a", "gzip")[4:8], bytes(4))

    def test_members_follow_one_another(self) -> None:
        """As gzip's own files may have them."""
        self.assertEqual(inflate(gzip.compress(b"a") + gzip.compress(b"b"), "gzip", 2), b"ab")

    def test_the_limit_is_exact(self) -> None:
        """A body of the limit's size is read, a byte more is not."""
        body = deflate(b"a" * 1000, "gzip")
        self.assertEqual(len(inflate(body, "gzip", 1000)), 1000)
        self.assertIn("more than the limit", self.refused(body, 999))

    def test_the_limit_counts_all_members(self) -> None:
        """None may have the whole of it again."""
        member = gzip.compress(b"a" * 600)
        self.assertIn("more than the limit", self.refused(member + member, 1000))

    def test_a_bomb_takes_no_memory(self) -> None:
        """Inflation stops at the limit, far from the end."""
        bomb = gzip.compress(bytes(64 * MIB))
        error, peak = peak_of(inflate, bomb, "gzip", 64 * 1024)
        self.assertIn("more than the limit", str(error))
        self.assertLess(peak, MIB)

    def test_many_members_are_refused(self) -> None:
        """Each takes a copy of the rest, so there is a bound."""
        self.assertEqual(inflate(gzip.compress(b"") * 16, "gzip", 1), b"")
        self.assertIn("16 gzip members", self.refused(gzip.compress(b"") * 17))

    def test_every_truncation_is_refused(self) -> None:
        """Wherever it is cut."""
        body = deflate(b"some text that is not all one letter", "gzip")
        for size in range(len(body)):
            self.assertIn("cut short", self.refused(body[:size]))
            self.assertIn("cut short", self.refused(body[:size], 36))

    def test_damage_is_refused(self) -> None:
        """The checksum counts, and so do the header and what follows the end."""
        body = deflate(b"some text", "gzip")
        wrong_checksum = body[:-6] + bytes([body[-6] ^ 1]) + body[-5:]
        for damaged in (wrong_checksum, b"x" + body, body + b"x", zlib.compress(b"a")):
            self.assertIn("gzip", self.refused(damaged))


class ZstdTests(SynchronousTestCase):
    """The encoding that is an extra."""

    if find_spec("zstandard") is None:
        skip = "the package zstandard is not installed"

    def refused(self, body: bytes, limit: int = MIB) -> str:
        """Have a body refused, and say why."""
        return str(self.assertRaises(UnreadableError, inflate, body, "zstd", limit))

    def test_bodies_come_back(self) -> None:
        """No byte, one byte, and what is just as much as is inflated at a time, less, or more."""
        noise = Random(0).randbytes(600)
        for body in (*SMALL_BYTES, *(noise[:size] for size in range(200, 600)), bytes(range(256)) * 4096):
            self.assertEqual(inflate(deflate(body, "zstd"), "zstd", MIB), body)

    def test_the_limit_is_exact(self) -> None:
        """A body of the limit's size is read, a byte more is not."""
        body = deflate(b"a" * 1000, "zstd")
        self.assertEqual(len(inflate(body, "zstd", 1000)), 1000)
        self.assertIn("more than the limit", self.refused(body, 999))

    def test_a_bomb_takes_little_memory(self) -> None:
        """Inflation stops near the limit, far from the end."""
        bomb = deflate(bytes(256 * MIB), "zstd")
        error, peak = peak_of(inflate, bomb, "zstd", 64 * 1024)
        self.assertIn("more than the limit", str(error))
        self.assertLess(peak, 32 * MIB)

    def test_truncation_and_damage_are_refused(self) -> None:
        """Wherever it is cut, and whatever follows it."""
        body = deflate(bytes(range(256)) * 4, "zstd")
        for size in range(len(body)):
            self.refused(body[:size])
        for damaged in (b"x" + body, body + b"x", body + bytes(1000), body + body):
            self.assertIn("zstd", self.refused(damaged))


class MissingZstdTests(SynchronousTestCase):
    """Where the extra is not installed."""

    def setUp(self) -> None:
        """Have no package."""

        def fail(_name: str) -> None:
            raise ImportError

        self.patch(_compression, "import_module", fail)

    def test_both_ways_name_the_package(self) -> None:
        """The remedy is in the text."""
        writing = self.assertRaises(UnwritableError, deflate, b"", "zstd")
        reading = self.assertRaises(UnreadableError, inflate, b"", "zstd", 1)
        for error in (writing, reading):
            self.assertIn("zstandard", str(error))


class EncodingTests(SynchronousTestCase):
    """Their names."""

    def test_an_unknown_encoding_is_refused(self) -> None:
        """The error does not repeat what the message says."""
        error = self.assertRaises(UnreadableError, inflate, b"", "secret", 1)
        self.assertEqual(str(error), "its content encoding is unknown")

    def test_gzip_comes_first(self) -> None:
        """It is what ``compress=True`` means."""
        self.assertEqual(ENCODINGS, ("gzip", "zstd"))
