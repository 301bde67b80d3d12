"""Publishing, long polls and server-sent events, in memory."""

from __future__ import annotations

import json
from typing import Any

import cbor2
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import AccessRefusedError
from crew_tx.web.access import Exposed
from crew_tx.web.channels import LINGER, Channels
from crew_tx.web.limits import Limits
from tests.web.support import Answer, GatewayTestCase, Visitor

STREAM = {"Accept": "text/event-stream"}


class EventsTestCase(GatewayTestCase):
    """What tests of events do."""

    def publish(self, data: Any, channel: str = "news") -> None:
        self.harness.result(self.harness.client.publish(channel, data))

    def poll(self, path: str = "/subscribe/news", **headers: str) -> Visitor:
        return self.begin_request("GET", path, headers=headers)

    def polled(self, visitor: Visitor) -> Answer:
        (answer,) = visitor.answers()
        return answer

    def stream(self, path: str = "/subscribe/news", **headers: str) -> Visitor:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.begin_request("GET", path, headers={**STREAM, **named})

    def events(self, visitor: Visitor) -> list[dict[str, str]]:
        """Take the events of a stream that have come; chunks begin with their length."""
        lines = visitor.received.decode().split("\r\n")
        text = "".join(line for line in lines if not line or line[-1] == "\n")
        visitor.received = b""
        found = []
        for block in text.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
            if "data" in fields:
                found.append(fields)
        return found


class PublishTests(EventsTestCase):
    """``POST /publish/CHANNEL``."""

    def test_an_event_goes_to_all_who_are_subscribed(self) -> None:
        """Whoever they are; the answer comes when the broker has it."""
        self.begin()
        heard: list[Any] = []
        self.harness.result(self.harness.client.subscribe("news", heard.append))
        answer = self.post("/publish/news", {"a": 1})
        self.assertEqual((204, b""), (answer.status, answer.body))
        self.harness.flush()
        self.assertEqual([{"a": 1}], heard)

    def test_a_channel_that_is_not_exposed_is_not_there(self) -> None:
        """Neither way, and patterns of the broker are no channels."""
        self.begin(exposed=Exposed((), ("news", "a.*")))
        for path in ("/publish/other", "/publish/a.%2A", "/publish/a.%23", "/publish/", "/publish/news/x"):
            self.assert_problem(404, self.post(path, 1))
        for path in ("/subscribe/other", "/subscribe/a.%23", "/subscribe/%23", "/subscribe"):
            self.assert_problem(404, self.get(path))
        self.assertEqual(204, self.post("/publish/a.b", 1).status)

    def test_forms_can_not_publish(self) -> None:
        """No other site's page can."""
        self.begin()
        self.assert_problem(415, self.request("POST", "/publish/news", b"1", {"Content-Type": "text/plain"}))


