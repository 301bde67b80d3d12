"""
The reactor, for threads that aren't its own.

A thread hands a function over with :meth:`ReactorThread.begin`, and waits for
what that comes to with :meth:`Eventual.wait`. Where the program runs Twisted's
reactor, that one serves; where it doesn't, one is run in a thread of ours: the
first time that somebody needs it, so that importing this, or making a client,
neither installs a reactor nor starts a thread.

Why not crochet, the library that is made for this? Its version 2.1 was tried. It
stops the reactor when the main thread ends, though other threads may still make
calls; where a Twisted program runs the reactor already it tries to run it a
second time; after a fork a wait hangs until its limit. Besides, it takes over
the process's logging, and wakes twenty times a second for ever. What is left to
have from it is the two classes below.

The rules:

1. Our thread, and those of its pool, are daemons. So the interpreter first
   waits for the threads of the program, and then, in ``atexit``, the reactor is
   stopped, which lets clients close.
2. Once the reactor is about to stop, nothing is begun any more; what was begun
   before still comes to its end. One lock sees to the order of the two.
3. After a fork, a reactor of ours is forgotten in the child: the next use makes
   another. A reactor that wasn't ours can't be replaced, since others hold it.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from functools import partial
from threading import Event, Lock, Thread
from typing import Any

import twisted.internet
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python import threadable
from twisted.python.failure import Failure

from crew_tx.errors import ClientStoppedError, ForkedError, WaitTimeoutError, WrongThreadError

__all__ = ["REACTOR_THREAD", "Eventual", "ReactorThread"]

#: Seconds that the reactor may take to start, and to stop at the program's end.
_STARTS_WITHIN = 10.0
_STOPS_WITHIN = 10.0
_MODULE = "twisted.internet.reactor"

_WRONG_THREAD = (
    "this is the reactor's own thread, which would wait for itself: use crew_tx.Client and its Deferreds "
    "here, or make the blocking call in another thread, with deferToThread"
)
_FOREIGN = (
    "this process was forked from one that had Twisted's reactor already, and that serves no second process: "
    "import the reactor, and make the client, after the fork (gunicorn: without --preload, or in post_fork; "
    "uWSGI: lazy-apps, or @postfork; multiprocessing: the start method 'spawn')"
)
_PARENTS = (
    "this client is the parent's: this process was forked after its first use. Make a client after the fork "
    "(gunicorn: in post_fork; uWSGI: in @postfork; multiprocessing: in the initializer of the pool)"
)
_ENDED = "Twisted's reactor has ended in this process, and it can't be run a second time"


def import_reactor() -> Any:
    """Twisted's reactor; the default one is installed if the program did not install another."""
    from twisted.internet import reactor

    return reactor


def in_reactor_thread() -> bool:
    """Whether this thread runs the reactor."""
    return threadable.isInIOThread() and getattr(sys.modules.get(_MODULE), "running", False)


