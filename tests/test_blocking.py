"""
The blocking client, with a broker that answers as soon as it is asked.

The reactor is in memory and does what it is handed in the thread that hands it
over, which is the test's; so a call is through before it is waited for.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Iterator
from threading import TIMEOUT_MAX
from typing import Any

from twisted.internet.defer import CancelledError

from crew_tx import Reply
from crew_tx.blocking import LONGEST_WAIT, Client
from crew_tx.errors import (
    ClientStoppedError,
    ConfigurationError,
    ForkedError,
    InvalidArgumentError,
    RemoteError,
    WaitTimeoutError,
    WrongThreadError,
)
from crew_tx.message import Answer, answer_properties
from crew_tx.reactor_thread import Eventual, ReactorThread
from crew_tx.topology import WORKERS
from tests.amqp.peer import Peer, Sent
from tests.clients import FAILURE
from tests.roles import CODEC, URL, Reactor, RoleTestCase

_SHORT = 0.001


class RunningReactor(Reactor):
    """
    A reactor that a program runs.

    :ivar then: called after each function that a thread handed over.
    """

    def __init__(self) -> None:
        super().__init__()
        self.running = True
        self.then: Callable[[], object] = lambda: None
        self.triggers_set: list[Any] = []

    def callFromThread(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        function(*args, **kwargs)
        self.then()

    def addSystemEventTrigger(self, *trigger: Any) -> Any:
        self.triggers_set.append(trigger)
        return trigger

    def removeSystemEventTrigger(self, trigger: Any) -> None:
        self.triggers_set.remove(trigger)


class BlockingTestCase(RoleTestCase):
    """
    Tests with a client whose broker answers all but calls.

    :ivar answers: what is answered to each task: a value, or an error's map.
    :ivar calls: what came of calls, events and commands.
    """

    def setUp(self) -> None:
        super().setUp()
        self.reactor: Any = RunningReactor()
        self.reactor.then = self.serve
        self.is_reactor_thread = False
        self.thread = ReactorThread(lambda: self.reactor, lambda: self.is_reactor_thread)
        self.answers: dict[str, Any] = {}
        self.calls: list[Sent] = []
        self.cancels: list[Sent] = []
        self.waits: list[float] = []
        self.tag = self.number = 0
        self.patch(Eventual, "wait", self.wait_of(Eventual.wait))
        self.client = self.make()

    def make(self, url: str | None = URL, **options: Any) -> Client:
        """A client that isn't connected."""
        client = Client(url, reactor_thread=self.thread, heartbeat=0, **options)
        self.addCleanup(self.close, client)
        return client

    def close(self, client: Client) -> None:
        """Close a client from a thread that may."""
        self.is_reactor_thread = False
        client.close()

    def wait_of(self, wait: Callable[[Eventual, float], Any]) -> Callable[[Eventual, float], Any]:
        """Note how long is waited, and don't."""

        def noting(eventual: Eventual, seconds: float) -> Any:
            self.waits.append(seconds)
            return wait(eventual, _SHORT)

        return noting

    def serve(self) -> None:
        """The broker's turn."""
        self.reactor.advance(0)
        if self.reactor.tcpClients:
            self.accept()
        for peer in self.peers:
            peer.settle()
            for sent in peer.read():
                if sent.name == "basic.publish":
                    self.publish_received(peer, sent)
                elif sent.name == "basic.consume" and sent.fields["queue"].startswith("crew.reply."):
                    self.channel = sent.channel
        self.reactor.advance(0)

    def publish_received(self, peer: Peer, sent: Sent) -> None:
        """Confirm it, and answer it as the test wants."""
        self.number += 1
        self.confirm(sent.channel, self.number)
        if sent.fields["exchange"] == WORKERS:
            self.cancels.append(sent)
            return
        self.calls.append(sent)
        task_id = sent.fields["routing_key"]
        if task_id in self.answers:
            self.answer(sent, self.answers[task_id])

    def answer(self, sent: Sent, value: Any) -> None:
        """A worker's answer."""
        assert sent.properties is not None
        self.tag += 1
        answer = Answer(sent.properties["correlation_id"], *CODEC.encode(value), worker="w")
        if value is FAILURE:
            answer = answer._replace(error="raised")
        queue = f"crew.reply.{sent.properties['reply_to']}"
        self.deliver(queue, answer_properties(answer), answer.body, self.tag, self.channel)

    def bodies(self) -> list[Any]:
        """What came of calls, decoded."""
        return [CODEC.decode(sent.body or b"", "application/cbor") for sent in self.calls]


