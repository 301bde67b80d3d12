"""Spans of calls: caller, queue and task in one trace."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from crew_tx.errors import InvalidArgumentError, RemoteError
from crew_tx.interfaces import ITracing
from crew_tx.testing import CrewHarness
from crew_tx.tracing import Tracing
from crew_tx.worker import Task, context

SECOND = 1_000_000_000


@Task("double")
def double(request: Any) -> Any:
    """A task that makes a span of its own."""
    with trace.get_tracer("task", tracer_provider=context.settings.provider).start_as_current_span("inside"):
        return 2 * request


@Task("later")
async def later(request: Any) -> Any:
    """A task on the reactor."""
    fired: Deferred[int] = Deferred()
    fired.callback(request)
    return await fired


@Task("fails")
def fails(request: Any) -> Any:
    """A task that raises."""
    raise ValueError("a secret")


@Task("looks")
def looks(request: Any) -> Any:
    """A task that tells what headers it was given."""
    return dict(context.request.headers)


class TracingTestCase(SynchronousTestCase):
    """A client and a worker that both trace, and the spans that have ended."""

    def setUp(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.now = 1_700_000_000 * SECOND
        self.tracing = Tracing(self.provider, lambda: self.now)
        self.harness = CrewHarness(
            double,
            later,
            fails,
            looks,
            client={"tracing": self.tracing},
            worker={"tracing": self.tracing, "settings": {"provider": self.provider}},
        )
        self.addCleanup(self.harness.close)

    def call(self, *arguments: Any, **options: Any) -> Deferred[Any]:
        called: Deferred[Any] = self.harness.client.call(*arguments, **options)
        self.harness.flush()
        return called

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def parent(self, span: ReadableSpan) -> int:
        assert span.parent is not None
        return span.parent.span_id


class SpanTests(TracingTestCase):
    """What a call comes to."""

    def test_it_traces_as_the_interface_has_it(self) -> None:
        """All of it."""
        self.assertTrue(verifyObject(ITracing, self.tracing))

    def test_caller_queue_and_task_are_one_trace(self) -> None:
        """And what the task does is inside."""
        self.assertEqual(4, self.successResultOf(self.call("double", 2)))
        spans = self.spans
        self.assertEqual({"call double", "queue double", "process double", "inside"}, spans.keys())
        self.assertEqual(1, len({span.context.trace_id for span in spans.values()}))
        caller = spans["call double"].context.span_id
        self.assertEqual(
            [caller, caller], [self.parent(spans[f"{it} double"]) for it in ("queue", "process")]
        )
        self.assertEqual(spans["process double"].context.span_id, self.parent(spans["inside"]))
        self.assertEqual(trace.SpanKind.CLIENT, spans["call double"].kind)
        self.assertEqual(trace.SpanKind.CONSUMER, spans["process double"].kind)

    def test_a_task_on_the_reactor_is_traced_as_well(self) -> None:
        """With the same spans."""
        self.assertEqual(3, self.successResultOf(self.call("later", 3)))
        self.assertEqual({"call later", "queue later", "process later"}, self.spans.keys())

    def test_the_queue_is_from_sending_to_starting(self) -> None:
        """By the clocks of both."""
        self.harness.worker.pause()
        self.harness.flush()
        called = self.call("double", 1)
        self.now += 5 * SECOND
        self.harness.worker.resume()
        self.harness.flush()
        self.successResultOf(called)
        self.assertEqual(1_700_000_000 * SECOND, self.spans["queue double"].start_time)

    def test_a_task_that_ran_elsewhere_is_told_of_when_it_has(self) -> None:
        """In the same trace, with the same times; and of its error with the kind."""
        headers, ended = self.tracing.begin("double", None, answered=True)
        self.now += 5 * SECOND
        definition = double.__crew_task__  # type: ignore[attr-defined]
        self.tracing.ran(definition, headers, "1", 2.0, None)
        ended(4)
        spans = self.spans
        caller = spans["call double"].context.span_id
        for name, start, end in (("queue", 0, 3), ("process", 3, 5)):
            span = spans[f"{name} double"]
            times = (span.start_time - 1_700_000_000 * SECOND, span.end_time - 1_700_000_000 * SECOND)
            self.assertEqual((caller, (start * SECOND, end * SECOND)), (self.parent(span), times))
        for error, status in (("timeout", trace.StatusCode.ERROR), ("cancelled", trace.StatusCode.UNSET)):
            self.exporter.clear()
            self.tracing.ran(definition, {}, "2", 1.0, error)
            [span] = self.exporter.get_finished_spans()
            self.assertEqual((error, status), (span.attributes["error.type"], span.status.status_code))

    def test_one_way_calls_end_with_their_confirm(self) -> None:
        """Nobody waits for the task."""
        sent = self.harness.client.send("double", 1)
        self.harness.flush()
        self.successResultOf(sent)
        self.assertEqual(trace.SpanKind.PRODUCER, self.spans["send double"].kind)
        self.assertEqual(self.spans["send double"].context.span_id, self.parent(self.spans["process double"]))

    def test_inside_a_span_it_is_a_part_of_it(self) -> None:
        """As of a request to a web server."""
        with trace.get_tracer("web", tracer_provider=self.provider).start_as_current_span("GET /"):
            called = self.call("double", 1)
        self.successResultOf(called)
        self.assertEqual(self.spans["GET /"].context.span_id, self.parent(self.spans["call double"]))


class FailureTests(TracingTestCase):
    """Calls that don't end well."""

    def test_an_error_is_told_by_its_type(self) -> None:
        """And not by its text."""
        self.failureResultOf(self.call("fails"), RemoteError)
        for name, kind in (
            ("call fails", "crew_tx.errors.RemoteError"),
            ("process fails", "builtins.ValueError"),
        ):
            span = self.spans[name]
            assert span.attributes is not None
            self.assertEqual(kind, span.attributes["error.type"])
            self.assertEqual(trace.StatusCode.ERROR, span.status.status_code)
            self.assertNotIn("secret", span.to_json())

    def test_a_cancelled_call_has_ended(self) -> None:
        """Which is no error."""
        self.harness.worker.pause()
        called = self.call("double", 1)
        called.cancel()
        self.failureResultOf(called, CancelledError)
        self.assertEqual(trace.StatusCode.UNSET, self.spans["call double"].status.status_code)

    def test_a_call_that_is_refused_ends_its_span(self) -> None:
        """Whatever is wrong with it."""
        self.failureResultOf(self.call("@"), InvalidArgumentError)
        self.failureResultOf(self.call("double", headers="x"), InvalidArgumentError)
        self.assertEqual({"call @", "call double"}, self.spans.keys())


class HeaderTests(TracingTestCase):
    """What travels."""

    def test_the_callers_own_headers_are_kept(self) -> None:
        """And theirs added, not to the caller's dict."""
        own = {"tenant": "a"}
        seen = self.successResultOf(self.call("looks", headers=own))
        self.assertEqual({"tenant", "traceparent", "tracestate"}, seen.keys())
        self.assertEqual({"tenant": "a"}, own)

    def test_odd_headers_of_others_are_passed_over(self) -> None:
        """The task is a trace of its own then."""
        client = self.harness.new_client()
        for headers in (
            {"traceparent": 5},
            {"traceparent": "x" * 9000},
            {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "tracestate": "crew_tx=soon"},
            {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "tracestate": "crew_tx=" + "9" * 99},
        ):
            called = client.call("double", 1, headers=headers)
            self.harness.flush()
            self.assertEqual(2, self.successResultOf(called))
        self.assertNotIn("queue double", self.spans)

    def test_without_tracing_nothing_is_added(self) -> None:
        """And nothing is made."""
        harness = CrewHarness(looks)
        self.addCleanup(harness.close)
        called = harness.client.call("looks")
        harness.flush()
        self.assertEqual({}, self.successResultOf(called))
        self.assertEqual({}, self.spans)
