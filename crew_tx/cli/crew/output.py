"""Where answers go: lines and tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from io import TextIOWrapper
from typing import IO

from crew_tx.cli.crew.exits import facts_of, text_of
from crew_tx.cli.crew.text import aligned, cell, escaped, json_text, shown
from crew_tx.errors import CrewError

ShowTable = Callable[[IO[str], Sequence[str], list[list[str]]], object]


class Output:
    """
    What a command prints.

    :param name: what it says first where it tells people something beside its answer.
    :param as_json: whether a program reads it.
    :ivar is_terminal: whether its answers go to one.
    """

    def __init__(self, out: IO[str], err: IO[str], name: str, *, as_json: bool = False) -> None:
        self._out = out
        self._err = err
        self._name = name
        self.as_json = as_json
        self.is_terminal = out.isatty()

    @property
    def stream(self) -> IO[str]:
        """Where answers go."""
        return self._out

    @property
    def error_stream(self) -> IO[str]:
        """Where people are told things beside answers."""
        return self._err

    def value(self, value: object, facts: dict[str, object] | None = None) -> None:
        """
        Print an answer.

        :param facts: what a program gets in its place.
        """
        if self.as_json:
            self.line(json_text(value if facts is None else facts))
            return
        text = json_text(value, indent=2)
        self.line(shown(text) if self.is_terminal else text)

    def event(self, facts: dict[str, object], text: str) -> None:
        """Print one of many: a line."""
        line = json_text(facts) if self.as_json else escaped(text)
        self.line(line if self.as_json or not self.is_terminal else shown(line))

    def table(
        self, columns: Sequence[str], rows: Iterable[Sequence[object]], facts: object, empty: str = ""
    ) -> None:
        """
        Print a table.

        :param facts: what a program gets in its place.
        :param empty: what people are told if there are no rows.
        """
        if self.as_json:
            self.line(json_text(facts))
            return
        cells = [[cell(value) for value in row] for row in rows]
        if cells:
            self._show_table(columns, cells)
        elif empty:
            self.note(empty)

    def text(self, text: str, facts: object) -> None:
        """Print a text, or the facts to a program."""
        self.line(json_text(facts) if self.as_json else shown(text))

    def line(self, line: str) -> None:
        """Print what was escaped already; at once, since a pipe may be read as it goes."""
        print(line, file=self._out, flush=True)

    def note(self, text: str) -> None:
        """Tell people something beside the answer."""
        print(f"{self._name}: {shown(text)}", file=self._err, flush=True)

    def error(self, error: CrewError) -> None:
        """Tell what went wrong; a program reads it where it reads answers."""
        if self.as_json:
            self.line(json_text(facts_of(error)))
        self.note(text_of(error))

    def _show_table(self, columns: Sequence[str], cells: list[list[str]]) -> None:
        show = rich_table() if self.is_terminal else None
        if show is None:
            self.line(aligned(columns, cells))
        else:
            show(self._out, columns, cells)


def rich_table() -> ShowTable | None:
    """What draws tables on a terminal; None where rich isn't installed."""
    try:
        from crew_tx.cli.crew.drawing import show_table
    except ImportError:
        return None
    return show_table


def make_output(name: str, as_json: bool) -> Output:
    """The process's own; a character that its encoding lacks is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return Output(sys.stdout, sys.stderr, name, as_json=as_json)
