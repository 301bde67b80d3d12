"""
Texts for terminals and for programs.

Whatever came over the wire may be in them. A terminal obeys control characters,
and some that aren't printable turn what is beside them around: so all of them
are escaped, as JSON would, and what is too long is cut.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from crew_tx.cli.logs import cut

#: Characters of a value that a terminal is shown from its beginning and from its end.
_HEAD, _TAIL = 48_000, 16_000
_LONGEST_CELL = 200
_DEEPEST = 100


def escaped(text: str) -> str:
    """A text whose only control characters are newlines and tabs."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in "\n\t" else json.dumps(each)[1:-1] for each in text)


def shown(text: str) -> str:
    """A text of several lines, escaped and cut."""
    return escaped(cut(text, _HEAD, _TAIL))


def cell(value: object) -> str:
    """A value in one short line, for a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    text = value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
    line = escaped(text).replace("\n", "\\n").replace("\t", "\\t")
    return cut(line, _LONGEST_CELL, 0)


def json_text(value: object, *, indent: int | None = None) -> str:
    """JSON of any value, in which nothing but newlines is unprintable."""
    return escaped(json.dumps(plain(value), ensure_ascii=False, indent=indent))


def plain(value: Any, depth: int = 0) -> Any:
    """
    A value in the types that JSON has.

    Bytes become ``{"base64": "..."}``, keys that aren't text become texts, and
    times are written as ISO 8601.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, (bytes, bytearray)):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if depth > _DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        return {_key(key): plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, (Sequence, frozenset, set)):
        return [plain(each, depth + 1) for each in value]
    return str(value)


def aligned(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as lines of text, its head in capitals."""
    table = [[name.upper() for name in columns], *rows]
    widths = [max(len(row[index]) for row in table) for index in range(len(columns))]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in table)
    return "\n".join(line.rstrip() for line in lines)


def _key(key: object) -> str:
    return key if isinstance(key, str) else str(plain(key))
