"""The command line of the embedded broker, and where it may listen."""

from __future__ import annotations

import os

from crew_tx.cli.brokers import read_password
from crew_tx.cli.listening import ServerOptions, is_loopback
from crew_tx.cli.options import flags, parameters
from crew_tx.cli.precedence import gather, values_of
from crew_tx.cli.settings import BROKER_OPTIONS, by_name
from crew_tx.errors import ConfigurationError

GUEST = "guest"
ELSEWHERE = "--listen tcp:5673:interface=127.0.0.1"

_SETTINGS = by_name(BROKER_OPTIONS)


class BrokerOptions(ServerOptions):
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

    elsewhere = ELSEWHERE

    password: str

    def opt_vhost(self, name: str) -> None:
        """A virtual host; may be given again for more [/]"""
        self["vhost"] = f"{self['vhost']},{name}" if "vhost" in self else name

    def postOptions(self) -> None:
        self.given = gather(self.command_line, os.environ, {}, settings=_SETTINGS)
        self.settings = values_of(self.given, _SETTINGS)
        self.password = self._password()
        self._check_guest()

    def _password(self) -> str:
        password = read_password(self.given, self.settings)
        if password is not None:
            return password
        if self.settings["user"] != GUEST:
            raise ConfigurationError(
                f"{self.where('user')}: needs a password; write it into a file for --password-file"
            )
        return GUEST

    def _check_guest(self) -> None:
        """Everybody knows guest, and so guest is for this machine alone."""
        if self.settings["user"] == GUEST and not is_loopback(self.settings["listen"]):
            # If it can't be read at all, that is the first thing to say.
            self.endpoint(None)
            raise ConfigurationError(
                f"{self.where('listen')}: others than this machine could connect as {GUEST}; "
                "add :interface=127.0.0.1, or let another user in by --user and --password-file"
            )