class CallTests(BlockingTestCase):
    """Calls that are waited for."""

    def test_it_connects_on_first_use(self) -> None:
        """Nothing is touched before, and one connection serves."""
        self.answers["sum"] = 3
        self.assertEqual((self.attempts, self.thread.reactor), ([], None))
        self.assertEqual([self.client.call("sum", [1, 2]) for _ in range(3)], [3, 3, 3])
        self.assertEqual(self.bodies(), [[1, 2]] * 3)
        self.assertEqual(len(self.peers), 1)

    def test_a_request_is_answered_by_a_reply(self) -> None:
        """With all that a reply has."""
        self.answers["sum"] = 3
        reply = self.client.request("sum")
        self.assertIsInstance(reply, Reply)
        self.assertEqual((reply.value, reply.worker), (3, "w"))

    def test_options_go_with_the_call(self) -> None:
        """Those of the deferring client."""
        self.answers["sum"] = 3
        self.client.call("sum", priority=100, call_id="mine", headers={"a": 1}, persistent=False)
        properties = self.calls[0].properties or {}
        self.assertEqual(
            (properties["priority"], properties["correlation_id"], properties["delivery_mode"]),
            (3, "mine", 1),
        )
        self.assertEqual(properties["headers"]["a"], 1)

    def test_an_error_is_raised(self) -> None:
        """As the deferring client has it."""
        self.answers["sum"] = FAILURE
        error = self.assertRaises(RemoteError, self.client.call, "sum")
        self.assertEqual((error.type, error.worker), ("ValueError", "w"))

    def test_the_wait_has_a_limit(self) -> None:
        """By default past the call's own deadline; the caller may say."""
        self.answers["sum"] = 3
        self.client.call("sum")
        self.client.call("sum", expiration=10)
        self.client.call("sum", expiration=10, timeout=3)
        self.client.call("sum", wait=4)
        self.assertEqual(self.waits, [2 * 86_400 + 7, 27, 20, 4])

    def test_no_thread_waits_longer_than_it_can(self) -> None:
        """Though a message may wait for ever to be written."""
        self.client = self.make(publish_timeout=math.inf)
        self.client.send("sum", wait=LONGEST_WAIT)
        self.client.send("sum")
        self.assertEqual(self.waits, [LONGEST_WAIT, TIMEOUT_MAX])

    def test_a_wait_that_is_over_cancels_the_call(self) -> None:
        """The deferring client waits no more, either."""
        error = self.assertRaises(WaitTimeoutError, self.client.call, "sum", wait=1)
        self.assertIsInstance(error, TimeoutError)
        self.assertEqual(self.pending(), 0)

    def test_ctrl_c_cancels_the_call(self) -> None:
        """And is raised on."""

        def interrupted(eventual: Eventual, seconds: float) -> Any:
            raise KeyboardInterrupt

        self.patch(Eventual, "wait", interrupted)
        self.assertRaises(KeyboardInterrupt, self.client.call, "sum")
        self.patch(Eventual, "wait", lambda eventual, seconds: None)
        self.assertEqual((len(self.calls), len(self.cancels)), (1, 1))
        self.assertEqual(self.pending(), 0)

    def test_wrong_arguments(self) -> None:
        """Nothing is sent."""
        for wait in (0, -1, True, "1", math.inf, math.nan, TIMEOUT_MAX):
            self.assertRaises(InvalidArgumentError, self.client.call, "sum", wait=wait)
            self.assertRaises(InvalidArgumentError, self.client.control, "ping", timeout=wait)
            self.assertRaises(InvalidArgumentError, self.client.connect, wait)
            self.assertRaises(InvalidArgumentError, self.client.close, wait)
        self.assertIsNone(self.client._client)
        self.assertRaises(InvalidArgumentError, self.client.call, "sum", expiration="long")
        self.assertRaises(TypeError, self.client.call, "sum", callback=print)
        self.assertRaises(InvalidArgumentError, self.client.call, "")
        self.assertEqual(self.calls, [])

    def test_one_way(self) -> None:
        """It returns when the broker has it."""
        self.assertIsNone(self.client.send("sum", [1]))
        self.assertNotIn("reply_to", self.calls[0].properties or {})
        self.assertEqual(self.waits, [35])

    def test_an_event(self) -> None:
        """As the deferring client publishes it, and as long as it may wait to be written."""
        self.client = self.make(publish_timeout=3)
        self.assertIsNone(self.client.publish("news.a", {"x": 1}, persistent=False, headers={"h": 1}))
        [event] = self.calls
        self.assertEqual((event.fields["exchange"], event.fields["routing_key"]), ("crew.pubsub", "news.a"))
        self.assertEqual((event.properties or {})["delivery_mode"], 1)
        self.assertEqual((event.properties or {})["headers"]["h"], 1)
        self.client.publish("news.a", wait=2)
        self.assertEqual(self.waits, [8, 2])

    def test_control(self) -> None:
        """The answers of as many workers as are expected."""
        self.answers["look.w"] = {"pid": 1}
        self.assertEqual(self.client.control("ping", "w", {"a": 1}, 2.0, expect=1), [{"wid": "w", "pid": 1}])
        self.assertEqual(self.bodies(), [{"c": "ping", "a": 1}])
        self.assertEqual(self.waits, [7])

    def pending(self) -> int:
        """Calls that the deferring client waits for."""
        assert self.client._client is not None
        return self.client._client.status().pending


