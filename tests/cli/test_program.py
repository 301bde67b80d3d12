"""Putting a worker's process together."""

from __future__ import annotations

import os
import sys
from io import StringIO
from typing import Any

from twisted.application.service import Application, IServiceCollection
from twisted.internet.defer import fail, succeed
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver
from twisted.python.components import Componentized
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.cli.ending import Ending
from crew_tx.cli.loading import Loaded
from crew_tx.cli.options import WorkerOptions
from crew_tx.cli.program import (
    Load,
    Program,
    SupervisorProgram,
    WorkerProgram,
    allowed_rights,
    make_program,
)
from crew_tx.control import Command
from crew_tx.errors import ConfigurationError
from crew_tx.tasks.declaration import TaskDefinition
from crew_tx.worker import Worker

COMMAND = Command("reload", lambda request: None)


def task(task_id: str) -> TaskDefinition:
    """A task that does nothing."""
    return TaskDefinition(task_id, lambda request: None, None, task_id, False, "here")


def load() -> Loaded:
    """One task, and what its module gave to run()."""
    return Loaded([task("a")], {"counter": 0}, [COMMAND], ["/modules/a.py"])


class ProgramTestCase(SynchronousTestCase):
    """Programs of command lines, in an environment of one's own."""

    def setUp(self) -> None:
        self.environment = {"HOME": "/home"}
        self.patch(os, "environ", self.environment)
        self.reactor = MemoryReactorClock()
        self.ending = Ending(self.reactor, "work", set_handler=lambda number, handler: None)

    def program(self, *arguments: str, load: Load = load) -> Program:
        options = WorkerOptions()
        options.parseOptions([*arguments, "a.py"])
        return make_program(self.reactor, options, load, ["python", "child"], self.ending)

    def worker(self, *arguments: str) -> Worker:
        program = self.program(*arguments)
        self.assertIsInstance(program, WorkerProgram)
        (worker,) = program
        assert isinstance(worker, Worker)
        return worker


class WorkerProgramTests(ProgramTestCase):
    """A process with one worker."""

    def test_the_worker_is_as_the_options_say(self) -> None:
        """As far as it shows."""
        worker = self.worker("--name=n", "--threads=3", "--broker=amqp://u:secret@h/v")
        status = worker.status()
        self.assertEqual(("n", 3, ("a",)), (status.name, status.pool.size, status.tasks))
        self.assertEqual("amqp://u@h:5672/v", status.broker)

    def test_its_settings_have_the_options_and_what_run_was_given(self) -> None:
        """But no password."""
        settings = self.worker("--threads=3", "--broker=amqp://u:secret@h").settings
        self.assertEqual((0, 3), (settings.counter, settings.options["threads"]))
        self.assertEqual("amqp://u@h:5672/%2F", settings.options["broker"])
        self.assertNotIn("secret", str(vars(settings)))

    def test_all_its_arguments_are_those_of_the_options(self) -> None:
        """Those that don't show, too."""
        given: dict[str, Any] = {}

        class Noted(Worker):
            def __init__(self, reactor: Any, *arguments: Any, **options: Any) -> None:
                given.update(options)
                super().__init__(reactor, *arguments, **options)

        self.patch(sys.modules["crew_tx.cli.program"], "Worker", Noted)
        self.program(
            "--prefetch=5",
            "--queue-type=quorum",
            "--max-stuck=6",
            "--drain=7",
            "--on-refusal=wait",
            "--ack=confirmed",
        )
        names = (
            "threads",
            "prefetch",
            "queue_type",
            "max_stuck",
            "drain",
            "on_refusal",
            "ack",
            "ack_timeout",
            "on_fatal",
            "on_asked",
            "commands",
        )
        self.assertEqual(
            [
                8,
                5,
                "quorum",
                6,
                7.0,
                "wait",
                "confirmed",
                1800.0,
                self.ending.fatal,
                self.ending.asked,
                [COMMAND],
            ],
            [given[name] for name in names],
        )

    def test_commands_may_look_and_steer_unless_it_is_told_otherwise(self) -> None:
        """Each right has an option of its own."""
        for arguments, expected in (
            ((), ["look", "steer"]),
            (("--allow-eval",), ["look", "steer", "eval"]),
            (("--allow-kill",), ["look", "steer", "kill"]),
            (("--deny-steer", "--allow-kill", "--allow-eval"), ["look", "kill", "eval"]),
        ):
            options = WorkerOptions()
            options.parseOptions([*arguments, "a.py"])
            self.assertEqual(expected, allowed_rights(options.settings))

    def test_wrong_services_end_the_process_with_2(self) -> None:
        """As wrong options do; so do two tasks with one id."""

        def missing() -> Loaded:
            raise ConfigurationError("there is no file a.py")

        for wrong, words in (
            (missing, "there is no file a.py"),
            (lambda: Loaded([task("a"), task("a")], {}, [], []), "the task id 'a' is taken"),
        ):
            err = StringIO()
            self.patch(sys, "__stderr__", err)
            error = self.assertRaises(SystemExit, self.program, load=wrong)
            self.assertEqual(2, error.code)
            self.assertIn(words, err.getvalue())

    def test_its_start_makes_the_process_its_own(self) -> None:
        """Threads that compute give way sooner, and signals are minded; not before."""
        interval = sys.getswitchinterval()
        self.addCleanup(sys.setswitchinterval, interval)
        program = self.program()
        self.assertEqual((interval, []), (sys.getswitchinterval(), self.reactor.whenRunningHooks))
        self.patch(Worker, "startService", lambda self: None)
        program.startService()
        self.assertAlmostEqual(0.0005, sys.getswitchinterval())
        self.assertEqual(1, len(self.reactor.whenRunningHooks))

    def test_a_clean_drain_ends_with_0(self) -> None:
        """Nothing runs any more."""
        self.assertEqual(0, self.code_after_stop(unfinished=0))

    def test_tasks_that_did_not_end_make_it_1(self) -> None:
        """They will run again elsewhere."""
        self.assertEqual(1, self.code_after_stop(unfinished=1))

    def code_after_stop(self, unfinished: int) -> int:
        program = self.program()

        class Status:
            pass

        Status.unfinished = unfinished
        self.patch(Worker, "stopService", lambda self: succeed(None))
        self.patch(Worker, "status", lambda self: Status)
        self.successResultOf(program.stopService())
        return self.ending.code

    def test_a_stop_that_fails_is_logged_and_ends_with_1(self) -> None:
        """The process ends all the same."""
        program = self.program()
        self.patch(Worker, "stopService", lambda self: fail(ZeroDivisionError()))
        self.successResultOf(program.stopService())
        self.assertEqual(1, self.ending.code)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_an_application_is_told_where_to_log(self) -> None:
        """If there is something to tell."""
        for observer in (None, lambda event: None):
            application = Application("test")
            program = self.program()
            program.observer = observer
            program.setServiceParent(application)
            assert isinstance(application, Componentized)
            self.assertIs(observer, application.getComponent(ILogObserver, None))
            self.assertEqual([program], list(IServiceCollection(application)))