class PollTests(EventsTestCase):
    """Long polls."""

    def test_it_waits_for_the_next_event(self) -> None:
        """And tells how to go on."""
        self.begin()
        visitor = self.poll()
        self.assertEqual([], visitor.answers())
        self.publish({"a": 1})
        answer = self.polled(visitor)
        (event,) = answer.value["events"]
        self.assertEqual(("news", {"a": 1}, 0), (event["channel"], event["data"], answer.value["missed"]))
        self.assertEqual(event["id"], answer.value["last"])

    def test_several_share_one_subscription(self) -> None:
        """Of one channel."""
        self.begin()
        visitors = [self.poll() for _ in range(5)]
        self.assertEqual(1, len(self.gateway.channels))
        self.publish(7)
        self.assertEqual([7] * 5, [self.polled(each).value["events"][0]["data"] for each in visitors])

    def test_nothing_in_time_is_204(self) -> None:
        """The time that the client said, or thirty seconds."""
        self.begin()
        for path, seconds in (("/subscribe/news?timeout=2", 2), ("/subscribe/news", 30)):
            visitor = self.poll(path)
            self.harness.advance(seconds - 0.1)
            self.assertEqual([], visitor.answers())
            self.harness.advance(0.2)
            self.assertEqual(204, self.polled(visitor).status)

    def test_it_goes_on_where_it_was(self) -> None:
        """What came in between is answered at once."""
        self.begin()
        visitor = self.poll()
        self.publish(1)
        last = self.polled(visitor).value["last"]
        self.publish(2)
        self.publish(3)
        for answer in (
            self.get(f"/subscribe/news?after={last}"),
            self.get("/subscribe/news", Last_Event_ID=last),
        ):
            self.assertEqual([2, 3], [event["data"] for event in answer.value["events"]])
            self.assertEqual(0, answer.value["missed"])

    def test_what_fell_out_of_the_buffer_is_counted(self) -> None:
        """So that nobody takes it for all there was."""
        self.begin(Limits(max_events=2))
        visitor = self.poll()
        self.publish(0)
        last = self.polled(visitor).value["last"]
        for number in range(1, 6):
            self.publish(number)
        answer = self.get(f"/subscribe/news?after={last}")
        self.assertEqual([4, 5], [event["data"] for event in answer.value["events"]])
        self.assertEqual(3, answer.value["missed"])

    def test_an_id_of_another_time_may_have_missed_anything(self) -> None:
        """None, for nobody knows."""
        self.begin()
        for last in ("00000000-7", "rabbit", "00000000-" + "9" * 15):
            answer = self.get(f"/subscribe/news?after={last}")
            self.assertEqual(([], None), (answer.value["events"], answer.value["missed"]))
        self.assert_problem(400, self.get("/subscribe/news?after=" + "x" * 101))

    def test_a_subscription_outlives_its_last_client_by_a_while(self) -> None:
        """And no longer."""
        self.begin()
        visitor = self.poll()
        self.publish(1)
        last = self.polled(visitor).value["last"]
        self.harness.advance(LINGER - 1)
        self.publish(2)
        self.assertEqual(2, self.get(f"/subscribe/news?after={last}").value["events"][0]["data"])
        self.harness.advance(LINGER + 1)
        self.assertEqual(0, len(self.gateway.channels))

    def test_a_client_that_goes_away_waits_no_more(self) -> None:
        """Nothing is left of it."""
        self.begin()
        visitor = self.poll()
        visitor.transport.abortConnection()  # type: ignore[union-attr,attr-defined]
        self.harness.flush()
        self.assertEqual(0, self.gateway.site.admission.total)
        self.publish(1)
        self.harness.advance(LINGER + 1)
        self.assertEqual(0, len(self.gateway.channels))

    def test_so_many_channels_are_listened_to(self) -> None:
        """One that nobody listens to makes room."""
        self.begin(Limits(max_channels=2))
        first = self.poll("/subscribe/a")
        self.poll("/subscribe/b")
        self.assert_problem(503, self.polled(self.poll("/subscribe/c")), "too many channels")
        self.publish(1, "a")
        self.polled(first)
        self.assertEqual([], self.poll("/subscribe/c").answers())

    def test_without_a_broker_it_is_503(self) -> None:
        """And not an empty answer."""
        self.begin()
        self.harness.broker.stop()
        self.harness.flush()
        visitor = self.poll()
        self.harness.advance(6)
        self.assert_problem(503, self.polled(visitor))
        self.harness.broker.start()
        self.harness.advance(10)

    def test_missed_events_are_told_after_a_reconnect(self) -> None:
        """Nobody knows how many."""
        self.begin()
        visitor = self.poll()
        self.publish(1)
        last = self.polled(visitor).value["last"]
        self.harness.broker.restart()
        self.harness.advance(20)
        self.publish(2)
        answer = self.get(f"/subscribe/news?after={last}")
        self.assertEqual(2, answer.value["events"][-1]["data"])
        self.assertIsNone(answer.value["missed"])

    def test_cbor_has_what_json_has_not(self) -> None:
        """A poll for JSON alone is told so, and goes on behind it."""
        self.begin()
        wanted, other = self.poll(Accept="application/cbor"), self.poll(Accept="application/json")
        self.publish(b"\x00")
        self.assertEqual(b"\x00", cbor2.loads(self.polled(wanted).body)["events"][0]["data"])
        told = self.polled(other).value
        self.assertEqual(
            [("news", True, False)], [(e["channel"], e["unreadable"], "data" in e) for e in told["events"]]
        )
        self.publish(1)
        answer = self.get(f"/subscribe/news?after={told['last']}", Accept="application/json")
        self.assertEqual([1], [event["data"] for event in answer.value["events"]])

    def test_one_that_is_too_large_was_missed(self) -> None:
        """Its place is told, and what comes behind it comes."""
        self.begin(Limits(max_body=1000))
        visitor = self.poll()
        self.publish("x" * 980)
        answer = self.polled(visitor)
        self.assertEqual(([], 1), (answer.value["events"], answer.value["missed"]))
        self.publish(1)
        answer = self.get(f"/subscribe/news?after={answer.value['last']}")
        self.assertEqual([1], [event["data"] for event in answer.value["events"]])


