"""
Who may ask, and for what.

A credential is a name and a secret, one a line of a file: ``name:secret``, or
``name:sha256:HEX``, the secret's SHA-256, so that the file alone lets nobody
in. That is a sound way to keep long random secrets, and only those: a password
that can be guessed is guessed from its hash as well. So short ones are refused.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from crew_tx.errors import ConfigurationError

SHORTEST_SECRET = 16
_LONGEST_HEADER = 4096
_HASHED = "sha256:"
_SHA256 = re.compile(rf"{_HASHED}([0-9a-f]{{64}})", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,100}")


@dataclass(frozen=True, slots=True)
class Credentials:
    """
    Names, and the SHA-256 of their secrets.

    :ivar tokens: those that come as ``Authorization: Bearer SECRET``.
    :ivar users: those that come as ``Authorization: Basic``, which browsers ask for.
    """

    tokens: Mapping[str, bytes]
    users: Mapping[str, bytes]

    def __bool__(self) -> bool:
        return bool(self.tokens or self.users)

    @property
    def names(self) -> frozenset[str]:
        """Whose they are."""
        return frozenset({*self.tokens, *self.users})

    @property
    def challenges(self) -> tuple[str, ...]:
        """What a request without a credential is told to bring."""
        bearer = ('Bearer realm="crew"',) if self.tokens else ()
        basic = ('Basic realm="crew", charset="UTF-8"',) if self.users else ()
        return (*bearer, *basic)

    def principal(self, authorization: str | None) -> Principal | None:
        """
        Whose credential a header has; None if it has none that counts.

        :param authorization: the header ``Authorization``.
        """
        scheme, _, value = (authorization or "").partition(" ")
        if len(value) > _LONGEST_HEADER:
            return None
        if scheme.lower() == "bearer":
            return self._bearer(value.strip())
        if scheme.lower() == "basic":
            return self._basic(value.strip())
        return None

    def _bearer(self, token: str) -> Principal | None:
        digest = _digest(token)
        found = None
        # All of them, so that the time says nothing about which.
        for name, expected in self.tokens.items():
            if hmac.compare_digest(digest, expected):
                found = Principal(name, "bearer")
        return found

    def _basic(self, value: str) -> Principal | None:
        try:
            name, colon, password = b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        expected = self.users.get(name)
        matches = hmac.compare_digest(_digest(password), expected or _NOBODY)
        return Principal(name, "basic") if colon and expected is not None and matches else None


@dataclass(frozen=True, slots=True)
class Principal:
    """
    Who asks.

    :ivar name: empty where nobody has to say.
    :ivar scheme: ``bearer``, ``basic`` or ``none``.
    """

    name: str
    scheme: str

    @property
    def is_deliberate(self) -> bool:
        """Whether no browser could have sent this by itself for some other site."""
        return self.scheme == "bearer"


NOBODY = Principal("", "none")
NO_CREDENTIALS = Credentials({}, {})


@dataclass(frozen=True, slots=True)
class Exposed:
    """
    What is there for those who may ask: names, and patterns with ``*``, ``?`` and ``[...]``.

    ``*`` stands for any number of characters, dots among them.
    """

    tasks: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()

    def has_task(self, task_id: str) -> bool:
        """Whether a task may be called."""
        return _matches(task_id, self.tasks)

    def has_channel(self, channel: str) -> bool:
        """Whether a channel may be published to, and subscribed to."""
        return "*" not in channel and "#" not in channel and _matches(channel, self.channels)

    @property
    def named_tasks(self) -> tuple[str, ...]:
        """The tasks that are there by their names."""
        return tuple(task for task in self.tasks if not any(character in task for character in "*?["))


def read_credentials(text: str, where: str) -> dict[str, bytes]:
    """
    Read a file of credentials.

    :param where: the file, for people.
    :returns: digests by names.
    :raises ConfigurationError: naming the line, never what is in it.
    """
    found: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, secret = line.partition(":")
        if not colon or not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{where}, line {number}: write NAME:SECRET or NAME:sha256:HEX; "
                "a name has letters, digits, '_', '.', '@' and '-'"
            )
        if name in found:
            raise ConfigurationError(f"{where}, line {number}: the name {name} is there twice; take one out")
        found[name] = _read_secret(secret.strip(), f"{where}, line {number}")
    if not found:
        raise ConfigurationError(f"{where} has no credential; write NAME:SECRET into it")
    return found


def allowed_hosts(names: Iterable[str]) -> frozenset[str]:
    """
    What a request's ``Host`` may be, without the port, where nobody has to say who asks.

    :raises ConfigurationError: if a name is none that a request could have.
    """
    for name in names:
        if host_of(name) != name.lower():
            raise ConfigurationError(f"{name[:100]!a} is no host: write a name, or an address, and no port")
    return frozenset({"127.0.0.1", "localhost", "[::1]", *(name.lower() for name in names)})


def host_of(header: str | None) -> str | None:
    """The host of a header ``Host``, without its port; None where it is none."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?", header or "")
    return None if found is None else found[1].lower()


def _read_secret(secret: str, where: str) -> bytes:
    hashed = _SHA256.fullmatch(secret)
    if hashed is not None:
        return bytes.fromhex(hashed[1])
    if len(secret) < SHORTEST_SECRET or secret.lower().startswith(_HASHED):
        raise ConfigurationError(
            f"{where}: a secret has {SHORTEST_SECRET} characters or more; "
            "python3 -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"
        )
    return _digest(secret)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


_NOBODY = bytes(32)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
