"""
Signing keys, and what is made with them: bytes in, bytes out, time as an argument.

A signature is a text of three words: the id of the key, when it was signed, in
milliseconds since 1970 by thirteen digits, and an HMAC-SHA256 in hexadecimal. All before the HMAC
is its stamp. What the HMAC is of has the stamp in it: see :mod:`crew_tx.rpc.digests`. That of a
reply, which needs no clock, has two words: the id of the key, and the HMAC.

A key's secret is not kept: only what an HMAC begins and ends with. What many
messages begin with is hashed once, too, and a copy goes on from there.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from hashlib import sha256
from itertools import islice
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from crew_tx.errors import ConfigurationError

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

#: Seconds by which clocks may differ, and for which what does not wait in a queue is fresh.
WINDOW = 300.0
#: Bytes of a secret.
SHORTEST_SECRET = 32
#: Signatures that a worker remembers; the oldest give way.
MOST_SEEN = 100_000
#: Digits of an HMAC.
MAC_SIZE = 64
#: Where the parts of a signature end, from its own end; and the key's id in that of a reply.
KEY_ID_END = -79
STAMP_END = -MAC_SIZE
REPLY_KEY_ID_END = STAMP_END - 1

#: Why a message is refused.
Reason = Literal["unsigned", "unknown-key", "tampered", "expired", "replayed"]

_ID = r"[A-Za-z0-9_.-]{1,64}"
_KEY_ID = re.compile(_ID, re.ASCII)
_SIGNATURE = re.compile(rf"{_ID} [0-9]{{13}} [0-9a-f]{{{MAC_SIZE}}}", re.ASCII)
_REPLY_SIGNATURE = re.compile(rf"{_ID} [0-9a-f]{{{MAC_SIZE}}}", re.ASCII)
_TIME = slice(-78, -65)
_BLOCK = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))
#: How many are forgotten at once, at most, and how often what is stale is looked for, in seconds.
_MOST_FORGOTTEN = 1000
_LOOK_EVERY = 1.0
#: Seconds for which a stamp serves.
_STAMPED_FOR = 0.001


class RefusedError(Exception):
    """
    A message is not what one who has a key has sent, or not now.

    :ivar reason: one word.
    :ivar text: what is wrong, and what can be done about it.
    :ivar stamp: of the signature, as far as there is one.
    :ivar reference: by which an answer refers to the message as it came.
    """

    def __init__(self, reason: Reason, text: str, stamp: str = "", reference: bytes = b"") -> None:
        super().__init__(text)
        self.reason: Reason = reason
        self.text = text
        self.stamp = stamp
        self.reference = reference


class BegunMac:
    """What the HMACs of many messages have in common, by one key."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, inner: Hash, outer: Hash) -> None:
        self._inner = inner.copy
        self._outer = outer.copy

    def ended(self, rest: bytes) -> str:
        """The HMAC-SHA256 of what it began with and the rest, in hexadecimal."""
        inner = self._inner()
        inner.update(rest)
        outer = self._outer()
        outer.update(inner.digest())
        return outer.hexdigest()


class SigningKey:
    """
    One key.

    :ivar id: its name, which all who have it know it by.
    """

    __slots__ = ("_inner", "_outer", "id")

    def __init__(self, key_id: str, secret: bytes) -> None:
        block = (secret if len(secret) <= _BLOCK else sha256(secret).digest()).ljust(_BLOCK, b"\0")
        self.id = key_id
        self._inner = sha256(block.translate(_INNER))
        self._outer = sha256(block.translate(_OUTER))

    def begin(self, head: bytes) -> BegunMac:
        """The HMACs of messages that begin alike."""
        inner = self._inner.copy()
        inner.update(head)
        return BegunMac(inner, self._outer)

    def reply_signature(self, mac: str) -> str:
        """A reply's signature, of its HMAC."""
        return f"{self.id} {mac}"

    def __repr__(self) -> str:
        return f"<SigningKey {self.id}>"


