"""A gateway that is watched: its health, its metrics and its spans."""

from __future__ import annotations

import time
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from crew_tx.interfaces import IRequestTracing
from crew_tx.tracing import Tracing
from crew_tx.web.access import Exposed
from crew_tx.web.limits import Limits
from crew_tx.web.metrics import Exposition
from crew_tx.web.service import Gateway
from crew_tx.worker import Task
from tests.web.support import JSON, Answer, GatewayTestCase
from tests.web.test_hostile import BEARER, CREDENTIALS
from tests.web.test_metrics import values

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@Task("echo")
def echo(req: Any) -> Any:
    """Give it back."""
    return req


@Task("fails")
def fails(req: Any) -> Any:
    """Raise."""
    raise ValueError("a secret")


@Task("never")
async def never(req: Any) -> Any:
    """No answer."""
    await Deferred()


class WatchedTestCase(GatewayTestCase):
    """A gateway with metrics."""

    tasks = (echo, fails, never)

    def begin(self, limits: Limits | None = None, **options: Any) -> Gateway:
        self.exposition = Exposition()
        return super().begin(limits, exposition=self.exposition, **options)

    @property
    def metrics(self) -> dict[str, float]:
        return values(self.exposition)


class HealthTests(WatchedTestCase):
    """Whether it answers, and whether calls can be made."""

    def test_it_is_alive_and_ready(self) -> None:
        """For everybody; probes are no secret."""
        self.begin(credentials=CREDENTIALS)
        self.assertEqual((200, b"ok\n"), self.get("/healthz")[::2])
        self.assertEqual((200, b"ready\n"), self.get("/readyz")[::2])
        self.assertTrue(self.begin_request("HEAD", "/readyz").received.startswith(b"HTTP/1.1 200 "))

    def test_without_a_broker_it_is_alive_and_not_ready(self) -> None:
        """It says why, and nothing of where the broker is."""
        self.begin()
        self.harness.broker.stop()
        self.harness.flush()
        self.assertEqual(200, self.get("/healthz").status)
        self.assertEqual((503, b"no connection to the broker\n"), self.get("/readyz")[::2])

    def test_a_broker_that_takes_nothing_makes_it_not_ready(self) -> None:
        """As under an alarm."""
        self.begin()
        self.harness.broker.raise_alarm()
        self.begin_request("POST", "/publish/news", b"1", JSON)
        self.assertEqual((503, b"the broker takes nothing now\n"), self.get("/readyz")[::2])
        self.harness.broker.clear_alarm()
        self.harness.flush()
        self.assertEqual(200, self.get("/readyz").status)

    def test_there_is_room_for_probes(self) -> None:
        """However many requests are under way: else it would be restarted for having much to do."""
        self.begin(Limits(max_requests=1))
        self.begin_request("POST", "/call/never", b"1", JSON)
        self.assert_problem(503, self.get("/"))
        self.assertEqual(
            [200, 200, 200], [self.get(path).status for path in ("/healthz", "/readyz", "/metrics")]
        )

    def test_they_can_only_be_read(self) -> None:
        """And strangers can't keep it busy by bodies: these are not waited for."""
        self.begin(credentials=CREDENTIALS)
        answer = self.request("POST", "/healthz")
        self.assert_problem(405, answer)
        self.assertEqual("GET, HEAD", answer.headers["allow"])
        for length in ({"Content-Length": "5000"}, {"Transfer-Encoding": "chunked"}):
            (answer,) = self.begin_request("PUT", "/readyz", b"", length).answers()
            self.assert_problem(413, answer)

    def test_a_site_alone_has_its_own(self) -> None:
        """Where something is exposed, they are the gateway's."""
        self.begin(site="shop", exposed=Exposed())
        self.assertEqual(503, self.get("/healthz").status)
        self.assertEqual(503, self.get("/metrics").status)

    def test_beside_a_site_they_are_the_gateways(self) -> None:
        """As all of its paths are."""
        self.begin(site="shop")
        self.assertEqual(b"ok\n", self.get("/healthz").body)


