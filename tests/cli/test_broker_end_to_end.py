"""The embedded broker as people start it, and a worker and a client on it: all in processes of their own."""

from __future__ import annotations

import os
import socket
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.cli.programs import ROOT, TWISTD, Program, twisted_script

LISTENS = r"the broker listens: (amqp://\S+)"
ANYWHERE = "--listen=tcp:0:interface=127.0.0.1"

WORKER = """
from crew_tx.worker import Task

@Task("double")
def double(number):
    return 2 * number
"""

CLIENT = """
from twisted.internet import task
from crew_tx import Client

async def main(reactor):
    client = Client(reactor)
    await client.connect()
    print("answer", await client.call("double", 21))
    await client.close()

task.react(main)
"""


class BrokerProcessTests(SynchronousTestCase):
    """``twistd crew-broker`` and ``twist crew-broker``."""

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)

    def start(self, *command: str, **environment: str) -> Program:
        """Start a program; it is ended with the test."""
        clean = {name: text for name, text in os.environ.items() if not name.startswith("CREW_")}
        program = Program(list(command), {**clean, "PYTHONPATH": str(ROOT), **environment}, self.folder)
        self.addCleanup(program.close)
        return program

    def broker(self, name: str, *arguments: str) -> tuple[Program, str]:
        """A broker, and its URL."""
        own = ("-n", "--pidfile=") if name == "twistd" else ()
        program = self.start(*twisted_script(name, *own, "crew-broker", ANYWHERE, *arguments))
        [url] = program.wait_for(LISTENS)
        return program, url

    def write(self, name: str, text: str) -> str:
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def ends_well(self, program: Program) -> None:
        program.signal()
        self.assertEqual(0, program.ended(), program.out + program.err)
        self.assertEqual("", program.err)

    def test_a_worker_answers_a_client_over_it(self) -> None:
        """By the URL that it logs; all three end with 0 when they are told to."""
        broker, url = self.broker("twistd")
        worker = self.start(*TWISTD, self.write("work.py", WORKER), CREW_BROKER=url)
        worker.wait_for(r"worker-[0-9a-f]{32} answers")
        client = self.start(sys.executable, self.write("ask.py", CLIENT), CREW_BROKER=url)
        client.wait_for("answer 42")
        self.assertEqual(0, client.ended(), client.err)
        self.ends_well(worker)
        self.ends_well(broker)
        self.assertIn("SIGTERM: stopping when all connections are closed", broker.out)

    def test_it_ends_though_a_client_does_not(self) -> None:
        """One that has said nothing, and reads nothing, does not hold it up; twist runs it, too."""
        broker, url = self.broker("twist", "--log-format=text")
        port = int(url.rpartition("/")[0].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"AMQP\0\0\x09\x01")
            client.recv(1)
            self.ends_well(broker)

    def test_a_port_that_is_taken_is_said_in_one_line(self) -> None:
        """The exit code is 1, and nothing listens elsewhere."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            command = ("-n", "--pidfile=", "crew-broker", f"--listen=tcp:{port}:interface=127.0.0.1")
            program = self.start(*twisted_script("twistd", *command))
            self.assertEqual(1, program.ended())
        self.assertEqual(1, program.err.count("\n"), program.err)
        self.assertIn(f"port {port}: Address already in use; a RabbitMQ or another crew-broker", program.err)
        self.assertNotIn("listens", program.out)
