"""Tables on a terminal, by rich; the one importer of it, which may not be there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

#: A title, the columns and the rows.
NamedTable = tuple[str, Sequence[str], list[list[str]]]


def show_table(stream: IO[str], columns: Sequence[str], rows: list[list[str]]) -> None:
    """Print one table."""
    Console(file=stream).print(_table("", columns, rows))


class Screen:
    """Tables that are drawn again in their place."""

    def __init__(self, stream: IO[str]) -> None:
        console = Console(file=stream)
        # No thread: what is drawn is drawn when it is told. Streams stay as they are.
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)

    def start(self) -> None:
        self._live.start()

    def show(self, tables: Sequence[NamedTable]) -> None:
        self._live.update(Group(*(_table(*each) for each in tables)), refresh=True)

    def stop(self) -> None:
        self._live.stop()


class Bar:
    """
    How far something is; without a total there is no bar, but a count.

    :param total: how much there is, if that is known.
    """

    def __init__(self, stream: IO[str], total: int | None) -> None:
        columns = (BarColumn(),) if total is not None else ()
        self._progress = Progress(
            *columns,
            MofNCompleteColumn() if total is not None else TextColumn("{task.completed} done"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=Console(file=stream),
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=total, note="")
        self._progress.start()

    def show(self, done: int, note: str) -> None:
        self._progress.update(self._task, completed=done, note=note, refresh=True)

    def stop(self) -> None:
        self._progress.stop()


def _table(title: str, columns: Sequence[str], rows: list[list[str]]) -> Table:
    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, header_style="bold cyan")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # Not as markup, which square brackets from the wire would be.
        table.add_row(*(Text(each) for each in row))
    return table
