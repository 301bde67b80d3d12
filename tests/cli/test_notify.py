"""Telling the service manager how a program is."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from pathlib import Path
from shutil import rmtree
from uuid import uuid4

from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.cli.notify import (
    INTERVAL,
    PIPE_ADDRESS,
    Health,
    Notifier,
    PipedNotices,
    environment_for_children,
    make_notifier,
    sender,
)
from crew_tx.cli.program import worker_health
from crew_tx.status import PoolStatus, StuckThread, WorkerStatus
from tests.cli.programs import PATIENCE, TWISTD, ProgramTestCase, children_of


class NotifyTestCase(SynchronousTestCase):
    """
    Tests that look at what is logged.

    :ivar logged: its formats.
    """

    def setUp(self) -> None:
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self._log)
        self.addCleanup(globalLogPublisher.removeObserver, self._log)

    def _log(self, event: LogEvent) -> None:
        self.logged.append(str(event.get("log_format")))


class NotifierTests(NotifyTestCase):
    """What is told, and when."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.health = Health(False, "connecting")
        self.notices: list[list[str]] = []
        self.error: OSError | None = None
        self.notifier = Notifier(self.clock, lambda: self.health, self.send, 0.5)
        self.notifier.start()

    def tearDown(self) -> None:
        self.notifier.stop()
        self.assertEqual([], self.clock.getDelayedCalls())

    def send(self, notice: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.assertTrue(notice.endswith(b"\n"))
        self.notices.append(notice.decode().splitlines())

    def after(self, looks: int = 1) -> list[list[str]]:
        """The notices of so many looks."""
        self.notices.clear()
        self.clock.pump([0.5] * looks)
        return self.notices

    def test_it_is_ready_once(self) -> None:
        """Not before it is well, and never again; the watchdog is served at each look."""
        self.assertEqual([["STATUS=connecting"]], self.after(2))
        self.health = Health(True, "consumes")
        self.assertEqual([["STATUS=consumes", "READY=1", "WATCHDOG=1"]], self.after())
        self.assertEqual([["WATCHDOG=1"], ["WATCHDOG=1"]], self.after(2))

    def test_the_watchdog_is_not_served_while_it_is_not_well(self) -> None:
        """But when it is again, without another word on being ready."""
        self.health = Health(True, "consumes")
        self.after()
        self.health = Health(False, "no connection")
        self.assertEqual([["STATUS=no connection"]], self.after(3))
        self.health = Health(True, "consumes")
        self.assertEqual([["STATUS=consumes", "WATCHDOG=1"]], self.after())

    def test_while_it_stops_the_watchdog_is_served(self) -> None:
        """Whatever becomes of its connection; and it is not ready any more, if it never was."""
        self.notifier.stopping()
        self.assertEqual([["STATUS=stopping", "STOPPING=1"]], self.notices)
        self.health = Health(True, "1 running")
        self.assertEqual([["STATUS=stopping: 1 running", "WATCHDOG=1"]], self.after())
        self.health = Health(False, "no connection")
        self.assertEqual([["STATUS=stopping: no connection", "WATCHDOG=1"]], self.after())

    def test_a_status_is_one_line(self) -> None:
        """Else it could say other things."""
        self.health = Health(False, "a\nREADY=1\r\x0bb")
        self.assertEqual([["STATUS=a READY=1 b"]], self.after())

    def test_where_nobody_listens_it_goes_on(self) -> None:
        """And says so once for each time that it began."""
        self.health = Health(True, "well")
        self.error = FileNotFoundError(2, "gone")
        self.assertEqual([], self.after(3))
        self.error = None
        self.assertEqual([["STATUS=well", "READY=1", "WATCHDOG=1"], ["WATCHDOG=1"]], self.after(2))
        self.error = FileNotFoundError(2, "gone")
        self.after()
        self.assertEqual(2, len([text for text in self.logged if "service manager can't be told" in text]))


class SenderTests(NotifyTestCase):
    """Where notices go to."""

    def listening(self, address: str) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(address)
        listener.settimeout(PATIENCE)
        self.addCleanup(listener.close)
        return listener

    def test_a_path(self) -> None:
        """Or an abstract socket, whose name has no file."""
        name = f"crew-{uuid4().hex}"
        folder = tempfile.mkdtemp()
        self.addCleanup(rmtree, folder)
        for bound, address in ((f"{folder}/{name}", f"{folder}/{name}"), (f"\0{name}", f"@{name}")):
            listener = self.listening(bound)
            send = sender(address)
            send(b"READY=1\n")
            send(b"STOPPING=1\n")
            self.assertEqual([b"READY=1\n", b"STOPPING=1\n"], [listener.recv(100), listener.recv(100)])

    def test_a_pipe(self) -> None:
        """Of a child, which its own programs don't get."""
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        os.set_inheritable(write, True)
        send = sender(f"fd:{write}")
        send(b"WATCHDOG=1\n")
        self.assertEqual(b"WATCHDOG=1\n", os.read(read, 100))
        self.assertEqual((False, False), (os.get_inheritable(write), os.get_blocking(write)))
        os.close(write)
        self.assertRaises(OSError, send, b"WATCHDOG=1\n")

    def test_a_socket_that_takes_no_more_does_not_hold_us_up(self) -> None:
        """It is an error as any other."""
        folder = tempfile.mkdtemp()
        self.addCleanup(rmtree, folder)
        self.listening(f"{folder}/s")
        send = sender(f"{folder}/s")
        with self.assertRaises(BlockingIOError):
            for _ in range(100_000):
                send(b"WATCHDOG=1\n")

    def test_nothing_else(self) -> None:
        """Nor a pipe that is not open."""
        for address in ("", "@", "/", "vsock:2:1", "fd:", "fd:x", "relative"):
            self.assertRaises(ValueError, sender, address)
        read, write = os.pipe()
        os.close(read)
        os.close(write)
        self.assertRaises(ValueError, sender, f"fd:{write}")


class MakeNotifierTests(NotifyTestCase):
    """What the environment asks for."""

    def interval(self, **environment: str) -> float:
        """Seconds to the first look."""
        clock = Clock()
        notifier = make_notifier(
            clock, lambda: Health(True, ""), {"NOTIFY_SOCKET": "/nowhere", **environment}
        )
        assert notifier is not None
        notifier.start()
        self.addCleanup(notifier.stop)
        [look] = clock.getDelayedCalls()
        return look.getTime()

    def test_nobody_may_ask(self) -> None:
        """Then there is nothing to do."""
        for environment in ({}, {"NOTIFY_SOCKET": "", "WATCHDOG_USEC": "1"}):
            self.assertIsNone(make_notifier(Clock(), lambda: Health(True, ""), environment))

    def test_what_asks_is_for_this_process_alone(self) -> None:
        """Programs that tasks start don't speak for it."""
        environment = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "A": "b"}
        self.assertIsNotNone(make_notifier(Clock(), lambda: Health(True, ""), environment))
        self.assertEqual({"A": "b"}, environment)

    def test_the_watchdog_is_served_in_time(self) -> None:
        """Three times in each of its periods, at least."""
        for microseconds, seconds in (
            ("600000000", INTERVAL),
            ("600000", 0.2),
            ("", INTERVAL),
            ("x", INTERVAL),
        ):
            self.assertAlmostEqual(seconds, self.interval(WATCHDOG_USEC=microseconds))

    def test_an_address_that_is_wrong_is_told(self) -> None:
        """And the program runs all the same."""
        self.assertIsNone(make_notifier(Clock(), lambda: Health(True, ""), {"NOTIFY_SOCKET": "vsock:2:1"}))
        self.assertIn("{variable} in the environment: {error}", self.logged)

    def test_children_are_asked_where_their_supervisor_is(self) -> None:
        """They answer by their pipes."""
        self.assertEqual({"NOTIFY_SOCKET": PIPE_ADDRESS}, environment_for_children({"NOTIFY_SOCKET": "/a"}))
        self.assertEqual({}, environment_for_children({}))


