"""Messages, and what is written into dead letters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.broker._errors import ReplyError
from crew_tx.broker._messages import Entry, Message, check_properties, dead_lettered, has_cycled


def message(headers: dict[str, Any] | None = None, **properties: Any) -> Message:
    """A message to the exchange ``from`` with the key ``key``."""
    if headers is not None:
        properties["headers"] = headers
    return Message("from", "key", properties, b"x")


class DeadLetterTests(SynchronousTestCase):
    """x-death."""

    def test_the_first_death(self) -> None:
        letter = dead_lettered(message({"mine": 1}, expiration="5"), "a", "expired", 7.9, "to", None)
        self.assertEqual((letter.exchange, letter.routing_key), ("to", "key"))
        self.assertEqual(
            letter.properties,
            {
                "headers": {
                    "mine": 1,
                    "x-death": [
                        {
                            "count": 1,
                            "reason": "expired",
                            "queue": "a",
                            "time": datetime.fromtimestamp(7, UTC),
                            "exchange": "from",
                            "routing-keys": ["key"],
                            "original-expiration": "5",
                        }
                    ],
                    "x-first-death-reason": "expired",
                    "x-first-death-queue": "a",
                    "x-first-death-exchange": "from",
                }
            },
        )

    def test_the_message_itself_stays_as_it_was(self) -> None:
        died = message({"x-death": []}, expiration="5")
        dead_lettered(died, "a", "expired", 7, "to", None)
        self.assertEqual(died.properties, {"headers": {"x-death": []}, "expiration": "5"})

    def test_what_a_client_made_up_does_no_harm(self) -> None:
        for made_up in (
            "text",
            3,
            ["text", 3],
            [{"queue": "a", "reason": "rejected", "count": "many"}],
            None,
        ):
            letter = dead_lettered(message({"x-death": made_up}), "a", "rejected", 0, "to", None)
            self.assertEqual(letter.headers["x-death"][0]["count"], 1)

    def test_the_same_death_moves_to_the_front(self) -> None:
        letter = message()
        for queue in ("a", "b", "a"):
            letter = dead_lettered(letter, queue, "rejected", 0, "to", None)
        deaths = [(death["queue"], death["count"]) for death in letter.headers["x-death"]]
        self.assertEqual(deaths, [("a", 2), ("b", 1)])


class CycleTests(SynchronousTestCase):
    """What goes round without anybody having rejected it."""

    def died(self, *deaths: tuple[str, str]) -> Message:
        """A message with these deaths, the latest first."""
        return message({"x-death": [{"queue": queue, "reason": reason} for queue, reason in deaths]})

    def test_without_a_rejection_on_the_way(self) -> None:
        self.assertTrue(has_cycled(self.died(("b", "expired"), ("a", "maxlen")), "a"))

    def test_with_one_on_the_way(self) -> None:
        self.assertFalse(has_cycled(self.died(("b", "rejected"), ("a", "expired")), "a"))
        self.assertFalse(has_cycled(self.died(("b", "expired"), ("a", "rejected")), "a"))

    def test_with_one_before(self) -> None:
        self.assertTrue(has_cycled(self.died(("a", "expired"), ("b", "rejected")), "a"))

    def test_another_queue(self) -> None:
        self.assertFalse(has_cycled(self.died(("b", "expired")), "a"))
        self.assertFalse(has_cycled(message(), "a"))


class PropertiesTests(SynchronousTestCase):
    """What the broker reads of a message."""

    def test_the_keys_of_copies(self) -> None:
        keys = check_properties({"headers": {"CC": ["a", 1, "b"], "BCC": ["c"]}})
        self.assertEqual(keys, ["a", "b", "c"])

    def test_nothing_to_read(self) -> None:
        self.assertEqual(check_properties({}), [])
        self.assertEqual(check_properties({"headers": None, "delivery_mode": 1}), [])

    def test_an_expiration(self) -> None:
        check_properties({"expiration": "315360000000"})
        for wrong in ("", "a", "1a", "-1", "315360000001"):
            self.assertRaises(ReplyError, check_properties, {"expiration": wrong})

    def test_hidden_copies_are_put_away(self) -> None:
        shown = message({"BCC": ["a"], "mine": 1}).with_hidden_copies()
        self.assertEqual((shown.headers, shown.hidden), ({"mine": 1}, ("a",)))
        self.assertEqual(dead_lettered(shown, "q", "rejected", 0, "to", None).hidden, ("a",))
        self.assertEqual(dead_lettered(shown, "q", "rejected", 0, "to", "other").hidden, ())

    def test_properties_that_came_leave_as_they_came(self) -> None:
        self.assertEqual(Message("", "", {"message_id": "m"}, b"", b"as it came").encoded, b"as it came")


class EntryTests(SynchronousTestCase):
    """Which of two is delivered first."""

    def test_the_higher_priority_and_then_the_older(self) -> None:
        entries = [
            Entry(message(), position, priority, None) for position, priority in ((1, 0), (2, 5), (3, 5))
        ]
        self.assertEqual([entry.position for entry in sorted(entries)], [2, 3, 1])
