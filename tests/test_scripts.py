"""The scripts that can be tried without RabbitMQ."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.testing.rabbitmq import BROKER_VARIABLE

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
#: Seconds that a broker may take to be gone, once it was told.
PATIENCE = 20.0

MODULE = """
from twisted.trial.unittest import SynchronousTestCase

class Tests(SynchronousTestCase):
    def test_passes(self): pass
    def test_passes_too(self): print("PASSED (successes=99)")
    def test_is_skipped(self): pass
    test_is_skipped.skip = "not today"
    def test_fails_as_marked(self): self.fail()
    test_fails_as_marked.todo = "some day"
"""

FAILING = """
    def test_fails(self): self.fail()
    def test_raises(self): 1 / 0
    def test_passes_though_marked(self): pass
    test_passes_though_marked.todo = "is done"
"""


def started(script: str, folder: str, source: str) -> subprocess.Popen[str]:
    """A run of a made-up module, in a folder that is made."""
    Path(folder).mkdir()
    Path(folder, "test_made_up.py").write_text(source)
    return subprocess.Popen(
        [sys.executable, str(SCRIPTS / script), "test_made_up"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


class CountedTrialTests(SynchronousTestCase):
    """The line that closes a run of the tests."""

    def counted(self, source: str) -> tuple[int, list[str]]:
        """The exit code and the lines of a run of a made-up module."""
        with started("_counted_trial.py", self.mktemp(), source) as trial:
            output, _ = trial.communicate()
        return trial.returncode, output.splitlines()

    def test_all_well(self) -> None:
        """Skipped ones are named apart; what fails as marked has passed."""
        code, lines = self.counted(MODULE)
        self.assertEqual((0, "3 passed, 0 failed, 1 skipped"), (code, lines[-1]))

    def test_failures_and_errors_are_failed(self) -> None:
        """As well as a pass that was not to be."""
        code, lines = self.counted(MODULE + FAILING)
        self.assertEqual((1, "3 passed, 3 failed, 1 skipped"), (code, lines[-1]))

    def test_a_run_that_dies_counts_nothing(self) -> None:
        """Its exit code is that of a failure."""
        code, lines = self.counted(MODULE + "    def test_dies(self): import os; os._exit(7)")
        self.assertEqual((7, "trial ended without a summary"), (code, lines[-1]))


INTERRUPTED = """
import atexit, time
from twisted.trial.unittest import SynchronousTestCase

atexit.register(print, "hook", flush=True)

class Tests(SynchronousTestCase):
    def test_a(self):
        self.addCleanup(print, "cleaned")
        print("begun", flush=True)
        time.sleep(60)
    def test_b(self): print("another")
"""

#: The reactor's handler of signals stays after such a test.
ASYNCHRONOUS = """
from twisted.internet import reactor, task
from twisted.trial.unittest import TestCase

class AsynchronousTests(TestCase):
    def test_a(self): return task.deferLater(reactor, 0.01)
"""

INTERRUPTED_ASYNCHRONOUS = """
import atexit
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

atexit.register(print, "hook", flush=True)

class Tests(TestCase):
    def test_a(self):
        self.addCleanup(print, "cleaned")
        reactor.callLater(0.1, print, "begun", flush=True)
        return Deferred()
    def test_b(self): print("another")
