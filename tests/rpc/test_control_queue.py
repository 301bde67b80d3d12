"""A worker's control queue."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.rpc.control_queue import ControlQueue
from tests.rpc.fakes import Channel, delivery


class ControlQueueTests(SynchronousTestCase):
    """Of the worker ``w``, which has two tasks."""

    def setUp(self) -> None:
        self.gone: list[tuple[Any, str]] = []
        self.received: list[Any] = []
        self.control = ControlQueue(
            "w",
            ["a", "b"],
            ["s"],
            self.received.append,
            lambda channel, queue: self.gone.append((channel, queue)),
        )

    def begun(self) -> Channel:
        """The channel of a new connection, on which it listens."""
        channel = Channel()
        begun = Deferred.fromCoroutine(self.control.begin(channel))  # type: ignore[arg-type]
        while channel.waiting:
            channel.answer("tag")
        self.successResultOf(begun)
        return channel

    def test_it_is_made_bound_and_listened_to(self) -> None:
        """It ends with its connection; a probe finds it by each task, a command by more than that."""
        kind = {"durable": False, "exclusive": True, "auto_delete": True, "passive": False, "arguments": {}}
        self.assertEqual(
            self.begun().take(),
            [
                ("declare", {"queue": "crew.control.w.1", **kind}),
                ("bind", "crew.control.w.1", "crew.workers", "a"),
                ("bind", "crew.control.w.1", "crew.workers", "b"),
                ("bind", "crew.control.w.1", "crew.control", "mgt"),
                ("bind", "crew.control.w.1", "crew.control", "mgt.w"),
                ("bind", "crew.control.w.1", "crew.control", "mgt.s"),
                ("bind", "crew.control.w.1", "crew.control", "mgt.a"),
                ("bind", "crew.control.w.1", "crew.control", "mgt.b"),
                ("bind", "crew.control.w.1", "crew.control", "look"),
                ("bind", "crew.control.w.1", "crew.control", "look.w"),
                ("bind", "crew.control.w.1", "crew.control", "look.s"),
                ("bind", "crew.control.w.1", "crew.control", "look.a"),
                ("bind", "crew.control.w.1", "crew.control", "look.b"),
                ("consume", "crew.control.w.1"),
            ],
        )

    def test_each_connection_has_another(self) -> None:
        """The last one's may not be gone yet."""
        self.begun()
        self.assertEqual(self.begun().take()[-1], ("consume", "crew.control.w.2"))

    def test_what_comes_is_handed_over(self) -> None:
        """And needs no ack."""
        channel = self.begun()
        channel.take()
        probe = delivery({"type": "probe"})
        channel.consumers["tag.crew.control.w.1"][0](probe)
        self.assertEqual((self.received, channel.take(), self.gone), ([probe], [], []))

    def test_one_that_is_deleted_is_told_of(self) -> None:
        """Its name, and where."""
        channel = self.begun()
        channel.consumers["tag.crew.control.w.1"][1]("tag")
        self.assertEqual(self.gone, [(channel, "crew.control.w.1")])
