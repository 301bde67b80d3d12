"""The broker and keys that ``crew`` was told of: by options, the environment or a file, as a worker is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from crew_tx.amqp.uri import BrokerURL
from crew_tx.cli.brokers import broker_urls, read_signing_keys
from crew_tx.cli.files import config_path, read_tables
from crew_tx.cli.precedence import Given, gather, values_of
from crew_tx.cli.settings import BROKER_SETTINGS, CONFIG
from crew_tx.signing import SigningKeys

TABLE, WORKERS_TABLE = "crew", "worker"


def brokers_of(command_line: Mapping[str, str]) -> list[BrokerURL]:
    """
    The brokers to connect to.

    :param command_line: texts by the names of options.
    :raises ConfigurationError: naming what is wrong and where it was found, never a password.
    """
    given = _given(command_line)
    return broker_urls(given, values_of(given))


def signing_keys_of(command_line: Mapping[str, str]) -> SigningKeys | None:
    """
    The keys to sign with; None where there are none.

    :raises ConfigurationError: as :func:`brokers_of`, and never with a secret.
    """
    given = _given(command_line)
    return read_signing_keys(given, values_of(given))


def _given(command_line: Mapping[str, str]) -> dict[str, Given]:
    path = config_path(command_line, os.environ)
    file = {} if path is None else _file_settings(path)
    return gather(command_line, os.environ, file, str(path), table=TABLE, settings=BROKER_SETTINGS)


def _file_settings(path: str) -> dict[str, Any]:
    """Of the table [crew]; without one, what the workers' table says of the broker."""
    tables = read_tables(path)
    if TABLE in tables:
        return tables[TABLE]
    names = BROKER_SETTINGS.keys() - {CONFIG.name}
    return {name: value for name, value in tables.get(WORKERS_TABLE, {}).items() if name in names}