class PipedNoticesTests(SynchronousTestCase):
    """A supervisor sums up."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.notices = PipedNotices(self.clock)

    def health(self) -> Health:
        return self.notices.health({"fork-1", "fork-2"})

    def test_all_have_to_be_well(self) -> None:
        """Those that aren't are named."""
        self.assertEqual(Health(False, "0 of 2 workers consume; not fork-1, fork-2"), self.health())
        self.notices.received("fork-1", b"STATUS=x\nREADY=1\nWATCHDOG=1\n")
        self.notices.received("fork-2", b"STATUS=connecting\n")
        self.assertEqual(Health(False, "1 of 2 workers consume; not fork-2"), self.health())
        self.notices.received("fork-2", b"WATCHDOG=1\nSTATUS=")
        self.assertEqual(Health(True, "2 of 2 workers consume"), self.health())

    def test_one_that_falls_silent_is_not_well(self) -> None:
        """It says so each second, while it is."""
        self.notices.received("fork-1", b"WATCHDOG=1\n")
        self.clock.advance(9)
        self.notices.received("fork-2", b"WATCHDOG=1\n")
        self.assertTrue(self.health().well)
        self.clock.advance(1)
        self.assertEqual(Health(False, "1 of 2 workers consume; not fork-1"), self.health())

    def test_one_that_ended_is_not_well(self) -> None:
        """Until the one in its place is; one that is not wanted any more counts for nothing."""
        for name in ("fork-1", "fork-2"):
            self.notices.received(name, b"WATCHDOG=1\n")
        self.notices.gone("fork-2")
        self.assertFalse(self.health().well)
        self.assertEqual(Health(True, "1 of 1 workers consume"), self.notices.health({"fork-1"}))


