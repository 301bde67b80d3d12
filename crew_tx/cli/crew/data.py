"""Where the data of a call or an event comes from: the argument, a file, or standard input."""

from __future__ import annotations

import json
import sys
from typing import Any

from crew_tx.cli.crew.exits import UsageError
from crew_tx.cli.readers import shown

STANDARD_INPUT = "-"
FILE = "@"


def read_data(argument: str | None, serializer: str) -> Any:
    """
    The data that an argument stands for.

    :param argument: JSON, ``@`` and a file's path, or ``-``; None for no data.
    :param serializer: with ``text`` and ``bytes`` it is no JSON, but what is sent.
    :raises UsageError: if there is no such file, or it isn't what it should be.
    """
    if argument is None:
        return None
    content, where = _content(argument)
    if serializer == "bytes":
        return content
    text = _decoded(content, where)
    return text if serializer == "text" else parse_json(text, where)


def parse_json(text: str, where: str = "the data") -> Any:
    """:raises UsageError: if it isn't JSON; with the place of the mistake."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{where} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}: "
            f"{shown(text)}; quote it for the shell, such as '{{\"x\": 1}}'"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON that can be read: {error}") from None


def _content(argument: str) -> tuple[bytes, str]:
    if argument == STANDARD_INPUT:
        return sys.stdin.buffer.read(), "standard input"
    if not argument.startswith(FILE):
        return argument.encode("utf-8", "surrogateescape"), "the data"
    path = argument.removeprefix(FILE)
    try:
        with open(path, "rb") as file:
            return file.read(), f"the file {shown(path)}"
    except OSError as error:
        raise UsageError(f"the file {shown(path)} can't be read: {error.strerror}") from None


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not UTF-8 text: byte {error.start} isn't") from None
