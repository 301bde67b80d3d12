"""A password, looked for wherever other users of a machine, or of the broker, may look."""

from __future__ import annotations

import subprocess
import sys
import traceback
from os import environ
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from crew_tx import Client
from crew_tx.amqp.uri import parse, parse_all
from crew_tx.errors import ConfigurationError
from crew_tx.testing.rabbitmq import shared_node
from crew_tx.worker import Task, Worker
from tests.cli.programs import ROOT, TWIST, TWISTD, Program, ProgramTestCase, children_of

READY = r"worker (worker-[0-9a-f]{32}) answers"
#: None of the product's own texts has it.
SECRET = "Zq7vK3"
URL = f"amqp://me:{SECRET}@127.0.0.1:5672/v"

TASKS = """
import os
import sys
from crew_tx.worker import Task, context, run

@Task("{task}")
def told(request):
    print(repr(context.settings), context.settings.options)
    print("variables", sorted(name for name, text in os.environ.items() if "{secret}" in text))
    raise ValueError(repr(context.request))

if __name__ == "__main__":
    run()
"""


class ReprTests(SynchronousTestCase):
    """Objects, as debuggers, logs and tracebacks show them."""

    def test_no_object_shows_it(self) -> None:
        """URLs, clients, workers, and what they tell of themselves."""

        @Task("secrets")
        def nothing(request: Any) -> None:
            """Does nothing."""

        clock: Any = Clock()
        definitions = [nothing.__crew_task__]  # type: ignore[attr-defined]
        client = Client(clock, URL)
        worker = Worker(clock, parse_all(URL), definitions, create_threads=lambda *_: None)  # type: ignore[arg-type,return-value]
        for each in (parse(URL), client, worker, client.status(), worker.status(), client._connection):
            for text in (repr(each), str(each), f"{each}"):
                self.assertNotIn(SECRET, text)

    def test_no_error_shows_it(self) -> None:
        """Nor its traceback, in Twisted's way or Python's."""
        for url in (
            f"http://me:{SECRET}@h",
            f"amqp://me:{SECRET}/@h",
            f"{URL}?x=1",
            f"amqp://me:{SECRET}@h:p",
        ):
            try:
                parse(url)
            except ConfigurationError as error:
                texts = (str(error), repr(error), Failure().getTraceback(), traceback.format_exc())
            else:
                self.fail(f"{url} was taken")
            for text in texts:
                self.assertNotIn(SECRET, text)


