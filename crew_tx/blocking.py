"""
The caller's side for programs that don't run on Twisted: WSGI servers, scripts.

::

    from crew_tx.blocking import Client

    with Client("amqp://guest:guest@127.0.0.1:5672/%2F") as client:
        print(client.call("test", priority=100))

One client serves all threads of a process. It connects on first use, so it may
be made where the program begins, also before a server forks its workers: only
after its first use it is that process's alone. (uWSGI runs no threads without
``--enable-threads``.) At the program's end it is closed by itself.

A program that runs Twisted's reactor, and has threads besides, makes its calls
in those once the reactor runs: then that one serves. Where none runs, one is
started in a thread; a program that would run it later finds it running.

In place of arpc's ``ServiceCaller(url).send_request(task, data)`` write
``Client(url).call(task, data)``; in place of ``send_lazy_request``,
``lazy(task, data)``, whose ``get(timeout)`` is the same. Threads that had crew's
``Client`` with a callback write ``client.call(task, data)``, and go on with the value.

A thread that waits can be interrupted: Ctrl-C ends the wait and cancels the call.
Calls are refused in the reactor's own thread. What Twisted's logger is told goes
where the program sends it; for the standard library's logging::

    from twisted.logger import STDLibLogObserver, globalLogBeginner
    globalLogBeginner.beginLoggingTo([STDLibLogObserver()], redirectStandardIO=False)

Programs on asyncio need none of this: Twisted's reactor runs on their loop, and
``asFuture`` makes a future of a Deferred::

    import asyncio
    from twisted.internet import asyncioreactor, task
    from twisted.internet.defer import Deferred
    from crew_tx import Client

    async def main(reactor):
        client = await Client(reactor).connect().asFuture(loop)
        print(await client.call("test", [1, 2]).asFuture(loop))
        await client.close().asFuture(loop)

    loop = asyncio.new_event_loop()
    asyncioreactor.install(loop)
    task.react(lambda reactor: Deferred.fromFuture(loop.create_task(main(reactor))))
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, MutableMapping
from contextlib import closing
from functools import reduce
from threading import TIMEOUT_MAX
from types import TracebackType
from typing import Any, TypedDict, Unpack

from twisted.internet.defer import Deferred, succeed

from crew_tx import client as deferring
from crew_tx.amqp.publisher import PUBLISH_TIMEOUT
from crew_tx.amqp.uri import parse_all
from crew_tx.client import CONNECT_TIMEOUT
from crew_tx.errors import ClientStoppedError, InvalidArgumentError
from crew_tx.mapreduce import WINDOW, Errors, Initial, Mapping, Reducer, check_mapping, combine
from crew_tx.message import Headers, Reply
from crew_tx.reactor_thread import REACTOR_THREAD, Eventual, ReactorThread
from crew_tx.rpc.gathering import TIMEOUT as GATHER_TIMEOUT
from crew_tx.rpc.options import DEFAULT_EXPIRATION, CallOptions
from crew_tx.rpc.parallel import Parallel as DeferringParallel
from crew_tx.rpc.pending import GRACE as DEADLINE_GRACE
from crew_tx.rpc.retries import LONGEST_PAUSE

__all__ = ["CallArguments", "Client", "Lazy", "Parallel", "SendArguments"]

#: Seconds that an outcome may take to come to the thread that waits for it.
GRACE = 5.0
#: Seconds: with GRACE, what a thread can wait.
LONGEST_WAIT = TIMEOUT_MAX - GRACE
CLOSE_TIMEOUT = 10.0
_END = object()
_CLOSED = "the client is closed: connect() opens it again"


class SendArguments(TypedDict, total=False):
    """What ``crew_tx.Client.send`` may be given beside the task and the data."""

    priority: int
    expiration: float
    timeout: float | None
    persistent: bool
    headers: Headers | None
    serializer: str | None
    compress: str | bool | None
    call_id: str | None


class CallArguments(SendArguments, total=False):
    """The same of ``crew_tx.Client.call``."""

    require_worker: bool


class Client:
    """
    Calls tasks that workers run, and waits for what they answer.

    Errors are those of ``crew_tx.Client``; beside them any method raises
    :class:`WrongThreadError` in the reactor's thread, :class:`ForkedError` in a
    child of the process that used it first, :class:`ClientStoppedError` once it
    is closed, and :class:`WaitTimeoutError` when its wait is over.

    :param url: as of ``crew_tx.Client``, like all ``options``.
    :param reactor_thread: where it runs; a test gives it one of its own.
    :raises ConfigurationError: if the URL is wrong.
    :raises TypeError: if there is no such option.
    """

    def __init__(
        self, url: str | None = None, *, reactor_thread: ReactorThread = REACTOR_THREAD, **options: Any
    ) -> None:
        if url is not None:
            parse_all(url)
        inspect.signature(deferring.Client).bind(None, url, **options)
        self._url = url
        self._options = options
        self._thread = reactor_thread
        self._generation: int | None = None
        self._closed = False
        self._client: deferring.Client | None = None
        self._leave: Callable[[], None] = lambda: None

    # -- connecting and closing --------------------------------------------------------

    def connect(self, timeout: float = CONNECT_TIMEOUT) -> Client:
        """
        Connect now, and not on first use; or open a client again that was closed.

        :param timeout: seconds to wait; the client goes on trying after that.
        :returns: this client.
        """
        limit = _checked(timeout) + GRACE
        self._closed = False
        self._begin(self._connect, timeout).wait(limit)
        return self

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """
        Close: calls that other threads wait for fail with :class:`ClientStoppedError`.

        At the program's end it is done by itself, after its threads have ended.
        """
        limit = _checked(timeout)
        self._closed = True
        if self._generation != self._thread.generation:
            # It was never used, or is the parent's.
            return
        try:
            shut = self._begin(self._shut)
        except ClientStoppedError:
            # With the reactor it was closed before.
            return
        shut.wait(limit)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- calling -----------------------------------------------------------------------

    def call(
        self, task_id: str, data: Any = None, *, wait: float | None = None, **options: Unpack[CallArguments]
    ) -> Any:
        """
        Run a task on some worker.

        :param wait: seconds to wait here, after which the call is cancelled; by
            default for as long as the call may wait and run, and a little longer.
        :param options: as of ``crew_tx.Client.call``.
        :returns: the value.
        """
        return self.request(task_id, data, wait=wait, **options).value

    def request(
        self, task_id: str, data: Any = None, *, wait: float | None = None, **options: Unpack[CallArguments]
    ) -> Reply:
        """
        Run a task, as :meth:`call` does.

        :returns: the :class:`Reply`: the value, the reply's headers, the worker, and how long it ran.
        """
        limit = _call_limit(wait, options)
        reply: Reply = _outcome(self._begin(self._do, "request", task_id, data, **options), limit)
        return reply

    def send(
        self, task_id: str, data: Any = None, *, wait: float | None = None, **options: Unpack[SendArguments]
    ) -> None:
        """Have a task run, one way; it returns when the broker has the message."""
        limit = self._publish_limit(wait)
        _outcome(self._begin(self._do, "send", task_id, data, **options), limit)

    def lazy(self, task_id: str, data: Any = None, **options: Unpack[CallArguments]) -> Lazy:
        """
        Run a task, and go on: the value is fetched later.

        :param options: as of ``crew_tx.Client.call``.
        """
        limit = _call_limit(None, options)
        return Lazy(self._begin(self._do, "call", task_id, data, **options), limit)

    def parallel(self) -> Parallel:
        """
        Several calls at a time::

            with client.parallel() as calls:
                calls.call("test")
                calls.call("stat")
                test, stat = calls.result()
        """
        return Parallel(self._begin, DeferringParallel(self._call))

    def map(
        self,
        task_id: str,
        items: Iterable[Any],
        *,
        window: int = WINDOW,
        ordered: bool = True,
        retries: int = 0,
        retry_pause: float = 0.0,
        stragglers: int = 0,
        errors: Errors = "raise",
        wait: float | None = None,
        **options: Unpack[CallArguments],
    ) -> Iterator[Any]:
        """
        Run a task for many items, a window of them at a time::

            for value in client.map("resize", names):
                ...

        Items are asked for in the thread that takes the results, when it does.
        What is out is cancelled when that loop ends early.

        :param window: calls that are out at a time, results that wait included.
        :param ordered: whether results come in the order of their items, or as they come.
        :param retries: as of ``crew_tx.Client.map``, as are ``retry_pause``, ``stragglers`` and ``errors``.
        :param wait: seconds to wait for each result; by default for as long as
            its calls may wait and run, and a little longer.
        :param options: as of ``crew_tx.Client.call``.
        :returns: a generator of results; it raises what ends it.
        :raises InvalidArgumentError: if an argument is wrong.
        """
        if not isinstance(items, Iterable):
            raise InvalidArgumentError(f"items are an iterable, not {items!r}")
        check_mapping(items, window, retries, errors, retry_pause, stragglers)
        limit = _call_limit(wait, options)
        if wait is None:
            limit = limit * (retries + 1) + (LONGEST_PAUSE * retries if retry_pause else 0.0)
        feed = _Feed()

        def begin() -> Mapping:
            return self._open().map(
                task_id,
                feed,
                window=window,
                ordered=ordered,
                retries=retries,
                retry_pause=retry_pause,
                stragglers=stragglers,
                errors=errors,
                **options,
            )

        return self._mapped(begin, feed, items, window, limit)

    def map_reduce(
        self,
        task_id: str,
        reducer: Callable[[Any, Any], Any],
        items: Iterable[Any],
        initial: Any = None,
        **options: Any,
    ) -> Any:
        """
        Run a task for many items, and reduce the results in this thread as they come, in any order.

        :param reducer: called with what there is so far, and one result more; gives what there is then.
        :param initial: what there is at first; it is the result where there are no items.
        :param options: as :meth:`map` takes them.
        :returns: what it all comes to.
        """
        results: Any = self.map(task_id, items, **{"ordered": False, **options})
        with closing(results):
            return reduce(reducer, results, initial)

    def map_reduce_by_key(
        self,
        task_id: str,
        reducer: Reducer,
        items: Iterable[Any],
        initial: Initial | None = None,
        *,
        into: MutableMapping[Any, Any] | None = None,
        **options: Any,
    ) -> MutableMapping[Any, Any]:
        """
        Run a task that answers with pairs for many items, and reduce the values of each key in this thread.

        :param reducer: as of ``crew_tx.Client.map_reduce_by_key``, as are ``initial`` and ``into``.
        :param options: as :meth:`map` takes them.
        :returns: ``into``, or a new dict.
        """
        reduced: MutableMapping[Any, Any] = {} if into is None else into
        results: Any = self.map(task_id, items, **{"ordered": False, **options})
        with closing(results):
            for answer in results:
                combine(answer, reducer, initial, reduced)
        return reduced

    # -- events and control ------------------------------------------------------------

    def publish(
        self,
        channel: str,
        data: Any = None,
        *,
        headers: Headers | None = None,
        serializer: str | None = None,
        compress: str | bool | None = None,
        persistent: bool = True,
        wait: float | None = None,
    ) -> None:
        """Publish an event, as ``crew_tx.Client.publish``; it returns when the broker has it."""
        limit = self._publish_limit(wait)
        options = {"headers": headers, "serializer": serializer, "compress": compress}
        _outcome(self._begin(self._do, "publish", channel, data, persistent=persistent, **options), limit)

    def control(
        self,
        command: str,
        target: str | None = None,
        arguments: dict[str, Any] | None = None,
        timeout: float = GATHER_TIMEOUT,
        expect: int | None = None,
    ) -> list[dict[str, Any]]:
        """Ask running workers something, or tell them to do something, as ``crew_tx.Client.control``."""
        limit = _checked(timeout) + GRACE
        answers: list[dict[str, Any]] = _outcome(
            self._begin(self._do, "control", command, target, arguments, timeout, expect), limit
        )
        return answers

    # -- in whatever thread ------------------------------------------------------------

    def _begin(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Eventual:
        if self._generation is not None:
            self._thread.check(self._generation)
        eventual = self._thread.begin(function, *arguments, **options)
        self._generation = eventual.generation
        return eventual

    def _mapped(
        self, begin: Callable[[], Mapping], feed: _Feed, items: Iterable[Any], window: int, limit: float
    ) -> Iterator[Any]:
        mapping: Mapping = self._begin(begin).wait(GRACE)
        generation = self._thread.generation
        left = iter(items)
        waiting, has_more = 0, True
        try:
            while has_more or waiting:
                result = self._begin(_next, mapping)
                # One item at least, so that the window stays full where results are quick.
                while has_more and waiting < window:
                    item = next(left, _END)
                    has_more = item is not _END
                    waiting += has_more
                    self._begin(feed.put, item)
                    if result.ready:
                        break
                value = _outcome(result, limit)
                if value is _END:
                    return
                waiting -= 1
                yield value
        finally:
            self._thread.tell(generation, mapping.cancel)

    def _publish_limit(self, wait: float | None) -> float:
        timeout: float = self._options.get("publish_timeout", PUBLISH_TIMEOUT)
        return min(timeout, LONGEST_WAIT) + GRACE if wait is None else _checked(wait)

    # -- on the reactor ----------------------------------------------------------------

    def _do(self, method: str, *arguments: Any, **options: Any) -> Any:
        return getattr(self._open(), method)(*arguments, **options)

    def _call(self, *arguments: Any, **options: Any) -> Any:
        return self._open().call(*arguments, **options)

    def _connect(self, timeout: float) -> Deferred[Any]:
        return self._open().connect(timeout)

    def _open(self) -> deferring.Client:
        """The client, connected or about to be."""
        if self._closed:
            raise ClientStoppedError(_CLOSED)
        if self._client is None:
            self._client = deferring.Client(self._thread.reactor, self._url, **self._options)
            self._leave = self._thread.at_shutdown(self._end)
        if not self._client.running:
            self._client.startService()
        return self._client

    def _shut(self) -> Deferred[None]:
        client, self._client = self._client, None
        if client is None:
            return succeed(None)
        self._leave()
        return client.close()

    def _end(self) -> Deferred[None]:
        """The reactor is about to stop."""
        self._closed = True
        client, self._client = self._client, None
        assert client is not None
        return client.close()


class Lazy:
    """
    A call that runs while its caller does something else. Any thread may fetch its value.

    :param limit: seconds that its deadline may be off.
    """

    def __init__(self, eventual: Eventual, limit: float) -> None:
        self._eventual = eventual
        self._limit = limit

    @property
    def ready(self) -> bool:
        """Whether :meth:`get` would return, or raise, at once."""
        return self._eventual.ready

    def get(self, timeout: float | None = None) -> Any:
        """
        The value, or the call's error raised, as often as it is asked for.

        :param timeout: seconds to wait; by default for as long as the call has time.
        :raises WaitTimeoutError: if there is none by then; the call goes on.
        """
        return self._eventual.wait(self._limit if timeout is None else _checked(timeout))

    def cancel(self) -> None:
        """Cancel the call; unless it was answered already, :meth:`get` raises ``CancelledError``."""
        self._eventual.cancel()


class Parallel:
    """Collects calls; made by :meth:`Client.parallel`, and for one thread."""

    def __init__(self, begin: Callable[..., Eventual], calls: DeferringParallel) -> None:
        self._begin = begin
        self._calls = calls
        self._limit = 0.0

    def __enter__(self) -> Parallel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing waits here: leaving the block neither ends nor forgets a call."""

    def call(self, task_id: str, data: Any = None, **options: Unpack[CallArguments]) -> None:
        """Start a call, with the arguments of :meth:`Client.call`."""
        self._limit = max(self._limit, _call_limit(None, options))
        self._begin(self._calls.call, task_id, data, **options)

    def result(self, wait: float | None = None) -> list[Any]:
        """
        All the values, in the order of the calls; a call that failed has its error in its place.

        :param wait: seconds to wait, after which the calls are cancelled.
        """
        limit = self._limit + GRACE if wait is None else _checked(wait)
        values: list[Any] = _outcome(self._begin(self._calls.result), limit)
        return values


