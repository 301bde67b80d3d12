"""Values for the tests of this room, as hypothesis makes them."""

from __future__ import annotations

from datetime import timedelta, timezone

from hypothesis import settings
from hypothesis import strategies as st

#: The same examples each time, and no clock: the machine may be busy.
SETTINGS = settings(max_examples=100, derandomize=True, deadline=None, database=None)

#: One value for each edge that every format must have right.
SMALL_TEXTS = ("", "a", "é", "\0", "\U0001f600")
SMALL_BYTES = (b"", b"a", "é".encode(), b"\0", b"\xff")

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
_FLOATS = st.floats(allow_nan=False)
_ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
_INTEGERS = st.integers() | st.integers(-(2**64) - 2, -(2**64) + 2) | st.integers(2**64 - 2, 2**64 + 2)

_FINITE = st.floats(allow_nan=False, allow_infinity=False)
_JSON_LEAVES = st.none() | st.booleans() | st.integers() | TEXTS | _FINITE

#: What JSON holds.
JSON_VALUES = st.recursive(
    _JSON_LEAVES, lambda items: st.lists(items) | st.dictionaries(TEXTS, items), max_leaves=20
)

_CBOR_KEYS = (
    st.none()
    | st.booleans()
    | _INTEGERS
    | _FLOATS
    | TEXTS
    | st.binary()
    | st.uuids()
    | st.dates()
    | st.decimals(allow_nan=False)
    | st.datetimes(timezones=_ZONES)
)

#: What CBOR holds: more leaves, sets, and keys of many types.
CBOR_VALUES = st.recursive(
    _CBOR_KEYS | st.sets(_CBOR_KEYS) | st.frozensets(_CBOR_KEYS),
    lambda items: st.lists(items) | st.dictionaries(_CBOR_KEYS | st.tuples(_CBOR_KEYS), items),
    max_leaves=20,
)
