"""Tests of services/example.py."""

from __future__ import annotations

from tests.services.support import ServiceTestCase


class ExampleTests(ServiceTestCase):
    """arpc's service."""

    def setUp(self) -> None:
        self.load("example")

    def test_its_methods_are_tasks_in_one_queue(self) -> None:
        """And so is its name."""
        self.assertEqual(
            {"example": ["example", "example.add", "example.describe", "example.divide"]},
            self.registry.queues(),
        )

    def test_add_adds(self) -> None:
        """By the method's own name."""
        self.assertEqual(({"res": 12}, None, {}), self.perform("example.add", {"x": 4, "y": 8}))

    def test_add_is_called_arpcs_way_as_well(self) -> None:
        """By the service's name, and c."""
        self.assertEqual({"res": 30}, self.perform("example", {"c": "add", "x": 10, "y": 20}).value)

    def test_divide_divides(self) -> None:
        """As long as it can."""
        self.assertEqual({"res": 1.5}, self.perform("example.divide", {"x": 3, "y": 2}).value)

    def test_divide_by_0_is_an_error_that_shows_where(self) -> None:
        """The traceback names the method and has its line."""
        answered = self.perform("example.divide", {"x": 1, "y": 0})
        self.assertEqual("raised", answered.error)
        self.assertEqual("ZeroDivisionError", answered.value["type"])
        self.assertIn("in c_divide", answered.value["traceback"])
        self.assertIn('req["x"] / req["y"]', answered.value["traceback"])

    def test_describe_tells_of_the_call(self) -> None:
        """Its id, its headers, and the time that it has left."""
        answered = self.perform("example.describe", {}, headers={"colour": "grün"})
        self.assertEqual(
            {
                "id": "call-1",
                "task": "example.describe",
                "priority": 0,
                "attempt": 1,
                "headers": {"colour": "grün"},
                "time_left": 6.0,
            },
            answered.value,
        )

    def test_describe_names_the_worker_in_a_header(self) -> None:
        """Beside the value."""
        self.assertEqual({"served-by": "worker-1"}, self.perform("example.describe", {}).headers)
