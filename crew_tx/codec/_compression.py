"""
Content encodings: gzip, and zstd where the package zstandard is installed.

Inflation stops at its limit. It has to be stopped from inside, since a body of
16 KiB can stand for 16 MiB of zeros, and one of many members for as much again
at each.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from crew_tx.codec._failures import UnreadableError, UnwritableError

#: zlib's word for a gzip header and trailer about the largest window.
_GZIP: Final = 31
#: Fast rather than small: between machines of one network deflate is the slower part.
_GZIP_LEVEL: Final = 1
#: Members of one gzip body; what is left of the body is copied at each.
_GZIP_MEMBERS: Final = 16

#: What a zstd frame may ask a reader to remember, as RFC 8878 recommends.
_ZSTD_WINDOW: Final = 8 * 1024 * 1024
#: Bytes inflated at a time. Four bytes can stand for 128 KiB, and zstandard
#: has no limit of its own, so this is 8 MiB over the limit at the worst.
_ZSTD_STEP: Final = 256


def deflate(body: bytes, encoding: str) -> bytes:
    """
    Compress a body.

    :raises KeyError: for an unknown encoding.
    :raises UnwritableError: where the encoding's package is missing.
    """
    return _DEFLATE[encoding](body)


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """
    Inflate a body to at most ``limit`` bytes.

    :raises UnreadableError: where it isn't one whole compressed body, or inflates to more.
    """
    inflate_it = _INFLATE.get(encoding)
    if inflate_it is None:
        raise UnreadableError("its content encoding is unknown")
    return inflate_it(body, limit)


def _deflate_gzip(body: bytes) -> bytes:
    return zlib.compress(body, _GZIP_LEVEL, _GZIP)


def _inflate_gzip(body: bytes, limit: int) -> bytes:
    parts: list[bytes] = []
    room = limit
    for _ in range(_GZIP_MEMBERS):
        part, body = _inflate_member(body, room)
        room = _room_after(part, room)
        parts.append(part)
        if not body:
            return b"".join(parts)
    raise UnreadableError(f"it has more than {_GZIP_MEMBERS} gzip members")


def _inflate_member(body: bytes, room: int) -> tuple[bytes, bytes]:
    """Inflate one member, to a byte more than there is room for at most; return the rest too."""
    member = zlib.decompressobj(_GZIP)
    try:
        part = member.decompress(body, room + 1)
    except zlib.error:
        raise UnreadableError("it is not gzip, or damaged") from None
    if not member.eof and len(part) <= room:
        raise UnreadableError("its gzip is cut short")
    return part, member.unused_data


def _deflate_zstd(body: bytes) -> bytes:
    deflated: bytes = _zstandard(UnwritableError).ZstdCompressor().compress(body)
    return deflated


def _inflate_zstd(body: bytes, limit: int) -> bytes:
    zstandard = _zstandard(UnreadableError)
    frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
    parts: list[bytes] = []
    room, start = limit, 0
    while start < len(body) and not frame.eof:
        try:
            part = frame.decompress(body[start : start + _ZSTD_STEP])
        except zstandard.ZstdError:
            raise UnreadableError("it is not zstd, or damaged") from None
        start += _ZSTD_STEP
        room = _room_after(part, room)
        parts.append(part)
    if not frame.eof or frame.unused_data or start < len(body):
        raise UnreadableError("its zstd is cut short, or bytes follow it")
    return b"".join(parts)


def _room_after(part: bytes, room: int) -> int:
    if len(part) > room:
        raise UnreadableError("it inflates to more than the limit")
    return room - len(part)


def _zstandard(failure: type[UnwritableError] | type[UnreadableError]) -> Any:
    try:
        return import_module("zstandard")
    except ImportError:
        raise failure("zstd needs the package zstandard; install it, or use gzip") from None


_DEFLATE: Final[dict[str, Callable[[bytes], bytes]]] = {"gzip": _deflate_gzip, "zstd": _deflate_zstd}
_INFLATE: Final[dict[str, Callable[[bytes, int], bytes]]] = {"gzip": _inflate_gzip, "zstd": _inflate_zstd}

#: The content encodings that there are, besides identity.
ENCODINGS: Final = tuple(_DEFLATE)
