"""Workers that announce themselves, and clients that listen to them, as the broker sees it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.logger import LogLevel, capturedLogs, formatEvent

from crew_tx.codec import Codec
from crew_tx.message import hello_properties
from crew_tx.rpc import cancelled
from crew_tx.rpc.announcement import LIMIT, LISTENS, LONGEST
from crew_tx.worker import Task
from tests.amqp.peer import Peer, Sent
from tests.clients import ClientTestCase
from tests.workers import WorkerTestCase

#: What may go without an answer, and which one of its kind that is.
_UNANSWERED = {"basic.publish": 1, "confirm.select": 2, "channel.open": 3}


@contextmanager
def warned() -> Iterator[list[str]]:
    """The warnings that are logged; they are there when the block has ended."""
    texts: list[str] = []
    with capturedLogs() as logs:
        yield texts
    texts += [formatEvent(event) for event in logs if event["log_level"] is LogLevel.warn]


class AnnouncementTests(WorkerTestCase):
    """What a worker says, and what it does when the broker answers this or that."""

    def begin(self, answer: Callable[[Sent], object], *tasks: Any) -> list[str]:
        """A worker connects. :returns: what it has logged."""
        self.make(*tasks).startService()
        with warned() as texts:
            self.accept(lambda peer: peer.answers.update({"basic.publish": answer}))
        return texts

    @property
    def consumes(self) -> bool:
        return "crew.tasks.echo" in self.tags

    def answered(self, name: str, **fields: Any) -> Callable[[Sent], object]:
        return lambda sent: self.peer.send(sent.channel, name, **fields)

    def test_what_it_says(self) -> None:
        """Its tasks, by a channel that is no other's, and that is closed then; behind its control queue."""
        self.begin(self.return_announcement)
        [sent] = self.announced
        assert sent.properties is not None
        self.assertTrue(sent.fields["mandatory"])
        self.assertEqual("crew.hello", sent.properties["type"])
        self.assertEqual({"crew-worker": self.worker.worker_id}, sent.properties["headers"])
        body = Codec().decode(sent.body or b"", sent.properties["content_type"])
        self.assertEqual(["echo", "fail", "short", "other"], body)
        channel = self.channel_of("basic.consume")
        self.assertNotEqual(channel, sent.channel)
        names = [(each.name, each.channel) for each in self.peer.unread]
        self.assertIn(("channel.close", sent.channel), names)
        bound = names.index(("queue.bind", channel))
        self.assertLess(bound, names.index(("channel.open", sent.channel), bound))

    def test_too_many_tasks_are_all_tasks(self) -> None:
        """The message is bounded."""

        def make(number: int) -> Any:
            @Task(f"{number:0200}")
            def nothing(req: Any) -> None:
                """Does nothing."""

            return nothing

        self.begin(self.return_announcement, *[make(number) for number in range(LONGEST // 200)])
        [sent] = self.announced
        self.assertEqual([], Codec().decode(sent.body or b"", "application/cbor"))

    def test_where_nobody_listens_it_consumes_at_once(self) -> None:
        """The broker returns it."""
        self.assertEqual([], self.begin(self.return_announcement))
        self.assertTrue(self.consumes)

    def test_where_somebody_does_it_waits(self) -> None:
        """So long that it can be told something."""
        self.assertEqual([], self.begin(self.answered("basic.ack", delivery_tag=1)))
        self.reactor.advance(LISTENS - 0.01)
        self.peer.settle()
        self.assertFalse(self.consumes)
        self.reactor.advance(0.01)
        self.peer.settle()
        self.assertTrue(self.consumes)

    def test_nothing_that_goes_wrong_keeps_it_from_its_calls(self) -> None:
        """A nack, and a right that it has not; that is said."""
        refused = self.answered("channel.close", reply_code=403, reply_text="ACCESS_REFUSED")
        for answer, reason in (
            (self.answered("basic.nack", delivery_tag=1), "nack"),
            (refused, "403 ACCESS_REFUSED"),
        ):
            self.tags.clear()
            [text] = self.begin(answer)
            self.assertIn(reason, text)
            self.assertTrue(self.consumes)
            self.assertTrue(self.worker.status().connected)
            self.stop()

    def test_no_answer_keeps_it_for_a_second(self) -> None:
        """To whichever of its questions; the answer that comes after that is dropped."""
        for name, number in _UNANSWERED.items():
            self.tags.clear()
            self.make().startService()
            with warned() as texts:
                self.accept(partial(self.leave_unanswered, name, number))
                self.assertFalse(self.consumes, name)
                self.reactor.advance(LIMIT)
                self.peer._respond(self.unanswered)
                self.peer.settle()
            [text] = texts
            self.assertIn("did not confirm it within 1 s", text)
            self.assertTrue(self.consumes, name)
            self.stop()

    def leave_unanswered(self, name: str, number: int, peer: Peer) -> None:
        """The methods of that name before it are answered, as ever."""
        count = itertools.count(1)

        def answer(sent: Sent) -> None:
            if next(count) == number:
                self.unanswered = sent
            else:
                peer._respond(sent)

        peer.answers[name] = answer

    def test_it_is_said_once(self) -> None:
        """However often it connects."""
        refused = self.answered("channel.close", reply_code=403, reply_text="ACCESS_REFUSED")
        self.assertEqual(1, len(self.begin(refused)))
        with warned() as texts:
            self.reconnect(lambda peer: peer.answers.update({"basic.publish": refused}))
        self.assertEqual([], [text for text in texts if "announce" in text])
        self.assertTrue(self.worker.status().connected)

    def test_a_worker_that_is_stopped_meanwhile(self) -> None:
        """Before the broker has answered, or while it waits for what it is told."""
        for answer in (lambda sent: None, self.answered("basic.ack", delivery_tag=1)):
            self.tags.clear()
            self.assertEqual([], self.begin(answer))
            self.stop()
            self.assertFalse(self.consumes)

    def test_a_connection_that_ends_meanwhile(self) -> None:
        """The next one announces the worker as well."""
        self.begin(lambda sent: self.peer.lose())
        self.assertFalse(self.consumes)
        self.advance(5)
        self.accept()
        self.assertEqual(1, len(self.announced))
        self.assertTrue(self.consumes)


class ListeningTests(ClientTestCase):
    """How a client listens, and what it says when it hears a worker."""

    def cancelled(self, **options: Any) -> Sent:
        """A call that is written, and cancelled."""
        before = [sent for sent in self.peer.read() if sent.name != "basic.publish"]
        deferred, sent = self.called(**options)
        self.peer.unread = before
        deferred.cancel()
        self.failureResultOf(deferred, CancelledError)
        self.reactor.advance(0)
        return sent

    def begin_worker(self, body: Any = None, **changes: Any) -> None:
        """A worker announces itself."""
        queue = next(queue for queue in reversed(self.tags) if queue.startswith("crew.sub.hello-"))
        encoded = Codec().encode(["sum"] if body is None else body)
        properties = hello_properties("m1", "worker-1", encoded.content_type) | changes
        self.deliver(queue, properties, encoded.body, 1, self.listens_by)

    def told(self) -> list[str]:
        """The calls of which workers were told, in a second."""
        self.advance(1, step=0.1)
        return [sent.properties["correlation_id"] for sent in self.published() if sent.properties]

    def listening(self) -> Sent:
        """A client that listens, since it has cancelled a call."""
        self.connect()
        call = self.cancelled()
        self.peer.settle()
        [consume] = [sent for sent in self.peer.unread if sent.name == "basic.consume"]
        self.listens_by = consume.channel
        # At once, and once more when it listens.
        self.assertEqual([call.properties["correlation_id"]] * 2, self.told())  # type: ignore[index]
        return call

    def test_it_has_a_queue_of_its_own_that_ends_with_the_connection(self) -> None:
        """And is bounded; the next connection's has another name."""
        self.connect()
        self.cancelled()
        self.peer.settle()
        first = self.declared()
        self.assertEqual((False, True, True), (first["durable"], first["exclusive"], first["auto_delete"]))
        self.assertEqual({"x-max-length": 1000}, first["arguments"])
        self.reconnect()
        self.peer.settle()
        self.assertEqual(f"{first['queue'][:-1]}2", self.declared()["queue"])

    def declared(self) -> dict[str, Any]:
        [declare] = [
            sent.fields
            for sent in self.peer.unread
            if sent.name == "queue.declare" and sent.fields["queue"].startswith("crew.sub.hello-")
        ]
        [bind] = [
            sent.fields
            for sent in self.peer.unread
            if sent.name == "queue.bind" and sent.fields["exchange"] == "crew.hello"
        ]
        self.assertEqual(declare["queue"], bind["queue"])
        return declare

    def test_who_begins_is_told(self) -> None:
        """Of its tasks' calls, or of all, each time."""
        call = self.listening()
        self.begin_worker(["other"])
        self.assertEqual([], self.told())
        for tasks in (["other", "sum"], []):
            self.begin_worker(tasks)
            [told] = self.told_in_full()
            assert told.properties is not None and call.properties is not None
            self.assertEqual("cancel", told.properties["type"])
            self.assertEqual(("crew.workers", "sum"), (told.fields["exchange"], told.fields["routing_key"]))
            self.assertEqual(call.properties["correlation_id"], told.properties["correlation_id"])
            self.assertEqual(self.client.client_id, told.properties["reply_to"])

    def told_in_full(self) -> list[Sent]:
        self.advance(1, step=0.1)
        return self.published()

    def test_those_that_begin_together_are_told_once(self) -> None:
        """By one word to all."""
        self.listening()
        for _ in range(8):
            self.begin_worker()
        self.assertEqual(1, len(self.told()))

    def test_what_is_no_announcement_is_nothing(self) -> None:
        """Nor what can't be read; that is logged."""
        self.listening()
        self.begin_worker(type="crew.event")
        with warned() as texts:
            self.begin_worker({"a": 1})
            self.begin_worker([1])
            self.begin_worker(content_type="application/json")
        self.assertEqual(3, len(texts))
        self.assertEqual([], self.told())

    def test_those_that_are_cancelled_together_are_told_of_from_the_youngest(self) -> None:
        """It waits in its queue yet, more likely than those before it, and would be begun in their place."""
        self.listening()
        calls = []
        for _ in range(3):
            calls += [self.call(), self.call()]
            self.reactor.advance(0.001)
        ids = [sent.properties["correlation_id"] for sent in self.published() if sent.properties]
        for call in (*calls[2:], *calls[:2]):
            call.cancel()
            self.failureResultOf(call, CancelledError)
        self.assertEqual(ids[::-1], self.told())

    def test_those_of_a_client_that_is_closed_just_now_are_told_of(self) -> None:
        """Before it is closed."""
        self.connect()
        call, sent = self.called()
        call.cancel()
        self.failureResultOf(call, CancelledError)
        self.client.close()
        [told] = self.published()
        assert told.properties is not None and sent.properties is not None
        self.assertEqual(sent.properties["correlation_id"], told.properties["correlation_id"])

    def test_many_are_told_of_bit_by_bit(self) -> None:
        """The reactor has other things to do."""
        self.patch(cancelled, "_AT_A_TIME", 2)
        self.listening()
        for _ in range(4):
            self.cancelled()
        self.published()
        self.begin_worker()
        told: list[int] = []
        # Due at the same time, behind the first of them.
        self.reactor.callLater(0.02, lambda: told.append(len(self.published())))
        told.append(len(self.told()))
        self.assertEqual([2, 3], told)

    def test_the_oldest_give_way(self) -> None:
        """So it is bounded."""
        self.patch(cancelled, "MOST", 2)
        self.listening()
        last = [self.cancelled().properties["correlation_id"] for _ in range(2)]  # type: ignore[index]
        self.published()
        self.begin_worker()
        self.assertEqual(last, self.told())

    def test_who_may_not_listen_goes_on(self) -> None:
        """It is logged, once, and by this connection it does not ask again."""
        self.connect()
        self.peer.refuse("queue.bind", 403, "ACCESS_REFUSED")
        with warned() as texts:
            for _ in range(2):
                self.cancelled()
                self.peer.settle()
            self.assertTrue(self.client.status().connected)
            names = self.peer.names()
            self.assertEqual(1, names.count("queue.bind"))
            self.peer.lose()
            self.advance(5)
            self.accept()
            self.peer.refuse("queue.bind", 403, "ACCESS_REFUSED")
            self.peer.settle()
        [text] = [text for text in texts if "can't be heard" in text]
        self.assertIn("403", text)
        self.assertTrue(self.client.status().connected)

    def test_a_closed_client_forgets_them(self) -> None:
        """And leaves no delayed call."""
        self.listening()
        self.begin_worker()
        self.close(self.client)
        self.assertEqual([], self.reactor.getDelayedCalls())
        self.connect_again()
        self.assertFalse([queue for queue in self.tags if queue.startswith("crew.sub.hello-")])

    def connect_again(self) -> None:
        self.tags.clear()
        connected = self.client.connect()
        self.accept()
        self.successResultOf(connected)
