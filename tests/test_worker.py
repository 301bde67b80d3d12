"""The worker's side, on a reactor in memory and stepped threads: from a delivery to its reply and its ack."""

from __future__ import annotations

from typing import Any

from twisted.logger import LogLevel, capturedLogs, formatEvent

from crew_tx.amqp.uri import parse_all
from crew_tx.errors import (
    AuthenticationError,
    ConfigurationError,
    DuplicateTaskIdError,
    InvalidArgumentError,
    PreconditionFailedError,
)
from crew_tx.message import Call, call_properties
from crew_tx.worker import Task, Worker, context
from tests.amqp.peer import Sent
from tests.roles import URL
from tests.workers import WorkerTestCase, echo


class StartTests(WorkerTestCase):
    """Coming to consume."""

    def declared(self, **options: Any) -> dict[str, Any]:
        """The queues that were made, by name."""
        self.make(**options).startService()
        sent = self.accept().read()
        self.seen = sent
        return {
            each.fields["queue"]: each.fields
            for each in sent
            if each.name == "queue.declare" and not each.fields["passive"]
        }

    def bound(self) -> list[tuple[str, str, str]]:
        """Queue, exchange and key of the bindings that were made."""
        return [
            (each.fields["queue"], each.fields["exchange"], each.fields["routing_key"])
            for each in self.seen
            if each.name == "queue.bind"
        ]

    def test_it_makes_its_tasks_queues(self) -> None:
        """One a task, or one for several; each bound by the ids of its tasks."""
        queues = self.declared()
        arguments = {"x-dead-letter-exchange": "crew.dlx", "x-max-priority": 10}
        for name in ("crew.tasks.echo", "crew.tasks.fail", "crew.tasks.shared"):
            self.assertEqual((queues[name]["durable"], queues[name]["arguments"]), (True, arguments))
        tasks = [binding for binding in self.bound() if binding[1] == "crew.tasks"]
        self.assertEqual(
            tasks,
            [
                ("crew.tasks.echo", "crew.tasks", "echo"),
                ("crew.tasks.fail", "crew.tasks", "fail"),
                ("crew.tasks.shared", "crew.tasks", "short"),
                ("crew.tasks.shared", "crew.tasks", "other"),
            ],
        )

    def test_quorum_queues(self) -> None:
        """Where they are asked for."""
        queues = self.declared(queue_type="quorum")
        self.assertEqual(queues["crew.tasks.echo"]["arguments"]["x-queue-type"], "quorum")

    def test_a_probe_finds_it_by_each_of_its_tasks(self) -> None:
        """In a control queue of this connection's own; the next has another."""
        queues = self.declared()
        name = f"crew.control.{self.worker.worker_id}.1"
        fields = queues[name]
        self.assertEqual((fields["exclusive"], fields["auto_delete"], fields["durable"]), (True, True, False))
        probes = [binding for binding in self.bound() if binding[1] == "crew.workers"]
        self.assertEqual([key for _, _, key in probes], ["echo", "fail", "short", "other"])
        self.assertEqual({queue for queue, _, _ in probes}, {name})
        again = [sent.fields.get("queue") for sent in self.reconnect().read()]
        self.assertIn(f"crew.control.{self.worker.worker_id}.2", again)
        self.assertNotIn(name, again)

    def test_it_consumes_when_all_is_ready(self) -> None:
        """In confirm mode, two more than threads sent ahead, by one channel, each with acks."""
        self.declared()
        names = [sent.name for sent in self.seen]
        self.assertLess(names.index("confirm.select"), names.index("basic.qos"))
        self.assertLess(names.index("basic.qos"), len(names) - 1 - names[::-1].index("basic.consume"))
        [qos] = [sent.fields for sent in self.seen if sent.name == "basic.qos"]
        self.assertEqual((qos["prefetch_count"], qos["global_"]), (4, False))
        consumers = [sent for sent in self.seen if sent.name == "basic.consume"]
        self.assertEqual(
            [(sent.fields["queue"], sent.fields["no_ack"]) for sent in consumers],
            [
                (f"crew.control.{self.worker.worker_id}.1", True),
                ("crew.tasks.echo", False),
                ("crew.tasks.fail", False),
                ("crew.tasks.shared", False),
            ],
        )
        self.assertEqual(len({sent.channel for sent in consumers}), 1)

    def test_what_all_roles_share_is_looked_for(self) -> None:
        """Each exchange, and the queue of the dead, passively: they are there already."""
        self.declared()
        looked = {
            each.fields.get("exchange", each.fields.get("queue")): each.fields["passive"]
            for each in self.seen
            if each.name == "exchange.declare"
            or (each.name == "queue.declare" and each.fields["queue"] == "crew.dead")
        }
        names = ("crew.tasks", "crew.workers", "crew.replies", "crew.dlx", "crew.dead", "crew.pubsub")
        self.assertEqual({name: looked.get(name) for name in names}, dict.fromkeys(names, True))

    def test_eight_threads_are_the_default(self) -> None:
        """And two calls more sent ahead."""
        self.make()
        worker = Worker(self.reactor, parse_all(URL), [echo.__crew_task__], heartbeat=0)  # type: ignore[attr-defined]
        self.addCleanup(self.ended, worker.stopService)
        worker.startService()
        [qos] = [sent.fields for sent in self.accept().read() if sent.name == "basic.qos"]
        self.assertEqual((qos["prefetch_count"], worker.status().pool.size), (10, 8))

    def test_the_prefetch_may_be_given(self) -> None:
        """In place of two more than threads."""
        self.declared(prefetch=1)
        [qos] = [sent.fields for sent in self.seen if sent.name == "basic.qos"]
        self.assertEqual(qos["prefetch_count"], 1)

    def test_ready_is_when_it_consumes(self) -> None:
        """And not before."""
        self.make().startService()
        ready = self.worker.when_ready()
        self.assertNoResult(ready)
        self.accept()
        self.successResultOf(ready)
        self.assertTrue(self.worker.status().connected)

    def test_a_broker_that_refuses_it_for_good(self) -> None:
        """It gives up, and says why; the queue's error has the remedy."""
        for name, code, kind in (
            ("connection.start-ok", 403, AuthenticationError),
            ("queue.declare", 406, PreconditionFailedError),
        ):
            self.make().startService()
            ready = self.worker.when_ready()
            self.accept(lambda peer, name=name, code=code: peer.refuse(name, code, "NO"))  # type: ignore[misc]
            self.failureResultOf(ready, kind)
            self.assertIsInstance(self.fatal.pop(), kind)
            self.assertEqual(self.attempts, [])
            self.stop()

    def test_wrong_arguments_are_refused(self) -> None:
        """Each at once."""
        urls = parse_all(URL)
        again = Task("echo")(lambda req: req).__crew_task__  # type: ignore[attr-defined]
        for definitions, options, kind in (
            ([], {}, ConfigurationError),
            ([echo.__crew_task__, again], {}, DuplicateTaskIdError),  # type: ignore[attr-defined]
            ([again], {"name": "a#"}, InvalidArgumentError),
            ([again], {"queue_type": "stream"}, InvalidArgumentError),
            ([again], {"threads": 0}, InvalidArgumentError),
        ):
            with self.assertRaises(kind, msg=str(options)):
                Worker(self.reactor, urls, definitions, **options)  # type: ignore[arg-type]


