"""What the tests with other people's clients share: the two brokers, and the programs."""

from __future__ import annotations

import os
from pathlib import Path
from subprocess import TimeoutExpired
from urllib.parse import urlsplit

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from crew_tx.testing.rabbitmq import RabbitMQError, shared_node
from tests.cli.programs import ROOT, Program, twisted_script
from tests.foreign.environments import CannotInstallError, Environment, environment_of

PROGRAMS = Path(__file__).resolve().parent / "programs"


class ForeignTestCase(SynchronousTestCase):
    """
    A client as its makers ship it, on the embedded broker and on RabbitMQ.

    :cvar client: the name of its environment.
    """

    client: str

    def setUp(self) -> None:
        try:
            self.environment: Environment = environment_of(self.client)
        except CannotInstallError as error:
            raise SkipTest(str(error)) from None
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)

    def rabbitmq(self) -> str:
        """The URL of the RabbitMQ that all tests share."""
        try:
            return shared_node().url
        except RabbitMQError as error:
            raise SkipTest(str(error)) from None

    def embedded(self, port: int = 0) -> EmbeddedBroker:
        """An embedded broker in a process of its own, on a port of its own if none is asked for."""
        broker = EmbeddedBroker(self._started(broker_command(port), {"PYTHONPATH": str(ROOT)}))
        self.addCleanup(broker.program.close)
        return broker

    def start(self, *arguments: str | Path, **environment: str) -> Program:
        """Start the client's Python; it is ended with the test."""
        program = self._started([str(self.environment.python), *map(str, arguments)], environment)
        self.addCleanup(program.close)
        return program

    def _started(self, command: list[str], environment: dict[str, str]) -> Program:
        """Without what would let a client see our packages or settings."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("CREW_", "PYTHON", "CELERY"))}
        return Program(command, {**clean, "PYTHONUNBUFFERED": "1", **environment}, self.folder)

    def assert_same_on_both(self, name: str, *arguments: str | Path) -> None:
        """
        A program of ``programs/`` sees on either broker what its text file says.

        It is told the broker's URL, and then the arguments.
        """
        script = PROGRAMS / f"{name}.py"
        runs = [
            ("RabbitMQ", self.start(script, self.rabbitmq(), *arguments)),
            ("the embedded broker", self.start(script, self.embedded().url, *arguments)),
        ]
        for broker, program in runs:
            self.assert_saw(program, script.with_suffix(".txt"), broker)

    def ended(self, program: Program) -> int | None:
        """The exit code of a program; None if it does not end in time."""
        try:
            return program.ended()
        except TimeoutExpired:
            return None

    def assert_saw(self, program: Program, expected: Path, broker: str) -> None:
        """A program ends well, and has printed what a file has."""
        code = self.ended(program)
        self.assertEqual(
            (code, program.out), (0, expected.read_text()), f"on {broker}, with on stderr:\n{program.err}"
        )


class EmbeddedBroker:
    """
    An embedded broker that listens.

    :ivar program: its process.
    :ivar url: what clients connect to, with the user and the password that it has.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        (shown,) = program.wait_for(r"the broker listens: (\S+)\n")
        self.port = urlsplit(shown).port or 0
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"


def broker_command(port: int) -> list[str]:
    """How the broker is started; port 0 means any that is free."""
    return twisted_script(
        "twistd", "-n", "--pidfile=", "crew-broker", "--listen", f"tcp:{port}:interface=127.0.0.1"
    )
