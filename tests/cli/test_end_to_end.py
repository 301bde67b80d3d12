"""Worker processes as operators start and end them."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from urllib.parse import urlsplit
from uuid import uuid4

from crew_tx.testing.rabbitmq import shared_node
from crew_tx.topology import task_queue_name
from tests.cli.programs import TWIST, TWISTD, Program, ProgramTestCase, children_of, wait_until_ended

#: How a worker tells that it consumes, with its id.
READY = r"worker (worker-[0-9a-f]{32}) answers"


class StartTests(ProgramTestCase):
    """A worker that does what it is for, in each of three ways."""

    def serves_and_ends(self, *command: str) -> Program:
        program = self.start(*command)
        program.wait_for(READY)
        self.call(self.task)
        program.wait_for("counter 7")
        program.signal()
        self.assertEqual(0, program.ended(), program.out + program.err)
        return program

    def test_a_script_serves_and_ends_with_0(self) -> None:
        """``python worker.py``, with the seed's options; the script is in no need of a guard."""
        address = urlsplit(self.url)
        program = self.serves_and_ends(
            sys.executable,
            self.script,
            f"-H{address.hostname}",
            f"-P{address.port}",
            "--logging=info",
            "-v",
        )
        self.assertIn("SIGTERM: stopping when running tasks have ended", program.out)
        self.assertEqual("", program.err)

    def test_twistd_serves_and_ends_with_0(self) -> None:
        """Not with 143, as it would for any other plugin."""
        program = self.serves_and_ends(*TWISTD, self.script)
        self.assertIn("[stdout#info] counter 7", program.out)

    def test_twist_serves_and_ends_with_0(self) -> None:
        """In its own log format, unless one is asked for."""
        program = self.serves_and_ends(*TWIST, "--log-format=text", self.script)
        self.assertIn("[stdout#info] counter 7", program.out)

    def test_a_level_is_heard_by_twistd(self) -> None:
        """Less than asked for is not logged; JSON is one object a line."""
        program = self.start(*TWISTD, "--logging=debug", "--log-format=json", self.script)
        program.wait_for(READY)
        program.signal(signal.SIGINT)
        self.assertEqual(0, program.ended())
        lines = [json.loads(line) for line in program.out.splitlines()]
        self.assertIn("SIGINT: stopping", "\n".join(line["message"] for line in lines))

    def test_less_than_a_level_is_not_logged(self) -> None:
        """Here, only what goes to stderr or is wrong."""
        self.declare(f"{self.task}.stuck")
        self.call(f"{self.task}.stuck")
        program = self.start(*TWISTD, "--logging=warn", "--drain=0", self.script)
        program.wait_for("it is stuck")
        program.signal()
        program.ended()
        loggers = re.findall(r"\[(\S+#\w+)\]", program.out)
        self.assertEqual(["stderr#error", "crew_tx.worker.Worker#warn"], loggers)