class AnswerTests(WorkerTestCase):
    """Calls and their replies."""

    def test_the_ack_goes_right_behind_the_reply(self) -> None:
        """On the same channel, so the broker never has the ack without the reply."""
        peer = self.start()
        tag = self.call("echo", 12)
        self.assertEqual(self.sent(), [])
        self.threads.step()
        reply, ack = peer.read()
        self.assertEqual([self.told(reply), self.told(ack)], [("reply", 12), ("ack", tag)])
        self.assertEqual((reply.channel, ack.channel), (self.channel, self.channel))

    def test_a_reply_is_addressed_to_its_caller(self) -> None:
        """Mandatory, on the exchange for replies, as persistent as the call was."""
        peer = self.start()
        for persistent in (True, False):
            self.call(persistent=persistent, call_id="mine")
            self.threads.step()
            reply = peer.read()[0]
            self.assertEqual(
                (reply.fields["exchange"], reply.fields["routing_key"]), ("crew.replies", "client-1")
            )
            self.assertTrue(reply.fields["mandatory"])
            assert reply.properties is not None
            elapsed = reply.properties["headers"].pop("crew-elapsed")
            self.assertEqual(elapsed, 0.0)
            self.assertEqual(
                reply.properties,
                {
                    "type": "crew.result",
                    "correlation_id": "mine",
                    "message_id": "mine",
                    "delivery_mode": 2 if persistent else 1,
                    "content_type": "application/cbor",
                    "app_id": "crew_tx",
                    "headers": {"crew-worker": self.worker.worker_id},
                },
            )

    def test_a_reply_comes_in_the_calls_content_type(self) -> None:
        """Where that can hold it."""
        peer = self.start()
        self.call("echo", {"a": 1}, serializer="json")
        self.threads.step()
        reply = peer.read()[0]
        self.assertEqual(reply.properties["content_type"], "application/json")  # type: ignore[index]
        self.assertEqual(reply.body, b'{"a":1}')

    def test_a_one_way_call_is_only_settled(self) -> None:
        """Also where it fails."""
        self.start()
        for task_id in ("echo", "fail", "unknown"):
            tag = self.call(task_id, queue="echo", reply_to=None)
            self.threads.step_all()
            self.assertEqual(self.sent(), [("ack", tag)])

    def test_what_goes_wrong_is_answered_and_settled(self) -> None:
        """A task that raises, a task that nobody knows, a body that can't be read."""
        self.start()
        for task_id, kind, changes in (
            ("fail", "raised", {}),
            ("unknown", "unknown-task", {}),
            ("echo", "undecodable", {"body": b"\xff\xff"}),
            ("echo", "undecodable", {"content_type": "moon/shine"}),
        ):
            tag = self.call(task_id, queue="echo", **changes)
            self.threads.step_all()
            self.assertEqual(self.sent(), [("reply", kind), ("ack", tag)])

    def test_a_message_that_is_no_call_is_rejected(self) -> None:
        """To the dead letters: it would come again for ever."""
        self.start()
        good = call_properties(Call("echo", "c1", b"", "a/b"))
        for bad in (
            {},
            {**good, "correlation_id": ""},
            {**good, "expiration": "soon"},
            {**good, "headers": {}},
        ):
            tag = self.delivered("echo", bad, b"")
            self.assertEqual(self.sent(), [("reject", tag)])
        self.assertEqual(self.threads.jobs, [])

    def test_a_task_on_the_reactor(self) -> None:
        """The same way back."""
        self.start(self.hanging())
        tag = self.call("hang")
        self.assertEqual(self.sent(), [])
        self.waiting.callback(7)
        self.assertEqual(self.sent(), [("reply", 7), ("ack", tag)])

    def test_a_task_over_its_limit(self) -> None:
        """The caller is told at once; what the thread does after that is dropped."""
        self.start()
        tag = self.call("short", queue="shared")
        self.advance(2)
        self.assertEqual(self.sent(), [("reply", "timeout"), ("ack", tag)])
        self.threads.step_all()
        self.assertEqual(self.sent(), [])

    def test_what_tasks_find_in_their_context(self) -> None:
        """The worker's settings, and the call as it came."""
        seen: list[Any] = []

        @Task("look")
        def look(req: Any) -> None:
            settings = context.settings
            seen.append((settings.uuid, settings.options, settings.counter, len(settings.node_uuid)))
            seen.append((context.request.redelivered, context.request.priority, context.request.headers))
            context.headers["colour"] = "red"

        peer = self.start(look, settings={"counter": 5})
        self.call("look", redelivered=True, priority=255, headers={"a": 1})
        self.threads.step()
        self.assertEqual(seen, [(self.worker.worker_id, {}, 5, 36), (True, 10, {"a": 1})])
        reply = peer.read()[0]
        self.assertEqual(reply.properties["headers"]["colour"], "red")  # type: ignore[index]

    def test_headers_that_cannot_be_sent_are_an_error(self) -> None:
        """Of a taken name, of no type that AMQP has, or too large; the worker goes on."""

        @Task("mark")
        def mark(req: Any) -> Any:
            context.headers.update(headers[req])

        headers = [
            {"CC": "x"},
            {"odd": object()},
            {"large": "x" * 70_000},
            {"nearly": "x" * 65_500},
            {"good": 1},
        ]
        self.start(mark)
        for number in range(len(headers)):
            tag = self.call("mark", number)
            self.threads.step()
            self.assertEqual(self.sent(), [("reply", None if number == 4 else "raised"), ("ack", tag)])

    def test_a_probe_is_no_call(self) -> None:
        """That it came is its answer: nothing is sent for it."""
        self.start()
        queue = f"crew.control.{self.worker.worker_id}.1"
        self.deliver(queue, {"type": "probe", "message_id": "p"}, b"", 1, self.channel)
        self.assertEqual((self.sent(), self.threads.jobs), ([], []))

    def test_more_than_the_threads_are_held(self) -> None:
        """And run in their order."""
        self.start()
        for number in range(4):
            self.call("echo", number)
        status = self.worker.status()
        self.assertEqual((status.in_progress, status.held), (2, 2))
        self.threads.step_all()
        self.assertEqual([value for kind, value in self.sent() if kind == "reply"], [0, 1, 2, 3])


