"""Command lines: what all programs have in common, and a worker's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from twisted.python import usage

from crew_tx._version import __version__
from crew_tx.amqp.uri import BrokerURL
from crew_tx.cli.brokers import broker_urls, read_signing_keys
from crew_tx.cli.ending import USAGE, say
from crew_tx.cli.files import config_path, read_tables
from crew_tx.cli.precedence import Given, environment_of, gather, values_of
from crew_tx.cli.readers import shown
from crew_tx.cli.settings import OPTIONS, Setting
from crew_tx.errors import ConfigurationError, CrewError
from crew_tx.signing import SigningKeys

_TABLE = "worker"


class ProgramOptions(usage.Options):
    """
    What the options of all programs have in common.

    :ivar given: the settings that were given, and where.
    :ivar settings: the values of all settings.
    """

    given: dict[str, Given]
    settings: dict[str, Any]

    def opt_version(self) -> NoReturn:
        """Display the version and exit."""
        print(f"crew_tx {__version__}")
        sys.exit(0)

    def opt_password(self, password: str) -> NoReturn:
        """Not taken: all users of the machine would see it. See --password-file."""
        # Without this, it would be taken for an abbreviation of --password-file.
        raise usage.UsageError(
            "--password: all users of the machine would see it; write it into a file for --password-file"
        )

    opt_h = usage.Options.opt_help

    @property
    def command_line(self) -> dict[str, str]:
        """The texts that were given there."""
        given = {name: str(text) for name, text in self.items() if text not in (None, 0)}
        return {**given, "verbose": "yes"} if "verbose" in given else given

    def where(self, name: str) -> str:
        """Where a setting was given, for people."""
        return self.given.get(name, Given("", f"--{name}", 0)).where

    def has(self, *names: str) -> bool:
        """Whether one of these settings was given."""
        return any(name in self.given for name in names)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Read the command line, and end the process if it is wrong.

        ``twistd`` would print a page to stdout and exit with 1, or 0.
        """
        try:
            super().parseOptions(options)
        except (usage.UsageError, CrewError) as error:
            self.refuse(f"{error} (see {self.program} --help)")

    def refuse(self, message: str) -> NoReturn:
        """End the process for wrong use."""
        say(self.program, message)
        sys.exit(USAGE)

    @property
    def program(self) -> str:
        """What this is, for people."""
        name = os.path.basename(sys.argv[0])
        return name if self.parent is None else f"{name} {self.parent.subCommand}"


def parameters(settings: Iterable[Setting]) -> list[list[str | None]]:
    """Those that take a value, as ``usage.Options`` reads them."""
    return [[each.name, each.short, None, each.help] for each in settings if not each.is_flag]


def flags(settings: Iterable[Setting]) -> list[list[str | None]]:
    """Those that are there or not, likewise."""
    return [[each.name, each.short, each.help] for each in settings if each.is_flag]


class WorkerOptions(ProgramOptions):
    """
    The options of ``twistd crew-worker``.

    :ivar brokers: the brokers to connect to.
    :ivar signing_keys: those of its file; None without one.
    """

    synopsis = "[options] SERVICE..."
    longdesc = (
        "SERVICE is the path of a .py file, or a dotted module; its tasks and services are what the worker "
        "answers. Each option can also be given in the environment, as CREW_QUEUE_TYPE for --queue-type, "
        "or in the TOML file. The command line comes first, then the environment, then the file. SIGTERM "
        "lets running tasks end; a second one does not. The exit code is 0 if they ended, 78 if the broker "
        "refuses for good, 75 if too many threads are stuck, 2 for wrong options, 1 for other errors."
    )
    optFlags = flags(OPTIONS)
    optParameters = parameters(OPTIONS)

    brokers: list[BrokerURL]
    signing_keys: SigningKeys | None

    def __init__(self) -> None:
        super().__init__()
        self._services: tuple[str, ...] = ()

    @property
    def services(self) -> tuple[str, ...]:
        """The service modules."""
        return self._services or tuple(self.settings["services"])

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which another process finds the same settings."""
        return environment_of(self.given, self.settings)

    def parseArgs(self, *services: str) -> None:
        self._services = services

    def postOptions(self) -> None:
        command_line = self.command_line
        path = config_path(command_line, os.environ)
        file = {} if path is None else _worker_table(path)
        self.given = gather(command_line, os.environ, file, str(path))
        self.settings = values_of(self.given)
        self.brokers = broker_urls(self.given, self.settings)
        self.signing_keys = read_signing_keys(self.given, self.settings)
        self.check_services()

    def check_services(self) -> None:
        """:raises usage.UsageError: if there is no SERVICE, or one is an option."""
        for service in self.services:
            if service.startswith("-"):
                raise usage.UsageError(f"{service[:40]}: options come before the first SERVICE")
        if (self.settings["wsgi"] is None) is not (self.settings["as"] is None):
            raise usage.UsageError("--wsgi MODULE:NAME and --as SITE go together: give both, or neither")
        if not self.services and self.settings["wsgi"] is None:
            raise usage.UsageError("no SERVICE: give the path of a .py file with tasks, or a dotted module")


class ScriptOptions(WorkerOptions):
    """The options of a script that calls ``run()``."""

    longdesc = WorkerOptions.longdesc.partition(". ")[2]

    @property
    def synopsis(self) -> str:  # type: ignore[override]
        """After the script's name."""
        return f"Usage: {self.program} [options]"

    def check_services(self) -> None:
        """:raises usage.UsageError: if there is any; the tasks are those that the script has or imports."""
        if self._services:
            raise usage.UsageError(
                f"takes no SERVICE, such as {shown(self._services[0])}: the tasks are the script's own"
            )


def _worker_table(path: str) -> dict[str, object]:
    table = read_tables(path).get(_TABLE)
    if table is None:
        raise ConfigurationError(f"{path} has no table [{_TABLE}]; its keys are options, such as threads = 8")
    return table