class StreamTests(EventsTestCase):
    """Server-sent events."""

    def test_events_come_as_they_are_published(self) -> None:
        """Each with an id, on one line whatever is in it."""
        self.begin()
        visitor = self.stream()
        self.assertIn(b"content-type: text/event-stream", visitor.received.lower())
        self.publish("a\n\ndata: b\r\n")
        self.publish(2)
        events = self.events(visitor)
        self.assertEqual(["a\n\ndata: b\r\n", 2], [json.loads(event["data"])["data"] for event in events])
        self.assertEqual(
            [event["id"] for event in events], [json.loads(each["data"])["id"] for each in events]
        )

    def test_a_client_that_comes_back_goes_on(self) -> None:
        """By the id that it had last."""
        self.begin()
        visitor = self.stream()
        self.publish(1)
        (event,) = self.events(visitor)
        visitor.transport.loseConnection()  # type: ignore[union-attr]
        self.harness.flush()
        self.publish(2)
        again = self.stream(Last_Event_ID=event["id"])
        self.publish(3)
        self.assertEqual([2, 3], [json.loads(each["data"])["data"] for each in self.events(again)])

    def test_a_gap_is_told_by_an_event(self) -> None:
        """With the number of what was missed, where that is known."""
        self.begin(Limits(max_events=2))
        visitor = self.stream()
        self.publish(0)
        (first,) = self.events(visitor)
        for number in range(1, 6):
            self.publish(number)
        gap, *events = self.events(self.stream(Last_Event_ID=first["id"]))
        self.assertEqual(("gap", '{"missed":3}'), (gap["event"], gap["data"]))
        self.assertEqual([4, 5], [json.loads(each["data"])["data"] for each in events])
        (gap, *_) = self.events(self.stream(Last_Event_ID="00000000-1"))
        self.assertEqual(("gap", '{"missed":null}'), (gap["event"], gap["data"]))

    def test_signs_of_life_come_now_and_then(self) -> None:
        """Comments, which no client takes for events."""
        self.begin()
        visitor = self.stream()
        visitor.received = b""
        self.harness.advance(31)
        self.assertEqual(2, visitor.received.count(b":\n\n"))

    def test_a_reader_that_is_slow_is_not_written_to(self) -> None:
        """What it misses meanwhile is a gap, and memory stays bounded."""
        self.begin(Limits(max_events=10))
        visitor = self.stream()
        visitor.transport.pauseProducing()  # type: ignore[union-attr,attr-defined]
        for _ in range(100):
            self.publish("x" * 10_000)
        self.assertEqual(10, len(self.gateway.channels.listen("news", print).buffer))
        self.gateway.channels.leave(self.gateway.channels.listen("news", print), print)
        visitor.transport.resumeProducing()  # type: ignore[union-attr,attr-defined]
        self.harness.flush()
        kinds = [event.get("event", "message") for event in self.events(visitor)]
        self.assertEqual(1, kinds.count("gap"), kinds)
        self.assertLess(len(kinds), 50)

    def test_a_reader_that_reads_nothing_is_dropped(self) -> None:
        """With a word, for when it reads again."""
        self.begin(Limits(slow_reader=20))
        visitor = self.stream()
        visitor.transport.pauseProducing()  # type: ignore[union-attr,attr-defined]
        for _ in range(100):
            self.publish("x" * 10_000)
        self.harness.advance(22)
        self.assertEqual(0, self.gateway.site.admission.total)
        self.assertEqual(0, len(self.gateway.site.connections))

    def test_so_is_one_that_never_read(self) -> None:
        """Not even what there was when it came."""
        self.begin(Limits(slow_reader=20))
        self.stream()
        for _ in range(20):
            self.publish("x" * 10_000)
        visitor = self.visit()
        visitor.transport.pauseProducing()  # type: ignore[union-attr,attr-defined]
        head = b"GET /subscribe/news HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
        self.send(head + b"Last-Event-ID: 00000000-1\r\n\r\n", visitor)
        self.assertEqual(2, self.gateway.site.admission.total)
        self.harness.advance(22)
        self.assertEqual(1, self.gateway.site.admission.total)
        self.assertEqual(1, len(self.gateway.site.connections))

    def test_a_stop_ends_streams_and_polls(self) -> None:
        """At once: else they would hold it up."""
        self.begin()
        stream, poll = self.stream(), self.poll()
        stopped = self.gateway.stopService()
        self.harness.flush()
        self.assertEqual(204, self.polled(poll).status)
        self.assertTrue(stream.received.endswith(b"0\r\n\r\n"), stream.received)
        self.assertEqual(0, self.gateway.site.admission.total)
        self.harness.advance(5)
        self.harness.result(stopped)

    def test_none_begins_while_it_stops(self) -> None:
        """One that was on its way then would hold it up as well."""
        self.begin()
        visitor = self.visit()
        stopped = self.gateway.stopService()
        self.send(
            b"GET /subscribe/news HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n", visitor
        )
        self.assert_problem(503, self.polled(visitor), "stops")
        self.harness.advance(2)
        self.harness.result(stopped)


