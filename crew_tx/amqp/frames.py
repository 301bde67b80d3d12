"""
Frames, to bytes and back; no socket here.

:class:`FrameParser` goes over each buffer once. Several messages come with one
read, so nothing is cut off the front of the buffer, and what is left of a
frame waits as it came until the rest is there: a body's cost is linear however
it is cut up. A frame's size is looked at before anything is kept of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from struct import Struct
from struct import error as StructError
from typing import Any

from crew_tx.amqp import methods
from crew_tx.amqp.methods import read_method
from crew_tx.amqp.properties import read_properties
from crew_tx.amqp.table_reader import malformed
from crew_tx.errors import ProtocolError

METHOD = 1
HEADER = 2
BODY = 3
HEARTBEAT = 8
#: No frame, but the three of a small message at once: method, header and one body.
CONTENT = 0

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"

#: The largest frame where the other side sets no limit.
DEFAULT_MAX_FRAME_SIZE = 131072

#: ``(kind, channel, payload)``.
Frame = tuple[int, int, Any]

_FRAME_ERROR = 501
_BASIC = 60

_END = b"\xce"
_END_OCTET = _END[0]
_head = Struct("!BHI")
_OVERHEAD = _head.size + len(_END)
_HEARTBEAT_FRAME = _head.pack(HEARTBEAT, 0, 0) + _END
_KINDS = (METHOD, HEADER, BODY, HEARTBEAT)
#: Those that come often, and with content.
_JOINED = frozenset((methods.BASIC_DELIVER, methods.BASIC_PUBLISH, methods.BASIC_RETURN))

#: Flags, buffer, offset behind the flags, end: to properties.
PropertiesReader = Callable[[int, bytes, int, int], dict[str, Any]]

_pack_head = _head.pack
_unpack_head = _head.unpack_from
#: Class and weight in one, since the weight is always 0; the body's size; flags.
_unpack_header = Struct("!IQH").unpack_from
#: A head, and a header's beginning without the flags.
_pack_header = Struct("!BHIIQ").pack
#: An end octet, and the head of the frame behind it.
_pack_next = Struct("!BBHI").pack
#: A header's least: class, weight, body size and flags.
_HEADER_SIZE = 14


class FrameParser:
    """
    Bytes in, frames out.

    :param join_content: give the frames of a message as one where they came
        one behind the other, with a body that fits a frame; most do.
    :param properties_reader: in place of :func:`~crew_tx.amqp.properties.read_properties`.
    :ivar max_frame_size: the largest frame that is taken, its head and end
        octet counted; 0 stands for the default.
    """

    def __init__(
        self,
        max_frame_size: int = DEFAULT_MAX_FRAME_SIZE,
        *,
        join_content: bool = False,
        properties_reader: PropertiesReader = read_properties,
    ) -> None:
        self.max_frame_size = max_frame_size
        self._read_properties = properties_reader
        self._joined = _JOINED if join_content else frozenset()
        self._waiting: list[bytes] = []
        self._size = 0
        self._wanted = 0
        self._failed = False
        self._is_first = True

    def feed(self, data: bytes) -> Iterator[Frame]:
        """
        The frames that are complete now.

        A method's payload is its id and arguments; a header's is its class's
        id, the body's size and the properties; a body's is its bytes, and
        empty ones are left out; a heartbeat's is None; a joined content's is
        the method's id and arguments, the properties and the body. Whoever
        stops half way gets the rest with the next feed.

        :raises ProtocolError: at the first bad frame, behind the good ones
            before it; from then on, always.
        """
        if self._failed:
            raise _frame_error("more, after what was not AMQP")
        self._waiting.append(data)
        self._size += len(data)
        return self._frames(b"".join(self._waiting)) if self._size >= self._wanted else iter(())

    def _frames(self, data: bytes) -> Iterator[Frame]:
        """The frames in all that waits."""
        longest = (self.max_frame_size or DEFAULT_MAX_FRAME_SIZE) - _OVERHEAD
        joined, read = self._joined, self._read_properties
        offset, size, wanted = 0, len(data), _OVERHEAD
        try:
            while size - offset >= _OVERHEAD:
                kind, channel, length = _unpack_head(data, offset)
                start = offset + 7
                end = start + length
                if end >= size or length > longest:
                    self._check_head(kind, length, longest, data)
                    wanted = length + _OVERHEAD
                    break
                if data[end] != _END_OCTET:
                    raise _frame_error("a frame without its end octet")
                offset = end + 1
                if kind == METHOD:
                    method_id, args = read_method(data, start, end)
                    whole = method_id in joined and _whole_content(data, offset, size, channel, longest, read)
                    if whole:
                        properties, body, offset = whole
                        yield CONTENT, channel, (method_id, args, properties, body)
                    else:
                        yield METHOD, channel, (method_id, args)
                elif kind == HEADER:
                    yield HEADER, channel, _read_header(data, start, end, read)
                elif kind == BODY:
                    if length:
                        yield BODY, channel, data[start:end]
                else:
                    self._check_kind(kind, data)
                    yield HEARTBEAT, channel, None
        except ProtocolError:
            self._failed = True
            raise
        finally:
            self._keep(data, offset, wanted)

    def _keep(self, data: bytes, offset: int, wanted: int) -> None:
        rest = data[offset:]
        self._waiting, self._size, self._wanted = [rest], len(rest), wanted
        self._is_first = self._is_first and not offset

    def _check_head(self, kind: int, length: int, longest: int, data: bytes) -> None:
        self._check_kind(kind, data)
        if length > longest:
            raise _frame_error(f"a frame with {length} bytes in it; {longest} is the most")

    def _check_kind(self, kind: int, data: bytes) -> None:
        if self._is_first and data.startswith(b"AMQP"):
            raise ProtocolError(
                f"the broker does not speak AMQP 0-9-1; it offers {_version(data)}", reply_code=_FRAME_ERROR
            )
        if kind not in _KINDS:
            raise _frame_error(f"a frame of the unknown type {kind}")


def _whole_content(
    data: bytes, offset: int, size: int, channel: int, longest: int, read: PropertiesReader
) -> tuple[dict[str, Any], bytes, int] | None:
    """
    The header and the only body that follow a method right away.

    :returns: properties, body, and the offset behind them; None where they are
        not all there, or anything is out of the ordinary.
    """
    if size - offset < _OVERHEAD:
        return None
    kind, header_channel, length = _unpack_head(data, offset)
    start = offset + 7
    end = start + length
    # There has to be another head behind it, or no body at all.
    if kind != HEADER or header_channel != channel or end + _OVERHEAD >= size:
        return None
    if not _HEADER_SIZE <= length <= longest:
        return None
    number, body_size, flags = _unpack_header(data, start)
    kind, body_channel, length = _unpack_head(data, end + 1)
    body = end + 8
    body_end = body + length
    if kind != BODY or body_channel != channel or length != body_size or length > longest or body_end >= size:
        return None
    if number != _BASIC << 16 or data[end] != _END_OCTET or data[body_end] != _END_OCTET:
        return None
    try:
        properties = read(flags, data, start + 14, end)
    except (IndexError, StructError):
        raise malformed("a header that is cut short") from None
    return properties, data[body:body_end], body_end + 1


def _read_header(
    data: bytes, start: int, end: int, read: PropertiesReader
) -> tuple[int, int, dict[str, Any]]:
    try:
        number, body_size, flags = _unpack_header(data, start)
        if number != _BASIC << 16:
            raise _frame_error(f"a header of the class {number >> 16}, which has no content")
        return _BASIC, body_size, read(flags, data, start + 14, end)
    except (IndexError, StructError):
        raise malformed("a header that is cut short") from None


def _frame_error(what: str) -> ProtocolError:
    return ProtocolError(f"the peer sent {what}", reply_code=_FRAME_ERROR, reply_text="FRAME_ERROR")


def _version(data: bytes) -> str:
    """What a broker says that it speaks, in the protocol header that it refuses ours with."""
    return "-".join(map(str, data[5:8]))


def pack_method(channel: int, method_id: int, args: tuple[Any, ...]) -> bytes:
    """
    A method's frame.

    :raises EncodeError: if an argument can't be written.
    """
    payload = methods.encode(method_id, args)
    return _pack_head(METHOD, channel, len(payload)) + payload + _END


def pack_heartbeat() -> bytes:
    """A heartbeat's frame."""
    return _HEARTBEAT_FRAME


