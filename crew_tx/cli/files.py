"""The TOML file that settings can be in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from crew_tx.cli.precedence import COMMAND_LINE, ENVIRONMENT, Given, read
from crew_tx.cli.settings import CONFIG
from crew_tx.errors import ConfigurationError


def config_path(command_line: Mapping[str, str], environment: Mapping[str, str]) -> str | None:
    """
    Where the file is; None if there is none.

    :param command_line: texts by the names of options.
    :raises ConfigurationError: if it can't be read.
    """
    given = [(command_line.get(CONFIG.name), f"--{CONFIG.name}", COMMAND_LINE)]
    given += [(environment.get(CONFIG.variable), f"{CONFIG.variable} in the environment", ENVIRONMENT)]
    for text, where, rank in given:
        if text:
            return str(read(CONFIG, Given(text, where, rank)))
    return None


def read_tables(path: str) -> dict[str, dict[str, object]]:
    """
    The tables of a file, by their names.

    :raises ConfigurationError: if it is not TOML.
    """
    # Only now: most commands have no file, and start the quicker.
    import tomllib

    try:
        content = tomllib.loads(Path(path).read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from None
    return {name: table for name, table in content.items() if isinstance(table, dict)}