class WorkerHealthTests(SynchronousTestCase):
    """When a worker is well."""

    def health(self, *, connected: bool = True, paused: bool = False, pool: PoolStatus) -> Health:
        return worker_health(
            WorkerStatus(
                "w-1", "w", "h", 1, ("a",), connected, "amqp://h", pool, 7, in_progress=2, paused=paused
            )
        )

    def test_it_is_connected_and_its_pool_takes_calls(self) -> None:
        """Also when it is busy, or has nothing to do."""
        for idle, busy in ((4, 0), (0, 4), (2, 2)):
            self.assertEqual(
                Health(True, "consumes from amqp://h; 2 running, 7 done"),
                self.health(pool=PoolStatus(4, idle, busy)),
            )

    def test_without_a_connection_it_is_not(self) -> None:
        """Nor when its pool is stopped."""
        pool = PoolStatus(4, 4, 0)
        self.assertEqual(Health(False, "no connection to amqp://h"), self.health(connected=False, pool=pool))
        self.assertFalse(self.health(pool=PoolStatus(4, 0, 0)).well)

    def test_what_is_unusual_is_said(self) -> None:
        """Neither is a reason to start it anew."""
        stuck = (StuckThread("t", "a", "c", 1.0),)
        self.assertEqual(
            Health(True, "paused; consumes from amqp://h; 2 running, 7 done, 1 threads stuck"),
            self.health(paused=True, pool=PoolStatus(4, 4, 0, stuck)),
        )


class ServedTests(ProgramTestCase):
    """Real programs, and a socket in the service manager's place."""

    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.mkdtemp()
        self.addCleanup(rmtree, folder)
        self.address = str(Path(folder) / "notify")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.listener.close)
        self.listener.bind(self.address)
        self.listener.settimeout(PATIENCE)
        self.heard: list[str] = []

    def wait_for_notice(self, line: str) -> None:
        limit = time.monotonic() + PATIENCE
        self.heard = []
        while not any(each.startswith(line) for each in self.heard):
            self.assertLess(time.monotonic(), limit, f"no {line} in {self.heard}")
            self.heard += self.listener.recv(10_000).decode().splitlines()

    def test_a_worker_is_ready_when_it_consumes(self) -> None:
        """Then its watchdog is served; its end is announced, and its tasks' programs can't speak for it."""
        asks = self.write("asks.py", ASKS.format(task=self.task))
        for command in ([*TWISTD, asks], [sys.executable, "-m", "crew_tx.cli.child", asks]):
            program = self.start(*command, NOTIFY_SOCKET=self.address, WATCHDOG_USEC="900000")
            self.wait_for_notice("READY=1")
            self.wait_for_notice("WATCHDOG=1")
            self.call(self.task)
            program.wait_for("asked by None")
            program.signal()
            self.wait_for_notice("STOPPING=1")
            self.assertEqual(0, program.ended())

    def test_one_without_a_broker_is_not_ready(self) -> None:
        """It says what it waits for; nor is its watchdog served."""
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            url = f"amqp://guest:secret@127.0.0.1:{nobody.getsockname()[1]}"
            program = self.start(*TWISTD, self.script, NOTIFY_SOCKET=self.address, CREW_BROKER=url)
            self.wait_for_notice("STATUS=no connection to amqp://guest@127.0.0.1")
            program.signal()
            self.wait_for_notice("STOPPING=1")
            self.assertFalse({"READY=1", "WATCHDOG=1"} & set(self.heard))

    def test_a_supervisor_speaks_for_its_workers(self) -> None:
        """It is ready when all consume, and not well while one is away."""
        program = self.start(*TWISTD, "--forks=2", self.script, NOTIFY_SOCKET=self.address)
        self.wait_for_notice("READY=1")
        self.assertIn("STATUS=2 of 2 workers consume", self.heard)
        os.kill(children_of(program.process.pid)[0], 9)
        self.wait_for_notice("STATUS=1 of 2 workers consume; not fork-")
        self.wait_for_notice("STATUS=2 of 2 workers consume")
        program.signal()
        self.wait_for_notice("STOPPING=1")
        self.assertEqual(0, program.ended())


ASKS = """
import os
from crew_tx.worker import Task

@Task("{task}")
def ask(request):
    print("asked by", os.environ.get("NOTIFY_SOCKET"), flush=True)
"""
