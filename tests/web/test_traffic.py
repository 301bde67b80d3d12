"""What goes through a gateway, counted."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import (
    ConnectionLostError,
    ExpirationError,
    NoWorkersError,
    RemoteError,
    TaskCancelledError,
    TaskTimeoutError,
    UnknownTaskError,
    UnroutableError,
)
from crew_tx.web.traffic import BUCKETS, GONE, MOST_TASKS, OTHER, Route, Traffic, route_of


class RouteTests(SynchronousTestCase):
    """The requests of one route."""

    def test_routes_are_few(self) -> None:
        """Whatever the path."""
        names = [route_of(path, False) for path in ("", "call", "apply", "apply-async", "healthz", "x")]
        self.assertEqual(["overview", "call", "apply", "apply", "other", "other"], names)
        self.assertEqual(["site", "site"], [route_of(path, True) for path in ("", "*")])
        routes = Traffic().routes
        self.assertEqual(10, len(routes))

    def test_methods_are_few(self) -> None:
        """A client may send any word for one."""
        route = Route(True)
        for number in range(50):
            route.count(b"BREW%d" % number, 405)
        route.count(b"GET", 200)
        self.assertEqual({(OTHER, 405): 50, ("GET", 200): 1}, route.answered)

    def test_times_go_into_buckets_by_their_upper_bounds(self) -> None:
        """A time that is a bound is inside of it, and there is one for all that take longer."""
        route = Route(True)
        for seconds in (0.0, BUCKETS[0], BUCKETS[0] + 0.001, BUCKETS[-1] + 1):
            route.took(seconds)
        self.assertEqual((2, 1, 1), (route.buckets[0], route.buckets[1], route.buckets[-1]))
        self.assertEqual(len(BUCKETS) + 1, len(route.buckets))

    def test_long_polls_and_streams_are_not_timed(self) -> None:
        """They take what their clients like."""
        routes = Traffic().routes
        untimed = [name for name, route in routes.items() if not route.buckets]
        self.assertEqual(["overview", "results", "subscribe"], untimed)
        routes["subscribe"].took(30.0)
        self.assertEqual(([], 0.0), (routes["subscribe"].buckets, routes["subscribe"].seconds))


class CallTests(SynchronousTestCase):
    """Calls, by task and outcome."""

    def test_each_outcome_has_a_word(self) -> None:
        """Those of workers where a worker has the same."""
        traffic = Traffic(["a"])
        errors: list[tuple[Exception, str]] = [
            (RemoteError("ValueError", "no"), "raised"),
            (TaskTimeoutError("late"), "timeout"),
            (ExpirationError.__new__(ExpirationError), "expired"),
            (CancelledError(), "cancelled"),
            (TaskCancelledError("cancelled"), "cancelled"),
            (UnroutableError.__new__(UnroutableError), "unknown-task"),
            (UnknownTaskError("unknown"), "unknown-task"),
            (NoWorkersError.__new__(NoWorkersError), "no-worker"),
            (ConnectionLostError("lost"), "failed"),
        ]
        for error, word in errors:
            before = traffic.calls["a", word]
            failure = Failure(error)
            self.assertIs(failure, traffic.ended(failure, "a"))
            self.assertEqual(before + 1, traffic.calls["a", word], word)
        value: Any = object()
        self.assertIs(value, traffic.ended(value, "a"))
        self.assertEqual(1, traffic.calls["a", "ok"])

    def test_callers_can_not_make_labels(self) -> None:
        """A task that no worker has answered, and that is not exposed by its name, has none."""
        traffic = Traffic(["a"])
        for number in range(100):
            traffic.ended(Failure(UnknownTaskError("unknown")), f"x{number}")
        self.assertEqual({(OTHER, "unknown-task"): 100}, traffic.calls)

    def test_a_task_that_was_answered_has_its_name(self) -> None:
        """From then on, whatever it comes to."""
        traffic = Traffic()
        traffic.ended(Failure(TaskTimeoutError("late")), "b")
        traffic.ended(Failure(NoWorkersError.__new__(NoWorkersError)), "b")
        self.assertEqual({("b", "timeout"): 1, ("b", "no-worker"): 1}, traffic.calls)

    def test_there_are_so_many_tasks_at_the_most(self) -> None:
        """Further ones are all the same."""
        traffic = Traffic([f"named{number}" for number in range(150)])
        for number in range(100):
            traffic.ended(None, f"answered{number}")
        self.assertEqual(50, traffic.calls[OTHER, "ok"])
        self.assertEqual(51, len(traffic.calls))
        many = Traffic([f"named{number}" for number in range(MOST_TASKS + 50)])
        for number in range(MOST_TASKS + 50):
            many.ended(None, f"named{number}")
        self.assertEqual(50, many.calls[OTHER, "ok"])


class GoneTests(SynchronousTestCase):
    """A client that is not answered."""

    def test_its_status_is_no_number(self) -> None:
        """So that nobody takes it for one that was sent."""
        route = Route(True)
        route.count(b"POST", GONE)
        self.assertEqual({("POST", GONE): 1}, route.answered)
