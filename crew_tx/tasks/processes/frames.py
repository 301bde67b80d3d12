"""
Frames: what a worker and the child process of a task send each other.

A frame is two lengths, a head and a body: the head is a small map in CBOR, the
body bytes that only the other end reads. Both are bounded, and what comes is
checked before it is kept: a task can write whatever it likes to its process's
file descriptors.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, NamedTuple

from crew_tx.codec import Codec
from crew_tx.errors import CrewError

#: More than the headers of any message can be.
LONGEST_HEAD = 256 * 1024
_LENGTHS = Struct("!II")
_CODEC = Codec(max_message_size=LONGEST_HEAD, max_inflated_size=LONGEST_HEAD)


class FrameError(CrewError):
    """What came breaks the rules of frames."""


class Frame(NamedTuple):
    """One frame, read."""

    kind: str
    head: dict[str, Any]
    body: bytes


def write_frame(kind: str, head: dict[str, Any], body: bytes = b"") -> bytes:
    """
    A frame's bytes.

    :raises EncodeError: if the head holds what CBOR can't.
    :raises MessageTooLargeError: if the head is over its limit.
    """
    encoded = _CODEC.encode({**head, "kind": kind}, "cbor", False).body
    return _LENGTHS.pack(len(encoded), len(body)) + encoded + body


class FrameReader:
    """
    Cuts a stream into frames.

    :param longest_body: the bytes that a body may have.
    """

    def __init__(self, longest_body: int) -> None:
        self._longest_body = longest_body
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """
        Take bytes as they came.

        :returns: the frames that are complete.
        :raises FrameError: if they are none.
        """
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        buffer = self._buffer
        if len(buffer) < _LENGTHS.size:
            return None
        head_length, body_length = _LENGTHS.unpack_from(buffer)
        if head_length > LONGEST_HEAD or body_length > self._longest_body:
            raise FrameError(f"a frame of {head_length} and {body_length} bytes is over the limits")
        body_begins = _LENGTHS.size + head_length
        ends = body_begins + body_length
        if len(buffer) < ends:
            return None
        head, body = bytes(buffer[_LENGTHS.size : body_begins]), bytes(buffer[body_begins:ends])
        del buffer[:ends]
        return _frame(head, body)


def _frame(encoded: bytes, body: bytes) -> Frame:
    try:
        head = _CODEC.decode(encoded, "application/cbor")
    except CrewError as error:
        raise FrameError(f"the head of a frame can't be read: {error}") from None
    kind = head.pop("kind", None) if isinstance(head, dict) else None
    if not isinstance(kind, str):
        raise FrameError("the head of a frame is no map, or says no kind")
    return Frame(kind, head, body)