class LazyTests(BlockingTestCase):
    """Calls whose values are fetched later."""

    def test_a_value_may_be_fetched_often(self) -> None:
        """When it has come it is ready."""
        lazy = self.client.lazy("sum")
        self.assertFalse(lazy.ready)
        self.answer(self.calls[0], 3)
        self.assertTrue(lazy.ready)
        self.assertEqual([lazy.get(), lazy.get(1)], [3, 3])

    def test_the_limit_is_the_calls(self) -> None:
        """Unless its caller says; a wait that is over leaves the call alone."""
        lazy = self.client.lazy("sum", expiration=10)
        self.assertRaises(WaitTimeoutError, lazy.get)
        self.assertRaises(WaitTimeoutError, lazy.get, 3)
        self.assertEqual(self.waits, [27, 3])
        self.assertRaises(InvalidArgumentError, lazy.get, 0)
        self.answer(self.calls[0], 3)
        self.assertEqual(lazy.get(), 3)

    def test_cancelling(self) -> None:
        """It raises; one that was answered does not."""
        lazy = self.client.lazy("sum")
        lazy.cancel()
        self.assertRaises(CancelledError, lazy.get)
        self.answers["sum"] = 3
        answered = self.client.lazy("sum")
        answered.cancel()
        self.assertEqual(answered.get(), 3)


class ParallelTests(BlockingTestCase):
    """Several calls at a time."""

    def test_values_and_errors_come_in_the_calls_order(self) -> None:
        """Whichever is answered first."""
        with self.client.parallel() as calls:
            for task_id in ("a", "b", "c"):
                calls.call(task_id, expiration=10)
        self.assertEqual(len(self.calls), 3)
        for sent, value in zip(reversed(self.calls), ("third", FAILURE, "first"), strict=True):
            self.answer(sent, value)
        first, second, third = calls.result()
        self.assertEqual((first, third), ("first", "third"))
        self.assertIsInstance(second, RemoteError)
        self.assertEqual(self.waits, [32])

    def test_with_no_call(self) -> None:
        """There is nothing to wait for."""
        self.assertEqual(self.client.parallel().result(), [])

    def test_a_wait_that_is_over_cancels_them(self) -> None:
        """All that have no answer."""
        calls = self.client.parallel()
        calls.call("a")
        self.assertRaises(WaitTimeoutError, calls.result, 1)
        assert self.client._client is not None
        self.assertEqual(self.client._client.status().pending, 0)


