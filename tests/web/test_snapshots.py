"""Snapshots as server-sent events, over connections that end and stall."""

from __future__ import annotations

import json
from typing import Any

from crew_tx.web import overview
from crew_tx.web.limits import Limits
from tests.web import tasks
from tests.web.support import GatewayTestCase, Visitor

PATH = "/overview/events"


class StreamTests(GatewayTestCase):
    """``GET /overview/events``."""

    tasks = tasks.ALL

    def look(self) -> Visitor:
        return self.begin_request("GET", PATH)

    def snapshots(self, visitor: Visitor) -> list[dict[str, Any]]:
        """Take those that have come; chunks begin with their length."""
        lines = visitor.received.split(b"\r\n")
        visitor.received = b""
        events = [line for line in lines if line.startswith(b"data: ")]
        self.assertTrue(all(event.endswith(b"\n\n") for event in events))
        return [json.loads(event[6:]) for event in events]

    def assert_nobody_looks(self) -> None:
        self.assertEqual([], self.gateway.overview._listeners)
        self.assertIsNone(self.gateway.overview._next)

    def test_one_comes_at_once_and_one_a_second(self) -> None:
        """The first may be empty."""
        self.begin()
        visitor = self.look()
        self.assertIn(b"content-type: text/event-stream", visitor.received.lower())
        self.assertIn(b"cache-control: no-store", visitor.received.lower())
        self.assertEqual([None], [told["age"] for told in self.snapshots(visitor)])
        for _ in range(40):
            self.harness.advance(0.1)
        told = self.snapshots(visitor)
        self.assertIn(len(told), (3, 4))
        self.assertEqual([1] * len(told), [len(each["workers"]) for each in told])

    def test_one_who_leaves_is_told_no_more(self) -> None:
        """And leaves no delayed call, which the harness looks for as well."""
        self.begin()
        first, second = self.look(), self.look()
        self.harness.advance(2)
        first.transport.abortConnection()  # type: ignore[union-attr,attr-defined]
        self.harness.flush()
        self.assertEqual(1, len(self.gateway.overview._listeners))
        second.transport.abortConnection()  # type: ignore[union-attr,attr-defined]
        self.harness.flush()
        self.assert_nobody_looks()
        self.assertEqual(0, self.gateway.site.admission.total)

    def test_one_who_reads_slowly_gets_the_latest(self) -> None:
        """And not all that there was meanwhile."""
        self.begin(Limits(slow_reader=1000))
        visitor = self.look()
        visitor.transport.pauseProducing()  # type: ignore[union-attr,attr-defined]
        self.fill(200)
        visitor.transport.resumeProducing()  # type: ignore[union-attr,attr-defined]
        self.harness.flush()
        told = self.snapshots(visitor)
        self.assertLess(len(told), 150)
        self.assertLess(self.harness.clock.seconds() - told[-1]["time"], 2.0)

    def fill(self, seconds: int) -> None:
        """Let snapshots be told that are as long as those of many workers."""
        broken = "x" * 500
        for _ in range(20):
            self.harness.client.call("broken", broken).addErrback(lambda failure: None)
        self.harness.flush()
        for _ in range(seconds * 2):
            self.harness.advance(0.5)

    def test_one_who_reads_nothing_is_let_go(self) -> None:
        """After its time, and with nothing left behind."""
        self.begin(Limits(slow_reader=20))
        visitor = self.look()
        visitor.transport.pauseProducing()  # type: ignore[union-attr,attr-defined]
        self.fill(200)
        self.assert_nobody_looks()
        self.assertEqual(0, len(self.gateway.site.connections))

    def test_so_many_may_look(self) -> None:
        """The next one is answered so, and leaves nothing behind."""
        self.patch(overview, "MOST_LISTENERS", 1)
        self.begin()
        self.look()
        answer = self.get(PATH)
        self.assert_problem(503, answer, "close a page")
        self.assertEqual("5", answer.headers["retry-after"])
        self.assertEqual(1, len(self.gateway.overview._listeners))

    def test_a_stop_ends_them(self) -> None:
        """At once: else they would hold it up."""
        self.begin()
        visitor = self.look()
        self.harness.advance(1)
        stopped = self.gateway.stopService()
        self.harness.flush()
        self.assertTrue(visitor.received.endswith(b"0\r\n\r\n"), visitor.received)
        self.assert_nobody_looks()
        self.assertEqual(0, self.gateway.site.admission.total)
        self.harness.advance(5)
        self.harness.result(stopped)

    def test_none_begins_while_it_stops(self) -> None:
        """It would hold it up as well."""
        self.begin()
        visitor = self.visit()
        stopped = self.gateway.stopService()
        self.send(b"GET /overview/events HTTP/1.1\r\nHost: localhost\r\n\r\n", visitor)
        (answer,) = visitor.answers()
        self.assert_problem(503, answer, "stops")
        self.harness.advance(2)
        self.harness.result(stopped)