class EventTests(WorkerTestCase):
    """What tasks publish."""

    def test_an_event_leaves_before_the_answer(self) -> None:
        """From the reactor and from a thread, however late the reactor is told of it; and once."""

        @Task("here")
        async def here(req: Any) -> None:
            context.pubsub.publish("a", 1)
            context.pubsub.publish("b", 2)

        @Task("there")
        def there(req: Any) -> None:
            context.pubsub.publish("a", 1)
            context.pubsub.publish("b", 2)

        self.start(here, there)
        held: list[Any] = []
        self.patch(self.reactor, "callFromThread", lambda function, *args: held.append((function, args)))
        for task_id in ("here", "there"):
            self.call(task_id)
            self.threads.step_all()
            published = [sent.fields for sent in self.peer.read() if sent.name == "basic.publish"]
            self.assertEqual(
                [(fields["exchange"], fields["routing_key"]) for fields in published],
                [("crew.pubsub", "a"), ("crew.pubsub", "b"), ("crew.replies", "client-1")],
            )
        for function, args in held:
            function(*args)
        self.assertNotIn("basic.publish", self.peer.names())


class SaturationTests(WorkerTestCase):
    """All threads are busy: others may have what waits here."""

    def saturate(self) -> list[int]:
        """Two calls that run, and two that wait. :returns: the tags of those that wait."""
        tags = [self.call("echo", number) for number in range(4)]
        self.assertEqual(self.sent(), [])
        return tags[2:]

    def test_after_5_seconds_the_unstarted_are_handed_back(self) -> None:
        """When the consumers have ended, or they would come right back."""
        peer = self.start()
        held = self.saturate()
        self.advance(4.5)
        self.assertEqual(self.sent(), [])
        self.advance(0.5)
        cancelled = self.sent()
        self.assertEqual([kind for kind, _ in cancelled], ["basic.cancel"] * 3)
        peer.unread = [Sent(self.channel, "basic.cancel", {"consumer_tag": tag}) for _, tag in cancelled]
        for _, tag in cancelled:
            peer.send(self.channel, "basic.cancel-ok", consumer_tag=tag)
        peer.unread = []
        self.assertEqual(self.sent(), [("hand back", tag) for tag in held])
        self.assertEqual((self.worker.status().held, self.worker.status().in_progress), (0, 2))

    def saturated(self) -> None:
        """Consumers ended, the unstarted handed back."""
        self.saturate()
        self.advance(5)
        self.peer.settle()
        self.peer.unread = []

    def test_it_consumes_again_when_a_thread_is_free(self) -> None:
        """From each queue, with the same prefetch."""
        peer = self.start()
        self.saturated()
        self.threads.step()
        self.assertEqual(self.sent(), [("reply", 0), ("ack", 1), ("basic.qos", None)])
        peer.send(self.channel, "basic.qos-ok")
        peer.settle()
        self.assertEqual(
            [queue for name, queue in self.sent() if name == "basic.consume"],
            ["crew.tasks.echo", "crew.tasks.fail", "crew.tasks.shared"],
        )
        tag = self.call("echo", "again")
        self.threads.step_all()
        self.assertIn(("ack", tag), self.sent())

    def test_a_thread_that_gets_free_in_time_keeps_them(self) -> None:
        """The five seconds count from then."""
        self.start()
        self.saturate()
        self.advance(4)
        self.threads.step()
        self.advance(4)
        self.assertEqual(self.sent(), [("reply", 0), ("ack", 1)])
        self.threads.step_all()
        self.advance(10)
        self.assertEqual([value for kind, value in self.sent() if kind == "reply"], [1, 2, 3])

    def test_busy_threads_alone_are_no_reason(self) -> None:
        """Nothing waits here for others to take."""
        self.start()
        self.call("echo", 1)
        self.call("echo", 2)
        self.advance(30)
        self.assertEqual(self.sent(), [])

    def test_a_worker_that_stops_meanwhile_does_not_begin_again(self) -> None:
        """Its threads get free, and it is for others to go on."""
        self.start()
        self.saturated()
        self.worker.stopService()
        self.threads.step_all()
        self.assertNotIn("basic.consume", [name for name, _ in self.sent()])


