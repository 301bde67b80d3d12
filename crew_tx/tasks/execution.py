"""
From a call to its answer: read the request, run the task, write the outcome.

A worker answers whatever happens, so an exception becomes an error answer, in
the call's content type where that can hold a map. :func:`perform` runs in a
thread, for every call, and is written straight through for that, the making of
its answer included; :func:`perform_async` runs on the reactor. What both come
to when anything was raised is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from crew_tx.codec import Codec, Encoded
from crew_tx.errors import ConfigurationError, DecodeError
from crew_tx.message import Answer, Call, ErrorKind, Headers
from crew_tx.message import check_headers as check_header_names
from crew_tx.tasks.context import AttemptContext, current
from crew_tx.tasks.declaration import TaskDefinition, UnknownMethodError
from crew_tx.tasks.failures import describe

#: Raises, naming the header, if a task's headers can't be sent.
CheckHeaders = Callable[[Headers], object]
#: Calls a function with arguments in some thread; as Twisted's ``deferToThread``.
InThread = Callable[..., "Deferred[Any]"]

_ASYNC = (Deferred, CoroutineType)
_UNREAD: Any = object()


def perform(
    definition: TaskDefinition,
    call: Call,
    codec: Codec,
    attempt_context: AttemptContext,
    worker_id: str,
    now: Callable[[], float],
    check_headers: CheckHeaders = check_header_names,
) -> Answer:
    """
    Run a task in this thread.

    :param now: reads the worker's clock.
    :param check_headers: refuses headers that can't be sent.
    :returns: the answer, an error's where anything was raised. Only an
        interrupt that lands after the task itself can still get out.
    """
    started = now()
    request = _UNREAD
    token = current.set(attempt_context)
    try:
        request = codec.decode(call.body, call.content_type, call.content_encoding)
        value = definition.function(request)
        if isinstance(value, _ASYNC):
            raise _misdeclared(definition, value)
        encoded = codec.encode_like(value, call.content_type)
        headers = attempt_context.headers
        if headers:
            # A copy, so that what is checked is what is sent.
            headers = dict(headers)
            check_headers(headers)
        return Answer(
            call.call_id,
            encoded.body,
            encoded.content_type,
            encoded.content_encoding,
            None,
            worker_id,
            now() - started,
            call.persistent,
            headers,
        )
    except BaseException as error:
        headers = _sendable(attempt_context.headers, check_headers)
        return _failed(call, codec, error, request, worker_id, now() - started, headers)
    finally:
        current.reset(token)


def perform_async(
    definition: TaskDefinition,
    call: Call,
    codec: Codec,
    attempt_context: AttemptContext,
    worker_id: str,
    now: Callable[[], float],
    check_headers: CheckHeaders = check_header_names,
    in_thread: InThread = maybeDeferred,
) -> Deferred[Answer]:
    """
    Run a coroutine function, or one that returns a Deferred, on the reactor.

    :param in_thread: where large bodies are read and written.
    :returns: a Deferred of the answer, an error's where anything was raised.
        Cancelling it cancels what the task waits for.
    """
    return Deferred.fromCoroutine(
        _perform_async(definition, call, codec, attempt_context, worker_id, now, check_headers, in_thread)
    )


def error_answer(
    call: Call,
    codec: Codec,
    kind: ErrorKind,
    error_type: str,
    message: str,
    traceback: str = "",
    *,
    worker_id: str | None = None,
    elapsed: float = 0.0,
    headers: Headers | None = None,
) -> Answer:
    """
    An error, in the call's content type where that can hold a map.

    :param error_type: the name of the exception's type, dotted.
    """
    body = {"type": error_type, "message": message, "traceback": traceback}
    encoded = codec.encode_like(body, call.content_type)
    return _answer(call, encoded, kind, worker_id, elapsed, headers or {})


async def _perform_async(
    definition: TaskDefinition,
    call: Call,
    codec: Codec,
    attempt_context: AttemptContext,
    worker_id: str,
    now: Callable[[], float],
    check_headers: CheckHeaders,
    in_thread: InThread,
) -> Answer:
    started = now()
    request = _UNREAD
    # In a coroutine's own copy of the context, so there is nothing to reset.
    current.set(attempt_context)
    try:
        request = await _decode(call, codec, in_thread)
        value = definition.function(request)
        while isinstance(value, _ASYNC):
            value = await value
        encoded = await _encode(value, call, codec, in_thread)
        headers = dict(attempt_context.headers)
        check_headers(headers)
        return _answer(call, encoded, None, worker_id, now() - started, headers)
    except BaseException as error:
        headers = _sendable(attempt_context.headers, check_headers)
        return _failed(call, codec, error, request, worker_id, now() - started, headers)


async def _decode(call: Call, codec: Codec, in_thread: InThread) -> Any:
    if codec.is_large(call.body, call.content_encoding):
        return await in_thread(codec.decode, call.body, call.content_type, call.content_encoding)
    return codec.decode(call.body, call.content_type, call.content_encoding)


async def _encode(value: Any, call: Call, codec: Codec, in_thread: InThread) -> Encoded:
    if codec.is_large(value):
        large: Encoded = await in_thread(codec.encode_like, value, call.content_type)
        return large
    return codec.encode_like(value, call.content_type)


def _answer(
    call: Call,
    encoded: Encoded,
    kind: ErrorKind | None,
    worker_id: str | None,
    elapsed: float,
    headers: Headers,
) -> Answer:
    return Answer(call.call_id, *encoded, kind, worker_id, elapsed, call.persistent, headers)


def _failed(
    call: Call,
    codec: Codec,
    error: BaseException,
    request: object,
    worker_id: str,
    elapsed: float,
    headers: Headers,
) -> Answer:
    kind = _kind_of(error, request)
    try:
        return error_answer(
            call, codec, kind, *describe(error), worker_id=worker_id, elapsed=elapsed, headers=headers
        )
    except BaseException:
        # An interrupt landed in here, or a message can't hold even this much.
        return error_answer(call, codec, kind, "Exception", "", worker_id=worker_id, elapsed=elapsed)


def _kind_of(error: BaseException, request: object) -> ErrorKind:
    if request is _UNREAD and isinstance(error, DecodeError):
        return "undecodable"
    # The type itself: what a task's own call to another worker came to is the task's matter.
    return "unknown-task" if type(error) is UnknownMethodError else "raised"


def _sendable(headers: Headers, check_headers: CheckHeaders) -> Headers:
    """The headers of a task that failed; none of them if one can't be sent."""
    try:
        headers = dict(headers)
        check_headers(headers)
    except BaseException:
        return {}
    return headers


def _misdeclared(definition: TaskDefinition, value: object) -> ConfigurationError:
    if isinstance(value, CoroutineType):
        value.close()
    return ConfigurationError(
        f"the task {definition.task_id!r} ran in a thread and returned a {type(value).__name__}: "
        "declare it with async def, or with reactor=True"
    )
