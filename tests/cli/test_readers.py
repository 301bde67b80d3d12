"""What the texts of settings mean."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.cli import readers
from crew_tx.cli.readers import Reader


class ReaderTests(SynchronousTestCase):
    """Each reader, with what it takes and what it doesn't."""

    def refuses(self, read: Reader, texts: list[str], words: str) -> None:
        for text in texts:
            self.assertIn(words, str(self.assertRaises(ValueError, read, text)), text)

    def test_a_whole_number_has_limits(self) -> None:
        """Both of them count."""
        read = readers.whole_number(1, 10)
        self.assertEqual([1, 10], [read("1"), read("10")])
        wrong = ["0", "11", "-1", "1.0", "", "x", " 1", "٣", "1" * 5000]
        self.refuses(read, wrong, "takes a whole number from 1 to 10, not ")

    def test_a_size_has_a_unit_or_none(self) -> None:
        """Powers of 1024, in either case; both limits count."""
        read = readers.size(10, 2 * 1024**3)
        given = {
            "10": 10,
            "1KiB": 1024,
            "1k": 1024,
            "64 MiB": 64 * 1024**2,
            "3mb": 3 * 1024**2,
            "2G": 2 * 1024**3,
        }
        self.assertEqual(given, {text: read(text) for text in given})
        wrong = ["9", "3GiB", "-1", "1.5MiB", "", "MiB", "1TB", "x", "1" * 5000, "٣"]
        self.refuses(read, wrong, "takes a number of bytes from 10 to 2147483648, as 1048576 or 64MiB, not ")

    def test_names_are_several_in_one_text(self) -> None:
        """Each once."""
        self.assertEqual(("a", "b/c"), readers.names("a, b/c,a"))
        self.refuses(readers.names, ["", ",", " "], "is empty; leave it out, or give it a name")

    def test_seconds_may_have_a_fraction(self) -> None:
        """But are finite and not negative."""
        self.assertEqual([0.0, 2.5], [readers.seconds("0"), readers.seconds("2.5")])
        self.refuses(
            readers.seconds, ["-1", "nan", "inf", "soon", ""], "takes a number of seconds, 0 or more"
        )

    def test_a_choice_has_words_and_synonyms(self) -> None:
        """In either case."""
        read = readers.choice("info", "warn", warning="warn")
        self.assertEqual(["info", "warn", "warn"], [read("INFO"), read("warn"), read("Warning")])
        self.refuses(read, ["loud", ""], "is one of info, warn, warning, not ")

    def test_a_flag_is_yes_or_no(self) -> None:
        """In the words that people use in files and environments."""
        self.assertEqual(
            [True, True, True, True], [readers.flag(each) for each in ("1", "yes", "True", "on")]
        )
        self.assertEqual([False] * 4, [readers.flag(each) for each in ("0", "no", "FALSE", "off")])
        self.refuses(readers.flag, ["maybe", ""], "is yes or no, not ")

    def test_a_host_is_no_url(self) -> None:
        """And since that may hold a password, it is not shown."""
        self.assertEqual("2001:db8::1", readers.host("2001:db8::1"))
        self.refuses(
            readers.host, ["", "a b", "a/b", "u@h", "amqp://u:secret@h"], "a whole URL goes to --broker"
        )
        error = self.assertRaises(ValueError, readers.host, "u:secret@h")
        self.assertNotIn("secret", str(error))

    def test_a_workers_name_fits_into_its_id(self) -> None:
        """It becomes a part of routing keys."""
        self.assertEqual("é", readers.name_of("worker")("é"))
        self.refuses(readers.name_of("worker"), ["a*b", "", "a\nb", "x" * 201], "takes a name: ")

    def test_some_text_is_not_empty(self) -> None:
        """An empty one is a variable that was not set."""
        self.assertEqual("x", readers.some_text("x"))
        self.refuses(readers.some_text, [""], "is empty")

    def test_a_file_is_readable_and_its_path_made_absolute(self) -> None:
        """So that a process in another folder finds it."""
        path = self.mktemp()
        self.refuses(readers.readable_file, [path], "can't be read: No such file or directory")
        with open(path, "w"):
            pass
        self.assertEqual(os.path.abspath(path), readers.readable_file(path))
        self.refuses(readers.readable_file, [os.path.dirname(path)], "can't be read: Is a directory")

    def test_services_are_separated_by_commas(self) -> None:
        """Spaces around them don't count."""
        self.assertEqual(("a.py", "b.c"), readers.services("a.py, b.c,"))

    def test_what_is_shown_is_escaped_and_cut(self) -> None:
        """Whatever was given."""
        self.assertEqual(r"'a\n\xe9'", readers.shown("a\né"))
        self.assertEqual(f"'{'x' * 40}'...", readers.shown("x" * 41))