class RefusalTests(ProgramTestCase):
    """A broker that refuses for good."""

    def refused(self, *command: str, **environment: str) -> str:
        """One line on stderr; the same is in the log."""
        program = self.start(*command, **environment)
        self.assertEqual(78, program.ended(), program.out + program.err)
        self.assertEqual(1, program.err.count("\n"), program.err)
        message = program.err.partition(": ")[2].strip()
        self.assertIn(message, program.out.replace('\\"', '"'))
        return message

    def test_a_wrong_password_ends_each_with_78(self) -> None:
        """And is not shown."""
        url = self.url.replace("guest:guest", "guest:secret")
        for command in ((sys.executable, self.script), (*TWISTD, self.script), (*TWIST, self.script)):
            message = self.refused(*command, CREW_BROKER=url)
            self.assertIn("refused the user 'guest' (PLAIN); mend the name or the password", message)
            self.assertNotIn("secret", message)

    def test_a_queue_with_other_arguments_ends_it_with_78(self) -> None:
        """The message names the queue and the options."""
        self.declare(self.task, **{"x-max-priority": 5})
        message = self.refused(sys.executable, self.script)
        self.assertIn(task_queue_name(self.task), message)
        self.assertIn("exists with other arguments; use the --queue-type that it was made with", message)

    def test_a_missing_virtual_host_ends_it_with_78(self) -> None:
        """It is named."""
        self.assertIn("nowhere", self.refused(sys.executable, self.script, "--vhost=nowhere"))

    def test_a_broker_that_refuses_is_not_all_of_a_list(self) -> None:
        """The worker goes to the other one; it tells of the refusal once, and not by its last words."""
        wrong = self.url.replace("guest:guest", "guest:secret")
        # Whichever of them each begins with.
        for _ in range(3):
            program = self.start(sys.executable, self.script, CREW_BROKER=f"{wrong},{self.url},{wrong}")
            program.wait_for(READY)
            self.assertLessEqual(program.out.count("refused the user 'guest'"), 2)
            program.signal()
            self.assertEqual(0, program.ended(), program.out + program.err)
            self.assertEqual("", program.err)

    def test_a_list_that_refuses_ends_it_with_78(self) -> None:
        """Once each has; one line says so of both."""
        wrong = self.url.replace("guest:guest", "nobody:secret")
        both = f"{wrong},{self.url.replace('guest:guest', 'noone:secret')}"
        message = self.refused(*TWISTD, self.script, CREW_BROKER=both)
        for name in ("'nobody'", "'noone'"):
            self.assertIn(name, message)
        self.assertNotIn("secret", message)

    def test_one_that_is_told_to_wait_is_there_when_it_is_let_in(self) -> None:
        """It says so once, and consumes when the password is right."""
        user = f"waits-{uuid4().hex[:8]}"
        ctl = shared_node().ctl
        ctl("add_user", user, "another")
        self.addCleanup(ctl, "delete_user", user)
        ctl("set_permissions", user, ".*", ".*", ".*")
        url = self.url.replace("guest:guest", f"{user}:secret")
        program = self.start(*TWISTD, "--on-refusal=wait", self.script, CREW_BROKER=url)
        program.wait_for(f"refuses, trying on: .* refused the user '{user}'")
        ctl("change_password", user, "secret")
        program.wait_for(READY)
        self.assertEqual(1, program.out.count("refused the user"), program.out)
        program.signal()
        self.assertEqual(0, program.ended(), program.out)


class WrongUseTests(ProgramTestCase):
    """What ends with 2, before anything is started."""

    def wrong(self, *command: str) -> str:
        program = self.start(*command)
        self.assertEqual(2, program.ended(), program.out + program.err)
        self.assertEqual("", program.out)
        return program.err

    def test_a_wrong_option_is_told_in_one_line_by_each(self) -> None:
        """On stderr, with the way to the help."""
        for command, name in (
            ((sys.executable, self.script), "work.py"),
            (TWISTD, "twistd crew-worker"),
            (TWIST, "twist crew-worker"),
        ):
            error = self.wrong(*command, "--broker=http://u:secret@h")
            self.assertEqual(
                f"{name}: --broker: the broker URL does not begin with amqp:// or amqps://; write it as "
                f"amqp://user:password@host:5672/vhost (see {name} --help)\n",
                error,
            )

    def test_a_missing_file_is_told_in_one_line(self) -> None:
        """With its path."""
        error = self.wrong(*TWISTD, "nowhere.py")
        self.assertEqual(
            f"twistd crew-worker: there is no file {self.folder}/nowhere.py; "
            "give the path of a .py file, or a dotted module\n",
            error,
        )

    def test_a_failing_import_is_told_with_its_traceback(self) -> None:
        """And with none of our frames."""
        self.write("broken.py", "import nothing_of_that_name")
        error = self.wrong(*TWISTD, "broken.py")
        self.assertTrue(error.startswith("twistd crew-worker: broken.py can't be imported"), error)
        self.assertIn("ModuleNotFoundError: No module named 'nothing_of_that_name'", error)
        self.assertNotIn("crew_tx", error)


