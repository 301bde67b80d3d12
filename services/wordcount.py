"""
Words counted by many workers: the task, and a program that gives them a collection of texts.

Start workers, as many as there are processors, and the program beside them::

    twistd -n --pidfile= crew-worker services/wordcount.py
    python services/wordcount.py texts/*.txt

Without files it counts the words of Python's own library. Workers need none of
the files: pieces of their texts travel, and come back as a word's count each.
"""

from __future__ import annotations

import operator
import re
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet.task import react

from crew_tx import Client
from crew_tx.mapreduce import combined
from crew_tx.worker import Task

WORD = re.compile(r"[^\W\d_]+")
#: Characters that a piece has, about: enough that its way is short beside the work.
PIECE = 64 * 1024
SHOWN = 10


@Task("wordcount.count")
@combined(operator.add)
def count(text: str) -> Iterator[tuple[str, int]]:
    """The mapper: each word in small letters; what goes back is how often each is in the piece."""
    for word in WORD.findall(text.lower()):
        yield word, 1


def library() -> list[Path]:
    """The sources of Python's own library, where this Python has it."""
    return sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))


def pieces(paths: Iterable[Path], size: int = PIECE) -> Iterator[str]:
    """
    Pieces of the texts' whole lines, read when they are asked for.

    :param size: the characters after which a piece ends with its line.
    """
    for path in paths:
        with path.open(encoding="utf-8", errors="replace") as file:
            yield from _pieces_of(file, size)


def _pieces_of(lines: Iterable[str], size: int) -> Iterator[str]:
    piece, length = [], 0
    for line in lines:
        piece.append(line)
        length += len(line)
        if length >= size:
            yield "".join(piece)
            piece, length = [], 0
    if piece:
        yield "".join(piece)


async def main(reactor: Any, *names: str) -> None:
    """Count, showing how far it is, and print the words that are there most often."""
    client = Client(reactor)
    await client.connect()
    counted = await client.map_reduce_by_key(
        "wordcount.count",
        operator.add,
        pieces([Path(name) for name in names] or library()),
        retries=3,
        retry_pause=1,
        stragglers=4,
        partial=lambda so_far: print(f"{len(so_far)} words ...", file=sys.stderr),
    )
    await client.close()
    for word, number in Counter(counted).most_common(SHOWN):
        print(f"{number:8} {word}")


if __name__ == "__main__":
    react(main, sys.argv[1:])
