"""What ``crew`` does on the broker: dead letters, and what has to exist."""

from __future__ import annotations

import os
import pty
import subprocess

import pika

from tests.cli.crew.support import CrewTestCase, clean_environment, command
from tests.cli.programs import PATIENCE


class DeadTests(CrewTestCase):
    """Calls that nobody took, and whose callers don't wait."""

    def setUp(self) -> None:
        super().setUp()
        self.task = f"{self.name}.echo"
        self.fine("init", "--task", self.task)

    def die(self, *data: str) -> None:
        """Let one-way calls expire."""
        for each in data:
            self.fine("send", self.task, each, "--expiration=0.05", "--header=a=b", "--priority=255")
        self.until(lambda: len(self.letters()) == len(data))

    def letters(self) -> list[dict[str, object]]:
        listed = self.fine("dead", "list", "--json").json()
        return [each for each in listed["letters"] if each["task"] == self.task]

    def test_they_are_listed_sent_again_and_deleted(self) -> None:
        """Listing takes nothing away; a worker that has the task by then runs what is sent again."""
        self.fine("dead", "purge", "--yes")
        self.die("1", '"two"')
        first, second = self.letters()
        self.assertEqual(("expired", f"crew.tasks.{self.task}"), (first["reason"], first["queue"]))
        self.assertEqual((1, 4), (first["size"], second["size"]))
        done = self.crew("dead", "list", "--count=1")
        self.assertIn("REASON", done.out)
        self.assertIn("1 more are there; raise --count to see them", done.err)
        other = self.fine("dead", "requeue", "--task=another", "--json").json()
        self.assertEqual({"requeued": 0, "failed": 0, "not_looked_at": 0}, other)
        self.assertEqual([first["id"], second["id"]], [each["id"] for each in self.letters()])
        only = ("--id", str(second["id"]), "--task", self.task, "--expiration=60")
        self.assertEqual("1 requeued, 0 failed\n", self.fine("dead", "requeue", *only).out)
        self.assertEqual([first["id"]], [each["id"] for each in self.letters()])
        self.worker().wait_for(r"echo two 10 \{'a': 'b'\}")
        self.assertEqual("1 deleted\n", self.fine("dead", "purge", "--yes").out)
        self.assertIn("there are no dead letters", self.crew("dead", "list").err)

    def test_one_that_can_be_sent_nowhere_stays(self) -> None:
        """The exit code tells of it."""
        self.die("1")
        self.delete_queue()
        done = self.crew("dead", "requeue", "--task", self.task)
        self.assertEqual((1, "0 requeued, 1 failed\n"), (done.code, done.out))
        self.assertIn("no worker has ever declared the task", done.err)
        self.assertEqual(1, len(self.letters()))

    def delete_queue(self) -> None:
        """As an operator may."""
        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        connection.channel().queue_delete(f"crew.tasks.{self.task}")
        connection.close()

    def test_deleting_asks_first(self) -> None:
        """Whoever has a terminal; only a yes is one."""
        for answer, code in ((b"n\n", 1), (b"y\n", 0)):
            master, slave = pty.openpty()
            os.write(master, answer)
            done = subprocess.run(
                command("dead", "purge"),
                stdin=slave,
                capture_output=True,
                text=True,
                env=clean_environment(CREW_BROKER=self.url),
                timeout=PATIENCE,
            )
            os.close(master)
            os.close(slave)
            self.assertEqual(code, done.returncode, done)
            self.assertIn("delete all dead letters of amqp://guest@127.0.0.1", done.stderr)
            self.assertEqual(code == 0, "deleted" in done.stdout)


class InitTests(CrewTestCase):
    """Declaring for others."""

    def test_it_declares_what_there_has_to_be(self) -> None:
        """Also a second time; a queue of another type is refused."""
        for _ in range(2):
            names = [each["name"] for each in self.fine("init", "--task", self.name, "--json").json()]
        self.assertIn(f"crew.tasks.{self.name}", names)
        self.assertIn("crew.dead", names)
        self.assertIn("crew.pubsub", names)
        self.wrong(3, "exists with other arguments", "init", "--task", self.name, "--queue-type=quorum")
        self.wrong(2, "has no '*' or '#'", "init", "--task=a.*")
        self.wrong(1, "there is no queue crew.tasks.nowhere", "queues", "nowhere")
        self.assertIn("crew.dead", self.fine("queues", "--timeout=0.1").out)


class CompletionTests(CrewTestCase):
    """Shell completion."""

    def test_bash_completes_verbs_options_and_choices(self) -> None:
        """By what the program prints."""
        script = self.write("complete.bash", self.fine("completion", "bash").out)
        for line, expected, other in (
            (["crew", "s"], {"send", "stats", "stacks", "subscribe"}, "call"),
            (["crew", "dead", ""], {"list", "requeue", "purge"}, "call"),
            (["crew", "--broker", "amqp://h", "dead", "requeue", "--t"], {"--task"}, "list"),
            (["crew", "call", "example", "--p"], {"--priority", "--password-file", "--port"}, "--once"),
            (["crew", "completion", "z"], {"zsh"}, "bash"),
        ):
            words = " ".join(f"'{word}'" for word in line)
            state = f"COMP_WORDS=({words}); COMP_CWORD={len(line) - 1}"
            code = f"source {script}; {state}; _crew_complete; echo ${{COMPREPLY[@]}}"
            done = subprocess.run(["bash", "-uc", code], capture_output=True, text=True, timeout=PATIENCE)
            found = set(done.stdout.split())
            self.assertEqual("", done.stderr)
            self.assertLessEqual(expected, found, line)
            self.assertNotIn(other, found)

    def test_other_shells_have_a_script_of_their_own(self) -> None:
        """All verbs are in it."""
        self.assertIn("bashcompinit", self.fine("completion", "zsh").out)
        fish = self.fine("completion", "fish").out
        self.assertIn("complete -c crew -n __fish_use_subcommand -a call -d 'run a task", fish)
        self.assertIn("-l tls-ca -r -F", fish)
        self.wrong(2, "invalid choice: 'tcsh'", "completion", "tcsh")


class HelpTests(CrewTestCase):
    """What ``--help`` says."""

    def test_the_exit_codes_are_told(self) -> None:
        """Where they are looked for; the version beside."""
        self.assertIn("3 if there is no connection", " ".join(self.fine("--help").out.split()))
        self.assertRegex(self.fine("--version").out, r"^crew_tx \d")
