"""
Methods of the protocol, to bytes and back.

Every method has a function each way, written out from the specification when
this module is imported, since several run for every message.

Reading looks at no bound on the way: a string that reaches too far is cut by
the slice, and moves the offset beyond the end, which is looked at once, last.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from struct import error as StructError
from typing import Any

from txamqp.spec import pythonize

from crew_tx.amqp._source import compiled, function, items_of, read_lines, tolerant, write_pieces
from crew_tx.amqp.spec import method_names, methods
from crew_tx.amqp.table_reader import malformed, read_string, read_table
from crew_tx.amqp.table_writer import encode_short_string, encode_table
from crew_tx.errors import EncodeError, ProtocolError

CONNECTION_START = 0x000A_000A
CONNECTION_START_OK = 0x000A_000B
CONNECTION_SECURE = 0x000A_0014
CONNECTION_SECURE_OK = 0x000A_0015
CONNECTION_TUNE = 0x000A_001E
CONNECTION_TUNE_OK = 0x000A_001F
CONNECTION_OPEN = 0x000A_0028
CONNECTION_OPEN_OK = 0x000A_0029
CONNECTION_CLOSE = 0x000A_0032
CONNECTION_CLOSE_OK = 0x000A_0033
CONNECTION_BLOCKED = 0x000A_003C
CONNECTION_UNBLOCKED = 0x000A_003D
CONNECTION_UPDATE_SECRET = 0x000A_0046
CONNECTION_UPDATE_SECRET_OK = 0x000A_0047
CHANNEL_OPEN = 0x0014_000A
CHANNEL_OPEN_OK = 0x0014_000B
CHANNEL_FLOW = 0x0014_0014
CHANNEL_FLOW_OK = 0x0014_0015
CHANNEL_CLOSE = 0x0014_0028
CHANNEL_CLOSE_OK = 0x0014_0029
EXCHANGE_DECLARE = 0x0028_000A
EXCHANGE_DECLARE_OK = 0x0028_000B
EXCHANGE_DELETE = 0x0028_0014
EXCHANGE_DELETE_OK = 0x0028_0015
EXCHANGE_BIND = 0x0028_001E
EXCHANGE_BIND_OK = 0x0028_001F
EXCHANGE_UNBIND = 0x0028_0028
EXCHANGE_UNBIND_OK = 0x0028_0033
QUEUE_DECLARE = 0x0032_000A
QUEUE_DECLARE_OK = 0x0032_000B
QUEUE_BIND = 0x0032_0014
QUEUE_BIND_OK = 0x0032_0015
QUEUE_PURGE = 0x0032_001E
QUEUE_PURGE_OK = 0x0032_001F
QUEUE_DELETE = 0x0032_0028
QUEUE_DELETE_OK = 0x0032_0029
QUEUE_UNBIND = 0x0032_0032
QUEUE_UNBIND_OK = 0x0032_0033
BASIC_QOS = 0x003C_000A
BASIC_QOS_OK = 0x003C_000B
BASIC_CONSUME = 0x003C_0014
BASIC_CONSUME_OK = 0x003C_0015
BASIC_CANCEL = 0x003C_001E
BASIC_CANCEL_OK = 0x003C_001F
BASIC_PUBLISH = 0x003C_0028
BASIC_RETURN = 0x003C_0032
BASIC_DELIVER = 0x003C_003C
BASIC_GET = 0x003C_0046
BASIC_GET_OK = 0x003C_0047
BASIC_GET_EMPTY = 0x003C_0048
BASIC_ACK = 0x003C_0050
BASIC_REJECT = 0x003C_005A
BASIC_RECOVER_ASYNC = 0x003C_0064
BASIC_RECOVER = 0x003C_006E
BASIC_RECOVER_OK = 0x003C_006F
BASIC_NACK = 0x003C_0078
CONFIRM_SELECT = 0x0055_000A
CONFIRM_SELECT_OK = 0x0055_000B
TX_SELECT = 0x005A_000A
TX_SELECT_OK = 0x005A_000B
TX_COMMIT = 0x005A_0014
TX_COMMIT_OK = 0x005A_0015
TX_ROLLBACK = 0x005A_001E
TX_ROLLBACK_OK = 0x005A_001F

Arguments = tuple[Any, ...]

_NOT_IMPLEMENTED = 540


def encode(method_id: int, args: Arguments) -> bytes:
    """
    A method's payload: its two ids, and its arguments.

    :param args: in the specification's order; None is written as the type's zero.
    :raises EncodeError: if an argument can't be written. Its text has no values: one may be a password.
    """
    try:
        return _encoders[method_id](args)
    except EncodeError as error:
        raise EncodeError(f"{_name(method_id)}: {error}") from None
    except (AttributeError, KeyError, StructError, TypeError, ValueError) as error:
        raise EncodeError(f"{_name(method_id)} can't be written: {error}") from None


def decode(payload: bytes | memoryview, start: int = 0, end: int | None = None) -> tuple[int, Arguments]:
    """
    Read a method's payload.

    :param start: where it begins.
    :param end: where it has to end; the buffer's end by default.
    :returns: the method's id, and its arguments.
    :raises ProtocolError: 502 if it is malformed, 540 if there is no such method.
    """
    if end is None:
        end = len(payload)
    return read_method(payload if isinstance(payload, bytes) else bytes(payload), start, end)


def read_method(payload: bytes, start: int, end: int) -> tuple[int, Arguments]:
    """As :func:`decode`, of bytes alone."""
    number = payload[start : start + 4]
    decoder = _decoders.get(number)
    if decoder is None:
        raise _unknown(number, end - start)
    try:
        try:
            return decoder(payload, start + 4, end)
        except UnicodeDecodeError:
            return _tolerant_decoders()[number](payload, start + 4, end)
    except (IndexError, StructError):
        raise malformed(f"{_name(int.from_bytes(number, 'big'))} cut short") from None


def _name(method_id: int) -> str:
    return method_names().get(method_id) or f"the method {method_id >> 16},{method_id & 0xFFFF}"


def _unknown(number: bytes, size: int) -> ProtocolError:
    if size < 4 or len(number) < 4:
        return malformed("a method without its ids")
    return ProtocolError(
        f"the peer sent {_name(int.from_bytes(number, 'big'))}, which AMQP 0-9-1 does not have",
        reply_code=_NOT_IMPLEMENTED,
        reply_text="NOT_IMPLEMENTED",
    )


# -- The functions, written out ------------------------------------------------

_WRITERS = {
    "shortstr": 'encode_short_string({} or "")',
    "longstr": "encode_long_string({})",
    "table": "encode_table({} or EMPTY)",
}

_Decoder = Callable[[bytes, int, int], tuple[int, Arguments]]


def _encode_long_string(value: dict[str, Any] | str | bytes | None) -> bytes:
    """A dict becomes a table, as AMQPLAIN has it."""
    if isinstance(value, dict):
        return encode_table(value)
    content = value.encode() if isinstance(value, str) else memoryview(value or b"")
    return len(content).to_bytes(4, "big") + content


def _overrun(number: int) -> ProtocolError:
    return malformed(f"{_name(number)}, whose arguments don't end where its frame does")


def _arguments(method: Any) -> str:
    return "".join(f"{pythonize(field.name)}, " for field in method.fields)


def _encoder_source(number: int, method: Any) -> str:
    pieces = write_pieces([("long", [str(number)]), *items_of(method.fields)], _WRITERS, "{} or 0")
    lines = [f"[{_arguments(method)}] = args", f"return {' + '.join(pieces)}"]
    return function(f"encode_{number}(args)", lines)


def _decoder_source(number: int, method: Any) -> str:
    lines = [
        *read_lines(items_of(method.fields)),
        "if offset != end:",
        f"    raise overrun({number})",
        f"return {number}, ({_arguments(method)})",
    ]
    return function(f"decode_{number}(buffer, offset, end)", lines)


def _written_out(change: Callable[[str], str] = str) -> dict[str, Any]:
    source = "".join(
        _encoder_source(number, method) + _decoder_source(number, method)
        for number, method in methods().items()
    )
    names = {
        "EMPTY": {},
        "encode_long_string": _encode_long_string,
        "encode_short_string": encode_short_string,
        "encode_table": encode_table,
        "overrun": _overrun,
        "read_string": read_string,
        "read_table": read_table,
    }
    return compiled(change(source), names)


def _decoders_in(functions: dict[str, Any]) -> dict[bytes, _Decoder]:
    return {number.to_bytes(4, "big"): functions[f"decode_{number}"] for number in methods()}


@lru_cache(maxsize=1)
def _tolerant_decoders() -> dict[bytes, _Decoder]:
    return _decoders_in(_written_out(tolerant))


_functions = _written_out()
_encoders: dict[int, Callable[[Arguments], bytes]] = {
    number: _functions[f"encode_{number}"] for number in methods()
}
_decoders = _decoders_in(_functions)
