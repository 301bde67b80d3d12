"""The brokers that a worker is told of: a URL, and options that change its parts."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

from twisted.logger import Logger

from crew_tx.amqp.uri import DEFAULT_URL, TLS, BrokerURL, parse_all
from crew_tx.cli.precedence import Given
from crew_tx.cli.settings import TLS_PARTS, URL_PARTS
from crew_tx.errors import ConfigurationError

_log = Logger()

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
    if not parts:
        return urls
    if len(urls) > 1:
        raise ConfigurationError(
            f"{given[parts[0]].where}: changes the URL of one broker, and {given['broker'].where} "
            f"has {len(urls)}; write it into each of them"
        )
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


def _given_urls(given: Mapping[str, Given]) -> list[BrokerURL]:
    if "broker" not in given:
        return parse_all(_SECURE_URL if any(name in given for name in TLS_PARTS) else DEFAULT_URL)
    try:
        return parse_all(given["broker"].text)
    except ConfigurationError as error:
        raise ConfigurationError(f"{given['broker'].where}: {error}") from None


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
        _log.warn("{where}: everybody can read {path}; chmod 600 would change that", where=where, path=path)
    try:
        password = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{where}: the file {path} is not UTF-8 text") from None
    if not password:
        raise ConfigurationError(f"{where}: the file {path} is empty; write the password into it")
    return password
