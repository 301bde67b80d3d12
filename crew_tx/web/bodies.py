"""
Bodies of requests and responses: JSON or CBOR, as their headers say.

A page of another site can make a browser send three content types without
asking, text/plain and the two of forms, and none at all. So these are refused,
but for requests whose token no browser sends by itself.
"""

from __future__ import annotations

from typing import Any

from crew_tx.codec import Codec, Encoded
from crew_tx.errors import DecodeError, EncodeError, MessageTooLargeError
from crew_tx.rpc.replies import InThread
from crew_tx.web.problems import ProblemError

JSON, CBOR = "application/json", "application/cbor"
#: In the order of preference, where a client has none.
OFFERED = (JSON, CBOR)
_MOST_RANGES = 20


def media_type(header: str | None) -> str:
    """A content type without its parameters; empty where there is none."""
    return (header or "").partition(";")[0].strip().lower()


def check_content_type(header: str | None) -> str:
    """
    The content type of a request's body, one of :data:`OFFERED`.

    :raises ProblemError: 415.
    """
    found = media_type(header)
    if found not in OFFERED:
        raise ProblemError(
            415,
            f"the body is {' or '.join(OFFERED)}, and the header Content-Type says which",
            headers=(("Accept", ", ".join(OFFERED)),),
        )
    return found


def choose(accept: str | None, default: str, offered: tuple[str, ...] = OFFERED) -> tuple[str, ...]:
    """
    The content types that a response may have, the best one first.

    :param accept: the header ``Accept``.
    :param default: what is best where the client has no preference.
    :raises ProblemError: 406, if there is none.
    """
    wanted = [default, *(each for each in offered if each != default)]
    if accept is None:
        return tuple(wanted)
    ranges = [_media_range(text) for text in accept.split(",")[:_MOST_RANGES] if text.strip()]
    rated = [(_quality(each, ranges), each) for each in wanted]
    chosen = tuple(each for quality, each in sorted(rated, key=lambda pair: -pair[0]) if quality > 0)
    if not chosen:
        raise ProblemError(406, f"what there is here is {', '.join(offered)}")
    return chosen


class Bodies:
    """
    Reads and writes bodies; large ones in a thread.

    :param max_size: the bytes that one may have.
    """

    def __init__(self, in_thread: InThread, max_size: int) -> None:
        self._codec = Codec(
            "json", max_message_size=max_size, compress_over=max_size, max_inflated_size=max_size
        )
        self._in_thread = in_thread

    async def decode(self, body: bytes, content_type: str) -> Any:
        """
        Read a request's body.

        :raises ProblemError: 422, if it can't be read.
        """
        try:
            if self._codec.is_large(body):
                return await self._in_thread(self._codec.decode, body, content_type)
            return self._codec.decode(body, content_type)
        except DecodeError as error:
            raise ProblemError(422, str(error), error="DecodeError") from None

    async def encode(self, value: Any, content_types: tuple[str, ...]) -> Encoded:
        """
        Write a response's body, in the first content type that can hold it.

        :raises ProblemError: 406, if none can; 502, if it is too large.
        """
        reason = ""
        for content_type in content_types:
            try:
                if self._codec.is_large(value):
                    encoded: Encoded = await self._in_thread(self._codec.encode, value, content_type, False)
                    return encoded
                return self._codec.encode(value, content_type, False)
            except EncodeError as error:
                reason = str(error)
            except MessageTooLargeError as error:
                # Not of the request: so it is no 413.
                raise ProblemError(502, f"the answer is over {error.limit} bytes") from None
        raise ProblemError(406, f"{reason}; ask for it by Accept: {CBOR}")


def _media_range(text: str) -> tuple[str, float]:
    kind, *parameters = (part.strip() for part in text.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            quality = _number(value)
    return kind.lower(), quality


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0.0 <= value <= 1.0 else 0.0


def _quality(content_type: str, ranges: list[tuple[str, float]]) -> float:
    """By the most specific range that fits."""
    for wanted in (content_type, f"{content_type.partition('/')[0]}/*", "*/*"):
        for each, quality in ranges:
            if each == wanted:
                return quality
    return 0.0
