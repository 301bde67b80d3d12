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
    """A look at a value."""

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
            self.assertTrue(is_large([0] * 99 + [item]))
        self.assertFalse(is_large([b"a" * (LARGE - 128)]))
        self.assertTrue(is_large([b"a" * (LARGE - 127)]))

    def test_a_large_item_is_seen_at_any_depth(self) -> None:
        """In whatever it is, and behind what is small."""
        deep: object = b"a" * LARGE
        for _ in range(500):
            deep = [deep]
        for value in (
            {"a": {"b": b"a" * LARGE}},
            [({"a" * LARGE},)],
            [[1], {"x": [b"a" * LARGE]}, [2]],
            deep,
        ):
            self.assertTrue(is_large(value))

    def test_many_small_ones_are_large(self) -> None:
        """Texts, rows of a page, and rows of rows."""
        for value in (["a" * 1000] * 132, [[1] * 16] * 64, [[[1] * 4] * 4] * 52, {"rows": [{"x": 1}] * 512}):
            self.assertTrue(is_large(value))
        for value in (["a" * 1000] * 115, [[1] * 16] * 60, [[[1] * 4] * 4] * 48, {"rows": [{"x": 1}] * 511}):
            self.assertFalse(is_large(value))

    def test_a_look_ends(self) -> None:
        """Also at a value that holds itself, or stands for very much."""
        itself: list[object] = []
        itself.append(itself)
        doubled: list[object] = []
        for _ in range(100):
            doubled = [doubled, doubled]
        for value in (itself, doubled):
            self.assertTrue(is_large(value))

    def test_types_it_does_not_know_are_left_alone(self) -> None:
        """Code of the value's own is not run."""
        self.assertFalse(is_large(Untouchable(a=b"a" * (LARGE + 1))))

    def test_a_compressed_body_is_large(self) -> None:
        """A few bytes can stand for very many."""
        self.assertTrue(is_large(b"", "gzip"))
        self.assertFalse(is_large(b"", "identity"))
