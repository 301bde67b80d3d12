"""
What pamqp writes, crew_tx reads, and the other way round.

pamqp knows nothing of us: where both agree on the bytes of what hypothesis
thinks of, both have read the protocol alike.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import body, commands, decode, encode, frame, header
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp import frames, methods, spec
from crew_tx.amqp.properties import encode_properties
from crew_tx.amqp.table import decode_table, encode_table
from tests.warned import pass_over

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NAMES = TEXT.filter(lambda text: len(text.encode()) <= 128)
#: pamqp takes later ones for milliseconds.
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(
    lambda time: time.replace(microsecond=0)
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | TEXT
    | TIMES
    | st.binary(max_size=20).map(bytearray)
    | st.decimals(-2000, 2000, places=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
TABLES = st.dictionaries(NAMES, VALUES, max_size=6)
#: pamqp writes a float in 32 bits, and reads one of 64.
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)

EXCHANGES = st.from_regex(r"\A[a-zA-Z0-9-_.:]{0,40}\Z")
ARGUMENTS = {
    "bit": st.booleans(),
    "octet": st.integers(0, 2**8 - 1),
    "short": st.integers(0, 2**16 - 1),
    "long": st.integers(0, 2**32 - 1),
    "longlong": st.integers(0, 2**63 - 1),
    "shortstr": EXCHANGES,
    "longstr": TEXT,
    "table": TABLES,
}
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "content_type": NAMES,
        "content_encoding": NAMES,
        "headers": TABLES,
        "delivery_mode": st.sampled_from([1, 2]),
        "priority": st.integers(0, 255),
        "correlation_id": NAMES,
        "reply_to": NAMES,
        "expiration": NAMES,
        "message_id": NAMES,
        "timestamp": TIMES,
        "type": NAMES,
        "user_id": NAMES,
        "app_id": NAMES,
    },
)
#: Fields that pamqp wants to be what 0-9-1 says of reserved ones.
RESERVED: dict[str, Any] = {
    "ticket": 0,
    "capabilities": "",
    "insist": False,
    "out_of_band": "0",
    "immediate": False,
    "internal": False,
    "cluster_id": "",
    "known_hosts": "",
    "channel_id": "0",
}

checked = settings(max_examples=100, derandomize=True, deadline=None)


def _same(value: Any) -> Any:
    """The value as pamqp would have it: bytes are a bytearray there."""
    if isinstance(value, bytes):
        return bytearray(value)
    if isinstance(value, dict):
        return {name: _same(inner) for name, inner in value.items()}
    return [_same(inner) for inner in value] if isinstance(value, list) else value


def _their_names(properties: dict[str, Any]) -> dict[str, Any]:
    return {"message_type" if name == "type" else name: value for name, value in properties.items()}


def _our_values(properties: dict[str, Any]) -> dict[str, Any]:
    """A timestamp is seconds here, a datetime there; and pamqp leaves empty strings out."""
    return {
        name: int(value.timestamp()) if name == "timestamp" else value
        for name, value in properties.items()
        if value != ""
    }


def _method(number: int) -> st.SearchStrategy[tuple[int, tuple[Any, ...]]]:
    """A method's number, and arguments for it."""
    fields = [(field.name.replace("-", "_"), field.type) for field in spec.methods()[number].fields]
    arguments = (st.just(RESERVED[name]) if name in RESERVED else ARGUMENTS[kind] for name, kind in fields)
    return st.tuples(st.just(number), st.tuples(*arguments))


METHODS = st.sampled_from(sorted(spec.methods())).flatmap(_method)


class TableTests(SynchronousTestCase):
    """Field tables."""

    @checked
    @given(TABLES)
    def test_pamqp_reads_what_we_write(self, table: dict[str, Any]) -> None:
        """Whatever is in it."""
        data = encode_table(table)
        self.assertEqual(decode.field_table(data), (len(data), table))

    @checked
    @given(TABLES | st.dictionaries(NAMES, FLOATS, max_size=4))
    def test_we_read_what_pamqp_writes(self, table: dict[str, Any]) -> None:
        """It chooses other types of integers."""
        data = encode.field_table(table)
        found, end = decode_table(data, 0)
        self.assertEqual((_same(found), end), (table, len(data)))

    @checked
    @given(st.floats(allow_nan=False, allow_infinity=False))
    def test_pamqp_reads_our_floats(self, number: float) -> None:
        """To the last bit."""
        self.assertEqual(decode.field_table(encode_table({"k": number}))[1], {"k": number})


class MethodTests(SynchronousTestCase):
    """Every method that pamqp knows."""

    def setUp(self) -> None:
        # pamqp says so of methods that RabbitMQ still has.
        self.addCleanup(pass_over, self, "This command is deprecated")

    @checked
    @given(METHODS)
    def test_pamqp_reads_what_we_write(self, method: tuple[int, tuple[Any, ...]]) -> None:
        """Each argument under its name."""
        number, args = method
        consumed, channel, found = frame.unmarshal(data := frames.pack_method(7, number, args))
        self.assertEqual((consumed, channel, found.index), (len(data), 7, number))
        self.assertEqual([getattr(found, name) for name in found.attributes()], list(args))

    @checked
    @given(METHODS)
    def test_we_read_what_pamqp_writes(self, method: tuple[int, tuple[Any, ...]]) -> None:
        """In the order of the specification."""
        number, args = method
        theirs = commands.INDEX_MAPPING[number]
        data = frame.marshal(theirs(**dict(zip(theirs.attributes(), args, strict=True))), 7)
        [(kind, channel, (found, read))] = frames.FrameParser().feed(data)
        self.assertEqual((kind, channel, found, _same(list(read))), (frames.METHOD, 7, number, list(args)))

    def test_pamqp_knows_all_of_ours(self) -> None:
        """And we all of its."""
        self.assertEqual(set(commands.INDEX_MAPPING), set(spec.methods()))
        self.assertEqual(commands.Basic.Deliver.index, methods.BASIC_DELIVER)


class ContentTests(SynchronousTestCase):
    """Headers and bodies."""

    @checked
    @given(PROPERTIES, st.binary(max_size=300))
    def test_pamqp_reads_what_we_write(self, properties: dict[str, Any], content: bytes) -> None:
        """In frames of the size agreed on."""
        data = b"".join(frames.pack_content(1, 60, encode_properties(_our_values(properties)), content, 100))
        consumed, channel, found = frame.unmarshal(data)
        self.assertEqual((channel, found.class_id, found.body_size), (1, 60, len(content)))
        theirs = {name: value for name, value in dict(found.properties).items() if value not in (None, "")}
        self.assertEqual(theirs, {n: v for n, v in _their_names(properties).items() if v != ""})
        read = b""
        while consumed < len(data):
            size, _, part = frame.unmarshal(data[consumed:])
            read, consumed = read + part.value, consumed + size
        self.assertEqual(read, content)

    @checked
    @given(PROPERTIES, st.binary(min_size=1, max_size=300))
    def test_we_read_what_pamqp_writes(self, properties: dict[str, Any], content: bytes) -> None:
        """A header and a body in one buffer."""
        theirs = commands.Basic.Properties(**_their_names(properties))
        data = frame.marshal(header.ContentHeader(0, len(content), theirs), 1)
        data += frame.marshal(body.ContentBody(content), 1)
        [(_, _, (class_id, size, found)), (_, _, read)] = frames.FrameParser().feed(data)
        self.assertEqual((class_id, size, read), (60, len(content), content))
        self.assertEqual(_same(found), _our_values(properties))