class ShortTaskTests(WorkerTestCase):
    """Where tasks take no time, the broker sends more ahead: it would be waited for otherwise."""

    def serve(self, count: int = 256, **changes: Any) -> list[Sent]:
        """So many calls that take no time. :returns: what the worker sent besides replies and acks."""
        sent: list[Sent] = []
        for number in range(count):
            self.call("echo", number, **changes)
            self.threads.step_all()
            self.peer.settle()
            sent += [each for each in self.peer.read() if each.name not in ("basic.publish", "basic.ack")]
        return sent

    def test_more_are_let_come(self) -> None:
        """By new consumers, which are there before the old ones end."""
        self.start()
        old = {self.tags[f"crew.tasks.{queue}"] for queue in ("echo", "fail", "shared")}
        sent = self.serve()
        self.assertEqual(
            [each.name for each in sent], ["basic.qos", *["basic.consume"] * 3, *["basic.cancel"] * 3]
        )
        self.assertEqual(sent[0].fields["prefetch_count"], 128)
        self.assertEqual({each.fields["consumer_tag"] for each in sent[4:]}, old)

    def test_a_prefetch_that_was_given_stays(self) -> None:
        """Whoever gave it knows why."""
        self.start(prefetch=5)
        self.assertEqual(self.serve(), [])

    def test_long_ones_after_that_do_not_wait_here(self) -> None:
        """A quarter of a second, and what has not begun goes to others; as few as usual come after that."""
        self.start()
        self.serve()
        tags = [self.call("echo", number) for number in range(20)]
        self.reactor.advance(0.24)
        self.assertEqual(self.sent(), [])
        self.reactor.advance(0.02)
        self.peer.settle()
        sent = self.sent()
        self.assertEqual(sorted(tag for kind, tag in sent if kind == "hand back"), tags[2:])
        kinds = list(dict.fromkeys(kind for kind, _ in sent))
        self.assertEqual(kinds, ["basic.cancel", "hand back", "basic.qos", "basic.consume"])
        self.threads.step_all()
        self.peer.settle()
        self.assertEqual([value for kind, value in self.sent() if kind == "reply"], [0, 1])


