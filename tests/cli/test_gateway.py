"""Putting a gateway's process together."""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import replace
from unittest.mock import patch

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.cli.ending import Ending
from crew_tx.cli.gateway import GARBAGE_THRESHOLD, GatewayProgram
from crew_tx.cli.gateway_options import GatewayOptions
from crew_tx.cli.monitor import Monitor
from crew_tx.errors import ConfigurationError
from crew_tx.tracing import Tracing
from tests.web.asking import ask

TRACING, METRICS = "crew_tx.tracing", "crew_tx.web.metrics"


class GatewayProgramTests(SynchronousTestCase):
    """A process with a gateway."""

    def setUp(self) -> None:
        self.patch(os, "environ", {"HOME": "/home"})
        self.reactor = MemoryReactorClock()

    def program(self, *arguments: str) -> GatewayProgram:
        options = GatewayOptions()
        options.parseOptions([*arguments])
        ending = Ending(self.reactor, "gateway", set_handler=lambda number, handler: None)
        return GatewayProgram(self.reactor, ending, options)

    def without(self, module: str) -> None:
        """As if what it needs were not installed."""
        self.addCleanup(sys.modules.__setitem__, module, sys.modules[module])
        sys.modules[module] = None  # type: ignore[assignment]

    def test_it_is_watched_where_it_was_told(self) -> None:
        """By what its own site says as well."""
        program = self.program("--monitor=tcp:9465:interface=127.0.0.1")
        _, monitor = program
        assert isinstance(monitor, Monitor)
        program.gateway.traffic.routes["call"].count(b"POST", 200)
        expected = b'crew_gateway_requests_total{method="POST",route="call",status="200"} 1.0'
        self.assertIn(expected, ask(monitor._site, "/metrics").body)
        answer = ask(monitor._site, "/readyz")
        self.assertEqual((503, True), (answer.status, answer.body.startswith(b"no connection to amqp://")))
        self.assertIsNotNone(program.gateway.site.traffic)

    def test_it_is_well_while_calls_can_be_made(self) -> None:
        """As its own site says, too."""
        program = self.program()
        client = program.gateway.client
        connected = replace(client.status(), connected=True, broker="amqp://h")
        for status in (connected, replace(connected, blocked="low on memory")):
            self.patch(client, "status", lambda status=status: status)
            self.assertEqual(program.gateway.readiness()[0], program.health().well)
        self.assertEqual((False, "amqp://h takes nothing now"), program.health())

    def test_its_answers_may_come_by_a_quorum_queue(self) -> None:
        """As clusters want it."""
        for options, expected in (((), "classic"), (("--reply-queue-type=quorum",), "quorum")):
            with patch("crew_tx.client.ReplyQueue") as made:
                self.program(*options)
            self.assertEqual(expected, made.call_args.args[2])

    def test_without_prometheus_client_nothing_is_counted(self) -> None:
        """It serves all the same."""
        self.without(METRICS)
        program = self.program()
        self.assertIsNone(program.gateway.site.traffic)
        self.assertIsNone(program.gateway.calls.traffic)

    def test_it_traces_where_it_is_told_to(self) -> None:
        """What that needs is named where it is not there."""
        self.assertIsNone(self.program().gateway.site.tracing)
        self.assertIsInstance(self.program("--tracing").gateway.site.tracing, Tracing)
        self.without(TRACING)
        error = self.assertRaises(ConfigurationError, self.program, "--tracing")
        self.assertIn("--tracing", str(error))

    def test_its_start_makes_the_process_its_own(self) -> None:
        """What is there by then is not looked through for garbage any more."""
        done: list[object] = []
        self.patch(gc, "freeze", lambda: done.append("freeze"))
        self.patch(gc, "set_threshold", done.append)
        program = self.program()
        self.assertEqual([], done)
        program.startService()
        self.addCleanup(program.gateway.stopService)
        self.assertEqual(["freeze", GARBAGE_THRESHOLD], done)