class SigningKeys:
    """
    The keys of a client or a worker: one signs, all verify.

    To change keys, let all programs verify the new one first, then let them
    sign with it, and in the end take the old one away.

    :param secrets: of at least 32 bytes each, by the ids of their keys; an id has
        1 to 64 letters, digits, dots, hyphens and underscores.
    :param signs: the id of the key that signs; the first one by default.
    :ivar size: the characters of each signature that is made, and ``stamp_size`` those of its stamp.
    :raises ConfigurationError: naming the key that is wrong, never its secret.
    """

    __slots__ = ("_keys", "_reply_keys", "_signing", "_stamp", "_stamped_at", "size", "stamp_size")

    def __init__(self, secrets: Mapping[str, bytes], signs: str | None = None) -> None:
        if not secrets:
            raise ConfigurationError("there is no signing key; one at least is needed")
        for key_id, secret in secrets.items():
            _check_key(key_id, secret)
        self._keys = {key_id: SigningKey(key_id, secret) for key_id, secret in secrets.items()}
        self._reply_keys = {key.reply_signature(""): key for key in self._keys.values()}
        if signs is not None and signs not in self._keys:
            raise ConfigurationError(f"there is no signing key {signs!a} to sign with")
        self._signing = self._keys[signs if signs is not None else next(iter(self._keys))]
        self._stamped_at = -inf
        self._stamp = ("", b"")
        self.size = len(self._signing.id) - KEY_ID_END
        self.stamp_size = self.size + STAMP_END

    @classmethod
    def parse(cls, text: str, where: str = "signing keys") -> SigningKeys:
        """
        Read lines of ``key-id = secret in Base64``; the first key signs, all verify.

        Empty lines and those that begin with ``#`` are passed over.

        :param where: the file's name, for people.
        :raises ConfigurationError: naming the line that is wrong, never a secret.
        """
        secrets: dict[str, bytes] = {}
        for number, line in enumerate(text.splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            try:
                key_id, secret = _read_line(line)
                if key_id in secrets:
                    raise ConfigurationError(f"the signing key {key_id!a} is there already")
            except ConfigurationError as error:
                raise ConfigurationError(f"{where}, line {number}: {error}") from None
            secrets[key_id] = secret
        if not secrets:
            raise ConfigurationError(
                f"{where}: there is no signing key; write a line of KEY-ID = SECRET, the secret in Base64"
            )
        return cls(secrets)

    @classmethod
    def from_file(cls, path: str | Path) -> SigningKeys:
        """
        Read a file as :meth:`parse` does.

        :raises ConfigurationError: if it can't be read, or a line of it is wrong.
        """
        try:
            text = Path(path).read_text("ascii")
        except OSError as error:
            raise ConfigurationError(f"the file {path} can't be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"the file {path} is not ASCII text") from None
        return cls.parse(text, f"the file {path}")

    @property
    def ids(self) -> list[str]:
        """The keys' ids."""
        return list(self._keys)

    @property
    def signing(self) -> SigningKey:
        """The key that signs."""
        return self._signing

    def stamp(self, now: float) -> tuple[str, bytes]:
        """
        What a signature begins with; it is signed, too. One key's have one length.

        :param now: seconds since 1970.
        :returns: the stamp, and its octets. What is signed within a millisecond has the same.
        """
        if not 0 <= now - self._stamped_at < _STAMPED_FOR:
            stamp = f"{self._signing.id} {int(now * 1000):013d} "
            self._stamped_at, self._stamp = now, (stamp, stamp.encode())
        return self._stamp

    def key_of(self, signature: Any) -> SigningKey:
        """
        The key that a signature names; nothing is verified by that.

        :param signature: whatever came in its place.
        :raises RefusedError: if there is none, or it is no signature, or the key is not here.
        """
        try:
            return self._keys[signature[:KEY_ID_END]]
        except (KeyError, TypeError):
            raise _without_key(signature) from None

    def key_of_reply(self, signature: Any) -> SigningKey:
        """The same of a reply's."""
        try:
            return self._reply_keys[signature[:STAMP_END]]
        except (KeyError, TypeError):
            raise _without_reply_key(signature) from None

    def __repr__(self) -> str:
        others = [key_id for key_id in self._keys if key_id != self._signing.id]
        return f"<SigningKeys {', '.join([f'{self._signing.id} (signs)', *others])}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("signing keys can't be pickled")


class SeenSignatures:
    """
    Remembers what was seen for as long as it is fresh.

    :param most: how many; past that the oldest give way.
    :ivar forgotten: how many gave way that were fresh: these can be replayed unseen.
    """

    def __init__(self, most: int = MOST_SEEN) -> None:
        self._most = most
        self._until: dict[bytes, float] = {}
        self._look_at = 0.0
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._until)

    def add(self, signature: bytes, until: float, now: float) -> bool:
        """
        Remember a message.

        :param until: when it is not fresh any more.
        :returns: whether it is new.
        """
        seen = self._until
        if signature in seen:
            return False
        seen[signature] = until
        if now >= self._look_at or len(seen) > self._most:
            self._forget(now)
        return True

    def _forget(self, now: float) -> None:
        """From the oldest to the first that is fresh; what stays behind that goes later."""
        self._look_at = now + _LOOK_EVERY
        seen = self._until
        # As many at once as cost little, since to find the oldest of a dict costs more than to drop it.
        surplus = len(seen) - self._most
        if surplus > 0:
            surplus = max(surplus, min(_MOST_FORGOTTEN, self._most // 10))
        for number, signature in enumerate(list(islice(seen, _MOST_FORGOTTEN))):
            if seen[signature] >= now:
                if number >= surplus:
                    break
                self.forgotten += 1
            del seen[signature]


def check_fresh(signature: str, lifetime: float, now: float) -> float:
    """
    :param signature: one that is verified.
    :param lifetime: seconds that the message may have waited on its way.
    :returns: until when it is fresh.
    :raises RefusedError: if it was signed too long ago, or will be.
    """
    signed_at = int(signature[_TIME]) / 1000
    until = signed_at + lifetime + WINDOW
    if signed_at - WINDOW <= now <= until:
        return until
    age = now - signed_at
    when = f"{age:.0f} s ago" if age > 0 else f"{-age:.0f} s from now"
    raise RefusedError(
        "expired",
        f"by the two clocks it was signed {when}; at most {lifetime + WINDOW:.0f} s ago or {WINDOW:.0f} s "
        "from now are well: it is a late copy, or the clocks differ",
        reference=signature.encode(),
    )


def altered(key_id: str, reference: bytes = b"") -> RefusedError:
    """What was signed is not what came."""
    return RefusedError(
        "tampered",
        "its signature is of something else: it was altered on its way, or the key "
        f"{key_id!a} has another secret there",
        reference=reference,
    )


def _without_key(signature: object) -> RefusedError:
    return _no_signature(
        signature, _SIGNATURE, "a key's id, a time and 64 hexadecimal digits"
    ) or _unknown_key(str(signature)[:KEY_ID_END], str(signature)[:STAMP_END])


def _without_reply_key(signature: object) -> RefusedError:
    return _no_signature(signature, _REPLY_SIGNATURE, "a key's id and 64 hexadecimal digits") or _unknown_key(
        str(signature)[:REPLY_KEY_ID_END]
    )


def _no_signature(signature: object, pattern: re.Pattern[str], words: str) -> RefusedError | None:
    if signature is None:
        return RefusedError("unsigned", "it is not signed, and only what is signed is taken here")
    if not isinstance(signature, str) or not pattern.fullmatch(signature):
        return RefusedError("tampered", f"its signature is not {words}")
    return None


def _unknown_key(key_id: str, stamp: str = "") -> RefusedError:
    return RefusedError("unknown-key", f"it is signed with the key {key_id!a}, which is not here", stamp)


def _check_key(key_id: object, secret: object) -> None:
    if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
        raise ConfigurationError(
            "the id of a signing key has 1 to 64 letters, digits, dots, hyphens and underscores"
        )
    if not isinstance(secret, bytes) or len(secret) < SHORTEST_SECRET:
        raise ConfigurationError(
            f"the secret of the signing key {key_id!a} has not {SHORTEST_SECRET} bytes; make another"
        )


def _read_line(line: str) -> tuple[str, bytes]:
    key_id, equals, text = (each.strip() for each in line.partition("="))
    if not equals:
        raise ConfigurationError("takes KEY-ID = SECRET, the secret in Base64")
    try:
        secret = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        raise ConfigurationError("what stands behind the = is not Base64") from None
    _check_key(key_id, secret)
    return key_id, secret
