"""The command line of the gateway, and who may reach it."""

from __future__ import annotations

import os

from twisted.logger import Logger

from crew_tx.amqp.uri import BrokerURL
from crew_tx.cli.brokers import broker_urls, read_signing_keys
from crew_tx.cli.files import config_path, read_tables
from crew_tx.cli.gateway_settings import GATEWAY_OPTIONS, LISTEN, REPEATED
from crew_tx.cli.listening import ServerOptions, is_loopback
from crew_tx.cli.options import flags, parameters
from crew_tx.cli.precedence import gather, values_of
from crew_tx.cli.settings import by_name
from crew_tx.errors import ConfigurationError
from crew_tx.signing import SigningKeys
from crew_tx.web.access import Credentials, Exposed, allowed_hosts, read_credentials
from crew_tx.web.limits import Limits

_TABLE = "gateway"
_SETTINGS = by_name(GATEWAY_OPTIONS)
#: Settings that are :class:`Limits`.
_LIMITS = (
    "max-wait",
    "max-body",
    "max-queue",
    "max-connections",
    "max-requests",
    "max-client-requests",
    "max-results",
    "read-timeout",
    "keep",
)
_LARGEST_FILE = 1024 * 1024

_log = Logger()


class GatewayOptions(ServerOptions):
    """
    The options of ``twistd crew-gateway``.

    :ivar brokers: the brokers to connect to.
    :ivar credentials: who may ask.
    :ivar signing_keys: those of calls, where they are signed.
    :ivar hosts: by which names it may be asked; None for any.
    """

    synopsis = "[options]"
    longdesc = (
        "Calls, results and events over HTTP. Nothing is there for clients but what --allow-task and "
        "--allow-channel name. Each option can also be given in the environment, as CREW_GATEWAY_LISTEN for "
        "--listen, those about the broker and logs as CREW_BROKER and CREW_LOGGING, or in the TOML file. The "
        "command line comes first, then the environment, then the file. The exit code is 0 after SIGTERM, 78 "
        "if it may not listen there or the broker refuses it for good, 2 for wrong options, 1 for others."
    )
    optFlags = flags(GATEWAY_OPTIONS)
    optParameters = parameters(setting for setting in GATEWAY_OPTIONS if setting.name not in REPEATED)

    elsewhere = f"--listen {LISTEN}"

    brokers: list[BrokerURL]
    credentials: Credentials
    signing_keys: SigningKeys | None
    hosts: frozenset[str] | None

    def opt_allow_task(self, name: str) -> None:
        """A task that may be called, or a pattern as reports.*; may be given again [none]"""
        self._add("allow-task", name)

    def opt_allow_channel(self, name: str) -> None:
        """A channel that is there for clients, or a pattern; may be given again [none]"""
        self._add("allow-channel", name)

    def opt_allow_host(self, name: str) -> None:
        """A name by which it may be asked without authentication; may be given again [localhost]"""
        self._add("allow-host", name)

    def opt_operator(self, name: str) -> None:
        """A credential's name that may see workers and give them orders; may be given again [none]"""
        self._add("operator", name)

    def postOptions(self) -> None:
        command_line = self.command_line
        path = config_path(command_line, os.environ)
        file = {} if path is None else _gateway_table(path)
        self.given = gather(command_line, os.environ, file, str(path), table=_TABLE, settings=_SETTINGS)
        self.settings = values_of(self.given, _SETTINGS)
        self.brokers = broker_urls(self.given, self.settings)
        self.signing_keys = read_signing_keys(self.given, self.settings)
        self.credentials = Credentials(self._credentials("tokens"), self._credentials("users"))
        self.hosts = None if self.credentials else self._hosts()
        self._check_operators()
        self._check_listen()

    @property
    def exposed(self) -> Exposed:
        """What is there for clients."""
        return Exposed(self.settings["allow-task"], self.settings["allow-channel"])

    @property
    def limits(self) -> Limits:
        """How much it takes on."""
        return Limits(**{name.replace("-", "_"): self.settings[name] for name in _LIMITS})

    def _add(self, option: str, text: str) -> None:
        self[option] = f"{self[option]},{text}" if option in self else text

    def _credentials(self, option: str) -> dict[str, bytes]:
        path = self.settings[option]
        if path is None:
            return {}
        where = f"{self.where(option)}: the file {path}"
        with open(path, "rb") as file:
            content = file.read(_LARGEST_FILE + 1)
            if os.fstat(file.fileno()).st_mode & 0o004:
                _log.warn("{where}: everybody can read it; chmod 600 would change that", where=where)
        if len(content) > _LARGEST_FILE:
            raise ConfigurationError(f"{where} is over {_LARGEST_FILE} bytes; take credentials out of it")
        try:
            return read_credentials(content.decode(), where)
        except UnicodeDecodeError:
            raise ConfigurationError(f"{where} is not UTF-8 text") from None

    def _hosts(self) -> frozenset[str]:
        try:
            return allowed_hosts(self.settings["allow-host"])
        except ConfigurationError as error:
            raise ConfigurationError(f"{self.where('allow-host')}: {error}") from None

    def _check_operators(self) -> None:
        for name in self.settings["operator"]:
            if name not in self.credentials.names:
                raise ConfigurationError(
                    f"{self.where('operator')}: nobody is {name[:100]!a}; "
                    "name one of the credentials that --tokens and --users have"
                )

    def _check_listen(self) -> None:
        """Who can connect has a say, and so others than this machine show who they are."""
        # A site says itself who may do what, and beside it alone there is nothing of the gateway's own.
        is_site_alone = self.settings["wsgi"] is not None and self.exposed == Exposed()
        if not self.credentials and not is_site_alone and not is_loopback(self.settings["listen"]):
            # If it can't be read at all, that is the first thing to say.
            self.endpoint(None)
            raise ConfigurationError(
                f"{self.where('listen')}: others than this machine could call tasks without a credential; "
                "add :interface=127.0.0.1, or give --tokens or --users"
            )


def _gateway_table(path: str) -> dict[str, object]:
    table = read_tables(path).get(_TABLE)
    if table is None:
        raise ConfigurationError(
            f'{path} has no table [{_TABLE}]; its keys are options, such as allow-task = ["reports.*"]'
        )
    return table
