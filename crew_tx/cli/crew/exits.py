"""What ``crew`` ends with: its exit codes, and what it says of an error."""

from __future__ import annotations

from crew_tx.errors import (
    AccessRefusedError,
    AMQPError,
    AuthenticationError,
    CallerError,
    ClientStoppedError,
    ConfigurationError,
    ConnectionLostError,
    CrewError,
    NotFoundError,
    OutboxFullError,
    RemoteError,
)

OK, FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130

#: For ``--help``.
TEXT = (
    "Exit codes: 0 if it went well, 1 if the answer is an error or there is none, 2 for wrong use, "
    "3 if there is no connection to the broker or it refuses, 130 if interrupted."
)

#: In this order: the first that fits.
_CODES: tuple[tuple[type[CrewError], int], ...] = (
    (ClientStoppedError, FAILED),
    (OutboxFullError, FAILED),
    (CallerError, USAGE),
    (ConfigurationError, USAGE),
    (ConnectionLostError, UNREACHABLE),
    (AMQPError, UNREACHABLE),
)

_REMEDIES: tuple[tuple[type[CrewError], str], ...] = (
    (AuthenticationError, "give them as --username and --password-file, or in --broker"),
    (AccessRefusedError, "give the user the permission that is missing"),
    (NotFoundError, "make it (see crew init --help), or mend its name"),
    (ConnectionLostError, "start the broker, or give its URL as --broker or CREW_BROKER"),
)


class UsageError(CrewError):
    """It was called wrongly."""


class NoAnswerError(CrewError):
    """No worker answered."""


def code_of(error: CrewError) -> int:
    """The exit code for an error."""
    if isinstance(error, UsageError):
        return USAGE
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


def text_of(error: CrewError) -> str:
    """What to tell people of an error, and what they can do about it."""
    remedy = next((text for kind, text in _REMEDIES if isinstance(error, kind)), None)
    return f"{error}; {remedy}" if remedy else str(error)


def facts_of(error: CrewError) -> dict[str, object]:
    """What to tell programs of an error."""
    facts: dict[str, object] = {"error": type(error).__name__, "message": str(error)}
    if isinstance(error, RemoteError):
        facts |= {"message": error.message, "type": error.type, "traceback": error.traceback}
    worker = getattr(error, "worker", None)
    return facts if worker is None else {**facts, "worker": worker}
