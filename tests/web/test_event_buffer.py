"""The latest events of a channel."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.web.event_buffer import EventBuffer

EPOCH = "0123abcd"


class BufferTests(SynchronousTestCase):
    """What is kept, and where clients go on."""

    def buffer(self, *sizes: int, most: int = 3, most_bytes: int = 100) -> EventBuffer:
        buffer = EventBuffer(EPOCH, most, most_bytes)
        for size in sizes:
            buffer.add({"id": buffer.next_id()}, b"", size)
        return buffer

    def numbers(self, buffer: EventBuffer, behind: int) -> list[int]:
        return [item.number for item in buffer.behind(behind)]

    def test_events_are_numbered_from_one(self) -> None:
        """Their ids have the epoch."""
        buffer = self.buffer(1, 1)
        self.assertEqual(["0123abcd-1", "0123abcd-2"], [item.value["id"] for item in buffer.behind(0)])
        self.assertEqual(([2], []), (self.numbers(buffer, 1), self.numbers(buffer, 2)))

    def test_the_oldest_go_first(self) -> None:
        """By number, and by size; the latest stays."""
        self.assertEqual([3, 4, 5], self.numbers(self.buffer(1, 1, 1, 1, 1), 0))
        self.assertEqual([2, 3], self.numbers(self.buffer(60, 60, 40), 0))
        self.assertEqual([2], self.numbers(self.buffer(1, 500), 0))

    def test_what_is_gone_is_counted(self) -> None:
        """From where a client was."""
        buffer = self.buffer(1, 1, 1, 1, 1)
        self.assertEqual([2, 1, 0, 0], [buffer.missed(number) for number in (0, 1, 2, 5)])

    def test_a_client_goes_on_where_it_was(self) -> None:
        """At the end, where it is new; from the first, where nobody knows."""
        buffer = self.buffer(1, 1, 1, 1, 1)
        for last_id, cursor in (
            (None, (5, False)),
            ("", (5, False)),
            (f"{EPOCH}-4", (4, False)),
            (f"{EPOCH}-0", (0, False)),
            (f"{EPOCH}-6", (2, True)),
            ("ffffffff-4", (2, True)),
            ("4", (2, True)),
            (f"{EPOCH}-4\n", (2, True)),
        ):
            self.assertEqual(cursor, buffer.cursor(last_id), last_id)
