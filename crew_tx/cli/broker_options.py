"""The command line of the embedded broker, and where it may listen."""

from __future__ import annotations

import os
import re
from ipaddress import ip_address

from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python import usage

from crew_tx.cli.brokers import read_password
from crew_tx.cli.options import ProgramOptions, flags, parameters
from crew_tx.cli.precedence import Given, gather, values_of
from crew_tx.cli.readers import shown
from crew_tx.cli.settings import BROKER_OPTIONS, by_name
from crew_tx.errors import ConfigurationError

GUEST = "guest"
ELSEWHERE = "--listen tcp:5673:interface=127.0.0.1"

_SETTINGS = by_name(BROKER_OPTIONS)
_SEPARATOR = re.compile(r"(?<!\\):")


class BrokerOptions(ProgramOptions):
    """
    The options of ``twistd crew-broker``.

    :ivar password: the user's.
    """

    synopsis = "[options]"
    longdesc = (
        "An AMQP broker for development, tests and demonstrations: it keeps nothing when it ends. "
        "Production runs on RabbitMQ. Each option can also be given in the environment, as "
        "CREW_BROKER_LISTEN for --listen; those about logs as CREW_LOGGING. The command line comes first. "
        "The exit code is 0 after SIGTERM, 78 if it may not listen there, 2 for wrong options, 1 for other "
        "errors, such as a port that is taken."
    )
    optFlags = flags(BROKER_OPTIONS)
    optParameters = parameters(setting for setting in BROKER_OPTIONS if setting.name != "vhost")

    password: str

    def opt_vhost(self, name: str) -> None:
        """A virtual host; may be given again for more [/]"""
        self["vhost"] = f"{self['vhost']},{name}" if "vhost" in self else name

    def parseArgs(self, *arguments: str) -> None:
        if arguments:
            raise usage.UsageError(f"takes options only, no {shown(arguments[0])}")

    def postOptions(self) -> None:
        self.given = gather(self.command_line, os.environ, {}, settings=_SETTINGS)
        self.settings = values_of(self.given, _SETTINGS)
        self.password = self._password()
        self._check_guest()

    def endpoint(self, reactor: object) -> IStreamServerEndpoint:
        """
        Where to listen.

        :raises ConfigurationError: if Twisted can't read it.
        """
        try:
            endpoint: IStreamServerEndpoint = serverFromString(reactor, self.settings["listen"])
            return endpoint
        except Exception as error:
            raise ConfigurationError(
                f"{self._where('listen')}: {shown(self.settings['listen'])} is no endpoint ({error}); "
                f"write {ELSEWHERE}"
            ) from None

    def _password(self) -> str:
        password = read_password(self.given, self.settings)
        if password is not None:
            return password
        if self.settings["user"] != GUEST:
            raise ConfigurationError(
                f"{self._where('user')}: needs a password; write it into a file for --password-file"
            )
        return GUEST

    def _check_guest(self) -> None:
        """Everybody knows guest, and so guest is for this machine alone."""
        if self.settings["user"] == GUEST and not is_loopback(self.settings["listen"]):
            # If it can't be read at all, that is the first thing to say.
            self.endpoint(None)
            raise ConfigurationError(
                f"{self._where('listen')}: others than this machine could connect as {GUEST}; "
                "add :interface=127.0.0.1, or let another user in by --user and --password-file"
            )

    def _where(self, name: str) -> str:
        return self.given.get(name, Given("", f"--{name}", 0)).where


def is_loopback(endpoint: str) -> bool:
    """Whether nobody but this machine can connect to an endpoint, given as Twisted writes it."""
    kind, *parts = (re.sub(r"\\(.)", r"\1", part) for part in _SEPARATOR.split(endpoint))
    if kind == "unix":
        return True
    interface = dict(part.partition("=")[::2] for part in parts).get("interface", "")
    try:
        return interface == "localhost" or ip_address(interface).is_loopback
    except ValueError:
        return False
