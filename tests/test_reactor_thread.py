"""The reactor for threads that aren't its own: on reactors in memory, in the test's own thread."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ReactorNotRestartable
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.errors import (
    ClientStoppedError,
    ConnectionLostError,
    ExpirationError,
    ForkedError,
    WaitTimeoutError,
    WrongThreadError,
)
from crew_tx.reactor_thread import Eventual, ReactorThread

#: Seconds to wait for what doesn't come.
_SHORT = 0.001


class Pool:
    """A reactor's thread pool, as far as it is looked at."""

    def __init__(self) -> None:
        self.threadFactory: Any = None


class Reactor:
    """
    A reactor that other threads hand functions to.

    :ivar waiting: what was handed over and not run.
    :ivar triggers: what is to be called before it stops.
    """

    def __init__(self, running: bool = True, refuses: Exception | None = None) -> None:
        self.running = running
        self.waiting: list[Callable[[], object]] = []
        self.triggers: list[Any] = []
        self.pool = Pool()
        self._refuses = refuses
        self._started: list[Callable[[], object]] = []

    def callFromThread(self, function: Callable[..., object], *arguments: Any) -> None:
        self.waiting.append(lambda: function(*arguments))

    def addSystemEventTrigger(self, phase: str, event: str, function: Any, *arguments: Any) -> Any:
        self.triggers.append((phase, event, lambda: function(*arguments)))
        return self.triggers[-1]

    def removeSystemEventTrigger(self, trigger: Any) -> None:
        self.triggers.remove(trigger)

    def callWhenRunning(self, function: Callable[[], object]) -> None:
        self._started.append(function)

    def getThreadPool(self) -> Pool:
        return self.pool

    def run(self, installSignalHandlers: bool) -> None:
        assert not installSignalHandlers, "signals are for the main thread"
        if self._refuses is not None:
            raise self._refuses
        self.running = True
        for function in self._started:
            function()

    def flush(self) -> None:
        """Run what was handed over."""
        while self.waiting:
            self.waiting.pop(0)()

    def shut(self) -> list[Any]:
        """What its triggers give as it is about to stop."""
        return [function() for _, _, function in self.triggers]