class _Feed:
    """On the reactor: the items of a mapping, as another thread gives them. It is asked for one at a time."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._waiter: Deferred[None] | None = None

    def put(self, item: Any) -> None:
        """One more; ``_END`` after the last."""
        self._items.append(item)
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if not self._items:
            self._waiter = Deferred()
            await self._waiter
        item = self._items.popleft()
        if item is _END:
            raise StopAsyncIteration
        return item


async def _next(mapping: Mapping) -> Any:
    """On the reactor: the next result, or ``_END``."""
    return await anext(mapping, _END)


def _outcome(eventual: Eventual, limit: float) -> Any:
    """Wait for it; whatever ends the wait, Ctrl-C as well, ends it, too."""
    try:
        return eventual.wait(limit)
    except BaseException:
        eventual.cancel()
        raise


def _call_limit(wait: float | None, arguments: CallArguments) -> float:
    """Seconds: past a call's own deadline, which ends it in any case."""
    if wait is not None:
        return _checked(wait)
    options = CallOptions(
        expiration=arguments.get("expiration", DEFAULT_EXPIRATION), timeout=arguments.get("timeout")
    )
    options.check()
    return options.expiration + options.runs + DEADLINE_GRACE + GRACE


def _checked(seconds: float) -> float:
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds <= LONGEST_WAIT:
        raise InvalidArgumentError(
            f"a wait is a number of seconds above 0 and up to {LONGEST_WAIT:.0f}, not {seconds!r}"
        )
    return seconds
