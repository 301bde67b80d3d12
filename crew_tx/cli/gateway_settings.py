"""What a gateway can be told."""

from __future__ import annotations

from crew_tx.cli.readers import (
    choice,
    endpoint_that_says_who,
    flag,
    name_of,
    names,
    readable_file,
    seconds,
    size,
    time_up_to,
    whole_number,
)
from crew_tx.cli.settings import BROKER_SETTINGS, CONFIG, LOGS, Setting
from crew_tx.web.limits import DEFAULT_LIMITS as _DEFAULT

_DAY = 86_400.0
GATEWAY = "CREW_GATEWAY"
LISTEN = "tcp:8080:interface=127.0.0.1"

#: Options that can be given again and again; their values are joined by commas.
REPEATED = ("allow-task", "allow-channel", "allow-host", "operator")

GATEWAY_OPTIONS = (
    Setting("listen", f"where, as Twisted writes endpoints [{LISTEN}]", default=LISTEN, prefix=GATEWAY),
    Setting(
        "tokens", "file of lines NAME:SECRET, for Authorization: Bearer SECRET", readable_file, prefix=GATEWAY
    ),
    Setting("users", "file of lines NAME:SECRET, for basic authentication", readable_file, prefix=GATEWAY),
    Setting(
        "allow-task",
        "a task that may be called, or a pattern as reports.*; may be given again [none]",
        names,
        default=(),
        prefix=GATEWAY,
    ),
    Setting(
        "allow-channel",
        "a channel that is there for clients, or a pattern; may be given again [none]",
        names,
        default=(),
        prefix=GATEWAY,
    ),
    Setting(
        "allow-host",
        "a name by which it may be asked without authentication; may be given again [localhost]",
        names,
        default=(),
        prefix=GATEWAY,
    ),
    Setting(
        "operator",
        "a credential's name that may see workers and give them orders; may be given again [none]",
        names,
        default=(),
        prefix=GATEWAY,
    ),
    Setting("no-status", "serve no status page", flag, default=False, is_flag=True, prefix=GATEWAY),
    Setting(
        "wsgi",
        "a site whose WSGI application workers run (crew-worker --wsgi MODULE:NAME --as SITE)",
        name_of("site"),
        prefix=GATEWAY,
    ),
    Setting(
        "reply-queue-type",
        "classic, or quorum where the broker is a cluster [classic]",
        choice("classic", "quorum"),
        default="classic",
        prefix=GATEWAY,
    ),
    Setting(
        "max-wait",
        "seconds that a call waits for a worker, and that it runs, at the most [60]",
        time_up_to(_DAY),
        default=_DEFAULT.max_wait,
        prefix=GATEWAY,
    ),
    Setting(
        "max-body",
        "bytes of a request's or a response's body, as 16MiB [16MiB]",
        size(1024, 1_000_000_000),
        default=_DEFAULT.max_body,
        prefix=GATEWAY,
    ),
    Setting(
        "max-queue",
        "calls in a task's queue past which more are refused; 0 for none [10000]",
        whole_number(0, 1_000_000_000),
        default=_DEFAULT.max_queue,
        prefix=GATEWAY,
    ),
    Setting(
        "max-connections",
        "HTTP connections [4000]",
        whole_number(1, 1_000_000),
        default=_DEFAULT.max_connections,
        prefix=GATEWAY,
    ),
    Setting(
        "max-requests",
        "requests under way [2000]",
        whole_number(1, 1_000_000),
        default=_DEFAULT.max_requests,
        prefix=GATEWAY,
    ),
    Setting(
        "max-client-requests",
        "requests under way of one credential, or one address [500]",
        whole_number(1, 1_000_000),
        default=_DEFAULT.max_client_requests,
        prefix=GATEWAY,
    ),
    Setting(
        "read-timeout",
        "seconds in which a request has to come in [60]",
        time_up_to(_DAY),
        default=_DEFAULT.read_timeout,
        prefix=GATEWAY,
    ),
    Setting(
        "keep",
        "seconds that an answer is kept to be asked for [3600]",
        time_up_to(_DAY),
        default=_DEFAULT.keep,
        prefix=GATEWAY,
    ),
    Setting(
        "max-results",
        "answers that are kept [10000]",
        whole_number(1, 10_000_000),
        default=_DEFAULT.max_results,
        prefix=GATEWAY,
    ),
    Setting(
        "show-tracebacks",
        "show clients the tracebacks of tasks",
        flag,
        default=False,
        is_flag=True,
        prefix=GATEWAY,
    ),
    Setting(
        "drain", "seconds that requests have left when it stops [10]", seconds, default=10.0, prefix=GATEWAY
    ),
    Setting(
        "monitor",
        "where else to serve /metrics, /healthz and /readyz, as tcp:9465:interface=127.0.0.1",
        endpoint_that_says_who,
        prefix=GATEWAY,
    ),
    Setting(
        "tracing",
        "make OpenTelemetry's spans of requests and calls",
        flag,
        default=False,
        is_flag=True,
        prefix=GATEWAY,
    ),
    *(setting for name, setting in BROKER_SETTINGS.items() if name != CONFIG.name),
    Setting("config", "TOML file; its table [gateway] has these options as keys", readable_file),
    *LOGS,
)
