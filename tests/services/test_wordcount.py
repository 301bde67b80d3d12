"""Tests of services/wordcount.py."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tests.services.support import ServiceTestCase


class WordCountTests(ServiceTestCase):
    """The mapper, and where its pieces come from."""

    def setUp(self) -> None:
        self.module = self.load("wordcount")

    def text(self, text: str) -> Path:
        path = Path(self.mktemp())
        path.write_text(text)
        return path

    def test_words_are_counted(self) -> None:
        """In small letters; digits and underscores are between words."""
        answered = self.perform("wordcount.count", "To be, or not\nto_be 2be \u00c9t\u00e9")
        self.assertEqual(({"to": 2, "be": 3, "or": 1, "not": 1, "\u00e9t\u00e9": 1}, None, {}), answered)

    def test_pieces_are_whole_lines(self) -> None:
        """Of one text after the other, and all of them."""
        first, empty, last = self.text("a b\nc d\ne\n"), self.text(""), self.text("f")
        self.assertEqual(["a b\nc d\n", "e\n", "f"], list(self.module.pieces([first, empty, last], 5)))

    def test_pieces_are_read_when_they_are_asked_for(self) -> None:
        """So a collection may be as large as it likes."""
        pieces = self.module.pieces([self.text("a\n"), Path("/nowhere")], 1)
        self.assertEqual("a\n", next(pieces))
        self.assertRaises(FileNotFoundError, next, pieces)

    def test_pieces_come_to_the_whole(self) -> None:
        """The words of one of the library's own modules, counted piece by piece."""
        path = next(path for path in self.module.library() if path.name == "argparse.py")
        counted: Counter[str] = Counter()
        pieces = list(self.module.pieces([path], 1000))
        for piece in pieces:
            counted.update(self.module.count(piece))
        words = re.findall(r"[^\W\d_]+", path.read_text().lower())
        self.assertEqual(Counter(words), counted)
        self.assertGreater(len(pieces), 50)
