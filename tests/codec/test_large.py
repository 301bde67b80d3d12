"""Tests of the guess whether coding takes long."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.codec import LARGE, is_large


class Untouchable(dict[str, object]):
    """A dict that must not be looked into."""

    def values(self) -> None:  # type: ignore[override]
        """Fail."""
        raise AssertionError("looked into")


class IsLargeTests(SynchronousTestCase):
    """A glance at a value."""

    def test_the_boundary_of_texts_and_bytes_is_exact(self) -> None:
        """128 KiB are not yet large."""
        self.assertEqual(LARGE, 131_072)
        for unit in (b"a", "a", bytearray(b"a")):
            self.assertFalse(is_large(unit * LARGE))
            self.assertTrue(is_large(unit * (LARGE + 1)))

    def test_containers_of_thousands_of_items_are_large(self) -> None:
        """Whatever their items are."""
        for many in (list(range(20_000)), dict.fromkeys(range(20_000)), set(range(20_000)), (0,) * 20_000):
            self.assertTrue(is_large(many))

    def test_small_values_are_not_large(self) -> None:
        """The usual call."""
        for value in (None, 1, 1.5, "a", b"", [], {}, {"x": 1, "y": "é"}, [[1, 2], {"a": b"b"}], object()):
            self.assertFalse(is_large(value))

    def test_a_large_item_of_a_small_container_is_seen(self) -> None:
        """A file with its name, or a page of rows."""
        for item in (b"a" * (LARGE + 1), "a" * (LARGE + 1), [0] * 20_000):
            self.assertTrue(is_large({"name": 1, "data": item}))
            self.assertTrue(is_large([0] * 15 + [item]))
        self.assertFalse(is_large([b"a" * LARGE]))

    def test_it_looks_one_level_deep_only(self) -> None:
        """It is a glance, not a walk."""
        self.assertFalse(is_large([[b"a" * (LARGE + 1)]]))

    def test_it_does_not_look_into_what_has_many_items(self) -> None:
        """A glance costs the same for every value."""
        self.assertFalse(is_large([b"a" * (LARGE + 1)] * 17))

    def test_types_it_does_not_know_are_left_alone(self) -> None:
        """Code of the value's own is not run."""
        self.assertFalse(is_large(Untouchable(a=b"a" * (LARGE + 1))))

    def test_a_compressed_body_is_large(self) -> None:
        """A few bytes can stand for very many."""
        self.assertTrue(is_large(b"", "gzip"))
        self.assertFalse(is_large(b"", "identity"))
