"""What a call comes to, as responses, and what a client prefers about them (RFC 7240)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from crew_tx.message import Headers
from crew_tx.web.bodies import JSON, Bodies
from crew_tx.web.problems import RETRY_AFTER
from crew_tx.web.responses import Response

NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,60}")
_LONGEST_HEADER = 1000
_MOST_HEADERS = 20


@dataclass(frozen=True, slots=True)
class Preferences:
    """
    What a client prefers.

    :ivar is_async: whether it would rather be told where to ask.
    :ivar wait: seconds that it waits.
    """

    is_async: bool = False
    wait: float | None = None

    @property
    def applied(self) -> tuple[tuple[str, str], ...]:
        """The headers that say that it was done so."""
        words = [
            *(["respond-async"] if self.is_async else []),
            *([f"wait={self.wait:g}"] if self.wait else []),
        ]
        return (("Preference-Applied", ", ".join(words)),) if words else ()


PATIENT = Preferences()


def preferences(prefer: str | None) -> Preferences:
    """Read a header ``Prefer``; what isn't understood is passed over, as it is meant to be."""
    if prefer is None:
        return PATIENT
    is_async, wait = False, None
    for text in prefer.split(","):
        name, _, value = (part.strip() for part in text.partition(";")[0].partition("="))
        if name.lower() == "respond-async":
            is_async = True
        elif name.lower() == "wait" and NUMBER.fullmatch(value):
            wait = float(value)
    return Preferences(is_async, wait)


async def answered(
    bodies: Bodies,
    value: Any,
    headers: tuple[tuple[str, str], ...],
    content_types: tuple[str, ...],
    prefers: Preferences = PATIENT,
) -> Response:
    """
    A task's value as a response.

    :param headers: those of the reply.
    :param content_types: those that it may have, the best one first.
    """
    encoded = await bodies.encode(value, content_types)
    return Response(200, encoded.body, (("Content-Type", encoded.content_type), *headers, *prefers.applied))


def reply_headers(headers: Headers, elapsed: float) -> tuple[tuple[str, str], ...]:
    """
    How long a task ran, and what it put into its reply's headers.

    A header with a name or a value that HTTP can't have is left out.
    """
    own = [
        (f"Crew-Reply-{name}", str(value))
        for name, value in headers.items()
        if isinstance(value, str | int | float) and _HEADER_NAME.fullmatch(name) and _is_plain(str(value))
    ]
    return (("Crew-Elapsed", f"{elapsed:.6f}"), *own[:_MOST_HEADERS])


def accepted(result_id: str, prefers: Preferences = PATIENT) -> Response:
    """Where to ask for an answer that is not there yet."""
    location = f"/results/{result_id}"
    headers = (("Location", location), ("Retry-After", str(RETRY_AFTER)), ("Content-Type", JSON))
    body = f'{{"id":"{result_id}","location":"{location}"}}'.encode()
    return Response(202, body, (*headers, *prefers.applied))


def _is_plain(value: str) -> bool:
    return len(value) <= _LONGEST_HEADER and value.isascii() and value.isprintable()