class ReactorThreadTestCase(SynchronousTestCase):
    """Tests of a program that runs the reactor already."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.is_reactor_thread = False
        self.thread = ReactorThread(lambda: self.reactor, lambda: self.is_reactor_thread)

    def begin(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Eventual:
        """What has begun."""
        eventual = self.thread.begin(function, *arguments, **options)
        self.reactor.flush()
        return eventual


class OutcomeTests(ReactorThreadTestCase):
    """What a thread gets."""

    def test_a_value_comes_at_once(self) -> None:
        """With the arguments as they were given."""
        eventual = self.begin(lambda *args, **options: (args, options), 1, x=2)
        self.assertTrue(eventual.ready)
        self.assertEqual(eventual.wait(_SHORT), ((1,), {"x": 2}))

    def test_nothing_runs_before_the_reactor_gets_to_it(self) -> None:
        """It is handed over, and no more."""
        ran: list[int] = []
        eventual = self.thread.begin(ran.append, 1)
        self.assertEqual((ran, eventual.ready), ([], False))
        self.reactor.flush()
        self.assertEqual((ran, eventual.ready), ([1], True))

    def test_a_deferred_is_waited_for(self) -> None:
        """And may be asked again after a wait that was too short."""
        waiting: Deferred[str] = Deferred()
        eventual = self.begin(lambda: waiting)
        error = self.assertRaises(WaitTimeoutError, eventual.wait, _SHORT)
        self.assertIsInstance(error, TimeoutError)
        self.assertEqual(error.seconds, _SHORT)
        waiting.callback("late")
        self.assertEqual([eventual.wait(_SHORT), eventual.wait(_SHORT)], ["late", "late"])

    def test_an_error_is_raised_where_it_is_waited_for(self) -> None:
        """Its traceback ends with this very line, and each raise has one of its own."""
        given = ExpirationError("gone", reason="unanswered", expiration=3.0)
        eventual = self.begin(lambda: _failed(given))
        raised: list[ExpirationError] = []
        for _ in range(2):
            try:
                eventual.wait(_SHORT)  # the caller's line
            except ExpirationError as error:
                raised.append(error)
        for error in raised:
            self.assertEqual((str(error), error.reason, error.expiration), ("gone", "unanswered", 3.0))
            lines = [frame.line for frame in traceback.extract_tb(error.__traceback__)]
            self.assertEqual(lines.count("eventual.wait(_SHORT)  # the caller's line"), 1)
        self.assertIsNot(raised[0], raised[1])

    def test_an_error_that_is_a_builtin_one_as_well(self) -> None:
        """Its text and its attributes are kept."""
        eventual = self.begin(lambda: _failed(ConnectionLostError("cut", maybe_sent=True)))
        error = self.assertRaises(ConnectionLostError, eventual.wait, _SHORT)
        self.assertEqual((str(error), error.maybe_sent), ("cut", True))

    def test_cancelling(self) -> None:
        """It ends the Deferred; what has an outcome keeps it."""
        cancelled: list[Any] = []
        waiting: Deferred[None] = Deferred(cancelled.append)
        eventual, done = self.begin(lambda: waiting), self.begin(lambda: 1)
        for each in (eventual, done):
            each.cancel()
        self.reactor.flush()
        self.assertEqual(cancelled, [waiting])
        self.assertRaises(CancelledError, eventual.wait, _SHORT)
        self.assertEqual(done.wait(_SHORT), 1)

    def test_an_outcome_comes_before_its_cancel(self) -> None:
        """Nothing happens to it."""
        eventual = self.thread.begin(lambda: 1)
        eventual.cancel()
        self.reactor.flush()
        self.assertEqual(eventual.wait(_SHORT), 1)


class RefusalTests(ReactorThreadTestCase):
    """Where a thread would wait for ever."""

    def test_the_reactors_own_thread(self) -> None:
        """It neither begins nor waits; what has come may be taken."""
        waiting, done = self.begin(Deferred), self.begin(lambda: 1)
        self.is_reactor_thread = True
        error = self.assertRaises(WrongThreadError, self.thread.begin, Deferred)
        self.assertIn("deferToThread", str(error))
        self.assertRaises(WrongThreadError, waiting.wait, _SHORT)
        self.assertEqual(done.wait(_SHORT), 1)
        self.assertEqual(self.reactor.waiting, [])

    def test_a_child_does_not_wait_for_the_parents(self) -> None:
        """The error names the remedy; to cancel it is for the parent, too."""
        waiting, done = self.begin(Deferred), self.begin(lambda: 1)
        self.thread.forked()
        error = self.assertRaises(ForkedError, waiting.wait, _SHORT)
        self.assertIn("post_fork", str(error))
        waiting.cancel()
        self.assertEqual(self.reactor.waiting, [])
        self.assertEqual(done.wait(_SHORT), 1)

    def test_after_the_reactors_end(self) -> None:
        """What was handed over before comes to its turn, and nothing more is taken."""
        self.begin(lambda: None)
        last = self.thread.begin(lambda: "last")
        [through] = self.reactor.shut()
        self.assertNoResult(through)
        error = self.assertRaises(ClientStoppedError, self.thread.begin, lambda: None)
        self.assertIn("ended", str(error))
        self.reactor.flush()
        self.successResultOf(through)
        self.assertEqual(last.wait(_SHORT), "last")


class ForeignTests(SynchronousTestCase):
    """A child of a process whose reactor was not ours."""

    def forked(self, running: bool) -> tuple[Reactor, ReactorThread]:
        """The child's side, where the reactor was there, and perhaps ran, before the fork."""
        reactor = Reactor(running=running)
        thread = ReactorThread(lambda: reactor, lambda: False)
        with patch.dict(sys.modules, {"twisted.internet.reactor": reactor}):
            thread.forked()
        return reactor, thread

    def test_one_that_ran(self) -> None:
        """It looks as if it ran here, too, and does not."""
        _, thread = self.forked(running=True)
        error = self.assertRaises(ForkedError, thread.begin, lambda: None)
        self.assertIn("lazy-apps", str(error))

    def test_one_that_did_not_run(self) -> None:
        """It can't be started here; unless the program has done so, as a daemon does."""
        reactor, thread = self.forked(running=False)
        self.assertRaises(ForkedError, thread.begin, lambda: None)
        self.assertFalse(reactor.running)
        reactor.running = True
        eventual = thread.begin(lambda: 1)
        reactor.flush()
        self.assertEqual(eventual.wait(_SHORT), 1)


class ShutdownTests(ReactorThreadTestCase):
    """What is done before the reactor stops."""

    def test_its_own_trigger_is_the_first(self) -> None:
        """One, however often it is used; others come and go."""
        for _ in range(3):
            self.begin(lambda: None)
        [own] = self.reactor.triggers
        self.assertEqual(own[:2], ("before", "shutdown"))
        take_back = self.begin(self.thread.at_shutdown, lambda: "closed").wait(_SHORT)
        self.assertEqual(self.reactor.triggers[1][2](), "closed")
        take_back()
        self.assertEqual(self.reactor.triggers, [own])

    def test_a_reactor_of_others_is_left_running(self) -> None:
        """The program's end is not ours to make."""
        self.begin(lambda: None)
        self.thread.stop()
        self.assertEqual(self.reactor.waiting, [])


class StartTests(SynchronousTestCase):
    """A program that has no reactor running; the thread that runs it ends at once."""

    def test_it_is_run_once(self) -> None:
        """By a daemon, like the threads of its pool, so that the interpreter can end."""
        reactor = Reactor(running=False)
        thread = ReactorThread(lambda: reactor, lambda: False)
        for _ in range(2):
            thread.begin(lambda: None)
        self.assertTrue(reactor.running)
        self.assertTrue(reactor.pool.threadFactory(target=None).daemon)
        reactor.flush()
        self.assertEqual(len(reactor.triggers), 1)

    def test_one_that_ran_before(self) -> None:
        """Twisted's starts once a process: the error says so, each time."""
        reactor = Reactor(running=False, refuses=ReactorNotRestartable())
        thread = ReactorThread(lambda: reactor, lambda: False)
        for _ in range(2):
            error = self.assertRaises(ClientStoppedError, thread.begin, lambda: None)
            self.assertIn("second time", str(error))
        self.assertEqual(reactor.waiting, [])


def _failed(error: Exception) -> Deferred[Any]:
    failed: Deferred[Any] = Deferred()
    failed.errback(error)
    return failed