class ProcessTests(ProgramTestCase):
    """Real processes of a user with that password."""

    def setUp(self) -> None:
        super().setUp()
        self.user = f"secrets-{uuid4().hex[:8]}"
        ctl = shared_node().ctl
        ctl("add_user", self.user, SECRET)
        self.addCleanup(ctl, "delete_user", self.user)
        ctl("set_permissions", self.user, ".*", ".*", ".*")
        self.file = self.write("password", SECRET)
        Path(self.file).chmod(0o600)
        self.tasks = self.write("tasks.py", TASKS.format(task=self.task, secret=SECRET))
        address = urlsplit(self.url)
        self.place = f"127.0.0.1:{address.port}/%2F"
        self.with_file = {
            "CREW_BROKER": f"amqp://{self.user}@{self.place}",
            "CREW_PASSWORD_FILE": self.file,
        }

    def assert_hidden(self, *programs: Program, pids: tuple[int, ...] = ()) -> None:
        """It is in no command line, and in nothing that was printed."""
        for program in programs:
            self.assertNotIn(SECRET, program.out + program.err)
        for pid in (*pids, *(program.process.pid for program in programs if program.process.poll() is None)):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            self.assertNotEqual(b"", command)
            self.assertNotIn(SECRET.encode(), command)

    def crew(self, *arguments: str) -> str:
        """Run crew to its end. :returns: all that it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "crew_tx.cli.crew", *arguments],
            env={**environ, "PYTHONPATH": str(ROOT), **self.with_file},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        self.assertNotIn(SECRET, done.stdout)
        return done.stdout

    def served(self, *command: str, **environment: str) -> Program:
        """A worker at level debug, whose task has failed once and told all that it is told."""
        program = self.start(*command, **environment)
        program.wait_for(READY)
        self.crew("call", self.task, "1", "--verbose")
        program.wait_for(r"variables \[.*\]")
        return program

    def test_a_worker_with_a_password_file_shows_it_nowhere(self) -> None:
        """Nor do its forks, which aren't given it: they read the file themselves."""
        options = ("--logging=debug", "--forks=2", "--allow-eval", self.tasks)
        program = self.served(*TWISTD, *options, **self.with_file)
        self.assertEqual(["variables []"], program.wait_for(r"variables \[.*\]"))
        pids = tuple(children_of(program.process.pid))
        self.assertEqual(2, len(pids))
        self.assert_hidden(program, pids=pids)
        for pid in pids:
            self.assertNotIn(SECRET.encode(), Path(f"/proc/{pid}/environ").read_bytes())
        looks = ("ping", "stats", "tasks", "active", "stacks")
        texts = [self.crew(look, "--json", "--verbose", "--timeout=2", "--expect=2") for look in looks]
        self.assertIn(self.task, texts[2])
        self.assertIn("worker-", self.crew("eval", "repr(worker)+str(vars(worker))", "--all", "--verbose"))
        program.signal()
        self.assertEqual(0, program.ended())
        self.assert_hidden(program)

    def test_a_worker_with_the_url_in_its_environment_shows_it_nowhere_else(self) -> None:
        """Its forks have that URL in theirs, and so have the programs that tasks start."""
        url = f"amqp://{self.user}:{SECRET}@{self.place}"
        for command in (TWISTD, TWIST, [sys.executable]):
            forks = ("--forks=1",) if command is TWISTD else ()
            end = () if command == [sys.executable] else (self.tasks,)
            start = (self.tasks,) if not end else ()
            options = ("--logging=debug", "--log-format=text", *forks)
            program = self.served(*command, *start, *options, *end, CREW_BROKER=url)
            self.assertEqual(["variables ['CREW_BROKER']"], program.wait_for(r"variables \[.*\]"))
            self.assert_hidden(program, pids=tuple(children_of(program.process.pid)))
            program.signal()
            self.assertEqual(0, program.ended())
            self.assert_hidden(program)

    def test_crew_shows_it_nowhere(self) -> None:
        """While it runs, when it is refused, and when there is no broker."""
        program = self.start(
            *(sys.executable, "-m", "crew_tx.cli.crew", "subscribe", "a", "--count=1", "-v"), **self.with_file
        )
        while "crew.sub." not in shared_node().ctl("list_queues", "name"):
            self.assertIsNone(program.process.poll(), program.err)
        self.assert_hidden(program)
        self.crew("publish", "a", "1")
        self.assertEqual(0, program.ended(), program.err)
        self.assert_hidden(program)
        for wrong in ("--vhost=nowhere", "--port=1"):
            self.assertIn("Traceback", self.crew(wrong, "--connect-timeout=1", "--verbose", "ping"))

    def test_a_wrong_password_is_not_shown_either(self) -> None:
        """It may be right elsewhere."""
        Path(self.file).write_text(f"{SECRET}-or-so")
        program = self.start(*TWISTD, "-v", self.tasks, **self.with_file)
        self.assertEqual(78, program.ended())
        self.assertIn(self.user, program.err)
        self.assert_hidden(program)
        self.assertIn("refused the user", self.crew("ping", "--verbose"))

    def test_a_password_on_a_command_line_is_warned_of(self) -> None:
        """There it can be seen; what the program prints has it not."""
        url = f"--broker=amqp://{self.user}:{SECRET}@{self.place}"
        program = self.start(*TWISTD, url, self.tasks)
        program.wait_for(READY)
        self.assertIn("--broker: all users of the machine can see the password that is in it", program.out)
        self.assertNotIn(SECRET, program.out + program.err)
        self.assertIn("--broker: all users of the machine can see", self.crew(url, "ping", "--timeout=0.1"))

    def test_the_file_serves_the_urls_of_a_list(self) -> None:
        """For a cluster, as the unit gives it: the file is a credential."""
        nodes = ",".join(f"amqp://{self.user}@{self.place}" for _ in range(2))
        options = ("--forks=1", f"--broker={nodes}", f"--password-file={self.file}")
        program = self.served(*TWISTD, *options, self.tasks)
        self.assert_hidden(program, pids=tuple(children_of(program.process.pid)))
        program.signal()
        self.assertEqual(0, program.ended())
