"""Tests of crew_tx.tasks.failures: exceptions as hostile as they come."""

from __future__ import annotations

from typing import NoReturn

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import EncodeError
from crew_tx.tasks.failures import LONGEST_MESSAGE, LONGEST_TRACEBACK, Description, bounded, describe


class OddError(Exception):
    """An exception with a module."""


class UnprintableError(Exception):
    """An exception that can't be shown in any way."""

    def __str__(self) -> NoReturn:
        raise SystemExit("no")

    __repr__ = __str__


class NotTextError(Exception):
    """An exception whose text isn't one."""

    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class Nameless(type):
    """A class whose name can't be had."""

    def __getattribute__(cls, name: str) -> object:
        if name == "__qualname__":
            raise ValueError("no name")
        return super().__getattribute__(name)


class NamelessError(Exception, metaclass=Nameless):
    """Of no name."""


def described(error: BaseException) -> Description:
    """An exception that was raised, in words."""
    try:
        raise error
    except BaseException as raised:
        return describe(raised)


class DescribeTests(SynchronousTestCase):
    """Whatever a task raises becomes three bounded texts."""

    def test_an_exception_has_a_type_a_message_and_a_traceback(self) -> None:
        """The type dotted, but for builtin ones."""
        self.assertEqual(described(ValueError("wrong"))[:2], ("ValueError", "wrong"))
        description = described(OddError("odd"))
        self.assertEqual(description.type, "tests.tasks.test_failures.OddError")
        self.assertTrue(description.traceback.startswith("Traceback (most recent call last):\n"))
        self.assertIn("raise error\n", description.traceback)
        self.assertTrue(description.traceback.endswith("OddError: odd\n"))

    def test_causes_notes_and_groups_are_in_the_traceback(self) -> None:
        """All that Python itself would print."""
        try:
            try:
                raise KeyError("cause")
            except KeyError as cause:
                error = ExceptionGroup("several", [OddError("member")])
                error.add_note("a note")
                raise error from cause
        except ExceptionGroup as group:
            text = describe(group).traceback
        for part in ("KeyError: 'cause'", "several", "OddError: member", "a note"):
            self.assertIn(part, text)

    def test_a_broken_text_is_said_to_be_broken(self) -> None:
        """Whatever its __str__ does, and SystemExit is among it."""
        for error in (UnprintableError(), NotTextError()):
            description = described(error)
            self.assertIn("can't be had", description.message)
            self.assertIn(type(error).__name__, description.type)

    def test_a_broken_name_is_left_out(self) -> None:
        """The rest is said."""
        self.assertEqual(described(NamelessError("text"))[:2], ("Exception", "text"))

    def test_texts_are_bounded(self) -> None:
        """A message of megabytes, and one in each of a chain."""
        error = OddError("x" * 10_000_000)
        for _ in range(100):
            error.__cause__, error = OddError("y" * 10_000), error
        for one in (OddError("x" * 10_000_000), error):
            description = described(one)
            self.assertLessEqual(len(description.message.encode()), LONGEST_MESSAGE)
            self.assertLessEqual(len(description.traceback.encode()), LONGEST_TRACEBACK)
        self.assertIn("[cut]", described(OddError("x" * 10_000_000)).message)

    def test_a_long_message_does_not_fill_the_traceback(self) -> None:
        """It is said once already."""
        self.assertLess(len(described(OddError("x" * 10_000_000)).traceback), 6000)

    def test_the_end_of_a_long_traceback_is_kept(self) -> None:
        """It says most."""

        def deep(levels: int) -> None:
            if not levels:
                raise OddError("at the bottom")
            deep(levels - 1) if levels % 2 else even(levels - 1)

        def even(levels: int) -> None:
            deep(levels)

        try:
            deep(400)
        except OddError as error:
            self.assertTrue(describe(error).traceback.endswith("OddError: at the bottom\n"))

    def test_lone_surrogates_are_escaped(self) -> None:
        """No content type could hold them."""
        self.assertEqual(described(OddError("\udc80")).message, "\\udc80")

    def test_frames_of_crew_tx_at_the_top_are_cut_off(self) -> None:
        """They tell a task's author nothing; what an error of ours says stays."""
        namespace = {"__name__": "crew_tx.tasks.execution", "EncodeError": EncodeError}
        source = "def ours(function):\n    function()\ndef refuse():\n    raise EncodeError('too odd')"
        exec(source, namespace)
        ours, refuse = namespace["ours"], namespace["refuse"]

        def task() -> None:
            refuse()  # type: ignore[operator]

        try:
            ours(task)  # type: ignore[operator]
        except EncodeError as error:
            # The frame of this test comes before ours, as a thread's start does not.
            assert error.__traceback__ is not None
            description = describe(error.with_traceback(error.__traceback__.tb_next))
        self.assertNotIn("in ours", description.traceback)
        self.assertIn("in task", description.traceback)
        self.assertIn("in refuse", description.traceback)


class BoundedTests(SynchronousTestCase):
    """A text is cut to so many bytes."""

    def test_a_short_text_is_left_alone(self) -> None:
        """Up to the limit itself, in bytes."""
        self.assertEqual(bounded("é" * 50, 100), "é" * 50)
        self.assertNotEqual(bounded("é" * 51, 100), "é" * 51)

    def test_both_ends_of_a_long_text_are_kept(self) -> None:
        """With a mark between them."""
        text = bounded("a" * 1000 + "z" * 1000, 100)
        self.assertRegex(text, r"^a+\n\[cut\]\nz+$")
        self.assertGreater(len(text), 90)

    @settings(deadline=None, derandomize=True)
    @given(st.text(st.characters(codec=None), max_size=300), st.integers(20, 120))
    def test_any_text_fits_and_can_be_encoded(self, text: str, limit: int) -> None:
        """Surrogates included."""
        self.assertLessEqual(len(bounded(text, limit).encode()), limit)
