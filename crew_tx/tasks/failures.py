"""
An exception as data: what an error answer says of it.

Whatever a task raises has to become three bounded texts, be its ``__str__``
broken, its name a lie or its text a gigabyte: nothing in here raises for it.
"""

from __future__ import annotations

from traceback import TracebackException
from types import TracebackType
from typing import NamedTuple

LONGEST_MESSAGE = 16 * 1024
LONGEST_TRACEBACK = 64 * 1024
_LONGEST_LINE = 4 * 1024
_LONGEST_NAME = 200
_CUT = "\n[cut]\n"

#: The frames between a thread's start and a task's first line tell its author nothing.
_OURS = ("crew_tx.", "twisted.internet.defer", "twisted.python.")


class Description(NamedTuple):
    """
    An exception in words.

    :ivar type: its type's name; dotted, but for the builtin ones.
    """

    type: str
    message: str
    traceback: str


def describe(error: BaseException) -> Description:
    """Put an exception into words; never raises."""
    return Description(_type_name(error), _message(error), _traceback(error))


def bounded(text: str, limit: int) -> str:
    """
    A text of at most so many bytes of UTF-8, without surrogates.

    The end is kept as well as the beginning, since the last lines of a
    traceback say most.
    """
    if len(text) > limit:
        text = text[: limit // 2] + text[-(limit // 2) :]
        cut = True
    else:
        cut = False
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) <= limit and not cut:
        return encoded.decode()
    half = (limit - len(_CUT)) // 2
    return encoded[:half].decode("utf-8", "ignore") + _CUT + encoded[-half:].decode("utf-8", "ignore")


def _type_name(error: BaseException) -> str:
    kind = type(error)
    try:
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        return bounded(module + kind.__qualname__, _LONGEST_NAME)
    except BaseException:
        return "Exception"


def _message(error: BaseException) -> str:
    try:
        return bounded(str(error), LONGEST_MESSAGE)
    except BaseException:
        return "(its text can't be had: str() of it fails)"


def _traceback(error: BaseException) -> str:
    try:
        lines = TracebackException(type(error), error, _own_frames(error.__traceback__)).format()
        return bounded("".join(bounded(line, _LONGEST_LINE) for line in lines), LONGEST_TRACEBACK)
    except BaseException:
        return ""


def _own_frames(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback from the task's first line on."""
    while traceback is not None and str(traceback.tb_frame.f_globals.get("__name__")).startswith(_OURS):
        traceback = traceback.tb_next
    return traceback
