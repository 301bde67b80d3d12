"""
What the texts of settings mean.

A reader takes a text and returns a value, or raises :class:`ValueError` whose
text says what is wanted. Where the text came from is added by who asks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from math import isfinite

from crew_tx.errors import InvalidArgumentError
from crew_tx.topology import check_name

Reader = Callable[[str], object]

#: An endpoint to be watched at.
MONITOR = "tcp:9464:interface=127.0.0.1"

_SHOWN = 40
_TCP = re.compile(r"tcp:\d+")
_INTERFACE = re.compile(r":interface=[^:]")
_YES = ("1", "yes", "true", "on")
_NO = ("0", "no", "false", "off")
_SIZE = re.compile(r"([0-9]{1,15}) ?(|[KMG]i?B?)", re.IGNORECASE | re.ASCII)
_UNITS = {"": 1} | {
    f"{letter}{rest}": 1024**power for power, letter in enumerate("kmg", 1) for rest in ("", "i", "b", "ib")
}


def whole_number(least: int, most: int) -> Reader:
    """A number without a fraction, inside limits."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or len(text) > 10 or not least <= int(text) <= most:
            raise ValueError(f"takes a whole number from {least} to {most}, not {shown(text)}")
        return int(text)

    return read


def size(least: int, most: int) -> Reader:
    """A number of bytes, inside limits; the units are powers of 1024."""

    def read(text: str) -> int:
        found = _SIZE.fullmatch(text)
        value = -1 if found is None else int(found[1]) * _UNITS[found[2].lower()]
        if not least <= value <= most:
            raise ValueError(
                f"takes a number of bytes from {least} to {most}, as 1048576 or 64MiB, not {shown(text)}"
            )
        return value

    return read


def seconds(text: str) -> float:
    """A time, 0 or longer."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not isfinite(value) or value < 0:
        raise ValueError(f"takes a number of seconds, 0 or more, not {shown(text)}")
    return value


def time_up_to(most: float) -> Reader:
    """A time above 0, and no longer than so."""

    def read(text: str) -> float:
        value = seconds(text)
        if not 0 < value <= most:
            raise ValueError(f"takes a number of seconds, above 0 and up to {most:g}, not {shown(text)}")
        return value

    return read


def choice(*values: str, **synonyms: str) -> Reader:
    """One of some words, or a synonym of one."""

    def read(text: str) -> str:
        value = synonyms.get(text.lower(), text.lower())
        if value not in values:
            raise ValueError(f"is one of {', '.join((*values, *synonyms))}, not {shown(text)}")
        return value

    return read


def flag(text: str) -> bool:
    """Yes or no."""
    if text.lower() not in _YES + _NO:
        raise ValueError(f"is yes or no, not {shown(text)}")
    return text.lower() in _YES


def host(text: str) -> str:
    """A host; a URL in its place may hold a password, so the text isn't shown."""
    if not text or any(character in text for character in "/@ "):
        raise ValueError("takes a host's name or address; a whole URL goes to --broker")
    return text


def name_of(kind: str) -> Reader:
    """
    A name that is part of others.

    :param kind: what has it, as ``worker``.
    """

    def read(text: str) -> str:
        try:
            check_name(kind, text)
        except InvalidArgumentError as error:
            raise ValueError(f"takes a name: {error}") from None
        return text

    return read


def application_name(text: str) -> str:
    """A module or a file, and the name of an application in it."""
    module, _, name = text.rpartition(":")
    if not module or not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"takes MODULE:NAME, such as shop.wsgi:application, not {shown(text)}")
    return text


def endpoint_that_says_who(text: str) -> str:
    """Where to listen: it says who can connect, so that nobody can by mistake."""
    if text.startswith("unix:"):
        return text
    if not _TCP.match(text):
        raise ValueError(f"takes an endpoint such as {MONITOR}, not {shown(text)}")
    if not _INTERFACE.search(text):
        raise ValueError(
            "would listen to all machines: add :interface=127.0.0.1, or :interface=0.0.0.0 if all may read it"
        )
    return text


def some_text(text: str) -> str:
    """Anything but nothing."""
    if not text:
        raise ValueError("is empty; leave it out, or give it a text")
    return text


def readable_file(text: str) -> str:
    """A file's absolute path: the process may go to another folder before it is needed."""
    path = os.path.abspath(text)
    try:
        # Nothing is read: it may be a pipe.
        open(path, "rb").close()
    except OSError as error:
        raise ValueError(f"the file {path} can't be read: {error.strerror}; mend its path or mode") from None
    return path


def services(text: str) -> tuple[str, ...]:
    """Several services in one text."""
    return tuple(each.strip() for each in text.split(",") if each.strip())


def names(text: str) -> tuple[str, ...]:
    """One name or several in one text, each once."""
    found = services(text)
    if not found:
        raise ValueError("is empty; leave it out, or give it a name")
    return tuple(dict.fromkeys(found))


def shown(text: str) -> str:
    """A text for people, cut and without control characters."""
    return ascii(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!a}..."