class MapTests(BlockingTestCase):
    """One task for many items."""

    def setUp(self) -> None:
        super().setUp()
        self.asked: list[int] = []

    def items(self, count: int) -> Iterator[int]:
        """Numbers, noted when they are asked for."""
        for number in range(count):
            self.asked.append(number)
            yield number

    def publish_received(self, peer: Peer, sent: Sent) -> None:
        """Answer what has an answer; the task "same" has its own data."""
        if sent.fields["routing_key"] == "same":
            self.answers["same"] = CODEC.decode(sent.body or b"", "application/cbor")
        super().publish_received(peer, sent)

    def pending(self) -> int:
        """Calls that the deferring client waits for."""
        assert self.client._client is not None
        return self.client._client.status().pending

    def test_results_come_in_order(self) -> None:
        """Of any iterable, with the options of a call; each has its own wait."""
        results = self.client.map("same", self.items(5), window=2, priority=100)
        self.assertEqual((self.asked, self.calls), ([], []))
        self.assertEqual(list(results), [0, 1, 2, 3, 4])
        self.assertEqual({(sent.properties or {})["priority"] for sent in self.calls}, {3})
        self.assertEqual(list(self.client.map("same", [])), [])

    def test_items_are_asked_for_as_results_are_taken(self) -> None:
        """A window of them ahead at most, where answers are late."""
        results = self.client.map("late", self.items(9), window=3)

        def waited(eventual: Eventual, seconds: float) -> Any:
            if not eventual.ready:
                self.answer(self.calls[len(taken)], len(taken))
            return wait(eventual, _SHORT)

        wait, taken = Eventual.wait, list[int]()
        self.patch(Eventual, "wait", waited)
        for value in results:
            taken.append(value)
            self.assertEqual(len(self.asked), min(len(taken) + 2, 9))
        self.assertEqual(taken, list(range(9)))

    def test_a_result_is_not_kept_waiting_for_items(self) -> None:
        """What is there already is handed over before the window is full."""
        results = self.client.map("same", self.items(100))
        self.assertEqual((next(results), self.asked), (0, [0]))
        results.close()

    def test_results_may_come_as_they_are_answered(self) -> None:
        """Where that is asked for."""
        results = self.client.map("late", [1, 2], ordered=False)

        def waited(eventual: Eventual, seconds: float) -> Any:
            if not eventual.ready:
                sent = self.calls.pop()
                self.answer(sent, CODEC.decode(sent.body or b"", "application/cbor"))
            return wait(eventual, _SHORT)

        wait = Eventual.wait
        self.patch(Eventual, "wait", waited)
        self.assertEqual(list(results), [2, 1])

    def test_errors(self) -> None:
        """They are raised, or are values; either way calls are made again first."""

        def waited(eventual: Eventual, seconds: float) -> Any:
            while self.pending():
                self.serve()
            return wait(eventual, _SHORT)

        wait = Eventual.wait
        self.patch(Eventual, "wait", waited)
        self.answers["sum"] = FAILURE
        results = self.client.map("sum", [1], retries=2)
        self.assertRaises(RemoteError, next, results)
        self.assertEqual((len(self.calls), list(results)), (3, []))
        errors = list(self.client.map("sum", [1, 2], errors="value"))
        self.assertEqual([type(error) for error in errors], [RemoteError, RemoteError])

    def test_the_wait_has_a_limit(self) -> None:
        """For each result, with its retries; then all that is out is cancelled."""
        for options, limit in (
            ({"retries": 1}, 54),
            ({"retries": 1, "retry_pause": 1}, 114),
            ({"wait": 3, "retries": 1}, 3),
        ):
            results = self.client.map("late", self.items(9), window=2, expiration=10, **options)
            self.assertRaises(WaitTimeoutError, next, results)
            self.assertEqual((self.waits[-1], self.pending()), (limit, 0))

    def test_a_loop_that_ends_early(self) -> None:
        """What is out is cancelled."""
        self.answers["sum"] = 1
        for _ in self.client.map("sum", self.items(9), window=3):
            del self.answers["sum"]
            break
        self.assertEqual(self.pending(), 0)
        results = self.client.map("sum", self.broken())
        self.assertRaises(KeyError, next, results)
        self.assertEqual((len(self.calls), self.pending()), (2, 0))

    def broken(self) -> Iterator[int]:
        """Items that end with an error."""
        yield 1
        raise KeyError("no more")

    def test_wrong_arguments(self) -> None:
        """They are told at once, and nothing is sent."""
        for options in (
            {"window": 0},
            {"retries": -1},
            {"stragglers": -1},
            {"errors": "no"},
            {"wait": 0},
            {"expiration": "x"},
        ):
            arguments: Any = options
            self.assertRaises(InvalidArgumentError, self.client.map, "sum", [1], **arguments)
        nothing: Any = None
        self.assertRaises(InvalidArgumentError, self.client.map, "sum", nothing)
        self.assertEqual(self.attempts, [])

    def test_results_are_reduced(self) -> None:
        """In this thread; what the reducer raises cancels what is out."""
        total = self.client.map_reduce("same", lambda so_far, value: so_far + value, self.items(5), 100)
        self.assertEqual(total, 110)
        self.assertEqual(self.client.map_reduce("same", max, [], 7), 7)
        self.assertRaises(TypeError, self.client.map_reduce, "same", max, self.items(5), None, window=2)
        self.assertEqual(self.pending(), 0)

    def test_values_of_keys_are_reduced(self) -> None:
        """The same; into what one has, too."""
        pairs = [{"a": 1}, [["a", 2], ["b", 1]]]
        self.assertEqual(self.client.map_reduce_by_key("same", operator.add, pairs), {"a": 3, "b": 1})
        into = {"a": [0]}
        self.client.map_reduce_by_key("same", lambda so_far, value: [*so_far, value], pairs, list, into=into)
        self.assertEqual(into, {"a": [0, 1, 2], "b": [1]})
        self.assertRaises(InvalidArgumentError, self.client.map_reduce_by_key, "same", max, [1, 2, 3])
        self.assertEqual(self.pending(), 0)

    def test_a_client_that_is_closed(self) -> None:
        """It is told of when the first result is taken, as is the wrong thread."""
        results = self.client.map("sum", [1])
        self.client.close()
        self.assertRaises(ClientStoppedError, next, results)
        results = self.client.map("sum", [1])
        self.is_reactor_thread = True
        self.assertRaises(WrongThreadError, next, results)