class StuckTests(ProgramTestCase):
    """A task that does not end."""

    def stuck(self, *command: str) -> Program:
        program = self.start(*command)
        program.wait_for(READY)
        self.call(f"{self.task}.stuck")
        program.wait_for("it is stuck")
        program.signal()
        return program

    def test_a_second_signal_stops_now(self) -> None:
        """Although the drain has 1,000 s left, and the thread sleeps for an hour."""
        program = self.stuck(*TWISTD, "--drain=1000", self.script)
        program.wait_for("SIGTERM: stopping")
        program.signal()
        self.assertEqual(1, program.ended(), program.out)

    def test_a_drain_that_is_over_ends_it_with_1(self) -> None:
        """The task was left behind."""
        program = self.stuck(sys.executable, self.script, "--drain=0.1")
        self.assertEqual(1, program.ended(), program.out)
        self.assertIn("1 tasks did not end within 0.1 s", program.out)

    def test_too_many_stuck_threads_end_it_with_75(self) -> None:
        """One is too many here; whoever started it starts another."""
        program = self.start(*TWISTD, "--max-stuck=0", "--drain=0", self.script)
        program.wait_for(READY)
        self.call(f"{self.task}.stuck", timeout=10)
        self.assertEqual(75, program.ended(), program.out)
        self.assertIn("1 threads are stuck", program.err)

    def test_a_pid_file_is_removed_whatever_the_exit_code(self) -> None:
        """twistd does so before the process ends."""
        path = os.path.join(self.folder, "work.pid")
        command = [f"--pidfile={path}" if each == "--pidfile=" else each for each in TWISTD]
        program = self.start(*command, "--drain=0", self.script)
        program.wait_for(READY)
        self.assertTrue(os.path.exists(path))
        self.call(f"{self.task}.stuck")
        program.wait_for("it is stuck")
        program.signal()
        self.assertEqual(1, program.ended(), program.out)
        self.assertFalse(os.path.exists(path))

    def test_a_thread_of_others_holds_nothing_up(self) -> None:
        """Python waits for those that aren't daemons; we don't."""
        self.write(
            "thread.py",
            f"""
            import threading
            from crew_tx.worker import Task
            threading.Thread(target=threading.Event().wait).start()
            @Task("{self.task}")
            def task(request): pass
            """,
        )
        program = self.start(*TWISTD, "thread.py")
        program.wait_for(READY)
        program.signal()
        self.assertEqual(0, program.ended())


class ForksTests(ProgramTestCase):
    """Several workers under a supervisor."""

    def started(self, *command: str, **environment: str) -> tuple[Program, list[int]]:
        """A supervisor whose two workers consume, and their process ids."""
        program = self.start(*command, **environment)
        self.assertEqual(2, len(program.wait_for(READY, 2)))
        return program, children_of(program.process.pid)

    def test_a_scripts_workers_are_ended_by_sigterm(self) -> None:
        """Each had an id of its own; all end with 0, and nothing is left."""
        program, pids = self.started(sys.executable, self.script, "--forks=2")
        self.assertEqual(2, len(pids))
        self.assertIn("[fork-1] worker worker-", program.out)
        program.signal()
        self.assertEqual(0, program.ended(), program.out + program.err)
        wait_until_ended(pids)

    def test_a_killed_worker_is_started_again(self) -> None:
        """With another id; twistd ends with 0 as well."""
        program, pids = self.started(*TWISTD, "--forks=2", self.script)
        os.kill(pids[0], signal.SIGKILL)
        program.wait_for(READY, 3)
        self.assertIn("ended (signal 9), another is started", program.out)
        program.signal()
        self.assertEqual(0, program.ended(), program.out + program.err)

    def test_workers_end_when_their_supervisor_is_killed(self) -> None:
        """However that came."""
        program, pids = self.started(sys.executable, self.script, "--forks=2")
        program.signal(signal.SIGKILL)
        wait_until_ended(pids)

    def test_a_signal_to_all_of_them_is_one(self) -> None:
        """Service managers send it so."""
        program, pids = self.started(*TWISTD, "--forks=2", self.script)
        for pid in (*pids, program.process.pid):
            os.kill(pid, signal.SIGTERM)
        self.assertEqual(0, program.ended(), program.out + program.err)
        self.assertNotIn("stopping now", program.out)

    def test_no_password_is_in_a_command_line(self) -> None:
        """Not even one from the supervisor's own."""
        _, pids = self.started(sys.executable, self.script, "--forks=2", f"--broker={self.url}")
        for pid in pids:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                self.assertNotIn(b"guest", file.read())

    def test_a_refusal_ends_all_with_78(self) -> None:
        """With the reason on stderr; none is started again."""
        url = self.url.replace("guest:guest", "guest:secret")
        program = self.start(sys.executable, self.script, "--forks=2", CREW_BROKER=url)
        self.assertEqual(78, program.ended(), program.out)
        self.assertIn("work.py: amqp://guest@", program.err)
        self.assertIn("mend the name or the password", program.err)
        self.assertNotIn("another is started", program.out)

    def test_a_second_signal_ends_all_now(self) -> None:
        """Although one of them has a task that does not end."""
        program, pids = self.started(sys.executable, self.script, "--forks=2", "--drain=1000")
        self.call(f"{self.task}.stuck")
        program.wait_for("it is stuck")
        program.signal()
        program.wait_for("SIGTERM: stopping")
        program.signal()
        self.assertEqual(1, program.ended(), program.out)
        wait_until_ended(pids)
