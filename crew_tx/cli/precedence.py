"""
Who is heard on what a worker is told.

A setting is taken from the command line, else from the environment, else from
a table of a TOML file, else it has its default. All here is mappings in,
mappings out.

Kubernetes tells each container of the services beside it by variables, and of
one named ``crew`` by ``CREW_PORT=tcp://10.0.0.1:5672`` among others. Nobody
wrote that for the worker, and nobody writes a port so: it is passed over.

A broker's URL says all of its parts: so ``--host`` in a file does not change
the URL that the command line gives, nor does a password meant for another host
go there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from twisted.logger import Logger

from crew_tx.cli.readers import shown
from crew_tx.cli.settings import CONFIG, PORT, SERVICES, SETTINGS, URL_PARTS, Setting
from crew_tx.errors import ConfigurationError

_log = Logger()

COMMAND_LINE, ENVIRONMENT, FILE = range(3)

#: What Kubernetes writes into a variable that ends in ``_PORT``.
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://[^/@\s]+:[0-9]+")

#: A setting makes these void where they are weaker.
_OVERRULES = {"broker": URL_PARTS, "logging": ("verbose",), "verbose": ("logging",)}


@dataclass(frozen=True, slots=True)
class Given:
    """
    The text of a setting.

    :ivar where: where it was found, for people.
    :ivar rank: the lower, the stronger.
    """

    text: str
    where: str
    rank: int


def gather(
    command_line: Mapping[str, str],
    environment: Mapping[str, str],
    file: Mapping[str, object],
    file_name: str = "the file",
    *,
    table: str = "worker",
    settings: Mapping[str, Setting] = SETTINGS,
) -> dict[str, Given]:
    """
    The strongest text of each setting that is given at all.

    :param command_line: texts by the names of options.
    :param environment: texts by the names of variables; others are passed
        over, and with a line in the log what Kubernetes wrote of a service.
    :param file: the table of the file.
    :param table: its name.
    :param settings: those of the program; a worker's by default.
    :raises ConfigurationError: for a key in the file that isn't known, or is no text or number.
    """
    given = {
        **_from_file(file, f"[{table}]", file_name, settings),
        **_from_environment(environment, settings),
        **{name: Given(text, f"--{name}", COMMAND_LINE) for name, text in command_line.items()},
    }
    overruled = {
        weaker
        for stronger, weaker_names in _OVERRULES.items()
        for weaker in weaker_names
        if stronger in given and weaker in given and given[weaker].rank > given[stronger].rank
    }
    return {name: each for name, each in given.items() if name not in overruled}


def values_of(given: Mapping[str, Given], settings: Mapping[str, Setting] = SETTINGS) -> dict[str, object]:
    """
    The values of all settings.

    :raises ConfigurationError: saying where the wrong one was found, and what it takes.
    """
    values = {
        name: read(setting, given[name]) if name in given else setting.default
        for name, setting in settings.items()
    }
    if values["logging"] is None:
        values["logging"] = "debug" if values["verbose"] else "info"
    return values


def read(setting: Setting, given: Given) -> object:
    """
    The value of one setting.

    :raises ConfigurationError: as :func:`values_of`.
    """
    try:
        return setting.read(given.text)
    except ValueError as error:
        raise ConfigurationError(f"{given.where}: {error}") from None


def environment_of(given: Mapping[str, Given], values: Mapping[str, object]) -> dict[str, str]:
    """The variables by which another process finds the same settings, whichever folder it is in."""
    texts = {name: each.text for name, each in given.items() if name not in (CONFIG.name, SERVICES.name)}
    # What is read as a text may have changed: paths are made absolute.
    texts |= {name: value for name in texts if isinstance(value := values[name], str)}
    return {SETTINGS[name].variable: text for name, text in texts.items()}


def _from_environment(environment: Mapping[str, str], settings: Mapping[str, Setting]) -> dict[str, Given]:
    """An empty variable counts as none: that is what container files leave behind."""
    return {
        setting.name: Given(text, f"{setting.variable} in the environment", ENVIRONMENT)
        for setting in settings.values()
        if (text := environment.get(setting.variable)) and not _is_service_link(setting, text)
    }


def _is_service_link(setting: Setting, text: str) -> bool:
    if setting is not PORT or not _SERVICE_LINK.fullmatch(text):
        return False
    _log.info(
        "{variable} in the environment is {text}, which Kubernetes writes for a service of that name: it is "
        "passed over; give the broker as CREW_BROKER, or a number as {variable}, and set enableServiceLinks: "
        "false in the pod to be rid of it",
        variable=setting.variable,
        text=shown(text),
    )
    return True


def _from_file(
    file: Mapping[str, object], table: str, file_name: str, known: Mapping[str, Setting]
) -> dict[str, Given]:
    in_file = sorted(name for name in known if name != CONFIG.name)
    for key in file:
        if key not in in_file:
            raise ConfigurationError(
                f"{file_name}: {table} has an unknown key {shown(key)}; known are {', '.join(in_file)}"
            )
    return {key: _given_in_file(value, f"{key} in {table} of {file_name}") for key, value in file.items()}


def _given_in_file(value: object, where: str) -> Given:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return Given(",".join(value), where, FILE)
    if isinstance(value, bool):
        return Given("yes" if value else "no", where, FILE)
    if isinstance(value, str | int | float):
        return Given(str(value), where, FILE)
    raise ConfigurationError(f"{where}: takes a text or a number, not a {type(value).__name__}")
