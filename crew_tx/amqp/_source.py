"""
Python written out for a list of fields, so that no message pays for a loop over them.

Neighbours of a fixed size are packed and unpacked at once, bits that follow
each other share octets. The specification is all that it is written from:
nothing that came from outside ever gets into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from re import findall
from struct import Struct, calcsize
from typing import Any

from txamqp.spec import pythonize

#: A type, and the name of the field; of bits, the names that share an octet.
Item = tuple[str, list[str]]

#: For each type of a fixed size the letter that Struct has for it.
_LETTERS = {"bit": "B", "octet": "B", "short": "H", "long": "I", "longlong": "Q", "timestamp": "Q"}

_READERS = {
    "shortstr": [
        "start = offset + 1",
        "offset = start + buffer[offset]",
        "{} = buffer[start:offset].decode()",
    ],
    "longstr": ["{}, offset = read_string(buffer, offset, end)"],
    "table": ["{}, offset = read_table(buffer, offset, end)"],
}


def items_of(fields: Iterable[Any]) -> list[Item]:
    """The items of some of txamqp's fields, under Python's names."""
    items: list[Item] = []
    for field in fields:
        name = pythonize(field.name)
        if field.type == "bit" and items and items[-1][0] == "bit" and len(items[-1][1]) < 8:
            items[-1][1].append(name)
        else:
            items.append((field.type, [name]))
    return items


def write_pieces(items: list[Item], writers: dict[str, str], number: str = "{}") -> list[str]:
    """
    Expressions whose bytes, put together, are the items.

    :param writers: an expression for each type that isn't of a fixed size.
    :param number: the expression for a number of a fixed size.
    """
    pieces = []
    for layout, run in _runs(items):
        if layout:
            values = (_bits(names) if kind == "bit" else number.format(*names) for kind, names in run)
            pieces.append(f"pack_{layout}({', '.join(values)})")
        else:
            pieces += (writers[kind].format(*names) for kind, names in run)
    return pieces


def read_lines(items: list[Item]) -> list[str]:
    """Statements that read the items from ``buffer`` at ``offset`` and move it behind them."""
    lines = []
    for layout, run in _runs(items):
        if layout:
            targets = ", ".join(names[0] for _, names in run)
            lines += [f"[{targets}] = unpack_{layout}(buffer, offset)", f"offset += {calcsize('!' + layout)}"]
            lines += (line for kind, names in run if kind == "bit" for line in _bits_read(names))
        else:
            lines += (line.format(*names) for kind, names in run for line in _READERS[kind])
    return lines


def function(signature: str, lines: list[str]) -> str:
    """The source of a function."""
    return "\n    ".join([f"def {signature}:", *lines]) + "\n"


def compiled(source: str, names: dict[str, Any]) -> dict[str, Any]:
    """
    Run a source.

    :param names: what it refers to, apart from its structs.
    :returns: what it defines, and what it was given.
    """
    namespace = dict(names)
    for layout in set(findall(r"pack_(\w+)\(", source)):
        namespace[f"pack_{layout}"] = Struct("!" + layout).pack
        namespace[f"unpack_{layout}"] = Struct("!" + layout).unpack_from
    exec(source, namespace)
    return namespace


def tolerant(source: str) -> str:
    """The same source, for short strings that aren't UTF-8: slower, so it comes second."""
    return source.replace(".decode()", '.decode("utf-8", "surrogateescape")')


def _runs(items: list[Item]) -> Iterator[tuple[str, list[Item]]]:
    """Neighbours of a fixed size with their struct's letters, other neighbours with none."""
    for is_fixed, neighbours in groupby(items, lambda item: item[0] in _LETTERS):
        run = list(neighbours)
        yield "".join(_LETTERS[kind] for kind, _ in run) if is_fixed else "", run


def _bits(names: list[str]) -> str:
    return " | ".join(f"({1 << index} if {name} else 0)" for index, name in enumerate(names))


def _bits_read(names: list[str]) -> list[str]:
    # The octet goes by the name of its first bit until that one is read from it, last.
    lines = [f"{name} = {names[0]} & {1 << index} != 0" for index, name in enumerate(names)]
    return lines[::-1]