class ConnectionTests(WorkerTestCase):
    """Connections that end, alarms, replies that come back."""

    def reconnected(self) -> None:
        """The connection is lost, and another is there."""
        self.peer.lose()
        self.advance(5)
        self.accept()
        self.channel = self.channel_of("basic.consume")
        published = [
            sent for sent in self.peer.unread if sent.name.startswith("basic.") and sent.body is not None
        ]
        acks = [sent for sent in self.peer.unread if sent.name in ("basic.ack", "basic.nack")]
        self.peer.unread = [*published, *acks]

    def test_a_reply_is_kept_over_a_lost_connection(self) -> None:
        """It was not confirmed, so it is sent again; the ack is not, since its tag died."""
        self.start()
        self.call("echo", 12)
        self.threads.step()
        self.sent()
        self.assertEqual(self.worker.status().unconfirmed_replies, 1)
        self.reconnected()
        self.assertEqual(self.sent(), [("reply", 12)])
        self.confirm(self.channel, 1)
        self.assertEqual(self.worker.status().unconfirmed_replies, 0)

    def test_a_confirmed_reply_is_not_sent_again(self) -> None:
        """The broker has it."""
        self.start()
        self.call("echo", 12)
        self.threads.step()
        self.confirm(self.channel, 1)
        self.reconnected()
        self.assertEqual(self.sent(), [])

    def test_a_task_that_ends_without_a_connection(self) -> None:
        """Its reply waits for the next one."""
        self.start()
        self.call("echo", 12)
        self.peer.lose()
        self.threads.step()
        self.advance(5)
        self.accept()
        self.assertEqual([self.told(sent) for sent in self.published()], [("reply", 12)])

    def test_what_was_not_started_is_the_brokers_again(self) -> None:
        """It is not run here, unless it comes again."""
        self.start()
        for number in range(4):
            self.call("echo", number)
        self.peer.lose()
        self.assertEqual((self.worker.status().held, self.worker.status().in_progress), (0, 2))
        self.threads.step_all()
        self.assertEqual(self.worker.status().processed, 2)

    def test_what_was_held_on_a_lost_connection_saturates_no_other(self) -> None:
        """The broker has it back: nothing waits here any more."""
        self.start()
        for number in range(4):
            self.call("echo", number)
        self.peer.lose()
        self.advance(3)
        self.accept()
        self.peer.unread = []
        self.advance(30)
        self.assertEqual(self.sent(), [])

    def test_a_blocked_reply_waits_with_its_ack(self) -> None:
        """However long the alarm; both go out when it is over."""
        self.start()
        self.block()
        tag = self.call("echo", 12)
        self.threads.step()
        self.advance(120)
        self.assertEqual(self.sent(), [])
        self.unblock()
        self.advance(2)
        self.assertEqual(self.sent(), [("reply", 12), ("ack", tag)])

    def test_a_returned_reply_is_sent_again_after_1_5_and_30_seconds(self) -> None:
        """Its caller may be back by then; after that it is given up."""
        self.start()
        self.call("echo", 12)
        self.threads.step()
        reply = self.peer.read()[0]
        for seconds in (1, 5, 30):
            self.give_back(self.channel, reply)
            self.confirm(self.channel, 99, multiple=True)
            self.advance(seconds - 0.5)
            self.assertEqual(self.sent(), [])
            self.advance(0.5)
            self.assertEqual(self.sent(), [("reply", 12)])
            self.assertEqual(self.worker.status().unconfirmed_replies, 1)
        self.give_back(self.channel, reply)
        self.confirm(self.channel, 99, multiple=True)
        self.assertEqual(self.worker.status().unconfirmed_replies, 0)
        self.advance(60)
        self.assertEqual(self.sent(), [])

    def test_a_queue_that_is_deleted_is_made_again(self) -> None:
        """By a new connection: a consumer must not die in silence."""
        self.start()
        self.peer.refuse("queue.declare", 404, "NOT_FOUND")
        self.cancel("crew.tasks.echo", self.channel)
        self.peer.settle()
        self.assertFalse(self.worker.status().connected)
        self.advance(5)
        declared = [sent.fields.get("queue") for sent in self.accept().read() if sent.name == "queue.declare"]
        self.assertIn("crew.tasks.echo", declared)

    def test_a_queue_whose_consumer_alone_is_ended_is_consumed_anew(self) -> None:
        """RabbitMQ 4.3 does so for a call that was kept too long; what runs here goes on."""
        self.start()
        tag = self.call("echo", 1)
        old = dict(self.tags)
        with capturedLogs() as logs:
            self.cancel("crew.tasks.echo", self.channel)
            self.peer.settle()
        [text] = [formatEvent(event) for event in logs if event["log_level"] is LogLevel.warn]
        self.assertIn("the broker ended the consumer of crew.tasks.echo, which is there", text)
        self.assertTrue(self.worker.status().connected)
        self.assertNotEqual(old["crew.tasks.echo"], self.tags["crew.tasks.echo"])
        ended = [sent.fields["consumer_tag"] for sent in self.peer.read() if sent.name == "basic.cancel"]
        self.assertNotIn(old["crew.tasks.echo"], ended)
        self.threads.step()
        self.assertEqual(self.sent(), [("reply", 1), ("ack", tag)])
        self.call("echo", 2)
        self.threads.step()
        self.assertEqual(self.sent(), [("reply", 2), ("ack", tag + 1)])

    def test_a_control_queue_that_is_deleted_is_made_again(self) -> None:
        """No probe would find the worker any more; it says why it connects anew."""
        self.start()
        name = f"crew.control.{self.worker.worker_id}.1"
        with capturedLogs() as logs:
            self.cancel(name, self.channel)
            self.peer.settle()
        texts = [formatEvent(event) for event in logs if event["log_level"] is LogLevel.warn]
        self.assertIn(f"the queue {name} was deleted: connecting anew to declare it", texts)
        self.assertFalse(self.worker.status().connected)
        self.advance(5)
        again = f"crew.control.{self.worker.worker_id}.2"
        bound = [
            (sent.fields["exchange"], sent.fields["routing_key"])
            for sent in self.accept().read()
            if sent.name == "queue.bind" and sent.fields["queue"] == again
        ]
        tasks = {"echo", "fail", "short", "other"}
        self.assertEqual({key for exchange, key in bound if exchange == "crew.workers"}, tasks)
        self.assertIn(("crew.control", f"mgt.{self.worker.worker_id}"), bound)

    def test_one_that_is_deleted_before_the_worker_is_ready(self) -> None:
        """The same: the next connection has another."""
        self.make().startService()

        def delete(sent: Sent) -> None:
            self.cancel(f"crew.control.{self.worker.worker_id}.1", sent.channel)

        self.accept(lambda peer: peer.answers.update({"confirm.select": delete}))
        self.assertFalse(self.worker.status().connected)
        self.advance(5)
        self.accept()
        self.assertTrue(self.worker.status().connected)

    def test_a_channel_that_the_broker_closes_brings_a_new_connection(self) -> None:
        """As it does where a call was not settled for half an hour."""
        self.start()
        self.peer.send(self.channel, "channel.close", reply_code=406, reply_text="PRECONDITION_FAILED")
        self.peer.settle()
        self.advance(5)
        self.accept()
        self.assertTrue(self.worker.status().connected)

    def test_too_many_stuck_threads_are_the_end(self) -> None:
        """More than are allowed: it gives up, once."""
        self.start(threads=1, max_stuck=1)
        for _ in range(3):
            self.call("short", queue="shared")
            self.advance(7)
        self.assertEqual(len(self.fatal), 1)
        self.assertIn("stuck", str(self.fatal[0]))
        self.assertEqual(len(self.worker.status().pool.stuck), 3)


