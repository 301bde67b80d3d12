"""
``application/cbor``, the default: all that JSON has, and bytes, big integers,
decimals, dates, aware datetimes, UUIDs, sets, and keys that aren't text.

cbor2 does the work, inside bounds of ours. It would read and write much more
than we want on the wire, its releases differ in what, and it writes by
recursion in compiled code: a list nested 10,000 deep ends the process. So what
it is given is checked first, values here and bodies in ``_cbor_check``; and
what the one lets out, the other lets in.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any, Final
from uuid import UUID

import cbor2
from zope.interface import implementer

from crew_tx.codec._cbor_check import DECIMAL_DIGITS, check_body
from crew_tx.codec._cbor_heads import MAX_LEVELS
from crew_tx.codec._cbor_keys import ODD_KEYS, TOO_MANY
from crew_tx.codec._failures import UnreadableError, UnwritableError
from crew_tx.interfaces import ISerializer

#: Containers inside one another that may be written. On the wire a set is two
#: levels, a tag and an array, and a decimal at the bottom is four.
MAX_DEPTH: Final = (MAX_LEVELS - 4) // 2

#: Keys that no one can make many of with the same hash. (Few write integers of more than 64 bits.)
_SOUND_KEYS: Final = frozenset({type(None), bool, int, float, str, bytes, date})
_PLAIN: Final = _SOUND_KEYS | {bytearray, UUID}
_PLAIN_BASES: Final = (int, float, str, bytes, bytearray)
_CONTAINERS: Final = (dict, list, tuple, set, frozenset)


@implementer(ISerializer)
class CBORSerializer:
    """Writes and reads CBOR."""

    name = "cbor"
    content_type = "application/cbor"

    def encode(self, value: Any) -> bytes:
        if type(value) not in _PLAIN and _check_value(value, 1) > ODD_KEYS:
            raise UnwritableError(TOO_MANY)
        try:
            body: bytes = cbor2.dumps(value)
        except UnicodeEncodeError:
            raise UnwritableError("a text has a lone surrogate, which UTF-8 can't hold") from None
        return body

    def decode(self, body: bytes) -> Any:
        check_body(body)
        stream = BytesIO(body)
        try:
            value = cbor2.load(stream, max_depth=MAX_LEVELS)
        except cbor2.CBORDecodeEOF:
            raise UnreadableError("it is cut short") from None
        except cbor2.CBORDecodeError:
            raise UnreadableError("it is malformed, or nested too deeply") from None
        if stream.tell() != len(body):
            raise UnreadableError("bytes follow the value")
        return value


def _check_value(value: object, depth: int) -> int:
    """Refuse what some cbor2 can't write, or ``decode`` would not read; return the number of odd keys."""
    if depth > MAX_DEPTH and isinstance(value, _CONTAINERS):
        raise UnwritableError(f"it is nested more than {MAX_DEPTH} deep, or contains itself")
    odd = 0
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) not in _SOUND_KEYS:
                odd += _check_value(key, depth + 1) + (type(key) is not datetime)
            if type(item) not in _PLAIN:
                odd += _check_value(item, depth + 1)
    elif isinstance(value, (set, frozenset)):
        for item in value:
            if type(item) not in _SOUND_KEYS:
                odd += _check_value(item, depth + 1) + (type(item) is not datetime)
    elif isinstance(value, _CONTAINERS):
        for item in value:
            if type(item) not in _PLAIN:
                odd += _check_value(item, depth + 1)
    else:
        _check_leaf(value)
    return odd


def _check_leaf(value: object) -> None:
    if type(value) is datetime:
        _check_datetime(value)
    elif type(value) is Decimal:
        _check_decimal(value)
    elif type(value) not in _PLAIN and not isinstance(value, _PLAIN_BASES):
        raise UnwritableError(f"it has no form for {type(value).__module__}.{type(value).__qualname__}")


def _check_datetime(value: datetime) -> None:
    offset = value.utcoffset()
    if offset is None:
        raise UnwritableError("a datetime must be aware: give it a tzinfo, such as datetime.UTC")
    if offset.total_seconds() % 60:
        raise UnwritableError("a datetime's offset from UTC must be whole minutes")


def _check_decimal(value: Decimal) -> None:
    if len(value.as_tuple().digits) > DECIMAL_DIGITS:
        raise UnwritableError(f"a Decimal may have {DECIMAL_DIGITS} digits at most")
