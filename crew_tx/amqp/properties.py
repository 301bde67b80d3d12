"""
The properties of a message, to bytes and back.

Messages of one program look alike: they have the same properties set. So each
set has a function of its own each way, written out when it is first met. What
such a function can't do, since a value is None, or a string isn't UTF-8, or
is wrong, is done again step by step, which knows what to complain about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from struct import Struct
from struct import error as StructError
from typing import Any

from txamqp.spec import pythonize

from crew_tx.amqp import spec
from crew_tx.amqp._source import Item, compiled, function, items_of, read_lines, tolerant, write_pieces
from crew_tx.amqp.table_reader import malformed, read_table
from crew_tx.amqp.table_writer import OCTETS, encode_short_string, encode_table
from crew_tx.errors import EncodeError

Properties = dict[str, Any]
Reader = Callable[[bytes, int, int], Properties]

#: How many sets of properties have a function at one time, each way.
_MOST_SETS = 512

#: Each property's flag and field, by its name with underscores, in the order of the wire.
_FIELDS = {
    pythonize(field.name): (0x8000 >> place, field)
    for place, field in enumerate(spec.load().classes.byname["basic"].fields)
}
_ALL_FLAGS = sum(flag for flag, _ in _FIELDS.values())
_flags = Struct("!H")
_numbers = {"octet": Struct("!B"), "timestamp": Struct("!Q")}


def encode_properties(properties: Mapping[str, Any]) -> bytes:
    """
    The flags, and the values of the properties that are set.

    :param properties: by names with underscores, or AMQP's own with hyphens,
        or those with spaces that txamqp's users write. None is the same as
        leaving it out. ``headers`` may be a table that is encoded already,
        with its size in front.
    :raises EncodeError: naming the property.
    """
    try:
        return _encoder(tuple(properties))(properties.values())
    except (AttributeError, IndexError, TypeError, UnicodeEncodeError, StructError, EncodeError):
        return _encode_step_by_step(properties)


def decode_properties(buffer: bytes, offset: int, end: int) -> Properties:
    """
    Read what :func:`encode_properties` writes.

    :param end: where it has to end.
    :raises ProtocolError: 502, if it is malformed.
    """
    try:
        [flags] = _flags.unpack_from(buffer, offset)
        return read_properties(flags, buffer, offset + 2, end)
    except (IndexError, StructError):
        raise malformed("properties that are cut short") from None


def read_properties(flags: int, buffer: bytes, offset: int, end: int) -> Properties:
    """Read what follows the flags; beyond the buffer's end it is an IndexError or a struct.error."""
    try:
        return _decoder(flags)(buffer, offset, end)
    except UnicodeDecodeError:
        return _decoder(flags, tolerant)(buffer, offset, end)


@lru_cache(maxsize=_MOST_SETS)
def _encoder(names: tuple[str, ...]) -> Callable[[Iterable[Any]], bytes]:
    """Write the function for properties of these names, given in this order."""
    given = [_known(name) for name in names]
    present = [name for name in _FIELDS if name in given]
    strings = [name for name in present if _FIELDS[name][1].type == "shortstr"]
    pieces = write_pieces(_items(present), _WRITERS)
    flags = _flags.pack(sum(_FIELDS[name][0] for name in present))
    lines = [
        f"[{', '.join(given)}] = values",
        *(f"{name} = {name}.encode()" for name in strings),
        f"return b''.join(({flags!r}, {', '.join(pieces)}))",
    ]
    source = function("encode(values)", lines)
    encode: Callable[[Iterable[Any]], bytes] = compiled(source, _NAMES)["encode"]
    return encode


@lru_cache(maxsize=_MOST_SETS)
def _decoder(flags: int, change: Callable[[str], str] = str) -> Reader:
    """Write the function for properties with these flags set."""
    if flags & ~_ALL_FLAGS:
        raise malformed(f"property flags {flags:#06x}, of which some mean nothing")
    present = [name for name, (flag, _) in _FIELDS.items() if flags & flag]
    lines = [
        *read_lines(_items(present)),
        "if offset != end:",
        "    raise malformed('properties that do not end where their frame does')",
        f"return {{{', '.join(f'{name!r}: {name}' for name in present)}}}",
    ]
    source = change(function("decode(buffer, offset, end)", lines))
    decode: Reader = compiled(source, _NAMES)["decode"]
    return decode


#: What the functions refer to.
_NAMES = {"OCTETS": OCTETS, "encode_table": encode_table, "malformed": malformed, "read_table": read_table}
_WRITERS = {
    "shortstr": "OCTETS[len({0})], {0}",
    "table": "{0} if {0}.__class__ is bytes else encode_table({0})",
}


def _items(names: list[str]) -> list[Item]:
    return items_of(_FIELDS[name][1] for name in names)


def _known(name: object) -> str:
    python_name = pythonize(name) if isinstance(name, str) else ""
    if python_name not in _FIELDS:
        raise EncodeError(f"there is no property {name!r}; there are {', '.join(_FIELDS)}")
    return python_name


def _encode_step_by_step(properties: Mapping[str, Any]) -> bytes:
    values = {_known(name): value for name, value in properties.items() if value is not None}
    flags, pieces = 0, [b""]
    for name, (flag, field) in _FIELDS.items():
        if name in values:
            flags |= flag
            pieces.append(_encode_one(name, field.type, values[name]))
    pieces[0] = _flags.pack(flags)
    return b"".join(pieces)


def _encode_one(name: str, kind: str, value: Any) -> bytes:
    try:
        if kind == "shortstr":
            return encode_short_string(value)
        if kind == "table":
            return value if isinstance(value, bytes) else encode_table(dict(value))
        return _numbers[kind].pack(value)
    except (EncodeError, StructError, TypeError, ValueError) as error:
        raise EncodeError(f"the property {name}: {error}") from None
