"""``twistd crew-worker`` and ``twist crew-worker``."""

from __future__ import annotations

import atexit
import os
import sys
from io import StringIO
from typing import Any

from twisted.application.twist._options import TwistOptions
from twisted.logger import LogLevel
from twisted.scripts.twistd import ServerOptions
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.cli.program import WorkerProgram
from crew_tx.cli.service import share_logging
from crew_tx.cli.worker import Options, makeService

SERVICE = """
from crew_tx.worker import Task
@Task("test")
def test(req):
    pass
"""


class TapTestCase(SynchronousTestCase):
    """Command lines in an environment of one's own."""

    def setUp(self) -> None:
        self.patch(os, "environ", {})

    def options(self, *arguments: str) -> Options:
        options = Options()
        options.parseOptions([*arguments, "a.py"])
        return options


class MakeServiceTests(TapTestCase):
    """The service of the plugin."""

    def test_it_is_a_worker_of_the_services(self) -> None:
        """And sees to the exit code of twistd."""
        hooks: list[Any] = []
        self.patch(atexit, "register", hooks.append)
        self.patch(sys, "path", list(sys.path))
        path = os.path.abspath(f"{self.mktemp()}.py")
        with open(path, "w") as file:
            file.write(SERVICE)
        options = Options()
        options.parseOptions([path])
        program = makeService(options)
        self.addCleanup(sys.modules.pop, os.path.basename(path).removesuffix(".py"))
        assert isinstance(program, WorkerProgram)
        (worker,) = program
        self.assertEqual(("test",), worker.status().tasks)
        self.assertEqual(1, len(hooks))
        self.assertIsNone(program.observer)


class LoggingTests(TapTestCase):
    """The options about logs, in what the worker runs in."""

    def twistd(self, *arguments: str) -> ServerOptions:
        parent = ServerOptions()
        parent.parseOptions([*arguments, "--python=x"])
        return parent

    def test_twist_is_told_the_level_and_the_format(self) -> None:
        """By its own options."""
        parent = TwistOptions()
        parent.selectDefaultLogObserver()
        self.assertIsNone(share_logging(self.options("--logging=warn", "--log-format=text"), parent))
        self.assertIs(LogLevel.warn, parent["logLevel"])
        stream = StringIO()
        event = {
            "log_format": "é\x1b",
            "log_time": 0.0,
            "log_namespace": "a",
            "log_level": LogLevel.info,
        }
        parent["fileLogObserverFactory"](stream)(event)
        self.assertTrue(stream.getvalue().endswith("[a#info] é\\x1b\n"), stream.getvalue())

    def test_twist_is_left_alone_without_them(self) -> None:
        """It has options of its own."""
        parent = TwistOptions()
        parent.selectDefaultLogObserver()
        parent["logLevel"] = LogLevel.error
        before = dict(parent)
        share_logging(self.options(), parent)
        self.assertEqual(before, dict(parent))

    def test_twistd_that_logs_to_stdout_is_given_an_observer(self) -> None:
        """Of the level that is asked for."""
        out = StringIO()
        self.patch(sys, "stdout", out)
        for arguments in (("-n",), ("-n", "--logfile=-")):
            observer = share_logging(self.options("--logging=warn"), self.twistd(*arguments))
            assert observer is not None
            for level in (LogLevel.info, LogLevel.warn):
                observer({"log_format": "x", "log_time": 0.0, "log_namespace": "a", "log_level": level})
        self.assertEqual(["[a#warn] x"] * 2, [line.split(" ", 1)[1] for line in out.getvalue().splitlines()])

    def test_twistds_files_and_syslog_are_left_alone(self) -> None:
        """They are its own."""
        for arguments in ((), ("-n", "--logfile=x"), ("-n", "--syslog")):
            self.assertIsNone(share_logging(self.options("--logging=warn"), self.twistd(*arguments)))