class LifeTests(BlockingTestCase):
    """Making, connecting and closing."""

    def test_wrong_arguments_are_told_when_it_is_made(self) -> None:
        """Not in the thread that makes the first call."""
        self.assertRaises(ConfigurationError, Client, "http://127.0.0.1")
        self.assertRaises(TypeError, Client, URL, no_such_option=1)

    def test_connecting(self) -> None:
        """It gives the client, and waits a little longer than asked."""
        self.assertIs(self.client.connect(3), self.client)
        self.assertEqual((len(self.peers), self.waits), (1, [8]))

    def test_a_closed_one_refuses_until_it_connects(self) -> None:
        """Its connection has ended; a new one is made by connect() alone."""
        self.answers["sum"] = 3
        self.client.call("sum")
        self.client.close()
        self.assertTrue(self.peer.lost)
        error = self.assertRaises(ClientStoppedError, self.client.call, "sum")
        self.assertIn("connect()", str(error))
        self.number = 0
        self.client.connect()
        self.assertEqual(self.client.call("sum"), 3)

    def test_closing_one_that_was_never_used(self) -> None:
        """No reactor is looked for."""
        with self.client as client:
            self.assertIs(client, self.client)
        self.assertIsNone(self.thread.reactor)
        self.assertRaises(ClientStoppedError, self.client.call, "sum")

    def test_closing_ends_calls(self) -> None:
        """And takes its trigger back."""
        lazy = self.client.lazy("sum")
        self.assertEqual(len(self.reactor.triggers_set), 2)
        self.client.close()
        self.assertRaises(ClientStoppedError, lazy.get)
        self.assertEqual(len(self.reactor.triggers_set), 1)

    def test_the_reactors_end_closes_it(self) -> None:
        """Calls fail, before and after; closing it again is fine."""
        lazy = self.client.lazy("sum")
        for _, _, function, *arguments in list(self.reactor.triggers_set):
            function(*arguments)
        self.serve()
        self.assertRaises(ClientStoppedError, lazy.get)
        self.assertRaises(ClientStoppedError, self.client.call, "sum")
        self.client.close()
        self.assertTrue(self.peer.lost)

    def test_the_reactors_own_thread_is_refused(self) -> None:
        """Nothing is begun."""
        self.is_reactor_thread = True
        self.assertRaises(WrongThreadError, self.client.call, "sum")
        self.assertRaises(WrongThreadError, self.client.lazy, "sum")
        self.assertEqual(self.attempts, [])

    def test_a_child_refuses_its_parents(self) -> None:
        """Closing it there does nothing; one that was not used yet is the child's own."""
        self.answers["sum"] = 3
        self.client.call("sum")
        fresh = self.make()
        self.thread.forked()
        # As if the child had a reactor of its own.
        self.thread._is_foreign = False
        error = self.assertRaises(ForkedError, self.client.call, "sum")
        self.assertIn("after the fork", str(error))
        self.client.close()
        self.assertFalse(self.peer.lost)
        self.number = 0
        self.assertEqual(fresh.call("sum"), 3)
        self.thread.generation -= 1
        self.client.close()
        self.thread.generation += 1

    def test_the_url_falls_back(self) -> None:
        """As the deferring client's does."""
        self.patch(self.reactor, "then", lambda: None)
        self.patch(os, "environ", {"CREW_BROKER": "amqp://127.0.0.1:5000"})
        self.make(url=None).lazy("sum")
        self.assertEqual(self.attempts, [("127.0.0.1", 5000)])
        self.reactor.tcpClients.clear()
