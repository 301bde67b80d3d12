"""
Field tables and short strings, written as RabbitMQ reads them.

Ten types are written. A string becomes ``S`` in UTF-8; short strings and names
may hold what ``surrogateescape`` made of bytes that aren't UTF-8, so that what
was read can be written again unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import isfinite
from struct import Struct
from typing import Any

from crew_tx.errors import EncodeError

#: How deep tables and arrays may nest, both ways.
DEEPEST = 32

#: The octet in front of a short string, by the string's size.
OCTETS = [bytes((size,)) for size in range(256)]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)

_pack_size = Struct("!I").pack
_pack_sized = Struct("!BI").pack
_pack_int = Struct("!Bi").pack
_pack_long = Struct("!cq").pack
_pack_float = Struct("!cd").pack
_pack_time = Struct("!cQ").pack
_pack_decimal = Struct("!cBi").pack

# Header names are few and come again and again: each is encoded once.
_names: dict[str, bytes] = {}
_MOST_NAMES = 1024


class _UnencodableError(Exception):
    """What can't be written; each level that it passes adds its key, innermost first."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []

    def __str__(self) -> str:
        return f"{'.'.join(reversed(self.path))}: {self.reason}" if self.path else self.reason


def encode_short_string(value: str) -> bytes:
    """
    A short string: an octet for its size, and its UTF-8.

    :raises EncodeError: if it is over 255 bytes, or has lone surrogates that
        ``surrogateescape`` did not make.
    """
    try:
        return _short_string(value)
    except _UnencodableError as error:
        raise EncodeError(str(error)) from None


def encode_table(table: Mapping[str, Any]) -> bytes:
    """
    A field table with its size in front.

    :raises EncodeError: naming the path of keys to what can't be written.
    """
    try:
        return _table(table, 0)
    except _UnencodableError as error:
        raise EncodeError(str(error)) from None


def _short_string(value: Any) -> bytes:
    try:
        text: bytes = value.encode()
        return OCTETS[len(text)] + text
    except (AttributeError, IndexError, UnicodeEncodeError):
        return _unusual_short_string(value)


def _unusual_short_string(value: object) -> bytes:
    if not isinstance(value, str):
        raise _UnencodableError(f"a short string is a str, not {type(value).__name__}")
    try:
        text = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise _UnencodableError("a string has a lone surrogate") from None
    if len(text) > 255:
        raise _UnencodableError(f"a short string of {len(text)} bytes; 255 is the most")
    return OCTETS[len(text)] + text


def _name(name: str) -> bytes:
    """Encode a name that is met for the first time."""
    encoded = _short_string(name)
    if len(_names) < _MOST_NAMES:
        _names[name] = encoded
    return encoded


def _table(table: Mapping[str, Any], depth: int) -> bytes:
    if depth == DEEPEST:
        raise _UnencodableError(f"it nests deeper than {DEEPEST}")
    pieces: list[bytes] = []
    append = pieces.append
    for name, value in table.items():
        try:
            append(_names.get(name) or _name(name))
            # The two that nearly all headers are, without a call.
            kind = type(value)
            if kind is str:
                text = value.encode()
                append(_pack_sized(83, len(text)))
                append(text)
            elif kind is int and -0x80000000 <= value <= 0x7FFFFFFF:
                append(_pack_int(73, value))
            else:
                append(_value(value, depth))
        except (_UnencodableError, UnicodeEncodeError) as error:
            raise _at(name, error) from None
    content = b"".join(pieces)
    return _pack_size(len(content)) + content


def _array(items: list[Any] | tuple[Any, ...], depth: int) -> bytes:
    if depth + 1 == DEEPEST:
        raise _UnencodableError(f"it nests deeper than {DEEPEST}")
    pieces: list[bytes] = []
    for item in items:
        try:
            pieces.append(_value(item, depth + 1))
        except (_UnencodableError, UnicodeEncodeError) as error:
            raise _at(len(pieces), error) from None
    content = b"".join(pieces)
    return _pack_sized(65, len(content)) + content


def _at(key: object, error: _UnencodableError | UnicodeEncodeError) -> _UnencodableError:
    if isinstance(error, UnicodeEncodeError):
        error = _UnencodableError("a string has a lone surrogate")
    error.path.append(str(key)[:80])
    return error


def _value(value: object, depth: int) -> bytes:
    encode = _encoders.get(type(value)) or _inherited(value)
    return encode(value, depth)


def _inherited(value: object) -> Callable[[Any, int], bytes]:
    for kind in type(value).__mro__:
        if kind in _encoders:
            return _encoders[kind]
    raise _UnencodableError(f"a table has no type for {type(value).__module__}.{type(value).__qualname__}")


def _string(value: str, depth: int) -> bytes:
    text = value.encode()
    return _pack_sized(83, len(text)) + text


def _integer(value: int, depth: int) -> bytes:
    if -0x80000000 <= value <= 0x7FFFFFFF:
        return _pack_int(73, value)
    if -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
        return _pack_long(b"l", value)
    raise _UnencodableError("an integer outside signed 64 bits")


def _float(value: float, depth: int) -> bytes:
    # RabbitMQ can't read the others, and closes the connection for them.
    if not isfinite(value):
        raise _UnencodableError("a float that isn't finite")
    return _pack_float(b"d", value)


def _octets(value: bytes | bytearray | memoryview, depth: int) -> bytes:
    content = bytes(value)
    return _pack_sized(120, len(content)) + content


def _time(value: datetime, depth: int) -> bytes:
    if value.utcoffset() is None:
        raise _UnencodableError("a datetime without a time zone")
    seconds = (value - _EPOCH) // _SECOND
    if seconds < 0:
        raise _UnencodableError("a datetime before 1970")
    return _pack_time(b"T", seconds)


def _decimal(value: Decimal, depth: int) -> bytes:
    sign, digits, exponent = value.as_tuple()
    # What isn't finite has a letter for its exponent. Not Decimal's own arithmetic: it rounds.
    if isinstance(exponent, int) and -255 <= exponent <= 9 and len(digits) <= 10:
        unscaled = int("".join(map(str, digits))) * 10 ** max(0, exponent) * (-1 if sign else 1)
        if -0x80000000 <= unscaled <= 0x7FFFFFFF:
            return _pack_decimal(b"D", max(0, -exponent), unscaled)
    raise _UnencodableError("a Decimal that 32 bits and 255 places don't hold")


_encoders: dict[type, Callable[[Any, int], bytes]] = {
    str: _string,
    bool: lambda value, depth: b"t\x01" if value else b"t\x00",
    int: _integer,
    float: _float,
    type(None): lambda value, depth: b"V",
    dict: lambda value, depth: b"F" + _table(value, depth + 1),
    list: _array,
    tuple: _array,
    bytes: _octets,
    bytearray: _octets,
    memoryview: _octets,
    datetime: _time,
    Decimal: _decimal,
}
