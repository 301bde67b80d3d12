"""What programs can be told: a table for each, for the command line, the environment and files alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from crew_tx.cli.readers import (
    Reader,
    application_name,
    choice,
    endpoint_that_says_who,
    flag,
    host,
    name_of,
    names,
    readable_file,
    seconds,
    services,
    size,
    some_text,
    whole_number,
)
from crew_tx.tasks.processes.pool import PROCESS_CALLS


@dataclass(frozen=True, slots=True)
class Setting:
    """
    One thing that a program can be told.

    :ivar read: what makes its value of a text.
    :ivar prefix: what its variable begins with.
    """

    name: str
    help: str
    read: Reader = some_text
    short: str | None = None
    default: object = None
    is_flag: bool = False
    prefix: str = "CREW"

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"{self.prefix}_{self.name.upper().replace('-', '_')}"


def by_name(settings: Iterable[Setting]) -> dict[str, Setting]:
    """A table to find them by."""
    return {setting.name: setting for setting in settings}


#: The SERVICE arguments; an option of this name is not there.
SERVICES = Setting("services", "the service modules", services, default=())
#: Where the file is; so it can't be said in it.
CONFIG = Setting("config", "TOML file; its table [worker] has these options as keys", readable_file)
PORT = Setting("port", "the broker's port", whole_number(1, 65_535), "P")

#: What all programs are told alike.
LOGS = (
    Setting("verbose", "the same as --logging=debug, where that isn't given", flag, "v", False, True),
    Setting(
        "logging",
        "debug, info, warn, error or critical [info]",
        choice("debug", "info", "warn", "error", "critical", warning="warn"),
    ),
    Setting("log-format", "text or json [text]", choice("text", "json"), default="text"),
)

SIGNING_KEYS = Setting(
    "signing-keys", "file with the keys that calls, commands and replies are signed by", readable_file
)

_MESSAGE_SIZE = whole_number(1024, 1_000_000_000)
_LARGEST_MESSAGE = 16 * 1024 * 1024

OPTIONS = (
    Setting("broker", "AMQP URL of the broker, or several, comma-separated [guest on 127.0.0.1:5672]"),
    Setting("host", "the broker's host", host, "H"),
    PORT,
    Setting("username", "whom to log in as"),
    Setting("password-file", "file that has the password", readable_file),
    Setting("vhost", "the virtual host"),
    Setting("tls-ca", "use TLS, and trust the authorities in this PEM file", readable_file),
    Setting("tls-cert", "use TLS, and show the certificate in this PEM file", readable_file),
    Setting("tls-key", "PEM file of the certificate's key", readable_file),
    Setting(
        "on-refusal",
        "end or wait, where all brokers refuse for good [end]",
        choice("end", "wait"),
        default="end",
    ),
    SIGNING_KEYS,
    Setting("threads", "tasks that run at once [8]", whole_number(1, 10_000), default=8),
    Setting("forks", "processes under one supervisor; 0 for none [0]", whole_number(0, 1_000), default=0),
    Setting("prefetch", "calls that each queue sends ahead [threads + 2]", whole_number(1, 65_535)),
    Setting("max-stuck", "stuck threads past which it gives up [2 x threads]", whole_number(0, 100_000)),
    Setting(
        "processes",
        'tasks of isolation="process" that run at once [the number of CPUs]',
        whole_number(1, 1_000),
    ),
    Setting(
        "process-calls",
        "calls that such a process runs before it is replaced [1000]",
        whole_number(1, 1_000_000_000),
        default=PROCESS_CALLS,
    ),
    Setting("queue-type", "classic or quorum [classic]", choice("classic", "quorum"), default="classic"),
    Setting(
        "max-message-size",
        "bytes of a body on the wire [16777216]",
        _MESSAGE_SIZE,
        default=_LARGEST_MESSAGE,
    ),
    Setting(
        "allow-pickle",
        "take calls in pickles, which can run any code here",
        flag,
        default=False,
        is_flag=True,
    ),
    Setting(
        "allow-eval",
        "let commands run any code here (crew eval)",
        flag,
        default=False,
        is_flag=True,
    ),
    Setting("allow-kill", "let commands end it at once (crew kill)", flag, default=False, is_flag=True),
    Setting(
        "deny-steer",
        "don't let commands drain, pause or resize it, nor cancel calls",
        flag,
        default=False,
        is_flag=True,
    ),
    Setting(
        "monitor",
        "where to serve /metrics, /healthz and /readyz, as tcp:9464:interface=127.0.0.1",
        endpoint_that_says_who,
    ),
    Setting("wsgi", "serve a WSGI application, MODULE:NAME, to gateways; with --as", application_name),
    Setting("as", "what gateways call the site that --wsgi serves", name_of("site")),
    Setting("tracing", "make OpenTelemetry's spans of tasks", flag, default=False, is_flag=True),
    Setting("name", "what the worker's id begins with [worker]", name_of("worker"), default="worker"),
    CONFIG,
    *LOGS,
    Setting(
        "ack",
        "when a call is acknowledged: once its reply is written, or confirmed [written]",
        choice("written", "confirmed"),
        default="written",
    ),
    Setting(
        "ack-timeout",
        "the broker's, in seconds; a call that runs nearly as long is acknowledged before; 0 for none [1800]",
        seconds,
        default=1800.0,
    ),
    Setting("drain", "seconds that running tasks have left when it stops [30]", seconds, default=30.0),
)

SETTINGS = by_name((*OPTIONS, SERVICES))

#: The parts of a broker's URL that have options of their own.
TLS_PARTS = ("tls-ca", "tls-cert", "tls-key")
URL_PARTS = ("host", "port", "username", "password-file", "vhost", *TLS_PARTS)
#: What the command line ``crew`` can be told of a broker.
BROKER_SETTINGS = {name: SETTINGS[name] for name in ("broker", *URL_PARTS, SIGNING_KEYS.name, CONFIG.name)}

BROKER = "CREW_BROKER"

#: What the embedded broker can be told.
BROKER_OPTIONS = (
    Setting(
        "listen",
        "where, as Twisted writes endpoints [tcp:5672:interface=127.0.0.1]",
        default="tcp:5672:interface=127.0.0.1",
        prefix=BROKER,
    ),
    Setting("user", "who may log in [guest, with the password guest]", default="guest", prefix=BROKER),
    Setting("password-file", "file that has the user's password", readable_file, prefix=BROKER),
    Setting("vhost", "a virtual host; may be given again for more [/]", names, default=("/",), prefix=BROKER),
    Setting(
        "memory-limit",
        "bytes of messages past which publishers wait, as 64MiB [256MiB]",
        size(1024 * 1024, 1024**4),
        default=256 * 1024 * 1024,
        prefix=BROKER,
    ),
    Setting(
        "heartbeat",
        "seconds that are proposed to clients; 0 for no heartbeats [60]",
        whole_number(0, 65_535),
        default=60,
        prefix=BROKER,
    ),
    Setting(
        "max-message-size",
        "bytes that a message's body may have [16777216]",
        _MESSAGE_SIZE,
        default=_LARGEST_MESSAGE,
        prefix=BROKER,
    ),
    *LOGS,
)
