"""A connection that is cut after so many bytes of an exchange, for every number of them, both ways."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from crew_tx import Client, ConnectionLostError
from crew_tx.testing import CrewHarness
from crew_tx.testing._wire import Wire
from crew_tx.worker import Task, Worker

#: Both ends of a connection: what is cut is what that one sends.
_ENDS = ("client", "server")
#: Seconds in which an exchange is over, where nothing is cut; no heartbeat is in them.
_QUIET = 1.0
#: Seconds in which a program is connected again, and through with what it had to do.
_AGAIN = 20.0
#: Seconds in which a program connects again, without the time that the broker takes.
_RECONNECT = 5.0
#: What is not the plain call on a connection that is there is cut after every third.
_STEP = 3


class CutTestCase(SynchronousTestCase):
    """
    Exchanges of a client and a worker; between any two the client or the worker connects again.

    :ivar calls: how many there were.
    :ivar runs: how often the task ran.
    :ivar size: the bytes of a whole exchange, by the end that sends them.
    """

    def setUp(self) -> None:
        self.calls = 0

        @Task("count")
        def count(req: int) -> int:
            self.runs += 1
            return req + self.runs

        self.harness = CrewHarness(count).install(self)

    def call(self, client: Client, **options: Any) -> None:
        """Begin a call, and keep what it comes to; its id has always the same length."""
        self.runs = 0
        self.called: list[Any] = []
        self.calls += 1
        call_id = f"call-{self.calls:06}"
        client.call("count", 1, call_id=call_id, expiration=60, **options).addBoth(self.called.append)

    def cut_everywhere(self, exchange: Callable[[str, int | None], object], step: int = 1) -> None:
        """
        Have an exchange for every number of bytes, in both directions.

        :param exchange: is given the end that sends, and the number of its bytes after
            which the connection is cut: None for never.
        """
        exchange("client", None)
        self.assertTrue(all(self.size.values()))
        for end in _ENDS:
            for size in range(0, self.size[end] + 1, step):
                exchange(end, size)

    def reconnect(self, program: Client | Worker) -> Wire:
        """Cut a program's connection. :returns: the next one, on which nothing has moved."""
        self.harness.connection(program).cut()
        self.harness.broker.freeze()
        self.harness.advance(_RECONNECT)
        return self.harness.connection(program)

    def go_on(self, wire: Wire, end: str, size: int | None) -> None:
        """Let the exchange happen, and whoever has lost a connection make another."""
        self.harness.broker.thaw()
        if size is not None:
            getattr(wire, end).cut_after(size)
        before = {each: getattr(wire, each).written for each in _ENDS}
        self.harness.advance(_QUIET)
        self.assertEqual(wire.connected, size is None, (end, size))
        if size is None:
            self.size = {each: getattr(wire, each).written - before[each] for each in _ENDS}
        self.harness.advance(_AGAIN)

    def is_answered(self, *where: object) -> None:
        """The call has its answer, its task ran once, and nothing is left of it."""
        self.assertEqual((self.called, self.runs), ([2], 1), where)
        self.nothing_is_left(*where)

    def nothing_is_left(self, *where: object) -> None:
        """In any queue; what is left of calls and of time is found when the harness is closed."""
        counts = [self.harness.broker.queue(name) for name in self.harness.broker.queues]
        left = [each.name for each in counts if each.ready or each.unacknowledged]
        self.assertEqual(left, [], where)


class ClientCutTests(CutTestCase):
    """The caller's connection."""

    def exchange(self, end: str, size: int | None, **options: Any) -> None:
        """A call, its reply and the ack of that, on a connection that is there."""
        wire = self.harness.connection()
        self.harness.broker.freeze()
        self.call(self.harness.client, **options)
        self.go_on(wire, end, size)

    def answered(self, end: str, size: int | None, **options: Any) -> None:
        """The same, and the call is answered."""
        self.exchange(end, size, **options)
        self.is_answered(end, size)

    def connecting(self, end: str, size: int | None) -> None:
        """The same, from the first byte of a new client's connection on: log in, declare, consume, call."""
        self.harness.broker.freeze()
        client = self.harness.new_client()
        self.call(client)
        self.go_on(self.harness.connection(client), end, size)
        self.is_answered(end, size)
        self.harness.result(client.close())

    def reconnecting(self, end: str, size: int | None) -> None:
        """The same, from the first byte of a connection that follows on one that was lost."""
        self.call(self.harness.client)
        wire = self.reconnect(self.harness.client)
        self.go_on(wire, end, size)
        self.is_answered(end, size)

    def test_a_call(self) -> None:
        """It is answered, whether or not the broker had it by then."""
        self.cut_everywhere(self.answered)

    def test_a_call_that_waits_for_its_first_connection(self) -> None:
        """It is answered by the next one."""
        self.cut_everywhere(self.connecting, _STEP)

    def test_a_call_that_waits_for_its_next_connection(self) -> None:
        """It is answered by the one after that."""
        self.cut_everywhere(self.reconnecting, _STEP)

    def test_a_call_that_requires_a_worker(self) -> None:
        """The probe is asked again, as the call is sent again."""
        self.cut_everywhere(partial(self.answered, require_worker=True), _STEP)

    def test_a_transient_call(self) -> None:
        """It is answered, or is lost with its connection at once; then its reply is late, and is dropped."""
        losses = 0

        def exchange(end: str, size: int | None) -> None:
            nonlocal losses
            self.exchange(end, size, persistent=False)
            [came] = self.called
            if isinstance(came, Failure):
                self.assertIsInstance(came.value, ConnectionLostError)
                self.assertTrue(getattr(came.value, "maybe_sent", None))
                losses += 1
            else:
                self.assertEqual(came, 2, (end, size))
            late = self.harness.client.status().late_replies
            self.assertEqual((self.runs, late), (1, losses), (end, size))
            self.nothing_is_left(end, size)

        self.cut_everywhere(exchange, _STEP)
        self.assertTrue(0 < losses < self.calls)


class WorkerCutTests(CutTestCase):
    """The worker's connection."""

    def exchange(self, end: str, size: int | None) -> None:
        """A call that comes, its reply and its ack, on a connection that is there."""
        wire = self.harness.connection(self.harness.worker)
        self.harness.broker.freeze()
        self.call(self.harness.client)
        self.go_on(wire, end, size)
        self.is_answered(end, size)

    def reconnecting(self, end: str, size: int | None) -> None:
        """The same, from the first byte of the connection on: log in, declare, consume, run."""
        wire = self.reconnect(self.harness.worker)
        self.call(self.harness.client)
        self.go_on(wire, end, size)
        self.is_answered(end, size)

    def test_a_call(self) -> None:
        """It is answered by the worker that has it, which does not run it again."""
        self.cut_everywhere(self.exchange)

    def test_a_call_that_waits_for_a_worker(self) -> None:
        """It is answered when the worker is connected at last."""
        self.cut_everywhere(self.reconnecting, _STEP)
