"""How a worker's process ends."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from io import StringIO
from typing import Any

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.cli.ending import DRAINED, LONGEST_END, LONGEST_HURRY, Ending
from crew_tx.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionLostError,
    NotFoundError,
    ThreadsStuckError,
)


class FakeReactor:
    """Notes what is done to it, in one list; it runs from the start."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.triggers: dict[str, Callable[[], object]] = {}

    def callWhenRunning(self, function: Callable[[], object]) -> None:
        function()

    def callFromThread(self, function: Callable[..., object], *arguments: Any) -> None:
        self.log.append("from thread")
        function(*arguments)

    def addSystemEventTrigger(
        self, phase: str, event: str, function: Callable[..., object], *arguments: Any
    ) -> None:
        self.triggers[f"{phase} {event}"] = lambda: function(*arguments)

    def stop(self) -> None:
        self.log.append("stop")

    def crash(self) -> None:
        self.log.append("crash")


class EndingTests(SynchronousTestCase):
    """An ending whose reactor, handlers and threads are made up."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.log = self.reactor.log
        self.handlers: dict[int, Callable[[int, None], Any]] = {}
        self.guards: list[tuple[float, Callable[[], object]]] = []
        self.err = StringIO()
        self.patch(sys, "__stderr__", self.err)

    def ending(self, is_child: bool = False) -> Ending:
        ending = Ending(
            self.reactor,
            "work",
            is_child=is_child,
            set_handler=self.handlers.__setitem__,
            leave=lambda code: self.log.append(f"leave {code}"),
            in_thread_later=lambda seconds, function: self.guards.append((seconds, function)),
        )
        ending.abandon = lambda: self.log.append("abandon")
        ending.begin()
        return ending

    def signalled(self, number: int) -> None:
        self.handlers[number](number, None)

    def test_a_command_to_drain_stops_it_in_order(self) -> None:
        """As SIGTERM does, with 0."""
        ending = self.ending()
        ending.asked("drain")
        self.assertEqual(["stop"], self.log)
        self.assertEqual(0, ending.code)

    def test_a_child_tells_its_supervisor_that_it_was_drained(self) -> None:
        """By its exit code, also where tasks did not end in time."""
        ending = self.ending(is_child=True)
        ending.asked("drain")
        ending.mark(1)
        self.assertEqual((["stop"], DRAINED), (self.log, ending.code))

    def test_a_command_to_kill_ends_it_at_once(self) -> None:
        """With 1, and by force if it lingers."""
        ending = self.ending()
        ending.asked("kill")
        self.assertEqual(["abandon", "crash"], self.log)
        ((seconds, leave),) = self.guards
        self.assertEqual(LONGEST_HURRY, seconds)
        leave()
        self.assertEqual("leave 1", self.log[-1])

    def test_what_it_waits_for_is_the_programs(self) -> None:
        """As the log has it."""
        ending = Ending(self.reactor, "work", awaits="all is well", set_handler=self.handlers.__setitem__)
        ending.begin()
        with capturedLogs() as events:
            self.signalled(signal.SIGTERM)
        [event] = events
        self.assertIn("SIGTERM: stopping when all is well;", event["log_format"].format(**event))

    def test_the_first_signal_stops_in_order(self) -> None:
        """By the reactor's own way, from a signal handler; the code is 0."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.log.clear()
            ending = self.ending()
            self.signalled(number)
            self.assertEqual(["from thread", "stop"], self.log)
            self.assertEqual(0, ending.code)

    def test_the_second_signal_stops_now(self) -> None:
        """Whichever it is; what was started is left, and the code is 1."""
        ending = self.ending()
        self.signalled(signal.SIGINT)
        self.log.clear()
        self.signalled(signal.SIGTERM)
        self.assertEqual(["from thread", "abandon", "crash"], self.log)
        self.assertEqual(1, ending.code)

    def test_the_second_signal_ends_even_a_reactor_that_hangs(self) -> None:
        """A thread sees to it."""
        self.ending()
        self.signalled(signal.SIGTERM)
        self.assertEqual([], self.guards)
        self.signalled(signal.SIGTERM)
        ((seconds, leave),) = self.guards
        leave()
        self.assertEqual((LONGEST_HURRY, "leave 1"), (seconds, self.log[-1]))

    def test_the_process_is_guarded_once_the_worker_has_drained(self) -> None:
        """Threads of others could keep it for ever."""
        self.ending()
        self.reactor.triggers["during shutdown"]()
        ((seconds, leave),) = self.guards
        leave()
        self.assertEqual((LONGEST_END, "leave 0"), (seconds, self.log[-1]))

    def test_a_child_leaves_ctrl_c_to_its_supervisor(self) -> None:
        """The terminal sends it to both; it is handled, not ignored, for the sake of its own children."""
        self.ending(is_child=True)
        self.signalled(signal.SIGINT)
        self.signalled(signal.SIGINT)
        self.assertEqual([], self.log)
        self.signalled(signal.SIGTERM)
        self.assertEqual(["from thread", "stop"], self.log)

    def test_it_stops_once(self) -> None:
        """A reactor that has stopped raises."""
        ending = self.ending()
        ending.stop()
        ending.stop()
        self.assertEqual(["stop"], self.log)

    def test_it_does_not_stop_what_others_have_stopped(self) -> None:
        """That is seen by the shutdown."""
        ending = self.ending()
        self.reactor.triggers["before shutdown"]()
        ending.stop()
        self.assertEqual([], self.log)

    def test_a_fatal_error_is_told_and_has_its_code(self) -> None:
        """In one line, with what to change."""
        stuck = ThreadsStuckError(17)
        for error, code, text in (
            (AuthenticationError("refused; mend the password"), 78, "refused; mend the password"),
            (NotFoundError("no vhost"), 78, "no vhost; make it on the broker, or mend its name"),
            (ConfigurationError("no file"), 78, "no file"),
            (stuck, 75, "17 threads are stuck"),
            (ConnectionLostError("lost"), 1, "lost"),
        ):
            ending = self.ending()
            self.err.truncate(0)
            self.err.seek(0)
            ending.fatal(error)
            self.assertEqual(code, ending.code)
            self.assertTrue(self.err.getvalue().startswith(f"work: {text}"), self.err.getvalue())
            self.assertEqual(1, self.err.getvalue().count("\n"))
            self.assertTrue(ending.stopping)

    def test_a_childs_fatal_error_is_only_logged(self) -> None:
        """The supervisor reads the log."""
        self.ending(is_child=True).fatal(ConnectionLostError("lost"))
        self.assertEqual("", self.err.getvalue())

    def test_the_first_reason_sets_the_code(self) -> None:
        """What follows from it doesn't."""
        ending = self.ending()
        ending.mark(78)
        ending.mark(1)
        self.assertEqual(78, ending.code)

    def test_the_exit_hook_sets_a_code_that_is_not_0(self) -> None:
        """0 is what the process ends with by itself."""
        hooks: list[Callable[[], None]] = []
        self.patch(sys.modules["crew_tx.cli.ending"].atexit, "register", hooks.append)
        ending = self.ending()
        ending.set_code_at_exit()
        hooks[0]()
        self.assertEqual([], self.log)
        ending.mark(75)
        hooks[0]()
        self.assertEqual(["leave 75"], self.log)