def listener() -> None:
    """Somebody who listens."""


class Subscribed:
    """A subscription that the broker has."""

    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Subscriber:
    """A client whose broker takes its time."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []

    def subscribe(self, *arguments: Any, **options: Any) -> Deferred[Any]:
        self.asked.append(Deferred())
        return self.asked[-1]


class RefusedTests(SynchronousTestCase):
    """Channels that the broker does not let the gateway subscribe to."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.client: Any = Subscriber()
        bodies: Any = None
        self.channels = Channels(self.clock, self.client, bodies, Limits())
        self.addCleanup(lambda: self.assertEqual([], self.clock.getDelayedCalls()))

    def listen(self) -> Any:
        return self.channels.listen("news", listener)

    def test_one_that_nobody_waits_for_ends_no_other(self) -> None:
        """The next one of its name is another one."""
        channel = self.listen()
        self.channels.leave(channel, listener)
        self.client.asked[0].errback(AccessRefusedError("no"))
        again = self.listen()
        self.client.asked[1].callback(Subscribed())
        self.clock.advance(LINGER + 1)
        self.assertEqual(1, len(self.channels))
        self.channels.stop()
        self.assertTrue(again.is_over)

    def test_one_that_is_refused_after_a_reconnect_is_asked_for_again(self) -> None:
        """Who listens to it is told that it is over: nothing would come there any more."""
        channel = self.listen()
        subscribed = Subscribed()
        self.client.asked[0].callback(subscribed)
        self.assertIs(channel, self.listen())
        subscribed.cancel()
        again = self.listen()
        self.assertTrue(channel.is_over)
        ready = again.ready(self.clock)
        self.client.asked[1].errback(AccessRefusedError("no"))
        self.failureResultOf(ready, AccessRefusedError)
        self.assertEqual(0, len(self.channels))
