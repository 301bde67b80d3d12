"""
Virtual environments of their own for other people's AMQP clients.

Each is made on first use from a file of exact versions in ``requirements/``,
and used again until that file or our Python changes.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).resolve().parent / "requirements"
#: Git doesn't look in here.
FOLDER = ROOT / ".venv-foreign"

#: Seconds that pip may take; and that it waits for a network that isn't there.
_LONGEST = 300
_PATIENCE = 10


class CannotInstallError(Exception):
    """An environment can't be made here, and why."""


def run(*command: str | Path) -> None:
    """
    Run a command.

    :raises CannotInstallError: if it fails or takes too long, with its last word.
    """
    try:
        done = subprocess.run(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LONGEST,
        )
    except subprocess.TimeoutExpired:
        raise CannotInstallError(f"it took more than {_LONGEST} s") from None
    if done.returncode:
        raise CannotInstallError((done.stdout.strip().splitlines() or ["no word why"])[-1])


class Environment:
    """
    One environment.

    :param folder: where it is, or is to be.
    :param requirements: the file of what is in it.
    :param run: what runs commands.
    """

    def __init__(self, folder: Path, requirements: Path, run: Callable[..., None] = run) -> None:
        self.folder = folder
        self.requirements = requirements
        self._run = run

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def is_made(self) -> bool:
        """Whether it is there, complete, and of the versions asked for."""
        stamp = self._stamp
        return self.python.exists() and stamp.exists() and stamp.read_text() == self._wanted()

    def make(self) -> None:
        """
        Make it if it isn't made; wait if another run of the tests is at it.

        :raises CannotInstallError: with the last word of what failed.
        """
        with _locked(Path(f"{self.folder}.lock")):
            if not self.is_made:
                self._run(sys.executable, "-m", "venv", "--clear", "--without-pip", self.folder)
                self._run(sys.executable, "-m", "pip", "--python", self.python, *_INSTALL, self.requirements)
                self._stamp.write_text(self._wanted())

    @property
    def _stamp(self) -> Path:
        return self.folder / "stamp"

    def _wanted(self) -> str:
        return f"{sys.version}\n{self.requirements.read_text()}"


_INSTALL = (
    *("--disable-pip-version-check", "--quiet", "--retries", "1", "--timeout", str(_PATIENCE)),
    *("install", "--requirement"),
)


def environment_of(client: str) -> Environment:
    """
    The environment of a client, by the name of its file in ``requirements/``; it is made if need be.

    :raises CannotInstallError: if it can't be made, which is tried once in a run of the tests.
    """
    environment, fault = _made(client)
    if fault is not None:
        raise CannotInstallError(fault)
    return environment


@cache
def _made(client: str) -> tuple[Environment, str | None]:
    version = ".".join(map(str, sys.version_info[:2]))
    environment = Environment(FOLDER / f"{client}-python{version}", REQUIREMENTS / f"{client}.txt")
    try:
        environment.make()
    except CannotInstallError as error:
        return environment, f"{client} can't be installed here, perhaps for want of a network: {error}"
    return environment, None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
