"""Real worker processes, and calls to them, for tests of whole programs."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from uuid import uuid4

import pika
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import crew_tx
from crew_tx.message import Call, call_properties
from crew_tx.testing.rabbitmq import RabbitMQError, shared_node
from crew_tx.topology import task_queue, task_queue_name

ROOT = Path(crew_tx.__file__ or "").resolve().parent.parent
#: Longer than anything here takes; a test that waits this long fails.
PATIENCE = 60.0

SERVICE = """
import sys
import time
from crew_tx.worker import Task, context, run

@Task("{task}")
def answer(request):
    print("counter", context.settings.counter)

@Task("{task}.stuck")
def stuck(request):
    print("it is stuck", file=sys.stderr)
    time.sleep(3600)

run(counter=7)
"""


def twisted_script(name: str, *arguments: str) -> list[str]:
    """The command of ``twistd`` or ``twist``."""
    return [str(Path(sys.executable).parent / name), *arguments]


TWISTD = twisted_script("twistd", "-n", "--pidfile=", "crew-worker")
TWIST = twisted_script("twist", "crew-worker")


class Program:
    """
    A process, whose output is read while it is waited for.

    :ivar out: what it has printed on stdout, and ``err`` on stderr.
    """

    def __init__(self, command: list[str], environment: dict[str, str], folder: str) -> None:
        self.process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.out = self.err = ""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.process.stdout, selectors.EVENT_READ, "out")  # type: ignore[arg-type]
        self._selector.register(self.process.stderr, selectors.EVENT_READ, "err")  # type: ignore[arg-type]

    def wait_for(self, pattern: str, count: int = 1) -> list[str]:
        """Wait until its output has so many different matches; they are returned."""
        limit = time.monotonic() + PATIENCE
        while len(found := list(dict.fromkeys(re.findall(pattern, self.out + self.err)))) < count:
            if not self._read(limit):
                raise AssertionError(f"no {pattern!r} in:\n{self.out}\n--- stderr\n{self.err}")
        return found

    def ended(self) -> int:
        """Wait for its end; the exit code is returned."""
        limit = time.monotonic() + PATIENCE
        while self._read(limit):
            pass
        return self.process.wait(max(0.1, limit - time.monotonic()))

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def close(self) -> None:
        """End it, if it runs; the children of a supervisor end with it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._selector.close()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def _read(self, limit: float) -> bool:
        """Read more. :returns: False when nothing comes any more, or not in time."""
        events = self._selector.select(max(0.0, limit - time.monotonic()))
        for key, _ in events:
            data = os.read(key.fd, 65_536).decode(errors="replace")
            setattr(self, key.data, getattr(self, key.data) + data)
            if not data:
                self._selector.unregister(key.fileobj)
        return bool(events) and bool(self._selector.get_map())


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it is no corpse."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until_ended(pids: list[int]) -> None:
    """Wait for processes that aren't our own children."""
    limit = time.monotonic() + PATIENCE
    while any(is_running(pid) for pid in pids):
        if time.monotonic() > limit:
            raise AssertionError(f"of {pids}, some still run")
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    """The processes that one has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class ProgramTestCase(SynchronousTestCase):
    """
    Workers on a real broker.

    :ivar task: a task id that only this test has; ``<task>.stuck`` is another.
    """

    def setUp(self) -> None:
        try:
            self.url = shared_node().url
        except RabbitMQError as error:
            raise SkipTest(str(error)) from None
        self.task = f"cli-{uuid4().hex}"
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)
        self.script = self.write("work.py", SERVICE.format(task=self.task))
        self._connection: pika.BlockingConnection | None = None
        self.addCleanup(self._close)

    def write(self, name: str, text: str) -> str:
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(dedent(text))
        return path

    def start(self, *command: str, **environment: str) -> Program:
        """Start a program; it is ended with the test."""
        clean = {name: text for name, text in os.environ.items() if not name.startswith("CREW_")}
        variables = {"PYTHONPATH": str(ROOT), "CREW_BROKER": self.url, **environment}
        program = Program(list(command), {**clean, **variables}, self.folder)
        self.addCleanup(program.close)
        return program

    def channel(self) -> pika.adapters.blocking_connection.BlockingChannel:
        if self._connection is None:
            self._connection = pika.BlockingConnection(pika.URLParameters(self.url))
        return self._connection.channel()

    def call(self, task_id: str, timeout: int = 3_600_000) -> None:
        """Have a worker run a task, for so many milliseconds; nobody waits for the answer."""
        call = Call(task_id, uuid4().hex, b"null", "application/json", timeout=timeout, persistent=False)
        properties = pika.BasicProperties(**call_properties(call))
        self.channel().basic_publish("", task_queue_name(task_id), call.body, properties)

    def declare(self, task_id: str, **arguments: object) -> None:
        """Make the queue of a task before any worker does."""
        queue = task_queue(task_id)
        self.channel().queue_declare(queue.name, durable=True, arguments={**queue.arguments, **arguments})

    def _close(self) -> None:
        for task_id in (self.task, f"{self.task}.stuck"):
            self.channel().queue_delete(task_queue_name(task_id))
        assert self._connection is not None
        self._connection.close()
