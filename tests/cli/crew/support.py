"""``crew`` as people run it: processes, beside a broker and workers that are processes, too."""

from __future__ import annotations

import atexit
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from twisted.trial.unittest import SynchronousTestCase

import crew_tx
from tests.cli.programs import PATIENCE, Program

ROOT = Path(crew_tx.__file__ or "").resolve().parent.parent

_BROKER = """
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from crew_tx.broker import BrokerService
service = BrokerService(reactor, TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
service.listen().addCallback(lambda port: print("port", port.getHost().port, flush=True))
reactor.run()
"""

#: Tasks whose ids begin with the worker's own name.
LABORATORY = """
import time
from crew_tx.control import command
from crew_tx.worker import Task, context

@Task("{name}.echo")
def echo(request):
    print("echo", request, context.request.priority, dict(context.request.headers))
    context.headers["colour"] = "blue"
    return request

@Task("{name}.fail")
def fail(request):
    raise ValueError("\\x1b[31mno")

@Task("{name}.sleep")
def sleep(request):
    print("it sleeps")
    time.sleep(request)
    return "slept"

@Task("{name}.tell")
def tell(request):
    context.pubsub.publish("{name}.told", request)

@command("reload", right="steer")
def reload(request):
    return {{"reloaded": request["what"]}}
"""


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """What it printed for programs."""
        return json.loads(self.out)


def command(*arguments: str) -> list[str]:
    """The command line of ``crew``."""
    return [sys.executable, "-m", "crew_tx.cli.crew", *arguments]


def clean_environment(**variables: str) -> dict[str, str]:
    """That of this process without what would tell ``crew`` of another broker."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("CREW_")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "TERM": "xterm", **variables}


@cache
def broker() -> str:
    """The URL of a broker that ends with this process."""
    process = Program([sys.executable, "-c", _BROKER], clean_environment(), os.getcwd())
    atexit.register(process.close)
    (port,) = process.wait_for(r"port (\d+)")
    return f"amqp://guest:guest@127.0.0.1:{port}/%2F"


class CrewTestCase(SynchronousTestCase):
    """
    Commands in a folder of the test's own.

    :ivar name: one that only this test's worker and its tasks have.
    """

    def setUp(self) -> None:
        self.url = broker()
        self.name = f"lab{uuid4().hex[:8]}"
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)

    def write(self, name: str, text: str) -> str:
        path = os.path.join(self.folder, name)
        Path(path).write_text(text, encoding="utf-8")
        return path

    def start(self, *arguments: str, **environment: str) -> Program:
        """Start a command; it is ended with the test."""
        return self.start_program(command(*arguments), **environment)

    def start_program(self, words: list[str], **environment: str) -> Program:
        variables = clean_environment(**{"CREW_BROKER": self.url, **environment})
        program = Program(words, variables, self.folder)
        self.addCleanup(program.close)
        return program

    def worker(self, *options: str, ready: int = 1) -> Program:
        """Start a worker of the laboratory that has this test's name, and wait until it consumes."""
        path = self.write("lab.py", LABORATORY.format(name=self.name))
        words = [sys.executable, "-m", "crew_tx.cli.child", f"--name={self.name}", *options, path]
        program = self.start_program(words)
        program.wait_for(rf"worker ({self.name}-[0-9a-f]{{32}}) answers", ready)
        return program

    def crew(self, *arguments: str, stdin: str = "", **environment: str) -> Done:
        """Run a command to its end."""
        done = subprocess.run(
            command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=clean_environment(**{"CREW_BROKER": self.url, **environment}),
            timeout=PATIENCE,
        )
        self.assertNotIn("crew_tx/", done.stderr.replace("site-packages/crew_tx", ""), "a traceback of ours")
        return Done(done.returncode, done.stdout, done.stderr)

    def fine(self, *arguments: str, stdin: str = "", **environment: str) -> Done:
        """Run a command that must go well, and has nothing to complain of."""
        done = self.crew(*arguments, stdin=stdin, **environment)
        self.assertEqual((0, ""), (done.code, done.err), done)
        return done

    def wrong(self, code: int, words: str, *arguments: str, stdin: str = "", **environment: str) -> Done:
        """Run a command that must end with a code, and say why in one line."""
        done = self.crew(*arguments, stdin=stdin, **environment)
        self.assertEqual(code, done.code, done)
        self.assertIn(words, done.err)
        self.assertTrue(done.err.startswith("crew"), done.err)
        self.assertNotIn("Traceback", done.err)
        return done

    def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for what another process does."""
        limit = time.monotonic() + PATIENCE
        while not is_so():
            self.assertLess(time.monotonic(), limit, "it never came")


class Terminal:
    """
    A command whose output is a terminal.

    :ivar text: what it has shown.
    """

    def __init__(self, arguments: list[str], folder: str, url: str) -> None:
        self.text = ""
        self._master, slave = pty.openpty()
        variables = clean_environment(CREW_BROKER=url, COLUMNS="150", LINES="50")
        self.process = subprocess.Popen(
            command(*arguments),
            cwd=folder,
            env=variables,
            stdin=slave,
            stdout=slave,
            stderr=subprocess.DEVNULL,
        )
        os.close(slave)

    def wait_for(self, words: str, count: int = 1) -> None:
        """Wait until it has shown them so often."""
        while self.text.count(words) < count:
            if not self._read():
                raise AssertionError(f"no {words!r} in {self.text!r}")

    def ended(self) -> int:
        """Wait for its end. :returns: its exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)

    def _read(self) -> bool:
        try:
            data = os.read(self._master, 65_536)
        except OSError:
            # What a terminal says at its end.
            return False
        self.text += data.decode(errors="replace")
        return bool(data)