class MetricsTests(WatchedTestCase):
    """What Prometheus reads of it."""

    def test_they_are_for_those_with_a_credential(self) -> None:
        """Where there are credentials."""
        self.begin(credentials=CREDENTIALS)
        self.assert_problem(401, self.get("/metrics"))
        answer = self.get("/metrics", Authorization=BEARER)
        self.assertIn(b"crew_gateway_connections 2", answer.body)
        self.assertIn("text/plain", answer.headers["content-type"])

    def test_without_an_exposition_there_are_none(self) -> None:
        """And nothing is counted."""
        GatewayTestCase.begin(self)
        self.post("/call/echo", 1)
        self.assert_problem(404, self.get("/metrics"))
        self.assertEqual([], [name for name, route in self.gateway.traffic.routes.items() if route.answered])
        self.assertFalse(self.gateway.traffic.calls)

    def test_requests_count_by_route_method_and_status(self) -> None:
        """With how long they took."""
        self.begin(exposed=Exposed(("echo", "fails"), ("*",)))
        self.post("/call/echo", 1)
        self.post("/call/echo", 2)
        self.post("/call/fails")
        self.post("/call/none")
        self.post("/apply/echo/", {"args": [1]})
        self.get("/nothing/here")
        found = {name: value for name, value in self.metrics.items() if "requests_total" in name}
        head = "crew_gateway_requests_total"
        self.assertEqual(
            {
                f"{head} method=POST route=call status=200": 2,
                f"{head} method=POST route=call status=500": 1,
                f"{head} method=POST route=call status=404": 1,
                f"{head} method=POST route=apply status=200": 1,
                f"{head} method=GET route=other status=404": 1,
            },
            found,
        )
        timed = "crew_gateway_request_duration_seconds"
        self.assertEqual(4, self.metrics[f"{timed}_count route=call"])
        self.assertEqual(4, self.metrics[f"{timed}_bucket le=0.005 route=call"])
        self.assertNotIn(f"{timed}_count route=subscribe", self.metrics)

    def test_requests_under_way_and_those_whose_client_goes(self) -> None:
        """A call that nobody waits for any more is a status of its own, and takes no time."""
        self.begin()
        visitor = self.begin_request("POST", "/call/never", b"1", JSON)
        running = "crew_gateway_requests_in_progress route=call"
        self.harness.advance(3)
        self.assertEqual((1, 1), (self.metrics[running], self.metrics["crew_gateway_connections"]))
        visitor.transport.abortConnection()  # type: ignore[union-attr,attr-defined]
        self.harness.flush()
        self.assertEqual((0, 0), (self.metrics[running], self.metrics["crew_gateway_connections"]))
        self.assertEqual(1, self.metrics["crew_gateway_requests_total method=POST route=call status=(gone)"])
        self.assertEqual(0, self.metrics["crew_gateway_request_duration_seconds_count route=call"])
        self.assertEqual(1, self.metrics["crew_gateway_calls_total outcome=cancelled task=(other)"])

    def test_the_time_until_the_answer(self) -> None:
        """By the clock."""
        self.begin()
        self.begin_request("POST", "/call/never?timeout=2", b"1", JSON)
        self.harness.advance(2)
        self.assertEqual(2.0, self.metrics["crew_gateway_request_duration_seconds_sum route=call"])
        self.assertEqual(1, self.metrics["crew_gateway_calls_total outcome=timeout task=never"])

    def test_requests_that_are_refused_by_their_heads(self) -> None:
        """Before their bodies come, or where there is no head at all."""
        self.begin(Limits(max_body=1024, read_timeout=5.0))
        self.begin_request("POST", "/call/echo", b"", {**JSON, "Content-Length": "5000"})
        self.send(b"GET /healthz HT")
        self.harness.advance(5)
        self.assertEqual(1, self.metrics["crew_gateway_requests_total method=POST route=call status=413"])
        self.assertEqual(1, self.metrics["crew_gateway_requests_total method=(other) route=other status=408"])

    def test_calls_count_by_task_and_outcome(self) -> None:
        """Also those whose answers are kept."""
        self.begin()
        self.post("/call/echo", 1)
        self.post("/call/fails")
        self.post("/call/nowhere")
        self.post("/call/echo", 1, Prefer="respond-async")
        found = {name: value for name, value in self.metrics.items() if "_calls_total " in name}
        head = "crew_gateway_calls_total"
        self.assertEqual(
            {
                f"{head} outcome=ok task=echo": 2,
                f"{head} outcome=raised task=fails": 1,
                f"{head} outcome=unknown-task task=(other)": 1,
            },
            found,
        )
        self.assertEqual(1, self.metrics["crew_gateway_results_kept"])
        self.assertEqual(4, self.metrics["crew_client_calls_total"])

    def test_channels_and_those_who_listen(self) -> None:
        """Long polls and streams."""
        self.begin()
        for accept in ("application/json", "text/event-stream"):
            self.begin_request("GET", "/subscribe/news", b"", {"Accept": accept})
        found = [self.metrics[f"crew_gateway_{name}"] for name in ("channels", "listeners")]
        self.assertEqual([1, 2], found)
        self.assertEqual(2, self.metrics["crew_gateway_requests_in_progress route=subscribe"])


