"""A worker with tasks in processes: what it consumes, and what it says of them. The processes are made up."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

from crew_tx import worker as worker_module
from crew_tx.codec import Encoded
from crew_tx.control import BuiltinCommands
from crew_tx.errors import ConfigurationError
from crew_tx.tasks.processes.frames import write_frame
from crew_tx.tasks.processes.messages import READY, TaskEvent, write_event
from crew_tx.tasks.processes.spawner import ProcessOptions
from crew_tx.worker import Task
from tests.amqp.peer import Peer
from tests.tasks.processes.test_pool import FakeChild
from tests.workers import WorkerTestCase


@Task("isolated", isolation="process")
def isolated(req: Any) -> Any:
    """For a process."""
    raise AssertionError("it is for a process")


class IsolationTests(WorkerTestCase):
    """Beside the tasks in threads."""

    def setUp(self) -> None:
        super().setUp()
        self.children: list[FakeChild] = []
        self.patch(worker_module, "spawner", self.spawner)
        self.reactor.callWhenRunning = lambda function: function()

    def spawner(self, reactor: Any, options: ProcessOptions, start: Any) -> Any:
        self.begun = start()
        return self.spawn

    def spawn(self, listener: Any) -> FakeChild:
        child = FakeChild(100 + len(self.children), listener)
        child.kill = lambda: listener.ended("was ended by SIGKILL")  # type: ignore[method-assign]
        self.children.append(child)
        return child

    def start_isolated(self, size: int = 1, **options: Any) -> Peer:
        """A worker whose first process is ready."""
        peer = self.start(isolated, processes=ProcessOptions(["python"], {}, size), **options)
        self.ready()
        return peer

    def ready(self) -> None:
        """The youngest process has started."""
        self.children[-1].says(write_frame(READY, {}))

    def test_without_processes_such_a_task_is_refused(self) -> None:
        """When the worker is made."""
        error = self.assertRaises(ConfigurationError, self.make, isolated)
        self.assertIn("'isolated' is to run in a process", str(error))
        self.make()

    def test_a_worker_without_such_tasks_has_no_processes(self) -> None:
        """Whatever the options."""
        self.start(processes=ProcessOptions(["python"], {}, 1))
        self.assertEqual((self.children, self.worker.status().processes), ([], None))

    def test_a_call_is_answered(self) -> None:
        """And settled behind its answer; what the task published goes before."""
        self.start_isolated()
        self.assertEqual((self.begun.worker_id, self.begun.settings["uuid"]), (self.worker.worker_id,) * 2)
        tag = self.call("isolated", 5)
        self.children[0].says(write_event(TaskEvent("news", Encoded(b"x", "text/plain", None), {}, True)))
        self.children[0].answers()
        sent = self.peer.read()
        self.assertEqual(
            [each.fields.get("exchange") for each in sent], ["crew.pubsub", "crew.replies", None]
        )
        self.assertEqual([self.told(each) for each in sent[1:]], [("reply", 1), ("ack", tag)])

    def test_its_spans_are_made_when_it_has_run(self) -> None:
        """By the worker: the process has the task's own function."""
        tracing = Mock(traced=Mock(side_effect=lambda definition: definition))
        self.start_isolated(tracing=tracing)
        self.call("isolated", 5, call_id="first")
        self.assertFalse(tracing.ran.called)
        self.children[0].answers()
        self.call("isolated", 5, call_id="second")
        self.children[0].listener.ended("was ended by SIGSEGV")
        told = [(task.task_id, *rest) for task, *rest in (each.args for each in tracing.ran.call_args_list)]
        self.assertEqual(
            [("isolated", {}, "first", 0.5, None), ("isolated", {}, "second", 0.0, "raised")], told
        )
        self.assertNotIn("isolated", [each.args[0].task_id for each in tracing.traced.call_args_list])

    def test_full_processes_give_back_their_own_calls_alone(self) -> None:
        """Of three queues, the one is not consumed from until a process is free."""
        peer = self.start_isolated()
        tags = [self.call("isolated", number) for number in range(3)]
        self.advance(4)
        self.call("echo", "meanwhile")
        self.threads.step_all()
        self.assertEqual(self.sent(), [("reply", "meanwhile"), ("ack", 4)])
        self.advance(1)
        ((kind, consumer),) = self.sent()
        self.assertEqual(kind, "basic.cancel")
        peer.send(self.channel, "basic.cancel-ok", consumer_tag=consumer)
        peer.unread = []
        self.assertEqual(self.sent(), [("hand back", tag) for tag in tags[1:]])
        self.children[0].answers()
        self.assertEqual(self.sent(), [("reply", 1), ("ack", 1), ("basic.qos", None)])
        peer.send(self.channel, "basic.qos-ok")
        self.assertEqual(self.sent(), [("basic.consume", "crew.tasks.isolated")])
        peer.settle()

    def test_processes_that_start_slowly_are_not_waited_for(self) -> None:
        """Calls go to others meanwhile; once a process is ready, there are more."""
        peer = self.start(isolated, processes=ProcessOptions(["python"], {}, 1))
        tag = self.call("isolated", 1)
        self.advance(6)
        peer.settle()
        self.assertEqual(self.sent()[1:], [("hand back", tag)])
        self.ready()
        peer.settle()
        self.assertEqual(self.sent(), [("basic.qos", None), ("basic.consume", "crew.tasks.isolated")])
        self.call("isolated", 2)
        self.children[1].answers()
        self.assertEqual(self.sent(), [("reply", 1), ("ack", tag + 1)])

    def test_a_connection_that_is_lost_before_both_are_consumed(self) -> None:
        """What came of one kind by then is not begun: others have it."""
        self.make(isolated, processes=ProcessOptions(["python"], {}, 1), threads=1)
        self.worker.startService()

        def second_is_unanswered(sent: Any) -> None:
            self.peer.answers["basic.qos"] = lambda sent: None
            self.peer.send(sent.channel, "basic.qos-ok")

        def change(peer: Peer) -> None:
            peer.answers["basic.qos"] = second_is_unanswered

        self.accept(change)
        self.channel = self.channel_of("basic.consume")
        for number in range(3):
            self.call("echo", number)
        self.assertEqual(self.worker.status().held, 2)
        self.peer.lose()
        self.assertEqual(self.worker.status().held, 0)
        self.threads.step_all()
        self.advance(5)
        self.accept()

    def test_what_is_said_of_processes(self) -> None:
        """Who runs what, how many died, and that no stack is read."""
        self.start_isolated(2)
        self.call("isolated", 5)
        commands = BuiltinCommands(self.worker)
        (shown,) = commands.stacks({})["stacks"]
        self.assertEqual(shown["thread"], "process 100")
        self.assertEqual(shown["stack"], ["in the process 100, whose stack is not read"])
        stats = commands.stats({})["processes"]
        self.assertEqual((stats["size"], stats["busy"], stats["killed"]), (2, 1, 0))
        self.assertEqual([each["call_id"] for each in stats["processes"]], ["c1", ""])
        tasks = {each["id"]: each["isolation"] for each in commands.tasks({})["tasks"]}
        self.assertEqual((tasks["isolated"], tasks["echo"]), ("process", "thread"))
        self.assertTrue(commands.cancel({"id": "c1"})["cancelled"])
        self.assertEqual(commands.stats({})["processes"]["killed"], 1)

    def test_a_pause_is_for_both(self) -> None:
        """As is its end."""
        peer = self.start_isolated()
        self.worker.pause()
        self.assertEqual([kind for kind, _ in self.sent()], ["basic.cancel"] * 4)
        peer.settle()
        peer.unread = []
        self.worker.resume()
        self.assertEqual(self.sent(), [("basic.qos", None)])
        peer.settle()
