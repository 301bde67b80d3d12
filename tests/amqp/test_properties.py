"""A message's properties, both ways."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import combinations
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp import spec
from crew_tx.amqp.properties import decode_properties, encode_properties
from crew_tx.amqp.table import encode_table
from crew_tx.errors import EncodeError, ProtocolError
from tests.amqp import captured

ALL: dict[str, Any] = {
    "content_type": "application/cbor",
    "content_encoding": "gzip",
    "headers": {"crew-task": "test", "CC": ["@client"]},
    "delivery_mode": 2,
    "priority": 255,
    "correlation_id": "é",
    "reply_to": "client",
    "expiration": "1000",
    "message_id": "id",
    "timestamp": 2**63,
    "type": "crew.call",
    "user_id": "guest",
    "app_id": "crew_tx",
    "cluster_id": "",
}


def _decode(payload: bytes) -> dict[str, Any]:
    return decode_properties(payload, 0, len(payload))


class WritingTests(SynchronousTestCase):
    """What ``encode_properties`` makes."""

    def test_every_one_two_and_thirteen_come_back(self) -> None:
        """Alone, with each other, and all but one."""
        for count in (0, 1, 2, 13, 14):
            for names in combinations(ALL, count):
                properties = {name: ALL[name] for name in names}
                self.assertEqual(_decode(encode_properties(properties)), properties)

    def test_they_are_these_bytes(self) -> None:
        """Written by hand from the protocol."""
        payload = b"\x90\x40\x01a\x02" + b"\x00\x00\x00\x00\x00\x00\x01\x02"
        self.assertEqual(
            encode_properties({"content_type": "a", "delivery_mode": 2, "timestamp": 258}), payload
        )

    def test_their_order_does_not_matter(self) -> None:
        """On the wire it is the specification's."""
        backwards = dict(reversed(ALL.items()))
        self.assertEqual(encode_properties(backwards), encode_properties(ALL))

    def test_amqps_own_names_are_taken(self) -> None:
        """With hyphens, as AMQP 0-9-1 has them, or with spaces, as 0-8 did."""
        for mark in "- ":
            others = {name.replace("_", mark): value for name, value in ALL.items()}
            self.assertEqual(encode_properties(others), encode_properties(ALL))
            without = {name: value for name, value in ALL.items() if name != "type"}
            self.assertEqual(encode_properties({**others, "type": None}), encode_properties(without))

    def test_none_is_the_same_as_nothing(self) -> None:
        """Its flag isn't set."""
        self.assertEqual(encode_properties(dict.fromkeys(ALL)), b"\x00\x00")
        self.assertEqual(
            encode_properties({**ALL, "headers": None, "priority": None, "reply_to": None}),
            encode_properties({n: v for n, v in ALL.items() if n not in ("headers", "priority", "reply_to")}),
        )

    def test_headers_may_be_encoded_already(self) -> None:
        """With their size in front."""
        encoded = encode_table(ALL["headers"])
        self.assertEqual(encode_properties({**ALL, "headers": encoded}), encode_properties(ALL))
        self.assertEqual(
            encode_properties({"headers": encoded, "type": "\udcff"}),
            encode_properties({"headers": ALL["headers"], "type": "\udcff"}),
        )

    def test_what_was_not_utf_8_is_written_as_it_came(self) -> None:
        """By ``surrogateescape``."""
        payload = b"\x00\x20\x02\xff\xfe"
        self.assertEqual(_decode(payload), {"type": "\udcff\udcfe"})
        self.assertEqual(encode_properties(_decode(payload)), payload)

    def test_an_unknown_name_is_refused(self) -> None:
        """Rather than dropped; the error lists the known ones."""
        for name in ("delivery__mode", "persistent", 5):
            error = self.assertRaises(EncodeError, encode_properties, {name: 1})
            self.assertIn(repr(name), str(error))
            self.assertIn("delivery_mode", str(error))

    def test_what_does_not_fit_is_refused_by_name(self) -> None:
        """With the size, where that is what is wrong."""
        for name, value, why in (
            ("message_id", "x" * 256, "256 bytes"),
            ("message_id", "é" * 128, "256 bytes"),
            ("message_id", 5, "not int"),
            ("message_id", b"id", "not bytes"),
            ("message_id", "\ud800", "surrogate"),
            ("priority", 256, "255"),
            ("delivery_mode", -1, "255"),
            ("priority", "1", "integer"),
            ("timestamp", -1, "timestamp"),
            ("timestamp", 1.5, "integer"),
            ("headers", {"a": {"b": object()}}, "a.b"),
            ("headers", [1], "headers"),
            ("headers", 5, "headers"),
        ):
            error = self.assertRaises(EncodeError, encode_properties, {**ALL, name: value})
            self.assertIn(f"the property {name}: ", str(error))
            self.assertIn(why, str(error))


class ReadingTests(SynchronousTestCase):
    """What ``decode_properties`` makes of bytes."""

    def _assert_refused(self, payload: bytes, *bounds: int) -> None:
        error = self.assertRaises(ProtocolError, decode_properties, payload, *(bounds or (0, len(payload))))
        self.assertEqual(error.reply_code, 502)

    def test_each_message_has_a_dict_of_its_own(self) -> None:
        """Changing one changes no other."""
        payload = encode_properties(ALL)
        first = _decode(payload)
        first["headers"]["CC"].append("changed")
        first["type"] = "changed"
        self.assertEqual(_decode(payload), ALL)

    def test_properties_cut_anywhere_are_refused(self) -> None:
        """Whether the buffer ends there, or the frame alone."""
        payload = encode_properties(ALL)
        for size in range(len(payload)):
            self._assert_refused(payload[:size])
            self._assert_refused(payload, 0, size)

    def test_properties_with_more_behind_them_are_refused(self) -> None:
        """They fill their frame."""
        self._assert_refused(encode_properties(ALL) + b"\x00")

    def test_flags_that_mean_nothing_are_refused(self) -> None:
        """Nor is there a second word of flags."""
        self._assert_refused(b"\x00\x01\x00\x00")
        self._assert_refused(b"\x00\x02")

    def test_every_flag_is_that_of_the_specification(self) -> None:
        """From the highest bit down, in the order of the fields."""
        for place, field in enumerate(spec.load().classes.byname["basic"].fields):
            name = field.name.replace("-", "_")
            payload = encode_properties({name: ALL[name]})
            self.assertEqual(int.from_bytes(payload[:2], "big"), 0x8000 >> place)


class CapturedTests(SynchronousTestCase):
    """Headers of a real broker."""

    def test_a_dead_letter_is_read(self) -> None:
        """Its ``x-death`` is an array of tables with a timestamp and a 64-bit count."""
        frame = captured.DEAD_LETTER_HEADER
        properties = decode_properties(frame, 19, len(frame) - 1)
        headers = properties.pop("headers")
        [death] = headers["x-death"]
        self.assertIs(death["time"].tzinfo, UTC)
        self.assertGreater(death.pop("time"), datetime(2020, 1, 1, tzinfo=UTC))
        self.assertEqual(
            death,
            {
                "count": 1,
                "reason": "expired",
                "queue": "crew-capture-queue",
                "exchange": "",
                "routing-keys": ["crew-capture-queue", "@client"],
                "original-expiration": "1",
            },
        )
        self.assertEqual(
            (headers["d"], headers["x"], headers["l"], headers["F"]),
            (Decimal("-1.25"), b"\xff\xfe", -(2**40), {"A": [1, [], {}]}),
        )
        self.assertEqual((properties["user_id"], properties["timestamp"]), ("guest", 1_700_000_000))
        self.assertNotIn("expiration", properties)
