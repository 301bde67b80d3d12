"""
AMQP URLs: RabbitMQ's URI specification and query parameters, as values.

``amqp[s]://[user[:password]@]host[:port][/vhost][?key=value&...]``, every part
percent-decoded. A path of ``/`` alone is the virtual host ``/``, as it is with
no path at all; ``/%2F`` says the same. Without a user it is ``guest``, with
the password ``guest``; a user without a password has an empty one, since the
specification leaves it open, and guest's is no other user's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from crew_tx.errors import ConfigurationError

DEFAULT_URL = "amqp://guest:guest@127.0.0.1:5672/%2F"
_GUEST = "guest"
_PORTS = {"amqp": 5672, "amqps": 5671}
_MECHANISMS = {"plain": "PLAIN", "amqplain": "AMQPLAIN", "external": "EXTERNAL"}
_LONGEST_HEARTBEAT = 65_535
_EXAMPLE = "write it as amqp://user:password@host:5672/vhost"


@dataclass(frozen=True, slots=True)
class TLS:
    """
    How to use TLS.

    :ivar cacertfile: PEM file of the authorities to trust; None for the system's.
    :ivar certfile: PEM file of the client's certificate.
    :ivar keyfile: PEM file of its key.
    :ivar server_name: the name the broker's certificate must have; None for the host.
    """

    cacertfile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class BrokerURL:
    """
    One broker's address, and how to log in there.

    :ivar heartbeat: seconds; None for the program's default.
    :ivar tls: None for clear text.
    """

    host: str
    port: int
    username: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    heartbeat: int | None = None
    mechanism: str = "PLAIN"
    tls: TLS | None = None

    def __str__(self) -> str:
        """For people: without the password, and the user where a certificate says who it is."""
        scheme = "amqps" if self.tls else "amqp"
        user = "" if self.mechanism == "EXTERNAL" else f"{self.username}@"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{user}{host}:{self.port}/{self.vhost.replace('/', '%2F')}"

    def changed(self, **parts: object) -> BrokerURL:
        """The same with other parts; those that are None stay."""
        return replace(self, **{name: value for name, value in parts.items() if value is not None})  # type: ignore[arg-type]


def parse(url: str, password: str | None = None) -> BrokerURL:
    """
    Read one AMQP URL.

    :param password: of a URL that has none, in place of the empty one, or of guest's.
    :raises ConfigurationError: naming the part that is wrong, never the password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigurationError(f"the broker URL has a bad host or port; {_EXAMPLE}") from None
    if parts.scheme not in _PORTS:
        raise ConfigurationError(f"the broker URL does not begin with amqp:// or amqps://; {_EXAMPLE}")
    if not parts.hostname:
        raise ConfigurationError(f"the broker URL has no host; {_EXAMPLE}")
    # An '@' behind the host means that the password had one of "/?#", and that a piece of it is here.
    if parts.fragment or "/" in parts.path[1:] or "@" in parts.path + parts.query:
        raise ConfigurationError(
            "the broker URL's virtual host is one percent-encoded part, such as /%2F; "
            "a '#', '/' or '@' in a name or password is percent-encoded, too"
        )
    parameters = _parameters(parts)
    return BrokerURL(
        host=unquote(parts.hostname),
        port=port or _PORTS[parts.scheme],
        username=_GUEST if parts.username is None else unquote(parts.username),
        password=_password(parts, password),
        vhost=unquote(parts.path[1:]) or "/",
        heartbeat=_heartbeat(parameters.pop("heartbeat", None)),
        mechanism=_mechanism(parameters.pop("auth_mechanism", "plain")),
        tls=_tls(parts.scheme, parameters),
    )


def parse_all(urls: str | list[str], password: str | None = None) -> list[BrokerURL]:
    """
    Read a comma-separated list of AMQP URLs, or a list of them.

    :param password: as of :func:`parse`.
    :raises ConfigurationError: as :func:`parse`, also for an empty list.
    """
    texts = urls.split(",") if isinstance(urls, str) else urls
    parsed = [parse(text.strip(), password) for text in texts if text.strip()]
    if not parsed:
        raise ConfigurationError(f"no broker URL was given; {_EXAMPLE}")
    return parsed


def _password(parts: SplitResult, fallback: str | None) -> str:
    if parts.password is not None:
        return unquote(parts.password)
    if fallback is not None:
        return fallback
    return _GUEST if parts.username is None else ""


def _parameters(parts: SplitResult) -> dict[str, str]:
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = {
        "heartbeat",
        "auth_mechanism",
        "cacertfile",
        "certfile",
        "keyfile",
        "server_name_indication",
        "verify",
    }
    unknown = sorted(set(parameters) - known)
    if unknown:
        raise ConfigurationError(
            f"the broker URL has an unknown parameter {unknown[0]!r}; known are {', '.join(sorted(known))}"
        )
    return parameters


def _heartbeat(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) > _LONGEST_HEARTBEAT:
        raise ConfigurationError(
            f"the broker URL's heartbeat is a number of seconds up to 65535, not {text[:20]!r}"
        )
    return int(text)


def _mechanism(text: str) -> str:
    try:
        return _MECHANISMS[text.lower()]
    except KeyError:
        raise ConfigurationError(
            f"the broker URL's auth_mechanism is plain, amqplain or external, not {text[:20]!r}"
        ) from None


def _tls(scheme: str, parameters: dict[str, str]) -> TLS | None:
    if scheme == "amqp":
        if parameters:
            raise ConfigurationError(
                f"the broker URL's {min(parameters)} needs amqps://, since amqp:// is clear text"
            )
        return None
    if parameters.get("verify", "verify_peer") != "verify_peer":
        raise ConfigurationError(
            "the broker's certificate is always verified: give its authority as cacertfile=FILE "
            "instead of verify_none"
        )
    return TLS(
        cacertfile=parameters.get("cacertfile"),
        certfile=parameters.get("certfile"),
        keyfile=parameters.get("keyfile"),
        server_name=parameters.get("server_name_indication"),
    )