"""


class InterruptedTrialTests(SynchronousTestCase):
    """A run that is told to end."""

    def test_it_leaves_nothing_behind(self) -> None:
        """The test that runs cleans up, no other begins, and what was left for the end is done."""
        for source in (INTERRUPTED, ASYNCHRONOUS + INTERRUPTED):
            self.assertIn("KeyboardInterrupt", self.interrupted(source))

    def test_nor_does_an_asynchronous_test(self) -> None:
        """Its time is over."""
        self.assertIn("TimeoutError", self.interrupted(INTERRUPTED_ASYNCHRONOUS))

    def interrupted(self, source: str) -> str:
        """What a run prints that is told to end."""
        trial = started("_trial.py", self.mktemp(), source)
        self.addCleanup(trial.wait)
        self.addCleanup(trial.kill)
        assert trial.stdout is not None
        self.addCleanup(trial.stdout.close)
        while "begun" not in trial.stdout.readline():
            self.assertIsNone(trial.poll())
        trial.terminate()
        output, _ = trial.communicate(timeout=PATIENCE)
        self.assertIn("cleaned\n", output)
        self.assertTrue(output.endswith("hook\n"), output)
        self.assertNotIn("another", output)
        self.assertEqual(trial.returncode, 1)
        return output


class LanesTests(SynchronousTestCase):
    """All tests, in two lanes."""

    def run_lanes(self, **modules: str) -> tuple[int, list[str]]:
        """The exit code and the lines, where there are these tests alone."""
        folder = Path(self.mktemp()).absolute()
        (folder / "tests" / "cli").mkdir(parents=True)
        for path in ("tests/__init__.py", "tests/cli/__init__.py"):
            (folder / path).touch()
        for name, source in modules.items():
            (folder / "tests" / name.replace("_in_", "/")).with_suffix(".py").write_text(source)
        program = (
            "import sys, _lanes, pathlib; _lanes.TESTS = pathlib.Path('tests'); "
            "_lanes.FIRST = ('tests.cli',); sys.exit(_lanes.main([]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(SCRIPTS), str(folder)]),
                # Which these tests don't use: so no RabbitMQ is started for them.
                BROKER_VARIABLE: "amqp://127.0.0.1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.returncode, done.stdout.splitlines()

    def test_both_are_counted(self) -> None:
        """And both are shown, one behind the other."""
        code, lines = self.run_lanes(test_made_up=MODULE, cli_in_test_made_up=MODULE)
        self.assertEqual((0, "6 passed, 0 failed, 2 skipped"), (code, lines[-1]))
        self.assertEqual(2, sum("test_passes_too" in line for line in lines))

    def test_a_failure_in_either_is_one(self) -> None:
        """Whichever it is."""
        for failing, well in (
            ("test_made_up", "cli_in_test_made_up"),
            ("cli_in_test_made_up", "test_made_up"),
        ):
            code, lines = self.run_lanes(**{failing: MODULE + FAILING, well: MODULE})
            self.assertEqual((1, "6 passed, 3 failed, 2 skipped"), (code, lines[-1]))


class EmbeddedBrokerTests(SynchronousTestCase):
    """A command with the embedded broker, which is there as long as the command."""

    def start(self, source: str) -> subprocess.Popen[str]:
        """Python with a broker, whose URL is its argument."""
        process = subprocess.Popen(
            [
                sys.executable,
                str(SCRIPTS / "_with_broker.py"),
                "--embedded",
                sys.executable,
                "-u",
                "-c",
                source,
                "{url}",
            ],
            env={**os.environ, "PYTHONPATH": str(SCRIPTS.parent)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self.end, process)
        return process

    def end(self, process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            process.kill()
        process.communicate()

    def url(self, process: subprocess.Popen[str]) -> str:
        """The first line that the command prints; somebody listens there."""
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        self.assertTrue(self.listens(url), url)
        return url

    def listens(self, url: str) -> bool:
        port = urlsplit(url).port
        assert port is not None
        try:
            socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        except ConnectionRefusedError:
            return False
        return True

    def test_the_commands_exit_code_is_its_own(self) -> None:
        """And the broker has ended."""
        process = self.start("import sys; print(sys.argv[1]); sys.exit(7)")
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        self.assertEqual(7, process.wait(PATIENCE))
        self.assertTrue(url.startswith("amqp://127.0.0.1:"), url)
        self.assertFalse(self.listens(url))

    def test_a_signal_ends_the_command_and_the_broker(self) -> None:
        """Ctrl-C or another."""
        for number in (signal.SIGINT, signal.SIGTERM):
            process = self.start("import sys, time; print(sys.argv[1]); time.sleep(3600)")
            url = self.url(process)
            process.send_signal(number)
            self.assertEqual(128 + number, process.wait(PATIENCE))
            self.assertFalse(self.listens(url))

    def test_a_kill_ends_the_broker_too(self) -> None:
        """A little later, and the command by itself: it has nobody to tell it."""
        process = self.start("import sys, time; print(sys.argv[1]); time.sleep(2)")
        url = self.url(process)
        process.kill()
        limit = time.monotonic() + PATIENCE
        while self.listens(url) and time.monotonic() < limit:
            time.sleep(0.05)
        self.assertFalse(self.listens(url))


class DemoTests(SynchronousTestCase):
    """What ``scripts/demo`` takes."""

    def test_wrong_arguments_are_refused_before_anything_is_done(self) -> None:
        """With what is right."""
        for arguments in (["--redis"], ["--broker"], ["--rabbitmq", "more"], ["amqp://127.0.0.1"]):
            done = subprocess.run(
                ["bash", str(SCRIPTS / "demo"), *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
            wanted = "demo: takes nothing, or --rabbitmq, or --broker URL\n"
            self.assertEqual((1, "", wanted), (done.returncode, done.stdout, done.stderr))