def pack_content(
    channel: int, class_id: int, properties_payload: bytes, body: bytes, max_frame_size: int
) -> list[bytes]:
    """
    What follows a method that carries content: the header's frame and the body's.

    :param properties_payload: what ``encode_properties`` made.
    :param max_frame_size: the limit agreed on; 0 is none, and the default is kept to.
    :returns: bytes to be written one after the other. A body of one frame is
        one piece with the header.
    """
    size = len(body)
    header = _pack_header(HEADER, channel, 12 + len(properties_payload), class_id << 16, size)
    longest = (max_frame_size or DEFAULT_MAX_FRAME_SIZE) - _OVERHEAD
    if not size:
        return [header + properties_payload + _END]
    if size <= longest:
        between = _pack_next(_END_OCTET, BODY, channel, size)
        return [b"".join((header, properties_payload, between, body, _END))]
    pieces = [header + properties_payload + _END]
    for start in range(0, size, longest):
        chunk = body[start : start + longest]
        pieces.append(b"".join((_pack_head(BODY, channel, len(chunk)), chunk, _END)))
    return pieces


@lru_cache(maxsize=1024)
def publish_prefix(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """The frame of a ``basic.publish``: few differ, so each is made once."""
    return pack_method(channel, methods.BASIC_PUBLISH, (0, exchange, routing_key, mandatory, False))