class Eventual:
    """
    What becomes of something that was begun on the reactor. Any thread may use it.

    :ivar generation: of the process that it was begun in.
    """

    __slots__ = ("_deferred", "_done", "_error", "_thread", "_value", "generation")

    def __init__(self, thread: ReactorThread) -> None:
        self._thread = thread
        self._deferred: Deferred[Any] | None = None
        self._done = Event()
        self._value: Any = None
        self._error: BaseException | None = None
        self.generation = thread.generation

    @property
    def ready(self) -> bool:
        """Whether there is an outcome."""
        return self._done.is_set()

    def wait(self, seconds: float) -> Any:
        """
        The value; an error is raised here, in the thread that waits.

        :raises WaitTimeoutError: if there is no outcome in time; it may be waited for again.
        :raises WrongThreadError: in the reactor's thread.
        :raises ForkedError: in a child of the process that began it.
        """
        if not self.ready:
            self._thread.check(self.generation)
            if not self._done.wait(seconds):
                raise WaitTimeoutError(f"there is no outcome after {seconds:g} s", seconds=seconds)
        if self._error is not None:
            raise _own(self._error)
        return self._value

    def cancel(self) -> None:
        """Give it up: unless it has an outcome already, that is a ``CancelledError``."""
        if not self.ready:
            self._thread.tell(self.generation, self._cancel)

    def run(self, function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        """On the reactor: begin."""
        self._deferred = maybeDeferred(function, *arguments, **options)
        self._deferred.addBoth(self._ended)

    def _cancel(self) -> None:
        if self._deferred is not None:
            self._deferred.cancel()

    def _ended(self, outcome: object) -> None:
        self._deferred = None
        if isinstance(outcome, Failure):
            self._error = outcome.value
        else:
            self._value = outcome
        self._done.set()


class ReactorThread:
    """
    Runs functions on the reactor for other threads, and the reactor itself if need be.

    :param import_reactor: gives the reactor.
    :param in_reactor_thread: whether the thread that calls it is the reactor's.
    :ivar generation: counts the forks that led to this process.
    """

    def __init__(
        self,
        import_reactor: Callable[[], Any] = import_reactor,
        in_reactor_thread: Callable[[], bool] = in_reactor_thread,
    ) -> None:
        self._import_reactor = import_reactor
        self._in_reactor_thread = in_reactor_thread
        self._reactor: Any = None
        self._thread: Thread | None = None
        self._is_foreign = self._is_dead = self._stopping = False
        self._lock = Lock()
        self.generation = 0

    def begin(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Eventual:
        """
        Call a function on the reactor.

        :param function: may give a Deferred, or a value.
        :raises WrongThreadError: in the reactor's thread.
        :raises ForkedError: if the reactor is another process's.
        :raises ClientStoppedError: if the reactor stops or has stopped.
        """
        self.check(self.generation)
        with self._lock:
            if self._stopping:
                raise ClientStoppedError(_ENDED)
            if self._reactor is None:
                self._reactor = self._running_reactor()
            eventual = Eventual(self)
            self._reactor.callFromThread(eventual.run, function, arguments, options)
        return eventual

    def tell(self, generation: int, function: Callable[[], object]) -> None:
        """Call a function on the reactor, unless that is gone."""
        if generation == self.generation and self._reactor is not None:
            self._reactor.callFromThread(function)

    def check(self, generation: int) -> None:
        """
        See that this thread may wait for what a generation of the process began.

        :raises WrongThreadError: in the reactor's thread.
        :raises ForkedError: in another process.
        """
        if generation != self.generation:
            raise ForkedError(_PARENTS)
        if self._in_reactor_thread():
            raise WrongThreadError(_WRONG_THREAD)

    def at_shutdown(self, function: Callable[[], object]) -> Callable[[], None]:
        """
        On the reactor: call a function before it stops, and wait for its Deferred.

        :returns: what takes that back.
        """
        trigger = self._reactor.addSystemEventTrigger("before", "shutdown", function)
        return partial(self._reactor.removeSystemEventTrigger, trigger)

    @property
    def reactor(self) -> Any:
        """The reactor; there is one in all that :meth:`begin` calls."""
        return self._reactor

    def stop(self) -> None:
        """At the program's end: stop the reactor, if it is ours."""
        thread = self._thread
        if thread is not None and thread.is_alive():
            self._reactor.callFromThread(self._reactor.stop)
            thread.join(_STOPS_WITHIN)

    def forked(self) -> None:
        """In a child process: what was there before is the parent's."""
        reactor = sys.modules.get(_MODULE)
        self.generation += 1
        self._lock = Lock()
        self._stopping = False
        if self._thread is None:
            self._is_foreign = reactor is not None
            self._is_dead = getattr(reactor, "running", False)
        else:
            _forget_reactor()
        self._reactor = self._thread = None

    # -- starting ----------------------------------------------------------------------

    def _running_reactor(self) -> Any:
        reactor = self._import_reactor()
        if self._is_foreign and (self._is_dead or not reactor.running):
            raise ForkedError(_FOREIGN)
        if not reactor.running:
            self._start(reactor)
        reactor.callFromThread(reactor.addSystemEventTrigger, "before", "shutdown", self._ending, reactor)
        return reactor

    def _start(self, reactor: Any) -> None:
        started = Event()
        failed: list[Exception] = []
        # The interpreter waits for threads that aren't daemons, and these have no end of their own.
        reactor.getThreadPool().threadFactory = partial(Thread, daemon=True)
        reactor.callWhenRunning(started.set)
        self._thread = Thread(target=_run, args=(reactor, started, failed), name="crew-reactor", daemon=True)
        self._thread.start()
        started.wait(_STARTS_WITHIN)
        if failed:
            raise ClientStoppedError(f"{_ENDED}: {failed[0]!r}") from failed[0]
        atexit.register(self.stop)

    def _ending(self, reactor: Any) -> Deferred[None]:
        """Before the reactor stops: what other threads have begun comes to its turn."""
        with self._lock:
            self._stopping = True
            through: Deferred[None] = Deferred()
            reactor.callFromThread(through.callback, None)
        return through


def _run(reactor: Any, started: Event, failed: list[Exception]) -> None:
    try:
        reactor.run(installSignalHandlers=False)
    except Exception as error:
        failed.append(error)
        started.set()


def _forget_reactor() -> None:
    """Let the next import make another: nobody but us had this one run."""
    sys.modules.pop(_MODULE, None)
    vars(twisted.internet).pop("reactor", None)
    threadable.ioThread = None


def _own(error: BaseException) -> BaseException:
    """
    A copy of an error for the thread that raises it.

    One error may be the outcome of many calls, and each that raises it would
    add its own lines to the one traceback.
    """
    copy = type(error).__new__(type(error), *error.args)
    # Of an OSError, __new__ leaves them to __init__.
    copy.args = error.args
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    return copy.with_traceback(error.__traceback__)


#: Twisted has one reactor a process, so there is one of these.
REACTOR_THREAD = ReactorThread()
os.register_at_fork(after_in_child=REACTOR_THREAD.forked)
