"""
Traces of calls by OpenTelemetry: caller, queue and task in one.

A caller's span travels in the header ``traceparent`` (https://www.w3.org/TR/trace-context/),
and when the call was sent in its companion ``tracestate``, from which a worker
makes a span for the time in the queue. Only OpenTelemetry's API is used: what
becomes of spans is for its SDK, which the program sets up, or
``opentelemetry-instrument``. Clocks of different machines are compared here, and
nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from time import time_ns
from types import CoroutineType
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

try:
    from opentelemetry import propagate, trace
    from opentelemetry.context import Context
except ImportError:
    raise ImportError("tracing needs OpenTelemetry's API: pip install 'crew_tx[tracing]'") from None

from crew_tx._version import __version__
from crew_tx.interfaces import IRequestTracing
from crew_tx.message import Headers
from crew_tx.tasks.context import context
from crew_tx.tasks.registry import TaskDefinition
from crew_tx.topology import TASKS, task_queue_name

#: What our entry of ``tracestate`` is called: when the call was sent, in milliseconds since 1970.
STATE = "crew_tx"
_LONGEST_NUMBER = 15
_LONGEST_HEADER = 8192
_NANOSECONDS = 1_000_000
_SECOND = 1_000_000_000
_CANCELLED = "cancelled"
_SERVER_ERROR = 500

Ended = Callable[[Any], Any]


@implementer(IRequestTracing)
class Tracing:
    """
    Makes spans for a client's calls, for a worker's tasks, and for a gateway's requests.

    :param provider: where they go; by default OpenTelemetry's global one.
    :param now: nanoseconds since 1970.
    """

    def __init__(
        self, provider: trace.TracerProvider | None = None, now: Callable[[], int] = time_ns
    ) -> None:
        self._tracer = trace.get_tracer("crew_tx", __version__, provider)
        self._now = now

    # -- callers -----------------------------------------------------------------------

    def begin(self, task_id: str, headers: Headers | None, *, answered: bool) -> tuple[Headers, Ended]:
        kind = trace.SpanKind.CLIENT if answered else trace.SpanKind.PRODUCER
        verb = "call" if answered else "send"
        attributes = {**_attributes(task_id, "send"), "messaging.destination.name": TASKS}
        span = self._tracer.start_span(f"{verb} {task_id}", kind=kind, attributes=attributes)

        def ended(outcome: Any) -> Any:
            if isinstance(outcome, Failure):
                _failed(span, outcome.type)
            span.end()
            return outcome

        if headers is not None and not isinstance(headers, Mapping):
            # What the call itself refuses.
            return headers, ended
        carried = dict(headers or {})
        propagate.inject(carried, trace.set_span_in_context(self._sent_now(span)))
        return carried, ended

    def _sent_now(self, span: trace.Span) -> trace.Span:
        """The same span for others to be children of, with when it was sent."""
        own = span.get_span_context()
        state = own.trace_state.update(STATE, str(self._now() // _NANOSECONDS))
        return trace.NonRecordingSpan(
            trace.SpanContext(own.trace_id, own.span_id, own.is_remote, own.trace_flags, state)
        )

    # -- gateways ----------------------------------------------------------------------

    def serve(
        self, method: str | None, route: str | None, header: Callable[[str], str | None]
    ) -> tuple[AbstractContextManager[Any], Callable[[int | None], None]]:
        found = {name: header(name) for name in propagate.get_global_textmap().fields}
        parent = propagate.extract(_carried({name: text for name, text in found.items() if text is not None}))
        # As OpenTelemetry's conventions for HTTP have it.
        attributes = {"http.request.method": method or "_OTHER", **({"http.route": route} if route else {})}
        span = self._tracer.start_span(
            f"{method or 'HTTP'} {route or ''}".strip(),
            context=parent,
            kind=trace.SpanKind.SERVER,
            attributes=attributes,
        )

        def ended(status: int | None) -> None:
            if status is None:
                span.set_attribute("error.type", "client gone")
            else:
                span.set_attribute("http.response.status_code", status)
                if status >= _SERVER_ERROR:
                    span.set_attribute("error.type", str(status))
                    span.set_status(trace.StatusCode.ERROR)
            span.end()

        # A coroutine that begins in there keeps its context to the end.
        inside = trace.use_span(span, record_exception=False, set_status_on_exception=False)
        return inside, ended

    # -- workers -----------------------------------------------------------------------

    def traced(self, definition: TaskDefinition) -> TaskDefinition:
        wrap = self._traced_async if definition.is_async else self._traced_function
        return replace(definition, function=wrap(definition))

    def _traced_function(self, definition: TaskDefinition) -> Callable[[Any], Any]:
        function = definition.function

        def traced(request: Any) -> Any:
            with self._processing(definition):
                return function(request)

        return traced

    def _traced_async(self, definition: TaskDefinition) -> Callable[[Any], Any]:
        function = definition.function

        async def traced(request: Any) -> Any:
            with self._processing(definition):
                value = function(request)
                while isinstance(value, (Deferred, CoroutineType)):
                    value = await value
                return value

        return traced

    @contextmanager
    def _processing(self, definition: TaskDefinition) -> Iterator[None]:
        """A span of a task, in the context that it runs in: its own spans are inside."""
        parent = propagate.extract(_carried(context.request.headers))
        attributes = _attributes_of(definition, context.request.id)
        self._tell_of_the_queue(definition, parent, attributes, self._now())
        with self._tracer.start_as_current_span(
            f"process {definition.task_id}",
            context=parent,
            kind=trace.SpanKind.CONSUMER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                _failed(span, type(error))
                raise

    def ran(
        self, definition: TaskDefinition, headers: Headers, call_id: str, elapsed: float, error: str | None
    ) -> None:
        end = self._now()
        start = end - int(elapsed * _SECOND)
        parent = propagate.extract(_carried(headers))
        attributes = _attributes_of(definition, call_id)
        self._tell_of_the_queue(definition, parent, attributes, start)
        span = self._tracer.start_span(
            f"process {definition.task_id}",
            context=parent,
            kind=trace.SpanKind.CONSUMER,
            attributes=attributes,
            start_time=start,
        )
        if error is not None:
            span.set_attribute("error.type", error)
            # Who cancels a call knows that it has ended.
            if error != _CANCELLED:
                span.set_status(trace.StatusCode.ERROR, error)
        span.end(end)

    def _tell_of_the_queue(
        self, definition: TaskDefinition, parent: Context, attributes: dict[str, str], begun: int
    ) -> None:
        """From when the caller sent it until it was begun; nothing where the caller doesn't say."""
        sent = trace.get_current_span(parent).get_span_context().trace_state.get(STATE, "")
        if not (sent.isascii() and sent.isdecimal()) or len(sent) > _LONGEST_NUMBER:
            return
        start = min(int(sent) * _NANOSECONDS, begun)
        name = f"queue {definition.queue}"
        self._tracer.start_span(name, context=parent, attributes=attributes, start_time=start).end(begun)


def _attributes(task_id: str, operation: str) -> dict[str, str]:
    """As OpenTelemetry's conventions for messaging have them."""
    return {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": operation,
        "messaging.rabbitmq.destination.routing_key": task_id,
    }


def _attributes_of(definition: TaskDefinition, call_id: str) -> dict[str, str]:
    """Those of one run of a task."""
    return {
        **_attributes(definition.task_id, "process"),
        "messaging.destination.name": task_queue_name(definition.queue),
        "messaging.message.conversation_id": call_id,
    }


def _carried(headers: Headers) -> dict[str, str]:
    """What a propagator can read: texts, and no long ones."""
    return {
        name: value
        for name, value in headers.items()
        if isinstance(value, str) and len(value) <= _LONGEST_HEADER
    }


def _failed(span: trace.Span, error: type[BaseException] | None) -> None:
    """Of what kind it was, and no more: its text may be anybody's secret."""
    name = "unknown" if error is None else f"{error.__module__}.{error.__qualname__}"
    span.set_attribute("error.type", name)
    # Who cancels a call knows that it has ended.
    if error is not CancelledError:
        span.set_status(trace.StatusCode.ERROR, name)
