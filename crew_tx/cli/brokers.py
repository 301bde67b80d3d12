"""The brokers that a worker is told of: a URL, and options that change its parts."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

from twisted.logger import Logger

from crew_tx.amqp.uri import DEFAULT_URL, TLS, BrokerURL, parse_all
from crew_tx.cli.precedence import COMMAND_LINE, Given
from crew_tx.cli.settings import SIGNING_KEYS, TLS_PARTS, URL_PARTS
from crew_tx.errors import ConfigurationError
from crew_tx.signing import SigningKeys

_log = Logger()

#: None at all, and guest's, which everybody knows.
_NO_SECRETS = ("", "guest")

#: As the default, by TLS.
_SECURE_URL = "amqps://guest:guest@127.0.0.1:5671/%2F"


def broker_urls(given: Mapping[str, Given], values: Mapping[str, Any]) -> list[BrokerURL]:
    """
    The brokers.

    :param given: where each setting was found.
    :param values: their values.
    :raises ConfigurationError: naming the setting that is wrong, never a password.
    """
    urls = _given_urls(given)
    parts = [name for name in URL_PARTS if name in given]
    if len(urls) > 1:
        return _several(parts, given, values) or urls
    if not parts:
        return urls
    url = urls[0]
    return [
        url.changed(
            host=values["host"],
            port=values["port"],
            username=values["username"],
            password=read_password(given, values),
            vhost=values["vhost"],
            tls=_tls(url, given, values),
        )
    ]


def _several(
    parts: list[str], given: Mapping[str, Given], values: Mapping[str, Any]
) -> list[BrokerURL] | None:
    """The brokers of a list, those without a password with that of the file; None if there is no file."""
    others = [name for name in parts if name != "password-file"]
    if others:
        raise ConfigurationError(
            f"{given[others[0]].where}: changes the URL of one broker, and {given['broker'].where} "
            "has several; write it into each of them"
        )
    password = read_password(given, values)
    if password is None:
        return None
    urls = parse_all(given["broker"].text, password)
    if all(url.password != password for url in urls):
        raise ConfigurationError(
            f"{given['password-file'].where}: is for URLs without a password, and each of "
            f"{given['broker'].where} has one; take it out of those that the file is for"
        )
    return urls


def _given_urls(given: Mapping[str, Given]) -> list[BrokerURL]:
    if "broker" not in given:
        return parse_all(_SECURE_URL if any(name in given for name in TLS_PARTS) else DEFAULT_URL)
    try:
        urls = parse_all(given["broker"].text)
    except ConfigurationError as error:
        raise ConfigurationError(f"{given['broker'].where}: {error}") from None
    if given["broker"].rank == COMMAND_LINE and any(url.password not in _NO_SECRETS for url in urls):
        _log.warn(
            "{where}: all users of the machine can see the password that is in it; write it into a file for "
            "--password-file, or put the URL into CREW_BROKER",
            where=given["broker"].where,
        )
    return urls


def _tls(url: BrokerURL, given: Mapping[str, Given], values: Mapping[str, Any]) -> TLS | None:
    parts = [name for name in TLS_PARTS if name in given]
    if not parts:
        return url.tls
    if url.tls is None:
        raise ConfigurationError(
            f"{given[parts[0]].where}: is for TLS, and {given['broker'].where} says amqp://, "
            "which is clear text; write amqps://"
        )
    certificate = values["tls-cert"] or url.tls.certfile
    if values["tls-key"] and not certificate:
        raise ConfigurationError(f"{given['tls-key'].where}: needs its certificate; give it as --tls-cert")
    return TLS(
        cacertfile=values["tls-ca"] or url.tls.cacertfile,
        certfile=certificate,
        keyfile=values["tls-key"] or url.tls.keyfile,
        server_name=url.tls.server_name,
    )


def read_signing_keys(given: Mapping[str, Given], values: Mapping[str, Any]) -> SigningKeys | None:
    """
    The keys of the file; None without a file.

    :raises ConfigurationError: naming the line that is wrong, never a secret.
    """
    path = values[SIGNING_KEYS.name]
    if path is None:
        return None
    where = given[SIGNING_KEYS.name].where
    if os.stat(path).st_mode & stat.S_IROTH:
        _warn_public(where, path)
    try:
        return SigningKeys.from_file(path)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None


def _warn_public(where: str, path: str) -> None:
    _log.warn("{where}: everybody can read {path}; chmod 600 would change that", where=where, path=path)


def read_password(given: Mapping[str, Given], values: Mapping[str, Any]) -> str | None:
    """
    What the password file has, without the newline that editors put at its end; None without a file.

    :raises ConfigurationError: if it is empty, or no text.
    """
    path = values["password-file"]
    if path is None:
        return None
    where = given["password-file"].where
    with open(path, "rb") as file:
        is_public = os.fstat(file.fileno()).st_mode & stat.S_IROTH
        content = file.read()
    if is_public:
        _warn_public(where, path)
    try:
        password = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{where}: the file {path} is not UTF-8 text") from None
    if not password:
        raise ConfigurationError(f"{where}: the file {path} is empty; write the password into it")
    return password
