"""Control of workers by ``crew``, the worker's rights, and the ends that commands bring."""

from __future__ import annotations

import json

from tests.cli.crew.support import CrewTestCase
from tests.cli.programs import children_of, wait_until_ended


class LookingTests(CrewTestCase):
    """What workers tell of themselves."""

    def test_each_question_is_answered(self) -> None:
        """By a table, or for programs by JSON; of what runs, where in its code it is."""
        worker = self.worker("--threads=2")
        waiting = self.start("call", f"{self.name}.sleep", "60", "--call-id", f"{self.name}-call")
        worker.wait_for("it sleeps")
        ask = (self.name, "--expect=1", "--timeout=10")
        (ping,) = self.fine("ping", *ask, "--json").json()
        self.assertEqual(worker.process.pid, ping["pid"])
        self.assertEqual(["WID", "HOST", "PID"], self.fine("ping", *ask).out.split("\n")[0].split())
        stats = self.fine("stats", *ask).out
        self.assertIn(f"{ping['wid']}  {ping['host']}", stats)
        self.assertIn("1/2", stats)
        self.assertIn(f"{self.name}.echo", self.fine("tasks", *ask).out)
        self.assertIn(f"{self.name}-call", self.fine("active", *ask).out)
        stacks = self.fine("stacks", *ask).out
        self.assertIn("time.sleep(request)", stacks)
        (queue,) = self.fine("queues", f"{self.name}.sleep", "--json").json()
        self.assertEqual(1, queue["consumers"])
        look = self.fine("top", "--once", "--json").json()
        self.assertIn(ping["wid"], [each["wid"] for each in look["workers"]])
        self.assertIn(f"crew.tasks.{self.name}.echo", [each["queue"] for each in look["queues"]])
        self.assertIn(f"{self.name}.sleep", self.fine("top", "--once").out)
        done = self.fine("cancel", f"{self.name}-call", *ask)
        self.assertEqual(f"cancelled on {ping['wid']}\n", done.out)
        self.assertEqual(1, waiting.ended())
        self.assertIn("cancelled", waiting.err)
        self.wrong(1, "no worker has that call", "cancel", f"{self.name}-call", *ask)
        self.assertIn("nothing runs", self.crew("active", *ask).err)


class RightsTests(CrewTestCase):
    """What a worker allows."""

    def refused(self, option: str, *arguments: str) -> None:
        self.wrong(1, f"start it with{option}", *arguments, self.name, "--expect=1", "--timeout=10")

    def test_steering_is_allowed_and_the_rest_is_not(self) -> None:
        """The refusal names the option; commands of the service's own are known."""
        self.worker()
        steer = (self.name, "--expect=1", "--timeout=10", "--json")
        (paused,) = self.fine("pause", *steer).json()
        self.assertIs(True, paused["paused"])
        (resumed,) = self.fine("resume", *steer).json()
        self.assertIs(False, resumed["paused"])
        (threads,) = self.fine("threads", "3", *steer).json()
        self.assertEqual(3, threads["threads"])
        own = self.fine("call", f"mgt.{self.name}", '{"c": "reload", "what": "x"}', "--timeout=3")
        self.assertEqual("x", json.loads(own.out)["reloaded"])
        self.refused(" --allow-eval", "eval", "1 + 1")
        self.refused(" --allow-kill", "kill")

    def test_rights_are_given_and_taken_by_options(self) -> None:
        """One each."""
        self.worker("--allow-eval", "--deny-steer")
        done = self.fine("eval", "worker.status().name", self.name, "--expect=1", "--timeout=10")
        self.assertIn(repr(self.name), done.out)
        self.wrong(1, f"{self.name}-", "eval", "1 / 0", self.name, "--expect=1", "--timeout=10")
        self.refused("out --deny-steer", "drain")
        self.refused("out --deny-steer", "threads", "3")


class EndTests(CrewTestCase):
    """Workers that are told to end."""

    def test_a_drained_worker_ends_with_0_when_its_task_has(self) -> None:
        """As by SIGTERM: its caller has the answer."""
        worker = self.worker()
        waiting = self.start("call", f"{self.name}.sleep", "1")
        worker.wait_for("it sleeps")
        (answer,) = self.fine("drain", self.name, "--expect=1", "--timeout=10", "--json").json()
        self.assertIs(True, answer["draining"])
        self.assertEqual(0, worker.ended(), worker.out)
        self.assertEqual((0, '"slept"\n'), (waiting.ended(), waiting.out))

    def test_what_a_killed_worker_ran_goes_to_another(self) -> None:
        """It ends at once, with 1, although its task would sleep on."""
        first = self.worker("--allow-kill", "--drain=1000")
        waiting = self.start("call", f"{self.name}.sleep", "4")
        first.wait_for("it sleeps")
        (wid,) = first.wait_for(r"worker (\S+) answers")
        second = self.worker()
        self.fine("kill", wid, "--expect=1", "--timeout=10")
        self.assertEqual(1, first.ended(), first.out)
        second.wait_for("it sleeps")
        self.assertEqual((0, '"slept"\n'), (waiting.ended(), waiting.out))

    def test_of_forked_workers_those_that_are_drained_stay_away(self) -> None:
        """A killed one is replaced; when all are drained, their supervisor ends with 0."""
        program = self.worker("--forks=2", "--allow-kill", ready=2)
        pids = children_of(program.process.pid)
        first, second = program.wait_for(rf"worker ({self.name}-\S+) answers", 2)
        self.fine("drain", first, "--expect=1", "--timeout=10")
        program.wait_for("was drained by a command: no other is started")
        self.fine("kill", second, "--expect=1", "--timeout=10")
        *_, third = program.wait_for(rf"worker ({self.name}-\S+) answers", 3)
        self.assertIn("another is started", program.out)
        wait_until_ended(pids)
        (pid,) = children_of(program.process.pid)
        self.fine("drain", third, "--expect=1", "--timeout=10")
        self.assertEqual(0, program.ended(), program.out)
        wait_until_ended([pid])
