"""A broker, workers and a gateway in processes of their own, and curl."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.cli.programs import ROOT, TWISTD, Program, twisted_script

LISTENS = r"the broker listens: (amqp://\S+)"
ANSWERS = r"worker-[0-9a-f]{32} answers"
SERVES = r"the gateway listens: (http://\S+)/"
ANYWHERE = "--listen=tcp:0:interface=127.0.0.1"
CURL_TIMEOUT = 30


class WebProgramTestCase(SynchronousTestCase):
    """
    A test with the embedded broker.

    :ivar url: the broker's.
    """

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)
        broker = self.start(*twisted_script("twistd", "-n", "--pidfile=", "crew-broker", ANYWHERE))
        [self.url] = broker.wait_for(LISTENS)

    def start(self, *command: str, **environment: str) -> Program:
        """Start a program; it is ended with the test."""
        clean = {name: text for name, text in os.environ.items() if not name.startswith("CREW_")}
        program = Program(
            list(command),
            {**clean, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment},
            self.folder,
        )
        self.addCleanup(program.close)
        return program

    def write(self, name: str, text: str) -> str:
        path = Path(self.folder, name)
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    def worker(self, *arguments: str, **environment: str) -> Program:
        """A worker that consumes."""
        worker = self.start(*TWISTD, *arguments, CREW_BROKER=self.url, **environment)
        worker.wait_for(ANSWERS)
        return worker

    def gateway(self, *arguments: str) -> tuple[Program, str]:
        """A gateway that listens, and where, without the slash at its end."""
        command = twisted_script("twistd", "-n", "--pidfile=", "crew-gateway", ANYWHERE, *arguments)
        gateway = self.start(*command, CREW_BROKER=self.url)
        [place] = gateway.wait_for(SERVES)
        return gateway, place


def curl(*arguments: str) -> str:
    """What curl prints."""
    return curling(*arguments).communicate(timeout=CURL_TIMEOUT)[0]


def curling(*arguments: str) -> subprocess.Popen[str]:
    """A curl that runs."""
    program = shutil.which("curl")
    if program is None:
        raise SkipTest("there is no curl")
    command = [program, "--silent", "--show-error", "--no-buffer", "--max-time", "20", *arguments]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
