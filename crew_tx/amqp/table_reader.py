"""
Field tables, read as RabbitMQ writes them.

All of its types are read. A string says nothing of its encoding: what is valid
UTF-8 becomes ``str``, anything else ``bytes``. Names become ``str`` always,
by ``surrogateescape``.

Reading is bounded: a value that reaches beyond the table it is in is refused,
and so are tables that nest deeper than what is written. Numbers and names are
not looked at one by one: whatever reads too far moves the offset beyond the
table's end, which is looked at once, last.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from struct import Struct
from struct import error as StructError
from typing import Any

from crew_tx.amqp.table_writer import DEEPEST
from crew_tx.errors import ProtocolError

_SYNTAX_ERROR = 502
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_unpack_size = Struct("!I").unpack_from
_unpack_int = Struct("!i").unpack_from
_unpack_decimal = Struct("!Bi").unpack_from

_Reader = Callable[[bytes, int, int, int], tuple[Any, int]]


def malformed(what: str) -> ProtocolError:
    """The error for bytes that aren't what they should be."""
    return ProtocolError(f"the peer sent {what}", reply_code=_SYNTAX_ERROR, reply_text="SYNTAX_ERROR")


def decode_table(buffer: bytes, offset: int, end: int | None = None) -> tuple[dict[str, Any], int]:
    """
    Read a field table.

    :param offset: where its size is.
    :param end: what it may not reach beyond; the buffer's end by default.
    :returns: the table, and the offset behind it.
    :raises ProtocolError: 502, if it is malformed.
    """
    try:
        return read_table(buffer, offset, len(buffer) if end is None else end)
    except (IndexError, StructError):
        raise malformed("a table that is cut short") from None


def read_table(buffer: bytes, offset: int, bound: int, depth: int = 0) -> tuple[dict[str, Any], int]:
    """As :func:`decode_table`; beyond the buffer's end it is an IndexError or a struct.error."""
    end, offset = offset + 4 + _unpack_size(buffer, offset)[0], offset + 4
    if end > bound or depth == DEEPEST:
        raise _unbounded(depth)
    table: dict[str, Any] = {}
    while offset < end:
        start = offset + 1
        offset = start + buffer[offset]
        try:
            name = buffer[start:offset].decode()
        except UnicodeDecodeError:
            name = buffer[start:offset].decode("utf-8", "surrogateescape")
        kind = buffer[offset]
        # The two that nearly all headers are, without a call.
        if kind == 83:
            start = offset + 5
            offset = start + _unpack_size(buffer, offset + 1)[0]
            try:
                table[name] = buffer[start:offset].decode()
            except UnicodeDecodeError:
                table[name] = buffer[start:offset]
        elif kind == 73:
            [table[name]] = _unpack_int(buffer, offset + 1)
            offset += 5
        else:
            table[name], offset = _readers[kind](buffer, offset + 1, end, depth)
    if offset != end:
        raise malformed("a table whose last value reaches beyond its end")
    return table, end


def _unbounded(depth: int) -> ProtocolError:
    if depth == DEEPEST:
        return malformed(f"a table that nests deeper than {DEEPEST}")
    return malformed("a table or a string that reaches beyond what it is in")


def _read_array(buffer: bytes, offset: int, bound: int, depth: int) -> tuple[list[Any], int]:
    end, offset = offset + 4 + _unpack_size(buffer, offset)[0], offset + 4
    if end > bound or depth + 1 == DEEPEST:
        raise _unbounded(depth + 1)
    items = []
    while offset < end:
        item, offset = _readers[buffer[offset]](buffer, offset + 1, end, depth + 1)
        items.append(item)
    if offset != end:
        raise malformed("an array whose last value reaches beyond its end")
    return items, end


def _read_octets(buffer: bytes, offset: int, bound: int, depth: int) -> tuple[bytes, int]:
    start = offset + 4
    end = start + _unpack_size(buffer, offset)[0]
    if end > bound:
        raise _unbounded(0)
    return buffer[start:end], end


def read_string(buffer: bytes, offset: int, bound: int, depth: int = 0) -> tuple[str | bytes, int]:
    """Read a long string; beyond the buffer's end it is a struct.error."""
    start = offset + 4
    end = start + _unpack_size(buffer, offset)[0]
    if end > bound:
        raise _unbounded(0)
    try:
        return buffer[start:end].decode(), end
    except UnicodeDecodeError:
        return buffer[start:end], end


def _read_decimal(buffer: bytes, offset: int, bound: int, depth: int) -> tuple[Decimal, int]:
    places, unscaled = _unpack_decimal(buffer, offset)
    return Decimal(f"{unscaled}E-{places}"), offset + 5


def _read_time(buffer: bytes, offset: int, bound: int, depth: int) -> tuple[datetime | int, int]:
    seconds = int.from_bytes(buffer[offset : offset + 8], "big")
    try:
        return _EPOCH + timedelta(seconds=seconds), offset + 8
    except OverflowError:
        return seconds, offset + 8


def _number_reader(letter: str) -> _Reader:
    number = Struct("!" + letter)
    unpack, size = number.unpack_from, number.size

    def read(buffer: bytes, offset: int, bound: int, depth: int) -> tuple[Any, int]:
        return unpack(buffer, offset)[0], offset + size

    return read


def _unknown(kind: int) -> _Reader:
    def refuse(buffer: bytes, offset: int, bound: int, depth: int) -> tuple[Any, int]:
        raise malformed(f"a table with a value of the unknown type {kind:#04x}")

    return refuse


#: AMQP's letter and Struct's for each type of number.
_NUMBERS = "t?", "bb", "BB", "sh", "uH", "Ii", "iI", "lq", "LQ", "ff", "dd"
#: What reads a value, by the octet of its type.
_readers: list[_Reader] = [_unknown(kind) for kind in range(256)]
for _pair in _NUMBERS:
    _readers[ord(_pair[0])] = _number_reader(_pair[1])
_readers[ord("D")] = _read_decimal
_readers[ord("S")] = read_string
_readers[ord("x")] = _read_octets
_readers[ord("T")] = _read_time
_readers[ord("A")] = _read_array
_readers[ord("F")] = lambda buffer, offset, bound, depth: read_table(buffer, offset, bound, depth + 1)
_readers[ord("V")] = lambda buffer, offset, bound, depth: (None, offset)
