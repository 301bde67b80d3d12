"""
From a value to a message's body and back.

The content type says which serializer wrote a body, the content encoding how
it was compressed. What a peer sends is never trusted: it is measured before
and after inflating, and an error about it has its content type and its size,
never a byte of it. So the errors of the libraries below are not chained to
ours, not even as context: json's holds the whole body.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Final, NamedTuple

from crew_tx.codec._bytes import BytesSerializer
from crew_tx.codec._cbor import CBORSerializer
from crew_tx.codec._compression import ENCODINGS, deflate, inflate
from crew_tx.codec._failures import UnreadableError, UnwritableError
from crew_tx.codec._json import JSONSerializer
from crew_tx.codec._large import is_large
from crew_tx.codec._pickle import PickleSerializer
from crew_tx.codec._text import TextSerializer
from crew_tx.errors import DecodeError, EncodeError, InvalidArgumentError, MessageTooLargeError
from crew_tx.interfaces import ISerializer

_MIB: Final = 1024 * 1024
_IDENTITY: Final = "identity"
_PICKLE_IS_OFF: Final = (
    "pickle is off, since a pickle can run any code in its reader; "
    "Codec(allow_pickle=True), on both sides, switches it on"
)

_CHARSET: Final = re.compile(r"""charset\s*=\s*"?([^\s";]*)""", re.IGNORECASE)
_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii"})


class Encoded(NamedTuple):
    """A body, and what its message has to say about it."""

    body: bytes
    content_type: str
    content_encoding: str | None


class Codec:
    """
    Writes values as bodies, and reads bodies.

    It keeps nothing between calls, so any thread may use it.

    :param serializer: what to write with by default: a short name (``cbor``,
        ``json``, ``text``, ``bytes``, ``pickle``) or a content type.
    :param allow_pickle: whether pickles may be written and read. A pickle can
        run any code in its reader.
    :param max_message_size: the bytes a body may have on the wire.
    :param compress_over: a body of more bytes is gzipped by itself.
    :param max_inflated_size: the bytes a body may have before it is compressed
        and when it is inflated; four times ``max_message_size`` by default.
    :raises InvalidArgumentError: for an unknown serializer, or limits that make no sense.
    """

    def __init__(
        self,
        serializer: str = "cbor",
        *,
        allow_pickle: bool = False,
        max_message_size: int = 16 * _MIB,
        compress_over: int = 32 * 1024,
        max_inflated_size: int | None = None,
    ) -> None:
        if max_inflated_size is None:
            max_inflated_size = 4 * max_message_size
        if not 0 < max_message_size <= max_inflated_size:
            raise InvalidArgumentError(
                "max_message_size must be above 0, and max_inflated_size not below it, "
                f"not {max_message_size} and {max_inflated_size}"
            )
        self._max_message_size = max_message_size
        self._max_inflated_size = max_inflated_size
        self._compress_over = compress_over
        self._names: dict[str, ISerializer] = {}
        self._content_types: dict[str, ISerializer] = {}
        self._add_serializers(allow_pickle)
        self._default = self._chosen(serializer)

    def _add_serializers(self, allow_pickle: bool) -> None:
        serializers: list[Any] = [CBORSerializer(), JSONSerializer(), TextSerializer(), BytesSerializer()]
        if allow_pickle:
            serializers.append(PickleSerializer())
        for serializer in serializers:
            self._names[serializer.name] = serializer
            self._content_types[serializer.content_type] = serializer
            self._content_types[_media_type(serializer.content_type)] = serializer

    def encode(
        self, value: Any, serializer: str | None = None, compress: str | bool | None = None
    ) -> Encoded:
        """
        Write a value.

        :param serializer: a short name or a content type; None for the default.
        :param compress: None gzips what is over ``compress_over``, if that
            makes it smaller; False and ``identity`` never; True, ``gzip`` and
            ``zstd`` always.
        :raises EncodeError: where the content type can't hold the value.
        :raises MessageTooLargeError: where the body is over a limit.
        :raises InvalidArgumentError: for an unknown serializer or compression.
        """
        chosen = self._default if serializer is None else self._chosen(serializer)
        body = _write(chosen, value)
        encoding = None
        if compress is not None or len(body) > self._compress_over:
            encoding = _encoding(compress)
        if encoding is not None:
            self._check_size(body, self._max_inflated_size)
            body, encoding = _compress(body, encoding, chosen.content_type, keep=compress is not None)
        self._check_size(body, self._max_message_size)
        return Encoded(body, chosen.content_type, encoding)

    def encode_like(self, value: Any, content_type: str | None) -> Encoded:
        """
        Write an answer: in the content type of what it answers, or in CBOR
        where that is unknown or can't hold the value.

        :raises EncodeError: where CBOR can't hold it either.
        :raises MessageTooLargeError: where the body is over a limit.
        """
        with suppress(UnreadableError, EncodeError):
            return self.encode(value, self._reader(content_type).content_type)
        return self.encode(value, CBORSerializer.content_type)

    def decode(self, body: bytes, content_type: str | None, content_encoding: str | None = None) -> Any:
        """
        Read a body.

        :param content_type: as the message has it; parameters are taken, but
            a charset other than UTF-8 is not.
        :raises DecodeError: where it can't be read, or is over a limit.
        """
        try:
            if len(body) > self._max_message_size:
                raise UnreadableError(f"it is over the limit of {self._max_message_size} bytes")
            serializer = self._reader(content_type)
            if not content_encoding or content_encoding == _IDENTITY:
                return serializer.decode(body)
            return serializer.decode(inflate(body, content_encoding, self._max_inflated_size))
        except Exception as error:
            reason = _reason(error)
        shown = ascii(content_type[:100]) if content_type else "no content type"
        raise DecodeError(
            f"a body of {len(body)} bytes with {shown} can't be read: {reason}",
            content_type=content_type,
            size=len(body),
        )

    #: Guess whether coding a value, or a body, should be done in a thread.
    is_large = staticmethod(is_large)

    def _chosen(self, serializer: str) -> ISerializer:
        """Find the serializer that a user names."""
        found = self._names.get(serializer) or self._content_types.get(serializer)
        if found is not None:
            return found
        if serializer in (PickleSerializer.name, PickleSerializer.content_type):
            raise InvalidArgumentError(_PICKLE_IS_OFF)
        raise InvalidArgumentError(
            f"unknown serializer {serializer!r}; there are {', '.join(self._names)}, and their content types"
        )

    def _reader(self, content_type: str | None) -> ISerializer:
        """Find the serializer of a content type that a message has."""
        known = self._content_types.get(content_type or "")
        if known is not None:
            return known
        if not content_type:
            raise UnreadableError("nothing says what it is")
        charset = _CHARSET.search(content_type)
        if charset is not None and charset[1].lower() not in _CHARSETS:
            raise UnreadableError("its charset is not UTF-8")
        media_type = _media_type(content_type)
        if media_type == PickleSerializer.content_type and media_type not in self._content_types:
            raise UnreadableError(_PICKLE_IS_OFF)
        if media_type not in self._content_types:
            raise UnreadableError(f"the content type is unknown; there are {', '.join(self._names)}")
        return self._content_types[media_type]

    @staticmethod
    def _check_size(body: bytes, limit: int) -> None:
        if len(body) > limit:
            raise MessageTooLargeError(
                f"a message of {len(body)} bytes is over the limit of {limit}; send less, or raise the limit",
                size=len(body),
                limit=limit,
            )


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _write(serializer: ISerializer, value: Any) -> bytes:
    try:
        return serializer.encode(value)
    except Exception as error:
        reason = _reason(error)
    raise EncodeError(
        f"{type(value).__name__} can't be written as {serializer.content_type}: {reason}",
        content_type=serializer.content_type,
    )


def _encoding(compress: str | bool | None) -> str | None:
    if compress is None or compress is True:
        return ENCODINGS[0]
    if compress is False or compress == _IDENTITY:
        return None
    if compress not in ENCODINGS:
        raise InvalidArgumentError(
            f"unknown compression {compress!r}; there are {', '.join(ENCODINGS)} and {_IDENTITY}"
        )
    return compress


def _compress(body: bytes, encoding: str, content_type: str, *, keep: bool) -> tuple[bytes, str | None]:
    """Compress; unless told to keep what comes of it, only where that is smaller."""
    try:
        compressed = deflate(body, encoding)
    except UnwritableError as error:
        reason = str(error)
    else:
        return (compressed, encoding) if keep or len(compressed) < len(body) else (body, None)
    raise EncodeError(reason, content_type=content_type)


def _reason(error: Exception) -> str:
    """Say why, in words of ours; a library's could have the value or the body in them."""
    return str(error) if isinstance(error, (UnwritableError, UnreadableError)) else type(error).__name__