class StopTests(WorkerTestCase):
    """Draining."""

    def test_an_idle_worker_stops_at_once(self) -> None:
        """It ends its consumers and its connection."""
        peer = self.start()
        stopped = self.worker.stopService()
        self.assertTrue(self.worker.status().draining)
        peer.settle()
        self.successResultOf(stopped)
        self.assertEqual(peer.names(), [*["basic.cancel"] * 3, "connection.close"])
        self.assertTrue(peer.lost)
        self.assertFalse(self.worker.running)

    def test_what_is_not_started_is_handed_back(self) -> None:
        """At once; what runs may end, is answered, and its reply confirmed."""
        peer = self.start()
        for number in range(3):
            self.call("echo", number)
        stopped = self.worker.stopService()
        peer.settle()
        self.assertEqual(self.sent()[3:], [("hand back", 3)])
        self.threads.step_all()
        self.assertEqual(self.sent(), [("reply", 0), ("ack", 1), ("reply", 1), ("ack", 2)])
        self.assertNoResult(stopped)
        self.confirm(self.channel, 2, multiple=True)
        peer.settle()
        self.successResultOf(stopped)
        self.assertEqual(self.worker.status().unfinished, 0)

    def test_what_still_comes_is_handed_back(self) -> None:
        """The broker sent it before it heard."""
        self.start()
        self.worker.stopService()
        tag = self.call("echo", 1)
        self.assertIn(("hand back", tag), self.sent())
        self.assertEqual(self.threads.jobs, [])

    def test_a_task_has_the_time_of_the_drain(self) -> None:
        """And no more: nothing is answered for it, so another worker gets its call."""
        peer = self.start(drain=10.0)
        self.call("echo", 1)
        stopped = self.worker.stopService()
        peer.settle()
        self.advance(9.5)
        self.assertNoResult(stopped)
        self.advance(0.5)
        peer.settle()
        self.successResultOf(stopped)
        self.assertEqual(self.worker.status().unfinished, 1)
        self.threads.step_all()
        self.assertNotIn("basic.publish", peer.names())

    def test_so_has_a_task_on_the_reactor(self) -> None:
        """It is cancelled, and nothing is answered for it."""
        peer = self.start(self.hanging(), drain=10.0)
        self.call("hang")
        stopped = self.worker.stopService()
        peer.settle()
        self.advance(10)
        peer.settle()
        self.successResultOf(stopped)
        self.assertTrue(self.waiting.called)
        self.assertFalse({"basic.publish", "basic.ack"} & set(peer.names()))

    def test_a_reply_that_nobody_confirms_is_waited_for_5_seconds(self) -> None:
        """A blocked broker reads nothing."""
        peer = self.start()
        self.block()
        self.call("echo", 1)
        stopped = self.worker.stopService()
        peer.settle()
        self.threads.step_all()
        self.advance(4.5)
        self.assertNoResult(stopped)
        self.advance(0.5)
        peer.settle()
        self.successResultOf(stopped)

    def test_a_broker_that_answers_nothing_is_not_waited_for(self) -> None:
        """Neither for the consumers' end nor for the connection's."""
        peer = self.start()
        stopped = self.worker.stopService()
        self.advance(7.5)
        self.assertNoResult(stopped)
        self.advance(1)
        peer.settle()
        self.successResultOf(stopped)

    def test_without_a_connection_it_stops_all_the_same(self) -> None:
        """What runs may end."""
        self.start()
        self.call("echo", 1)
        self.peer.lose()
        stopped = self.worker.stopService()
        self.threads.step_all()
        self.assertNoResult(stopped)
        self.advance(5)
        self.successResultOf(stopped)

    def test_a_connection_that_comes_meanwhile_is_for_replies_only(self) -> None:
        """Nothing is consumed by it."""
        self.start()
        self.call("echo", 12)
        self.peer.lose()
        self.worker.stopService()
        self.advance(5)
        self.accept()
        self.assertEqual(len([sent for sent in self.peer.unread if sent.name == "basic.consume"]), 1)
        self.channel = self.channel_of("basic.consume")
        self.peer.unread = []
        self.threads.step_all()
        self.assertEqual(self.sent(), [("reply", 12)])

    def test_a_control_queue_that_is_deleted_meanwhile_is_not_missed(self) -> None:
        """The connection is kept: without it, what runs could not be acknowledged, and would run again."""
        peer = self.start()
        tag = self.call("echo", 12)
        self.worker.stopService()
        peer.settle()
        self.cancel(f"crew.control.{self.worker.worker_id}.1", self.channel)
        peer.settle()
        peer.unread = []
        self.threads.step_all()
        self.assertEqual(self.sent(), [("reply", 12), ("ack", tag)])

    def test_it_does_not_start_again(self) -> None:
        """Neither while it stops nor after that: it says so, and stays as it is."""
        self.start()
        stopped = self.worker.stopService()
        for _ in range(2):
            error = self.assertRaises(RuntimeError, self.worker.startService)
            self.assertIn("make another", str(error))
            self.assertFalse(self.worker.running)
            self.peer.settle()
        self.successResultOf(stopped)
        self.assertEqual(self.attempts, [])

    def test_a_worker_that_never_connected(self) -> None:
        """It stops at once."""
        self.make().startService()
        self.successResultOf(self.worker.stopService())


class StatusTests(WorkerTestCase):
    """A frozen snapshot."""

    def test_it_counts(self) -> None:
        """Results, errors, timeouts, and what is here now."""
        self.start()
        self.call("echo", 1)
        self.threads.step()
        self.call("fail", 1)
        self.threads.step()
        self.call("short", queue="shared")
        self.advance(2)
        self.call("echo", 2)
        status = self.worker.status()
        self.assertEqual((status.processed, status.exceptions, status.timeouts), (1, 1, 1))
        self.assertEqual((status.in_progress, status.held, status.unconfirmed_replies), (1, 0, 3))
        self.assertEqual(len(status.waittimes), 4)
        self.assertEqual(status.pool.size, 2)

    def test_it_says_who_and_where_the_worker_is(self) -> None:
        """Without the password."""
        self.start(name="shop")
        status = self.worker.status()
        self.assertEqual((status.name, status.worker_id), ("shop", self.worker.worker_id))
        self.assertTrue(status.worker_id.startswith("shop-"))
        self.assertEqual(status.tasks, ("echo", "fail", "short", "other"))
        self.assertEqual(status.broker, "amqp://guest@127.0.0.1:5672/%2F")
        self.assertEqual((status.started, status.connected, status.draining), (1000.0, True, False))