class SupervisorProgramTests(ProgramTestCase):
    """A process with several workers below it."""

    def setUp(self) -> None:
        super().setUp()
        self.spawned: list[tuple[list[str], dict[str, str]]] = []

        def spawn(protocol: Any, executable: str, args: list[str], env: dict[str, str], **more: Any) -> None:
            self.spawned.append((args, env))

        self.reactor.spawnProcess = spawn  # type: ignore[attr-defined]

    def supervised(self, *arguments: str) -> SupervisorProgram:
        program = self.program(*arguments, load=lambda: self.fail("it loads nothing itself"))
        assert isinstance(program, SupervisorProgram)
        program.startService()
        return program

    def test_its_children_find_the_settings_in_their_environment(self) -> None:
        """Weaker ones that were overruled are not there; they fork no more, and log in JSON."""
        self.environment |= {"CREW_HOST": "weaker", "CREW_LOGGING": "error", "CREW_TEST_BROKER": "kept"}
        self.supervised("--forks=2", "--broker=amqp://u:secret@h", "--threads=3", "-v")
        self.assertEqual(
            [
                {
                    "HOME": "/home",
                    "CREW_TEST_BROKER": "kept",
                    "CREW_BROKER": "amqp://u:secret@h",
                    "CREW_THREADS": "3",
                    "CREW_VERBOSE": "yes",
                    "CREW_FORKS": "0",
                    "CREW_LOGGING": "debug",
                    "CREW_LOG_FORMAT": "json",
                    "PYTHONUNBUFFERED": "1",
                    "CREW_CHILD": f"fork-{number}",
                }
                for number in (1, 2)
            ],
            [environment for _, environment in self.spawned],
        )

    def test_no_secret_is_in_their_command_line(self) -> None:
        """All users of the machine see that."""
        self.supervised("--forks=1", "--broker=amqp://u:secret@h")
        self.assertEqual([["python", "child"]], [command for command, _ in self.spawned])

    def test_the_kill_time_is_that_of_the_drain_and_5_s(self) -> None:
        """Else it would be killed while it drains."""
        (supervisor,) = self.supervised("--forks=1", "--drain=7")
        self.assertEqual(12, supervisor.killTime)

    def test_in_a_hurry_its_children_are_killed(self) -> None:
        """By the second signal."""
        program = self.supervised("--forks=1")
        (supervisor,) = program
        self.assertEqual(supervisor.kill, self.ending.abandon)
