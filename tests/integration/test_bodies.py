"""What goes out comes back: bodies of every size and codec, headers of every type."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from crew_tx.amqp.protocol import FRAME_MAX
from crew_tx.worker import Task, context
from tests.integration.support import BrokerTestCase

MIB = 1024 * 1024


class BodyTests(BrokerTestCase):
    async def asyncSetUp(self) -> None:
        @Task(self.name())
        def echo(req: Any) -> Any:
            context.headers.update(context.request.headers)
            return req

        self.task = echo.__crew_task__.task_id  # type: ignore[attr-defined]
        await self.worker(echo)
        self.crew = await self.client()

    async def test_the_smallest_and_the_non_ascii_in_every_codec(self) -> None:
        """0 bytes, 1 byte, and ``é``."""
        await self.asyncSetUp()
        cases: dict[str, list[Any]] = {
            "cbor": ["", "x", "é", b"", b"\x00", b"\xc3\xa9", None, {"é": "é"}],
            "json": ["", "x", "é", None, {"é": "é"}],
            "text": ["", "x", "é"],
            "bytes": [b"", b"\x00", "é".encode()],
        }
        for serializer, values in cases.items():
            for value in values:
                self.assertEqual(await self.crew.call(self.task, value, serializer=serializer), value)

    async def test_every_size_around_a_frame(self) -> None:
        """The frame is the largest that both sides take: its payload, and some bytes less and more."""
        await self.asyncSetUp()
        for frames in (1, 2):
            for size in range(frames * (FRAME_MAX - 8) - 3, frames * (FRAME_MAX - 8) + 4):
                value = bytes(size // 256) + b"\xce" * (size - size // 256)
                self.assertEqual(
                    await self.crew.call(
                        self.task, value, serializer="bytes", compress=False, persistent=False
                    ),
                    value,
                )

    async def test_twelve_mebibytes(self) -> None:
        """In bytes and in text, compressed and not."""
        await self.asyncSetUp()
        value = bytes(range(256)) * (12 * MIB // 256)
        for compress in (False, "gzip"):
            self.assertEqual(await self.crew.call(self.task, value, compress=compress, timeout=30), value)
        text = "é" * (6 * MIB)
        self.assertEqual(await self.crew.call(self.task, text, compress=False, timeout=30), text)

    async def test_headers_of_every_type(self) -> None:
        """Each type of AMQP's tables that the broker keeps, non-ASCII names included."""
        await self.asyncSetUp()
        headers = {
            "überschrift": "größe",
            "true": True,
            "false": False,
            "none": None,
            "small": 1,
            "negative": -1,
            "long": 2**40,
            "longest": 2**63 - 1,
            "least": -(2**63),
            "float": 1.5,
            "bytes": b"\x00\xff",
            "decimal": Decimal("12.34"),
            "time": datetime(2024, 2, 29, 12, 30, tzinfo=UTC),
            "list": [1, "zwei", [3.0, None], {"vier": 4}],
            "table": {"inner": {"innermost": [True]}},
            "empty": {},
            "text": "",
        }
        reply = await self.crew.request(self.task, headers=headers)
        self.assertEqual(reply.headers, headers)
        self.assertIs(reply.headers["true"], True)
