"""``application/json``: UTF-8, one value, and no NaN or infinity, which JSON does not have."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from zope.interface import implementer

from crew_tx.codec._failures import UnreadableError, UnwritableError
from crew_tx.interfaces import ISerializer


def _refuse_type(value: object) -> NoReturn:
    raise UnwritableError(f"it has no form for {type(value).__name__}")


def _refuse_constant(_name: str) -> NoReturn:
    raise UnreadableError("NaN and infinities are not JSON")


_write = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_refuse_type
).encode
_read = json.JSONDecoder(parse_constant=_refuse_constant).decode


@implementer(ISerializer)
class JSONSerializer:
    """Writes and reads JSON with the standard library's C code."""

    name = "json"
    content_type = "application/json"

    def encode(self, value: Any) -> bytes:
        try:
            return _write(value).encode()
        except UnicodeEncodeError:
            raise UnwritableError("a text has a lone surrogate, which UTF-8 can't hold") from None
        except RecursionError:
            raise UnwritableError("it is nested too deeply") from None
        except ValueError:
            raise UnwritableError(
                "it has NaN or an infinity, contains itself, or has an integer of too many digits"
            ) from None
        except TypeError:
            raise UnwritableError("a key of a dict must be str, int, float, bool or None") from None

    def decode(self, body: bytes) -> Any:
        try:
            return _read(body.decode())
        except json.JSONDecodeError as error:
            raise UnreadableError(f"it is malformed at character {error.pos}") from None
        except UnicodeDecodeError as error:
            raise UnreadableError(f"it is not UTF-8 at byte {error.start}") from None
        except RecursionError:
            raise UnreadableError("it is nested too deeply") from None
        except ValueError:
            raise UnreadableError("an integer has too many digits") from None