class TracingTests(GatewayTestCase):
    """Spans of requests."""

    tasks = (echo, fails, never)

    def start(self) -> None:
        """A gateway and a worker whose spans are looked at."""
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(provider, time.time_ns)
        self.begin(tracing=self.tracing)

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def call(self, task: str, **headers: str) -> Answer:
        return self.post(f"/call/{task}", 1, **headers)

    def test_it_traces_as_the_interface_has_it(self) -> None:
        """Method by method."""
        self.start()
        self.assertTrue(verifyObject(IRequestTracing, self.tracing))

    def test_a_call_is_inside_of_its_request(self) -> None:
        """And that inside of its client's, if that has a trace."""
        self.start()
        self.assertEqual(200, self.call("echo", traceparent=PARENT).status)
        served, called = self.spans["POST /call/{task}"], self.spans["call echo"]
        assert served.parent is not None and called.parent is not None
        assert served.context is not None and called.context is not None
        self.assertEqual(0xB7AD6B7169203331, served.parent.span_id)
        self.assertEqual(served.context.span_id, called.parent.span_id)
        self.assertEqual(
            {0x0AF7651916CD43DD8448EB211C80319C}, {called.context.trace_id, served.context.trace_id}
        )
        self.assertEqual(trace.SpanKind.SERVER, served.kind)
        self.assertEqual(
            {"http.request.method": "POST", "http.route": "/call/{task}", "http.response.status_code": 200},
            dict(served.attributes or {}),
        )

    def test_requests_do_not_share_a_span(self) -> None:
        """What comes next begins a trace of its own."""
        self.start()
        self.call("echo")
        self.call("echo")
        traces = {span.context.trace_id for span in self.exporter.get_finished_spans() if span.context}
        self.assertEqual(2, len(traces))
        self.assertFalse(trace.get_current_span().get_span_context().is_valid)

    def test_a_look_into_the_queue_keeps_the_context(self) -> None:
        """The call is made in another turn of the reactor."""
        self.start()
        looked: Deferred[Any] = Deferred()
        self.patch(self.gateway.depths, "of_task", lambda task_id: looked)
        self.begin_request("POST", "/call/echo", b"1", JSON)
        self.assertNotIn("call echo", self.spans)
        looked.callback(None)
        self.harness.flush()
        served, called = self.spans["POST /call/{task}"], self.spans["call echo"]
        assert served.context is not None and called.parent is not None
        self.assertEqual(served.context.span_id, called.parent.span_id)

    def test_errors_and_clients_that_go(self) -> None:
        """A status of 500 and above is an error; a path that is none has no name."""
        self.start()
        self.call("fails")
        self.assertEqual(trace.StatusCode.ERROR, self.spans["POST /call/{task}"].status.status_code)
        self.get("/some/secret/path")
        self.assertEqual(404, (self.spans["GET"].attributes or {})["http.response.status_code"])
        visitor = self.begin_request("POST", "/call/never", b"1", JSON)
        self.exporter.clear()
        visitor.transport.abortConnection()  # type: ignore[union-attr,attr-defined]
        self.harness.flush()
        self.assertEqual("client gone", (self.spans["POST /call/{task}"].attributes or {})["error.type"])

    def test_headers_that_can_not_be_read_are_passed_over(self) -> None:
        """Whatever is in them."""
        self.start()
        head = b"POST /call/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        for value in (b"\xff\xfe", b"00-zz", b"x" * 9000):
            self.exporter.clear()
            visitor = self.send(head + b"traceparent: " + value + b"\r\nContent-Length: 1\r\n\r\n1")
            (answer,) = visitor.answers()
            self.assertEqual(200, answer.status)
            self.assertIsNone(self.spans["POST /call/{task}"].parent)
