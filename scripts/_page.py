"""What a tour looks like: numbered steps, and under each what was asked, what came, and how long it took."""

from __future__ import annotations

import os
import sys
import textwrap
from pprint import pformat
from typing import TextIO

_GUTTER = 10
_WIDTH = 88

_BOLD, _DIM, _GREEN, _YELLOW, _RED = "1", "2", "32", "33", "31"


class Page:
    """
    Prints.

    :param out: where to; it is coloured if it is a terminal, unless the
        environment has ``NO_COLOR``.
    :ivar is_watched: whether somebody sits before it, with a keyboard.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_coloured = out.isatty() and not os.environ.get("NO_COLOR")
        self.is_watched = out.isatty() and sys.stdin is not None and sys.stdin.isatty()
        self.steps = 0

    def heading(self, text: str) -> None:
        """What it is all about."""
        self._print(self._styled(text, _BOLD))

    def step(self, title: str) -> None:
        """Begin a step."""
        self.steps += 1
        self._print("")
        self._print(self._styled(f"{self.steps:2}. {title}", _BOLD))

    def asked(self, text: str) -> None:
        """What was asked."""
        self._entry("asked", text)

    def came(self, outcome: object, seconds: float) -> None:
        """What came of it: a value, or an error."""
        if isinstance(outcome, BaseException):
            self._entry(duration(seconds), f"{type(outcome).__name__}: {outcome}", _YELLOW)
        else:
            self._entry(duration(seconds), pformat(outcome, width=_WIDTH, sort_dicts=False), _GREEN)

    def done(self, text: str, seconds: float) -> None:
        """What else happened."""
        self._entry(duration(seconds), text, _GREEN)

    def note(self, text: str) -> None:
        """A line beside."""
        self._entry("", text)

    def went_wrong(self, text: str, output: str) -> None:
        """
        Why it ends here.

        :param output: what the worker printed last.
        """
        self._print("")
        self._print(self._styled(text, _RED))
        if output:
            self._print("The worker's last words:")
            self._print(textwrap.indent(output, "  "))

    def closing(self, text: str) -> None:
        """The last line."""
        self._print("")
        self._print(text)

    def _entry(self, gutter: str, text: str, style: str = "") -> None:
        for line in text.splitlines():
            for part in textwrap.wrap(line, _WIDTH, drop_whitespace=False, break_on_hyphens=False) or [""]:
                self._print(
                    f"{self._styled(gutter.rjust(_GUTTER), _DIM)}  {self._styled(part, style)}".rstrip()
                )
                gutter = ""

    def _styled(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._is_coloured and style and text.strip() else text

    def _print(self, line: str) -> None:
        print(line, file=self._out, flush=True)


def duration(seconds: float) -> str:
    """A time in three digits or so."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
