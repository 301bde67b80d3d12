"""What ends a connection, and with which reply code: one thing wrong at a time."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp import frames, methods
from tests.fuzz.inputs import HANDSHAKE, START_OK, content, method, publish
from tests.fuzz.targets import BrokerTarget

_OPEN = method(1, methods.CHANNEL_OPEN, "")
_PUBLISH = method(1, methods.BASIC_PUBLISH, 0, "", "fuzz", False, False)
_HEARTBEAT = frames.pack_heartbeat()
_DECLARED = method(1, methods.QUEUE_DECLARE, 0, "fuzz", False, False, True, False, False, {})
#: The size that a header announces.
_THREE, _TWO = (3).to_bytes(8, "big"), (2).to_bytes(8, "big")
_HASHES = ".".join("#" * 120)
_WORDS = ".".join("a" * 120)

#: Behind the handshake, the code and what it is for.
WRONG: list[tuple[int, str, bytes]] = [
    (501, "a frame without its end octet", _OPEN[:-1] + b"x"),
    (501, "a frame of no type", b"\x09" + _HEARTBEAT[1:]),
    (501, "a frame over the limit", b"\x01\x00\x01\x00\x10\x00\x00\x00"),
    (501, "a body that is too long", _OPEN + _PUBLISH + content(1, b"abc").replace(_THREE, _TWO, 1)),
    (501, "a method that is cut short", b"\x01\x00\x01\x00\x00\x00\x02\x00\x14\xce"),
    (503, "a server's method", method(1, methods.CHANNEL_OPEN, "") + method(1, methods.QUEUE_PURGE_OK, 1)),
    (504, "a second login", method(0, methods.CONNECTION_START_OK, *START_OK)),
    (504, "a channel that is not open", _DECLARED),
    (504, "a channel that is open already", _OPEN + _OPEN),
    (505, "a header unasked", _OPEN + content(1, b"")),
    (505, "a method where a header is due", _OPEN + _PUBLISH + _DECLARED),
    (540, "transactions", _OPEN + method(1, methods.TX_SELECT)),
    (540, "immediate", _OPEN + method(1, methods.BASIC_PUBLISH, 0, "", "", False, True) + content(1, b"")),
]


class CodeTests(SynchronousTestCase):
    """Each on a connection of its own; another client goes on all the while."""

    def setUp(self) -> None:
        self.target = BrokerTarget()
        self.addCleanup(self.target.end)

    def code_for(self, data: bytes) -> int | None:
        """The code that this ends a connection with."""
        self.target.closed.clear()
        self.target.attack([*HANDSHAKE, data])
        return next(iter(self.target.closed), None)

    def test_codes(self) -> None:
        found = [(self.code_for(data), what) for _, what, data in WRONG]
        self.assertEqual(found, [(code, what) for code, what, _ in WRONG])

    def test_what_is_good_ends_nothing(self) -> None:
        self.assertIsNone(self.code_for(_OPEN + _DECLARED + publish(1, "", "fuzz", b"x") + _HEARTBEAT))

    def test_the_worst_pattern_costs_little(self) -> None:
        """The target looks at the time that each read takes."""
        bind = method(1, methods.QUEUE_BIND, 0, "fuzz", "amq.topic", _HASHES + ".b", False, {})
        messages = publish(1, "amq.topic", _WORDS, b"x") * 20
        self.assertIsNone(self.code_for(_OPEN + _DECLARED + bind + messages))
